//! What changes while the agent runs. The file is read again as a whole each time, and content is what counts, so
//! that a ConfigMap's swapped symlinks and an editor's rename are the same.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::path::PathBuf;
use std::sync::Arc;

use sluice_settings::{Environment, FileError, Node, Status};

use super::Config;
use crate::redact::Redactor;
use crate::ship::Peer;

/// Keys that a running agent can take over. All others wait for a restart.
const CHANGEABLE: [&str; 18] = [
    "redact",
    "parsers",
    "multiline",
    "weights",
    "budgets",
    "own_logs",
    "dataplane",
    "host",
    "audit",
    "deleted_files",
    "deleted_bytes",
    "drain",
    "block_age",
    "poll_interval",
    "scan_interval",
    "first_start_rate",
    "gateway",
    "direct",
];

/// What is written under each key, as a number: patterns and globs cannot be compared once they are compiled.
#[derive(Clone, Default, PartialEq, Eq)]
pub(super) struct Written(BTreeMap<String, u64>);

impl fmt::Debug for Written {
    /// Passwords may be in what the numbers were made of.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Written").finish_non_exhaustive()
    }
}

impl Written {
    pub(super) fn read(root: &Node<'_>) -> Self {
        Self(
            root.entries()
                .filter(|(_, node)| node.is_present())
                .map(|(key, node)| (key.to_owned(), node.digest()))
                .collect(),
        )
    }

    /// Keys under which something else is written.
    fn differs<'a>(&'a self, other: &'a Self) -> BTreeSet<&'a str> {
        let keys = self.0.keys().chain(other.0.keys());
        keys.filter(|key| self.0.get(*key) != other.0.get(*key)).map(String::as_str).collect()
    }

    fn take_over(&mut self, key: &str, other: &Self) {
        match other.0.get(key) {
            Some(digest) => self.0.insert(key.to_owned(), *digest),
            None => self.0.remove(key),
        };
    }
}

/// Settings to go on with.
#[derive(Debug)]
pub struct Change {
    /// All of them: those that cannot change are as they were.
    pub config: Config,
    /// What is redacted, where that has changed.
    pub redactor: Option<Option<Redactor>>,
    /// Keys that have changed.
    pub parts: BTreeSet<&'static str>,
}

impl Change {
    /// Whether one of these keys has changed.
    #[must_use]
    pub fn touches(&self, parts: &[&str]) -> bool {
        parts.iter().any(|part| self.parts.contains(part))
    }
}

/// Looks at the file again and again.
pub struct Reloader {
    path: PathBuf,
    env: &'static (dyn Fn(&str) -> Option<String> + Send + Sync),
    running: Config,
    /// What the key file for hashes had in it, as a number.
    key: Option<u64>,
    /// What was looked at last: the file, and the key file.
    seen: Option<(u64, Option<u64>)>,
    status: Arc<Status>,
}

impl Reloader {
    /// For an agent that runs with `running`, read from `path`.
    #[must_use]
    pub fn new(path: PathBuf, env: &'static (dyn Fn(&str) -> Option<String> + Send + Sync), running: Config) -> Self {
        let key = running.key_digest().unwrap_or_default();
        Self { path, env, running, key, seen: None, status: Arc::default() }
    }

    /// How it went last.
    #[must_use]
    pub fn status(&self) -> Arc<Status> {
        Arc::clone(&self.status)
    }

    /// Reads the file; gives what is to change. An unsound file changes nothing and is logged once.
    pub fn look(&mut self) -> Option<Change> {
        match self.try_look() {
            Ok(change) => change,
            Err(failure) => {
                self.seen = None;
                if self.status.set(Some(failure.clone()), Vec::new()) {
                    tracing::error!(failure, "settings not reloaded; the last good ones stay in force");
                }
                None
            }
        }
    }

    fn try_look(&mut self) -> Result<Option<Change>, String> {
        let text = sluice_settings::read_file(&self.path).map_err(|error| error.to_string())?;
        let key = self.running.key_digest().unwrap_or_default();
        let seen = (digest(&text), key);
        if self.seen == Some(seen) {
            return Ok(None);
        }
        let env: &Environment<'_> = &self.env;
        let new = sluice_settings::from_str(&text, env, |node| Config::read(node, env));
        let new = new.map_err(|faults| FileError::Faults { path: self.path.clone(), faults }.to_string())?;
        let key = new.key_digest().map_err(|error| error.to_string())?;
        let (restart, mut parts) = self.running.compare(&new);
        if key != self.key {
            parts.insert("redact");
        }
        let redactor = match parts.contains("redact") {
            true => Some(new.redactor().map_err(|error| error.to_string())?),
            false => None,
        };
        if self.status.set(None, restart.clone()) {
            match restart.is_empty() {
                true => tracing::info!("settings are in force as they stand in the file"),
                false => tracing::warn!(parts = restart.join(", "), "settings have changes that need a restart"),
            }
        }
        self.seen = Some((digest(&text), key));
        if parts.is_empty() {
            return Ok(None);
        }
        self.key = key;
        self.running.take_over(&new, &parts);
        Ok(Some(Change { config: self.running.clone(), redactor, parts }))
    }
}

fn digest(text: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    text.hash(&mut hasher);
    hasher.finish()
}

impl Config {
    /// A number for the key of hashes, where a file holds it: its content is no part of the settings' text.
    fn key_digest(&self) -> Result<Option<u64>, FileError> {
        let file = self.redact.as_ref().and_then(|redact| redact.key_file());
        file.map(|path| sluice_settings::read_file(path).map(|text| digest(&text))).transpose()
    }

    /// Keys that need a restart, and keys that do not, of those that are different in `new`.
    fn compare(&self, new: &Self) -> (Vec<&'static str>, BTreeSet<&'static str>) {
        let (mut restart, mut parts) = (Vec::new(), BTreeSet::new());
        for key in self.written.differs(&new.written) {
            let Some(key) = KEYS.iter().chain(&CHANGEABLE).find(|known| **known == key).copied() else { continue };
            if CHANGEABLE.contains(&key) && self.can_change(key, new) {
                parts.insert(key);
            } else if !self.is_same(key, new) {
                restart.push(key);
            }
        }
        (restart, parts)
    }

    /// Whether a changeable key is so for this change.
    fn can_change(&self, key: &str, new: &Self) -> bool {
        match key {
            // Blocks under way would come twice, which is worth a decision.
            "gateway" | "direct" => self.is_direct() == new.is_direct(),
            // Others are not kept of a pod.
            "own_logs" | "dataplane" => new.sources.pods.label_names().is_subset(&self.kubernetes.fields.asked_labels),
            // What is followed has its lane.
            "host" | "audit" => new.sources.host.iter().all(|files| {
                let others = self.sources.host.iter().filter(|other| other.path == files.path);
                others.into_iter().all(|other| {
                    (&other.unit, other.category, other.format) == (&files.unit, files.category, files.format)
                })
            }),
            _ => true,
        }
    }

    fn is_direct(&self) -> bool {
        self.destination.endpoints.iter().any(|endpoint| matches!(endpoint.peer, Peer::Store(_)))
    }

    /// Whether a key means what it meant although something else is written, such as the default.
    fn is_same(&self, key: &str, new: &Self) -> bool {
        match key {
            "cluster" => self.cluster == new.cluster,
            "environment" => self.environment == new.environment,
            "node" => self.node == new.node,
            "state_directory" => self.state == new.state,
            "pods" => self.pods == new.pods,
            "first_start" => self.first_start == new.first_start,
            "admin" => self.admin == new.admin,
            "block_bytes" => self.block_bytes == new.block_bytes,
            "open_bytes" => self.open_bytes == new.open_bytes,
            "queued_bytes" => self.queued_bytes == new.queued_bytes,
            "ring_bytes" => self.ring_bytes == new.ring_bytes,
            "spool_bytes" => self.spool_bytes == new.spool_bytes,
            "dead_letter_bytes" => self.dead_letter_bytes == new.dead_letter_bytes,
            "forget_after" => self.forget_after == new.forget_after,
            "kmsg" => self.sources.kmsg == new.sources.kmsg,
            _ => false,
        }
    }

    fn take_over(&mut self, new: &Self, parts: &BTreeSet<&'static str>) {
        for part in parts {
            match *part {
                "redact" => self.redact.clone_from(&new.redact),
                "parsers" | "multiline" => self.messages = new.messages.clone(),
                "weights" | "budgets" | "first_start_rate" => self.sharing = new.sharing.clone(),
                "own_logs" | "dataplane" => self.sources.pods = new.sources.pods.clone(),
                "host" | "audit" => self.sources.host.clone_from(&new.sources.host),
                "deleted_files" | "deleted_bytes" => self.deleted = new.deleted,
                "drain" => self.drain = new.drain,
                "block_age" => self.block_age = new.block_age,
                "poll_interval" => self.poll_interval = new.poll_interval,
                "scan_interval" => self.scan_interval = new.scan_interval,
                "gateway" | "direct" => self.destination = new.destination.clone(),
                _ => {}
            }
            self.written.take_over(part, &new.written);
        }
    }
}

/// Keys that need a restart.
const KEYS: [&str; 18] = [
    "cluster",
    "environment",
    "node",
    "state_directory",
    "pods",
    "journald",
    "kmsg",
    "first_start",
    "kubernetes",
    "admin",
    "block_bytes",
    "open_bytes",
    "queued_bytes",
    "ring_bytes",
    "spool_bytes",
    "dead_letter_bytes",
    "forget_after",
    "runtime_metrics",
];

#[cfg(test)]
mod tests;
