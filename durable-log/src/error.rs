//! What can go wrong, by the call that says so. Every text names the file and what to do about it.

use std::{io, path::PathBuf};

/// Why a log could not be opened. Damage in old records is never a reason: it is told in
/// [`Recovery`](crate::Recovery), and the log opens.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// A setting contradicts another or a limit of the format.
    #[error("durable log settings: {0}")]
    Settings(String),
    /// Somebody else writes this log.
    #[error("{dir} is in use by {holder}; stop it, or give this log a directory of its own", dir = dir.display())]
    Locked {
        /// The log's directory.
        dir: PathBuf,
        /// Who holds it, as far as the lock file tells.
        holder: String,
    },
    /// Written by a later release, whose records this one cannot judge.
    #[error("{file} has format version {version}, this program reads up to {known}; start the newer program, or drain the log with it first", file = file.display())]
    Version {
        /// The segment file.
        file: PathBuf,
        /// The version in its header.
        version: u32,
        /// The highest version known here.
        known: u32,
    },
    /// The directory cannot be made, listed or written, or the disk refuses writes.
    #[error("cannot {action} {file}; check that the directory is writable and the disk is well", file = file.display())]
    Io {
        /// What was tried, as a verb.
        action: &'static str,
        /// On which file or directory.
        file: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

/// Why a record was not appended.
///
/// Each of these is **definite**: no byte of the record was handed to the system, so it can never
/// appear in the log, not after a crash either, and its sender may cut it anew under another
/// number. [`Writer::append`](crate::Writer::append) only fills a buffer; what is in doubt is told
/// by [`SyncError`] alone.
#[derive(Debug, thiserror::Error)]
pub enum AppendError {
    /// The log has reached `max_bytes`; room comes with `release`.
    #[error("log is full: {size} of {max} bytes")]
    Full {
        /// Bytes on disk now.
        size: u64,
        /// `Options::max_bytes`.
        max: u64,
    },
    /// The record is over `max_record`.
    #[error("record of {len} bytes, the limit is {max}")]
    TooLarge {
        /// Bytes of the record.
        len: usize,
        /// `Options::max_record`.
        max: usize,
    },
    /// The disk has no room for a new segment. Each further append tries again.
    #[error("no space on the disk for {file}", file = file.display())]
    NoSpace {
        /// The segment that could not be made.
        file: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A new segment cannot be made for another reason. Each further append tries again.
    #[error("cannot create {file}; the log takes no records until this works", file = file.display())]
    Failed {
        /// The segment that could not be made.
        file: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Records appended before this one are in doubt, and their fate has not been asked for yet:
    /// call [`Writer::sync`](crate::Writer::sync), which tells the range. Their indexes are given
    /// out again afterwards, hence no append in between.
    #[error("records {first}..{next} are in doubt after a failed write; call sync")]
    InDoubt {
        /// First index in doubt.
        first: u64,
        /// One past the last.
        next: u64,
    },
}

impl AppendError {
    /// Whether the record certainly is not, and never will be, in the log. A new variant has to
    /// take a side here.
    #[must_use]
    pub const fn is_definite(&self) -> bool {
        match self {
            Self::Full { .. }
            | Self::TooLarge { .. }
            | Self::NoSpace { .. }
            | Self::Failed { .. }
            | Self::InDoubt { .. } => true,
        }
    }
}

/// A write or an fdatasync failed: whether the records `first..next` will be there after a crash
/// is **unknown**. They are not shown to readers, and their indexes go to the next records.
#[derive(Debug, thiserror::Error)]
#[error("cannot write {file}: records {first}..{next} may or may not be stored", file = file.display())]
pub struct SyncError {
    /// First index in doubt; also the index that the next append gets.
    pub first: u64,
    /// One past the last.
    pub next: u64,
    /// The segment that failed; it takes no more records.
    pub file: PathBuf,
    /// What the system said.
    pub source: io::Error,
}

/// A read could not be tried (too many open files, for one). The reader has not moved: read again
/// later. A record that was tried and is unreadable is not an error but
/// [`Item::Damaged`](crate::Item::Damaged).
#[derive(Debug, thiserror::Error)]
#[error("cannot read {file} now", file = file.display())]
pub struct ReadError {
    /// The segment.
    pub file: PathBuf,
    /// What the system said.
    pub source: io::Error,
}
