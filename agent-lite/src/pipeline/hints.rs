//! Where to look next: what inotify says, all of it at once.

use std::collections::HashSet;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use futures_util::FutureExt as _;

use super::Agent;
use crate::discover::Hint;

/// Looked at so much later, so that a burst of events costs one look.
const BURST: Duration = Duration::from_millis(20);
/// Hints that are taken between two passes over the logs.
const MAX_HINTS: usize = 4096;

/// Where to look, and when.
#[derive(Debug)]
pub(super) struct Hints {
    pub(super) paths: HashSet<PathBuf>,
    /// When everything is looked at.
    pub(super) next_scan: Instant,
}

impl Hints {
    pub(super) fn take(&mut self, hint: Hint) {
        match hint {
            Hint::Changed(path) => {
                self.paths.insert(path);
            }
            Hint::Overflow => self.next_scan = Instant::now(),
        }
    }

    /// When there is to be looked at the latest, given that this was to be at `next`.
    pub(super) fn due(&self, next: Instant) -> Instant {
        if self.paths.is_empty() { next } else { next.min(Instant::now() + BURST) }
    }
}

impl Agent {
    /// Takes all hints that are there by now. One a turn would not do: a turn may last long when much is to be
    /// read, and what comes and goes between two looks is never seen.
    pub(super) fn take_hints(&mut self, hints: &mut Hints) {
        let Some(discovery) = &mut self.discovery else { return };
        for _ in 0..MAX_HINTS {
            let Some(hint) = discovery.hint().now_or_never() else { return };
            hints.take(hint);
        }
    }
}
