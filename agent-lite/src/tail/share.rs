//! Whose turn it is, and how much each may take: weights of namespaces, budgets of pods, and the rate at which
//! a backlog is read when the agent first runs on a node.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::time::{Duration, Instant};

use globset::GlobSet;

/// Bytes a second of the agent's own logs, where they are read.
const OWN_RATE: u64 = 64 * 1024;

/// How turns and bytes are shared out.
#[derive(Debug, Clone, Default)]
pub struct Sharing {
    /// Bytes a second of what was there before the agent's first run on the node; `None`: as fast as it goes.
    pub backlog_rate: Option<u64>,
    /// The first that matches a namespace counts; 1 where none does.
    pub weights: Vec<(GlobSet, u32)>,
    /// The first that matches a pod's namespace counts.
    pub budgets: Vec<Budget>,
}

/// How much a pod may write.
#[derive(Debug, Clone)]
pub struct Budget {
    /// Namespaces it holds for.
    pub namespaces: GlobSet,
    /// Bytes a second, of all containers of a pod together, as they stand in the log files.
    pub rate: u64,
    /// Bytes that may come at once.
    pub burst: u64,
    /// What becomes of more than that.
    pub policy: Policy,
}

/// What becomes of lines above a pod's budget.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Policy {
    /// They stay in the file until there is room in the budget.
    Delay,
    /// One in so many is sent, the others are dropped and told of.
    Sample(u32),
    /// They are dropped and told of.
    Drop,
}

/// A bucket of bytes, filled at a rate up to its burst.
#[derive(Debug, Clone)]
pub(super) struct Bucket {
    rate: u64,
    burst: u64,
    bytes: i64,
    filled: Instant,
}

impl Bucket {
    pub(super) fn new(rate: u64, burst: u64, now: Instant) -> Self {
        Self { rate, burst, bytes: clamped(burst), filled: now }
    }

    /// Another rate and burst: what is in it stays, as far as it fits.
    fn alter(&mut self, rate: u64, burst: u64, now: Instant) {
        self.fill(now);
        (self.rate, self.burst, self.bytes) = (rate, burst, self.bytes.min(clamped(burst)));
    }

    pub(super) fn fill(&mut self, now: Instant) {
        let elapsed = now.saturating_duration_since(self.filled);
        let added = u128::from(self.rate) * elapsed.as_micros() / 1_000_000;
        if added > 0 {
            // Less than a byte's worth of time is not lost.
            self.filled += Duration::from_micros(u64::try_from(added * 1_000_000 / u128::from(self.rate)).unwrap_or(0));
            self.bytes = self.bytes.saturating_add(i64::try_from(added).unwrap_or(i64::MAX)).min(clamped(self.burst));
        }
    }

    /// Bytes that may be taken; a line more than that may be, which is owed.
    pub(super) fn room(&self) -> usize {
        usize::try_from(self.bytes).unwrap_or(0)
    }

    pub(super) fn take(&mut self, bytes: u64) {
        self.bytes = self.bytes.saturating_sub(clamped(bytes));
    }
}

fn clamped(bytes: u64) -> i64 {
    i64::try_from(bytes).unwrap_or(i64::MAX)
}

/// A pod's bucket and what happens when it is empty.
#[derive(Debug)]
pub(super) struct PodBudget {
    bucket: Bucket,
    policy: Policy,
    /// Lines that found it empty.
    over: u64,
}

impl PodBudget {
    /// Takes over what a budget says by now.
    fn follow(&mut self, budget: &Budget, now: Instant) {
        if (self.bucket.rate, self.bucket.burst, self.policy) != (budget.rate, budget.burst, budget.policy) {
            self.bucket.alter(budget.rate, budget.burst, now);
            self.policy = budget.policy;
        }
    }

    /// Whether a line of so many bytes is sent.
    fn admits(&mut self, bytes: u64) -> bool {
        let admitted = match self.policy {
            // It was not read before there was room.
            Policy::Delay => return true,
            _ if self.bucket.room() > 0 => true,
            Policy::Drop => false,
            Policy::Sample(one_in) => {
                self.over += 1;
                one_in <= 1 || self.over % u64::from(one_in) == 1
            }
        };
        if admitted {
            self.bucket.take(bytes);
        }
        admitted
    }
}

/// What one log may take.
#[derive(Debug, Clone)]
pub(super) struct Share {
    /// Quanta in a turn.
    weight: usize,
    pod: Option<Rc<RefCell<PodBudget>>>,
    /// It was there before the agent's first run, and was not read to its end yet.
    backlog: Option<Rc<RefCell<Bucket>>>,
    /// It is the agent's own, which no setting makes faster.
    is_own: bool,
}

impl Share {
    /// The agent's own logs: as much as is worth reading, and no more than would feed itself.
    pub(super) fn slow(now: Instant) -> Self {
        let bucket = Bucket::new(OWN_RATE, OWN_RATE, now);
        let pod = PodBudget { bucket, policy: Policy::Delay, over: 0 };
        Self { weight: 1, pod: Some(Rc::new(RefCell::new(pod))), backlog: None, is_own: true }
    }

    /// Bytes of a turn.
    pub(super) fn turn(&self, quantum: usize) -> usize {
        quantum * self.weight
    }

    /// Whether a limit of its own lets it read on; what it takes too much it owes.
    pub(super) fn may_read(&self, now: Instant) -> bool {
        let has_room = |bucket: &mut Bucket| {
            bucket.fill(now);
            bucket.room() > 0
        };
        let backlog = self.backlog.as_ref().is_none_or(|backlog| has_room(&mut backlog.borrow_mut()));
        backlog
            && self.pod.as_ref().is_none_or(|pod| {
                let mut pod = pod.borrow_mut();
                // Also where it only decides what is dropped, the bucket fills.
                has_room(&mut pod.bucket) || pod.policy != Policy::Delay
            })
    }

    /// So many bytes were read.
    pub(super) fn spend(&self, bytes: usize) {
        if let Some(backlog) = &self.backlog {
            backlog.borrow_mut().take(bytes as u64);
        }
        if let Some(pod) = &self.pod {
            let mut pod = pod.borrow_mut();
            if pod.policy == Policy::Delay {
                pod.bucket.take(bytes as u64);
            }
        }
    }

    /// Whether a line of so many bytes is sent; else it is dropped.
    pub(super) fn admits(&self, bytes: u64) -> bool {
        self.pod.as_ref().is_none_or(|pod| pod.borrow_mut().admits(bytes))
    }

    /// So many bytes more of a line that is sent: they are taken whether there is room or not.
    pub(super) fn owe(&self, bytes: u64) {
        if let Some(pod) = &self.pod {
            let mut pod = pod.borrow_mut();
            if pod.policy != Policy::Delay {
                pod.bucket.take(bytes);
            }
        }
    }

    /// It was read to its end: from now on it is not a backlog.
    pub(super) fn caught_up(&mut self) {
        self.backlog = None;
    }
}

/// What all logs share.
#[derive(Debug)]
pub(super) struct Shares {
    sharing: Sharing,
    pods: HashMap<Arc<str>, Weak<RefCell<PodBudget>>>,
    backlog: Option<Rc<RefCell<Bucket>>>,
}

impl Shares {
    pub(super) fn new(sharing: Sharing) -> Self {
        let bucket = |rate| Rc::new(RefCell::new(Bucket::new(rate, rate, Instant::now())));
        Self { backlog: sharing.backlog_rate.map(bucket), sharing, pods: HashMap::new() }
    }

    /// Other settings; each log's share is to be renewed with them. A rate of the backlog where there was none
    /// holds for nothing: nobody knows any more what was there before the first run.
    pub(super) fn change(&mut self, sharing: Sharing) {
        match (&self.backlog, sharing.backlog_rate) {
            (Some(backlog), Some(rate)) => backlog.borrow_mut().alter(rate, rate, Instant::now()),
            _ => self.backlog = None,
        }
        self.sharing = sharing;
    }

    /// The share of a log after a change.
    pub(super) fn renew(&mut self, share: &mut Share, namespace: &str, pod: Option<&Arc<str>>, now: Instant) {
        if share.is_own {
            return;
        }
        let is_old = share.backlog.is_some();
        *share = self.of_log(namespace, pod, is_old, now);
    }

    /// The share of a log of `namespace` (or unit) and of a pod, where it is one's. `is_old`: it was there
    /// before the agent's first run.
    pub(super) fn of_log(&mut self, namespace: &str, pod: Option<&Arc<str>>, is_old: bool, now: Instant) -> Share {
        let weight = self.sharing.weights.iter().find(|(globs, _)| globs.is_match(namespace));
        Share {
            weight: weight.map_or(1, |(_, weight)| *weight as usize),
            pod: pod.and_then(|uid| self.of_pod(namespace, uid, now)),
            backlog: self.backlog.clone().filter(|_| is_old),
            is_own: false,
        }
    }

    fn of_pod(&mut self, namespace: &str, uid: &Arc<str>, now: Instant) -> Option<Rc<RefCell<PodBudget>>> {
        let budget = self.sharing.budgets.iter().find(|budget| budget.namespaces.is_match(namespace))?;
        if let Some(pod) = self.pods.get(uid).and_then(Weak::upgrade) {
            pod.borrow_mut().follow(budget, now);
            return Some(pod);
        }
        // Those whose logs are gone.
        self.pods.retain(|_, pod| pod.strong_count() > 0);
        let bucket = Bucket::new(budget.rate, budget.burst, now);
        let pod = Rc::new(RefCell::new(PodBudget { bucket, policy: budget.policy, over: 0 }));
        self.pods.insert(uid.clone(), Rc::downgrade(&pod));
        Some(pod)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_gives_its_rate_after_its_burst() {
        let start = Instant::now();
        let mut bucket = Bucket::new(1000, 500, start);
        assert_eq!(bucket.room(), 500);
        bucket.take(700);
        assert_eq!(bucket.room(), 0, "200 are owed");
        bucket.fill(start + Duration::from_millis(300));
        assert_eq!(bucket.room(), 100);
        // Often, and each time less than a byte's worth.
        for micros in 0..1000 {
            bucket.fill(start + Duration::from_millis(300) + Duration::from_micros(micros * 100));
        }
        assert!((198..=200).contains(&bucket.room()), "{}", bucket.room());
        bucket.fill(start + Duration::from_secs(60));
        assert_eq!(bucket.room(), 500, "no more than its burst");
    }

    #[test]
    fn what_changes_keeps_its_fill_and_what_is_own_stays_slow() {
        let budget = |rate, policy| {
            let mut namespaces = globset::GlobSetBuilder::new();
            namespaces.add(globset::Glob::new("shop").unwrap());
            Budget { namespaces: namespaces.build().unwrap(), rate, burst: 10 * rate, policy }
        };
        let sharing = |budgets| Sharing { budgets, backlog_rate: Some(100), ..Sharing::default() };
        let mut shares = Shares::new(sharing(vec![budget(100, Policy::Drop)]));
        let (now, uid): (_, Arc<str>) = (Instant::now(), "uid".into());
        let mut share = shares.of_log("shop", Some(&uid), true, now);
        let mut other = shares.of_log("shop", Some(&uid), false, now);
        assert!(share.admits(700));
        let room = |share: &Share| share.pod.as_ref().map(|pod| pod.borrow().bucket.room());
        // The same again, a smaller one, a larger one, none, one.
        for (budgets, expected) in [
            (vec![budget(100, Policy::Drop)], Some(300)),
            (vec![budget(20, Policy::Drop)], Some(200)),
            (vec![budget(500, Policy::Delay)], Some(200)),
            (vec![], None),
            (vec![budget(5, Policy::Drop)], Some(50)),
        ] {
            shares.change(sharing(budgets));
            shares.renew(&mut share, "shop", Some(&uid), now);
            shares.renew(&mut other, "shop", Some(&uid), now);
            assert_eq!((room(&share), room(&other)), (expected, expected));
        }
        assert!(share.backlog.is_some() && other.backlog.is_none());
        shares.change(Sharing::default());
        shares.renew(&mut share, "shop", Some(&uid), now);
        assert!(share.backlog.is_none(), "no rate holds any more");
        let mut own = Share::slow(now);
        shares.renew(&mut own, "shop", Some(&uid), now);
        assert_eq!(room(&own), Some(64 * 1024));
    }

    #[test]
    fn a_sample_is_one_in_so_many() {
        let bucket = Bucket::new(1, 0, Instant::now());
        let mut pod = PodBudget { bucket, policy: Policy::Sample(10), over: 0 };
        assert_eq!((0..100).filter(|_| pod.admits(50)).count(), 10);
    }
}
