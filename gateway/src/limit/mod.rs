//! How much each tenant may send: bytes and lines per second, each a bucket. A block passes both or
//! neither.

mod bucket;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use governor::clock::{Clock, DefaultClock};
use sluice_wire::{Header, Reason, Verdict};

use self::bucket::Bucket;
use crate::config::checked::{Limit, Policy, Tenant};

/// The buckets of all tenants that have a limit.
#[derive(Debug)]
pub struct Limits<C: Clock = DefaultClock> {
    tenants: HashMap<Tenant, Arc<Buckets<C>>>,
    clock: C,
}

#[derive(Debug)]
struct Buckets<C: Clock> {
    limit: Limit,
    /// Locked for a few divisions, without waiting for anything, once a block.
    pair: Mutex<Pair<C>>,
}

#[derive(Debug)]
struct Pair<C: Clock> {
    bytes: Option<Bucket<C>>,
    lines: Option<Bucket<C>>,
}

impl<C: Clock + Clone> Limits<C> {
    /// Full buckets for `policy`.
    #[must_use]
    pub fn new(policy: &Policy, clock: C) -> Self {
        Self { tenants: HashMap::new(), clock }.reloaded(policy)
    }

    /// Those of a new policy. A bucket whose limit is the same goes on as full as it was: a reload gives
    /// nobody a second burst.
    #[must_use]
    pub fn reloaded(&self, policy: &Policy) -> Self {
        let buckets = |tenant: &Tenant| {
            let limit = policy.limit(tenant)?;
            let kept = self.tenants.get(tenant).filter(|kept| kept.limit == limit).map(Arc::clone);
            Some((Arc::clone(tenant), kept.unwrap_or_else(|| Arc::new(Buckets::new(limit, &self.clock)))))
        };
        Self { tenants: policy.tenants().filter_map(buckets).collect(), clock: self.clock.clone() }
    }

    /// Takes a block's bytes and lines out of its tenant's buckets.
    ///
    /// # Errors
    /// [`Verdict::RetryAfter`] with the time until the buckets hold this block, or [`Verdict::TooLarge`]
    /// for one that they never could. Nothing is taken then. A lone record, which cannot be cut, passes
    /// for a whole burst.
    pub fn take(&self, tenant: &Tenant, header: &Header) -> Result<(), Verdict> {
        self.tenants.get(tenant).map_or(Ok(()), |buckets| buckets.take(header))
    }

    /// Gives back what [`take`](Self::take) took for a block that was not stored after all.
    pub fn give_back(&self, tenant: &Tenant, raw_bytes: u32, records: u32) {
        let Some(buckets) = self.tenants.get(tenant) else { return };
        let mut pair = buckets.lock();
        let Pair { bytes, lines } = &mut *pair;
        if let Some(bytes) = bytes {
            bytes.give_back(raw_bytes);
        }
        if let Some(lines) = lines {
            lines.give_back(records);
        }
    }
}

impl<C: Clock + Clone> Buckets<C> {
    fn new(limit: Limit, clock: &C) -> Self {
        let bucket = |rate| Bucket::new(rate, clock.clone());
        Self { limit, pair: Mutex::new(Pair { bytes: limit.bytes.map(bucket), lines: limit.lines.map(bucket) }) }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Pair<C>> {
        self.pair.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn take(&self, header: &Header) -> Result<(), Verdict> {
        let bytes = self.limit.bytes.map_or(header.raw_len, |rate| header.raw_len.min(rate.burst));
        let lines = header.records;
        if let Some(largest) = self.largest(header) {
            return Err(Verdict::TooLarge(largest, Reason::Burst));
        }
        let mut pair = self.lock();
        let pair = &mut *pair;
        // Both are asked, so that the wait told is one after which both have room.
        let wait_bytes = pair.bytes.as_mut().and_then(|bucket| bucket.take(bytes).err());
        let wait_lines = pair.lines.as_mut().and_then(|bucket| bucket.take(lines).err());
        let (wait, reason) = match (wait_bytes, wait_lines) {
            (None, None) => return Ok(()),
            (Some(wait), None) => {
                pair.lines.as_mut().into_iter().for_each(|bucket| bucket.give_back(lines));
                (wait, Reason::LimitBytes)
            }
            (None, Some(wait)) => {
                pair.bytes.as_mut().into_iter().for_each(|bucket| bucket.give_back(bytes));
                (wait, Reason::LimitLines)
            }
            (Some(bytes), Some(lines)) if bytes >= lines => (bytes, Reason::LimitBytes),
            (Some(_), Some(lines)) => (lines, Reason::LimitLines),
        };
        Err(Verdict::RetryAfter(with_jitter(wait), reason))
    }

    /// If the block is above a burst: the raw bytes that a block of such lines may have. Lines are
    /// reckoned at the block's mean, so that a block cut there usually fits.
    fn largest(&self, header: &Header) -> Option<u32> {
        if header.records <= 1 {
            return None;
        }
        let by_bytes = self.limit.bytes.map(|rate| rate.burst).filter(|burst| header.raw_len > *burst);
        let over_lines = self.limit.lines.map(|rate| rate.burst).filter(|burst| header.records > *burst);
        let by_lines = over_lines.map(|burst| {
            let bytes = u64::from(header.raw_len) * u64::from(burst) / u64::from(header.records.max(1));
            u32::try_from(bytes).unwrap_or(u32::MAX).max(1)
        });
        by_bytes.into_iter().chain(by_lines).min()
    }
}

/// Up to an eighth more, at least a few milliseconds: those who were refused together do not come back
/// together.
fn with_jitter(wait: Duration) -> Duration {
    let most = (wait / 8).max(Duration::from_millis(8));
    // Whole milliseconds, rounded up: a wait told too short is a wasted request.
    let wait = wait + most.mul_f64(rand::random());
    Duration::from_millis(u64::try_from(wait.as_millis()).unwrap_or(u64::MAX).saturating_add(1))
}

#[cfg(test)]
mod tests;
