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
