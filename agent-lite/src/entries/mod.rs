//! Logs that are no files: entries of the journal, records of the kernel. Each has a number, which is its
//! position; what is missing is seen by its number.
//!
//! ```text
//! journalctl ── pipe ──► Decoder ─┬► Feed (kubelet.service) ──► its lane
//!                                 └► Feed (ssh.service)     ──► its lane
//! /dev/kmsg ── read ──► Record ────► Feed (kernel)          ──► its lane
//! ```
//!
//! Nothing is kept here but what the pipe gave last: while a lane takes no records, its source is not read.

use std::sync::Arc;
use std::time::Instant;

use sluice_wire::{Category, Stream};

use crate::block::Lanes;
use crate::redact::{Outcome, Redactor, Scope};
use crate::tail::{Counts, Known, Labels, Missed, Pass, Sighting, StartFrom};

mod child;
mod feed;
mod journal;
mod kmsg;

pub(crate) use feed::source_id;
use feed::{Feed, Mark};
use journal::Journal;
pub use journal::JournalSettings;
use kmsg::Kmsg;

/// Read from one source before the next has its turn, bytes.
const QUANTUM: usize = 256 * 1024;

/// How the names of its logs in the books begin.
const KINDS: [&str; 2] = ["journal:", "kmsg:"];

/// What reading needs of the rest.
pub(crate) struct Output<'a> {
    lanes: &'a mut Lanes,
    known: &'a mut dyn Known,
    counts: &'a mut Counts,
    /// What takes secrets out; `None`: nothing does.
    redactor: Option<&'a mut Redactor>,
    now: Instant,
    wall_ns: i64,
}

impl Output<'_> {
    /// What may go of a text; `None`: a rule drops what has such a text.
    fn redact<'t>(&'t mut self, text: &'t str, scope: Option<Scope>) -> Option<&'t str> {
        let (Some(redactor), Some(scope)) = (self.redactor.as_deref_mut(), scope) else { return Some(text) };
        match redactor.apply(text, scope) {
            Outcome::Unchanged => Some(text),
            Outcome::Changed(redacted) => Some(redacted),
            Outcome::Drop(_) => None,
        }
    }
}

/// Everything on the node that gives entries.
#[derive(Debug, Default)]
pub struct Entries {
    journal: Option<Journal>,
    kmsg: Option<Kmsg>,
    counts: Counts,
}

/// Since when a source is read that was never read here: decided once, and written down as the position of a
/// source of its own, so that a restart before the first entry decides the same. Nanoseconds of the epoch.
fn since(log: &str, start: StartFrom, wall_ns: i64, known: &mut dyn Known) -> (Mark, i64) {
    let source = source_id(&[log.as_bytes(), b"since"]);
    let microseconds = match known.covered(source, Stream::Whole) {
        0 => {
            let since = match start {
                StartFrom::Beginning => 0,
                StartFrom::End => wall_ns,
                StartFrom::Since(since) => since,
            };
            // 0 would stand for "not decided".
            let microseconds = u64::try_from(since / 1000).unwrap_or(0).max(1);
            known.settle(source, Stream::Whole, microseconds);
            microseconds
        }
        decided => decided,
    };
    (Mark::new(source, log), i64::try_from(microseconds).unwrap_or(i64::MAX).saturating_mul(1000))
}

impl Entries {
    /// Reads the journal as these settings say.
    #[must_use]
    pub fn with_journal(
        self,
        settings: JournalSettings,
        labels: &Labels,
        start: StartFrom,
        wall_ns: i64,
        known: &mut dyn Known,
    ) -> Self {
        Self { journal: Some(Journal::new(settings, labels, start, wall_ns, known)), ..self }
    }

    /// Reads the kernel's log at `path`, `/dev/kmsg`. The journal's entries of the kernel, which are the same,
    /// are passed over.
    #[must_use]
    pub fn with_kmsg(
        self,
        path: &std::path::Path,
        labels: &Labels,
        start: StartFrom,
        wall_ns: i64,
        known: &mut dyn Known,
    ) -> Self {
        let journal = self.journal.map(Journal::without_kernel);
        Self { journal, kmsg: Some(Kmsg::new(path, labels, start, wall_ns, known)), ..self }
    }

    /// Tells of what an earlier run lost without getting that told. To be called once, when it is known what of
    /// earlier runs is still on its way.
    pub fn tell_losses(&mut self, lanes: &mut Lanes, known: &mut dyn Known, now: Instant, wall_ns: i64) {
        KINDS.iter().for_each(|kind| known.rewind_entries(kind));
        let untold = known.untold_gaps();
        let mut output = Output { lanes, known, counts: &mut self.counts, redactor: None, now, wall_ns };
        for gap in untold {
            if let Some(journal) = &mut self.journal {
                journal.tell(&gap, &mut output);
            }
            if let Some(kmsg) = &mut self.kmsg {
                kmsg.tell(&gap, &mut output);
            }
        }
    }

    /// Takes what there is, up to a quantum of each source, as far as lanes take records. `redactor` takes
    /// secrets out.
    pub fn read(
        &mut self,
        lanes: &mut Lanes,
        known: &mut dyn Known,
        redactor: Option<&mut Redactor>,
        now: Instant,
        wall_ns: i64,
    ) -> Pass {
        let mut output = Output { lanes, known, counts: &mut self.counts, redactor, now, wall_ns };
        let journal = self.journal.as_mut().map_or(0, |journal| journal.read(&mut output));
        let kmsg = self.kmsg.as_mut().map_or(0, |kmsg| kmsg.read(&mut output));
        let bytes = journal + kmsg;
        self.counts.bytes += bytes as u64;
        Pass { bytes, more: bytes > 0 }
    }

    /// Whether a source that was not read on, because a lane took nothing, can be by now.
    #[must_use]
    pub fn can_read_on(&self, lanes: &Lanes) -> bool {
        let held_back = self.journal.as_ref().and_then(Journal::held_back);
        let held_back = held_back.into_iter().chain(self.kmsg.as_ref().and_then(Kmsg::held_back));
        held_back.into_iter().any(|lane| lanes.takes_records(lane))
    }

    /// Other redaction rules hold from now on.
    pub fn retool(&mut self) {
        let journal = self.journal.iter_mut().flat_map(Journal::feeds_mut);
        journal.chain(self.kmsg.iter_mut().flat_map(Kmsg::feeds_mut)).for_each(Feed::forget_scope);
    }

    /// Every source that is read: what checkpoints are kept for.
    pub fn sightings(&self) -> impl Iterator<Item = Sighting<'_>> {
        let journal = self.journal.iter().flat_map(Journal::sightings);
        journal.chain(self.kmsg.iter().flat_map(Kmsg::sightings))
    }

    /// Down to which number everything is stored, of sources that give to several lanes.
    #[must_use]
    pub fn settled(&self, known: &dyn Known) -> Vec<(u64, Stream, u64)> {
        self.journal.iter().flat_map(|journal| journal.settled(known)).collect()
    }

    /// Whether entries of `source`, which are in a block of a lane, can be received once more.
    #[must_use]
    pub fn may_give(&self, lane: (Category, &str), source: u64) -> bool {
        self.journal.as_ref().is_some_and(|journal| journal.has_source(lane, source))
            || self.kmsg.as_ref().is_some_and(|kmsg| kmsg.source == source)
    }

    /// Whether the position of a source is needed although nothing came of it for long: entries before it will
    /// be received once more. `settled` is what [`Entries::settled`] gives. `None`: it is none of entries.
    #[must_use]
    pub fn may_read_again(&self, missed: &Missed<'_>, settled: &[(u64, Stream, u64)]) -> Option<bool> {
        if !KINDS.iter().any(|kind| missed.log.starts_with(kind)) {
            return None;
        }
        let of_journal = self.journal.as_ref().is_some_and(|journal| journal.may_read_again(missed, settled));
        Some(of_journal || self.kmsg.as_ref().is_some_and(|kmsg| kmsg.source == missed.source))
    }

    /// Decides what redaction has dropped where no entry followed that would carry it.
    pub fn settle_left_out(&mut self, known: &mut dyn Known) {
        let of_journal = self.journal.iter_mut().flat_map(Journal::feeds_mut);
        of_journal.chain(self.kmsg.iter_mut().flat_map(Kmsg::feeds_mut)).for_each(|feed| feed.settle_left_out(known));
    }

    /// Of each log, bytes of entries that redaction has dropped and no verdict has decided yet; nothing is
    /// there to be read.
    pub fn on_their_way(&self) -> impl Iterator<Item = (&Arc<str>, i128, u64)> {
        let feeds = self.journal.iter().flat_map(Journal::feeds).chain(self.kmsg.iter().flat_map(Kmsg::feeds));
        feeds.map(|feed| (&feed.log, 0, feed.left_out_bytes()))
    }

    /// What was read since the last call.
    pub fn take_counts(&mut self) -> Counts {
        std::mem::take(&mut self.counts)
    }
}
