//! Batches that wait for a moment.

use std::collections::BTreeMap;

use tokio::time::Instant;

use super::batch::Batch;

/// What comes next for a batch that waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Then {
    /// It is sent (again).
    Send,
    /// It is counted, and then trails, is sent, or is completed.
    Count,
    /// It was answered, its time is over: it is counted where that can be done, and then decided.
    Decide,
}

/// Batches by when they are due.
#[derive(Debug, Default)]
pub(super) struct Schedule {
    due: BTreeMap<(Instant, u64), (Then, Batch)>,
    next: u64,
}

impl Schedule {
    pub(super) fn add(&mut self, at: Instant, then: Then, batch: Batch) {
        self.next += 1;
        self.due.insert((at, self.next), (then, batch));
    }

    /// What is due by `now`, the earliest first.
    pub(super) fn take_due(&mut self, now: Instant) -> Vec<(Then, Batch)> {
        let mut due = Vec::new();
        while let Some(first) = self.due.first_entry()
            && first.key().0 <= now
        {
            due.push(first.remove());
        }
        due
    }

    /// When the next one is due.
    pub(super) fn next_due(&self) -> Option<Instant> {
        self.due.first_key_value().map(|((at, _), _)| *at)
    }

    pub(super) fn len(&self, then: Then) -> usize {
        self.due.values().filter(|(what, _)| *what == then).count()
    }

    /// Makes every batch of `tenant` that waits to be sent due at once.
    pub(super) fn hasten(&mut self, tenant: &str, now: Instant) {
        let waiting: Vec<_> =
            self.due.extract_if(.., |_, (then, batch)| *then == Then::Send && &*batch.tenant == tenant).collect();
        for (_, (then, batch)) in waiting {
            self.add(now, then, batch);
        }
    }

    /// Takes out every batch that waits for this, in the order in which they are due.
    pub(super) fn take_all(&mut self, then: Then) -> Vec<Batch> {
        self.due.extract_if(.., |_, (what, _)| *what == then).map(|(_, (_, batch))| batch).collect()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (Then, &Batch)> {
        self.due.values().map(|(then, batch)| (*then, batch))
    }

    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = (Then, &mut Batch)> {
        self.due.values_mut().map(|(then, batch)| (*then, batch))
    }
}
