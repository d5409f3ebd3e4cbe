//! The journal, through journalctl, which knows its files in every version and while they are written.
//!
//! All entries are read, whichever unit they are of, so that their numbers follow on each other and a hole
//! among them is seen. What must be read again after a restart begins at the lowest number that may not be
//! stored; it is kept as the position of a source of its own, settled as lanes are stored. Within a lane, what
//! was stored beyond it is passed over by the lane's own position.
//!
//! An entry is found again with `--cursor`, not with `--after-cursor`: where the entry itself is gone, the
//! latter passes over the one that is there in its place (systemd 252, tried). Of several journals in a
//! directory, those of other sequences are then read from their beginning, and passed over by their positions.

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::{Buf as _, Bytes};
use globset::GlobSet;
use sluice_wire::{Category, Stream};

use super::child::{Child, Piece};
use super::feed::{self, Feed, Mark, source_id};
use super::{Output, QUANTUM, since};
use crate::block::LaneId;
use crate::parse::journal::{Cursor, Decoder, Entry, severity};
use crate::record;
use crate::tail::{Abandoned, Gap, Known, Labels, Missed, Reached, Sighting, StartFrom};

/// Fields that are kept of an entry.
const WANTED: &[&str] = &[
    "MESSAGE",
    "__CURSOR",
    "__REALTIME_TIMESTAMP",
    "_SOURCE_REALTIME_TIMESTAMP",
    "_SYSTEMD_UNIT",
    "SYSLOG_IDENTIFIER",
    "_PID",
    "PRIORITY",
    "_HOSTNAME",
    "_BOOT_ID",
    "_TRANSPORT",
];
/// Of these the value goes into the record under this name.
const FIELDS: [(&str, &str); 5] = [
    ("SYSLOG_IDENTIFIER", "identifier"),
    ("_PID", "pid"),
    ("_HOSTNAME", "hostname"),
    ("_BOOT_ID", "boot_id"),
    ("_TRANSPORT", "transport"),
];
/// Where journald keeps its files: over boots, or where that is not there, until the next one.
const DIRECTORIES: [&str; 2] = ["/var/log/journal", "/run/log/journal"];
/// What the journal itself is called: entries without a unit, and gaps.
const OWN_UNIT: &str = "journald";
/// Units with a lane of their own, those of earlier runs counted; others share the lane of `other`.
const MAX_FEEDS: usize = 250;
const OTHER: &str = "other";
/// Sequences of numbers that are known: one for each time that journald had to begin anew.
const MAX_SEQUENCES: usize = 250;
/// What a main position is kept under.
const LOG: &str = "journal";
const BACKOFF: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(60));

/// How the journal is read.
#[derive(Debug, Clone)]
pub struct JournalSettings {
    /// Where its files are; `None`: where journald keeps them.
    pub directory: Option<PathBuf>,
    /// Units whose entries are taken.
    pub units: GlobSet,
    /// Units that are of category dataplane.
    pub dataplane_units: GlobSet,
    /// Which program reads it.
    pub binary: PathBuf,
}

#[derive(Debug)]
pub(super) struct Journal {
    settings: JournalSettings,
    labels: Labels,
    since_mark: Mark,
    since: i64,
    /// Entries of the kernel are read elsewhere.
    without_kernel: bool,
    child: Option<Child>,
    next_start: Option<Instant>,
    backoff: Duration,
    decoder: Decoder,
    /// What of the last piece is not decoded.
    rest: Bytes,
    /// The decoder's entry waits for its lane.
    is_pending: bool,
    held_back: Option<LaneId>,
    feeds: Vec<Feed>,
    /// Of category host, and of dataplane.
    by_scope: [HashMap<Arc<str>, usize>; 2],
    kept: Kept,
    shared: Vec<Shared>,
    sequences: Vec<Sequence>,
    /// The sequence of the entry that was read last.
    current: Option<usize>,
    fields: Vec<u8>,
    /// What main positions are kept under, and whose books their empty pages are in.
    names: [Arc<str>; 2],
}

/// Scopes that had a lane of their own in an earlier run, and of which nothing came yet: of category host, and of
/// dataplane.
type Kept = [HashSet<Arc<str>>; 2];
/// Up to where earlier runs have stored of what shared a lane: of which of the two categories, of which sequence.
type Shared = (usize, u128, u64);

/// One sequence of numbers.
#[derive(Debug)]
struct Sequence {
    id: u128,
    source: u64,
    path: Arc<Path>,
    /// The number that comes next; 0: any may.
    next: u64,
}

impl Sequence {
    fn new(id: u128, known: &dyn Known) -> Self {
        let source = source_id(&[LOG.as_bytes(), &id.to_le_bytes()]);
        let path = Path::new(LOG).join(format!("s={id:032x}"));
        Self { id, source, path: path.into(), next: known.acknowledged(source, Stream::Whole) }
    }

    fn id_of(path: &Path) -> Option<u128> {
        u128::from_str_radix(path.file_name()?.to_str()?.strip_prefix("s=")?, 16).ok()
    }
}

impl Journal {
    pub(super) fn new(
        settings: JournalSettings,
        labels: &Labels,
        start: StartFrom,
        wall_ns: i64,
        known: &mut dyn Known,
    ) -> Self {
        let (since_mark, since) = since(LOG, start, wall_ns, known);
        let mut sequences: Vec<Sequence> = known
            .sources_of(LOG)
            .iter()
            .filter_map(|(_, path)| Sequence::id_of(path))
            .map(|id| Sequence::new(id, known))
            .filter(|sequence| sequence.next > 0)
            .collect();
        sequences.truncate(MAX_SEQUENCES);
        let (kept, shared) = lanes_of_earlier_runs(known);
        Self {
            settings,
            labels: labels.clone(),
            since_mark,
            since,
            without_kernel: false,
            child: None,
            next_start: None,
            backoff: BACKOFF.0,
            decoder: Decoder::new(WANTED),
            rest: Bytes::new(),
            is_pending: false,
            held_back: None,
            feeds: Vec::new(),
            by_scope: Default::default(),
            kept,
            shared,
            // Any will do: of those it is not, everything is offered again.
            current: sequences.len().checked_sub(1),
            sequences,
            fields: Vec::new(),
            names: [LOG.into(), format!("{}/{OWN_UNIT}", Category::Host).into()],
        }
    }

    /// Passes over entries of the kernel.
    pub(super) fn without_kernel(self) -> Self {
        Self { without_kernel: true, ..self }
    }

    /// Takes entries up to a quantum; gives their bytes.
    pub(super) fn read(&mut self, output: &mut Output<'_>) -> usize {
        let mut bytes = 0;
        self.held_back = None;
        while bytes < QUANTUM && (self.is_pending || self.next_entry(output)) {
            let decoder = std::mem::replace(&mut self.decoder, Decoder::new(&[]));
            let is_taken = self.take(decoder.entry(), output);
            let size = usize::try_from(decoder.entry().size).unwrap_or(usize::MAX);
            self.decoder = decoder;
            self.is_pending = !is_taken;
            if self.is_pending {
                break;
            }
            bytes = bytes.saturating_add(size);
        }
        bytes
    }

    /// Decodes up to the next entry; gives `false` where none has come yet.
    fn next_entry(&mut self, output: &mut Output<'_>) -> bool {
        loop {
            let mut rest = &self.rest[..];
            let decoded = self.decoder.next(&mut rest);
            let taken = self.rest.len() - rest.len();
            self.rest.advance(taken);
            match decoded {
                Ok(true) => return true,
                Ok(false) => {}
                Err(error) => self.end(&format!("its output is no journal's: {error}"), output),
            }
            match self.child(output).and_then(Child::take) {
                Some(Piece::Bytes(piece)) => self.rest = piece,
                Some(Piece::Ended(why)) => self.end(&why, output),
                None => return false,
            }
        }
    }

    /// The child, started where it is time to.
    fn child(&mut self, output: &Output<'_>) -> Option<&mut Child> {
        if self.child.is_none() && self.next_start.is_none_or(|at| output.now >= at) {
            self.decoder.reset();
            self.rest.clear();
            self.child = Some(Child::start(&self.settings.binary, &self.arguments()));
        }
        self.child.as_mut()
    }

    fn arguments(&self) -> Vec<String> {
        let directory = self.settings.directory.clone();
        let directory = directory.unwrap_or_else(|| {
            let is_there = DIRECTORIES.iter().find(|path| Path::new(path).is_dir());
            is_there.unwrap_or(&DIRECTORIES[0]).into()
        });
        let mut arguments = vec![format!("--directory={}", directory.display())];
        arguments.extend(["--output=export", "--all", "--follow", "--no-tail", "--quiet"].map(str::to_owned));
        let current = self.current.map(|at| &self.sequences[at]);
        arguments.push(match current {
            // The entry before the next one: a number that does not exist yet is waited for in vain.
            Some(Sequence { id, next, .. }) => {
                let last = Cursor { sequence: *id, number: next.saturating_sub(1).max(1) };
                format!("--cursor={}", last.to_text())
            }
            None => format!("--since=@{}.{:06}", self.since / 1_000_000_000, self.since % 1_000_000_000 / 1000),
        });
        arguments
    }

    fn end(&mut self, why: &str, output: &mut Output<'_>) {
        tracing::error!(binary = %self.settings.binary.display(), why, again_in = ?self.backoff, "the journal's reader ended");
        output.counts.reader_ends += 1;
        self.child = None;
        self.rest.clear();
        self.decoder.reset();
        self.next_start = Some(output.now + self.backoff);
        self.backoff = (self.backoff * 2).min(BACKOFF.1);
    }

    /// Gives `false` where the entry's lane takes no records: it is to be given again.
    fn take(&mut self, entry: &Entry, output: &mut Output<'_>) -> bool {
        let Some(cursor) = entry.get("__CURSOR").and_then(Cursor::parse) else {
            output.counts.torn += 1;
            output.counts.torn_bytes += entry.size;
            return true;
        };
        let at = self.sequence(cursor.sequence, output.known);
        let (number, next) = (cursor.number, self.sequences[at].next);
        if number < next {
            return true;
        }
        self.backoff = BACKOFF.0;
        let received = microseconds(entry, "__REALTIME_TIMESTAMP").unwrap_or(output.wall_ns);
        if next > 0 && number > next {
            self.miss(at, next..number, received, output);
            self.sequences[at].next = number;
        }
        if received >= self.since && !self.push(at, number, received, entry, output) {
            return false;
        }
        self.sequences[at].next = number + 1;
        self.current = Some(at);
        true
    }

    fn push(&mut self, at: usize, number: u64, received: i64, entry: &Entry, output: &mut Output<'_>) -> bool {
        let is_kernel = entry.get("_TRANSPORT") == Some(b"kernel");
        let unit = entry.text("_SYSTEMD_UNIT").filter(|unit| !unit.is_empty());
        let whole_unit = unit.unwrap_or(if is_kernel { "kernel" } else { OWN_UNIT });
        // In a journal that came from elsewhere it may be of any length.
        let unit = &whole_unit[..whole_unit.floor_char_boundary(record::MAX_VALUE)];
        if !self.settings.units.is_match(unit) || (is_kernel && self.without_kernel) {
            return true;
        }
        let dataplane = self.settings.dataplane_units.is_match(unit);
        let category = if dataplane { Category::Dataplane } else { Category::Host };
        let scope = scope(unit);
        let met = self.by_scope[of_category(category)].get(scope).copied();
        let feed = met.unwrap_or_else(|| self.feed(category, self.lane_of(category, scope, (at, number)), output));
        if !output.lanes.takes_records(self.feeds[feed].lane) {
            self.held_back = Some(self.feeds[feed].lane);
            return false;
        }
        let source = self.source(feed, at, output);
        if number < self.feeds[feed].covered(source) {
            return true;
        }
        let scope = self.feeds[feed].scope_of(unit, output);
        let mut is_cut = entry.is_cut || unit.len() < whole_unit.len();
        self.fields.clear();
        for (field, name) in FIELDS {
            let Some(value) = entry.get(field) else { continue };
            let value = String::from_utf8_lossy(value);
            // What begins with `_` is journald's own.
            let value = if field.starts_with('_') { Some(&*value) } else { output.redact(&value, scope) };
            let Some(value) = value else {
                self.feeds[feed].leave_out(source, number, entry.size, output);
                return true;
            };
            is_cut |= record::append(name, value, &mut self.fields);
        }
        if let Some(word) = entry.get("PRIORITY").and_then(severity) {
            record::append("severity", word, &mut self.fields);
        }
        if is_cut {
            record::append_cut(&mut self.fields);
        }
        let entry = feed::Entry {
            number,
            bytes: entry.size,
            time: microseconds(entry, "_SOURCE_REALTIME_TIMESTAMP").unwrap_or(received),
            unit,
            content: entry.get("MESSAGE").unwrap_or_default(),
            fields: &self.fields,
        };
        self.feeds[feed].push(source, &entry, output);
        true
    }

    fn miss(&mut self, at: usize, numbers: std::ops::Range<u64>, until: i64, output: &mut Output<'_>) {
        let feed = self.feed(Category::Host, OWN_UNIT, output);
        let source = self.source(feed, at, output);
        self.feeds[feed].miss(source, numbers, OWN_UNIT, Abandoned::JournalSeqnum, until, output);
    }

    /// A sequence's entries in a feed.
    fn source(&mut self, feed: usize, at: usize, output: &mut Output<'_>) -> usize {
        let Sequence { id, path, .. } = &self.sequences[at];
        let feed = &mut self.feeds[feed];
        let source = source_id(&[feed.log.as_bytes(), &id.to_le_bytes()]);
        feed.source(source, || path.to_path_buf(), output.known)
    }

    fn sequence(&mut self, id: u128, known: &dyn Known) -> usize {
        if let Some(at) = self.sequences.iter().position(|sequence| sequence.id == id) {
            return at;
        }
        if self.sequences.len() == MAX_SEQUENCES {
            self.sequences.remove(0);
        }
        self.sequences.push(Sequence::new(id, known));
        self.sequences.len() - 1
    }

    /// A scope that was not met before, where it gets a lane of its own, else that of those that share one. What
    /// had its own goes on in it: in another, of other positions, its entries would be passed over, or sent twice.
    fn lane_of<'s>(&self, category: Category, scope: &'s str, (at, number): (usize, u64)) -> &'s str {
        let category = of_category(category);
        if scope == OWN_UNIT || self.kept[category].contains(scope) {
            return scope;
        }
        let is_free = self.feeds.len() + self.kept.iter().map(HashSet::len).sum::<usize>() < MAX_FEEDS;
        let id = self.sequences[at].id;
        let has_shared = |shared: &Shared| (shared.0, shared.1) == (category, id) && number < shared.2;
        if is_free && !self.shared.iter().any(has_shared) { scope } else { OTHER }
    }

    fn feed(&mut self, category: Category, scope: &str, output: &mut Output<'_>) -> usize {
        let by_scope = &mut self.by_scope[of_category(category)];
        if let Some(at) = by_scope.get(scope) {
            return *at;
        }
        let scope: Arc<str> = scope.into();
        self.kept[of_category(category)].remove(&scope);
        self.feeds.push(Feed::new(LOG, category, &scope, &self.labels, output.lanes));
        by_scope.insert(scope, self.feeds.len() - 1);
        self.feeds.len() - 1
    }

    /// Tells of a gap of an earlier run, where it is one of the journal's.
    pub(super) fn tell(&mut self, gap: &Gap, output: &mut Output<'_>) {
        if gap.why == Abandoned::JournalSeqnum {
            let feed = self.feed(Category::Host, OWN_UNIT, output);
            self.feeds[feed].tell(gap, OWN_UNIT, output);
        }
    }

    /// The lane that took nothing when it was read last.
    pub(super) fn held_back(&self) -> Option<LaneId> {
        self.held_back
    }

    /// Below which number everything of each sequence is stored.
    pub(super) fn settled(&self, known: &dyn Known) -> Vec<(u64, Stream, u64)> {
        let settled = |sequence: &Sequence| {
            let of_sequence = |feed: &Feed| {
                let source = source_id(&[feed.log.as_bytes(), &sequence.id.to_le_bytes()]);
                feed.lowest_open(source, known)
            };
            let lowest = self.feeds.iter().filter_map(of_sequence).min().unwrap_or(sequence.next);
            (sequence.source, Stream::Whole, lowest.min(sequence.next))
        };
        self.sequences.iter().filter(|sequence| sequence.next > 0).map(settled).collect()
    }

    /// Whether `source` is what a sequence known here gives to a lane.
    pub(super) fn has_source(&self, (category, scope): (Category, &str), source: u64) -> bool {
        let log = feed::log_name(LOG, category, scope);
        self.sequences.iter().any(|sequence| source_id(&[log.as_bytes(), &sequence.id.to_le_bytes()]) == source)
    }

    /// Whether a lane's source is stored beyond where its sequence is read from after a restart, or is read now.
    pub(super) fn may_read_again(&self, missed: &Missed<'_>, settled: &[(u64, Stream, u64)]) -> bool {
        let id = Sequence::id_of(missed.path);
        let Some(sequence) = self.sequences.iter().find(|sequence| Some(sequence.id) == id) else { return false };
        let lowest = settled.iter().find(|(source, ..)| *source == sequence.source).map_or(0, |(.., lowest)| *lowest);
        // Who had a lane of his own must be known where it comes again beside what shared one.
        let beside_shared = self.shared.iter().any(|(_, id, stored)| *id == sequence.id && sequence.next < *stored);
        missed.stored > lowest || beside_shared
    }

    pub(super) fn feeds(&self) -> impl Iterator<Item = &Feed> {
        self.feeds.iter()
    }

    pub(super) fn feeds_mut(&mut self) -> impl Iterator<Item = &mut Feed> {
        self.feeds.iter_mut()
    }

    pub(super) fn sightings(&self) -> impl Iterator<Item = Sighting<'_>> {
        let [log, books] = &self.names;
        let main = self.sequences.iter().filter(|sequence| sequence.next > 0).map(move |sequence| Sighting {
            source: sequence.source,
            log,
            books,
            path: &sequence.path,
            size: 0,
            complete: true,
            fingerprint: 0,
            reached: Reached::default(),
        });
        main.chain(self.feeds.iter().flat_map(Feed::sightings)).chain([self.since_mark.sighting()])
    }
}

/// Whose scopes they are, of the two.
fn of_category(category: Category) -> usize {
    usize::from(category == Category::Dataplane)
}

/// What positions tell of the lanes of earlier runs.
fn lanes_of_earlier_runs(known: &dyn Known) -> (Kept, Vec<Shared>) {
    let (mut kept, mut shared) = (Kept::default(), Vec::new());
    for left in known.left_behind() {
        for category in [Category::Host, Category::Dataplane] {
            let Some(scope) = left.log.strip_prefix(&*feed::log_name(LOG, category, "")) else { continue };
            match (scope, Sequence::id_of(&left.path)) {
                (OTHER, Some(id)) => {
                    let stored = known.acknowledged(left.source, Stream::Whole);
                    shared.push((of_category(category), id, stored));
                }
                // These are not counted: they are always there.
                (OTHER | OWN_UNIT, _) => {}
                _ => drop(kept[of_category(category)].insert(scope.into())),
            }
        }
    }
    (kept, shared)
}

/// The lane of a unit: what there may be any number of (sessions, containers, instances of a template) shares
/// one.
fn scope(unit: &str) -> &str {
    match unit.rsplit_once('.') {
        _ if unit.len() > 255 => OTHER,
        Some((_, "scope")) if unit != "init.scope" => "scope",
        Some((name, "service")) if name.starts_with("run-") => "run.service",
        // `name@`, without its instance.
        Some((name, _)) if name.contains('@') => &unit[..=name.find('@').unwrap_or(0)],
        _ => unit,
    }
}

/// A field of microseconds of the epoch, in nanoseconds.
fn microseconds(entry: &Entry, field: &str) -> Option<i64> {
    entry.text(field)?.parse::<i64>().ok()?.checked_mul(1000).filter(|time| *time >= 0)
}

#[cfg(test)]
mod tests;
