//! What the pairs say together, against what is promised.

use std::fmt;

use super::run::Run;

/// The quiet tenants' median latency beside a noisy tenant may be so many times that without one …
const LATENCY_TIMES: f64 = 1.25;
/// … or so much longer.
const LATENCY_MORE_MS: f64 = 50.0;
/// CPU for each GB delivered may be so many times that without.
const CPU_TIMES: f64 = 1.10;

/// Two runs that followed each other.
#[derive(Debug, Clone)]
pub(super) struct Pair {
    pub(super) without: Run,
    pub(super) with: Run,
}

impl Pair {
    fn p50s(&self) -> (f64, f64) {
        let p50 = |run: &Run| run.outcome.p50_ms.unwrap_or(f64::NAN);
        (p50(&self.without), p50(&self.with))
    }

    fn cpus(&self) -> (f64, f64) {
        (self.without.outcome.cpu_s_per_gb, self.with.outcome.cpu_s_per_gb)
    }

    fn latency_times(&self) -> f64 {
        let (without, with) = self.p50s();
        with / without
    }

    fn latency_more_ms(&self) -> f64 {
        let (without, with) = self.p50s();
        with - without
    }

    fn cpu_times(&self) -> f64 {
        let (without, with) = self.cpus();
        with / without
    }
}

impl fmt::Display for Pair {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ((p50_without, p50_with), (cpu_without, cpu_with)) = (self.p50s(), self.cpus());
        write!(
            f,
            "p50 {p50_without:.1} → {p50_with:.1} ms (× {:.3}, {:+.1} ms), \
             CPU s/GB {cpu_without:.2} → {cpu_with:.2} (× {:.3})",
            self.latency_times(),
            self.latency_more_ms(),
            self.cpu_times()
        )
    }
}

/// Printed, it ends in PASS or FAIL.
#[derive(Debug)]
pub(crate) struct Verdict {
    pairs: Vec<Pair>,
    latency_times: f64,
    latency_more_ms: f64,
    cpu_times: f64,
    faults: Vec<String>,
}

impl Verdict {
    pub(super) fn of(pairs: Vec<Pair>) -> Self {
        let over = |figure: fn(&Pair) -> f64| median(pairs.iter().map(figure).collect());
        let runs = pairs.iter().flat_map(|pair| [&pair.without, &pair.with]);
        Self {
            latency_times: over(Pair::latency_times),
            latency_more_ms: over(Pair::latency_more_ms),
            cpu_times: over(Pair::cpu_times),
            faults: runs.flat_map(|run| run.faults.clone()).collect(),
            pairs,
        }
    }

    pub(crate) fn passed(&self) -> bool {
        self.latency_holds() && self.cpu_holds() && self.faults.is_empty()
    }

    fn latency_holds(&self) -> bool {
        self.latency_times <= LATENCY_TIMES || self.latency_more_ms <= LATENCY_MORE_MS
    }

    fn cpu_holds(&self) -> bool {
        self.cpu_times <= CPU_TIMES
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (nth, pair) in self.pairs.iter().enumerate() {
            writeln!(f, "noisy, pair {}: {pair}", nth + 1)?;
        }
        let Self { latency_times, latency_more_ms, cpu_times, .. } = self;
        writeln!(
            f,
            "median latency × {latency_times:.3}, {latency_more_ms:+.1} ms; at most × {LATENCY_TIMES} or \
             +{LATENCY_MORE_MS} ms: {}",
            word(self.latency_holds())
        )?;
        writeln!(f, "median CPU s/GB × {cpu_times:.3}; at most × {CPU_TIMES:.2}: {}", word(self.cpu_holds()))?;
        let faults = if self.faults.is_empty() { "none".to_owned() } else { self.faults.join("; ") };
        writeln!(f, "lines lost, repeated, broken or in the wrong tenant: {faults}: {}", word(self.faults.is_empty()))?;
        write!(f, "noisy: {}", word(self.passed()))
    }
}

fn word(holds: bool) -> &'static str {
    if holds { "PASS" } else { "FAIL" }
}

/// Of an even number, the mean of the two in the middle.
fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    match (values.get(values.len().saturating_sub(1) / 2), values.get(values.len() / 2)) {
        (Some(below), Some(above)) => f64::midpoint(*below, *above),
        _ => f64::NAN,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::outcome::Outcome;

    fn run(p50_ms: f64, cpu_s_per_gb: f64) -> Run {
        let outcome = Outcome {
            program: "both",
            case: "noisy",
            lines_per_s: 1.0,
            mb_per_s: 1.0,
            cpu_s_per_gb,
            peak_rss_mib: 1.0,
            wire_bytes: 1,
            p50_ms: Some(p50_ms),
            p99_ms: None,
            lost: 0,
            duplicated: 0,
            more: BTreeMap::new(),
        };
        Run { outcome, faults: Vec::new() }
    }

    /// All pairs begin at 600 ms and 2 s for each GB.
    fn verdict(with: &[(f64, f64)]) -> Verdict {
        let pair = |(p50_ms, cpu): &(f64, f64)| Pair { without: run(600.0, 2.0), with: run(*p50_ms, *cpu) };
        Verdict::of(with.iter().map(pair).collect())
    }

    #[test]
    fn the_median_counts_and_not_the_worst() {
        assert!(verdict(&[(600.0, 2.0), (9_000.0, 20.0), (610.0, 2.1)]).passed());
        assert!(!verdict(&[(600.0, 2.0), (9_000.0, 2.0), (9_000.0, 2.0)]).passed());
        assert_eq!(median(vec![3.0, 1.0, 2.0, 10.0]), 2.5);
    }

    #[test]
    fn either_bound_of_latency_is_enough() {
        assert!(verdict(&[(749.0, 2.0)]).passed());
        assert!(!verdict(&[(751.0, 2.0)]).passed());
        let pair = Pair { without: run(20.0, 2.0), with: run(69.0, 2.0) };
        assert!(Verdict::of(vec![pair]).passed(), "3.45 times, but 49 ms");
    }

    #[test]
    fn each_limit_fails_alone() {
        assert!(!verdict(&[(600.0, 2.21)]).passed());
        let mut pair = Pair { without: run(600.0, 2.0), with: run(600.0, 2.0) };
        pair.with.faults.push("noisy: 1 lost".to_owned());
        assert!(Verdict::of(vec![pair]).to_string().ends_with("noisy: 1 lost: FAIL\nnoisy: FAIL"));
        assert!(!Verdict::of(Vec::new()).passed(), "nothing measured is nothing shown");
        assert!(!verdict(&[(f64::NAN, 2.0)]).passed());
    }
}
