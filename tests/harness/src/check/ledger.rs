//! Counts what arrives: one bit for each line that is expected, so that a hundred million lines are no load.

use std::collections::{BTreeMap, HashMap, HashSet};

use super::{
    Tenants,
    judge::{Fault, Finding, Judge},
    record::Record,
    report::{LostRange, Report},
};
use crate::{bitset::BitSet, line::LineId, line::Stream, manifest::Manifest};

/// How much of a long list of findings a report shows.
const SHOWN: usize = 20;

/// Distinct values of `sluice_batch` that are told apart.
const BATCHES: usize = 100_000;

/// A number this far beyond what the manifest counts is damage, not a line written since it was saved.
const BEYOND: u64 = 50_000_000;

/// Ranges of lost lines that a report lists; `lost` counts all.
const RANGES: usize = 10_000;

/// The highest number so far of each source and stream, within one file.
pub(crate) type Order = HashMap<(u32, Stream), u64>;

#[derive(Debug)]
pub(crate) struct Ledger {
    manifest: Manifest,
    tenants: Tenants,
    judge: Judge,
    seen: Vec<[BitSet; 2]>,
    records: u64,
    duplicated: u64,
    batches: HashSet<String>,
    wrong_tenant: u64,
    out_of_order: Option<u64>,
    broken: u64,
    faults: BTreeMap<String, u64>,
    foreign: u64,
    other_runs: u64,
    samples: Vec<String>,
}

/// A line that was seen for the first time.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Arrival {
    pub(crate) source: u32,
    pub(crate) written_ns: u64,
}

impl Ledger {
    pub(crate) fn new(manifest: Manifest, tenants: Tenants) -> Self {
        Self {
            judge: Judge::new(&manifest),
            seen: vec![<[BitSet; 2]>::default(); manifest.sources.len()],
            manifest,
            tenants,
            records: 0,
            duplicated: 0,
            batches: HashSet::new(),
            wrong_tenant: 0,
            out_of_order: None,
            broken: 0,
            faults: BTreeMap::new(),
            foreign: 0,
            other_runs: 0,
            samples: Vec::new(),
        }
    }

    /// For a destination that keeps lines in the order in which they came.
    pub(crate) fn in_order(mut self) -> Self {
        self.out_of_order = Some(0);
        self
    }

    pub(crate) fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// How many were booked.
    pub(crate) fn records(&self) -> u64 {
        self.records
    }

    /// Takes over the counts of a later state of the same run.
    pub(crate) fn update(&mut self, manifest: Manifest) {
        if manifest.run == self.manifest.run && manifest.sources.len() == self.manifest.sources.len() {
            self.manifest = manifest;
        }
    }

    /// Books one record that `tenant` holds. With `order`, numbers of a stream must rise.
    pub(crate) fn take(&mut self, tenant: &str, line: &[u8], order: Option<&mut Order>) -> Option<Arrival> {
        self.records += 1;
        let record = Record::parse(line);
        let (id, written_ns) = match self.judge.judge(&self.manifest, record.as_ref()) {
            Finding::Line { id, written_ns, faults } => {
                if !faults.is_empty() {
                    self.book_broken(&faults, line);
                }
                (id, written_ns)
            }
            Finding::Broken(fault) => return self.book_broken(&[fault], line),
            Finding::OtherRun => {
                self.other_runs += 1;
                return None;
            }
            Finding::Foreign => {
                self.foreign += 1;
                self.sample("foreign", line);
                return None;
            }
        };
        let LineId { source, stream, seq, .. } = id;
        let expected = &self.manifest.sources[source as usize];
        if seq >= expected.lines(stream) + BEYOND {
            return self.book_broken(&[Fault::NoSuchLine], line);
        }
        if self.tenants.of(&expected.namespace) != Some(tenant) {
            self.wrong_tenant += 1;
            self.sample(&format!("in tenant {tenant}"), line);
        }
        if let Some(order) = order {
            let out_of_order = self.out_of_order.get_or_insert(0);
            let last = order.entry((source, stream)).or_insert(seq);
            *out_of_order += u64::from(seq < *last);
            *last = seq.max(*last);
        }
        if self.seen[source as usize][stream.index()].insert(seq) {
            return Some(Arrival { source, written_ns });
        }
        self.duplicated += 1;
        if let Some(batch) = record.as_ref().and_then(|record| record.get("sluice_batch"))
            && self.batches.len() < BATCHES
            && !self.batches.contains(batch)
        {
            self.batches.insert(batch.to_owned());
        }
        None
    }

    pub(crate) fn take_torn(&mut self, end_of_file: &[u8]) {
        self.book_broken(&[Fault::Torn], end_of_file);
    }

    /// Every line that the manifest counts was seen, and the manifest will count no more.
    pub(crate) fn is_complete(&self) -> bool {
        self.manifest.complete && self.found() == self.manifest.lines()
    }

    fn found(&self) -> u64 {
        self.streams().map(|(_, _, seen, expected)| seen.count_below(expected)).sum()
    }

    fn streams(&self) -> impl Iterator<Item = (usize, Stream, &BitSet, u64)> {
        self.seen.iter().zip(&self.manifest.sources).enumerate().flat_map(|(index, (seen, source))| {
            Stream::BOTH.map(|stream| (index, stream, &seen[stream.index()], source.lines(stream)))
        })
    }

    fn book_broken(&mut self, faults: &[Fault], line: &[u8]) -> Option<Arrival> {
        self.broken += 1;
        let reasons: Vec<_> = faults.iter().map(ToString::to_string).collect();
        self.sample(&reasons.join(", "), line);
        for reason in reasons {
            // Names of members are data: an unbounded set, if a bug mangles them.
            let reason = if self.faults.len() < 1000 { reason } else { "others".to_owned() };
            *self.faults.entry(reason).or_default() += 1;
        }
        None
    }

    fn sample(&mut self, what: &str, line: &[u8]) {
        if self.samples.len() < SHOWN {
            let shown = &line[..line.len().min(600)];
            self.samples.push(format!("{what}: {}", String::from_utf8_lossy(shown)));
        }
    }

    pub(crate) fn report(&self) -> Report {
        let found = self.found();
        let expected = self.manifest.lines();
        let mut lost_ranges = Vec::new();
        for (index, stream, seen, expected) in self.streams() {
            if seen.count_below(expected) < expected {
                let source = &self.manifest.sources[index];
                let name = format!("{}/{}/{}", source.namespace, source.pod, source.container);
                lost_ranges.extend(seen.gaps(expected).into_iter().map(|(first, last)| LostRange {
                    source: index,
                    name: name.clone(),
                    stream,
                    first,
                    last,
                }));
            }
        }
        lost_ranges.truncate(RANGES);
        Report {
            expected,
            complete: self.manifest.complete,
            records: self.records,
            found,
            lost: expected - found,
            lost_ranges,
            duplicated: self.duplicated,
            duplicate_batches: self.batches.len(),
            wrong_tenant: self.wrong_tenant,
            out_of_order: self.out_of_order,
            broken: self.broken,
            faults: self.faults.clone(),
            foreign: self.foreign,
            other_runs: self.other_runs,
            beyond: self.streams().map(|(_, _, seen, expected)| seen.len() - seen.count_below(expected)).sum(),
            samples: self.samples.clone(),
            latency: None,
            latency_by_namespace: BTreeMap::new(),
        }
    }
}
