//! One logical log over its files: lines in order, partial lines joined for each stream, also over a
//! rotation.

use std::collections::VecDeque;
use std::io;
use std::path::Path;
use std::time::{Duration, Instant};

use memchr::{memchr, memrchr};
use sluice_wire::{Stream, time};

use super::counts::Counts;
use super::cut::{part_of, whole_characters};
use super::file::{Identity, LATE_BYTES, LogFile, LongLine, Opened};
use super::{Key, Known, StartFrom};
use crate::block::{LaneId, Lanes, MAX_CONTENT};
use crate::discover::layout::Age;
use crate::parse::cri;
use crate::record::Line;

/// How long the end of a container's last line may stay away before what there is goes as a line.
const LAST_WORDS: Duration = Duration::from_secs(5);

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
    times: time::Parser,
}

/// The beginning of a line whose end has not been read.
#[derive(Debug)]
struct Partial {
    content: Vec<u8>,
    time: i64,
    time_text: Vec<u8>,
    /// Where its pieces end, one for each file that has any.
    ends: Vec<(u64, u64)>,
    /// Parts that were sent ahead because it is too long.
    parts: u32,
    since: Instant,
}

/// What reading needs of the rest.
pub(super) struct Reading<'a> {
    pub(super) buffer: &'a mut [u8],
    pub(super) lanes: &'a mut Lanes,
    pub(super) counts: &'a mut Counts,
    pub(super) now: Instant,
    pub(super) wall_ns: i64,
    pub(super) since: i64,
    pub(super) quantum: usize,
}

#[derive(Debug, Default)]
pub(super) struct Read {
    pub(super) bytes: usize,
    pub(super) more: bool,
    /// Ended because the lane took no more.
    pub(super) held_back: bool,
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
            times: time::Parser::default(),
        }
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
                file.gone = false;
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
        }
        Ok(true)
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
        while at < self.files.len() && reading.lanes.takes_records(self.lane) {
            if self.files[at].is_finished(reading.now) {
                at += 1;
                continue;
            }
            match self.read_file(at, reading) {
                Ok(0) if at + 1 < self.files.len() => {
                    self.files[at].finished_at.get_or_insert(reading.now);
                    at += 1;
                }
                Ok(0) => break,
                Ok(bytes) => {
                    read.bytes += bytes;
                    if read.bytes >= reading.quantum {
                        read.more = true;
                        break;
                    }
                }
                Err(error) => {
                    tracing::error!(path = %self.files[at].path.display(), %error, "log file cannot be read, going on with the others");
                    reading.counts.unreadable += 1;
                    at += 1;
                }
            }
        }
        read.held_back = at < self.files.len() && !reading.lanes.takes_records(self.lane);
        reading.counts.bytes += read.bytes as u64;
        read
    }

    /// Reads one buffer's worth of one file. Gives the bytes consumed; 0: no whole line is there.
    fn read_file(&mut self, at: usize, reading: &mut Reading<'_>) -> io::Result<usize> {
        if !self.files[at].identify(&self.key, StartFrom::Beginning, &NothingKnown)? {
            return Ok(0);
        }
        let buffer = std::mem::take(&mut reading.buffer);
        let result = self.files[at].fill(buffer).map(|length| {
            let filled = &buffer[..length];
            let consumed = match memrchr(b'\n', filled) {
                Some(newline) => {
                    self.take_lines(at, &filled[..=newline], reading);
                    newline + 1
                }
                None if length == buffer.len() => self.take_long(at, filled, reading),
                None => 0,
            };
            self.files[at].read += consumed as u64;
            consumed
        });
        reading.buffer = buffer;
        result
    }

    fn take_lines(&mut self, at: usize, mut rest: &[u8], reading: &mut Reading<'_>) {
        let mut offset = self.files[at].read;
        while let Some(newline) = memchr(b'\n', rest) {
            let line = &rest[..newline];
            let end = offset + newline as u64 + 1;
            match self.files[at].long.take() {
                Some(long) => self.end_long(at, long, line, end, reading),
                None => self.take_line(at, line, offset, end, reading),
            }
            rest = &rest[newline + 1..];
            offset = end;
        }
    }

    fn take_line(&mut self, at: usize, line: &[u8], start: u64, end: u64, reading: &mut Reading<'_>) {
        if self.format == Format::Plain {
            if start >= self.files[at].progress[0].covered {
                let content = line.strip_suffix(b"\r").unwrap_or(line);
                self.emit_plain(at, content, end, reading);
            }
            return;
        }
        let piece = match cri::parse(line, &mut self.times) {
            Some(piece) => piece,
            None => match cri::resynchronise(line, &mut self.times) {
                Some((torn, piece)) => {
                    self.say_torn(at, start, torn, reading);
                    piece
                }
                None => return self.say_torn(at, start, line.len(), reading),
            },
        };
        let stream = piece.stream as usize;
        if start < self.files[at].progress[stream].covered {
            return;
        }
        if piece.time < reading.since {
            reading.counts.too_old += 1;
            return;
        }
        if !piece.partial && self.partials[stream].is_none() && piece.content.len() <= MAX_CONTENT {
            let record = Line {
                time_text: piece.time_text,
                time: piece.time,
                content: piece.content,
                common: &self.common[stream],
                part: None,
            };
            reading.lanes.push(self.lane, &record, reading.now);
            let file = &mut self.files[at];
            reading.lanes.cover(self.lane, file.source, piece.stream, &mut file.progress[stream], end);
            reading.lanes.cut_if_full(self.lane);
            reading.counts.lines += 1;
            return;
        }
        self.join(at, &piece, end, reading);
    }

    /// Adds a piece to its stream's partial line; a last one completes it.
    fn join(&mut self, at: usize, piece: &cri::Piece<'_>, end: u64, reading: &mut Reading<'_>) {
        let source = self.files[at].source;
        let partial = self.partials[piece.stream as usize].get_or_insert_with(|| Partial {
            content: Vec::new(),
            time: piece.time,
            time_text: piece.time_text.to_vec(),
            ends: Vec::new(),
            parts: 0,
            since: reading.now,
        });
        let mut content = piece.content;
        while partial.content.len() + content.len() > MAX_CONTENT {
            // Whole characters, so that a part is text where the line is.
            let room = whole_characters(content, MAX_CONTENT - partial.content.len());
            partial.content.extend_from_slice(&content[..room]);
            content = &content[room..];
            partial.parts += 1;
            if partial.parts == 1 {
                reading.counts.long += 1;
            }
            let record = Line {
                time_text: &partial.time_text,
                time: partial.time,
                content: &partial.content,
                common: &self.common[piece.stream as usize],
                part: Some(partial.parts),
            };
            reading.lanes.push(self.lane, &record, reading.now);
            reading.lanes.cut_if_full(self.lane);
            partial.content.clear();
        }
        partial.content.extend_from_slice(content);
        match partial.ends.last_mut() {
            Some(last) if last.0 == source => last.1 = end,
            _ => partial.ends.push((source, end)),
        }
        if !piece.partial {
            self.complete(piece.stream, reading);
        }
    }

    /// Puts a stream's partial line into its block, as it is, and covers all its pieces.
    fn complete(&mut self, stream: Stream, reading: &mut Reading<'_>) {
        let Some(partial) = self.partials[stream as usize].take() else { return };
        let record = Line {
            time_text: &partial.time_text,
            time: partial.time,
            content: &partial.content,
            common: &self.common[stream as usize],
            part: (partial.parts > 0).then_some(partial.parts + 1),
        };
        reading.lanes.push(self.lane, &record, reading.now);
        for (source, end) in partial.ends {
            if let Some(file) = self.files.iter_mut().find(|file| file.source == source) {
                reading.lanes.cover(self.lane, source, stream, &mut file.progress[stream as usize], end);
            }
        }
        reading.lanes.cut_if_full(self.lane);
        reading.counts.lines += 1;
    }

    fn emit_plain(&mut self, at: usize, content: &[u8], end: u64, reading: &mut Reading<'_>) {
        let mut time_text = Vec::with_capacity(30);
        time::write(reading.wall_ns, &mut time_text);
        let mut rest = content;
        let mut parts = 0;
        loop {
            let (head, tail) = rest.split_at(part_of(rest));
            parts += 1;
            let part = (parts > 1 || !tail.is_empty()).then_some(parts);
            let record =
                Line { time_text: &time_text, time: reading.wall_ns, content: head, common: &self.common[0], part };
            reading.lanes.push(self.lane, &record, reading.now);
            rest = tail;
            if rest.is_empty() {
                break;
            }
        }
        let file = &mut self.files[at];
        reading.lanes.cover(self.lane, file.source, Stream::Whole, &mut file.progress[0], end);
        reading.lanes.cut_if_full(self.lane);
        reading.counts.lines += 1;
    }

    /// A buffer full of one line: its content goes ahead in parts, what has no header is stepped over.
    /// The line is covered once its end is read; a restart in between sends the parts again.
    fn take_long(&mut self, at: usize, filled: &[u8], reading: &mut Reading<'_>) -> usize {
        let (mut long, content) = match self.files[at].long {
            Some(long) => (long, filled),
            None => {
                reading.counts.long += 1;
                match self.long_head(filled, reading) {
                    Some((head, content)) => (LongLine { head: Some(head), parts: 0 }, content),
                    None => {
                        tracing::warn!(
                            path = %self.files[at].path.display(), offset = self.files[at].read,
                            "a line without end and without the runtime's header, stepping over it"
                        );
                        reading.counts.torn += 1;
                        (LongLine { head: None, parts: 0 }, filled)
                    }
                }
            }
        };
        let content = &content[..whole_characters(content, content.len())];
        let consumed = content.as_ptr() as usize - filled.as_ptr() as usize + content.len();
        match long.head {
            Some((stream, time)) => self.emit_parts(stream, time, content, &mut long.parts, reading),
            None => reading.counts.torn_bytes += consumed as u64,
        }
        self.files[at].long = Some(long);
        consumed
    }

    fn long_head<'a>(&mut self, filled: &'a [u8], reading: &Reading<'_>) -> Option<((Stream, i64), &'a [u8])> {
        match self.format {
            Format::Plain => Some(((Stream::Whole, reading.wall_ns), filled)),
            Format::Cri => {
                let piece = cri::parse(filled, &mut self.times)?;
                Some(((piece.stream, piece.time), piece.content))
            }
        }
    }

    fn emit_parts(&mut self, stream: Stream, time: i64, content: &[u8], parts: &mut u32, reading: &mut Reading<'_>) {
        let mut time_text = Vec::with_capacity(30);
        time::write(time, &mut time_text);
        let mut rest = content;
        while !rest.is_empty() {
            let (head, tail) = rest.split_at(part_of(rest));
            *parts += 1;
            let record = Line {
                time_text: &time_text,
                time,
                content: head,
                common: &self.common[stream as usize],
                part: Some(*parts),
            };
            reading.lanes.push(self.lane, &record, reading.now);
            reading.lanes.cut_if_full(self.lane);
            rest = tail;
        }
    }

    fn end_long(&mut self, at: usize, mut long: LongLine, line: &[u8], end: u64, reading: &mut Reading<'_>) {
        let Some((stream, time)) = long.head else {
            reading.counts.torn_bytes += line.len() as u64 + 1;
            return;
        };
        self.emit_parts(stream, time, line, &mut long.parts, reading);
        let file = &mut self.files[at];
        reading.lanes.cover(self.lane, file.source, stream, &mut file.progress[stream as usize], end);
        reading.lanes.cut_if_full(self.lane);
        reading.counts.lines += 1;
    }

    fn say_torn(&self, at: usize, offset: u64, bytes: usize, reading: &mut Reading<'_>) {
        reading.counts.torn += 1;
        reading.counts.torn_bytes += bytes as u64;
        // The first of a pass speaks for the rest: a torn file must not flood our own log.
        if reading.counts.torn == 1 {
            tracing::warn!(
                path = %self.files[at].path.display(), offset, bytes,
                "not a line of a container runtime, stepping over it"
            );
        }
    }

    /// Closes and forgets what needs no more looking at.
    pub(super) fn clean_up(
        &mut self,
        lanes: &mut Lanes,
        known: &dyn Known,
        counts: &mut Counts,
        now: Instant,
        wall_ns: i64,
    ) {
        for file in &mut self.files {
            match file.look() {
                Ok(true) => {
                    tracing::warn!(path = %file.path.display(), "log file became shorter, reading it from its beginning");
                    counts.truncated += 1;
                }
                Ok(false) => {}
                Err(error) => tracing::debug!(path = %file.path.display(), %error, "log file cannot be looked at"),
            }
        }
        self.flush_last_words(lanes, counts, now, wall_ns);
        let last = self.files.len().saturating_sub(1);
        let may_grow = !self.ended && self.files.iter().any(|file| !file.gone);
        let waiting: Vec<u64> =
            self.partials.iter().flatten().flat_map(|partial| partial.ends.iter().map(|(source, _)| *source)).collect();
        for (at, file) in self.files.iter_mut().enumerate() {
            let over = match file.finished_at {
                Some(finished) => now.saturating_duration_since(finished) > LATE_BYTES,
                None => at == last && !may_grow && file.read >= file.size,
            };
            if over && file.file.is_some() && file.is_stored(known) && !waiting.contains(&file.source) {
                // A line without its newline that nobody will complete any more.
                let torn = file.size.saturating_sub(file.read);
                counts.torn += u64::from(torn > 0);
                counts.torn_bytes += torn;
                file.file = None;
            }
        }
        self.files.retain(|file| !(file.gone && file.file.is_none()));
    }

    /// A partial line of a container that has ended is a line (containerd writes the rest of a text
    /// without newline with tag `P` and nothing after it).
    fn flush_last_words(&mut self, lanes: &mut Lanes, counts: &mut Counts, now: Instant, wall_ns: i64) {
        let read_out = self.files.iter().all(|file| file.read >= file.size);
        let over = self.ended || self.files.iter().all(|file| file.gone);
        if !read_out || !over {
            return;
        }
        let mut reading = Reading { buffer: &mut [], lanes, counts, now, wall_ns, since: i64::MIN, quantum: 0 };
        for stream in [Stream::Stdout, Stream::Stderr] {
            let waited = |partial: &Partial| now.saturating_duration_since(partial.since) > LAST_WORDS;
            if self.partials[stream as usize].as_ref().is_some_and(waited) {
                self.complete(stream, &mut reading);
            }
        }
    }

    /// No file is left.
    pub(super) fn is_over(&self) -> bool {
        self.files.is_empty() && matches!(self.key, Key::Container(..))
    }

    pub(super) fn sources(&self) -> impl Iterator<Item = (u64, &Path)> {
        self.files.iter().filter(|file| file.source != 0).map(|file| (file.source, file.path.as_path()))
    }

    pub(super) fn settled(&self, known: &dyn Known) -> Vec<(u64, Stream, u64)> {
        if self.format == Format::Plain {
            return Vec::new();
        }
        let mut settled = Vec::new();
        for file in self.files.iter().filter(|file| file.source != 0) {
            let stored = [Stream::Stdout, Stream::Stderr].map(|stream| known.acknowledged(file.source, stream));
            for (this, stream) in [Stream::Stdout, Stream::Stderr].into_iter().enumerate() {
                let waits = self.partials[stream as usize]
                    .as_ref()
                    .is_some_and(|partial| partial.ends.iter().any(|(source, _)| *source == file.source));
                let all_stored = stored[this] >= file.progress[stream as usize].covered;
                // Everything up to what the other stream has stored was read, by this run, and all that
                // this one had in it is stored.
                if !waits && all_stored && file.read >= stored[1 - this] && stored[1 - this] > stored[this] {
                    settled.push((file.source, stream, stored[1 - this]));
                }
            }
        }
        settled
    }

    pub(super) fn open_files(&self) -> usize {
        self.files.iter().filter(|file| file.file.is_some()).count()
    }

    pub(super) fn unread_bytes(&self) -> u64 {
        self.files.iter().map(|file| file.size.saturating_sub(file.read)).sum()
    }
}

/// For a file that grew its first line after it was opened: nothing is known of it.
struct NothingKnown;

impl Known for NothingKnown {
    fn covered(&self, _: u64, _: Stream) -> u64 {
        0
    }

    fn acknowledged(&self, _: u64, _: Stream) -> u64 {
        0
    }
}
