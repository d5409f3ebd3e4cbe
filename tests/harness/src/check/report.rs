//! What a check found.

use std::{collections::BTreeMap, fmt};

use serde::Serialize;

use crate::{latency::Summary, line::Stream};

#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Report {
    /// Lines that the manifest counts.
    pub expected: u64,
    /// Whether the writer came to its end, so that `expected` is final.
    pub complete: bool,
    /// Records looked at.
    pub records: u64,
    /// Distinct lines of the manifest that were seen, in whichever tenant.
    pub found: u64,
    pub lost: u64,
    pub lost_ranges: Vec<LostRange>,
    /// Records of a line beyond its first.
    pub duplicated: u64,
    /// Distinct values of `sluice_batch` among these records.
    pub duplicate_batches: usize,
    pub wrong_tenant: u64,
    /// Records that stand behind a later line of their stream in the same file; None where the destination
    /// keeps no order.
    pub out_of_order: Option<u64>,
    /// Records that are not what they should be: text damaged, members missing or wrong.
    pub broken: u64,
    /// How often each fault was seen; a broken record can have several.
    pub faults: BTreeMap<String, u64>,
    /// Records that no run of the writer made.
    pub foreign: u64,
    pub other_runs: u64,
    /// Whole lines with numbers past the manifest: written after it was last saved.
    pub beyond: u64,
    /// The first few records that something was wrong with.
    pub samples: Vec<String>,
    /// From writing to first sight; only of a check that followed.
    pub latency: Option<Summary>,
    pub latency_by_namespace: BTreeMap<String, Summary>,
}

/// Lines that are nowhere, with the first and the last number.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct LostRange {
    /// Index in the manifest.
    pub source: usize,
    pub name: String,
    pub stream: Stream,
    pub first: u64,
    pub last: u64,
}

impl Report {
    /// What makes the check fail; empty when all is well.
    #[must_use]
    pub fn failures(&self, allowed_duplicates: u64) -> Vec<String> {
        let mut failures = Vec::new();
        let mut fail = |count: u64, what: &str| {
            if count > 0 {
                failures.push(format!("{count} {what}"));
            }
        };
        fail(self.lost, "lost");
        fail(self.broken, "broken");
        fail(self.wrong_tenant, "in the wrong tenant");
        if self.duplicated > allowed_duplicates {
            fail(self.duplicated, "duplicated");
        }
        failures
    }

    /// For tests: prints the whole report when something is wrong.
    ///
    /// # Panics
    /// When there are [`failures`](Self::failures).
    #[track_caller]
    pub fn assert_clean(&self, allowed_duplicates: u64) {
        let failures = self.failures(allowed_duplicates);
        assert!(failures.is_empty(), "{}:\n{self}", failures.join(", "));
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let more = if self.complete { "" } else { " so far (the writer has not ended)" };
        writeln!(f, "expected      {}{more}", self.expected)?;
        writeln!(f, "found         {}", self.found)?;
        writeln!(f, "lost          {}", self.lost)?;
        for LostRange { name, stream, first, last, .. } in self.lost_ranges.iter().take(20) {
            writeln!(f, "    {name} {} {first}..={last}", stream.name())?;
        }
        if self.lost_ranges.len() > 20 {
            writeln!(f, "    … {} ranges in all", self.lost_ranges.len())?;
        }
        writeln!(f, "duplicated    {} (in {} batches)", self.duplicated, self.duplicate_batches)?;
        writeln!(f, "wrong tenant  {}", self.wrong_tenant)?;
        match self.out_of_order {
            Some(count) => writeln!(f, "out of order  {count}")?,
            None => writeln!(f, "out of order  not known: the destination keeps no order")?,
        }
        writeln!(f, "broken        {}", self.broken)?;
        for (fault, count) in self.faults.iter().take(20) {
            writeln!(f, "    {count} × {fault}")?;
        }
        writeln!(f, "foreign       {}", self.foreign)?;
        if self.other_runs > 0 {
            writeln!(f, "other runs    {}", self.other_runs)?;
        }
        if self.beyond > 0 {
            writeln!(f, "past manifest {}", self.beyond)?;
        }
        if let Some(latency) = &self.latency {
            writeln!(f, "latency       {latency}")?;
        }
        for (namespace, latency) in &self.latency_by_namespace {
            writeln!(f, "    {namespace}: {latency}")?;
        }
        for sample in &self.samples {
            writeln!(f, "e.g. {sample}")?;
        }
        Ok(())
    }
}
