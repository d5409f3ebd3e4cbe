//! The file as a whole, its listeners and its journal. `docs/CONFIG.md` is this in words.

mod destinations;
mod policy;
mod words;

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use sluice_settings::{Faults, FileError, Map, Node};

use super::checked::{Config, Journal, Listener, Tls};

const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;
const TIB: u64 = 1 << 40;
const DAY: Duration = Duration::from_secs(24 * 3600);

/// What a configuration is completed from.
#[derive(Clone, Copy)]
pub struct Sources<'a> {
    /// What `${NAME}` and `token_env` stand for.
    pub env: &'a (dyn Fn(&str) -> Option<String> + Sync),
    /// The text of a `token_file`.
    pub file: &'a (dyn Fn(&Path) -> Result<String, FileError> + Sync),
}

impl Sources<'static> {
    /// This process's environment and this machine's files.
    pub const SYSTEM: Self = Self { env: &sluice_settings::environment, file: &sluice_settings::read_file };
    /// This process's environment; secrets stay where they are, unread.
    pub const WITHOUT_FILES: Self =
        Self { env: &sluice_settings::environment, file: &|path| Ok(path.display().to_string()) };
}

/// Reads and checks a file.
///
/// # Errors
/// Every fault, by its path in the file, with the fix.
pub fn load(path: &Path, sources: Sources<'_>) -> Result<Config, FileError> {
    sluice_settings::from_file(path, sources.env, |root| config(root, sources))
}

/// The same for its text.
///
/// # Errors
/// As [`load`].
pub fn load_text(text: &str, sources: Sources<'_>) -> Result<Config, Faults> {
    sluice_settings::from_str(text, sources.env, |root| config(root, sources))
}

fn config(root: &Node<'_>, sources: Sources<'_>) -> Option<Config> {
    root.map(|map| {
        let push = map.required("push").map(listener);
        let admin = map.optional("admin").read(ADDRESS, |text| text.parse().ok());
        let memory_bytes = map.optional("memory").bytes(16 * MIB..=TIB).unwrap_or(256 * MIB);
        let drain = map.optional("drain").duration(Duration::from_secs(1)..=Duration::from_secs(600));
        let journal = map.required("journal").map(journal);
        let journal_directory = journal.as_ref().map(|journal| journal.directory.as_path());
        let destinations = destinations::read(&map.required("destinations"), journal_directory, sources);
        let context = policy::Context { push: push.as_ref(), destinations: &destinations, sources };
        let policy = policy::read(&map.required("policy"), &context);
        Some(Config {
            push: push?,
            admin,
            memory_bytes: usize::try_from(memory_bytes).unwrap_or(usize::MAX),
            drain: drain.unwrap_or(Duration::from_secs(20)),
            journal: journal?,
            destinations,
            policy: policy?,
        })
    })
}

const ADDRESS: &str = "an address with its port, such as 0.0.0.0:7070 or [::]:7070";

fn listener(map: &Map<'_>) -> Option<Listener> {
    let seconds = |from, to| Duration::from_secs(from)..=Duration::from_secs(to);
    let address: Option<SocketAddr> = map.required("address").read(ADDRESS, |text| text.parse().ok());
    let tls = map.optional("tls").map(|map| {
        let (certificate, key) = (map.required("certificate").file(), map.required("key").file());
        let client_ca = map.optional("client_ca").file();
        Some(Tls { certificate: certificate?, key: key?, client_ca })
    });
    let max_connections = map.optional("max_connections").integer(1..=100_000);
    let idle_timeout = map.optional("idle_timeout").duration(seconds(1, 3600));
    let body_timeout = map.optional("body_timeout").duration(seconds(1, 600));
    Some(Listener {
        address: address?,
        tls,
        max_connections: max_connections.unwrap_or(4096),
        idle_timeout: idle_timeout.unwrap_or(Duration::from_secs(90)),
        body_timeout: body_timeout.unwrap_or(Duration::from_secs(30)),
    })
}

fn journal(map: &Map<'_>) -> Option<Journal> {
    let directory = map.required("directory").file();
    let max_bytes = map.optional("max_bytes").bytes(64 * MIB..=1024 * TIB).unwrap_or(8 * GIB);
    let segment = map.optional("segment_bytes");
    // Where nothing is written a segment is small enough that several fit.
    let segment_bytes = segment.bytes(4 * MIB..=GIB).unwrap_or((max_bytes / 8).clamp(4 * MIB, 64 * MIB));
    if segment_bytes > max_bytes / 4 {
        segment
            .fault("a segment may be at most a quarter of max_bytes, or hardly anything can be freed: make it smaller");
    }
    let commit_delay = map.optional("commit_delay").duration(Duration::ZERO..=Duration::from_secs(1));
    let lane_retention = map.optional("lane_retention").duration(DAY..=365 * DAY);
    let park_above = map.optional("park_above").number(0.05..=0.95);
    Some(Journal {
        directory: directory?,
        max_bytes,
        segment_bytes,
        commit_delay: commit_delay.unwrap_or(Duration::from_millis(2)),
        lane_retention: lane_retention.unwrap_or(7 * DAY),
        park_above: park_above.unwrap_or(0.5),
    })
}

#[cfg(test)]
mod tests;
