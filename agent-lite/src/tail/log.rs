//! One logical log over its files: lines in order, partial lines joined for each stream, also over a
//! rotation.

use std::collections::VecDeque;
use std::io;
use std::path::Path;
use std::time::Instant;

use memchr::{memchr, memrchr};
use sluice_wire::{Stream, time};

use super::counts::Counts;
use super::file::{Identity, LATE_BYTES, LATE_HOST_BYTES, LogFile, LongLine, Opened};
use super::{Key, Known, StartFrom};
use crate::block::{LaneId, Lanes, MAX_CONTENT};
use crate::discover::layout::Age;
use crate::parse::cri;
use crate::record::Line;

const STREAMS: [Stream; 3] = [Stream::Whole, Stream::Stdout, Stream::Stderr];

mod join;

use join::{LAST_WORDS, Partial};

/// How lines are taken apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Format {
    /// A container runtime's.
    Cri,
    /// Each line is a message; its time is when it was read.
    Plain,
}

#[derive(Debug)]
pub(super) struct Log {
    pub(super) key: Key,
    pub(super) lane: LaneId,
    format: Format,
    /// What records have in common, by stream.
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
    times: time::Parser,
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
    pub(super) known: &'a dyn Known,
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
    pub(super) fn new(key: Key, lane: LaneId, format: Format, common: [Vec<u8>; 3]) -> Self {
        Self {
            key,
            lane,
            format,
            common,
            files: VecDeque::new(),
            partials: [const { None }; 3],
            ended: false,
            held_back: false,
            idle_since: None,
            read_in: 0,
            times: time::Parser::default(),
        }
    }

    /// Whether one of its files lies in `directory` or below.
    pub(super) fn lies_in(&self, directory: &Path) -> bool {
        self.files.iter().any(|file| file.path.starts_with(directory))
    }

    /// Makes the file at `path` one of the log's, in its place.
    pub(super) fn take_up(
        &mut self,
        path: &Path,
        age: &Age,
        start: StartFrom,
        known: &dyn Known,
    ) -> io::Result<Opened> {
        let Some((identity, size)) = LogFile::identity_of(path)? else { return Ok(Opened::Gone) };
        if let Some(at) = self.files.iter().position(|file| file.identity == identity) {
            // An inode is not given to another file while it is open; once it is closed it may be.
            let file = &self.files[at];
            let suspicious = file.file.is_none() && (file.path != path || file.size != size);
            if !suspicious || self.is_still(at, path, age, known)? {
                let file = &mut self.files[at];
                if file.path != path {
                    path.clone_into(&mut file.path);
                }
                file.age.clone_from(age);
                if std::mem::take(&mut file.gone) {
                    // It was away for a moment only.
                    file.is_complete &= file.finished_at.is_some();
                }
                file.size = size;
                self.files.make_contiguous().sort_by(|a, b| a.age.cmp(&b.age));
                return Ok(Opened::Known(identity));
            }
            self.files.remove(at);
        }
        let Some(mut file) = LogFile::open(path, age)? else { return Ok(Opened::Gone) };
        file.identify(&self.key, start, known)?;
        let identity = file.identity;
        self.files.push_back(file);
        self.files.make_contiguous().sort_by(|a, b| a.age.cmp(&b.age));
        Ok(Opened::New(identity))
    }

    /// Whether a closed file is what `path` leads to; opens it again where it grew after all.
    fn is_still(&mut self, at: usize, path: &Path, age: &Age, known: &dyn Known) -> io::Result<bool> {
        let Some(mut candidate) = LogFile::open(path, age)? else { return Ok(false) };
        candidate.identify(&self.key, StartFrom::Beginning, known)?;
        let file = &mut self.files[at];
        if candidate.source != file.source || candidate.size < file.read {
            return Ok(false);
        }
        if candidate.size > file.read {
            file.file = candidate.file;
            file.finished_at = None;
            file.is_complete = false;
        }
        Ok(true)
    }

    /// The file that was last seen at `path`.
    pub(super) fn identity_at(&self, path: &Path) -> Option<Identity> {
        self.files.iter().find(|file| file.path == path).map(|file| file.identity)
    }

    /// Notes which of its files are still listed.
    pub(super) fn keep_only(&mut self, present: &[Identity]) {
        for file in &mut self.files {
            file.gone = !present.contains(&file.identity);
        }
    }

    /// A host log's path now leads to `present`: the files before it were renamed or removed.
    pub(super) fn supersede(&mut self, present: Identity) {
        let mut order = 0_u32;
        for file in &mut self.files {
            if file.identity != present {
                file.gone = true;
                file.age = Age::Rotated(format!("{order:08}").into());
                order += 1;
            }
        }
        self.files.make_contiguous().sort_by(|a, b| a.age.cmp(&b.age));
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
            return self.end_long(at, long, line, end, &mut reading.output);
        }
        let line = if self.format == Format::Plain { line.strip_suffix(b"\r").unwrap_or(line) } else { line };
        let Some(piece) = self.parse(at, line, start, reading) else { return };
        if !self.is_wanted(at, &piece, start, reading) {
            return;
        }
        let stream = piece.stream;
        if piece.partial || self.partials[stream as usize].is_some() || piece.content.len() > MAX_CONTENT {
            self.append(&piece, &mut reading.output);
            return self.end_piece(at, stream, piece.partial, end, &mut reading.output);
        }
        // By far the most lines.
        let record = Line {
            time_text: piece.time_text,
            time: piece.time,
            content: piece.content,
            common: &self.common[stream as usize],
            part: None,
            parsed: None,
        };
        reading.output.lanes.push(self.lane, &record, reading.output.now);
        let file = &mut self.files[at];
        reading.output.lanes.cover(self.lane, file.source, stream, &mut file.progress[stream as usize], end);
        reading.output.lanes.cut_if_full(self.lane);
        reading.output.counts.lines += 1;
    }

    /// Takes a physical line apart; `None`, said and counted: it cannot be.
    fn parse<'a, 'r: 'a>(
        &mut self,
        at: usize,
        line: &'a [u8],
        start: u64,
        reading: &mut Reading<'r>,
    ) -> Option<cri::Piece<'a>> {
        if self.format == Format::Plain {
            let WallTime { ns: time, text: time_text } = reading.wall;
            return Some(cri::Piece { time_text, time, stream: Stream::Whole, partial: false, content: line });
        }
        if let Some(piece) = cri::parse(line, &mut self.times) {
            return Some(piece);
        }
        let found = cri::resynchronise(line, &mut self.times);
        let torn = found.map_or(line.len(), |(torn, _)| torn);
        self.say_torn(at, start, torn, reading);
        found.map(|(_, piece)| piece)
    }

    /// Whether a piece that begins at `start` is to be sent: it was not yet, and it is not too old.
    fn is_wanted(&self, at: usize, piece: &cri::Piece<'_>, start: u64, reading: &mut Reading<'_>) -> bool {
        if start < self.files[at].progress[piece.stream as usize].covered {
            return false;
        }
        let too_old = piece.time < reading.since;
        reading.output.counts.too_old += u64::from(too_old);
        !too_old
    }

    fn say_unreadable(&mut self, at: usize, error: &io::Error, counts: &mut Counts) {
        let file = &mut self.files[at];
        // Once for each time that it begins: it is tried again at every pass.
        if !std::mem::replace(&mut file.unreadable, true) {
            tracing::error!(path = %file.path.display(), %error, "log file cannot be read, going on with the others");
            counts.unreadable += 1;
        }
    }

    fn say_torn(&self, at: usize, offset: u64, bytes: usize, reading: &mut Reading<'_>) {
        reading.output.counts.torn += 1;
        reading.output.counts.torn_bytes += bytes as u64;
        // The first of a pass speaks for the rest: a torn file must not flood our own log.
        if reading.output.counts.torn == 1 {
            tracing::warn!(
                path = %self.files[at].path.display(), offset, bytes,
                "not a line of a container runtime, stepping over it"
            );
        }
    }

    /// Closes and forgets what needs no more looking at.
    pub(super) fn clean_up(&mut self, known: &mut dyn Known, output: &mut Output<'_>) {
        for at in 0..self.files.len() {
            match self.files[at].has_shrunk() {
                Ok(true) => self.begin_anew(at, known, output),
                Ok(false) => {}
                Err(error) => {
                    tracing::debug!(path = %self.files[at].path.display(), %error, "log file cannot be looked at");
                }
            }
        }
        let (late, patience) = match self.format {
            Format::Cri => (LATE_BYTES, LAST_WORDS),
            Format::Plain => (LATE_HOST_BYTES, LATE_HOST_BYTES),
        };
        let over = self.ended || self.files.iter().all(|file| file.gone);
        let idle = self.idle_since.is_some_and(|since| output.now.saturating_duration_since(since) > patience);
        // What has no newline is read first: it may be the end of a line that waits.
        if over && idle && self.files.iter().all(|file| file.is_read_out() || file.unreadable) {
            self.flush_last_words(output);
        }
        let last = self.files.len().saturating_sub(1);
        for (at, file) in self.files.iter_mut().enumerate() {
            file.is_complete |= match file.finished_at {
                Some(finished) => output.now.saturating_duration_since(finished) > late,
                None => at == last && over && idle,
            };
            if file.is_complete && file.is_read_out() && file.is_stored(known) {
                file.file = None;
            }
        }
        self.files.retain(|file| !(file.gone && file.file.is_none()));
    }

    fn begin_anew(&mut self, at: usize, known: &mut dyn Known, output: &mut Output<'_>) {
        let path = self.files[at].path.display();
        tracing::warn!(%path, "log file became shorter, reading it from its beginning");
        output.counts.truncated += 1;
        let file = &self.files[at];
        let long = if let Some(LongLine::Taken { stream, .. }) = file.long { Some(stream) } else { None };
        for stream in STREAMS {
            // The rest of a line that was begun in it is gone.
            let waits_here =
                |partial: &Partial| partial.ends.last().is_some_and(|(source, _)| *source == self.files[at].source);
            if long == Some(stream) || self.partials[stream as usize].as_ref().is_some_and(waits_here) {
                self.complete(stream, output);
            }
        }
        self.files[at].begin_anew(known);
    }

    /// No file is left.
    pub(super) fn is_over(&self) -> bool {
        self.files.is_empty() && matches!(self.key, Key::Container(..))
    }

    pub(super) fn sources(&self) -> impl Iterator<Item = (u64, &Path)> {
        self.files.iter().flat_map(|file| file.ids().map(|id| (id, file.path.as_path())))
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
        let waits_in_it = |partial: &Partial| partial.ends.iter().any(|(source, _)| *source == file.source);
        let waits = self.partials[stream as usize].as_ref().is_some_and(waits_in_it);
        !waits && own >= file.progress[stream as usize].covered && file.read >= other && other > own
    }

    pub(super) fn open_files(&self) -> usize {
        self.files.iter().filter(|file| file.file.is_some()).count()
    }

    pub(super) fn unread_bytes(&self) -> u64 {
        self.files.iter().map(|file| file.size.saturating_sub(file.read)).sum()
    }
}
