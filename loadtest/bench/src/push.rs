//! The harness' sink as a gateway: Sluice's own push protocol, every block decompressed and its lines counted.
//!
//! It stores nothing and knows no lanes: a block that comes twice is counted twice, and shows as duplicates.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard},
};

use axum::{
    Router,
    extract::{DefaultBodyLimit, State},
    http::header::CONTENT_TYPE,
    response::{IntoResponse, Response},
    routing::get,
};
use bytes::Bytes;
use memchr::memmem;
use serde_json::value::RawValue;
use sluice_harness::{latency::now_ns, sink::Sink};
use sluice_wire::{
    JournalId, Reason, Verdict,
    block::{Frame, Frames},
    limits,
    payload::Checker,
    push::{self, Hello},
};

/// How a record's labels begin: with the first name in order.
const LABELS: &[u8] = b",\"k8s_labels\":{\"app.kubernetes.io/component\":";
const JOURNAL: JournalId = JournalId(*b"benchmark's sink");

#[derive(Debug, Clone)]
pub(crate) struct PushSink(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    lines: Sink,
    work: Mutex<Work>,
}

#[derive(Debug, Default)]
struct Work {
    checker: Checker,
    blocks: Blocks,
}

/// What was seen of blocks, beside their lines.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct Blocks {
    pub(crate) requests: u64,
    pub(crate) count: u64,
    pub(crate) refused: u64,
    pub(crate) records: u64,
    pub(crate) raw_bytes: u64,
    pub(crate) payload_bytes: u64,
    /// Of each block's first record: the members that are the source's, not the application's.
    metadata_bytes: u64,
    looked_into: u64,
    /// Of these, the ones without labels of their pod.
    pub(crate) undescribed: u64,
}

impl Blocks {
    pub(crate) fn metadata_per_record(&self) -> f64 {
        self.metadata_bytes as f64 / self.looked_into.max(1) as f64
    }

    pub(crate) fn records_per_block(&self) -> f64 {
        self.records as f64 / self.count.max(1) as f64
    }

    pub(crate) fn ratio(&self) -> f64 {
        self.raw_bytes as f64 / self.payload_bytes.max(1) as f64
    }
}

impl PushSink {
    /// Lines are counted by `lines`.
    pub(crate) fn new(lines: Sink) -> Self {
        Self(Arc::new(Inner { lines, work: Mutex::default() }))
    }

    pub(crate) fn blocks(&self) -> Blocks {
        self.work().blocks
    }

    pub(crate) fn reset(&self) {
        self.work().blocks = Blocks::default();
    }

    pub(crate) fn router(&self) -> Router {
        Router::new()
            .route(push::PATH, get(hello).post(take))
            .layer(DefaultBodyLimit::max(limits::REQUEST))
            .with_state(self.clone())
    }

    fn work(&self) -> MutexGuard<'_, Work> {
        self.0.work.lock().expect("nobody panics in here")
    }

    fn take(&self, body: &Bytes, received_ns: u64) -> Vec<Verdict> {
        let mut work = self.work();
        work.blocks.requests += 1;
        // The request's bytes are counted with its first block.
        let mut wire_bytes = body.len() as u64;
        Frames::new(body.clone())
            .map(|frame| match frame.and_then(|frame| work.open(&frame)) {
                Ok(lines) => {
                    self.0.lines.take_lines(lines, std::mem::take(&mut wire_bytes), received_ns);
                    Verdict::Accepted
                }
                Err(reason) => {
                    work.blocks.refused += 1;
                    Verdict::Rejected(reason)
                }
            })
            .collect()
    }
}

impl Work {
    fn open(&mut self, frame: &Frame) -> Result<&[u8], Reason> {
        let block = frame.open()?;
        let header = &block.header;
        let raw = self.checker.decode(header.encoding, header.raw_len as usize, &block.payload)?;
        self.blocks.count += 1;
        self.blocks.records += u64::from(header.records);
        self.blocks.raw_bytes += raw.len() as u64;
        self.blocks.payload_bytes += block.payload.len() as u64;
        let first = raw.split(|byte| *byte == b'\n').next().unwrap_or_default();
        if let Some(bytes) = metadata_bytes(first) {
            self.blocks.metadata_bytes += bytes;
            self.blocks.looked_into += 1;
            self.blocks.undescribed += u64::from(memmem::find(first, LABELS).is_none());
        }
        Ok(raw)
    }
}

async fn hello() -> Response {
    let hello = serde_json::to_vec(&Hello::new(JOURNAL)).expect("a greeting has only string keys");
    ([(CONTENT_TYPE, "application/json")], hello).into_response()
}

async fn take(State(sink): State<PushSink>, body: Bytes) -> Response {
    let verdicts = sink.take(&body, now_ns());
    let headers =
        [(CONTENT_TYPE.as_str(), push::VERDICTS_TYPE.to_owned()), (push::JOURNAL_HEADER, JOURNAL.to_string())];
    (headers, push::write_verdicts(&verdicts)).into_response()
}

/// The bytes of a record's members that say where it comes from, each with its comma.
fn metadata_bytes(record: &[u8]) -> Option<u64> {
    let members: BTreeMap<&str, &RawValue> = serde_json::from_slice(record).ok()?;
    let ours =
        |name: &str| name.starts_with("k8s_") || matches!(name, "cluster" | "environment" | "log_type" | "stream");
    let bytes = |(name, value): (&&str, &&RawValue)| ",\"\":".len() + name.len() + value.get().len();
    Some(members.iter().filter(|(name, _)| ours(name)).map(bytes).sum::<usize>() as u64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use sluice_wire::{Block, Category, Encoding, Header, Lane, ProducerId};

    const RAW: &str = "{\"_time\":\"2026-01-01T00:00:00Z\",\"_msg\":\"sv1 src=00000001.0 str=o seq=0 wt=1 len=1 crc=00000000 x\",\"cluster\":\"c\",\"a\":1}\n";

    fn frame() -> Vec<u8> {
        let payload = Bytes::from_static(RAW.as_bytes());
        let header = Header {
            lane: Lane {
                producer: ProducerId([1; 16]),
                category: Category::Application,
                scope: "ns".into(),
                split: "".into(),
            },
            number: 1,
            cluster: "c".into(),
            node: "n".into(),
            encoding: Encoding::None,
            payload_crc: 0,
            raw_len: u32::try_from(RAW.len()).unwrap(),
            records: 1,
            longest: u32::try_from(RAW.len()).unwrap() - 1,
            first_time: 0,
            last_time: 0,
            positions: Vec::new(),
        };
        let mut frame = Vec::new();
        let block = Block { header, payload };
        block.write(&mut frame).unwrap();
        frame
    }

    #[test]
    fn a_broken_block_is_refused_and_counted() {
        let sink = PushSink::new(Sink::default());
        let verdicts = sink.take(&frame().into(), 1);
        assert_eq!(verdicts, [Verdict::Rejected(Reason::Checksum)]);
        assert_eq!((sink.blocks().refused, sink.0.lines.report().records), (1, 0));
    }

    #[test]
    fn only_the_source_is_metadata() {
        assert_eq!(metadata_bytes(RAW.trim_end().as_bytes()), Some(",\"cluster\":\"c\"".len() as u64));
    }
}
