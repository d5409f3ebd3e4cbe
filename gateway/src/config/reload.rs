//! What changes while the gateway runs. The file is read again as a whole each time, with the token
//! files that it names: content is what counts, so that a ConfigMap's swapped symlinks, an editor's
//! rename and a rotated token are all the same.

use std::path::PathBuf;
use std::sync::Arc;

use sluice_settings::Status;

use super::checked::{Config, Policy};
use super::{Sources, load};

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
        let (failure, restart, policy) = match load(&self.path, self.sources) {
            Err(error) => (Some(error.to_string()), Vec::new(), None),
            Ok(config) => {
                let failure = self.missing_destination(&config.policy);
                let restart = self.changed_parts(&config);
                let policy = failure.is_none().then_some(config.policy);
                (failure, restart, policy.filter(|policy| *policy != self.running.policy))
            }
        };
        if self.status.set(failure.clone(), restart.clone()) {
            match failure {
                Some(failure) => {
                    tracing::error!(failure, "configuration not reloaded; the last good one stays in force");
                }
                None if !restart.is_empty() => {
                    tracing::warn!(parts = restart.join(", "), "configuration has changes that need a restart");
                }
                None => tracing::info!("configuration is in force as it stands in the file"),
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
