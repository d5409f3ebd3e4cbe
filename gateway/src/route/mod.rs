//! Where a block goes. Decided once, at admission, and stored with the block.

use std::sync::Arc;

use sluice_wire::Header;

use crate::config::checked::{Policy, Route, Tenant};

/// The destinations of every route that matches, each once; the default ones where none does.
#[must_use]
pub fn destinations(policy: &Policy, tenant: &Tenant, header: &Header) -> Vec<Arc<str>> {
    let mut destinations: Vec<Arc<str>> = Vec::new();
    let mut routed = false;
    for route in policy.routes.iter().filter(|route| matches(route, tenant, header)) {
        routed = true;
        for name in &route.destinations {
            if !destinations.contains(name) {
                destinations.push(Arc::clone(name));
            }
        }
    }
    if routed { destinations } else { policy.default_destinations.clone() }
}

fn matches(route: &Route, tenant: &Tenant, header: &Header) -> bool {
    (route.tenants.is_empty() || route.tenants.contains(tenant))
        && route.categories.contains(&header.lane.category)
        && route.namespaces.allow(&header.lane.scope)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::testing::policy;
    use crate::receive::testing::header;
    use sluice_wire::Category;

    #[test]
    fn every_route_that_matches_adds_its_destinations_once() {
        let policy = policy(
            "
identities: [{name: a, loopback: true}]
tenants: {rules: [{namespaces: [pay], tenant: payments}], default: platform}
routes:
  - {tenants: [payments], destinations: [logs]}
  - {categories: [audit], destinations: [local, logs]}
  - {namespaces: ['noise-*'], destinations: []}
default_destinations: [local]
",
        );
        let of = |tenant: &str, category, scope: &str| {
            destinations(&policy, &tenant.into(), &header("c", category, scope)).join(" ")
        };
        assert_eq!(of("payments", Category::Application, "pay"), "logs");
        assert_eq!(of("payments", Category::Audit, "pay"), "logs local");
        assert_eq!(of("platform", Category::Application, "shop"), "local");
        assert_eq!(of("platform", Category::Application, "noise-1"), "", "nowhere, as it is written");
    }
}
