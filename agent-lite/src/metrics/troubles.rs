//! What keeps lines from their destination, in words: the last one of each kind, and how often.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::sync::{Arc, Mutex, PoisonError};

use serde::Serialize;
use sluice_wire::{Reason, Verdict};

/// Bytes of what was said.
const WORDS: usize = 500;

/// What does not work.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Step {
    /// A name has no address.
    Lookup,
    /// Nobody answers at an address, or a proxy does not lead there.
    Connection,
    /// Certificates.
    Tls,
    /// A token's or a password's file.
    Credential,
    /// Whoever answers is no gateway, or one that cannot be talked to.
    Greeting,
    /// The other end does not know who we are.
    Unauthenticated,
    /// We may not send this.
    Forbidden,
    /// A tenant's limit.
    Limit,
    /// The other end has no room, or is about to end.
    Busy,
    /// It will never take this.
    Refused,
    /// A request had no answer that says what became of it.
    Answer,
}

/// One kind of trouble.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Trouble {
    /// How often.
    pub times: u64,
    /// What was said the last time.
    pub said: String,
}

/// All kinds that were met since the start.
#[derive(Debug, Clone, Default)]
pub struct Troubles(Arc<Mutex<BTreeMap<Step, Trouble>>>);

impl Troubles {
    /// Something did not work.
    pub fn add(&self, step: Step, said: &impl Display) {
        let mut said = said.to_string();
        said.truncate(said.floor_char_boundary(WORDS));
        let mut troubles = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let times = troubles.get(&step).map_or(0, |trouble| trouble.times);
        troubles.insert(step, Trouble { times: times + 1, said });
    }

    /// A block was not taken.
    pub(super) fn refused(&self, verdict: Verdict) {
        let step = match verdict.reason() {
            // It follows on one that was not taken, of which the reason counts.
            None | Some(Reason::Behind) => return,
            Some(Reason::Unauthenticated) => Step::Unauthenticated,
            Some(Reason::Forbidden) => Step::Forbidden,
            Some(Reason::LimitBytes | Reason::LimitLines | Reason::Burst) => Step::Limit,
            Some(_) if matches!(verdict, Verdict::RetryAfter(..)) => Step::Busy,
            Some(_) if matches!(verdict, Verdict::Unknown(_)) => Step::Answer,
            Some(_) => Step::Refused,
        };
        self.add(step, &verdict);
    }

    /// Those met so far.
    #[must_use]
    pub fn all(&self) -> BTreeMap<Step, Trouble> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn of_each_kind_the_last_is_kept_and_all_are_counted() {
        let troubles = Troubles::default();
        troubles.add(Step::Connection, &"refused");
        troubles.add(Step::Connection, &"é".repeat(WORDS));
        let wait = Duration::from_millis(20);
        for verdict in [
            Verdict::Accepted,
            Verdict::RetryAfter(wait, Reason::Behind),
            Verdict::RetryAfter(wait, Reason::LimitLines),
            Verdict::TooLarge(9, Reason::Burst),
            Verdict::RetryAfter(wait, Reason::Forbidden),
            Verdict::Unknown(Reason::JournalFailed),
        ] {
            troubles.refused(verdict);
        }
        let all = troubles.all();
        assert_eq!(all[&Step::Connection], Trouble { times: 2, said: "é".repeat(WORDS / 2) });
        assert_eq!(all[&Step::Limit], Trouble { times: 2, said: "too-large 9 burst".into() });
        assert_eq!(
            all.keys().copied().collect::<Vec<_>>(),
            [Step::Connection, Step::Forbidden, Step::Limit, Step::Answer]
        );
    }
}
