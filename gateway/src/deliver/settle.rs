//! What an answer means for a batch.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::batch::{Batch, backoff};
use super::dead_letters::Letter;
use super::destination::{Destination, Mode, Outcome, Receipt, Refusal, Trailing};
use super::schedule::Then;
use super::worker::{Sent, VISIBLE_AFTER, Worker, now_nanos};
use crate::journal::{self, Position, Subscription};

/// Dead letters that could not be written are tried again after this.
const LETTERS_PAUSE: Duration = Duration::from_secs(5);
/// A held tenant is probed no more often than this, and no less than every half minute after it.
const PROBE_EVERY: Duration = Duration::from_secs(2);

impl<S: Subscription, D: Destination> Worker<S, D> {
    pub(super) fn settle(&mut self, sent: Sent) {
        let Sent { mut batch, outcome, took } = sent;
        let (metrics, name) = (&self.setting.metrics, &*self.setting.name);
        metrics.batches.with_label_values(&[name, outcome.word()]).inc();
        metrics.request_seconds.with_label_values(&[name]).observe(took.as_secs_f64());
        let now = Instant::now();
        match outcome {
            Outcome::Delivered(receipt) => self.delivered(batch, &receipt, now),
            Outcome::Retry(refusal) => {
                let wait = self.failed(&mut batch, &refusal, false, Duration::ZERO, now);
                self.wait(batch, Then::Send, now + wait);
            }
            Outcome::Hold(refusal) => {
                let wait = self.failed(&mut batch, &refusal, true, PROBE_EVERY, now);
                self.wait(batch, Then::Send, now + wait);
            }
            Outcome::Unknown(refusal) => {
                let wait = self.failed(&mut batch, &refusal, false, VISIBLE_AFTER, now);
                // Where the destination cannot be asked, the same bytes go again: at least once.
                let then = if self.batch_log.is_some() { Then::Count } else { Then::Send };
                self.wait(batch, then, now + wait);
            }
            Outcome::Split(refusal) => self.split(batch, &refusal),
        }
    }

    /// Notes a failure; returns how long to wait.
    fn failed(&mut self, batch: &mut Batch, refusal: &Refusal, held: bool, least: Duration, now: Instant) -> Duration {
        self.tenants.failed(&batch.tenant, &refusal.why, held, now);
        let wait = backoff::after(batch.failures, refusal.after.unwrap_or_default().max(least));
        batch.failures = batch.failures.saturating_add(1);
        // What waits behind it is read again when its turn comes: memory is for those that get through.
        let tenant = Arc::clone(&batch.tenant);
        for at in 0..self.queue.len() {
            if self.queue[at].tenant == tenant && !self.queue[at].entries.is_empty() {
                self.loaded = self.loaded.saturating_sub(self.queue[at].loaded_bytes());
                self.queue[at].entries = Vec::new();
            }
        }
        wait
    }

    /// The tenant got through.
    pub(super) fn got_through(&mut self, tenant: &str, now: Instant) {
        if self.tenants.succeeded(tenant) {
            self.schedule.hasten(tenant, now);
            if std::mem::take(&mut self.passed_over) {
                self.subscription.rewind_parked();
            }
        }
    }

    fn delivered(&mut self, mut batch: Batch, receipt: &Receipt, now: Instant) {
        self.got_through(&batch.tenant, now);
        self.take_receipt(&mut batch, receipt);
        self.write_letters(&mut batch, now);
        self.unload(&mut batch);
        batch.failures = 0;
        match self.terms.trailing {
            Trailing::Final => self.decide(batch, now),
            Trailing::Wait(durable_after) | Trailing::Count(durable_after) => self.trail(batch, now + durable_after),
        }
    }

    /// Notes what is stored, and makes letters of the rest.
    fn take_receipt(&mut self, batch: &mut Batch, receipt: &Receipt) {
        batch.stored = Some(receipt.stored);
        if receipt.rejected.is_empty() {
            return;
        }
        batch.rejected = receipt.rejected.len() as u64;
        let places: HashMap<Position, usize> = batch.members.iter().copied().zip(0..).collect();
        let mut counts: HashMap<Position, u32> = HashMap::new();
        let now = now_nanos();
        for rejected in &receipt.rejected {
            *counts.entry(rejected.position).or_default() += 1;
            if let Some(entry) = places.get(&rejected.position).and_then(|&at| batch.entries.get(at)) {
                batch.letters.push(Letter::new(rejected, entry, now));
            }
        }
        for (position, count) in counts {
            let records = places.get(&position).map(|&at| batch.entries[at].block.header.records);
            if records == Some(count) {
                batch.rejected_members.insert(position);
            }
        }
    }

    /// Writes a batch's dead letters; while that fails nothing goes out for its tenant, for each batch could
    /// bring more.
    pub(super) fn write_letters(&mut self, batch: &mut Batch, now: Instant) -> bool {
        if batch.letters.is_empty() {
            return true;
        }
        let (written, result) = self.letters.append(&batch.letters);
        for letter in batch.letters.drain(..written) {
            let labels = [&*self.setting.name, letter.reason.word()];
            self.setting.metrics.dead_letters.with_label_values(&labels).inc();
        }
        match result {
            Ok(()) => {
                self.letters_blocked.remove(&batch.tenant);
                true
            }
            Err(error) => {
                self.tenants.failed(&batch.tenant, &format!("dead letters cannot be kept: {error}"), true, now);
                self.letters_blocked.insert(Arc::clone(&batch.tenant), now + LETTERS_PAUSE);
                false
            }
        }
    }

    /// In smaller parts: first by blocks, then by lines.
    fn split(&mut self, batch: Batch, refusal: &Refusal) {
        let destination = &*self.setting.name;
        tracing::warn!(
            destination,
            tenant = &*batch.tenant,
            entries = batch.members.len(),
            why = refusal.why,
            "batch was refused; sending it in smaller parts"
        );
        if batch.members.len() == 1 {
            self.queue.push_front(Batch { mode: Mode::Lines, ..batch });
            return;
        }
        // Nothing of it is stored, so its id ends here; the record of that goes with those of the halves,
        // which are not sent before.
        self.stale.remove(&batch.id);
        if let (Some(log), true) = (&mut self.batch_log, batch.recorded) {
            log.settle(&[batch.id]);
        }
        let (first, second) = batch.halves();
        self.queue.push_front(second);
        self.queue.push_front(first);
    }

    /// The destination has it for good, or never will.
    pub(super) fn decide(&mut self, mut batch: Batch, now: Instant) {
        if !batch.letters.is_empty() {
            if !self.write_letters(&mut batch, now) {
                self.wait(batch, Then::Decide, now + LETTERS_PAUSE);
                return;
            }
            self.got_through(&batch.tenant, now);
        }
        for &member in &batch.members {
            let (outcome, word) = match batch.rejected_members.contains(&member) {
                true => (journal::Outcome::Rejected, "rejected"),
                false => (journal::Outcome::Delivered, "delivered"),
            };
            self.subscription.decide(member, outcome);
            self.end(member, word);
        }
        let (metrics, name) = (&self.setting.metrics, &*self.setting.name);
        metrics.bytes.with_label_values(&[name]).inc_by(batch.bytes as u64);
        let records = |outcome: &str, count: u64| {
            metrics.records.with_label_values(&[name, &*batch.tenant, batch.category.word(), outcome]).inc_by(count);
        };
        records("delivered", batch.records.saturating_sub(batch.rejected));
        if batch.rejected > 0 {
            records("rejected", batch.rejected);
        }
        self.stale.remove(&batch.id);
        if batch.recorded {
            self.decided.push(batch.id);
        }
    }
}
