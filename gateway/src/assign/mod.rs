//! Whose a block's lines are: from proven identity and configuration, never from what a header wishes.

use sluice_wire::{Category, Header};

use crate::config::checked::{Policy, Tenant, TenantRule};

/// The tenant of a block that `identity` sent, by the first rule that matches; `None`: there is none,
/// and no default.
#[must_use]
pub fn tenant<'p>(policy: &'p Policy, identity: &str, header: &Header) -> Option<&'p Tenant> {
    let rule = policy.tenant_rules.iter().find(|rule| matches(rule, identity, header));
    rule.map(|rule| &rule.tenant).or(policy.default_tenant.as_ref())
}

fn matches(rule: &TenantRule, identity: &str, header: &Header) -> bool {
    let category: Category = header.lane.category;
    (rule.identities.is_empty() || rule.identities.iter().any(|name| **name == *identity))
        && (rule.clusters.is_empty() || rule.clusters.iter().any(|cluster| **cluster == *header.cluster))
        && rule.categories.contains(&category)
        && rule.namespaces.allow(&header.lane.scope)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::testing::policy;
    use crate::receive::testing::header;

    const POLICY: &str = "
identities: [{name: a, token_file: /tokens/a}, {name: b, token_file: /tokens/b}]
tenants:
  rules:
    - {identities: [a], clusters: [apps], namespaces: ['pay-*'], tenant: payments}
    - {categories: [audit], tenant: audit}
    - {identities: [a], tenant: rest-of-a}
default_destinations: [local]
";

    #[test]
    fn the_first_rule_whose_every_condition_holds_decides() {
        let policy = policy(POLICY);
        let of = |identity: &str, cluster: &str, category, scope: &str| {
            tenant(&policy, identity, &header(cluster, category, scope)).map(|tenant| &**tenant)
        };
        assert_eq!(of("a", "apps", Category::Application, "pay-eu"), Some("payments"));
        assert_eq!(of("a", "apps", Category::Audit, "pay-eu"), Some("payments"));
        assert_eq!(of("a", "infra", Category::Application, "pay-eu"), Some("rest-of-a"));
        assert_eq!(of("a", "apps", Category::Application, "shop"), Some("rest-of-a"));
        assert_eq!(of("b", "apps", Category::Audit, "pay-eu"), Some("audit"));
    }

    #[test]
    fn without_a_rule_the_default_counts_and_without_that_there_is_no_tenant() {
        let mut policy = policy(POLICY);
        let header = header("apps", Category::Host, "kubelet");
        assert_eq!(tenant(&policy, "b", &header), None);
        policy.default_tenant = Some("platform".into());
        assert_eq!(tenant(&policy, "b", &header).map(|tenant| &**tenant), Some("platform"));
    }
}
