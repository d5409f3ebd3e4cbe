//! `policy:`, the part that is reloaded while the gateway runs.

use std::collections::BTreeMap;
use std::hash::{Hash as _, Hasher as _};
use std::sync::Arc;

use sluice_settings::{Map, Node};
use xxhash_rust::xxh3::Xxh3;

use super::{Sources, words};
use crate::config::checked::{
    Destination, Identity, Limit, Listener, Policy, Proof, Rate, Route, Secret, Tenant, TenantRule,
};

/// What the policy is checked against.
pub(super) struct Context<'a> {
    /// `None`: has faults of its own.
    pub(super) push: Option<&'a Listener>,
    pub(super) destinations: &'a [Destination],
    pub(super) sources: Sources<'a>,
}

pub(super) fn read(node: &Node<'_>, context: &Context<'_>) -> Option<Policy> {
    node.map(|map| {
        let identities = identities(&map.required("identities"), context);
        let identity_names: Vec<_> = identities.iter().map(|identity| Arc::clone(&identity.name)).collect();
        let tenants = map.required("tenants").map(|map| {
            let rules = map.optional("rules").list().filter_map(|item| tenant_rule(&item, &identity_names)).collect();
            let default = words::tenant(&map.optional("default"));
            let tenants: (Vec<TenantRule>, _) = (rules, default);
            if tenants.0.is_empty() && tenants.1.is_none() {
                map.node().fault("there is no tenant, so that every block would be refused: add a default, or rules");
            }
            Some(tenants)
        });
        let (tenant_rules, default_tenant) = tenants.unwrap_or_default();
        let mut tenants: Vec<Tenant> =
            tenant_rules.iter().map(|rule| &rule.tenant).chain(&default_tenant).cloned().collect();
        tenants.sort();
        tenants.dedup();

        let limits = map.optional("limits").map(|map| {
            let default_limit = map.optional("default").map(limit);
            Some((default_limit, tenant_limits(&map.optional("tenants"), &tenants)))
        });
        let (default_limit, limits) = limits.unwrap_or_default();
        let destinations: Vec<_> =
            context.destinations.iter().map(|destination| Arc::clone(&destination.name)).collect();
        let routes = map.optional("routes").list().filter_map(|item| route(&item, &tenants, &destinations)).collect();
        let default_destinations =
            words::references(&map.required("default_destinations"), "destination", &destinations);
        let mut policy = Policy {
            version: 0,
            identities,
            tenant_rules,
            default_tenant,
            limits,
            default_limit,
            routes,
            default_destinations,
        };
        policy.version = version(&policy);
        Some(policy)
    })
}

/// The same for the same policy, in every process: it is stored with entries.
fn version(policy: &Policy) -> u64 {
    let mut hash = Xxh3::new();
    policy.hash(&mut hash);
    hash.finish()
}

fn identities(node: &Node<'_>, context: &Context<'_>) -> Vec<Identity> {
    let mut identities: Vec<Identity> = Vec::new();
    for item in node.list() {
        let identity = item.map(|map| {
            let name_node = map.required("name");
            let name = words::identity_name(&name_node);
            let proof = proof(map, context);
            let clusters = words::texts(&map.optional("clusters"));
            let nodes = words::globs(&map.optional("nodes"));
            let categories = words::categories(&map.optional("categories"));
            let namespaces = words::globs(&map.optional("namespaces"));
            if identities.iter().any(|other| Some(&other.name) == name.as_ref()) {
                name_node.fault("another identity has this name: give each its own");
            }
            if let Some(other) = identities.iter().find(|other| Some(&other.proof) == proof.as_ref()) {
                item.fault(format!("it is proved as {} is: give each identity a proof of its own", other.name));
            }
            Some(Identity { name: name?, proof: proof?, clusters, nodes, categories, namespaces })
        });
        identities.extend(identity);
    }
    if node.is_present() && node.list().next().is_none() {
        node.fault("there is no identity, so that nobody could send: add one, such as {name: local, loopback: true}");
    }
    identities
}

fn proof(map: &Map<'_>, context: &Context<'_>) -> Option<Proof> {
    let token: Option<Secret> = words::token(map, context.sources);
    let proof = map.choice(&["token_file", "token_env", "san", "loopback"]);
    match proof? {
        ("san", node) => {
            let san = node.text()?;
            if context.push.is_some_and(|push| push.tls.as_ref().is_none_or(|tls| tls.client_ca.is_none())) {
                node.fault("a certificate proves nothing without push.tls.client_ca: add it");
            }
            Some(Proof::San(san.to_owned()))
        }
        ("loopback", node) => {
            if !node.bool()? {
                node.fault("expected true: to have no such identity, leave it out");
            }
            if let Some(push) = context.push.filter(|push| !push.address.ip().is_loopback()) {
                node.fault(format!(
                    "unauthenticated only on loopback, and push.address is {}: listen on 127.0.0.1, or prove the identity by token_file, token_env or san",
                    push.address
                ));
            }
            Some(Proof::Loopback)
        }
        _ => token.map(Proof::Token),
    }
}

fn tenant_rule(node: &Node<'_>, identities: &[Arc<str>]) -> Option<TenantRule> {
    node.map(|map| {
        let identities = words::any_or_references(&map.optional("identities"), "identity", identities);
        let clusters = words::texts(&map.optional("clusters"));
        let categories = words::categories(&map.optional("categories"));
        let namespaces = words::globs(&map.optional("namespaces"));
        let tenant = words::tenant(&map.required("tenant"));
        Some(TenantRule { identities, clusters, categories, namespaces, tenant: tenant? })
    })
}

fn tenant_limits(node: &Node<'_>, tenants: &[Tenant]) -> BTreeMap<Tenant, Limit> {
    let one = |(name, node): (&str, Node<'_>)| {
        let known = tenants.iter().find(|tenant| ***tenant == *name);
        match known {
            None if !words::is_tenant(name) => node.fault(format!("expected {}", words::TENANT)),
            None => node.fault(format!("no rule gives this tenant; the rules give: {}", tenants.join(", "))),
            Some(_) => {}
        }
        let limit = node.map(limit);
        Some((Arc::clone(known?), limit?))
    };
    node.entries().filter_map(one).collect()
}

fn limit(map: &Map<'_>) -> Option<Limit> {
    let bytes = map.optional("bytes_per_second").bytes(1..=u32::MAX.into());
    let bytes_burst = map.optional("bytes_burst");
    let lines = map.optional("lines_per_second").integer(1..=u32::MAX);
    let lines_burst = map.optional("lines_burst");
    for (rate, burst, key) in
        [(bytes.is_some(), &bytes_burst, "bytes_per_second"), (lines.is_some(), &lines_burst, "lines_per_second")]
    {
        if !rate {
            burst.refuse(&format!("a burst limits nothing without {key}: add it"));
        }
    }
    // By default two seconds' worth, and never so little that a usual block could not pass.
    let burst = |per_second: u32, least: u32| per_second.saturating_mul(2).max(least);
    let small = |bytes: u64| u32::try_from(bytes).unwrap_or(u32::MAX);
    let burst_bytes = bytes_burst.bytes(1..=u32::MAX.into()).map(small);
    let burst_lines = lines_burst.integer(1..=u32::MAX);
    Some(Limit {
        bytes: bytes
            .map(small)
            .map(|rate| Rate { per_second: rate, burst: burst_bytes.unwrap_or(burst(rate, 1 << 20)) }),
        lines: lines.map(|rate| Rate { per_second: rate, burst: burst_lines.unwrap_or(burst(rate, 10_000)) }),
    })
}

fn route(node: &Node<'_>, tenants: &[Tenant], destinations: &[Arc<str>]) -> Option<Route> {
    node.map(|map| {
        let tenants = words::any_or_references(&map.optional("tenants"), "tenant", tenants);
        let categories = words::categories(&map.optional("categories"));
        let namespaces = words::globs(&map.optional("namespaces"));
        let destinations = words::references(&map.required("destinations"), "destination", destinations);
        Some(Route { tenants, categories, namespaces, destinations })
    })
}
