//! Runs in pairs, with something noisy and without: what they say together, against what is promised.

use std::fmt;

use crate::{
    error::Result,
    goals::{Judgement, word},
    outcome::Outcome,
};

/// How much more a figure may be beside something noisy: so many times that without, or so much longer.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limit {
    /// By its key in `latest.json`.
    pub(crate) figure: &'static str,
    pub(crate) times: f64,
    pub(crate) more: Option<f64>,
}

/// What came of one run.
#[derive(Debug, Clone)]
pub(crate) struct Run {
    pub(crate) outcome: Outcome,
    /// What makes it worth nothing.
    pub(crate) faults: Vec<String>,
}

/// Two runs that followed each other.
#[derive(Debug, Clone)]
pub(crate) struct Pair {
    pub(crate) without: Run,
    pub(crate) with: Run,
}

/// Makes so many pairs; `run` is told whether it is to be noisy. Adds one outcome for each run.
pub(crate) async fn measure(
    pairs: u32,
    outcomes: &mut Vec<Outcome>,
    mut run: impl AsyncFnMut(bool) -> Result<Run>,
) -> Result<Vec<Pair>> {
    let mut measured = Vec::new();
    for nth in 0..pairs {
        // The order changes from pair to pair: what drifts meanwhile falls on both sides alike.
        let with_first = nth % 2 == 1;
        let first = run(with_first).await?;
        outcomes.push(first.outcome.clone());
        let second = run(!with_first).await?;
        outcomes.push(second.outcome.clone());
        let (without, with) = if with_first { (second, first) } else { (first, second) };
        measured.push(Pair { without, with });
    }
    Ok(measured)
}

impl Pair {
    fn of(&self, figure: &str) -> (f64, f64) {
        (self.without.outcome.figure(figure), self.with.outcome.figure(figure))
    }
}

/// The medians over the pairs. Printed, it ends in PASS or FAIL.
#[derive(Debug)]
pub(crate) struct Verdict {
    name: &'static str,
    limits: &'static [Limit],
    pairs: Vec<Pair>,
    faults: Vec<String>,
}

impl Verdict {
    pub(crate) fn of(name: &'static str, limits: &'static [Limit], pairs: Vec<Pair>) -> Self {
        let runs = pairs.iter().flat_map(|pair| [&pair.without, &pair.with]);
        Self { name, limits, faults: runs.flat_map(|run| run.faults.clone()).collect(), pairs }
    }

    pub(crate) fn passed(&self) -> bool {
        self.limits.iter().all(|limit| self.holds(limit)) && self.faults.is_empty()
    }

    /// The median of how many times, and of how much more.
    fn medians(&self, figure: &str) -> (f64, f64) {
        let over = |of: fn((f64, f64)) -> f64| median(self.pairs.iter().map(|pair| of(pair.of(figure))).collect());
        (over(|(without, with)| with / without), over(|(without, with)| with - without))
    }

    fn holds(&self, limit: &Limit) -> bool {
        let (times, more) = self.medians(limit.figure);
        times <= limit.times || limit.more.is_some_and(|most| more <= most)
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, limits, pairs, faults } = self;
        for (nth, pair) in pairs.iter().enumerate() {
            write!(f, "{name}, pair {}:", nth + 1)?;
            for Limit { figure, .. } in *limits {
                let (without, with) = pair.of(figure);
                write!(f, " {figure} {without:.2} → {with:.2} (× {:.3})", with / without)?;
            }
            writeln!(f)?;
        }
        for limit @ Limit { figure, times: most, more: most_more } in *limits {
            let (times, more) = self.medians(figure);
            let or = most_more.map_or_else(String::new, |more| format!(" or +{more}"));
            let holds = word(self.holds(limit));
            writeln!(f, "{name}, median {figure} × {times:.3}, {more:+.2}; at most × {most:.2}{or}: {holds}")?;
        }
        let said = if faults.is_empty() { "none".to_owned() } else { faults.join("; ") };
        writeln!(f, "{name}, faults: {said}: {}", word(faults.is_empty()))?;
        write!(f, "{name}: {}", word(self.passed()))
    }
}

impl From<Verdict> for Judgement {
    fn from(verdict: Verdict) -> Self {
        Self { text: format!("{verdict}\n"), passed: verdict.passed() }
    }
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
    use super::*;

    const LIMITS: &[Limit] = &[
        Limit { figure: "p50_ms", times: 1.25, more: Some(50.0) },
        Limit { figure: "cpu_s_per_gb", times: 1.10, more: None },
    ];

    fn run(p50_ms: f64, cpu_s_per_gb: f64) -> Run {
        let outcome = Outcome { p50_ms: Some(p50_ms), cpu_s_per_gb, ..Outcome::empty("both", "noisy") };
        Run { outcome, faults: Vec::new() }
    }

    fn pair(without: (f64, f64), with: (f64, f64)) -> Pair {
        Pair { without: run(without.0, without.1), with: run(with.0, with.1) }
    }

    /// All pairs begin at 600 ms and 2 s for each GB.
    fn verdict(with: &[(f64, f64)]) -> Verdict {
        Verdict::of("noisy", LIMITS, with.iter().map(|with| pair((600.0, 2.0), *with)).collect())
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
        let short = pair((20.0, 2.0), (69.0, 2.0));
        assert!(Verdict::of("noisy", LIMITS, vec![short]).passed(), "3.45 times, but 49 ms");
    }

    #[test]
    fn each_limit_fails_alone() {
        assert!(!verdict(&[(600.0, 2.21)]).passed());
        let mut faulty = pair((600.0, 2.0), (600.0, 2.0));
        faulty.with.faults.push("1 lost".to_owned());
        let text = Verdict::of("noisy", LIMITS, vec![faulty]).to_string();
        assert!(text.ends_with("noisy, faults: 1 lost: FAIL\nnoisy: FAIL"), "{text}");
        assert!(!Verdict::of("noisy", LIMITS, Vec::new()).passed(), "nothing measured is nothing shown");
        assert!(!verdict(&[(f64::NAN, 2.0)]).passed());
    }

    #[tokio::test]
    async fn pairs_are_interleaved_and_told_apart() {
        let (mut order, mut outcomes) = (Vec::new(), Vec::new());
        let pairs = measure(2, &mut outcomes, async |with| {
            order.push(with);
            Ok(run(if with { 2.0 } else { 1.0 }, 1.0))
        });
        let pairs = pairs.await.unwrap();
        assert_eq!(order, [false, true, true, false]);
        assert!(pairs.iter().all(|pair| pair.of("p50_ms") == (1.0, 2.0)));
        assert_eq!(outcomes.len(), 4);
    }
}
