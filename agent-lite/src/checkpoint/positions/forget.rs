//! When a position may go: where its source was looked for and is not there. What cannot be looked at keeps
//! its own, within a bound, for it would be sent once more.

use std::cmp::Reverse;
use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use sluice_wire::Stream;

use super::{Closed, Positions, Source};
use crate::tail::{Abandoned, Known as _, LeftBehind, Missed};

/// Sightings missed before a source is looked for, unless told otherwise: about a quarter of an hour of checkpoints.
pub(in crate::checkpoint) const FORGET_AFTER: u32 = 900;
/// Between looks for what was not there, in checkpoints.
const LOOK_EVERY: u32 = 60;
/// Sources that were not met for long and are kept; beyond that the oldest go. Twice the files of a full node.
pub(in crate::checkpoint) const MAX_MISSED: usize = 5000;

impl Positions {
    /// Looks for sources after so many sightings missed from now on.
    pub fn forget_after(&mut self, sightings: u32) {
        self.forget_after = Some(sightings);
    }

    /// Forgets what has long not been sighted, is not `held` in blocks, and of which `may_come` says that it
    /// was looked for and is not there: a source's account goes to its log's, and that goes once none of the
    /// log's files has been there for as long again. Gives what goes with the next look although it was not
    /// read to its end.
    pub fn forget_unseen(
        &mut self,
        held: impl Iterator<Item = u64>,
        may_come: impl Fn(&Missed<'_>) -> bool,
    ) -> Vec<LeftBehind> {
        let marks: Vec<u64> = self.marks().collect();
        for source in held.chain(marks) {
            if let Some(source) = self.sources.get_mut(&source) {
                source.unseen = 0;
            }
        }
        let after = self.forget_after.unwrap_or(FORGET_AFTER);
        let before = (self.sources.len(), self.closed.len());
        self.closed.values_mut().for_each(|closed| closed.unseen += 1);
        let (mut gone, mut missed) = (Vec::new(), Vec::new());
        for source in self.sources.values_mut() {
            source.unseen = source.unseen.saturating_add(1);
            if source.unseen <= after {
                continue;
            }
            let is_due = (source.unseen - after - 1).is_multiple_of(LOOK_EVERY);
            if is_due && !may_come(&source.missed()) {
                gone.push(source.id);
                continue;
            }
            missed.push((Reverse(source.unseen), source.id));
            if let Some(closed) = self.closed.get_mut(&source.log) {
                closed.unseen = 0;
            }
        }
        let too_many = missed.len().saturating_sub(MAX_MISSED);
        if too_many > 0 {
            missed.sort_unstable();
            gone.extend(missed[..too_many].iter().map(|(_, id)| *id));
        }
        let untold = gone.into_iter().filter_map(|id| self.let_go(id)).collect();
        self.closed.retain(|_, closed| closed.unseen <= after);
        if before != (self.sources.len(), self.closed.len()) {
            self.forget_with_sources();
        }
        untold
    }

    /// Forgets what was remembered of sources and logs that are no more.
    fn forget_with_sources(&mut self) {
        let Self { sources, closed, .. } = self;
        self.in_ring.retain(|(source, _), _| sources.contains_key(source));
        self.in_ring_bytes.retain(|source, _| sources.contains_key(source));
        let logs: HashSet<&str> =
            sources.values().map(|source| &*source.log).chain(closed.keys().map(|log| &**log)).collect();
        self.chosen.keep_only(&logs, |source| sources.contains_key(&source));
    }

    /// Forgets a source. One that was not read to its end is given first, to be told of.
    fn let_go(&mut self, id: u64) -> Option<LeftBehind> {
        let unread = self.unread_of_unmet(self.sources.get(&id)?);
        let source = self.sources.get_mut(&id)?;
        if unread > 0 && !std::mem::replace(&mut source.is_told, true) {
            let (log, path, written) = (source.log.clone(), source.path.clone(), source.account.written);
            return Some(LeftBehind { source: id, log, path, written, is_finished: false, since: source.since });
        }
        let mut source = self.sources.remove(&id)?;
        if unread > 0 {
            // Nobody could tell of it.
            *source.account.abandoned.entry(Abandoned::Vanished).or_default() += unread;
        }
        close(&source, &mut self.closed);
        None
    }

    /// Of logs, bytes that are still to be read of files that were not met in this run: they cannot be looked
    /// at, or their mount is missing.
    pub fn unread_of_missed(&self) -> impl Iterator<Item = (&Arc<str>, u64)> {
        let unread = |source: &'_ Source| (self.unread_of_unmet(source) > 0).then(|| self.unread_of_unmet(source));
        self.sources.values().filter_map(move |source| Some((&source.log, unread(source)?)))
    }

    fn unread_of_unmet(&self, source: &Source) -> u64 {
        if source.is_met || source.log.is_empty() {
            return 0;
        }
        source.account.written.saturating_sub(self.accounted(source.id))
    }
}

impl Source {
    fn missed(&self) -> Missed<'_> {
        let stored = self.stored[Stream::Whole as usize];
        Missed { source: self.id, log: &self.log, path: &self.path, stored }
    }
}

/// Adds a source's account to its log's.
fn close(source: &Source, closed: &mut BTreeMap<Arc<str>, Closed>) {
    if !source.log.is_empty() {
        let log = source.log.clone();
        let account = super::Account::default();
        let new = Closed { log: log.clone(), books: source.books.clone(), account, unseen: 0 };
        closed.entry(log).or_insert(new).account.add(&source.account);
    }
}
