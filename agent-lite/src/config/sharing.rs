//! `first_start_rate`, `weights`, `budgets`: how turns and bytes are shared out among logs.

use globset::{Glob, GlobSet, GlobSetBuilder};
use sluice_settings::{Map, Node};

use crate::tail::{Budget, Policy, Sharing};

const KIB: u64 = 1024;

pub(super) fn sharing(map: &Map<'_>) -> Option<Sharing> {
    let backlog_rate = map.optional("first_start_rate");
    let backlog_rate =
        if backlog_rate.is_present() { backlog_rate.bytes(64 * KIB..=1024 * 1024 * KIB).map(Some) } else { Some(None) };
    let weights: Vec<_> = map.optional("weights").list().map(|node| node.map(weight)).collect();
    let budgets: Vec<_> = map.optional("budgets").list().map(|node| node.map(budget)).collect();
    Some(Sharing {
        backlog_rate: backlog_rate?,
        weights: weights.into_iter().collect::<Option<_>>()?,
        budgets: budgets.into_iter().collect::<Option<_>>()?,
    })
}

fn weight(map: &Map<'_>) -> Option<(GlobSet, u32)> {
    let namespaces = globs(&map.required("namespaces"));
    let weight = map.required("weight").integer(1..=100_u32);
    Some((namespaces?, weight?))
}

fn budget(map: &Map<'_>) -> Option<Budget> {
    let namespaces = globs(&map.required("namespaces"));
    let rate = map.required("rate").bytes(KIB..=1024 * 1024 * KIB);
    let burst = map.optional("burst").bytes(KIB..=16 * 1024 * 1024 * KIB);
    let policy = map.required("policy").read("`delay`, `drop`, or a sample like `1/100`", |text| match text {
        "delay" => Some(Policy::Delay),
        "drop" => Some(Policy::Drop),
        sample => sample.strip_prefix("1/")?.parse().ok().filter(|one_in| *one_in > 0).map(Policy::Sample),
    });
    Some(Budget { namespaces: namespaces?, rate: rate?, burst: burst.unwrap_or(10 * rate?), policy: policy? })
}

/// A list of globs over names, `*` for any.
fn globs(node: &Node<'_>) -> Option<GlobSet> {
    let globs: Vec<_> =
        node.list().map(|glob| glob.read("a glob like `team-*`", |text| Glob::new(text).ok())).collect();
    let mut set = GlobSetBuilder::new();
    for glob in globs {
        set.add(glob?);
    }
    set.build().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Sharing, sluice_settings::Faults> {
        sluice_settings::from_str(text, &|_| None, |node| node.map(sharing))
    }

    #[test]
    fn every_policy_has_its_word_and_a_burst_is_ten_seconds_worth() {
        let text = "budgets:
  - {namespaces: [team-*], rate: 64KiB, policy: delay}
  - {namespaces: [noisy], rate: 1KiB, burst: 1MiB, policy: 1/100}
  - {namespaces: ['*'], rate: 1MiB, policy: drop}";
        let budgets = read(text).unwrap().budgets;
        let told: Vec<_> = budgets.iter().map(|budget| (budget.rate, budget.burst, budget.policy)).collect();
        assert_eq!(
            told,
            [
                (64 << 10, 640 << 10, Policy::Delay),
                (1 << 10, 1 << 20, Policy::Sample(100)),
                (1 << 20, 10 << 20, Policy::Drop)
            ]
        );
        assert!(budgets[0].namespaces.is_match("team-a") && !budgets[0].namespaces.is_match("noisy"));
    }

    #[test]
    fn a_policy_that_is_none_is_named_with_what_there_is() {
        for policy in ["sample", "1/0", "2/100", "10"] {
            let text = format!("budgets: [{{namespaces: [a], rate: 1MiB, policy: {policy}}}]");
            let faults = read(&text).unwrap_err().to_string();
            assert!(faults.contains("budgets[0].policy") && faults.contains("`1/100`"), "{faults}");
        }
    }
}
