//! Messages that are more than one piece: lines that the runtime cut, lines that belong together, and those
//! longer than a record or the buffer.

use std::ops::Range;
use std::time::{Duration, Instant};

use sluice_wire::{Stream, time};

use super::super::books::Abandoned;
use super::super::cut::whole_characters;
use super::super::file::LongLine;
use super::{Format, Log, Output, Reading, STREAMS};
use crate::block::MAX_CONTENT;
use crate::parse::multiline::Step;
use crate::parse::{Piece, cri};
use crate::record::Line;

/// How long the end of a container's last line may stay away before what there is goes as a line.
pub(super) const LAST_WORDS: Duration = Duration::from_secs(5);

/// A message whose end has not been read.
#[derive(Debug)]
pub(super) struct Pending {
    content: Vec<u8>,
    time: i64,
    time_text: Vec<u8>,
    /// Where its pieces end that are not covered yet, one for each file that has any: source, offset, bytes.
    ends: Vec<(u64, u64, u64)>,
    /// Records that were sent ahead because it is too long.
    parts: u32,
    /// Whether it is in the sample that is sent; decided with its first part.
    is_sent: Option<bool>,
    /// Whole lines in it.
    lines: usize,
    /// The end of its last line has not been read.
    pub(super) is_open: bool,
    /// More lines may follow.
    waits: bool,
    /// When it grew last.
    grown: Instant,
}

impl Pending {
    fn new(piece: &Piece<'_>, now: Instant) -> Self {
        Self {
            content: Vec::new(),
            time: piece.time,
            time_text: piece.time_text.to_vec(),
            ends: Vec::new(),
            parts: 0,
            is_sent: None,
            lines: 0,
            is_open: false,
            waits: false,
            grown: now,
        }
    }

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

/// Whether a message that waits for more has a piece in `source`.
pub(super) fn waits_in(pending: &[Option<Pending>], source: u64) -> bool {
    pending.iter().flatten().any(|pending| pending.has_piece_in(source))
}

impl Log {
    /// Decides what a piece that begins a line has to do with what is pending of its stream. Gives `true`
    /// where it is a message by itself.
    pub(super) fn begin_line(&mut self, piece: &Piece<'_>, output: &mut Output<'_>) -> bool {
        let at = piece.stream as usize;
        let Some(rule) = &self.treatment.of(piece.stream).multiline else {
            // A rule that is no more may have left something.
            self.complete(piece.stream, output);
            return true;
        };
        let step = rule.step(&mut self.multiline[at], piece.content);
        let limits = output.workshop.tools.limits;
        let fits = |pending: &Pending| {
            pending.lines < limits.lines && pending.content.len() + 1 + piece.content.len() <= limits.bytes
        };
        let goes_on = step == Step::Continues && self.pending[at].as_ref().is_some_and(fits);
        if goes_on {
            self.append(&Piece { content: b"\n", ..*piece }, output);
        } else {
            self.complete(piece.stream, output);
        }
        if step != Step::Alone {
            self.pending[at].get_or_insert_with(|| Pending::new(piece, output.now)).waits = true;
        }
        step == Step::Alone
    }

    /// Adds a piece to its stream's pending message. What fits into no record goes ahead in parts.
    pub(super) fn append(&mut self, piece: &Piece<'_>, output: &mut Output<'_>) {
        let slot = &mut self.pending[piece.stream as usize];
        let mut pending = slot.take().unwrap_or_else(|| Pending::new(piece, output.now));
        let mut content = piece.content;
        if !pending.content.is_empty() && pending.content.len() + content.len() > MAX_CONTENT {
            // Cut where a piece ends, so that what was sent can be covered: a line that never ends must
            // not hold its files.
            let length = whole_characters(&pending.content, pending.content.len());
            self.send_part(&mut pending, piece.stream, length, output);
        }
        while pending.content.len() + content.len() > MAX_CONTENT {
            let room = whole_characters(content, MAX_CONTENT - pending.content.len());
            pending.content.extend_from_slice(&content[..room]);
            content = &content[room..];
            let length = pending.content.len();
            self.send_part(&mut pending, piece.stream, length, output);
        }
        pending.content.extend_from_slice(content);
        pending.is_open = true;
        pending.grown = output.now;
        self.pending[piece.stream as usize] = Some(pending);
    }

    /// Memory that messages take whose end has not been read.
    pub(in crate::tail) fn pending_bytes(&self) -> usize {
        self.pending.iter().flatten().map(|pending| pending.content.len()).sum()
    }

    /// Puts what there is of messages without an end into the block, as parts.
    pub(in crate::tail) fn send_ahead(&mut self, output: &mut Output<'_>) {
        for stream in STREAMS {
            if let Some(mut pending) = self.pending[stream as usize].take() {
                let length = whole_characters(&pending.content, pending.content.len());
                if length > 0 {
                    self.send_part(&mut pending, stream, length, output);
                }
                self.pending[stream as usize] = Some(pending);
            }
        }
    }

    /// Puts the first `length` bytes of a pending message into its block, and covers the pieces that have
    /// ended. (Up to three bytes of a character may stay: a kill at this moment makes it a `U+FFFD`.)
    fn send_part(&mut self, pending: &mut Pending, stream: Stream, length: usize, output: &mut Output<'_>) {
        output.counts.long += u64::from(pending.parts == 0);
        self.send_content(pending, stream, length, Some(pending.parts + 1), output);
    }

    fn send_content(
        &mut self,
        pending: &mut Pending,
        stream: Stream,
        length: usize,
        part: Option<u32>,
        output: &mut Output<'_>,
    ) {
        let is_sent = *pending.is_sent.get_or_insert_with(|| self.is_in_sample(stream));
        let record = Line {
            time_text: &pending.time_text,
            time: pending.time,
            content: &pending.content[..length],
            common: &self.common[stream as usize],
            part,
            parsed: None,
        };
        let sent = if is_sent { output.send(&self.treatment, stream, self.lane, record) } else { None };
        let why = if is_sent { Abandoned::Redacted } else { Abandoned::Sampled };
        pending.parts += sent.unwrap_or(0);
        pending.content.drain(..length);
        for (source, end, bytes) in pending.ends.drain(..) {
            let Some(at) = self.files.iter().position(|file| file.source == source) else { continue };
            if sent.is_none() {
                self.leave_out(at, stream, end - bytes..end, why);
                continue;
            }
            let file = &mut self.files[at];
            let portion = file.portion(stream, bytes);
            output.lanes.cover(self.lane, source, stream, &mut file.progress[stream as usize], end, portion);
        }
        output.lanes.cut_if_full(self.lane);
    }

    /// The piece that was appended last takes `range` of its file; if it was its line's last, the line is
    /// whole, and its message, too, unless more lines may follow.
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
        let Some(pending) = &mut self.pending[stream as usize] else { return };
        match pending.ends.last_mut() {
            Some(last) if last.0 == source => *last = (source, range.end, last.2 + bytes),
            _ => pending.ends.push((source, range.end, bytes)),
        }
        if !partial {
            pending.is_open = false;
            pending.lines += 1;
            if !pending.waits {
                self.complete(stream, output);
            }
        }
    }

    /// Puts a stream's pending message into its block, as it is, and covers all its pieces.
    pub(super) fn complete(&mut self, stream: Stream, output: &mut Output<'_>) {
        let Some(mut pending) = self.pending[stream as usize].take() else { return };
        let part = (pending.parts > 0).then_some(pending.parts + 1);
        let length = pending.content.len();
        self.send_content(&mut pending, stream, length, part, output);
        match pending.is_sent {
            Some(false) => output.counts.dropped += pending.lines.max(1) as u64,
            _ => output.counts.lines += 1,
        }
    }

    /// Sends the messages for whose next line has been waited long enough.
    pub(super) fn complete_old(&mut self, output: &mut Output<'_>) {
        let age = output.workshop.tools.limits.age;
        for stream in STREAMS {
            let is_old = |pending: &Pending| {
                pending.waits && !pending.is_open && output.now.saturating_duration_since(pending.grown) >= age
            };
            if self.pending[stream as usize].as_ref().is_some_and(is_old) {
                self.complete(stream, output);
            }
        }
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
                self.share.owe(content.len() as u64);
                self.append_long(stream, time, partial, &content[..whole], &mut reading.output);
                filled.len() - content.len() + whole
            }
            LongLine::LeftOut { .. } | LongLine::Passed { .. } => filled.len(),
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
        if self.format != Format::Container {
            let (time, partial) = (reading.wall.ns, false);
            let piece = Piece { time_text: reading.wall.text, time, stream: Stream::Whole, partial, content: filled };
            self.begin_line(&piece, &mut reading.output);
            return (LongLine::Taken { stream: Stream::Whole, time, partial, start }, filled);
        }
        // A line's end is not there yet: where it has no header it is torn up to wherever its end will be.
        // (Docker's lines end with what they are; their runtime writes none as long as this.)
        let whole_line = cri::parse(filled, &mut self.times).map(|piece| (0, piece));
        let Some((torn, piece)) = whole_line.or_else(|| cri::resynchronise(filled, &mut self.times)) else {
            return (LongLine::Passed { why: Some(Abandoned::Torn), start }, filled);
        };
        let before = start..start + torn as u64;
        if torn > 0 && self.pass_over(at, before.clone(), Some(Abandoned::Torn), reading) {
            self.say_torn(at, start, torn as u64, reading.output.counts);
        }
        let start = before.end;
        let Piece { stream, time, partial, content, .. } = piece;
        if start < self.files[at].progress[stream as usize].covered {
            return (LongLine::Passed { why: None, start }, filled);
        }
        if time < reading.since {
            return (LongLine::Passed { why: Some(Abandoned::TooOld), start }, filled);
        }
        // Its length is not known: its first byte asks for room, and what is read of it is owed.
        if let Some(why) = self.why_left_out(&piece, 0, reading) {
            return (LongLine::LeftOut { stream, why, start }, filled);
        }
        if !self.is_open(stream) {
            self.begin_line(&piece, &mut reading.output);
        }
        (LongLine::Taken { stream, time, partial, start }, &filled[filled.len() - content.len()..])
    }

    /// Whether the stream is in the middle of a line.
    pub(super) fn is_open(&self, stream: Stream) -> bool {
        self.pending[stream as usize].as_ref().is_some_and(|pending| pending.is_open)
    }

    fn append_long(&mut self, stream: Stream, time: i64, partial: bool, content: &[u8], output: &mut Output<'_>) {
        let mut time_text = Vec::with_capacity(30);
        time::write(time, &mut time_text);
        self.append(&Piece { time_text: &time_text, time, stream, partial, content }, output);
    }

    pub(super) fn end_long(&mut self, at: usize, long: LongLine, line: &[u8], end: u64, reading: &mut Reading<'_>) {
        match long {
            LongLine::Taken { stream, time, partial, start } => {
                self.share.owe(line.len() as u64);
                self.append_long(stream, time, partial, line, &mut reading.output);
                self.end_piece(at, stream, partial, start..end, &mut reading.output);
            }
            LongLine::LeftOut { stream, why, start } => self.leave_out(at, stream, start..end, why),
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
        // Nor does the end of a line come any more that is dropped.
        self.dropping = [false; 3];
        for stream in STREAMS {
            let waited = |pending: &Pending| output.now.saturating_duration_since(pending.grown) > LAST_WORDS;
            if self.pending[stream as usize].as_ref().is_some_and(waited) {
                self.complete(stream, output);
            }
        }
    }
}
