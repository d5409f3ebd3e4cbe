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

use super::books::{Abandoned, Gap};
use super::content::Content;
use super::counts::Counts;
use super::file::LogFile;
use super::share::Share;
use super::treat::{Treatment, Workshop};
use super::{Key, Known, StartFrom};
use crate::block::{LaneId, Lanes, MAX_CONTENT};
use crate::enrich::PodInfo;
use crate::parse::multiline::State;
use crate::parse::{Piece, Runtime, cri, docker};
use crate::record::Line;

/// So long after its last line a log is not read until its size says that there is more.
const QUIET: Duration = Duration::from_secs(10);

const STREAMS: [Stream; 3] = [Stream::Whole, Stream::Stdout, Stream::Stderr];

mod account;
mod audit;
mod follow;
mod gap;
mod join;
mod pod;
mod stop;

use join::Pending;

/// How lines are taken apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Format {
    /// A container runtime's: which one, its files tell.
    Container,
    /// Each line is a message; its time is when it was read.
    Plain,
    /// Each line is an event of the API server's, which has its own time; what is none is a message.
    Audit,
}

/// Whether a log's lane is what it will be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Certainty {
    /// The labels of its pod decide, and nothing goes into a lane before.
    Open,
    /// By its names, unless blocks of an earlier run say otherwise: nothing was put into it yet.
    ByNames,
    /// For its life.
    Fixed,
}

#[derive(Debug)]
pub(super) struct Log {
    pub(super) key: Key,
    pub(super) names: Names,
    pub(super) lane: LaneId,
    pub(super) certainty: Certainty,
    /// Gaps that are told once the lane is chosen.
    untold: Vec<Gap>,
    format: Format,
    /// What records have in common, by stream; [`Stream::Whole`]: what is said of no stream.
    common: [Vec<u8>; 3],
    /// How much of that does not come from the pod's metadata.
    own_common: [usize; 3],
    pub(super) treatment: Treatment,
    /// What is known of its pod.
    pub(super) pod: Option<Arc<PodInfo>>,
    /// Since when it waits for that: it is not read before it is known, or has been waited for.
    waits_since: Option<Instant>,
    is_asked_about: bool,
    pub(super) share: Share,
    /// Bytes that may be read in this turn; below 0: what the last turn took too much.
    deficit: isize,
    /// In the middle of a line that is dropped, by stream.
    dropping: [bool; 3],
    /// Messages since the one that was sent last of those that are sampled, by stream.
    skipped: [u32; 3],
    /// In order; the live one last.
    files: VecDeque<LogFile>,
    pending: [Option<Pending>; 3],
    /// Where each stream stands in a message of several lines.
    pub(super) multiline: [State; 3],
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
}

/// What a log is called outside of its room.
#[derive(Debug, Clone)]
pub(super) struct Names {
    /// The path of its live file.
    pub(super) log: Arc<str>,
    /// Whose books it counts in: category and namespace or unit, `application/default`; empty: not chosen yet.
    pub(super) books: Arc<str>,
}

/// Where lines go.
pub(super) struct Output<'a> {
    pub(super) lanes: &'a mut Lanes,
    pub(super) counts: &'a mut Counts,
    pub(super) workshop: &'a mut Workshop,
    pub(super) now: Instant,
}

impl Output<'_> {
    /// Treats a message and puts it into its lane. Gives its records; `None`: a rule drops such messages.
    fn send(&mut self, treatment: &Treatment, stream: Stream, lane: LaneId, line: Line<'_>) -> Option<u32> {
        self.workshop.send(treatment, stream, lane, line, self.lanes, self.now)
    }
}

/// What reading needs of the rest.
pub(super) struct Reading<'a> {
    pub(super) output: Output<'a>,
    pub(super) buffer: &'a mut [u8],
    pub(super) known: &'a mut dyn Known,
    pub(super) wall: WallTime<'a>,
    pub(super) since: i64,
    pub(super) quantum: usize,
    /// For content that does not stand in the file as it reads.
    pub(super) scratch: Vec<u8>,
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

/// What one buffer's worth of a file gave.
#[derive(Debug, Default)]
struct Taken {
    /// Consumed; 0: no whole line is there.
    bytes: usize,
    /// The file was no longer than that.
    is_end: bool,
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
    pub(super) fn new(
        key: Key,
        names: Names,
        lane: LaneId,
        format: Format,
        common: [Vec<u8>; 3],
        treatment: Treatment,
        share: Share,
    ) -> Self {
        Self {
            key,
            names,
            lane,
            certainty: Certainty::Fixed,
            untold: Vec::new(),
            format,
            own_common: [0, 1, 2].map(|stream| common[stream].len()),
            common,
            treatment,
            pod: None,
            waits_since: None,
            is_asked_about: false,
            share,
            deficit: 0,
            dropping: [false; 3],
            skipped: [u32::MAX; 3],
            files: VecDeque::new(),
            pending: [const { None }; 3],
            multiline: [State::default(); 3],
            ended: false,
            held_back: false,
            idle_since: None,
            read_in: 0,
            last_time: 0,
            times: time::Parser::default(),
            is_listed: true,
        }
    }

    /// The namespace or unit of its lane.
    pub(super) fn scope(&self) -> &str {
        match &self.key {
            Key::Container(container, _) => &container.pod.namespace,
            Key::Host(_) => self.names.books.split_once('/').map_or("", |(_, unit)| unit),
        }
    }

    /// Whether one of its files lies in `directory` or below.
    pub(super) fn lies_in(&self, directory: &Path) -> bool {
        self.files.iter().any(|file| file.path.starts_with(directory))
    }

    /// The time of the last line that was read, nanoseconds of the epoch; 0: of none.
    pub(super) fn last_time(&self) -> i64 {
        self.last_time
    }

    /// Its sources, as far as their first lines are whole.
    pub(super) fn sources(&self) -> impl Iterator<Item = u64> {
        self.files.iter().flat_map(LogFile::ids)
    }

    /// Whether it holds files that were deleted and are not read yet: their room on the disk is wanted.
    pub(super) fn is_urgent(&self) -> bool {
        self.files.iter().any(|file| file.gone.is_some() && file.content.is_some() && !file.is_read_out())
    }

    /// Reads lines until its turn is over, the lane is full, or there are no more.
    pub(super) fn read(&mut self, reading: &mut Reading<'_>) -> Read {
        let mut read = Read::default();
        if self.waits_since.is_some() || self.is_quiet(reading.output.now) {
            return read;
        }
        self.deficit = self.deficit.min(0).saturating_add_unsigned(self.share.turn(reading.quantum));
        let mut at = 0;
        while at < self.files.len() && self.may_read_on(at, reading) {
            if self.files[at].is_finished() {
                at += 1;
                continue;
            }
            // In order also where only what is gone is read: what stands before it waits, and so does it.
            if !reading.output.lanes.takes_lines(self.lane, self.files[at].cannot_wait()) {
                break;
            }
            match self.read_file(at, reading) {
                Ok(Taken { bytes: 0, .. }) => {
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
                Ok(Taken { bytes, is_end }) => {
                    let is_last = at + 1 == self.files.len();
                    let file = &mut self.files[at];
                    if !file.is_complete {
                        // Somebody still writes to it.
                        file.finished_at = None;
                    }
                    self.certainty = Certainty::Fixed;
                    read.bytes += bytes;
                    self.share.spend(bytes);
                    self.deficit = self.deficit.saturating_sub_unsigned(bytes);
                    // By far the most reads: another one would find nothing.
                    let is_over = is_end && is_last && !file.is_complete && file.long.is_none();
                    at += usize::from(is_over);
                    read.more = self.deficit <= 0 && !is_over;
                }
                Err(error) => {
                    self.say_unreadable(at, &error, reading.output.counts);
                    at += 1;
                }
            }
        }
        let has_more = at < self.files.len();
        self.held_back = has_more && !reading.output.lanes.takes_records(self.lane);
        if !has_more {
            self.share.caught_up();
            // Only now is it known that the stream fell silent: the next line may have been in the file for long.
            self.complete_old(&mut reading.output);
        }
        if read.bytes > 0 || has_more {
            self.idle_since = None;
        } else {
            self.idle_since.get_or_insert(reading.output.now);
        }
        reading.output.counts.bytes += read.bytes as u64;
        read
    }

    /// Whether nothing came for a while, nothing waits, and its files were no longer than what was read when
    /// their sizes were looked at last, which is once a second: most logs of a node are not read in most passes.
    fn is_quiet(&self, now: Instant) -> bool {
        let is_idle = self.idle_since.is_some_and(|since| now.saturating_duration_since(since) >= QUIET);
        let last = self.files.len().saturating_sub(1);
        let is_read = |(at, file): (usize, &LogFile)| {
            let is_known = file.source != 0 || file.size == 0;
            is_known && !file.cannot_wait() && (file.is_finished() || (at == last && file.is_read_out()))
        };
        is_idle && self.pending.iter().all(Option::is_none) && self.files.iter().enumerate().all(is_read)
    }

    /// What is gone is read at once, whatever limit its pod has: it takes room on the disk.
    fn may_read_on(&self, at: usize, reading: &Reading<'_>) -> bool {
        self.deficit > 0 && (self.files[at].cannot_wait() || self.share.may_read(reading.output.now))
    }

    /// Reads one buffer's worth of one file.
    fn read_file(&mut self, at: usize, reading: &mut Reading<'_>) -> io::Result<Taken> {
        let file = &mut self.files[at];
        if !file.identify(&self.key, StartFrom::Beginning, reading.known)? {
            return Ok(Taken::default());
        }
        if self.treatment.excludes_all() {
            self.skip(at, reading);
            return Ok(Taken::default());
        }
        let buffer = std::mem::take(&mut reading.buffer);
        let result = file.fill(buffer).map(|length| {
            let filled = &buffer[..length];
            let start = self.files[at].read;
            // What is damaged is so once, whatever is asked of it again.
            self.files[at].unreadable &= length == 0;
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
            let file = &mut self.files[at];
            file.read += consumed as u64;
            let is_compressed = file.content.as_ref().is_some_and(Content::is_compressed);
            Taken { bytes: consumed, is_end: length < buffer.len() && !is_compressed }
        });
        reading.buffer = buffer;
        result
    }

    /// Goes to the end of a file of which nothing is shipped, without reading it.
    fn skip(&mut self, at: usize, reading: &mut Reading<'_>) {
        // Also of a line that is longer than the buffer what was read of it is accounted for.
        self.end_lines_of(at, &mut *reading.known, &mut reading.output);
        STREAMS.into_iter().for_each(|stream| self.complete(stream, &mut reading.output));
        self.dropping = [false; 3];
        let file = &mut self.files[at];
        let (from, to) = (file.read, file.size);
        let bytes = to.saturating_sub(from).saturating_sub(file.ahead);
        file.read = to.max(from);
        file.ahead = 0;
        if bytes > 0 {
            self.leave_out(at, Stream::Stdout, to - bytes..to, Abandoned::Excluded);
            self.leave_out(at, Stream::Stderr, to..to, Abandoned::Excluded);
        }
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
        let line = if self.format == Format::Container { line } else { line.strip_suffix(b"\r").unwrap_or(line) };
        if self.format == Format::Audit && self.take_event(at, line, start..end, reading) {
            return;
        }
        let mut scratch = std::mem::take(&mut reading.scratch);
        if let Some((torn, piece)) = self.parse(at, line, start..end, &mut scratch, reading) {
            self.take_piece(at, &piece, start + torn as u64..end, reading);
        }
        reading.scratch = scratch;
    }

    fn take_piece(&mut self, at: usize, piece: &Piece<'_>, range: Range<u64>, reading: &mut Reading<'_>) {
        if !self.is_wanted(at, piece, &range, reading) || self.is_left_out(at, piece, &range, reading) {
            return;
        }
        let stream = piece.stream;
        self.last_time = piece.time;
        let is_alone = !self.is_open(stream) && self.begin_line(piece, &mut reading.output);
        if !is_alone || piece.partial || piece.content.len() > MAX_CONTENT {
            self.append(piece, &mut reading.output);
            return self.end_piece(at, stream, piece.partial, range, &mut reading.output);
        }
        if !self.is_in_sample(stream) {
            reading.output.counts.dropped += 1;
            return self.leave_out(at, stream, range, Abandoned::Sampled);
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
        reading.output.counts.lines += 1;
        if reading.output.send(&self.treatment, stream, self.lane, record).is_none() {
            return self.leave_out(at, stream, range, Abandoned::Redacted);
        }
        let file = &mut self.files[at];
        let portion = file.portion(stream, range.end - range.start);
        let progress = &mut file.progress[stream as usize];
        reading.output.lanes.cover(self.lane, file.source, stream, progress, range.end, portion);
        reading.output.lanes.cut_if_full(self.lane);
    }

    /// Takes a physical line apart, and tells how many bytes before it belong to no line; `None`, said and
    /// counted: none of it can be.
    fn parse<'a, 'r: 'a>(
        &mut self,
        at: usize,
        line: &'a [u8],
        range: Range<u64>,
        scratch: &'a mut Vec<u8>,
        reading: &mut Reading<'r>,
    ) -> Option<(usize, Piece<'a>)> {
        if self.format != Format::Container {
            let WallTime { ns: time, text: time_text } = reading.wall;
            return Some((0, Piece { time_text, time, stream: Stream::Whole, partial: false, content: line }));
        }
        let file = &mut self.files[at];
        if !file.has_shown_runtime {
            file.look_for_runtime(line);
        }
        let found = match file.runtime {
            Runtime::Cri => match cri::parse(line, &mut self.times) {
                // By far the most lines.
                Some(piece) => return Some((0, piece)),
                None => cri::resynchronise(line, &mut self.times),
            },
            Runtime::Docker => match docker::parse_or_resynchronise(line, scratch, &mut self.times) {
                Some((0, piece)) => return Some((0, piece)),
                found => found,
            },
        };
        let torn = found.map_or(range.end, |(torn, _)| range.start + torn as u64);
        if self.pass_over(at, range.start..torn, Some(Abandoned::Torn), reading) {
            self.say_torn(at, range.start, torn - range.start, reading.output.counts);
        }
        found
    }

    /// Whether a piece is to be sent: it was not yet, and it is not too old.
    fn is_wanted(&mut self, at: usize, piece: &Piece<'_>, range: &Range<u64>, reading: &mut Reading<'_>) -> bool {
        let is_covered = range.start < self.files[at].progress[piece.stream as usize].covered;
        let why = (!is_covered && piece.time < reading.since).then_some(Abandoned::TooOld);
        let wanted = !is_covered && why.is_none();
        if !wanted && self.pass_over(at, range.clone(), why, reading) {
            reading.output.counts.too_old += 1;
        }
        wanted
    }

    /// Whether a piece is not sent because its pod wants it so, or has written too much.
    fn is_left_out(&mut self, at: usize, piece: &Piece<'_>, range: &Range<u64>, reading: &mut Reading<'_>) -> bool {
        let why = self.why_left_out(piece, range.end - range.start, reading);
        if let Some(why) = why {
            self.leave_out(at, piece.stream, range.clone(), why);
        }
        why.is_some()
    }

    /// Why a piece of so many bytes is not sent, if it is not: with a line's first piece go all.
    fn why_left_out(&mut self, piece: &Piece<'_>, bytes: u64, reading: &mut Reading<'_>) -> Option<Abandoned> {
        let stream = piece.stream as usize;
        let excluded = self.treatment.of(piece.stream).exclude;
        let goes_on = self.is_open(piece.stream);
        let dropped = self.dropping[stream] || (!goes_on && !excluded && !self.share.admits(bytes));
        self.dropping[stream] = dropped && piece.partial;
        if !dropped && !excluded {
            if goes_on {
                self.share.owe(bytes);
            }
            return None;
        }
        // What is left out is decided with the line that follows: nothing before it may still wait.
        self.complete(piece.stream, &mut reading.output);
        reading.output.counts.dropped += u64::from(dropped);
        Some(if excluded { Abandoned::Excluded } else { Abandoned::OverBudget })
    }

    /// Whether the message that begins is sent, where its pod wants one in so many: the first is.
    fn is_in_sample(&mut self, stream: Stream) -> bool {
        let one_in = self.treatment.of(stream).sample;
        // By far the most lines.
        if one_in <= 1 {
            return true;
        }
        let skipped = &mut self.skipped[stream as usize];
        let is_in = *skipped >= one_in - 1;
        *skipped = if is_in { 0 } else { *skipped + 1 };
        is_in
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

    /// No file is left, and nothing to be told.
    pub(super) fn is_over(&self) -> bool {
        self.files.is_empty() && self.untold.is_empty() && (matches!(self.key, Key::Container(..)) || !self.is_listed)
    }

    /// The sources that are still to be found in a directory.
    pub(super) fn existing(&self) -> impl Iterator<Item = u64> {
        self.files.iter().filter(|file| file.gone.is_none()).map(|file| file.source).filter(|source| *source != 0)
    }

    /// Lets go of the memory that inflating takes.
    pub(super) fn stop_inflating(&mut self) {
        self.files.iter_mut().filter_map(|file| file.content.as_mut()).for_each(Content::stop_inflating);
    }

    /// Whether the next of its files to be read is a compressed one.
    pub(super) fn is_to_inflate(&self) -> bool {
        let next = self.files.iter().find(|file| !file.is_finished());
        next.and_then(|file| file.content.as_ref()).is_some_and(Content::is_compressed)
    }

    /// Whether a compressed file of its is being read.
    pub(super) fn is_inflating(&self) -> bool {
        self.files.iter().filter_map(|file| file.content.as_ref()).any(Content::is_inflating)
    }

    pub(super) fn open_files(&self) -> usize {
        self.files.iter().filter(|file| file.content.is_some()).count()
    }
}
