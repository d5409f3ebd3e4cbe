//! What changes while the gateway runs. The file is read again as a whole each time, with the token
//! files that it names: content is what counts, so that a ConfigMap's swapped symlinks, an editor's
//! rename and a rotated token are all the same.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use super::checked::{Config, Policy};
use super::{Sources, load};

/// How the last reload went, for readiness and metrics.
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

    /// True if it was something else before.
    fn set(&self, last: &Last) -> bool {
        let mut current = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let changed = *current != *last;
        current.clone_from(last);
        changed
    }
}

/// Looks at the file again and again.
pub struct Reloader {
    path: PathBuf,
    sources: Sources<'static>,
    running: Config,
    status: Arc<Status>,
}

impl Reloader {
    /// For a gateway that runs with `running`, read from `path`.
    #[must_use]
    pub fn new(path: PathBuf, sources: Sources<'static>, running: Config) -> Self {
        Self { path, sources, running, status: Arc::default() }
    }

    /// How it went last.
    #[must_use]
    pub fn status(&self) -> Arc<Status> {
        Arc::clone(&self.status)
    }

    /// Reads the file; gives its policy if it is sound and another than the one in force. An unsound
    /// file changes nothing and is logged once.
    pub fn look(&mut self) -> Option<Policy> {
        let (last, policy) = match load(&self.path, self.sources) {
            Err(error) => (Last { failure: Some(error.to_string()), restart: Vec::new() }, None),
            Ok(config) => {
                let last =
                    Last { failure: self.missing_destination(&config.policy), restart: self.changed_parts(&config) };
                let policy = last.failure.is_none().then_some(config.policy);
                (last, policy.filter(|policy| *policy != self.running.policy))
            }
        };
        if self.status.set(&last) {
            match &last {
                Last { failure: Some(failure), .. } => {
                    tracing::error!(failure, "configuration not reloaded; the last good one stays in force");
                }
                Last { restart, .. } if !restart.is_empty() => {
                    tracing::warn!(parts = restart.join(", "), "configuration has changes that need a restart");
                }
                _ => tracing::info!("configuration is in force as it stands in the file"),
            }
        }
        if let Some(policy) = &policy {
            tracing::info!(version = policy.version, "policy reloaded");
            self.running.policy = policy.clone();
        }
        policy
    }

    /// A sound file may route to a destination that it has just added, which nobody delivers to yet.
    fn missing_destination(&self, policy: &Policy) -> Option<String> {
        let runs = |name: &Arc<str>| self.running.destinations.iter().any(|destination| destination.name == *name);
        let mut routed = policy.routes.iter().flat_map(|route| &route.destinations).chain(&policy.default_destinations);
        let missing = routed.find(|name| !runs(name))?;
        Some(format!("the policy routes to the destination {missing}, which is new: restart the gateway"))
    }

    fn changed_parts(&self, new: &Config) -> Vec<&'static str> {
        let old = &self.running;
        let parts = [
            ("push", old.push != new.push),
            ("admin", old.admin != new.admin),
            ("memory", old.memory_bytes != new.memory_bytes),
            ("drain", old.drain != new.drain),
            ("journal", old.journal != new.journal),
            ("destinations", old.destinations != new.destinations),
        ];
        parts.into_iter().filter(|(_, changed)| *changed).map(|(part, _)| part).collect()
    }
}

#[cfg(test)]
mod tests;
