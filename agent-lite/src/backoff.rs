//! Exponential backoff with full jitter: a fleet that lost its gateway comes back spread out.

use std::time::Duration;

/// How long to wait before the next try.
#[derive(Debug)]
pub(crate) struct Backoff {
    first: Duration,
    most: Duration,
    tries: u32,
}

impl Backoff {
    /// Waits of up to `first`, doubled with each failure up to `most`.
    #[must_use]
    pub(crate) fn new(first: Duration, most: Duration) -> Self {
        Self { first, most, tries: 0 }
    }

    /// After a failure: how long to wait.
    pub(crate) fn failed(&mut self) -> Duration {
        let ceiling = self.first.saturating_mul(1 << self.tries.min(16)).min(self.most);
        self.tries = self.tries.saturating_add(1);
        ceiling.mul_f64(rand::random_range(0.1..=1.0))
    }

    /// After a success.
    pub(crate) fn succeeded(&mut self) {
        self.tries = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_to_their_ceiling_and_start_anew() {
        let mut backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(3));
        for n in 0..40 {
            let ceiling = Duration::from_millis(100 << n.min(10)).min(Duration::from_secs(3));
            assert!(backoff.failed() <= ceiling);
        }
        backoff.succeeded();
        assert!(backoff.failed() <= Duration::from_millis(100));
    }
}
