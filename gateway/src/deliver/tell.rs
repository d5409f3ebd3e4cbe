//! How a delivery is doing: gauges, and what the readiness page says.

use super::destination::Destination;
use super::schedule::Then;
use super::worker::{MAX_LOADED, MAX_UNDECIDED, Worker, now_nanos};
use crate::journal::Subscription;

impl<S: Subscription, D: Destination> Worker<S, D> {
    /// Sets the gauges, and tells how things are.
    pub(super) fn tell(&mut self) {
        let (metrics, name) = (&self.setting.metrics, &[&*self.setting.name]);
        let set = |gauge: &prometheus::IntGaugeVec, value: u64| {
            gauge.with_label_values(name).set(i64::try_from(value).unwrap_or(i64::MAX));
        };
        while self.ages.front().is_some_and(|(position, _)| self.subscription.is_decided(*position)) {
            self.ages.pop_front();
        }
        let oldest = self.ages.front().map(|(_, received)| *received);
        let age =
            oldest.map_or(0, |received| now_nanos().saturating_sub(received).max(0).unsigned_abs() / 1_000_000_000);
        let (lag, parked) = (self.subscription.lag(), self.subscription.parked());
        set(&metrics.undecided_entries, self.undecided as u64);
        set(&metrics.undecided_max_entries, MAX_UNDECIDED as u64);
        set(&metrics.loaded_bytes, self.loaded as u64);
        set(&metrics.loaded_max_bytes, MAX_LOADED as u64);
        set(&metrics.trailing_batches, self.schedule.len(Then::Decide) as u64);
        set(&metrics.lag_entries, lag.entries);
        set(&metrics.lag_bytes, lag.bytes);
        set(&metrics.lag_seconds, age);
        set(&metrics.parked_entries, parked.entries);
        set(&metrics.parked_bytes, parked.bytes);
        set(&metrics.parked_max_bytes, self.subscription.parked_limit());
        set(&metrics.dead_letter_bytes, self.letters.bytes());
        set(&metrics.dead_letter_max_bytes, self.letters.max_bytes());
        let mut health = self.setting.health.lock().expect("no code panics while it holds the health");
        health.failing = self.tenants.failing();
        health.not_counted.clone_from(&self.not_counted);
    }
}
