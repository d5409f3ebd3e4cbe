//! Parking: entries of tenants that do not get through, or that pin more of the journal than this
//! destination may, are copied out of its way; and back, once they do get through.

use std::collections::{HashSet, VecDeque};
use std::sync::Arc;

use tokio::time::Instant;

use super::batch::Batch;
use super::destination::Destination;
use super::schedule::Then;
use super::worker::{MAX_LOADED, MAX_UNDECIDED, Worker};
use crate::journal::{Error, Event, PARKED, Subscription};

/// Entries to be parked that are not left waiting.
const MANY: usize = 1024;
/// Parked entries taken back before everything else has its turn again.
const MAX_TURN: usize = 256;

impl<S: Subscription, D: Destination> Worker<S, D> {
    /// Whether a new entry goes to the parking log.
    pub(super) fn is_to_be_parked(&self, tenant: &str, now: Instant) -> bool {
        if self.terms.ordered {
            // What came before it is there, so it has to queue up behind.
            return self.over_share || !self.to_park.is_empty() || self.subscription.parked().entries > 0;
        }
        self.over_share || self.tenants.is_parked(tenant, now)
    }

    /// Sees which tenants are to be parked now, and copies what is to be.
    pub(super) fn park(&mut self, now: Instant) {
        let pinned = self.subscription.lag().bytes;
        // Half a step back before it ends, so that it does not flutter.
        self.over_share = match self.over_share {
            true => pinned > self.setting.park_above / 5 * 4,
            false => pinned > self.setting.park_above,
        };
        match self.terms.ordered {
            false => self.set_aside(now),
            // What is on its way may come back, and is older than all the rest.
            true if self.over_share && self.none_in_flight() => self.set_all_aside(),
            true => {}
        }
        self.copy_list();
    }

    /// Copies what is on the list, if it is long enough not to wait for its turn.
    pub(super) fn copy_if_many(&mut self) {
        if self.to_park.len() >= MANY && !self.parking_full {
            self.copy_list();
        }
    }

    fn copy_list(&mut self) {
        if let Err(error) = self.copy() {
            // Nothing was parked; what is on the list stays there.
            tracing::error!(
                destination = &*self.setting.name,
                error = &error as &dyn std::error::Error,
                "cannot park entries; they stay in the journal"
            );
            self.parking_full = true;
        }
    }

    /// Puts the entries of parked tenants on the list, but for one batch of each that finds out whether it gets
    /// through again, and moves their batches that are recorded.
    fn set_aside(&mut self, now: Instant) {
        let mut probed = self.probed();
        let tenants = &self.tenants;
        let is_parked = |tenant: &str| tenants.is_parked(tenant, now);
        let mut waiting = std::mem::take(&mut self.queue);
        waiting.extend(self.gather.of_tenants(is_parked));
        let (aside, kept): (VecDeque<_>, VecDeque<_>) = waiting.into_iter().partition(|batch| {
            !batch.recorded && is_parked(&batch.tenant) && !probed.insert(Arc::clone(&batch.tenant))
        });
        self.queue = kept;
        for batch in aside {
            // Those that came out of the parking log are handed out again once the tenant gets through.
            self.passed_over |= self.dissolve(batch);
        }
        self.move_batches(now);
        // What probed for a tenant was lost: what is parked is taken back, and the first of it probes.
        if self.tenants.forget_failing(|tenant| !probed.contains(tenant)) && std::mem::take(&mut self.passed_over) {
            self.subscription.rewind_parked();
        }
    }

    /// Tenants of which something is under way that will tell whether they get through.
    fn probed(&self) -> HashSet<Arc<str>> {
        let of = |batch: &Batch| Arc::clone(&batch.tenant);
        let tells = |then: Then, batch: &Batch| then != Then::Decide || !batch.letters.is_empty();
        let scheduled = self.schedule.iter().filter(|(then, batch)| tells(*then, batch)).map(|(_, batch)| of(batch));
        let to_count = self.to_count.iter().filter(|(then, _)| *then == Then::Count).map(|(_, batch)| of(batch));
        let recorded = self.queue.iter().filter(|batch| batch.recorded).map(of);
        let counted = self.counted_tenants.keys().cloned();
        self.tenants.in_flight().chain(scheduled).chain(to_count).chain(recorded).chain(counted).collect()
    }

    /// The same for an ordered destination, which has no batches in doubt: all that it holds, in order,
    /// if some of it pins the journal.
    fn set_all_aside(&mut self) {
        let pins = |batch: &Batch| batch.members.iter().any(|member| member.partition != PARKED);
        let mut aside = self.schedule.take_all(Then::Send);
        aside.extend(self.queue.drain(..));
        aside.extend(self.gather.of_tenants(|_| true));
        if !aside.iter().any(pins) {
            self.queue.extend(aside);
            return;
        }
        for batch in aside {
            self.dissolve(batch);
        }
        self.to_park.sort_unstable();
        self.subscription.rewind_parked();
    }

    /// Takes a batch apart that was never sent, or certainly not stored: entries of the journal go on the
    /// list; those of the parking log are where they belong. True if there were some of these.
    fn dissolve(&mut self, mut batch: Batch) -> bool {
        self.unload(&mut batch);
        let (parked, fresh): (Vec<_>, Vec<_>) = batch.members.iter().partition(|member| member.partition == PARKED);
        self.to_park.extend(fresh);
        for member in &parked {
            self.end(*member, "parked");
        }
        !parked.is_empty()
    }

    /// Batches in doubt cannot be dissolved, but what they are made of can be moved, so that they do not
    /// pin the journal.
    pub(super) fn move_batches(&mut self, now: Instant) {
        let (tenants, over_share) = (&self.tenants, self.over_share);
        // The journal lets go from its oldest entry on: while that is being counted, room in the parking log
        // would be taken by what frees nothing.
        let away = self.counted_tenants.values().flatten().min().copied().filter(|_| over_share);
        let to_count = self.to_count.iter_mut().map(|(then, batch)| (*then, batch));
        let waiting = self.schedule.iter_mut().chain(to_count);
        let mut chosen: Vec<(u64, &mut Batch)> = waiting
            .filter(|(then, batch)| {
                batch.recorded && (over_share || (*then != Then::Decide && tenants.is_parked(&batch.tenant, now)))
            })
            .filter_map(|(_, batch)| Some((batch.oldest()?, batch)))
            .filter(|(oldest, _)| away.is_none_or(|away| *oldest < away))
            .collect();
        chosen.sort_unstable_by_key(|(oldest, _)| *oldest);
        for (_, batch) in chosen {
            let result = self.subscription.park(&batch.members).and_then(|parked| {
                if parked.moved.is_empty() {
                    return Ok(());
                }
                for (from, to) in parked.moved {
                    for outcome in ["parked", "unparked"] {
                        self.setting.metrics.entries.with_label_values(&[&*self.setting.name, outcome]).inc();
                    }
                    batch.members.iter_mut().filter(|member| **member == from).for_each(|member| *member = to);
                    self.unparked.insert(to.index);
                }
                // Lost ones leave it when it is read again. The cursor, which knows of the new places, is not
                // saved before this record is durable.
                self.dirty = true;
                self.stale.insert(batch.id);
                if let Some(log) = &mut self.batch_log {
                    log.record(&[batch])?;
                }
                self.stale.remove(&batch.id);
                Ok(())
            });
            if let Err(error) = result {
                tracing::error!(destination = &*self.setting.name, batch = %batch.id, error = &error as &dyn std::error::Error, "cannot park a batch, or record where it is now; trying again");
                return;
            }
        }
    }

    /// Records the batches whose record tells former places of their members.
    pub(super) fn record_stale(&mut self) -> Result<(), Error> {
        let (Some(log), false) = (&mut self.batch_log, self.stale.is_empty()) else { return Ok(()) };
        let scheduled = self.schedule.iter().map(|(_, batch)| batch);
        let batches = scheduled.chain(&self.queue).chain(self.to_count.iter().map(|(_, batch)| batch));
        let stale: Vec<&Batch> = batches.filter(|batch| self.stale.contains(&batch.id)).collect();
        log.record(&stale)?;
        for batch in stale {
            self.stale.remove(&batch.id);
        }
        Ok(())
    }

    /// Copies what is on the list.
    fn copy(&mut self) -> Result<(), Error> {
        if self.to_park.is_empty() {
            self.parking_full = false;
            return Ok(());
        }
        let parked = self.subscription.park(&self.to_park)?;
        if parked.full && !self.parking_full {
            tracing::error!(
                destination = &*self.setting.name,
                max_bytes = self.subscription.parked_limit(),
                "the parking log is full; the cursor waits, nothing is dropped"
            );
        }
        self.parking_full = parked.full;
        let list = std::mem::take(&mut self.to_park);
        let (done, left): (Vec<_>, Vec<_>) =
            list.into_iter().partition(|position| self.subscription.is_decided(*position));
        self.to_park = left;
        let moved = parked.moved.len();
        for (at, position) in done.into_iter().enumerate() {
            // Those that are decided without having been moved could not be read.
            self.end(position, if at < moved { "parked" } else { "lost" });
        }
        Ok(())
    }

    /// Takes parked entries back whose tenants get through; true if there may be more at once.
    pub(super) fn unpark(&mut self, now: Instant) -> bool {
        for _ in 0..MAX_TURN {
            if self.loaded >= MAX_LOADED / 2 || self.undecided >= MAX_UNDECIDED || !self.subscription.has_parked() {
                return false;
            }
            match self.subscription.next_parked() {
                Ok(Some(Event::Entry(position, entry))) => {
                    if !self.terms.ordered && self.tenants.is_parked(&entry.tenant, now) {
                        self.passed_over = true;
                    } else {
                        self.take_parked(position, entry, now);
                    }
                }
                Ok(Some(Event::Lost { .. })) => self.dirty = true,
                Ok(None) => return false,
                Err(error) => {
                    tracing::warn!(
                        destination = &*self.setting.name,
                        error = &error as &dyn std::error::Error,
                        "cannot read the parking log; trying again"
                    );
                    return false;
                }
            }
        }
        true
    }
}
