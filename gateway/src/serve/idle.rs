//! Whether a connection has a request under way, and since when it has none: HTTP/2 itself bounds no silence,
//! and neither does the wait for a connection's first bytes.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// Requests of one connection.
#[derive(Debug)]
pub(super) struct Activity(Mutex<State>);

#[derive(Debug)]
struct State {
    under_way: usize,
    since: Instant,
}

impl Default for Activity {
    fn default() -> Self {
        Self(Mutex::new(State { under_way: 0, since: Instant::now() }))
    }
}

/// A request under way, until it is dropped.
pub(super) struct UnderWay(Arc<Activity>);

impl Activity {
    /// A request begins.
    pub(super) fn begin(activity: &Arc<Self>) -> UnderWay {
        activity.0.lock().unwrap_or_else(PoisonError::into_inner).under_way += 1;
        UnderWay(Arc::clone(activity))
    }

    /// Since when there is no request; `None`: there is one.
    pub(super) fn idle_since(&self) -> Option<Instant> {
        let state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        (state.under_way == 0).then_some(state.since)
    }

    /// Whether there has been no request for so long.
    pub(super) fn is_idle_for(&self, time: Duration) -> bool {
        self.idle_since().is_some_and(|since| since.elapsed() >= time)
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        let mut state = self.0.0.lock().unwrap_or_else(PoisonError::into_inner);
        state.under_way -= 1;
        state.since = Instant::now();
    }
}
