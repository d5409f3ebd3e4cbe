//! What a log's bytes can come to beside being sent, and what is told of bytes that were lost.

use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use serde::{Deserialize, Serialize};
use sluice_wire::{Stream, time};
use xxhash_rust::xxh3::xxh3_64_with_seed;

use crate::block::{LaneId, Lanes, Portion, Progress};
use crate::record::{self, Line};

/// Why bytes of a log are not sent. A closed list: the same word in metrics, books and gap records.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Abandoned {
    /// No line of a container runtime: a short write left it.
    Torn,
    /// Older than the first start wanted, or there before a first start at the end.
    TooOld,
    /// Whoever runs the pod asked for it.
    Excluded,
    /// The file was cut short before this was read.
    Truncated,
    /// A compressed file cannot be inflated any further.
    Damaged,
    /// The file was deleted, and held open longer than the bound for such files allows.
    Deleted,
    /// The file went while no agent looked.
    Vanished,
    /// No agent ran on the node: what came and went in that time is not known.
    Absent,
    /// The pod wrote more than its budget allows, and its policy is to drop.
    OverBudget,
    /// Whoever runs the pod asked for a sample of its messages.
    Sampled,
    /// A redaction rule drops lines that it matches.
    Redacted,
    /// Numbers of the journal's entries are missing.
    JournalSeqnum,
    /// The kernel has written over records that were not read.
    KmsgOverwritten,
}

impl Abandoned {
    /// All of them.
    pub const ALL: [Self; 13] = [
        Self::Torn,
        Self::TooOld,
        Self::Excluded,
        Self::Truncated,
        Self::Damaged,
        Self::Deleted,
        Self::Vanished,
        Self::Absent,
        Self::OverBudget,
        Self::Sampled,
        Self::Redacted,
        Self::JournalSeqnum,
        Self::KmsgOverwritten,
    ];

    /// Whether what was lost is counted in entries, by their numbers: nobody knows how many bytes they had.
    #[must_use]
    pub fn is_in_entries(self) -> bool {
        matches!(self, Self::JournalSeqnum | Self::KmsgOverwritten)
    }

    /// Its word.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Torn => "torn",
            Self::TooOld => "too-old",
            Self::Excluded => "excluded",
            Self::Truncated => "truncated",
            Self::Damaged => "damaged",
            Self::Deleted => "deleted",
            Self::Vanished => "vanished",
            Self::Absent => "absent",
            Self::OverBudget => "over-budget",
            Self::Sampled => "sampled",
            Self::Redacted => "redacted",
            Self::JournalSeqnum => "journal-seqnum",
            Self::KmsgOverwritten => "kmsg-overwritten",
        }
    }

    /// What a gap record says of it.
    pub(super) fn sentence(self) -> &'static str {
        match self {
            Self::Torn => "not a line of a container runtime",
            Self::TooOld => "older than the first start wanted",
            Self::Excluded => "excluded by the pod's annotation",
            Self::Truncated => "the file was cut short before they were read",
            Self::Damaged => "the compressed file cannot be inflated any further",
            Self::Deleted => "the file was deleted, and more such files were held than the agent may hold",
            Self::OverBudget => "the pod wrote more than its budget",
            Self::Sampled => "the pod's annotation asks for a sample",
            Self::Redacted => "a redaction rule drops such lines",
            Self::Vanished => "the file went while no agent looked; more may have been written than is counted here",
            Self::Absent => {
                "no agent ran on this node: containers that came and went in that time, with all their files, are not known"
            }
            Self::JournalSeqnum => {
                "the journal has no entries of these numbers; they were removed before they were read"
            }
            Self::KmsgOverwritten => "the kernel wrote over its oldest records before they were read",
        }
    }
}

/// Bytes of a source that were lost. It is told by a record in the stream, so that a query shows the hole;
/// kept until that record is stored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Gap {
    /// The log, by the path of its live file.
    pub log: Arc<str>,
    /// The file, as it was called last.
    pub path: Arc<Path>,
    /// The source.
    pub source: u64,
    /// First byte.
    pub from: u64,
    /// First byte behind it.
    pub to: u64,
    /// Bytes that were lost, as far as is known: less than `to - from` where some of it was stored.
    pub bytes: u64,
    /// Why.
    pub why: Abandoned,
    /// The last line before the gap, or the first in it, nanoseconds of the epoch; 0: not known.
    pub since: i64,
    /// When the last of it was written, or it was found to be gone, nanoseconds of the epoch.
    pub until: i64,
    /// Counts the log's gaps. With [`Gap::mark`] it is the position of the gap's record.
    pub number: u64,
}

impl Gap {
    /// The source that the records of a log's gaps are positions of.
    #[must_use]
    pub fn mark(&self) -> u64 {
        mark_of(&self.log)
    }

    /// Its record: the message, and the fields that follow on `common`.
    #[must_use]
    fn render(&self, common: &[u8]) -> (String, Vec<u8>) {
        let mut common = common.to_vec();
        record::append("sluice_gap_reason", self.why.word(), &mut common);
        let message = if self.why == Abandoned::Absent {
            format!("sluice: {}", self.why.sentence())
        } else {
            self.render_range(&mut common)
        };
        if self.since != 0 {
            record::append("sluice_gap_since", &moment(self.since), &mut common);
        }
        record::append("sluice_gap_until", &moment(self.until), &mut common);
        (message, common)
    }

    /// Of which file, and from where to where: the message, and the fields onto `common`.
    fn render_range(&self, common: &mut Vec<u8>) -> String {
        let file = self.path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        let (size, what) =
            if self.why.is_in_entries() { (self.to - self.from, "entries") } else { (self.bytes, "bytes") };
        let (from, to) = (self.from, self.to);
        record::append(&format!("sluice_gap_{what}"), &size.to_string(), common);
        record::append("sluice_gap_file", &file, common);
        record::append("sluice_gap_from", &from.to_string(), common);
        record::append("sluice_gap_to", &to.to_string(), common);
        format!("sluice: a gap of {size} {what} in {file}, from {from} to {to}: {}", self.why.sentence())
    }

    /// Puts the record that tells of it into a lane, with what the lane's records have in `common`, and with a
    /// position of its own: where that is stored, so is the record.
    pub fn tell(&self, common: &[u8], lane: LaneId, lanes: &mut Lanes, now: Instant) {
        let (message, common) = self.render(common);
        let line = Line {
            time_text: &[],
            time: self.until,
            content: message.as_bytes(),
            common: &common,
            part: None,
            parsed: None,
        };
        lanes.push(lane, &line, now);
        let mut told = Progress::from(self.number - 1);
        lanes.cover(lane, self.mark(), Stream::Whole, &mut told, self.number, Portion::default());
        lanes.cut_if_full(lane);
    }
}

fn moment(ns: i64) -> String {
    let mut text = Vec::new();
    time::write(ns, &mut text);
    String::from_utf8_lossy(&text).into_owned()
}

/// The source that the records of a log's gaps are positions of.
pub(super) fn mark_of(log: &str) -> u64 {
    xxh3_64_with_seed(log.as_bytes(), MARKS).max(1)
}

/// Tells the marks of logs from other hashes of their names.
const MARKS: u64 = 0x6761_7073;

/// Bytes that were dropped here and there in a range, and are told of together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Dropped {
    /// First byte of the range.
    pub from: u64,
    /// First byte behind it.
    pub to: u64,
    /// Bytes in between that were dropped.
    pub bytes: u64,
}

/// What the reasons of a [`Portion`] are.
pub const LEFT_OUT: [Abandoned; Portion::REASONS] =
    [Abandoned::OverBudget, Abandoned::Excluded, Abandoned::Redacted, Abandoned::Sampled];

/// What is known of a source that was met.
#[derive(Debug, Clone, Copy)]
pub struct Sighting<'a> {
    /// Its short id.
    pub source: u64,
    /// Its log, by the path of its live file.
    pub log: &'a Arc<str>,
    /// Whose books it counts in: category and namespace or unit, `application/default`; empty: not chosen yet.
    pub books: &'a Arc<str>,
    /// Where it is.
    pub path: &'a Path,
    /// Bytes in it; inflated.
    pub size: u64,
    /// Nobody will write to it any more.
    pub complete: bool,
    /// Of its first line; 0: it is of no use here.
    pub fingerprint: u64,
    /// How far it was read.
    pub reached: Reached,
}

/// How far a source was read, in its lines' own times: nanoseconds of the epoch; 0: not known.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Reached {
    /// Its first line.
    pub first: i64,
    /// Bytes that were read.
    pub read: u64,
    /// The last line that was read.
    pub last: i64,
}

/// A source of an earlier run.
#[derive(Debug, Clone)]
pub struct LeftBehind {
    /// Its short id.
    pub source: u64,
    /// Its log.
    pub log: Arc<str>,
    /// Where it was.
    pub path: Arc<Path>,
    /// How much was in it when it was seen last.
    pub written: u64,
    /// It was read to its end, and nobody was to write to it any more.
    pub is_finished: bool,
    /// All of its lines before this are stored, nanoseconds of the epoch; 0: not known.
    pub since: i64,
}

/// A source that was not met for long.
#[derive(Debug, Clone, Copy)]
pub struct Missed<'a> {
    /// Its short id.
    pub source: u64,
    /// Its log.
    pub log: &'a str,
    /// Where it was seen last.
    pub path: &'a Path,
    /// Up to where it is stored, where it has no streams.
    pub stored: u64,
}
