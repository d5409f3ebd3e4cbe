//! One lane's entries: records out of them, and how far each of their sources is covered.

use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use sluice_wire::{Category, Stream};
use xxhash_rust::xxh3::Xxh3;

use super::Output;
use crate::block::{LaneId, Lanes, MAX_CONTENT, Portion, Progress};
use crate::record::{self, Line};
use crate::redact::{Outcome, Scope};
use crate::tail::{Abandoned, Gap, Known, LEFT_OUT, Labels, Reached, Sighting, whole_characters};

#[derive(Debug)]
pub(super) struct Feed {
    /// What it is called in the books.
    pub(super) log: Arc<str>,
    books: Arc<str>,
    pub(super) lane: LaneId,
    /// What records begin with after their message; the unit comes before it.
    common: Vec<u8>,
    /// The same with what is said of one entry, kept for its memory.
    rendered: Vec<u8>,
    sources: Vec<Source>,
    last_time: i64,
    /// The unit that came last, and the redaction rules that hold for it; `None`: none do.
    of_unit: (String, Option<Scope>),
}

/// Numbered entries that are in one order: of one journal in one lane, or of one boot.
#[derive(Debug)]
struct Source {
    id: u64,
    path: Arc<Path>,
    progress: Progress,
    /// Bytes of entries that were received, and those that an earlier run has accounted for.
    size: u64,
    /// Below it all is stored: where an earlier run's blocks that are not stored begin, else the first number
    /// that this run took; `None`: nothing is open.
    began: Option<u64>,
    /// Behind the last entry that was dropped since the last one that was sent, 0: there is none; and the bytes
    /// of all those.
    left_out: (u64, u64),
}

/// An entry on its way into its record.
pub(super) struct Entry<'a> {
    pub(super) number: u64,
    /// As it was received.
    pub(super) bytes: u64,
    /// Nanoseconds of the epoch.
    pub(super) time: i64,
    pub(super) unit: &'a str,
    pub(super) content: &'a [u8],
    /// Further fields, rendered.
    pub(super) fields: &'a [u8],
}

/// The short id of a source: 64 bits of what it is.
pub(crate) fn source_id(parts: &[&[u8]]) -> u64 {
    let mut hash = Xxh3::new();
    for part in parts {
        hash.update(&(part.len() as u64).to_le_bytes());
        hash.update(part);
    }
    hash.digest().max(1)
}

/// What the log of a lane's entries is called in the books.
pub(super) fn log_name(kind: &str, category: Category, scope: &str) -> String {
    format!("{kind}:{category}/{scope}")
}

impl Source {
    /// What an entry of so many bytes stands for, with what was dropped before it.
    fn portion(&mut self, taken: u64) -> Portion {
        let (_, redacted) = std::mem::take(&mut self.left_out);
        Portion { taken, left_out: redacted_alone(redacted) }
    }
}

/// So many bytes that a redaction rule has dropped.
fn redacted_alone(bytes: u64) -> [u64; Portion::REASONS] {
    LEFT_OUT.map(|why| if why == Abandoned::Redacted { bytes } else { 0 })
}

impl Feed {
    pub(super) fn new(kind: &str, category: Category, scope: &Arc<str>, labels: &Labels, lanes: &mut Lanes) -> Self {
        let common = record::common([
            ("cluster", &*labels.cluster),
            ("environment", &labels.environment),
            ("k8s_node_name", &labels.node),
            ("log_type", category.word()),
        ]);
        // A feed is for as long as the agent runs.
        let lane = lanes.lane(category, scope);
        lanes.hold(lane);
        Self {
            log: log_name(kind, category, scope).into(),
            books: format!("{category}/{scope}").into(),
            lane,
            common,
            rendered: Vec::new(),
            sources: Vec::new(),
            last_time: 0,
            of_unit: Default::default(),
        }
    }

    /// The redaction rules that hold for a unit; `None`: none do.
    pub(super) fn scope_of(&mut self, unit: &str, output: &Output<'_>) -> Option<Scope> {
        let redactor = output.redactor.as_ref()?;
        // Mostly it is the one that came before.
        if self.of_unit.0 != unit {
            self.of_unit = (unit.to_owned(), Some(redactor.scope(unit)).filter(|scope| !scope.is_empty()));
        }
        self.of_unit.1
    }

    /// The rules are others by now: what holds for a unit is looked up again.
    pub(super) fn forget_scope(&mut self) {
        self.of_unit = Default::default();
    }

    /// One of its sources, taken up where it was left.
    pub(super) fn source(&mut self, id: u64, path: impl FnOnce() -> PathBuf, known: &mut dyn Known) -> usize {
        if let Some(at) = self.sources.iter().position(|source| source.id == id) {
            return at;
        }
        let size = known.resume_entries(id);
        let progress = Progress::from(known.covered(id, Stream::Whole));
        // What only the ring has, or the spool, may be gone with the machine: until it is stored it has to be
        // read again.
        let stored = known.acknowledged(id, Stream::Whole);
        let began = (stored < progress.covered).then_some(stored);
        self.sources.push(Source { id, path: path().into(), progress, size, began, left_out: (0, 0) });
        self.sources.len() - 1
    }

    /// Up to where a source's entries are in blocks, or stored.
    pub(super) fn covered(&self, at: usize) -> u64 {
        self.sources[at].progress.covered
    }

    /// Puts an entry's record into the lane, without its secrets. One that is too long for a record becomes
    /// several.
    pub(super) fn push(&mut self, at: usize, entry: &Entry<'_>, output: &mut Output<'_>) {
        let Entry { number, bytes, time, mut content, .. } = *entry;
        let scope = self.scope_of(entry.unit, output);
        let Output { lanes, redactor, counts, now, .. } = output;
        let text;
        if let (Some(redactor), Some(scope)) = (redactor, scope) {
            text = String::from_utf8_lossy(content);
            match redactor.apply(&text, scope) {
                Outcome::Unchanged => {}
                Outcome::Changed(redacted) => content = redacted.as_bytes(),
                Outcome::Drop(_) => return self.leave_out(at, number, bytes, output),
            }
        }
        let mut common = std::mem::take(&mut self.rendered);
        common.clear();
        record::append("unit", entry.unit, &mut common);
        common.extend_from_slice(&self.common);
        common.extend_from_slice(entry.fields);
        let line = |content, part| Line { time_text: &[], time, content, common: &common, part, parsed: None };
        if content.len() <= MAX_CONTENT {
            lanes.push(self.lane, &line(content, None), *now);
        } else {
            counts.long += 1;
            let mut parts = 0;
            while !content.is_empty() {
                let (head, rest) = content.split_at(whole_characters(content, MAX_CONTENT));
                parts += lanes.push(self.lane, &line(head, Some(parts + 1)), *now);
                content = rest;
            }
        }
        self.rendered = common;
        let source = &mut self.sources[at];
        source.began.get_or_insert(number.max(source.progress.covered));
        source.size += bytes;
        let portion = source.portion(bytes);
        lanes.cover(self.lane, source.id, Stream::Whole, &mut source.progress, number + 1, portion);
        lanes.cut_if_full(self.lane);
        counts.lines += 1;
        self.last_time = time;
    }

    /// A redaction rule drops an entry: that is decided together with the next one that is sent, for what is
    /// not stored a later run may treat otherwise.
    pub(super) fn leave_out(&mut self, at: usize, number: u64, bytes: u64, output: &mut Output<'_>) {
        let source = &mut self.sources[at];
        source.began.get_or_insert(number.max(source.progress.covered));
        source.size += bytes;
        source.left_out = (number + 1, source.left_out.1 + bytes);
        output.counts.lines += 1;
    }

    /// Decides what was dropped where nothing followed that would carry it, and all before it is stored.
    pub(super) fn settle_left_out(&mut self, known: &mut dyn Known) {
        for source in &mut self.sources {
            if source.left_out.0 > 0 && known.acknowledged(source.id, Stream::Whole) >= source.progress.covered {
                let (end, bytes) = std::mem::take(&mut source.left_out);
                known.leave_out(source.id, Stream::Whole, end, redacted_alone(bytes));
                source.progress = Progress::from(end);
            }
        }
    }

    /// Bytes of entries that were dropped and are not decided.
    pub(super) fn left_out_bytes(&self) -> u64 {
        self.sources.iter().map(|source| source.left_out.1).sum()
    }

    /// Entries of these numbers do not exist any more: books that, and puts a record that says so into the
    /// lane.
    pub(super) fn miss(
        &mut self,
        at: usize,
        numbers: Range<u64>,
        unit: &str,
        why: Abandoned,
        until: i64,
        output: &mut Output<'_>,
    ) {
        let source = &self.sources[at];
        let gap = Gap {
            log: self.log.clone(),
            path: source.path.clone(),
            source: source.id,
            from: numbers.start,
            to: numbers.end,
            bytes: 0,
            why,
            since: self.last_time,
            until,
            number: 0,
        };
        if let Some(gap) = output.known.open_gap(gap) {
            tracing::error!(
                source = %gap.path.display(), from = gap.from, to = gap.to, reason = why.word(),
                "entries of a log are lost"
            );
            output.counts.gaps += 1;
            output.counts.missing_entries += gap.to - gap.from;
            self.tell(&gap, unit, output);
            self.pass_over(at, gap.to, output);
        }
    }

    /// Puts the record of a gap into the lane.
    pub(super) fn tell(&mut self, gap: &Gap, unit: &str, output: &mut Output<'_>) {
        let mut common = record::common([("unit", unit)]);
        common.extend_from_slice(&self.common);
        gap.tell(&common, self.lane, output.lanes, output.now);
    }

    /// What follows in the source comes after entries that are lost. (Not where a gap of an earlier run is told
    /// again: what was taken before it may have to be read again.)
    fn pass_over(&mut self, at: usize, to: u64, output: &mut Output<'_>) {
        let source = &mut self.sources[at];
        source.began.get_or_insert(source.progress.covered.max(1));
        if source.progress.covered < to {
            let portion = source.portion(0);
            output.lanes.cover(self.lane, source.id, Stream::Whole, &mut source.progress, to, portion);
            output.lanes.cut_if_full(self.lane);
        }
    }

    /// The lowest number of a source that may not be stored yet; `None`: all that was taken is.
    pub(super) fn lowest_open(&self, id: u64, known: &dyn Known) -> Option<u64> {
        let source = self.sources.iter().find(|source| source.id == id)?;
        let stored = known.acknowledged(id, Stream::Whole);
        (stored < source.progress.covered).then(|| stored.max(source.began.unwrap_or(0)))
    }

    pub(super) fn sightings(&self) -> impl Iterator<Item = Sighting<'_>> {
        self.sources.iter().map(|source| Sighting {
            source: source.id,
            log: &self.log,
            books: &self.books,
            path: &source.path,
            size: source.size,
            complete: true,
            fingerprint: 0,
            reached: Reached::default(),
        })
    }
}

/// A position that stands for a decision: it is kept, and counts in nobody's books.
#[derive(Debug)]
pub(super) struct Mark {
    source: u64,
    no_log: Arc<str>,
    path: Arc<Path>,
}

impl Mark {
    pub(super) fn new(source: u64, path: &str) -> Self {
        Self { source, no_log: "".into(), path: Path::new(path).into() }
    }

    pub(super) fn sighting(&self) -> Sighting<'_> {
        let Self { source, no_log, path } = self;
        Sighting {
            source: *source,
            log: no_log,
            books: no_log,
            path,
            size: 0,
            complete: true,
            fingerprint: 0,
            reached: Reached::default(),
        }
    }
}
