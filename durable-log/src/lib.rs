//! A segmented, checksummed, synchronous log of opaque records.
//!
//! ```text
//!   append ──► buffer ──sync──► │ 0…0.log │ 0…640.log │ 0…1291.log (active) │ ──► readers, each with
//!   (definite or nothing)       └ sealed ─┴─ sealed ──┴─ zero tail ─────────┘     its own position
//!                                    │
//!                          release ──┴──► unlinked by a thread of its own,
//!                                         or kept in quarantine/ if damaged
//! ```
//!
//! Records are numbered 0, 1, 2, … over the log's life. One [`Writer`] appends; any number of
//! [`Reader`]s see what a `sync` has published. The bytes on disk, the limits, and the rules of
//! failure and recovery are in `docs/durable-log.md`; in short:
//!
//! * A record for which `sync` returned `Ok` is read back equal, in order, or is inside a reported
//!   [`Item::Damaged`] range.
//! * A refused append ([`AppendError`]) left nothing behind. Doubt has one source, [`SyncError`].
//! * Damage costs what is damaged, no more, and never keeps the log from opening.

mod error;
mod format;
pub mod io;
mod reader;
mod reclaim;
mod recover;
mod scan;
mod segment;
mod shared;
mod writer;

use std::path::PathBuf;

pub use error::{AppendError, OpenError, ReadError, SyncError};
pub use reader::{Item, Reader};
pub use recover::{Damage, Recovery, TornTail, open};
pub use segment::Reason;
pub use shared::{Log, Stats};
pub use writer::Writer;

/// When a record counts as stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SyncMode {
    /// After fdatasync: survives a loss of power.
    Data,
    /// After write(2): survives the end of the process, not that of the machine.
    Never,
}

/// How to open a log; [`Options::new`] gives the defaults.
#[derive(Clone, Debug)]
pub struct Options {
    /// The log's own directory; made if it is missing.
    pub dir: PathBuf,
    /// Bytes of a segment file, the unit in which space is taken and released.
    /// 64 KiB ..= 1 GiB, at least `max_record` + 96; default 64 MiB.
    pub segment_bytes: u64,
    /// Bytes that all segments together may take; quarantine comes on top. At least two segments,
    /// so that one can be released while the other is written; default 1 GiB.
    pub max_bytes: u64,
    /// Bytes of one record; default 2 MiB.
    pub max_record: usize,
    /// When a record counts as stored; default [`SyncMode::Data`].
    pub sync: SyncMode,
    /// Reserve the blocks of a segment when it is made, so that a full disk shows there, as a
    /// definite refusal, and not in the middle of a write; default true.
    pub preallocate: bool,
    /// The lowest index that the next record may get: everything below is known, from elsewhere
    /// (a cursor, say), to have been durable. Keeps indexes from being used twice even if the end
    /// of the log was cut off behind its back; default 0.
    pub at_least: u64,
    /// Bytes of damaged segments kept in `quarantine/` after their release, the oldest going
    /// first; 0 keeps none; default 256 MiB.
    pub quarantine_max_bytes: u64,
}

impl Options {
    /// The defaults, for a log in `dir`.
    pub fn new(dir: impl Into<PathBuf>) -> Self {
        Self {
            dir: dir.into(),
            segment_bytes: 64 << 20,
            max_bytes: 1 << 30,
            max_record: 2 << 20,
            sync: SyncMode::Data,
            preallocate: true,
            at_least: 0,
            quarantine_max_bytes: 256 << 20,
        }
    }

    /// Says which setting cannot be.
    fn check(&self) -> Result<(), OpenError> {
        let fault = |text: String| Err(OpenError::Settings(text));
        if !format::SEGMENT_BYTES.contains(&self.segment_bytes) {
            return fault(format!(
                "segment_bytes is {}, it has to be {}..={}",
                self.segment_bytes,
                format::SEGMENT_BYTES.start(),
                format::SEGMENT_BYTES.end()
            ));
        }
        let most = self.segment_bytes - (format::SEGMENT_HEADER + format::RECORD_HEADER) as u64;
        if self.max_record as u64 > most {
            return fault(format!(
                "max_record is {}, a segment of {} bytes holds at most {most}",
                self.max_record, self.segment_bytes
            ));
        }
        if self.max_bytes / 2 < self.segment_bytes {
            return fault(format!(
                "max_bytes is {}, it has to be at least two segments of {}",
                self.max_bytes, self.segment_bytes
            ));
        }
        if self.at_least > format::MAX_INDEX {
            return fault(format!("at_least is {}, indexes end at {}", self.at_least, format::MAX_INDEX));
        }
        Ok(())
    }
}
