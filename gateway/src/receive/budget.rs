//! The memory that requests under way may take, over all connections.

use std::sync::Arc;

use prometheus::IntGauge;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::metrics::receive::ReceiveMetrics;

/// Bytes of one permit: a semaphore hands out 32 bits at a time.
const UNIT: usize = 1024;

#[derive(Debug)]
pub(super) struct Budget {
    room: Arc<Semaphore>,
    used: IntGauge,
}

/// Memory set aside; given back when dropped.
#[derive(Debug)]
pub(super) struct Share {
    permit: OwnedSemaphorePermit,
    used: IntGauge,
}

impl Budget {
    pub(super) fn new(bytes: usize, metrics: &ReceiveMetrics) -> Self {
        let units = (bytes / UNIT).min(Semaphore::MAX_PERMITS);
        metrics.memory_max_bytes.set(i64::try_from(bytes).unwrap_or(i64::MAX));
        Self { room: Arc::new(Semaphore::new(units)), used: metrics.memory_bytes.clone() }
    }

    /// Sets memory aside; `None`: there is not as much left. Never waits: a body that waits for memory
    /// holds its connection and its sender, who is better told when to come again.
    pub(super) fn take(&self, bytes: usize) -> Option<Share> {
        let units = u32::try_from(bytes.div_ceil(UNIT)).ok()?;
        let permit = Arc::clone(&self.room).try_acquire_many_owned(units).ok()?;
        let share = Share { permit, used: self.used.clone() };
        self.used.add(share.bytes());
        Some(share)
    }
}

impl Share {
    fn bytes(&self) -> i64 {
        (self.permit.num_permits() * UNIT) as i64
    }

    /// Adds another share of the same budget to this one.
    pub(super) fn join(&mut self, mut more: Self) {
        // `more` is empty after this, and gives nothing back when dropped.
        if let Some(permit) = more.permit.split(more.permit.num_permits()) {
            self.permit.merge(permit);
        }
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.used.sub(self.bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_taken_comes_back() {
        let metrics = ReceiveMetrics::register(&prometheus::Registry::new()).unwrap();
        let budget = Budget::new(10 * UNIT, &metrics);
        let mut share = budget.take(4 * UNIT + 1).unwrap();
        assert_eq!(metrics.memory_bytes.get(), 5 * UNIT as i64);
        assert!(budget.take(6 * UNIT).is_none());
        share.join(budget.take(5 * UNIT).unwrap());
        assert_eq!(metrics.memory_bytes.get(), 10 * UNIT as i64);
        assert!(budget.take(1).is_none());
        drop(share);
        assert_eq!(metrics.memory_bytes.get(), 0);
        assert!(budget.take(10 * UNIT).is_some());
    }
}
