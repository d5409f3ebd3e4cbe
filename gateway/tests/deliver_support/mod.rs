//! What tests of the delivery need: a journal in a directory of its own, records, and numbers.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking, in its helpers too")]

use std::io::Read as _;
use std::ops::RangeInclusive;
use std::time::Duration;

use bytes::Bytes;
use prometheus::Registry;
use sluice_gateway::config::checked::{self, DestinationKind};
use sluice_gateway::deliver::{self, Deliverers};
use sluice_gateway::journal::{Appended, Embedded, Entry, Journal as _};
use sluice_gateway::metrics::deliver::DeliverMetrics;
use sluice_gateway::metrics::journal::JournalMetrics;
use sluice_wire::{Block, Category, Encoding, Header, Lane, ProducerId, time};

/// One gateway's journal on a real disk with one destination, `logs`.
pub(crate) struct Rig {
    directory: tempfile::TempDir,
    destination: checked::Destination,
    registry: Registry,
    metrics: DeliverMetrics,
    /// Records are of this time on, a millisecond apart.
    first_time: i64,
}

impl Rig {
    pub(crate) fn new(destination: checked::VictoriaLogs) -> Self {
        let registry = Registry::new();
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
        Self {
            directory: tempfile::tempdir().unwrap(),
            destination: checked::Destination { name: "logs".into(), kind: DestinationKind::VictoriaLogs(destination) },
            metrics: DeliverMetrics::register(&registry).unwrap(),
            registry,
            first_time: i64::try_from(now.as_nanos()).unwrap() - 60 * time::SECOND,
        }
    }

    pub(crate) fn open(&self) -> Embedded {
        let config = checked::Journal {
            directory: self.directory.path().join("journal"),
            max_bytes: 64 << 20,
            segment_bytes: 4 << 20,
            commit_delay: Duration::from_millis(1),
            lane_retention: Duration::from_secs(3600),
            park_above: 0.5,
        };
        Embedded::open(&config, JournalMetrics::register(&Registry::new()).unwrap()).unwrap()
    }

    pub(crate) fn start(&self, journal: &Embedded) -> Deliverers {
        deliver::start(journal, std::slice::from_ref(&self.destination), &self.metrics).unwrap()
    }

    #[allow(dead_code, reason = "not every test starts deliveries of its own")]
    pub(crate) fn metrics(&self) -> &DeliverMetrics {
        &self.metrics
    }

    /// Blocks of one record each.
    pub(crate) async fn append(&self, journal: &Embedded, tenant: &str, numbers: RangeInclusive<u64>) {
        let entries = numbers.map(|number| self.entry(tenant, number, &[(number, self.time_of(number))])).collect();
        let answers = journal.append(entries).await;
        assert!(answers.iter().all(|answer| matches!(answer, Appended::Stored(_))), "{answers:?}");
    }

    pub(crate) fn time_of(&self, number: u64) -> i64 {
        self.first_time + i64::try_from(number).unwrap() * 1_000_000
    }

    /// One block with a record of each number and time.
    pub(crate) fn entry(&self, tenant: &str, block: u64, records: &[(u64, i64)]) -> Entry {
        let mut raw = Vec::new();
        for (number, at) in records {
            raw.extend_from_slice(b"{\"_time\":\"");
            time::write(*at, &mut raw);
            raw.extend_from_slice(
                format!("\",\"_msg\":\"{}\",\"k8s_pod_name\":\"p\"}}\n", Self::text(tenant, *number)).as_bytes(),
            );
        }
        let payload = Bytes::from(zstd::bulk::compress(&raw, 1).unwrap());
        let header = Header {
            lane: Lane {
                producer: ProducerId([1; 16]),
                category: Category::Application,
                scope: tenant.into(),
                split: "".into(),
            },
            number: block,
            cluster: "infra".into(),
            node: "node-7".into(),
            encoding: Encoding::Zstd,
            payload_crc: crc32c::crc32c(&payload),
            raw_len: u32::try_from(raw.len()).unwrap(),
            records: u32::try_from(records.len()).unwrap(),
            longest: u32::try_from(raw.split(|byte| *byte == b'\n').map(<[u8]>::len).max().unwrap()).unwrap(),
            first_time: records.iter().map(|record| record.1).min().unwrap(),
            last_time: records.iter().map(|record| record.1).max().unwrap(),
            positions: Vec::new(),
        };
        Entry {
            tenant: tenant.into(),
            destinations: vec!["logs".into()],
            policy: 1,
            identity: "node-7".into(),
            received: self.time_of(block),
            block: Block { header, payload },
        }
    }

    pub(crate) fn text(tenant: &str, number: u64) -> String {
        format!("{tenant} {number:05}")
    }

    pub(crate) fn texts(tenant: &str, numbers: RangeInclusive<u64>) -> Vec<String> {
        numbers.map(|number| Self::text(tenant, number)).collect()
    }

    /// The sum over all labels of a metric of the delivery.
    pub(crate) fn metric(&self, name: &str) -> u64 {
        self.sum(&format!("sluice_gateway_deliver_{name}{{"))
    }

    /// Every one of `records` is decided, and nothing waits anywhere.
    pub(crate) fn is_done(&self, records: u64) -> bool {
        let waiting = ["lag_entries", "parked_entries", "undecided_entries"].map(|gauge| self.metric(gauge));
        self.metric("records_total") == records && waiting == [0; 3]
    }

    fn sum(&self, start: &str) -> u64 {
        let text = prometheus::TextEncoder::new().encode_to_string(&self.registry.gather()).unwrap();
        let values = text.lines().filter(|line| line.starts_with(start)).filter_map(|line| line.rsplit(' ').next());
        values.map(|value| value.parse::<u64>().unwrap()).sum()
    }

    /// What came in is what became of it.
    pub(crate) fn books_balance(&self) {
        let entries = |outcome: &str| {
            self.sum(&format!("sluice_gateway_deliver_entries_total{{destination=\"logs\",outcome=\"{outcome}\""))
        };
        let came = entries("routed") + entries("unparked");
        let fate = entries("delivered") + entries("rejected") + entries("parked") + entries("lost");
        assert_eq!(came, fate + self.metric("undecided_entries"));
    }

    /// The content of each file in a directory beside the journal.
    #[allow(dead_code, reason = "not every test looks at files")]
    pub(crate) fn files(&self, part: &str) -> Vec<String> {
        let dir = self.directory.path().join("journal").join(part);
        let files = std::fs::read_dir(dir).unwrap().map(|file| file.unwrap().path());
        files.map(|path| std::fs::read_to_string(path).unwrap()).collect()
    }
}

/// Short waits, so that tests are quick; a batch trails for `durable_after`.
pub(crate) fn victorialogs(url: &str, durable_after: Duration) -> checked::VictoriaLogs {
    checked::VictoriaLogs {
        url: url.to_owned(),
        token: None,
        ca: None,
        stream_fields: vec!["cluster".into(), "k8s_pod_name".into()],
        durable_after,
        batch_ids: true,
        retention: Some(Duration::from_secs(7 * 86_400)),
        future: Duration::from_secs(2 * 86_400),
        timeout: Duration::from_secs(3),
        concurrency: 4,
        batch_bytes: 4 << 20,
        batch_raw_bytes: 32 << 20,
        batch_age: Duration::from_millis(100),
    }
}

/// Waits until `condition` holds, half a minute at most.
pub(crate) async fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    for _ in 0..600 {
        if condition() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("it never came to this: {what}");
}

/// The texts of a body's lines.
#[allow(dead_code, reason = "not every test has a server of its own")]
pub(crate) fn lines(body: &[u8]) -> Vec<String> {
    let mut raw = String::new();
    zstd::stream::read::Decoder::new(body).unwrap().take(64 << 20).read_to_string(&mut raw).unwrap();
    let text =
        |line: &str| serde_json::from_str::<serde_json::Value>(line).unwrap()["_msg"].as_str().unwrap().to_owned();
    raw.lines().map(text).collect()
}
