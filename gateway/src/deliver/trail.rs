//! Batches that were answered, or may have been: counted before the cursor passes them.

use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::batch::{Batch, backoff};
use super::destination::{Asked, Destination, Mode, Trailing};
use super::schedule::Then;
use super::worker::{Counted, DISK_PAUSE, Worker};
use crate::journal::Subscription;

/// Trailing batches become due together at full multiples of this, so that one query counts many.
const TOGETHER: Duration = Duration::from_secs(2);
/// Batches in one query.
const MAX_ASKED: usize = 256;
/// After so many rounds of sending, an answer, and a count that has not changed, what is missing is given up.
const VAIN_ROUNDS: u32 = 2;

impl<S: Subscription, D: Destination> Worker<S, D> {
    /// Lets a batch trail until `until`, or a little longer.
    pub(super) fn trail(&mut self, batch: Batch, until: Instant) {
        let step = u64::try_from(TOGETHER.as_nanos()).unwrap_or(u64::MAX);
        let past = until.saturating_duration_since(self.started).as_nanos();
        let rest = u64::try_from(past % u128::from(step)).unwrap_or(0);
        let late = if rest == 0 { 0 } else { step - rest };
        self.wait(batch, Then::Decide, until + Duration::from_nanos(late));
    }

    /// A batch is due to be counted or decided.
    pub(super) fn look_after(&mut self, then: Then, batch: Batch, now: Instant) {
        match self.terms.trailing {
            Trailing::Count(_) if batch.expected() > 0 => self.to_count.push((then, batch)),
            // Nothing that could be counted: what was in it was rejected.
            Trailing::Count(_) | Trailing::Wait(_) | Trailing::Final => self.decide(batch, now),
        }
    }

    /// One query for each tenant that has batches to be counted, as many at once as requests may be.
    pub(super) fn start_counts(&mut self) {
        if self.to_count.is_empty() {
            return;
        }
        let mut by_tenant: HashMap<Arc<str>, Vec<(Then, Batch)>> = HashMap::new();
        let mut later = Vec::new();
        for (then, batch) in self.to_count.drain(..) {
            if self.counted_tenants.contains_key(&batch.tenant) {
                later.push((then, batch));
                continue;
            }
            let batches = by_tenant.entry(Arc::clone(&batch.tenant)).or_default();
            match batches.len() < MAX_ASKED {
                true => batches.push((then, batch)),
                false => later.push((then, batch)),
            }
        }
        self.to_count = later;
        for (tenant, batches) in by_tenant {
            if self.counting.len() >= self.terms.concurrency.max(1) {
                self.to_count.extend(batches);
                continue;
            }
            let oldest = batches.iter().filter_map(|(_, batch)| batch.oldest()).min();
            self.counted_tenants.insert(Arc::clone(&tenant), oldest);
            let destination = Rc::clone(&self.destination);
            let asked: Vec<Asked> = batches.iter().map(|(_, batch)| asked(batch)).collect();
            self.counting.push(Box::pin(async move {
                let result = destination.count(&tenant, &asked).await;
                Counted { batches, result }
            }));
        }
    }

    pub(super) fn counted(&mut self, counted: Counted) {
        let now = Instant::now();
        if let Some((_, batch)) = counted.batches.first() {
            self.counted_tenants.remove(&batch.tenant);
        }
        let counts = match counted.result {
            Ok(counts) => counts,
            Err(refusal) => {
                self.setting.metrics.count_failures.with_label_values(&[&*self.setting.name]).inc();
                if self.not_counted.as_ref() != Some(&refusal.why) {
                    tracing::error!(
                        destination = &*self.setting.name,
                        why = refusal.why,
                        "delivered batches cannot be counted; the cursor waits for it (batch_ids: false does without)"
                    );
                    self.not_counted = Some(refusal.why);
                }
                self.count_failures = self.count_failures.saturating_add(1);
                let wait = backoff::after(self.count_failures, refusal.after.unwrap_or(DISK_PAUSE));
                for (then, batch) in counted.batches {
                    self.wait(batch, then, now + wait);
                }
                return;
            }
        };
        self.count_failures = 0;
        self.not_counted = None;
        for ((then, batch), count) in counted.batches.into_iter().zip(counts) {
            self.judge_count(then, batch, count, now);
        }
    }

    fn judge_count(&mut self, then: Then, batch: Batch, count: u64, now: Instant) {
        let (metrics, name) = (&self.setting.metrics, [&*self.setting.name]);
        let expected = batch.expected();
        if count >= expected {
            let surplus = count - expected;
            if surplus > 0 {
                metrics.duplicated_records.with_label_values(&name).inc_by(surplus);
                tracing::warn!(destination = name[0], batch = %batch.id, tenant = &*batch.tenant, expected, count, "the store has records of a batch twice");
            }
            match (then, self.terms.trailing) {
                // In doubt until now: that it can be seen does not make it durable.
                (Then::Count, Trailing::Count(durable_after)) => {
                    self.got_through(&batch.tenant, now);
                    self.trail(batch, now + durable_after);
                }
                _ => self.decide(batch, now),
            }
            return;
        }
        let mut short = batch.short;
        if then == Then::Decide {
            // What was answered and is not there was dropped, or lost; what is dropped once is dropped again.
            let same = short.filter(|(before, _)| *before == count);
            short = Some((count, same.map_or(0, |(_, rounds)| rounds + 1)));
        }
        let mode = match count {
            _ if short.is_some_and(|(before, rounds)| before == count && rounds >= VAIN_ROUNDS) => {
                tracing::error!(destination = name[0], batch = %batch.id, tenant = &*batch.tenant, expected, count, "the store answers for records and does not keep them; they become dead letters");
                Mode::GiveUp
            }
            0 => {
                metrics.resent.with_label_values(&name).inc();
                Mode::Whole
            }
            _ => {
                metrics.completed.with_label_values(&name).inc();
                Mode::Missing
            }
        };
        if then == Then::Decide && mode != Mode::GiveUp {
            tracing::warn!(destination = name[0], batch = %batch.id, tenant = &*batch.tenant, expected, count, "the store has lost records that it had answered for; sending them again");
        }
        self.queue.push_back(Batch { mode, stored: None, short, ..batch });
    }

    /// Saves the cursor. Batches are settled only after that: as long as their members count as not
    /// decided, their ids must be found again.
    pub(super) async fn save(&mut self) {
        // One that is being counted comes back, and is recorded by the next save.
        let recorded = self.record_stale();
        if recorded.is_err() || !self.stale.is_empty() {
            let error = recorded.err();
            tracing::warn!(
                destination = &*self.setting.name,
                error = error.as_ref().map(|error| error as &dyn std::error::Error),
                "the cursor is not saved before batches that were parked are recorded; trying again"
            );
            self.setting.metrics.saves.with_label_values(&[&*self.setting.name, "failed"]).inc();
            return;
        }
        let state = self.destination.state();
        let result = match self.subscription.save(&state).await {
            Ok(()) => {
                self.dirty = false;
                self.has_saved = true;
                if let Some(log) = &mut self.batch_log {
                    log.settle(&self.decided);
                }
                self.decided.clear();
                "saved"
            }
            Err(error) => {
                tracing::error!(
                    destination = &*self.setting.name,
                    error = &error as &dyn std::error::Error,
                    "cannot save the cursor; trying again"
                );
                "failed"
            }
        };
        self.setting.metrics.saves.with_label_values(&[&*self.setting.name, result]).inc();
    }
}

fn asked(batch: &Batch) -> Asked {
    Asked { id: batch.id, first_time: batch.first_time, last_time: batch.last_time }
}
