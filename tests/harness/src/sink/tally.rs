//! What a sink has received so far.

use std::collections::{BTreeMap, HashMap};

use memchr::memmem;
use serde::Serialize;

use crate::{
    bitset::BitSet,
    latency::{Latencies, Summary, now_ns},
    line::{Header, TOKEN, parse_header},
};

/// One request's lines, found without a lock.
#[derive(Debug, Default)]
pub(crate) struct Batch {
    pub(crate) wire_bytes: u64,
    pub(crate) body_bytes: u64,
    pub(crate) records: u64,
    /// OTLP's resources, and those of them that have a pod's labels.
    pub(crate) resources: u64,
    pub(crate) described: u64,
    /// One for each line of ours: several where a collector has joined them, one where it has the text twice.
    pub(crate) headers: Vec<Header>,
}

impl Batch {
    /// Out of JSON lines. The token needs no escaping, so it stands in them as it was written.
    pub(crate) fn of_lines(lines: &[u8]) -> Self {
        let unended = u64::from(lines.last().is_some_and(|byte| *byte != b'\n'));
        let ends = memchr::memchr_iter(b'\n', lines).count() as u64;
        let mut batch = Self { body_bytes: lines.len() as u64, records: ends + unended, ..Self::default() };
        let finder = memmem::Finder::new(TOKEN);
        let mut rest = lines;
        let mut last = None;
        while let Some(at) = finder.find(rest) {
            let header = parse_header(&rest[at..]);
            let again = header.is_some_and(|header| Some(header.id) == last);
            if !again || memchr::memchr(b'\n', &rest[..at]).is_some() {
                batch.headers.extend(header);
            }
            last = header.map(|header| header.id);
            rest = &rest[at + TOKEN.len()..];
        }
        batch
    }

    pub(crate) fn of_records<'a>(records: impl Iterator<Item = &'a [u8]>) -> Self {
        let finder = memmem::Finder::new(TOKEN);
        let mut batch = Self::default();
        for record in records {
            batch.records += 1;
            batch.body_bytes += record.len() as u64;
            batch.headers.extend(finder.find(record).and_then(|at| parse_header(&record[at..])));
        }
        batch
    }
}

#[derive(Debug, Default)]
pub(crate) struct Tally {
    requests: u64,
    refused: u64,
    wire_bytes: u64,
    body_bytes: u64,
    records: u64,
    numbered: u64,
    resources: u64,
    described: u64,
    duplicates: u64,
    /// By run and source; by stream.
    seen: HashMap<(u32, u32), [Seen; 2]>,
    /// By run.
    latencies: BTreeMap<u32, Latencies>,
    first_ns: Option<u64>,
    last_ns: u64,
}

#[derive(Debug, Default)]
struct Seen {
    numbers: BitSet,
    /// One more than the highest.
    end: u64,
}

impl Tally {
    pub(crate) fn add(&mut self, batch: &Batch, received_ns: u64) {
        self.requests += 1;
        self.wire_bytes += batch.wire_bytes;
        self.body_bytes += batch.body_bytes;
        self.records += batch.records;
        self.numbered += batch.headers.len() as u64;
        self.resources += batch.resources;
        self.described += batch.described;
        for header in &batch.headers {
            let id = header.id;
            let seen = &mut self.seen.entry((id.run, id.source)).or_default()[id.stream.index()];
            seen.end = seen.end.max(id.seq + 1);
            if seen.numbers.insert(id.seq) {
                self.latencies.entry(id.run).or_default().record(header.written_ns, received_ns);
            } else {
                self.duplicates += 1;
            }
        }
        self.first_ns.get_or_insert(received_ns);
        self.last_ns = now_ns();
    }

    pub(crate) fn refuse(&mut self) {
        self.refused += 1;
    }

    #[allow(clippy::cast_precision_loss)] // counts and durations of a benchmark
    pub(crate) fn report(&self) -> Report {
        let streams = || self.seen.values().flatten();
        let distinct = streams().map(|seen| seen.numbers.len()).sum();
        let mut all = Latencies::default();
        self.latencies.values().for_each(|of_run| all.add(of_run));
        let seconds = self.first_ns.map_or(0.0, |first| self.last_ns.saturating_sub(first) as f64 / 1e9);
        Report {
            requests: self.requests,
            refused: self.refused,
            wire_bytes: self.wire_bytes,
            body_bytes: self.body_bytes,
            records: self.records,
            numbered: self.numbered,
            distinct,
            duplicates: self.duplicates,
            missing: streams().map(|seen| seen.end - seen.numbers.len()).sum(),
            sources: self.seen.len(),
            seconds,
            records_per_second: if seconds > 0.0 { self.records as f64 / seconds } else { 0.0 },
            resources: self.resources,
            described: self.described,
            latency: all.summary(),
            latency_by_run: self.latencies.iter().map(|(run, latencies)| (*run, latencies.summary())).collect(),
        }
    }
}

#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Report {
    pub requests: u64,
    /// Bodies that could not be read.
    pub refused: u64,
    /// As they came over the connection, without HTTP's headers.
    pub wire_bytes: u64,
    /// Decompressed.
    pub body_bytes: u64,
    pub records: u64,
    /// Lines of `sluice-verify write` in them.
    pub numbered: u64,
    /// Different lines among these.
    pub distinct: u64,
    pub duplicates: u64,
    /// Lines below the highest number of their source and stream that did not come.
    pub missing: u64,
    pub sources: usize,
    /// From the first request to the end of the last.
    pub seconds: f64,
    pub records_per_second: f64,
    /// OTLP's resources, and those of them that have their pod's labels.
    pub resources: u64,
    pub described: u64,
    pub latency: Summary,
    /// Of each of the writer's runs ([`Manifest::run`](crate::manifest::Manifest)).
    pub latency_by_run: BTreeMap<u32, Summary>,
}
