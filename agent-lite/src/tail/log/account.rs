//! What of a log's bytes is sent, left out, waiting and unread.

use std::ops::Range;

use sluice_wire::Stream;

use super::join::{Pending, waits_in};
use super::{Format, Log, LogFile, Reading, STREAMS};
use crate::tail::Known;
use crate::tail::books::{Abandoned, LEFT_OUT, Reached, Sighting};

impl Log {
    /// Notes that a line is not sent.
    pub(super) fn leave_out(&mut self, at: usize, stream: Stream, range: Range<u64>, why: Abandoned) {
        let left_out = &mut self.files[at].left_out[stream as usize];
        left_out.end = range.end;
        let reasons = LEFT_OUT.into_iter().zip(&mut left_out.bytes);
        reasons.filter(|(reason, _)| *reason == why).for_each(|(_, bytes)| *bytes += range.end - range.start);
    }

    /// Accounts for bytes that are not sent: given up, or taken by an earlier run already. Gives `true`
    /// where they are given up now, and not read again.
    pub(super) fn pass_over(
        &mut self,
        at: usize,
        range: Range<u64>,
        why: Option<Abandoned>,
        reading: &mut Reading<'_>,
    ) -> bool {
        let file = &mut self.files[at];
        let bytes = range.end - range.start;
        let is_new = why.is_some_and(|why| reading.known.abandon(file.source, range.end, bytes, why));
        if !is_new {
            file.ahead = file.ahead.saturating_sub(bytes);
        }
        is_new
    }

    pub(in super::super) fn sightings(&self) -> impl Iterator<Item = Sighting<'_>> {
        self.files.iter().enumerate().flat_map(move |(at, file)| {
            // What was read after it is not its own.
            let next = self.files.iter().skip(at + 1).map(LogFile::first_time).find(|time| *time > 0);
            let last = self.last_time.min(next.unwrap_or(i64::MAX));
            file.ids().map(move |source| Sighting {
                source,
                log: &self.names.log,
                books: &self.names.books,
                path: &file.path,
                // What a truncated file was called first has no bytes of its own.
                size: if source == file.source { file.size } else { 0 },
                complete: source != file.source || (file.is_complete && file.is_read_out()) || self.has_all_of(file),
                fingerprint: file.fingerprint,
                reached: Reached { first: file.first_time(), read: file.read, last },
            })
        })
    }

    /// Whether a container's file was deleted and nothing of it is unread: its runtime removes logs of containers that
    /// are dead, so that nothing more comes. It stays open all the same for a while, for who removes files by hand.
    fn has_all_of(&self, file: &LogFile) -> bool {
        self.format == Format::Container
            && file.gone.is_some()
            && file.went_read_out()
            && !waits_in(&self.pending, file.source)
    }

    /// Bytes of lines that wait for their end.
    pub(in super::super) fn waiting_bytes(&self) -> u64 {
        let long = |file: &LogFile| file.long.map_or(0, |long| file.read - long.start());
        let left_out = self.files.iter().flat_map(|file| &file.left_out).flat_map(|left_out| left_out.bytes);
        let pending = self.pending.iter().flatten().map(Pending::bytes).sum::<u64>();
        pending + self.files.iter().map(long).sum::<u64>() + left_out.sum::<u64>()
    }

    /// Bytes that are not read yet, less those that will be passed over.
    pub(in super::super) fn to_read(&self) -> i128 {
        let to_read = |file: &LogFile| i128::from(file.size.saturating_sub(file.read)) - i128::from(file.ahead);
        self.files.iter().filter(|file| file.source != 0).map(to_read).sum()
    }

    /// How far streams are settled without a block that says so.
    pub(in super::super) fn settled(&self, known: &dyn Known) -> Vec<(u64, Stream, u64)> {
        let mut settled = Vec::new();
        for file in self.files.iter().filter(|file| file.source != 0) {
            let stored = STREAMS.map(|stream| known.acknowledged(file.source, stream));
            let before = STREAMS.into_iter().zip(stored).filter(|(_, stored)| *stored < file.began);
            settled.extend(before.map(|(stream, _)| (file.source, stream, file.began)));
            if self.format == Format::Container {
                let pair = [(Stream::Stdout, stored[1], stored[2]), (Stream::Stderr, stored[2], stored[1])];
                let silent =
                    pair.into_iter().filter(|(stream, own, other)| self.is_silent(file, *stream, *own, *other));
                settled.extend(silent.map(|(stream, _, other)| (file.source, stream, other)));
            }
        }
        settled
    }

    /// Whether everything of `stream` up to what the other one has stored was read, by this run, and is
    /// stored.
    fn is_silent(&self, file: &LogFile, stream: Stream, own: u64, other: u64) -> bool {
        let waits = self.pending[stream as usize].as_ref().is_some_and(|pending| pending.has_piece_in(file.source));
        let left_out = file.left_out[stream as usize].end > 0;
        !waits && !left_out && own >= file.progress[stream as usize].covered && file.read >= other && other > own
    }

    pub(in super::super) fn unread_bytes(&self) -> u64 {
        self.files.iter().map(|file| file.size.saturating_sub(file.read)).sum()
    }
}
