//! What is promised of a figure, and whether it holds.

use std::fmt::Write as _;

use crate::outcome::Outcome;

/// The most that a figure may come to; by its key in `latest.json`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Goal {
    pub(crate) figure: &'static str,
    pub(crate) at_most: f64,
}

/// Lines that end in PASS or FAIL.
#[derive(Debug)]
pub(crate) struct Judgement {
    pub(crate) text: String,
    pub(crate) passed: bool,
}

/// Judges a case's outcome; lost and repeated lines fail it, too.
pub(crate) fn judge(outcome: &Outcome, goals: &[Goal]) -> Judgement {
    let mut judgement = Judgement { text: String::new(), passed: true };
    let case = format!("{} {}", outcome.program, outcome.case);
    for Goal { figure, at_most } in goals {
        let value = outcome.figure(figure);
        judgement.say(value <= *at_most, &format!("{case}: {figure} {value:.3}, at most {at_most}"));
    }
    let undescribed = outcome.more.get("undescribed").copied().unwrap_or(0.0);
    let faults =
        [("lost", outcome.lost as f64), ("duplicated", outcome.duplicated as f64), ("undescribed", undescribed)];
    for (fault, count) in faults.into_iter().filter(|(_, count)| *count > 0.0) {
        judgement.say(false, &format!("{case}: {count} {fault}"));
    }
    judgement
}

impl Judgement {
    /// Adds a line.
    pub(crate) fn say(&mut self, holds: bool, text: &str) {
        self.passed &= holds;
        // Writing to a String cannot fail.
        let _ = writeln!(self.text, "{text}: {}", word(holds));
    }
}

pub(crate) fn word(holds: bool) -> &'static str {
    if holds { "PASS" } else { "FAIL" }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOALS: &[Goal] =
        &[Goal { figure: "cpu_s_per_gb", at_most: 5.0 }, Goal { figure: "cpu_cores", at_most: 0.03 }];

    fn outcome(cpu_s_per_gb: f64, cores: f64) -> Outcome {
        Outcome { cpu_s_per_gb, more: [("cpu_cores", cores)].into(), ..Outcome::empty("sluice-agent", "steady") }
    }

    #[test]
    fn each_goal_counts_and_one_that_was_not_measured_is_missed() {
        assert!(judge(&outcome(5.0, 0.03), GOALS).passed);
        assert!(!judge(&outcome(5.1, 0.03), GOALS).passed);
        let judgement = judge(&outcome(5.0, 0.04), GOALS);
        assert!(!judgement.passed && judgement.text.contains("cpu_cores 0.040, at most 0.03: FAIL"));
        assert!(!judge(&outcome(5.0, 0.03), &[Goal { figure: "no_such", at_most: 5.0 }]).passed);
    }

    #[test]
    fn lost_lines_and_missing_labels_fail_a_case_whatever_its_speed() {
        assert!(!judge(&Outcome { lost: 1, ..outcome(1.0, 0.01) }, GOALS).passed);
        let mut undescribed = outcome(1.0, 0.01);
        undescribed.more.insert("undescribed", 1.0);
        assert!(!judge(&undescribed, GOALS).passed);
    }
}
