//! What came of a run, for people and for programs.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use serde::Serialize;

use super::fixes::{self, To};
use super::writer::LINE;
use super::{Plan, Tally};
use crate::metrics::{Metrics, Step};
use crate::ship::Peer;
use crate::tail::Abandoned;

/// What came of a run.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Report {
    /// Whether every line was acknowledged.
    pub passed: bool,
    /// What each of its lines carries as `verify_run`.
    pub run: String,
    /// Where the lines went.
    pub to: Vec<String>,
    /// Whose lines they were.
    pub namespace: String,
    /// Lines that should have been written.
    pub lines: u64,
    /// Lines that were.
    pub written: u64,
    /// Of these, lines that the destination has taken.
    pub acknowledged: u64,
    /// Lines that it will never take.
    pub refused: u64,
    /// Lines that were left out on the node, by reason.
    pub left_out: BTreeMap<Abandoned, u64>,
    /// Written lines of which nothing is known when the time is up.
    pub lost: u64,
    /// Lines that the destination may have twice.
    pub repeated_possible: u64,
    /// From the write of a line to its verdict; `None`: there was none.
    pub latency: Option<Latency>,
    /// What did not work on the way, also where it did in the end.
    pub troubles: Vec<Mended>,
    /// What nobody has looked at.
    pub not_verified: String,
    /// LogsQL that looks at it.
    pub query: String,
    #[serde(skip)]
    direct: bool,
    #[serde(skip)]
    writing: Duration,
    #[serde(skip)]
    timeout: Duration,
}

/// Seconds.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Latency {
    /// Half of the lines were faster.
    pub p50_seconds: f64,
    /// One in a hundred was slower.
    pub p99_seconds: f64,
    /// The slowest.
    pub max_seconds: f64,
}

/// A trouble, and what mends it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Mended {
    /// `connection`, `unauthenticated`, …; `node`: on the node itself.
    pub step: String,
    /// How often.
    pub times: u64,
    /// What was said the last time.
    pub said: String,
    /// What to do about it.
    pub fix: String,
}

impl Report {
    pub(super) fn new(plan: &Plan, id: &str, tally: &Tally, metrics: &Metrics) -> Self {
        let lines_of = |bytes: u64| bytes / LINE as u64;
        let endpoints = &plan.config.destination.endpoints;
        let direct = endpoints.iter().any(|endpoint| matches!(endpoint.peer, Peer::Store(_)));
        let mut left_out = BTreeMap::new();
        for (reason, bytes) in tally.pages.iter().flat_map(|page| &page.abandoned) {
            *left_out.entry(*reason).or_default() += lines_of(*bytes);
        }
        let refused = metrics.dead_letters.get();
        let acknowledged = lines_of(tally.acknowledged_bytes()).saturating_sub(refused);
        let decided = acknowledged + refused + left_out.values().sum::<u64>();
        let lost = tally.written.saturating_sub(decided);
        let to = To { key: if direct { "direct" } else { "gateway" }, namespace: &plan.namespace };
        let mut troubles: Vec<Mended> = metrics.troubles.all().into_iter().map(|of| Mended::of_step(of, to)).collect();
        troubles.extend(left_out.iter().map(|(reason, lines)| Mended {
            step: "node".to_owned(),
            times: *lines,
            said: format!("lines left out: {}", reason.word()),
            fix: fixes::of_abandoned(*reason, &plan.namespace),
        }));
        if lost > 0 && troubles.is_empty() {
            troubles.push(Mended {
                step: "time".to_owned(),
                times: lost,
                said: "lines without a verdict when the time was up, and nothing that went wrong".to_owned(),
                fix: "give it more time with --timeout, or a lower --rate".to_owned(),
            });
        }
        Self {
            passed: acknowledged == plan.lines,
            run: id.to_owned(),
            to: endpoints.iter().map(|endpoint| endpoint.url.to_string()).collect(),
            namespace: plan.namespace.clone(),
            lines: plan.lines,
            written: tally.written,
            acknowledged,
            refused,
            left_out,
            lost,
            repeated_possible: metrics.possible_duplicates.get(),
            latency: Latency::of(&tally.latencies),
            troubles,
            not_verified: not_verified(direct).to_owned(),
            query: format!("_time:1d verify_run:={id} | stats count() lines, count_uniq(verify_line) numbers"),
            direct,
            writing: tally.writing,
            timeout: plan.timeout,
        }
    }
}

fn not_verified(direct: bool) -> &'static str {
    if direct {
        "whether the store keeps them: it says yes before its disk has them, and drops what is outside its retention \
         without a word"
    } else {
        "what becomes of the lines behind the gateway: its journal has them, delivery to stores comes after that"
    }
}

impl Latency {
    fn of(latencies: &[Duration]) -> Option<Self> {
        let mut sorted = latencies.to_vec();
        sorted.sort_unstable();
        // The line that so many of a hundred are not slower than.
        let at = |percent: usize| sorted.get((sorted.len() * percent).div_ceil(100).saturating_sub(1));
        let seconds = |percent| at(percent).map(Duration::as_secs_f64);
        Some(Self { p50_seconds: seconds(50)?, p99_seconds: seconds(99)?, max_seconds: seconds(100)? })
    }
}

impl Mended {
    fn of_step((step, trouble): (Step, crate::metrics::Trouble), to: To<'_>) -> Self {
        let word = serde_json::to_value(step).ok().and_then(|word| word.as_str().map(str::to_owned));
        Self {
            step: word.unwrap_or_default(),
            times: trouble.times,
            // Servers' words; a terminal is not told to do anything by them.
            said: trouble.said.chars().map(|c| if c.is_control() { ' ' } else { c }).collect(),
            fix: fixes::of_step(step, to),
        }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "run {}: {} lines as namespace {} to {}\n",
            self.run,
            self.lines,
            self.namespace,
            self.to.join(", ")
        )?;
        let rotated =
            if self.lines > 1 && self.written >= self.lines / 2 { ", with a rotation in the middle" } else { "" };
        writeln!(f, "  written       {:>8}   in {:.1} s{rotated}", self.written, self.writing.as_secs_f64())?;
        writeln!(f, "  acknowledged  {:>8}", self.acknowledged)?;
        let within = format!("   without a verdict {:?} after the last line", self.timeout);
        writeln!(f, "  lost          {:>8}{}", self.lost, if self.lost > 0 { &within } else { "" })?;
        if self.refused > 0 {
            writeln!(f, "  refused       {:>8}", self.refused)?;
        }
        for (reason, lines) in &self.left_out {
            writeln!(f, "  left out      {lines:>8}   {}", reason.word())?;
        }
        writeln!(f, "  perhaps twice {:>8}", self.repeated_possible)?;
        if let Some(latency) = &self.latency {
            let Latency { p50_seconds, p99_seconds, max_seconds } = latency;
            let words = "from the write of a line to its verdict";
            writeln!(
                f,
                "  latency       p50 {p50_seconds:.3} s   p99 {p99_seconds:.3} s   max {max_seconds:.3} s   {words}"
            )?;
        }
        if !self.troubles.is_empty() {
            writeln!(f, "\nTrouble on the way:")?;
        }
        for Mended { step, times, said, fix } in &self.troubles {
            writeln!(f, "  {step} ({times}): {said}\n    fix: {fix}")?;
        }
        let whom = if self.direct {
            "Ask it".to_owned()
        } else {
            format!("Ask the store, as the tenant that the gateway's policy gives to namespace {}", self.namespace)
        };
        writeln!(f, "\nNot verified: {}.\n{whom}:\n  {}", self.not_verified, self.query)?;
        writeln!(
            f,
            "Both are to be {}{}; more lines than numbers: some came twice.\n",
            self.acknowledged,
            if self.lost > 0 { " or more" } else { "" }
        )?;
        if self.passed {
            write!(f, "OK: every line was acknowledged")
        } else {
            write!(f, "FAILED: {} of {} lines were acknowledged", self.acknowledged, self.lines)
        }
    }
}
