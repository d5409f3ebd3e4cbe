//! How the last look went at a file that may change while a program runs, for readiness and metrics.

use std::sync::{Mutex, PoisonError};

/// What came of looks at a file.
#[derive(Debug, Default)]
pub struct Status(Mutex<Last>);

#[derive(Debug, Default, Clone, PartialEq)]
struct Last {
    failure: Option<String>,
    restart: Vec<&'static str>,
}

impl Status {
    /// Why the file as it is now is not in force; `None`: it is.
    #[must_use]
    pub fn failure(&self) -> Option<String> {
        self.last().failure
    }

    /// The parts of the file that have changed and need a restart.
    #[must_use]
    pub fn needs_restart(&self) -> Vec<&'static str> {
        self.last().restart
    }

    fn last(&self) -> Last {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// How it went this time. True if that is something else than before, and worth a word in the log.
    pub fn set(&self, failure: Option<String>, restart: Vec<&'static str>) -> bool {
        let last = Last { failure, restart };
        let mut current = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let changed = *current != last;
        *current = last;
        changed
    }
}
