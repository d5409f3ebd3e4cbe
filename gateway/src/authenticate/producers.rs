//! A producer belongs to the identity that was first seen using it.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use sluice_wire::ProducerId;

/// Producers that are remembered at least; at most twice as many (48 bytes each).
const GENERATION: usize = 65_536;

/// Which identity each producer belongs to. Kept in memory: after a restart the first to come is
/// believed again, who would have to know 128 random bits.
///
/// Bounded by two generations: when the younger is full the elder is forgotten, and who is seen moves
/// into the younger.
#[derive(Debug, Default)]
pub struct Producers(Mutex<Generations>);

#[derive(Debug, Default)]
struct Generations {
    young: HashMap<ProducerId, Arc<str>>,
    old: HashMap<ProducerId, Arc<str>>,
}

impl Producers {
    /// Whether `producer` is `identity`'s; makes it so if it is nobody's. An owner who `is_known` no more
    /// (renamed, or out of the policy) owns nothing.
    pub fn belongs(&self, producer: ProducerId, identity: &Arc<str>, is_known: impl Fn(&str) -> bool) -> bool {
        let mut generations = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(owner) = generations.young.get(&producer) {
            if owner == identity {
                return true;
            }
            if is_known(owner) {
                return false;
            }
        }
        let owner = generations.old.get(&producer);
        if owner.is_some_and(|owner| owner != identity && is_known(owner)) {
            return false;
        }
        if generations.young.len() >= GENERATION {
            generations.old = std::mem::take(&mut generations.young);
        }
        generations.young.insert(producer, Arc::clone(identity));
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(n: usize) -> ProducerId {
        ProducerId((n as u128).to_le_bytes())
    }

    #[test]
    fn the_first_to_come_owns_a_producer() {
        let (producers, a, b) = (Producers::default(), Arc::from("a"), Arc::from("b"));
        assert!(producers.belongs(id(1), &a, |_| true));
        assert!(!producers.belongs(id(1), &b, |_| true));
        assert!(producers.belongs(id(1), &a, |_| true));
        assert!(producers.belongs(id(2), &b, |_| true));
        assert!(producers.belongs(id(1), &b, |name| name != "a"), "an owner that is gone owns nothing");
        assert!(!producers.belongs(id(1), &a, |_| true));
    }

    #[test]
    fn what_is_remembered_is_bounded_and_what_is_seen_stays() {
        let (producers, a, b) = (Producers::default(), Arc::from("a"), Arc::from("b"));
        for n in 0..3 * GENERATION {
            assert!(producers.belongs(id(n), &a, |_| true));
            if n % 1000 == 0 {
                assert!(!producers.belongs(id(0), &b, |_| true), "{n}");
                assert!(producers.belongs(id(0), &a, |_| true));
            }
        }
        let generations = producers.0.lock().unwrap();
        assert!(generations.young.len() <= GENERATION && generations.old.len() <= GENERATION);
    }
}
