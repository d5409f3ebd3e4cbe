//! `/v1/push`: blocks in, one verdict for each out.
//!
//! ```text
//! head ─► authenticate ─► draining? type? journal? ─► memory for the body ─► body ─► frames
//!                                                                                     │ each:
//!   reply ◄── verdicts ◄── one append of all that passed ◄── route ◄── check ◄── limit ◄── assign ◄── covered?
//! ```
//!
//! Nothing is read of a body before its sender is known and memory for it is set aside.

mod admission;
mod body;
mod budget;
mod push;
mod refusal;
#[cfg(test)]
pub(crate) mod testing;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;
use axum::Router;
use axum::routing::get;
use governor::clock::{Clock, DefaultClock};
use sluice_wire::push::PATH;

pub use self::admission::Admission;
use self::budget::Budget;
use crate::authenticate::Producers;
use crate::config::checked::{Config, Policy};
use crate::journal::Journal;
use crate::metrics::receive::ReceiveMetrics;

/// What all requests share.
pub struct Receiver<J: Journal, C: Clock = DefaultClock> {
    journal: J,
    admission: ArcSwap<Admission<C>>,
    producers: Producers,
    budget: Budget,
    body_timeout: Duration,
    draining: AtomicBool,
    metrics: ReceiveMetrics,
}

impl<J: Journal> Receiver<J> {
    /// For `config`, storing in `journal`.
    #[must_use]
    pub fn new(journal: J, config: &Config, metrics: ReceiveMetrics) -> Self {
        Self::with_clock(journal, config, metrics, DefaultClock::default())
    }
}

impl<J: Journal, C> Receiver<J, C>
where
    C: Clock + Clone + Send + Sync + 'static,
    C::Instant: Send + Sync,
{
    pub(crate) fn with_clock(journal: J, config: &Config, metrics: ReceiveMetrics, clock: C) -> Self {
        Self {
            journal,
            admission: ArcSwap::from_pointee(Admission::new(config.policy.clone(), clock)),
            producers: Producers::default(),
            budget: Budget::new(config.memory_bytes, &metrics),
            body_timeout: config.push.body_timeout,
            draining: AtomicBool::new(false),
            metrics,
        }
    }

    /// Puts a new policy in force, from the next request on.
    pub fn reload(&self, policy: Policy) {
        self.admission.store(Arc::new(self.admission.load().reloaded(policy)));
    }

    /// Refuses every request from now on: the gateway is about to end.
    pub fn drain(&self) {
        self.draining.store(true, Ordering::Release);
    }

    /// The journal.
    pub fn journal(&self) -> &J {
        &self.journal
    }

    fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Acquire)
    }

    /// What the push listener serves.
    pub fn router(self: &Arc<Self>) -> Router {
        Router::new().route(PATH, get(push::greet).post(push::push)).with_state(Arc::clone(self))
    }
}

#[cfg(test)]
mod tests;
