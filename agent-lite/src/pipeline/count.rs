//! What the rooms have counted, told as metrics.

use super::Agent;
use crate::tail::Counts;

impl Agent {
    pub(super) fn count(&mut self) {
        for counts in [self.tailer.take_counts(), self.entries.take_counts()] {
            self.count_reading(&counts);
        }
        self.metrics.own_left_out.set(gauge(self.tailer.left_out()));
        self.count_held();
    }

    fn count_reading(&self, counts: &Counts) {
        self.metrics.read_bytes.inc_by(counts.bytes);
        self.metrics.read_lines.inc_by(counts.lines);
        self.metrics.torn_lines.inc_by(counts.torn);
        self.metrics.torn_bytes.inc_by(counts.torn_bytes);
        self.metrics.long_lines.inc_by(counts.long);
        self.metrics.too_old_lines.inc_by(counts.too_old);
        self.metrics.unreadable.inc_by(counts.unreadable);
        self.metrics.truncated.inc_by(counts.truncated);
        self.metrics.gaps.inc_by(counts.gaps);
        self.metrics.dropped_lines.inc_by(counts.dropped);
        self.metrics.undescribed_logs.inc_by(counts.undescribed);
        self.metrics.audit_text_lines.inc_by(counts.no_events);
        self.metrics.missing_entries.inc_by(counts.missing_entries);
        self.metrics.journal_reader_ends.inc_by(counts.reader_ends);
    }

    fn count_held(&mut self) {
        self.metrics.waiting_logs.set(gauge(self.tailer.undescribed()));
        for (rule, matches) in self.tailer.redactions() {
            self.metrics.redacted(&rule, matches);
        }
        let cut = self.lanes.take_cut();
        self.metrics.blocks.inc_by(cut.blocks);
        self.metrics.raw_bytes.inc_by(cut.raw);
        self.metrics.payload_bytes.inc_by(cut.payload);
        let (logs, open_files, unread) = self.tailer.totals();
        self.metrics.logs.set(gauge(logs));
        self.metrics.open_files.set(gauge(open_files));
        self.metrics.unread_bytes.set(i64::try_from(unread).unwrap_or(i64::MAX));
        let (open, queued) = self.lanes.held_bytes();
        self.metrics.open_block_bytes.set(gauge(open));
        self.metrics.queued_bytes.set(gauge(queued));
        self.metrics.held_records.set(i64::try_from(self.lanes.held_records()).unwrap_or(i64::MAX));
        self.metrics.lanes.set(gauge(self.lanes.count()));
        self.metrics.paused_lanes.set(gauge(self.lanes.paused()));
        self.count_spool();
    }
}

pub(super) fn gauge(value: usize) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}
