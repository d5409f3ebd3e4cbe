//! One logical log over its files: lines in order, partial lines joined for each stream, also over a
//! rotation.

use std::collections::VecDeque;
use std::io;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use memchr::{memchr, memrchr};
use sluice_wire::{Stream, time};

use super::books::{Abandoned, Sighting};
use super::content::Content;
use super::counts::Counts;
use super::file::LogFile;
use super::{Key, Known, StartFrom};
use crate::block::{LaneId, Lanes, MAX_CONTENT};
use crate::parse::cri;
use crate::record::Line;

/// What is read of the agent's own logs, bytes per second.
const OWN_RATE: f64 = 64.0 * 1024.0;

const STREAMS: [Stream; 3] = [Stream::Whole, Stream::Stdout, Stream::Stderr];

mod audit;
mod follow;
mod gap;
mod join;

use join::Partial;

/// How lines are taken apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Format {
    /// A container runtime's.
    Cri,
    /// Each line is a message; its time is when it was read.
    Plain,
    /// Each line is an event of the API server's, which has its own time; what is none is a message.
    Audit,
}

#[derive(Debug)]
pub(super) struct Log {
    pub(super) key: Key,
    pub(super) names: Names,
    pub(super) lane: LaneId,
    format: Format,
    /// What records have in common, by stream; [`Stream::Whole`]: what is said of no stream.
    common: [Vec<u8>; 3],
    /// In order; the live one last.
    files: VecDeque<LogFile>,
    partials: [Option<Partial>; 3],
    /// Nothing more will be written: a younger attempt is there.
    pub(super) ended: bool,
    /// The lane took no more when it was read last.
    pub(super) held_back: bool,
    /// Since when no whole line was found in it.
    idle_since: Option<Instant>,
    /// The pass in which something of it was read last: who waited longest is next.
    pub(super) read_in: u64,
    /// The time of the last line that was read, nanoseconds of the epoch.
    last_time: i64,
    times: time::Parser,
    /// The node's log files that there are just now have it.
    pub(super) is_listed: bool,
    /// It is the agent's own, and read slowly.
    pub(super) is_slow: bool,
    rests_until: Option<Instant>,
}

/// What a log is called outside of its room.
#[derive(Debug, Clone)]
pub(super) struct Names {
    /// The path of its live file.
    pub(super) log: Arc<str>,
    /// Whose books it counts in: category and namespace or unit, `application/default`.
    pub(super) books: Arc<str>,
}

/// Where lines go.
pub(super) struct Output<'a> {
    pub(super) lanes: &'a mut Lanes,
    pub(super) counts: &'a mut Counts,
    pub(super) now: Instant,
}

/// What reading needs of the rest.
pub(super) struct Reading<'a> {
    pub(super) output: Output<'a>,
    pub(super) buffer: &'a mut [u8],
    pub(super) known: &'a mut dyn Known,
    pub(super) wall: WallTime<'a>,
    pub(super) since: i64,
    pub(super) quantum: usize,
}

/// When a line was read that has no time of its own.
#[derive(Debug, Clone, Copy)]
pub(super) struct WallTime<'a> {
    /// Nanoseconds of the epoch.
    pub(super) ns: i64,
    /// The same as text.
    pub(super) text: &'a [u8],
}

#[derive(Debug, Default)]
pub(super) struct Read {
    pub(super) bytes: usize,
    pub(super) more: bool,
}

impl Key {
    /// What, with a fingerprint, tells its sources from all others.
    pub(super) fn text(&self) -> String {
        match self {
            Self::Container(container, attempt) => format!("{}/{}/{attempt}", container.pod.uid, container.name),
            Self::Host(path) => path.display().to_string(),
        }
    }
}

impl Log {
    pub(super) fn new(key: Key, names: Names, lane: LaneId, format: Format, common: [Vec<u8>; 3]) -> Self {
        Self {
            key,
            names,
            lane,
            format,
            common,
            files: VecDeque::new(),
            partials: [const { None }; 3],
            ended: false,
            held_back: false,
            idle_since: None,
            read_in: 0,
            last_time: 0,
            times: time::Parser::default(),
            is_listed: true,
            is_slow: false,
            rests_until: None,
        }
    }

    /// Whether it is the agent's own, and has been read enough for now.
    pub(super) fn rests(&self, now: Instant) -> bool {
        self.rests_until.is_some_and(|until| now < until)
    }

    pub(super) fn rest_after(&mut self, bytes: usize, now: Instant) {
        self.rests_until = self.is_slow.then(|| now + Duration::from_secs_f64(bytes as f64 / OWN_RATE));
    }

    /// Whether one of its files lies in `directory` or below.
    pub(super) fn lies_in(&self, directory: &Path) -> bool {
        self.files.iter().any(|file| file.path.starts_with(directory))
    }

    /// Reads lines until a quantum is used up, the lane is full, or there are no more.
    pub(super) fn read(&mut self, reading: &mut Reading<'_>) -> Read {
        let mut read = Read::default();
        let mut at = 0;
        while at < self.files.len() && reading.output.lanes.takes_records(self.lane) {
            if self.files[at].is_finished() {
                at += 1;
                continue;
            }
            match self.read_file(at, reading) {
                Ok(0) => {
                    self.tell_damage(at, reading);
                    if at + 1 < self.files.len() {
                        self.files[at].finished_at.get_or_insert(reading.output.now);
                    }
                    // The next file's lines come after the end of this one's, which is waited for.
                    if self.files[at].long.is_some() {
                        break;
                    }
                    at += 1;
                }
                Ok(bytes) => {
                    read.bytes += bytes;
                    if read.bytes >= reading.quantum {
                        read.more = true;
                        break;
                    }
                }
                Err(error) => {
                    self.say_unreadable(at, &error, reading.output.counts);
                    at += 1;
                }
            }
        }
        self.held_back = at < self.files.len() && !reading.output.lanes.takes_records(self.lane);
        if read.bytes > 0 || self.held_back {
            self.idle_since = None;
        } else {
            self.idle_since.get_or_insert(reading.output.now);
        }
        reading.output.counts.bytes += read.bytes as u64;
        read
    }

    /// Reads one buffer's worth of one file. Gives the bytes consumed; 0: no whole line is there.
    fn read_file(&mut self, at: usize, reading: &mut Reading<'_>) -> io::Result<usize> {
        let file = &mut self.files[at];
        if !file.identify(&self.key, StartFrom::Beginning, reading.known)? {
            return Ok(0);
        }
        let buffer = std::mem::take(&mut reading.buffer);
        let result = file.fill(buffer).map(|length| {
            let filled = &buffer[..length];
            let start = self.files[at].read;
            self.files[at].unreadable = false;
            let consumed = match memrchr(b'\n', filled) {
                Some(newline) => {
                    self.take_lines(at, &filled[..=newline], reading);
                    newline + 1
                }
                None if length == buffer.len() => self.take_long(at, filled, reading),
                None if self.files[at].is_complete && (length > 0 || self.files[at].long.is_some()) => {
                    self.take_line(at, filled, start, start + length as u64, reading);
                    length
                }
                None => 0,
            };
            self.files[at].read += consumed as u64;
            consumed
        });
        reading.buffer = buffer;
        result
    }

    fn take_lines(&mut self, at: usize, mut rest: &[u8], reading: &mut Reading<'_>) {
        let mut start = self.files[at].read;
        while let Some(newline) = memchr(b'\n', rest) {
            let end = start + newline as u64 + 1;
            self.take_line(at, &rest[..newline], start, end, reading);
            rest = &rest[newline + 1..];
            start = end;
        }
    }

    fn take_line(&mut self, at: usize, line: &[u8], start: u64, end: u64, reading: &mut Reading<'_>) {
        if let Some(long) = self.files[at].long.take() {
            return self.end_long(at, long, line, end, reading);
        }
        let line = if self.format != Format::Cri { line.strip_suffix(b"\r").unwrap_or(line) } else { line };
        if self.format == Format::Audit && self.take_event(at, line, start..end, reading) {
            return;
        }
        let Some((torn, piece)) = self.parse(at, line, start, end, reading) else { return };
        let start = start + torn as u64;
        if !self.is_wanted(at, &piece, start, end, reading) {
            return;
        }
        let stream = piece.stream;
        self.last_time = piece.time;
        if piece.partial || self.partials[stream as usize].is_some() || piece.content.len() > MAX_CONTENT {
            self.append(&piece, &mut reading.output);
            return self.end_piece(at, stream, piece.partial, start..end, &mut reading.output);
        }
        // By far the most lines.
        let record = Line {
            time_text: piece.time_text,
            time: piece.time,
            content: piece.content,
            common: &self.common[stream as usize],
            part: None,
        };
        reading.output.lanes.push(self.lane, &record, reading.output.now);
        let file = &mut self.files[at];
        let progress = &mut file.progress[stream as usize];
        reading.output.lanes.cover(self.lane, file.source, stream, progress, end, end - start);
        reading.output.lanes.cut_if_full(self.lane);
        reading.output.counts.lines += 1;
    }

    /// Takes a physical line apart, and tells how many bytes before it belong to no line; `None`, said and
    /// counted: none of it can be.
    fn parse<'a, 'r: 'a>(
        &mut self,
        at: usize,
        line: &'a [u8],
        start: u64,
        end: u64,
        reading: &mut Reading<'r>,
    ) -> Option<(usize, cri::Piece<'a>)> {
        if self.format != Format::Cri {
            let WallTime { ns: time, text: time_text } = reading.wall;
            return Some((0, cri::Piece { time_text, time, stream: Stream::Whole, partial: false, content: line }));
        }
        if let Some(piece) = cri::parse(line, &mut self.times) {
            return Some((0, piece));
        }
        let found = cri::resynchronise(line, &mut self.times);
        let torn = found.map_or(end, |(torn, _)| start + torn as u64);
        if self.pass_over(at, start..torn, Some(Abandoned::Torn), reading) {
            self.say_torn(at, start, torn - start, reading.output.counts);
        }
        found
    }

    /// Whether a piece is to be sent: it was not yet, and it is not too old.
    fn is_wanted(
        &mut self,
        at: usize,
        piece: &cri::Piece<'_>,
        start: u64,
        end: u64,
        reading: &mut Reading<'_>,
    ) -> bool {
        let is_covered = start < self.files[at].progress[piece.stream as usize].covered;
        let why = (!is_covered && piece.time < reading.since).then_some(Abandoned::TooOld);
        let wanted = !is_covered && why.is_none();
        if !wanted && self.pass_over(at, start..end, why, reading) {
            reading.output.counts.too_old += 1;
        }
        wanted
    }

    /// Accounts for bytes that are not sent: given up, or taken by an earlier run already. Gives `true`
    /// where they are given up now, and not read again.
    fn pass_over(&mut self, at: usize, range: Range<u64>, why: Option<Abandoned>, reading: &mut Reading<'_>) -> bool {
        let file = &mut self.files[at];
        let bytes = range.end - range.start;
        let is_new = why.is_some_and(|why| reading.known.abandon(file.source, range.end, bytes, why));
        if !is_new {
            file.ahead = file.ahead.saturating_sub(bytes);
        }
        is_new
    }

    fn say_unreadable(&mut self, at: usize, error: &io::Error, counts: &mut Counts) {
        let file = &mut self.files[at];
        // Once for each time that it begins: it is tried again at every pass.
        if !std::mem::replace(&mut file.unreadable, true) {
            tracing::error!(path = %file.path.display(), %error, "log file cannot be read, going on with the others");
            counts.unreadable += 1;
        }
    }

    fn say_torn(&self, at: usize, offset: u64, bytes: u64, counts: &mut Counts) {
        counts.torn += 1;
        counts.torn_bytes += bytes;
        // The first of a pass speaks for the rest: a torn file must not flood our own log.
        if counts.torn == 1 {
            tracing::warn!(
                path = %self.files[at].path.display(), offset, bytes,
                "not a line of a container runtime, stepping over it"
            );
        }
    }

    /// No file is left.
    pub(super) fn is_over(&self) -> bool {
        self.files.is_empty() && (matches!(self.key, Key::Container(..)) || !self.is_listed)
    }

    pub(super) fn sightings(&self) -> impl Iterator<Item = Sighting<'_>> {
        self.files.iter().flat_map(move |file| {
            file.ids().map(move |source| Sighting {
                source,
                log: &self.names.log,
                books: &self.names.books,
                path: &file.path,
                // What a truncated file was called first has no bytes of its own.
                size: if source == file.source { file.size } else { 0 },
                complete: file.is_complete && file.is_read_out(),
                fingerprint: file.fingerprint,
            })
        })
    }

    /// Lets go of the memory that inflating takes.
    pub(super) fn stop_inflating(&mut self) {
        self.files.iter_mut().filter_map(|file| file.content.as_mut()).for_each(Content::stop_inflating);
    }

    /// Whether a compressed file of its is being read.
    pub(super) fn is_inflating(&self) -> bool {
        self.files.iter().filter_map(|file| file.content.as_ref()).any(Content::is_inflating)
    }

    /// Bytes of lines that wait for their end.
    pub(super) fn waiting_bytes(&self) -> u64 {
        let long = |file: &LogFile| file.long.map_or(0, |long| file.read - long.start());
        self.partials.iter().flatten().map(Partial::bytes).sum::<u64>() + self.files.iter().map(long).sum::<u64>()
    }

    /// Bytes that are not read yet, less those that will be passed over.
    pub(super) fn to_read(&self) -> i128 {
        let to_read = |file: &LogFile| i128::from(file.size.saturating_sub(file.read)) - i128::from(file.ahead);
        self.files.iter().filter(|file| file.source != 0).map(to_read).sum()
    }

    /// How far streams are settled without a block that says so.
    pub(super) fn settled(&self, known: &dyn Known) -> Vec<(u64, Stream, u64)> {
        let mut settled = Vec::new();
        for file in self.files.iter().filter(|file| file.source != 0) {
            let stored = STREAMS.map(|stream| known.acknowledged(file.source, stream));
            let before = STREAMS.into_iter().zip(stored).filter(|(_, stored)| *stored < file.began);
            settled.extend(before.map(|(stream, _)| (file.source, stream, file.began)));
            if self.format == Format::Cri {
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
        let waits = self.partials[stream as usize].as_ref().is_some_and(|partial| partial.has_piece_in(file.source));
        !waits && own >= file.progress[stream as usize].covered && file.read >= other && other > own
    }

    pub(super) fn open_files(&self) -> usize {
        self.files.iter().filter(|file| file.content.is_some()).count()
    }

    pub(super) fn unread_bytes(&self) -> u64 {
        self.files.iter().map(|file| file.size.saturating_sub(file.read)).sum()
    }
}
