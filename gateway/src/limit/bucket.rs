//! One token bucket: governor's, in cells large enough to be exact, with the change kept.

use std::fmt;
use std::num::NonZeroU32;
use std::time::Duration;

use governor::clock::Clock;
use governor::middleware::NoOpMiddleware;
use governor::state::{InMemoryState, NotKeyed};
use governor::{Quota, RateLimiter};

use crate::config::checked::Rate;

/// Governor measures a cell in whole nanoseconds: at 700 MB/s a byte would be 1 ns instead of 1.43. So a
/// cell is as many tokens as come in 10 µs or so, and what a take leaves of its last cell is credit.
const CELLS_PER_SECOND: u32 = 100_000;

pub(super) struct Bucket<C: Clock> {
    limiter: RateLimiter<NotKeyed, InMemoryState, C, NoOpMiddleware<C::Instant>>,
    clock: C,
    /// Tokens of a cell.
    cell: u32,
    /// Tokens taken out of the limiter that belong to nobody: used first.
    credit: u32,
    burst: u32,
}

impl<C: Clock + Clone> Bucket<C> {
    /// A full one.
    pub(super) fn new(rate: Rate, clock: C) -> Self {
        let cell = (rate.per_second / CELLS_PER_SECOND).max(1).min(rate.burst.max(1));
        let nanos = (1_000_000_000 * u64::from(cell) / u64::from(rate.per_second.max(1))).max(1);
        let cells = NonZeroU32::new(rate.burst.div_ceil(cell)).unwrap_or(NonZeroU32::MIN);
        let quota = Quota::with_period(Duration::from_nanos(nanos)).unwrap_or(Quota::per_second(NonZeroU32::MIN));
        let limiter = RateLimiter::direct_with_clock(quota.allow_burst(cells), clock.clone());
        Self { limiter, clock, cell, credit: 0, burst: rate.burst }
    }

    /// Takes `tokens`, at most the burst, or nothing.
    ///
    /// # Errors
    /// The time until there are as many.
    pub(super) fn take(&mut self, tokens: u32) -> Result<(), Duration> {
        let missing = tokens.saturating_sub(self.credit);
        let Some(cells) = NonZeroU32::new(missing.div_ceil(self.cell)) else {
            self.credit -= tokens;
            return Ok(());
        };
        match self.limiter.check_n(cells) {
            Ok(Ok(())) => {
                // Without overflow: a cell is at most the burst, and the rest less than a cell.
                self.credit = cells.get().saturating_mul(self.cell) - missing;
                Ok(())
            }
            Ok(Err(not_until)) => Err(not_until.wait_time_from(self.clock.now())),
            // Above the burst, which the caller has excluded: as good as never.
            Err(_) => Err(Duration::from_secs(3600)),
        }
    }

    /// Takes tokens back that were not used; at most a burst of them is kept.
    pub(super) fn give_back(&mut self, tokens: u32) {
        self.credit = self.credit.saturating_add(tokens).min(self.burst);
    }
}

impl<C: Clock> fmt::Debug for Bucket<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Bucket").field("credit", &self.credit).field("burst", &self.burst).finish_non_exhaustive()
    }
}
