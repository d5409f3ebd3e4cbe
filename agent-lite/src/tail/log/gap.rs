//! Bytes that are lost are booked, and a record in the stream says so.

use sluice_wire::Stream;

use super::super::books::{Abandoned, Gap, LeftBehind};
use super::super::content::Content;
use super::super::file::LeftOut;
use super::{Certainty, Known, Log, Output, Reading, STREAMS};
use crate::block::Progress;
use crate::discover::layout::Age;

impl Log {
    /// Gives up what is not read of a file.
    pub(super) fn give_up(&mut self, at: usize, why: Abandoned, known: &mut dyn Known, output: &mut Output<'_>) {
        let to = self.files[at].size;
        self.give_up_to(at, to, why, known, output);
    }

    fn give_up_to(&mut self, at: usize, to: u64, why: Abandoned, known: &mut dyn Known, output: &mut Output<'_>) {
        let file = &mut self.files[at];
        let from = file.read;
        let bytes = to.saturating_sub(from).saturating_sub(file.ahead);
        // How much is missing of a damaged file may not be known: it is told of all the same.
        if (bytes == 0 && why != Abandoned::Damaged) || file.source == 0 {
            file.ahead = 0;
            file.read = file.read.max(to);
            return;
        }
        let gap = Gap {
            log: self.names.log.clone(),
            path: file.path.as_path().into(),
            source: file.source,
            from,
            to,
            bytes,
            why,
            since: self.last_time,
            until: file.modified(),
            number: 0,
        };
        file.ahead = 0;
        file.read = to;
        self.open_gap(gap, known, output);
    }

    /// Books a gap, and tells of it.
    fn open_gap(&mut self, gap: Gap, known: &mut dyn Known, output: &mut Output<'_>) {
        if let Some(gap) = known.open_gap(gap) {
            tracing::error!(
                path = %gap.path.display(), from = gap.from, to = gap.to, bytes = gap.bytes, reason = gap.why.word(),
                "bytes of a log are lost"
            );
            self.tell(&gap, output);
        }
    }

    /// Decides what was left out where no line followed that would carry it.
    pub(in crate::tail) fn settle_left_out(&mut self, known: &mut dyn Known) {
        // In the middle of a line that is dropped nothing is: a start would take the rest for a line.
        let streams = STREAMS.into_iter().filter(|stream| !self.dropping[*stream as usize]);
        for stream in streams {
            for file in &mut self.files {
                let (left_out, progress) = (&mut file.left_out[stream as usize], &mut file.progress[stream as usize]);
                // Lines before it are on their way: they, or what comes after them, will carry it.
                if left_out.end > 0 && known.acknowledged(file.source, stream) >= progress.covered {
                    let LeftOut { end, bytes } = std::mem::take(left_out);
                    known.leave_out(file.source, stream, end, bytes);
                    *progress = Progress::from(end);
                }
            }
        }
    }

    /// Puts the record that tells of a gap into the log's lane, once that is chosen.
    pub(in crate::tail) fn tell(&mut self, gap: &Gap, output: &mut Output<'_>) {
        if self.certainty == Certainty::Open {
            return self.untold.push(gap.clone());
        }
        self.certainty = Certainty::Fixed;
        output.counts.gaps += 1;
        gap.tell(&self.common[Stream::Whole as usize], self.lane, output.lanes, output.now);
    }

    /// Tells of the gaps that have waited for the lane to be chosen.
    pub(in crate::tail) fn tell_untold(&mut self, output: &mut Output<'_>) {
        for gap in std::mem::take(&mut self.untold) {
            self.tell(&gap, output);
        }
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
        let file = &mut self.files[at];
        file.size = file.content.as_ref().and_then(|content| content.size().ok()).unwrap_or(file.size);
        if file.source == 0 {
            file.identify_damaged(&self.key, &*reading.known);
        }
        let to = file.size + missing;
        self.give_up_to(at, to, Abandoned::Damaged, &mut *reading.known, &mut reading.output);
        self.files[at].size = self.files[at].read;
    }

    /// The time of the first line behind `since` of the files that are there, nanoseconds of the epoch.
    pub(in crate::tail) fn first_line_after(&self, since: i64) -> Option<i64> {
        let here = self.files.iter().filter(|file| file.gone.is_none());
        here.map(|file| file.first_time()).filter(|time| *time > since).min()
    }

    /// Rotated files that are there.
    pub(in crate::tail) fn rotated(&self) -> usize {
        self.files.iter().filter(|file| file.gone.is_none() && file.age != Age::Live).count()
    }

    /// A file went while no agent looked, and was not known to be read to its end; `until`: the first line behind
    /// it that is here, or now.
    pub(in crate::tail) fn note_vanished(
        &mut self,
        lost: &LeftBehind,
        known: &mut dyn Known,
        until: i64,
        output: &mut Output<'_>,
    ) {
        let streams = [Stream::Whole, Stream::Stdout, Stream::Stderr];
        let from = streams.into_iter().map(|stream| known.covered(lost.source, stream)).max().unwrap_or(0);
        let gap = Gap {
            log: self.names.log.clone(),
            path: lost.path.clone(),
            source: lost.source,
            from,
            to: lost.written.max(from),
            bytes: lost.written.saturating_sub(known.accounted(lost.source)),
            why: Abandoned::Vanished,
            since: lost.since,
            until,
            number: 0,
        };
        self.open_gap(gap, known, output);
    }
}
