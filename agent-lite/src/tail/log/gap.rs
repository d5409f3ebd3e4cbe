//! Bytes that are lost are booked, and a record in the stream says so.

use sluice_wire::Stream;

use super::super::books::{Abandoned, Gap, Unfinished};
use super::super::content::Content;
use super::{Format, Known, Log, Output, Reading};
use crate::block::Progress;
use crate::record::Line;

impl Log {
    /// Gives up what is not read of a file.
    pub(super) fn give_up(&mut self, at: usize, why: Abandoned, known: &mut dyn Known, output: &mut Output<'_>) {
        let to = self.files[at].size;
        self.give_up_to(at, to, why, known, output);
    }

    fn give_up_to(&mut self, at: usize, to: u64, why: Abandoned, known: &mut dyn Known, output: &mut Output<'_>) {
        let whole = self.format != Format::Cri;
        let file = &mut self.files[at];
        let from = file.read;
        let bytes = to.saturating_sub(from).saturating_sub(file.ahead);
        if bytes == 0 || file.source == 0 {
            return;
        }
        let gap = Gap {
            log: self.names.log.clone(),
            path: file.path.as_path().into(),
            source: file.source,
            whole,
            from,
            to,
            bytes,
            why,
            since: self.last_time,
            until: file.modified(),
        };
        file.ahead = 0;
        file.read = to;
        self.open_gap(&gap, known, output);
    }

    /// Books a gap, and tells of it.
    pub(in crate::tail) fn open_gap(&mut self, gap: &Gap, known: &mut dyn Known, output: &mut Output<'_>) {
        tracing::error!(
            path = %gap.path.display(), from = gap.from, to = gap.to, bytes = gap.bytes, reason = gap.why.word(),
            "bytes of a log are lost"
        );
        output.counts.gaps += 1;
        if known.open_gap(gap) {
            self.tell(gap, known, output);
        }
    }

    /// Puts the record that tells of a gap into the log's lane. Its position is the gap's.
    pub(in crate::tail) fn tell(&mut self, gap: &Gap, known: &dyn Known, output: &mut Output<'_>) {
        let (message, common) = gap.render(&self.common[Stream::Whole as usize]);
        let line = Line { time_text: &[], time: gap.until, content: message.as_bytes(), common: &common, part: None };
        output.lanes.push(self.lane, &line, output.now);
        for stream in gap.streams() {
            let file = self.files.iter_mut().find(|file| file.source == gap.source);
            let mut of_no_file = Progress::from(known.covered(gap.source, *stream));
            let progress = file.map_or(&mut of_no_file, |file| &mut file.progress[*stream as usize]);
            if progress.covered < gap.to {
                output.lanes.cover(self.lane, gap.source, *stream, progress, gap.to, 0);
            }
        }
        output.lanes.cut_if_full(self.lane);
    }

    /// A compressed file that ends before it should.
    pub(super) fn tell_damage(&mut self, at: usize, reading: &mut Reading<'_>) {
        let file = &self.files[at];
        let Some(missing) = file.content.as_ref().and_then(Content::missing).filter(|_| !file.unreadable) else {
            return;
        };
        self.files[at].unreadable = true;
        reading.output.counts.unreadable += 1;
        tracing::error!(
            path = %self.files[at].path.display(), missing,
            "compressed log file is damaged, what could be inflated was read"
        );
        self.end_lines_of(at, &mut *reading.known, &mut reading.output);
        let to = self.files[at].size + missing;
        self.give_up_to(at, to, Abandoned::Damaged, &mut *reading.known, &mut reading.output);
        self.files[at].size = self.files[at].read;
    }

    /// A file went while no agent looked, and was not known to be read to its end.
    pub(in crate::tail) fn note_vanished(
        &mut self,
        lost: &Unfinished,
        known: &mut dyn Known,
        wall_ns: i64,
        output: &mut Output<'_>,
    ) {
        let streams = [Stream::Whole, Stream::Stdout, Stream::Stderr];
        let from = streams.into_iter().map(|stream| known.covered(lost.source, stream)).max().unwrap_or(0);
        let gap = Gap {
            log: self.names.log.clone(),
            path: lost.path.clone(),
            source: lost.source,
            whole: self.format != Format::Cri,
            from,
            // One past its end where nothing is known to be missing: the record needs a position of its own.
            to: lost.written.max(from + 1),
            bytes: lost.written.saturating_sub(known.accounted(lost.source)),
            why: Abandoned::Vanished,
            since: 0,
            until: wall_ns,
        };
        self.open_gap(&gap, known, output);
    }
}
