//! Ranges that were lost: booked once, and kept until the records that tell of them are stored.

use sluice_wire::Stream;

use super::Positions;
use crate::tail::{Abandoned, Gap, Known};

/// Gaps that wait for their record to be stored; beyond that a gap is booked and counted, not told.
const MAX_GAPS: usize = 4096;

impl Positions {
    /// What the records of gaps that are kept are positions of.
    pub fn marks(&self) -> impl Iterator<Item = u64> {
        self.gaps.iter().map(Gap::mark)
    }

    /// Gives a gap its number, and keeps it until its record is stored.
    pub(super) fn keep_gap(&mut self, mut gap: Gap) -> Option<Gap> {
        let mark = gap.mark();
        let of_log = self.gaps.iter().filter(|other| other.log == gap.log).map(|other| other.number);
        gap.number = of_log.max().unwrap_or(0).max(self.covered(mark, Stream::Whole)) + 1;
        if self.gaps.len() >= MAX_GAPS {
            return None;
        }
        self.gaps.push(gap.clone());
        Some(gap)
    }

    /// A gap that waits to be told lasts longer than was known.
    pub fn extend_gap(&mut self, gap: &Gap) {
        let same = |other: &&mut Gap| (&other.log, other.number) == (&gap.log, gap.number);
        if let Some(kept) = self.gaps.iter_mut().find(same) {
            kept.until = gap.until;
        }
    }

    /// Gaps whose records are not stored yet.
    #[must_use]
    pub fn open_gaps(&self) -> usize {
        self.gaps.len()
    }

    /// Books a gap, and keeps it until its record is stored, see [`Known::open_gap`].
    pub(super) fn book_gap(&mut self, gap: Gap) -> Option<Gap> {
        // No file is known that it is of: there is nothing to book.
        if gap.source == 0 {
            return self.keep_gap(gap);
        }
        let written = self.source(gap.source).account.written;
        if gap.why == Abandoned::Vanished {
            // Once, for it is complete from then on; and whatever was booked before.
            *self.source(gap.source).account.abandoned.entry(gap.why).or_default() += gap.bytes;
        } else if gap.bytes > 0 && !self.abandon(gap.source, gap.to, gap.bytes, gap.why) {
            return None;
        }
        if gap.why == Abandoned::Vanished {
            // What was lost may lie before what was not: where it ends is not known.
            self.source(gap.source).account.written = written;
        }
        let source = self.source(gap.source);
        if gap.why == Abandoned::Damaged && std::mem::replace(&mut source.damaged, true) {
            return None;
        }
        if gap.why.is_in_entries() {
            if gap.to <= source.booked {
                // It was met before, and is met again after a restart.
                return None;
            }
            source.booked = gap.to;
            source.account.missing_entries += gap.to - gap.from;
        }
        self.source(gap.source).complete |= matches!(gap.why, Abandoned::Vanished | Abandoned::Deleted);
        self.keep_gap(gap)
    }
}
