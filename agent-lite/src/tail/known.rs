//! What the tail asks of the rest about its sources.

use std::path::Path;
use std::sync::Arc;

use sluice_wire::{Category, Stream};

use super::books::{Abandoned, Gap, LeftBehind};
use crate::block::Portion;

/// What is known of a source, also from earlier runs; by its short id.
pub trait Known {
    /// Bytes of `stream` that need not be read again: stored, or in the ring.
    fn covered(&self, source: u64, stream: Stream) -> u64;

    /// Bytes of `stream` that are stored.
    fn acknowledged(&self, source: u64, stream: Stream) -> u64;

    /// The category that was chosen for a log, also by an earlier run.
    fn category_of_log(&self, log: &str) -> Option<Category>;

    /// The namespace or unit in whose books it counts; `None`: that is not known.
    fn unit_of_log(&self, log: &str) -> Option<Arc<str>>;

    /// The category of the blocks that an earlier run has left in ring or spool with lines of a source.
    fn category_in_ring(&self, source: u64) -> Option<Category>;

    /// Notes whose books a log counts in of which that was not known when its sources were met.
    fn choose_books(&mut self, log: &Arc<str>, books: &Arc<str>);

    /// Bytes of all streams that are stored, in the ring, or given up.
    fn accounted(&self, source: u64) -> u64;

    /// Books `bytes` that end at `end` as given up. Gives `false`, and books nothing, where this was done
    /// before: what lies before `end` is read again after a restart.
    fn abandon(&mut self, source: u64, end: u64, bytes: u64, why: Abandoned) -> bool;

    /// Books a gap, and keeps it until its record is stored. Gives it as it is to be told, with its number;
    /// `None` where it was booked before, or so many are kept that it is booked only.
    fn open_gap(&mut self, gap: Gap) -> Option<Gap>;

    /// Notes that all of `stream` up to `end` is decided: stored, or left out, by reason.
    fn leave_out(&mut self, source: u64, stream: Stream, end: u64, left_out: [u64; Portion::REASONS]);

    /// Books bytes that were left out before `end`, by reason, of a source of which nothing is read any more.
    /// What of it lies in blocks is not decided by that.
    fn book_left_out(&mut self, source: u64, end: u64, left_out: [u64; Portion::REASONS]);

    /// Makes gaps of what was dropped of `source` since the last time, one for each reason.
    fn gaps_of_dropped(&mut self, source: u64, wall_ns: i64) -> Vec<Gap>;

    /// Sources of which lines were dropped that were not told of yet.
    fn with_dropped(&self) -> Vec<u64>;

    /// Gaps of an earlier run whose records are neither stored nor in the ring.
    fn untold_gaps(&self) -> Vec<Gap>;

    /// Notes that a stream has nothing to be read again before `end`.
    fn settle(&mut self, source: u64, stream: Stream, end: u64);

    /// Begins to count what comes from a source whose entries are received, not found on the disk: what was
    /// received and not accounted for is received again. Gives the bytes that are accounted for.
    fn resume_entries(&mut self, source: u64) -> u64;

    /// The same for every source of logs whose names begin with `prefix`, also of those of which nothing may
    /// come again.
    fn rewind_entries(&mut self, prefix: &str);

    /// The sources of a log, and where they were.
    fn sources_of(&self, log: &str) -> Vec<(u64, Arc<Path>)>;

    /// Every source that is known of.
    fn left_behind(&self) -> Vec<LeftBehind>;

    /// Whether a source was not read to its end, or may get more; `None`: nothing is known of it.
    fn is_unfinished(&self, source: u64) -> Option<bool>;

    /// Notes that a source that held `size` bytes is not sighted any more, and nothing of it is unread.
    fn note_end(&mut self, source: u64, size: u64);

    /// The sources of `log` that began with a line of this fingerprint: what a compressed copy of `size` bytes,
    /// inflated, may be of. Those first that held just as much, then those that were not read to their ends,
    /// the newest first.
    fn begun_with(&self, log: &str, fingerprint: u64, size: u64) -> Vec<u64>;

    /// How often the file was truncated that `source` was its first id.
    fn truncations(&self, source: u64) -> u32;

    /// Notes one more of the file that was called `base` first, and `source` until now.
    fn note_truncation(&mut self, base: u64, source: u64);
}
