//! Carries what nobody could read again between the lanes and the spool.

use std::collections::HashSet;
use std::fs::File;
use std::io::ErrorKind;
use std::path::Path;

use anyhow::bail;
use sluice_durable_log::OpenError;

use super::Agent;
use super::count::gauge;
use crate::block::{Stub, Unspooled};
use crate::spool::{self, Found, Left, Spool};
use crate::tail::Known as _;

/// The spool, and whether its last words were an error.
#[derive(Debug, Default)]
pub(super) struct Spooling {
    pub(super) spool: Option<Spool>,
    /// It could not be written to; tried again at the next housekeeping.
    refuses: bool,
    said: bool,
}

/// What a start does with a block of the spool.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    /// Stored, or in the ring.
    Done,
    /// It follows on what is stored, in the ring, or in the spool before it.
    FollowsOn,
    /// It does not; where its file is there, that is read again.
    Aside,
}

impl Spooling {
    /// Opens the spool of `state`; none where `bytes` is 0 or its directory cannot be used. An error where
    /// another agent uses it.
    pub(super) fn open(state: &Path, bytes: u64) -> anyhow::Result<(Self, Left)> {
        if bytes == 0 {
            return Ok((Self::default(), Left::default()));
        }
        match Spool::open(&spool::directory(state), bytes) {
            Ok((spool, left)) => Ok((Self { spool: Some(spool), ..Self::default() }, left)),
            Err(error @ OpenError::Locked { .. }) => bail!("{error}"),
            Err(error) => {
                tracing::error!(%error, "no spool: deleted files are held open until they are stored");
                Ok((Self::default(), Left::default()))
            }
        }
    }

    /// Whether the disk did not take what it was to keep, a moment ago.
    pub(super) fn refuses(&self) -> bool {
        self.refuses
    }

    fn has_room(&self) -> bool {
        !self.refuses && self.spool.as_ref().is_some_and(Spool::has_room)
    }

    /// Once, until the spool has been empty.
    fn say(&mut self, why: &dyn std::fmt::Display) {
        if !std::mem::replace(&mut self.said, true) {
            tracing::error!(%why, "the spool takes no more: deleted files are held open, within their bound");
        }
    }
}

impl Agent {
    /// Takes up what the spool holds, behind the ring's blocks. `look` looks at the files for the first time,
    /// once it is known how far they need not be read; what follows on nothing is judged after that.
    pub(super) fn take_up_spool(&mut self, left: Left, look: impl FnOnce(&mut Self)) {
        let is_missing = self.config.spool_bytes > 0 && self.spooling.spool.is_none();
        self.metrics.spool_errors.inc_by(left.damaged + u64::from(is_missing));
        for found in &left.blocks {
            self.positions.note_category(found.category, found.shares.iter().map(|(position, _)| position));
        }
        let fates: Vec<Fate> = left.blocks.iter().map(|found| self.judge(found)).collect();
        look(self);
        let exists: HashSet<u64> = self.tailer.existing().collect();
        let mut done = Vec::new();
        for (found, fate) in left.blocks.into_iter().zip(fates) {
            let without = match fate {
                Fate::Done => None,
                Fate::FollowsOn => Some(Box::default()),
                Fate::Aside => self.restore_lines_of_deleted(&found, &exists),
            };
            let Some(without) = without else {
                done.push(found.record);
                continue;
            };
            let stub = Stub { record: found.record, records: found.records, without };
            self.lanes.restore_stub((found.category, &found.scope), stub, found.shares.iter());
        }
        if let Some(spool) = &mut self.spooling.spool {
            spool.release(done);
        }
        self.count_spool();
    }

    fn judge(&mut self, found: &Found) -> Fate {
        let shares = || found.shares.iter().map(|(position, portion)| (position, *portion));
        if shares().all(|(position, _)| self.positions.covered(position.source, position.stream) >= position.end) {
            Fate::Done
        } else if self.positions.extend_by_ring(shares()) {
            Fate::FollowsOn
        } else {
            Fate::Aside
        }
    }

    /// Of a block that follows on nothing, what can be read again is (which may repeat it); what cannot be
    /// is sent. Gives the sources that are read again; `None`: all of them.
    fn restore_lines_of_deleted(&mut self, found: &Found, exists: &HashSet<u64>) -> Option<Box<[u64]>> {
        let (gone, there): (Vec<_>, Vec<_>) =
            found.shares.iter().partition(|(position, _)| self.is_deleted(found, position.source, exists));
        if gone.is_empty() {
            return None;
        }
        self.positions.extend_over_hole(gone.iter().map(|(position, portion)| (position, *portion)));
        if !there.is_empty() {
            self.metrics.possible_duplicates.inc_by(found.records);
        }
        Some(there.iter().map(|(position, _)| position.source).collect())
    }

    /// Whether nobody can read a source of a block again. What cannot be looked at is not gone; entries are
    /// received once more, and gaps told once more.
    fn is_deleted(&self, found: &Found, source: u64, exists: &HashSet<u64>) -> bool {
        let may_be_there = |path: &Path| File::open(path).is_err_and(|error| error.kind() != ErrorKind::NotFound);
        !exists.contains(&source)
            && !self.entries.may_give((found.category, &found.scope), source)
            && !self.positions.marks().any(|mark| mark == source)
            && !self.positions.path_of(source).is_some_and(may_be_there)
    }

    /// Notes what is gone since the last time, and what the spool can take.
    pub(super) fn note_gone(&mut self) {
        if self.spooling.spool.is_some() {
            self.spooling.refuses = false;
            // Entries and gaps have positions, too, and no file that could go.
            let mut exists: HashSet<u64> = self.tailer.existing().collect();
            exists.extend(self.entries.sightings().map(|sighting| sighting.source));
            exists.extend(self.positions.marks());
            self.lanes.note_gone(&exists);
        }
    }

    /// Puts what waits for it into the spool. Gives whether it took any: there may be more to be read then.
    pub(super) fn spool(&mut self) -> bool {
        let Some(spool) = &mut self.spooling.spool else { return false };
        if self.spooling.refuses {
            return false;
        }
        let before = spool.len();
        let result = self.lanes.spool(|blocks| spool.keep(blocks));
        let written = spool.len().saturating_sub(before);
        self.metrics.spooled_blocks.inc_by(written as u64);
        if let Err(error) = &result {
            self.spooling.refuses = true;
            self.metrics.spool_errors.inc();
            self.spooling.say(error);
        } else if written > 0 && !self.spooling.has_room() {
            self.metrics.spool_errors.inc();
            self.spooling.say(&"it is full");
        }
        self.lanes.set_spool_has_room(self.spooling.has_room());
        written > 0
    }

    /// Brings back what the lanes have room for.
    pub(super) fn unspool(&mut self) {
        let spool = &mut self.spooling.spool;
        let lost = self.lanes.unspool(|record| spool.as_mut().map_or(Unspooled::Later, |spool| spool.load(record)));
        self.metrics.spool_errors.inc_by(lost as u64);
    }

    /// A durable checkpoint covers these records.
    pub(super) fn let_go(&mut self, records: Vec<u64>) {
        if let Some(spool) = &mut self.spooling.spool {
            spool.release(records);
            self.spooling.said &= !spool.is_empty();
        }
        self.count_spool();
    }

    pub(super) fn count_spool(&mut self) {
        self.lanes.set_spool_has_room(self.spooling.has_room());
        if let Some(spool) = &self.spooling.spool {
            self.metrics.spool_blocks.set(gauge(spool.len()));
            self.metrics.spool_bytes.set(i64::try_from(spool.bytes()).unwrap_or(i64::MAX));
        }
    }
}
