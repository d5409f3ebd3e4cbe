//! How far the log may be released: not past what any destination still needs.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard};

/// The saved cursors of all destinations. Only what is durable counts: a cursor that moved in memory
/// pins where it was saved.
#[derive(Debug, Default)]
pub(super) struct Pins(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    saved: BTreeMap<String, u64>,
    /// Whether the configuration has been told. Until then a destination may be missing here that has no
    /// cursor yet, so nothing goes.
    complete: bool,
}

impl Pins {
    /// `destination` needs everything from `next` on.
    pub(super) fn set(&self, destination: &str, next: u64) {
        self.state().saved.insert(destination.to_owned(), next);
    }

    /// What `destination` needs everything from.
    pub(super) fn of(&self, destination: &str) -> Option<u64> {
        self.state().saved.get(destination).copied()
    }

    /// These destinations are all there are; returns those that were known and are not among them.
    pub(super) fn keep_only(&self, names: &[&str]) -> Vec<String> {
        let mut state = self.state();
        state.complete = true;
        let gone = state.saved.keys().filter(|name| !names.contains(&name.as_str())).cloned().collect();
        state.saved.retain(|name, _| names.contains(&name.as_str()));
        gone
    }

    /// What no destination needs lies below this; `durable` if there is none.
    pub(super) fn floor(&self, durable: u64) -> u64 {
        let state = self.state();
        match state.complete {
            true => state.saved.values().copied().min().unwrap_or(durable),
            false => 0,
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().expect("no code panics while it holds the pins")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_released_before_all_destinations_are_known_and_then_the_slowest_decides() {
        let pins = Pins::default();
        pins.set("a", 7);
        pins.set("b", 5);
        pins.set("old", 1);
        assert_eq!(pins.floor(9), 0);
        assert_eq!(pins.keep_only(&["a", "b"]), ["old"]);
        assert_eq!(pins.floor(9), 5);
        pins.set("b", 8);
        assert_eq!(pins.floor(9), 7);
    }

    #[test]
    fn without_destinations_nothing_is_pinned() {
        let pins = Pins::default();
        pins.keep_only(&[]);
        assert_eq!(pins.floor(9), 9);
    }
}
