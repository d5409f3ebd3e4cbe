//! Says on standard error how far a case is: over and over on one line of a terminal, else every few seconds.

use std::{
    io::{IsTerminal as _, Write as _, stderr},
    time::{Duration, Instant},
};

#[derive(Debug)]
pub(crate) struct Progress {
    what: String,
    terminal: bool,
    next: Instant,
}

impl Progress {
    pub(crate) fn of(what: impl Into<String>) -> Self {
        let what = what.into();
        let progress = Self { terminal: stderr().is_terminal(), next: Instant::now(), what };
        progress.write("…");
        progress
    }

    pub(crate) fn say(&mut self, state: impl FnOnce() -> String) {
        let now = Instant::now();
        if now >= self.next {
            self.next = now + if self.terminal { Duration::from_millis(200) } else { Duration::from_secs(5) };
            self.write(&state());
        }
    }

    pub(crate) fn done(self, state: &str) {
        self.write(state);
        if self.terminal {
            let _ = writeln!(stderr());
        }
    }

    /// A terminal that is gone is no reason to stop.
    fn write(&self, state: &str) {
        let what = &self.what;
        let _ = if self.terminal {
            write!(stderr(), "\r\x1b[K{what}: {state}")
        } else {
            writeln!(stderr(), "{what}: {state}")
        };
    }
}
