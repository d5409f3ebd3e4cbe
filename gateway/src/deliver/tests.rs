//! The worker against a journal on a disk in memory and a store that does as it is told. Time is
//! paused: waits cost nothing.

mod files;
mod parking;
mod probe;
mod store;

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::future::Future;
use std::rc::Rc;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use prometheus::Registry;
use sluice_durable_log::io::{FaultyFiles, Files};
use sluice_wire::{Block, Category, Encoding, Header, Lane, ProducerId, time};
use tokio::sync::watch;

use super::batch_log::BatchLog;
use super::dead_letters::DeadLetters;
use super::destination::{Asked, Destination, Mode, Outcome, Receipt, Refusal, Terms, Trailing};
use super::worker::{Setting, Worker};
use super::{Health, Stop};
use crate::config::checked;
use crate::deliver::batch::{Batch, BatchId};
use crate::journal::{Appended, Embedded, EmbeddedSubscription, Entry, Journal as _, Subscription as _};
use crate::metrics::deliver::DeliverMetrics;
use crate::metrics::journal::JournalMetrics;

pub(super) use self::files::WithDirectories;

pub(super) const TIME: &[u8] = b"2025-10-26T10:15:30Z";

/// One entry of a tenant; its one record's text is the number.
pub(super) fn entry(tenant: &str, number: u64) -> Entry {
    entry_of(tenant, number, &[&format!("{tenant} {number}")])
}

pub(super) fn entry_of(tenant: &str, number: u64, texts: &[&str]) -> Entry {
    let line = |text: &&str| format!("{{\"_time\":\"2025-10-26T10:15:30Z\",\"_msg\":\"{text}\"}}\n");
    let raw: String = texts.iter().map(line).collect();
    let time = time::parse(TIME).unwrap();
    let payload = Bytes::from(zstd::bulk::compress(raw.as_bytes(), 1).unwrap());
    let header = Header {
        lane: Lane {
            producer: ProducerId([1; 16]),
            category: Category::Application,
            scope: tenant.into(),
            split: "".into(),
        },
        number,
        cluster: "infra".into(),
        node: "node-7".into(),
        encoding: Encoding::Zstd,
        payload_crc: crc32c::crc32c(&payload),
        raw_len: u32::try_from(raw.len()).unwrap(),
        records: u32::try_from(texts.len()).unwrap(),
        longest: raw.lines().map(str::len).max().unwrap().try_into().unwrap(),
        first_time: time,
        last_time: time,
        positions: Vec::new(),
    };
    Entry {
        tenant: tenant.into(),
        destinations: vec!["logs".into()],
        policy: 1,
        identity: "node-7".into(),
        received: time,
        block: Block { header, payload },
    }
}

/// 10 KiB in the journal, one short record.
fn big(number: u64) -> Entry {
    let mut entry = entry("a", number);
    let mut stored = entry.block.payload.to_vec();
    // A skippable frame: zstd passes over it.
    stored.extend_from_slice(&[0x50, 0x2a, 0x4d, 0x18]);
    stored.extend_from_slice(&10_000_u32.to_le_bytes());
    stored.resize(stored.len() + 10_000, 0);
    entry.block.header.payload_crc = crc32c::crc32c(&stored);
    entry.block.payload = stored.into();
    entry
}

/// A gateway's disk, with one destination `logs` reading from its journal.
struct Rig {
    files: Arc<FaultyFiles>,
    config: checked::Journal,
    registry: Registry,
    metrics: DeliverMetrics,
}

impl Rig {
    fn new() -> Self {
        let registry = Registry::new();
        Self {
            files: Arc::new(FaultyFiles::new()),
            config: checked::Journal {
                directory: "/journal".into(),
                max_bytes: 4 << 20,
                segment_bytes: 64 << 10,
                commit_delay: Duration::ZERO,
                lane_retention: Duration::from_secs(3600),
                park_above: 0.5,
            },
            metrics: DeliverMetrics::register(&registry).unwrap(),
            registry,
        }
    }

    fn open(&self) -> Embedded {
        let metrics = JournalMetrics::register(&Registry::new()).unwrap();
        let journal = Embedded::open_on(Arc::clone(&self.files) as Arc<dyn Files>, &self.config, metrics).unwrap();
        journal.keep_only(&["logs"]).unwrap();
        journal
    }

    /// Runs the destination's worker while `meanwhile` does; ends it as a SIGKILL would.
    async fn run<D: Destination, T>(
        &self,
        journal: &Embedded,
        make: impl FnOnce(Option<&[u8]>) -> D,
        meanwhile: impl Future<Output = T>,
    ) -> T {
        let (_stop, stop) = watch::channel(Stop::No);
        let mut worker = self.worker(journal, make);
        worker.setting.stop = stop;
        tokio::select! {
            result = worker.run() => panic!("the worker ended: {result:?}"),
            done = meanwhile => done,
        }
    }

    /// The destination's worker, as it is after a start.
    fn worker<D: Destination>(
        &self,
        journal: &Embedded,
        make: impl FnOnce(Option<&[u8]>) -> D,
    ) -> Worker<EmbeddedSubscription, D> {
        let subscription = journal.subscribe("logs").unwrap();
        let files = || Arc::clone(&self.files) as Arc<dyn Files>;
        let destination = make(subscription.state());
        let recorded = match destination.terms().trailing {
            Trailing::Count(_) => {
                Some(BatchLog::open(files(), "/journal/batches/logs".as_ref(), journal.id()).unwrap())
            }
            Trailing::Wait(_) | Trailing::Final => None,
        };
        let letters = DeadLetters::open(files(), "/journal/dead-letters/logs".as_ref(), 1 << 20).unwrap();
        let setting = Setting {
            name: "logs".into(),
            metrics: self.metrics.clone(),
            health: Arc::new(Mutex::new(Health::default())),
            stop: watch::channel(Stop::No).1,
            park_above: 2 << 20,
        };
        Worker::new(setting, subscription, destination, recorded, letters)
    }

    fn metric(&self, line: &str) -> u64 {
        let text = prometheus::TextEncoder::new().encode_to_string(&self.registry.gather()).unwrap();
        let found = text.lines().find_map(|found| found.strip_prefix(&format!("sluice_gateway_deliver_{line} ")));
        found.map_or(0, |value| value.parse().unwrap())
    }

    /// Entries that came in against entries by their fate: the books of the destination.
    fn books_balance(&self) {
        let entries =
            |outcome: &str| self.metric(&format!("entries_total{{destination=\"logs\",outcome=\"{outcome}\"}}"));
        let undecided = self.metric("undecided_entries{destination=\"logs\"}");
        assert_eq!(
            entries("routed") + entries("unparked"),
            entries("delivered") + entries("rejected") + entries("parked") + entries("lost") + undecided
        );
    }
}

async fn append(journal: &Embedded, entries: Vec<Entry>) {
    let answers = journal.append(entries).await;
    assert!(answers.iter().all(|answer| matches!(answer, Appended::Stored(_))), "{answers:?}");
}

/// Appends one entry, again where there is no room or nobody knows: what the journal lets go of is gone when
/// its own threads, which know nothing of paused time, have done their work.
async fn append_at_last(journal: &Embedded, entry: Entry) {
    for _ in 0..20_000 {
        match journal.append(vec![entry.clone()]).await[0] {
            Appended::Stored(_) | Appended::Duplicate => return,
            Appended::Full | Appended::Unknown | Appended::Unavailable => {
                tokio::time::sleep(Duration::from_millis(10)).await
            }
            other => panic!("{other:?}"),
        }
    }
    panic!("there never was room");
}

/// Waits, in paused time, until `condition` holds.
async fn until(what: &str, mut condition: impl FnMut() -> bool) {
    for _ in 0..20_000 {
        if condition() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("it never came to this: {what}");
}
