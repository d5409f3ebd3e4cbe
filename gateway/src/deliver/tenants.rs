//! Which tenants get through to a destination, and which do not.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use prometheus::IntGaugeVec;
use tokio::time::Instant;

/// After failing for so long, a tenant's entries are parked, so that the others go on.
const PARK_AFTER: Duration = Duration::from_secs(10);

/// The same failure is logged no more often than this: what a store says differs from attempt to attempt.
const SAY_EVERY: Duration = Duration::from_secs(60);

/// The tenants of one destination that have something under way or are failing.
#[derive(Debug)]
pub(super) struct Tenants {
    destination: Arc<str>,
    held: IntGaugeVec,
    states: HashMap<Arc<str>, State>,
}

#[derive(Debug, Default)]
struct State {
    in_flight: usize,
    failing: Option<Failing>,
}

#[derive(Debug)]
struct Failing {
    since: Instant,
    why: String,
    held: bool,
    said: Instant,
}

impl Tenants {
    pub(super) fn new(destination: Arc<str>, held: IntGaugeVec) -> Self {
        Self { destination, held, states: HashMap::new() }
    }

    /// Whether one more batch may go out now. A tenant that fails is probed with one at a time, and none
    /// takes the last of several slots: a tenant whose requests hang leaves it to the others.
    pub(super) fn may_send(&self, tenant: &str, slots: usize) -> bool {
        self.states.get(tenant).is_none_or(|state| match state.failing {
            Some(_) => state.in_flight == 0,
            None => state.in_flight < slots.saturating_sub(1).max(1),
        })
    }

    pub(super) fn sent(&mut self, tenant: &Arc<str>) {
        self.states.entry(Arc::clone(tenant)).or_default().in_flight += 1;
    }

    pub(super) fn answered(&mut self, tenant: &str) {
        if let Some(state) = self.states.get_mut(tenant) {
            state.in_flight = state.in_flight.saturating_sub(1);
            if state.in_flight == 0 && state.failing.is_none() {
                self.states.remove(tenant);
            }
        }
    }

    /// It got through; true if it had been failing.
    pub(super) fn succeeded(&mut self, tenant: &str) -> bool {
        let Some(failing) = self.states.get_mut(tenant).and_then(|state| state.failing.take()) else { return false };
        if failing.held {
            self.held.with_label_values(&[&*self.destination, tenant]).set(0);
        }
        tracing::info!(
            destination = &*self.destination,
            tenant,
            seconds = failing.since.elapsed().as_secs(),
            "delivery goes on"
        );
        true
    }

    /// It did not; `held`: and will not, until somebody mends the configuration.
    pub(super) fn failed(&mut self, tenant: &Arc<str>, why: &str, held: bool, now: Instant) {
        let destination = &*self.destination;
        let failing = &mut self.states.entry(Arc::clone(tenant)).or_default().failing;
        let before = failing.as_ref().filter(|failing| failing.held == held);
        let said = before.map(|failing| failing.said).filter(|said| now.duration_since(*said) < SAY_EVERY);
        if said.is_none() {
            match held {
                true => tracing::error!(destination, tenant = &**tenant, why, "delivery is held; nothing is dropped"),
                false => tracing::warn!(destination, tenant = &**tenant, why, "delivery fails; trying again"),
            }
            self.held.with_label_values(&[destination, tenant]).set(held.into());
        }
        let since = failing.as_ref().map_or(now, |failing| failing.since);
        *failing = Some(Failing { since, why: why.to_owned(), held, said: said.unwrap_or(now) });
    }

    /// Those that have requests under way.
    pub(super) fn in_flight(&self) -> impl Iterator<Item = Arc<str>> {
        self.states.iter().filter(|(_, state)| state.in_flight > 0).map(|(tenant, _)| Arc::clone(tenant))
    }

    /// Forgets of some that they fail: the next answer will tell. True if there were any.
    pub(super) fn forget_failing(&mut self, chosen: impl Fn(&str) -> bool) -> bool {
        let before = self.states.len();
        let (destination, held) = (&*self.destination, &self.held);
        self.states.retain(|tenant, state| {
            let goes = state.in_flight == 0 && state.failing.is_some() && chosen(tenant);
            if goes {
                held.with_label_values(&[destination, tenant]).set(0);
            }
            !goes
        });
        self.states.len() < before
    }

    /// Whether its entries go to the parking log.
    pub(super) fn is_parked(&self, tenant: &str, now: Instant) -> bool {
        let failing = self.states.get(tenant).and_then(|state| state.failing.as_ref());
        failing.is_some_and(|failing| failing.held || now.duration_since(failing.since) >= PARK_AFTER)
    }

    /// Those that fail, with what was said.
    pub(super) fn failing(&self) -> Vec<(Arc<str>, String)> {
        let failing = self.states.iter().filter_map(|(tenant, state)| {
            let failing = state.failing.as_ref()?;
            Some((Arc::clone(tenant), failing.why.clone()))
        });
        failing.collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use prometheus::Opts;

    fn tenants() -> Tenants {
        Tenants::new("d".into(), IntGaugeVec::new(Opts::new("held", "held"), &["destination", "tenant"]).unwrap())
    }

    #[test]
    fn a_tenant_leaves_a_slot_to_the_others_and_is_probed_while_it_fails() {
        let (mut tenants, now) = (tenants(), Instant::now());
        let a: Arc<str> = "a".into();
        tenants.sent(&a);
        assert!(tenants.may_send("a", 3));
        tenants.sent(&a);
        assert!(!tenants.may_send("a", 3));
        assert!(tenants.may_send("b", 3));
        tenants.answered("a");
        tenants.failed(&a, "503", false, now);
        assert!(!tenants.may_send("a", 3));
        tenants.answered("a");
        assert!(tenants.may_send("a", 3));
        assert!(tenants.succeeded("a"));
        assert!(!tenants.succeeded("a"));
    }

    #[test]
    fn a_held_tenant_is_parked_at_once_and_a_failing_one_after_a_while() {
        let (mut tenants, now) = (tenants(), Instant::now());
        tenants.failed(&"held".into(), "401", true, now);
        tenants.failed(&"failing".into(), "429", false, now);
        assert!(tenants.is_parked("held", now));
        assert!(!tenants.is_parked("failing", now));
        tenants.failed(&"failing".into(), "429", false, now + PARK_AFTER);
        assert!(tenants.is_parked("failing", now + PARK_AFTER), "the first failure counts");
        assert!(!tenants.is_parked("other", now));
    }
}
