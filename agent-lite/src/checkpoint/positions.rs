//! How far every source is stored, and what became of its bytes.

use std::cmp::Reverse;
use std::collections::{BTreeMap, HashMap};
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use sluice_wire::{Category, Position, Stream};

use super::chosen::Chosen;
use crate::block::Portion;
use crate::tail::{Abandoned, Attempts, Dropped, Gap, Known, LEFT_OUT, LeftBehind, Reached, Sighting};

mod forget;
mod gaps;

#[cfg(test)]
pub(super) use forget::{FORGET_AFTER, MAX_MISSED};

/// How far every source is stored, by source and stream, and every log's account.
#[derive(Debug, Default)]
pub struct Positions {
    sources: HashMap<u64, Source>,
    /// Beyond what is stored, in blocks of the ring.
    in_ring: HashMap<(u64, Stream), u64>,
    /// Bytes of sources that those blocks hold.
    in_ring_bytes: HashMap<u64, u64>,
    /// What files came to that are forgotten, by log.
    closed: BTreeMap<Arc<str>, Closed>,
    gaps: Vec<Gap>,
    chosen: Chosen,
    /// The containers that were met; `None`: nothing is known of them.
    containers: Option<Attempts>,
    /// In place of [`FORGET_AFTER`].
    forget_after: Option<u32>,
}

/// A source, as it is kept over restarts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Source {
    pub(super) id: u64,
    log: Arc<str>,
    /// Empty: its log's category is not chosen yet.
    books: Arc<str>,
    path: Arc<Path>,
    /// Whole, stdout, stderr.
    stored: [u64; 3],
    /// How often the file was truncated that had this id first.
    #[serde(default, skip_serializing_if = "is_zero")]
    truncations: u32,
    /// Nobody will write to it any more.
    #[serde(default, skip_serializing_if = "is_zero")]
    complete: bool,
    /// That it cannot be inflated to its end was told.
    #[serde(default, skip_serializing_if = "is_zero")]
    damaged: bool,
    #[serde(flatten)]
    account: Account,
    /// Of a host file's first line: a compressed copy of it is another file with the same one.
    #[serde(default, skip_serializing_if = "is_zero")]
    fingerprint: u64,
    /// How many older files its log had when it was seen last.
    #[serde(default, skip_serializing_if = "is_zero")]
    place: u32,
    /// Abandoned bytes are booked up to here.
    #[serde(default, skip_serializing_if = "is_zero")]
    booked: u64,
    /// All of its lines before this are stored, nanoseconds of the epoch; 0: not known.
    #[serde(default, skip_serializing_if = "is_zero")]
    since: i64,
    /// Up to where it was read at some earlier look, and which time the last line before that had.
    #[serde(skip)]
    mark: (u64, i64),
    /// What was dropped of it and not told yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    dropped: Option<Dropped>,
    /// The same of what was no sample.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    sampled: Option<Dropped>,
    /// Looks in a row that did not find it.
    #[serde(skip)]
    unseen: u32,
    /// It was found in this run.
    #[serde(skip)]
    is_met: bool,
    /// It was given to be told of as gone.
    #[serde(skip)]
    is_told: bool,
}

/// What became of the bytes of a file, or of all files of a log: `written = acknowledged + abandoned +`
/// what is unread or on its way.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Account {
    /// Bytes on the disk, as far as was seen; of a compressed file, inflated.
    pub written: u64,
    /// Bytes of lines that a gateway has stored.
    pub acknowledged: u64,
    /// Bytes that will not be sent, by reason.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub abandoned: BTreeMap<Abandoned, u64>,
    /// Entries of a journal, or records of the kernel's, that were lost: nobody knows their bytes.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub missing_entries: u64,
}

/// The account of a log's files that are gone, and for how long all of them have been.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Closed {
    log: Arc<str>,
    books: Arc<str>,
    account: Account,
    #[serde(skip)]
    unseen: u32,
}

fn is_zero<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

impl Account {
    /// Bytes that are decided.
    #[must_use]
    pub fn decided(&self) -> u64 {
        self.acknowledged + self.abandoned.values().sum::<u64>()
    }

    /// Adds another one.
    pub fn add(&mut self, other: &Self) {
        self.written += other.written;
        self.acknowledged += other.acknowledged;
        self.missing_entries += other.missing_entries;
        for (reason, bytes) in &other.abandoned {
            *self.abandoned.entry(*reason).or_default() += bytes;
        }
    }
}

impl Source {
    fn new(id: u64) -> Self {
        Self {
            id,
            log: "".into(),
            books: "".into(),
            path: Path::new("").into(),
            stored: [0; 3],
            truncations: 0,
            complete: false,
            damaged: false,
            account: Account::default(),
            fingerprint: 0,
            place: 0,
            booked: 0,
            since: 0,
            mark: (0, 0),
            dropped: None,
            sampled: None,
            unseen: 0,
            is_met: false,
            is_told: false,
        }
    }

    /// Moves on the time before which all of its lines are stored: what was read at an earlier look may be by now.
    fn mark_time(&mut self, reached: Reached) {
        self.since = self.since.max(reached.first);
        let [whole, stdout, stderr] = self.stored;
        let (read, time) = self.mark;
        if whole.max(stdout.min(stderr)) >= read {
            self.since = self.since.max(time);
            self.mark = (reached.read, reached.last);
        }
    }

    /// Without what is not kept: for how long it was not seen.
    fn kept(&self) -> Self {
        Self { unseen: 0, mark: (0, 0), is_met: false, is_told: false, ..self.clone() }
    }

    fn leave_out(&mut self, range: Range<u64>, left_out: [u64; Portion::REASONS]) {
        for (why, bytes) in LEFT_OUT.into_iter().zip(left_out).filter(|(_, bytes)| *bytes > 0) {
            *self.account.abandoned.entry(why).or_default() += bytes;
            let told = match why {
                Abandoned::OverBudget => Some(&mut self.dropped),
                Abandoned::Sampled => Some(&mut self.sampled),
                _ => None,
            };
            if let Some(told) = told {
                let dropped = told.get_or_insert(Dropped { from: range.start, to: 0, bytes: 0 });
                dropped.to = dropped.to.max(range.end);
                dropped.bytes += bytes;
            }
        }
    }
}

impl Positions {
    pub(super) fn restore(
        sources: Vec<Source>,
        closed: Vec<Closed>,
        gaps: Vec<Gap>,
        containers: Option<Attempts>,
    ) -> Self {
        let mut chosen = Chosen::default();
        closed.iter().for_each(|closed| chosen.note(&closed.log, &closed.books));
        sources.iter().for_each(|source| chosen.note(&source.log, &source.books));
        Self {
            chosen,
            sources: sources.into_iter().map(|source| (source.id, source)).collect(),
            closed: closed.into_iter().map(|closed| (closed.log.clone(), closed)).collect(),
            gaps,
            containers,
            ..Self::default()
        }
    }

    pub(super) fn to_keep(&self) -> (Vec<Source>, Vec<Closed>, Vec<Gap>) {
        // A checkpoint is written where something that it keeps has changed.
        let sources = self.sources.values().map(Source::kept).collect();
        let closed = self.closed.values().map(|closed| Closed { unseen: 0, ..closed.clone() }).collect();
        (sources, closed, self.gaps.clone())
    }

    /// As they are where the ring was discarded.
    #[cfg(test)]
    pub(crate) fn without_ring(&self) -> Self {
        let (sources, closed, gaps) = self.to_keep();
        Self::restore(sources, closed, gaps, self.containers.clone())
    }

    fn source(&mut self, id: u64) -> &mut Source {
        self.sources.entry(id).or_insert_with(|| Source::new(id))
    }

    /// Notes that a block with these positions, and what they stand for, is stored.
    pub fn acknowledge<'a>(&mut self, shares: impl IntoIterator<Item = (&'a Position, Portion)>) {
        for (position, portion) in shares {
            if self.in_ring.get(&(position.source, position.stream)).is_some_and(|end| *end >= position.end) {
                let in_ring = self.in_ring_bytes.entry(position.source).or_default();
                *in_ring = in_ring.saturating_sub(portion.bytes());
            }
            let source = self.source(position.source);
            source.account.acknowledged += portion.taken;
            source.leave_out(position.start..position.end, portion.left_out);
            let end = &mut source.stored[position.stream as usize];
            *end = (*end).max(position.end);
        }
        let sources = &self.sources;
        self.gaps.retain(|gap| stored(sources, gap.mark(), Stream::Whole) < gap.number);
    }

    /// Notes that a stream has nothing to be read again before `end`: what it wrote is stored, and what
    /// lies beyond is the other stream's.
    pub fn settle(&mut self, source: u64, stream: Stream, end: u64) {
        let stored = &mut self.source(source).stored[stream as usize];
        *stored = (*stored).max(end);
    }

    /// Adds a block of the ring, or of the spool, to what need not be read again. Gives `false`, and adds
    /// nothing, where it does not follow on what is stored or was added: between them lines would be missing.
    pub fn extend_by_ring<'a>(&mut self, shares: impl Iterator<Item = (&'a Position, Portion)> + Clone) -> bool {
        // A block may have two positions of one stream: each that follows on what is before it in the block.
        let reached = |at: usize, position: &Position| {
            let same = |other: &Position| (other.source, other.stream) == (position.source, position.stream);
            let before = shares.clone().take(at).filter(|(other, _)| same(other)).map(|(other, _)| other.end).max();
            before.unwrap_or(0).max(self.covered(position.source, position.stream))
        };
        let follows = shares.clone().enumerate().all(|(at, (position, _))| {
            // By far the most: nothing of the block has to be looked at again.
            position.start <= self.covered(position.source, position.stream) || position.start <= reached(at, position)
        });
        if follows {
            self.extend_over_hole(shares);
        }
        follows
    }

    /// Adds a block whose sources nobody can read again to what need not be read, whatever is missing before
    /// it.
    pub fn extend_over_hole<'a>(&mut self, shares: impl Iterator<Item = (&'a Position, Portion)>) {
        for (position, portion) in shares {
            let bytes = portion.bytes();
            let end = self.in_ring.entry((position.source, position.stream)).or_default();
            *end = (*end).max(position.end);
            *self.in_ring_bytes.entry(position.source).or_default() += bytes;
            // More may have been written, and read, than the last checkpoint has seen. (A gap's record has no
            // bytes, and may end behind its file.)
            if let Some(source) = self.sources.get_mut(&position.source).filter(|_| bytes > 0) {
                source.account.written = source.account.written.max(position.end);
            }
        }
    }

    /// Whether all of `positions` is stored; never of none.
    #[must_use]
    pub fn are_stored(&self, positions: &[Position]) -> bool {
        let stored = |position: &Position| self.acknowledged(position.source, position.stream) >= position.end;
        !positions.is_empty() && positions.iter().all(stored)
    }

    /// Notes which containers were met, and which attempts of them.
    pub fn meet<'a>(&mut self, met: impl Iterator<Item = (&'a Arc<str>, Option<u32>)>) {
        self.containers = Some(met.map(|(directory, attempt)| (directory.clone(), attempt)).collect());
    }

    /// The containers that were met; `None`: nothing is known of them.
    #[must_use]
    pub fn containers(&self) -> Option<&Attempts> {
        self.containers.as_ref()
    }

    /// Notes which sources exist, and what is in them; those of a log together, the oldest first.
    pub fn sight<'a>(&mut self, sightings: impl Iterator<Item = Sighting<'a>>) {
        let (mut log, mut place) = (None, 0);
        for sighting in sightings {
            place = if log == Some(sighting.log) { place + 1 } else { 0 };
            log = Some(sighting.log);
            let source = self.source(sighting.source);
            source.unseen = 0;
            source.place = place;
            source.is_met = true;
            source.complete = sighting.complete;
            source.fingerprint = sighting.fingerprint;
            source.account.written = source.account.written.max(sighting.size);
            source.mark_time(sighting.reached);
            if *source.path != *sighting.path {
                source.path = sighting.path.into();
            }
            if source.log != *sighting.log {
                source.log = sighting.log.clone();
            }
            if source.books != *sighting.books && !sighting.books.is_empty() {
                source.books = sighting.books.clone();
                self.chosen.note(sighting.log, sighting.books);
            }
            if let Some(closed) = self.closed.get_mut(sighting.log) {
                closed.unseen = 0;
            }
        }
    }

    /// Whether a source was not read to its end, or may get more.
    fn may_have_more(&self, source: &Source) -> bool {
        !source.complete || source.account.written > self.accounted(source.id)
    }

    /// The log that a source belongs to.
    #[must_use]
    pub fn log_of(&self, source: u64) -> Option<&Arc<str>> {
        self.sources.get(&source).map(|source| &source.log).filter(|log| !log.is_empty())
    }

    /// Where a source was seen last.
    #[must_use]
    pub fn path_of(&self, source: u64) -> Option<&Path> {
        self.sources.get(&source).map(|source| &*source.path).filter(|path| !path.as_os_str().is_empty())
    }

    /// Every log's account, over all its files that are known, and whose books it counts in.
    #[must_use]
    pub fn accounts(&self) -> BTreeMap<Arc<str>, (Arc<str>, Account)> {
        let closed = self.closed.values().map(|closed| (&closed.log, &closed.books, &closed.account));
        let open = self.sources.values().filter(|source| !source.log.is_empty());
        let open = open.map(|source| (&source.log, &source.books, &source.account));
        let mut accounts: BTreeMap<Arc<str>, (Arc<str>, Account)> = BTreeMap::new();
        for (log, books, account) in closed.chain(open) {
            let (of_log, sum) = accounts.entry(log.clone()).or_insert_with(|| (books.clone(), Account::default()));
            if of_log.is_empty() {
                of_log.clone_from(books);
            }
            sum.add(account);
        }
        accounts
    }

    /// Notes of which category a block is that an earlier run has left in ring or spool.
    pub fn note_category<'a>(&mut self, category: Category, positions: impl Iterator<Item = &'a Position>) {
        self.chosen.note_in_ring(category, positions);
    }
}

fn stored(sources: &HashMap<u64, Source>, id: u64, stream: Stream) -> u64 {
    sources.get(&id).map_or(0, |source| source.stored[stream as usize])
}

impl Known for Positions {
    fn covered(&self, source: u64, stream: Stream) -> u64 {
        let in_ring = self.in_ring.get(&(source, stream)).copied().unwrap_or(0);
        self.acknowledged(source, stream).max(in_ring)
    }

    fn acknowledged(&self, source: u64, stream: Stream) -> u64 {
        stored(&self.sources, source, stream)
    }

    fn category_of_log(&self, log: &str) -> Option<Category> {
        self.chosen.of_log(log)
    }

    fn unit_of_log(&self, log: &str) -> Option<Arc<str>> {
        self.chosen.unit_of_log(log)
    }

    fn category_in_ring(&self, source: u64) -> Option<Category> {
        self.chosen.of_source(source)
    }

    fn choose_books(&mut self, log: &Arc<str>, books: &Arc<str>) {
        self.chosen.note(log, books);
        let undecided = |source: &&mut Source| source.log == *log && source.books.is_empty();
        self.sources.values_mut().filter(undecided).for_each(|source| source.books = books.clone());
    }

    fn accounted(&self, source: u64) -> u64 {
        let decided = self.sources.get(&source).map_or(0, |source| source.account.decided());
        decided + self.in_ring_bytes.get(&source).copied().unwrap_or(0)
    }

    fn abandon(&mut self, source: u64, end: u64, bytes: u64, why: Abandoned) -> bool {
        let source = self.source(source);
        let is_new = end > source.booked;
        if is_new {
            source.booked = end;
            source.account.written = source.account.written.max(end);
            *source.account.abandoned.entry(why).or_default() += bytes;
        }
        is_new
    }

    fn open_gap(&mut self, gap: Gap) -> Option<Gap> {
        self.book_gap(gap)
    }

    fn leave_out(&mut self, source: u64, stream: Stream, end: u64, left_out: [u64; Portion::REASONS]) {
        let start = self.acknowledged(source, stream);
        let source = self.source(source);
        source.leave_out(start..end, left_out);
        let stored = &mut source.stored[stream as usize];
        *stored = (*stored).max(end);
    }

    fn book_left_out(&mut self, source: u64, end: u64, left_out: [u64; Portion::REASONS]) {
        let bytes: u64 = left_out.iter().sum();
        self.source(source).leave_out(end.saturating_sub(bytes)..end, left_out);
    }

    fn gaps_of_dropped(&mut self, source: u64, wall_ns: i64) -> Vec<Gap> {
        let Some(source) = self.sources.get_mut(&source) else { return Vec::new() };
        let (log, path, source_id) = (source.log.clone(), source.path.clone(), source.id);
        let dropped = source.dropped.take().map(|dropped| (dropped, Abandoned::OverBudget));
        let sampled = source.sampled.take().map(|dropped| (dropped, Abandoned::Sampled));
        let gap = |(Dropped { from, to, bytes }, why)| Gap {
            log: log.clone(),
            path: path.clone(),
            source: source_id,
            from,
            to,
            bytes,
            why,
            since: 0,
            until: wall_ns,
            number: 0,
        };
        dropped.into_iter().chain(sampled).map(gap).filter_map(|gap| self.keep_gap(gap)).collect()
    }

    fn with_dropped(&self) -> Vec<u64> {
        self.sources
            .values()
            .filter(|source| (source.dropped.is_some() || source.sampled.is_some()) && !source.log.is_empty())
            .map(|source| source.id)
            .collect()
    }

    fn untold_gaps(&self) -> Vec<Gap> {
        let untold = |gap: &&Gap| self.covered(gap.mark(), Stream::Whole) < gap.number;
        self.gaps.iter().filter(untold).cloned().collect()
    }

    fn settle(&mut self, source: u64, stream: Stream, end: u64) {
        Self::settle(self, source, stream, end);
    }

    fn resume_entries(&mut self, source: u64) -> u64 {
        let accounted = self.accounted(source);
        if let Some(source) = self.sources.get_mut(&source) {
            source.account.written = accounted;
        }
        accounted
    }

    fn rewind_entries(&mut self, prefix: &str) {
        let of_logs = self.sources.values().filter(|source| source.log.starts_with(prefix));
        for source in of_logs.map(|source| source.id).collect::<Vec<_>>() {
            self.resume_entries(source);
        }
    }

    fn sources_of(&self, log: &str) -> Vec<(u64, Arc<Path>)> {
        let of_log = self.sources.values().filter(|source| *source.log == *log);
        of_log.map(|source| (source.id, source.path.clone())).collect()
    }

    fn left_behind(&self) -> Vec<LeftBehind> {
        let tell = |source: &Source| LeftBehind {
            source: source.id,
            log: source.log.clone(),
            path: source.path.clone(),
            written: source.account.written,
            is_finished: !self.may_have_more(source),
            since: source.since,
        };
        self.sources.values().filter(|source| !source.log.is_empty()).map(tell).collect()
    }

    fn is_unfinished(&self, source: u64) -> Option<bool> {
        self.sources.get(&source).filter(|source| !source.log.is_empty()).map(|source| self.may_have_more(source))
    }

    fn note_end(&mut self, source: u64, size: u64) {
        if let Some(source) = self.sources.get_mut(&source) {
            source.complete = true;
            source.account.written = source.account.written.max(size);
        }
    }

    fn begun_with(&self, log: &str, fingerprint: u64, size: u64) -> Vec<u64> {
        let begun = |source: &&Source| *source.log == *log && source.fingerprint == fingerprint;
        let fits = |source: &&Source| source.account.written == size || self.may_have_more(source);
        let mut fitting: Vec<&Source> = self.sources.values().filter(begun).filter(fits).collect();
        fitting.sort_by_key(|source| (source.account.written != size, Reverse(source.place), source.id));
        fitting.into_iter().map(|source| source.id).collect()
    }

    fn truncations(&self, source: u64) -> u32 {
        self.sources.get(&source).map_or(0, |known| known.truncations)
    }

    fn note_truncation(&mut self, base: u64, source: u64) {
        self.source(base).truncations += 1;
        // Nothing is added to what it held before.
        [base, source].into_iter().for_each(|source| self.source(source).complete = true);
    }
}
