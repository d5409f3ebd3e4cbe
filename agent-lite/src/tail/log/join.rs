//! Lines that are more than one piece: partial ones, and those longer than a record or the buffer.

use std::ops::Range;
use std::time::{Duration, Instant};

use sluice_wire::{Stream, time};

use super::super::books::Abandoned;
use super::super::cut::whole_characters;
use super::super::file::LongLine;
use super::{Format, Log, Output, Reading, STREAMS};
use crate::block::MAX_CONTENT;
use crate::parse::cri;
use crate::record::Line;

/// How long the end of a container's last line may stay away before what there is goes as a line.
pub(super) const LAST_WORDS: Duration = Duration::from_secs(5);

/// The beginning of a line whose end has not been read.
#[derive(Debug)]
pub(super) struct Partial {
    content: Vec<u8>,
    time: i64,
    time_text: Vec<u8>,
    /// Where its pieces end that are not covered yet, one for each file that has any: source, offset, bytes.
    ends: Vec<(u64, u64, u64)>,
    /// Records that were sent ahead because it is too long.
    parts: u32,
    since: Instant,
}

impl Partial {
    /// Whether its last piece is in `source`.
    pub(super) fn ends_in(&self, source: u64) -> bool {
        self.ends.last().is_some_and(|(last, ..)| *last == source)
    }

    /// Whether a piece of it that is not covered is in `source`.
    pub(super) fn has_piece_in(&self, source: u64) -> bool {
        self.ends.iter().any(|(at, ..)| *at == source)
    }

    /// Bytes of its pieces that are not covered.
    pub(super) fn bytes(&self) -> u64 {
        self.ends.iter().map(|(.., bytes)| bytes).sum()
    }
}

impl Log {
    /// Adds a piece to its stream's partial line. What fits into no record goes ahead in parts.
    pub(super) fn append(&mut self, piece: &cri::Piece<'_>, output: &mut Output<'_>) {
        let slot = &mut self.partials[piece.stream as usize];
        let mut partial = slot.take().unwrap_or_else(|| Partial {
            content: Vec::new(),
            time: piece.time,
            time_text: piece.time_text.to_vec(),
            ends: Vec::new(),
            parts: 0,
            since: output.now,
        });
        let mut content = piece.content;
        if !partial.content.is_empty() && partial.content.len() + content.len() > MAX_CONTENT {
            // Cut where a piece ends, so that what was sent can be covered: a line that never ends must
            // not hold its files.
            let length = whole_characters(&partial.content, partial.content.len());
            self.send_part(&mut partial, piece.stream, length, output);
        }
        while partial.content.len() + content.len() > MAX_CONTENT {
            let room = whole_characters(content, MAX_CONTENT - partial.content.len());
            partial.content.extend_from_slice(&content[..room]);
            content = &content[room..];
            let length = partial.content.len();
            self.send_part(&mut partial, piece.stream, length, output);
        }
        partial.content.extend_from_slice(content);
        self.partials[piece.stream as usize] = Some(partial);
    }

    /// Puts the first `length` bytes of a partial line into its block, and covers the pieces that have
    /// ended. (Up to three bytes of a character may stay: a kill at this moment makes it a `U+FFFD`.)
    fn send_part(&mut self, partial: &mut Partial, stream: Stream, length: usize, output: &mut Output<'_>) {
        output.counts.long += u64::from(partial.parts == 0);
        self.send_content(partial, stream, length, Some(partial.parts + 1), output);
    }

    fn send_content(
        &mut self,
        partial: &mut Partial,
        stream: Stream,
        length: usize,
        part: Option<u32>,
        output: &mut Output<'_>,
    ) {
        let record = Line {
            time_text: &partial.time_text,
            time: partial.time,
            content: &partial.content[..length],
            common: &self.common[stream as usize],
            part,
        };
        partial.parts += output.lanes.push(self.lane, &record, output.now);
        partial.content.drain(..length);
        for (source, end, bytes) in partial.ends.drain(..) {
            if let Some(file) = self.files.iter_mut().find(|file| file.source == source) {
                output.lanes.cover(self.lane, source, stream, &mut file.progress[stream as usize], end, bytes);
            }
        }
        output.lanes.cut_if_full(self.lane);
    }

    /// The piece that was appended last takes `range` of its file; if it was its line's last, the line is
    /// whole.
    pub(super) fn end_piece(
        &mut self,
        at: usize,
        stream: Stream,
        partial: bool,
        range: Range<u64>,
        output: &mut Output<'_>,
    ) {
        let source = self.files[at].source;
        let bytes = range.end - range.start;
        if let Some(waiting) = &mut self.partials[stream as usize] {
            match waiting.ends.last_mut() {
                Some(last) if last.0 == source => *last = (source, range.end, last.2 + bytes),
                _ => waiting.ends.push((source, range.end, bytes)),
            }
        }
        if !partial {
            self.complete(stream, output);
        }
    }

    /// Puts a stream's partial line into its block, as it is, and covers all its pieces.
    pub(super) fn complete(&mut self, stream: Stream, output: &mut Output<'_>) {
        let Some(mut partial) = self.partials[stream as usize].take() else { return };
        let part = (partial.parts > 0).then_some(partial.parts + 1);
        let length = partial.content.len();
        self.send_content(&mut partial, stream, length, part, output);
        output.counts.lines += 1;
    }

    /// A buffer full of one line, or of its middle. Gives the bytes consumed: whole characters. The line
    /// is covered once its end is read; a restart in between sends its parts again.
    pub(super) fn take_long(&mut self, at: usize, filled: &[u8], reading: &mut Reading<'_>) -> usize {
        let start = self.files[at].read;
        let (long, content) = match self.files[at].long {
            Some(long) => (long, filled),
            None => self.begin_long(at, filled, start, reading),
        };
        self.files[at].long = Some(long);
        match long {
            LongLine::Taken { stream, time, partial, .. } => {
                let whole = whole_characters(content, content.len());
                self.append_long(stream, time, partial, &content[..whole], &mut reading.output);
                filled.len() - content.len() + whole
            }
            LongLine::Passed { .. } => filled.len(),
        }
    }

    /// What a line longer than the buffer is, and where in the buffer its content begins.
    fn begin_long<'a>(
        &mut self,
        at: usize,
        filled: &'a [u8],
        start: u64,
        reading: &mut Reading<'_>,
    ) -> (LongLine, &'a [u8]) {
        if self.format != Format::Cri {
            let long = LongLine::Taken { stream: Stream::Whole, time: reading.wall.ns, partial: false, start };
            return (long, filled);
        }
        // A line's end is not there yet: where it has no header it is torn up to wherever its end will be.
        let whole_line = cri::parse(filled, &mut self.times).map(|piece| (0, piece));
        let Some((torn, piece)) = whole_line.or_else(|| cri::resynchronise(filled, &mut self.times)) else {
            return (LongLine::Passed { why: Some(Abandoned::Torn), start }, filled);
        };
        let before = start..start + torn as u64;
        if torn > 0 && self.pass_over(at, before.clone(), Some(Abandoned::Torn), reading) {
            self.say_torn(at, start, torn as u64, reading.output.counts);
        }
        let start = before.end;
        let cri::Piece { stream, time, partial, content, .. } = piece;
        if start < self.files[at].progress[stream as usize].covered {
            return (LongLine::Passed { why: None, start }, filled);
        }
        if time < reading.since {
            return (LongLine::Passed { why: Some(Abandoned::TooOld), start }, filled);
        }
        (LongLine::Taken { stream, time, partial, start }, &filled[filled.len() - content.len()..])
    }

    fn append_long(&mut self, stream: Stream, time: i64, partial: bool, content: &[u8], output: &mut Output<'_>) {
        let mut time_text = Vec::with_capacity(30);
        time::write(time, &mut time_text);
        self.append(&cri::Piece { time_text: &time_text, time, stream, partial, content }, output);
    }

    pub(super) fn end_long(&mut self, at: usize, long: LongLine, line: &[u8], end: u64, reading: &mut Reading<'_>) {
        match long {
            LongLine::Taken { stream, time, partial, start } => {
                self.append_long(stream, time, partial, line, &mut reading.output);
                self.end_piece(at, stream, partial, start..end, &mut reading.output);
            }
            LongLine::Passed { why, start } => {
                if self.pass_over(at, start..end, why, reading) {
                    match why {
                        Some(Abandoned::Torn) => self.say_torn(at, start, end - start, reading.output.counts),
                        _ => reading.output.counts.too_old += 1,
                    }
                }
            }
        }
    }

    /// A partial line of a container that has ended is a line (containerd writes the rest of a text
    /// without newline with tag `P` and nothing after it).
    pub(super) fn flush_last_words(&mut self, output: &mut Output<'_>) {
        for stream in STREAMS {
            let waited = |partial: &Partial| output.now.saturating_duration_since(partial.since) > LAST_WORDS;
            if self.partials[stream as usize].as_ref().is_some_and(waited) {
                self.complete(stream, output);
            }
        }
    }
}
