//! What tests of the journal need: a disk that fails on demand, and entries.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking, in its helpers too")]

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use prometheus::Registry;
use sluice_durable_log::io::FaultyFiles;
use sluice_gateway::config::checked;
use sluice_gateway::journal::{Embedded, EmbeddedSubscription, Entry, Event, Journal as _, Subscription as _};
use sluice_gateway::metrics::journal::JournalMetrics;
use sluice_wire::{Block, Category, Encoding, Header, Lane, ProducerId};

/// A disk in memory with a journal's settings.
pub(crate) struct Disk {
    pub(crate) files: Arc<FaultyFiles>,
    pub(crate) config: checked::Journal,
}

impl Disk {
    /// Segments of 64 KiB, so that a few entries fill some.
    pub(crate) fn new() -> Self {
        Self::with(|_| ())
    }

    pub(crate) fn with(change: impl FnOnce(&mut checked::Journal)) -> Self {
        let mut config = checked::Journal {
            directory: "/journal".into(),
            max_bytes: 4 << 20,
            segment_bytes: 64 << 10,
            commit_delay: Duration::ZERO,
            lane_retention: Duration::from_secs(10 * 3600),
            park_above: 0.5,
        };
        change(&mut config);
        Self { files: Arc::new(FaultyFiles::new()), config }
    }

    pub(crate) fn open(&self) -> Embedded {
        self.open_with(metrics().0)
    }

    pub(crate) fn open_with(&self, metrics: JournalMetrics) -> Embedded {
        Embedded::open_on(Arc::clone(&self.files) as _, &self.config, metrics).unwrap()
    }

    pub(crate) fn paths_with(&self, ending: &str) -> Vec<PathBuf> {
        let mut paths = self.files.paths();
        paths.retain(|path| path.to_string_lossy().ends_with(ending));
        paths.sort();
        paths
    }

    /// The journal's segments, the oldest first.
    pub(crate) fn segments(&self) -> Vec<PathBuf> {
        let mut paths = self.files.paths();
        paths.retain(|path| path.starts_with("/journal/log") && path.extension().is_some_and(|ending| ending == "log"));
        paths.sort();
        paths
    }

    pub(crate) fn flip_a_byte(&self, path: &Path, at: usize) {
        let mut bytes = self.files.contents(path).unwrap();
        bytes[at] ^= 1;
        self.files.replace(path, &bytes);
    }

    /// Bytes of the record of a small entry.
    pub(crate) fn record_length(&self) -> usize {
        32 + sluice_gateway::journal::entry::encode(&entry("a", 1)).unwrap().len()
    }

    /// Lets the committing thread and its helpers come to rest: what they do is not waited for by anybody.
    pub(crate) async fn settle(&self, journal: &Embedded) {
        // A duplicate goes through the same steps as any entry and changes nothing.
        for _ in 0..3 {
            journal.append(vec![entry("settle", 1)]).await;
            tokio::time::sleep(Duration::from_millis(30)).await;
        }
    }
}

pub(crate) fn metrics() -> (JournalMetrics, Registry) {
    let registry = Registry::new();
    (JournalMetrics::register(&registry).unwrap(), registry)
}

/// An entry of lane `scope` for both destinations; those of lane `big` have 10 KiB.
pub(crate) fn entry(scope: &str, number: u64) -> Entry {
    entry_for(scope, number, &["files", "logs"])
}

pub(crate) fn entry_for(scope: &str, number: u64, destinations: &[&str]) -> Entry {
    let text = if scope == "big" { "x".repeat(10_000) } else { format!("{scope} {number:020}") };
    let payload = Bytes::from(format!("{{\"_time\":\"2025-10-26T10:15:30Z\",\"_msg\":\"{text}\"}}\n"));
    let time = sluice_wire::time::parse(b"2025-10-26T10:15:30Z").unwrap();
    let header = Header {
        lane: Lane {
            producer: ProducerId([1; 16]),
            category: Category::Application,
            scope: scope.into(),
            split: "".into(),
        },
        number,
        cluster: "infra".into(),
        node: "node-7".into(),
        encoding: Encoding::None,
        payload_crc: crc32c::crc32c(&payload),
        raw_len: u32::try_from(payload.len()).unwrap(),
        records: 1,
        longest: u32::try_from(payload.len() - 1).unwrap(),
        first_time: time,
        last_time: time,
        positions: Vec::new(),
    };
    Entry {
        tenant: "team-a".into(),
        destinations: destinations.iter().map(|name| Arc::from(*name)).collect(),
        policy: 42,
        identity: "node-7".into(),
        received: time,
        block: Block { header, payload },
    }
}

pub(crate) async fn next(subscription: &mut EmbeddedSubscription) -> Event {
    tokio::time::timeout(Duration::from_secs(10), subscription.next()).await.expect("there is one").unwrap()
}

/// The indexes of the next `count` events, all of them entries.
pub(crate) async fn indexes(subscription: &mut EmbeddedSubscription, count: usize) -> Vec<u64> {
    let mut indexes = Vec::new();
    while indexes.len() < count {
        match next(subscription).await {
            Event::Entry(position, _) => indexes.push(position.index),
            Event::Lost { first, next, reason } => panic!("{first:?}..{next} is lost: {reason}"),
        }
    }
    indexes
}
