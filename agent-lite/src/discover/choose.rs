//! Which category a pod's containers are of, and which containers are the agent's own.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use globset::GlobMatcher;
use sluice_wire::Category;

use super::Container;

/// Puts the containers that it matches into category dataplane.
#[derive(Debug, Clone)]
pub struct PodRule {
    /// Namespaces.
    pub namespace: GlobMatcher,
    /// Pods, by name.
    pub pod: GlobMatcher,
    /// Containers, by name.
    pub container: GlobMatcher,
    /// Labels that the pod must have; none: any pod.
    pub labels: BTreeMap<String, String>,
}

impl PodRule {
    /// Whether all but the labels is as it asks for.
    fn matches_names(&self, container: &Container) -> bool {
        self.namespace.is_match(&*container.pod.namespace)
            && self.pod.is_match(&*container.pod.name)
            && self.container.is_match(&*container.name)
    }
}

/// What becomes of the logs of the agent's own pod. Shipped as they are they would feed themselves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OwnLogs {
    /// They are left out.
    Drop,
    /// They are read slowly: what a fault makes the agent say too often stays on the disk.
    RateLimit,
}

/// The rules, and who the agent is.
#[derive(Debug, Clone)]
pub struct Choice {
    /// The first that matches counts.
    pub dataplane: Vec<PodRule>,
    /// Of the agent's own pod.
    pub own_logs: OwnLogs,
    /// Namespace and name of the agent's own pod, where the downward API tells. (A host's name or a cgroup
    /// does not: with the host's network one is the node's, and in a namespace of its own the other is `/`.)
    pub own_pod: Option<(Arc<str>, Arc<str>)>,
}

/// What is to be done with a container's logs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Treatment {
    /// They are read.
    Read,
    /// They are the agent's own, and read slowly.
    Slowly,
    /// They are the agent's own, and left out.
    LeaveOut,
}

impl Choice {
    /// Every container is an application's, and none is the agent's own.
    #[must_use]
    pub fn none() -> Self {
        Self { dataplane: Vec::new(), own_logs: OwnLogs::Drop, own_pod: None }
    }

    /// The category of a container's logs. `labels` are the pod's, where they are known: rules that ask for
    /// labels match nothing without. It is asked for once for each log, and the answer kept for its life.
    #[must_use]
    pub fn category(&self, container: &Container, labels: Option<&BTreeMap<String, String>>) -> Category {
        let matches = |rule: &PodRule| {
            let has = |(name, value): (&String, &String)| labels.and_then(|labels| labels.get(name)) == Some(value);
            rule.matches_names(container) && rule.labels.iter().all(has)
        };
        if self.dataplane.iter().any(matches) { Category::Dataplane } else { Category::Application }
    }

    /// Whether a container's category hangs on its pod's labels: by its names some rule may match, and none
    /// does already.
    #[must_use]
    pub fn asks_for_labels(&self, container: &Container) -> bool {
        let mut rules = self.dataplane.iter().filter(|rule| rule.matches_names(container)).peekable();
        rules.peek().is_some() && rules.all(|rule| !rule.labels.is_empty())
    }

    /// Names of the labels that rules ask for.
    #[must_use]
    pub fn label_names(&self) -> BTreeSet<String> {
        self.dataplane.iter().flat_map(|rule| rule.labels.keys().cloned()).collect()
    }

    /// Whether a container's logs are read: those of the agent's own pod are not, unless it was told so.
    #[must_use]
    pub fn treatment(&self, container: &Container) -> Treatment {
        let is_own = self
            .own_pod
            .as_ref()
            .is_some_and(|(namespace, name)| *namespace == container.pod.namespace && *name == container.pod.name);
        match self.own_logs {
            _ if !is_own => Treatment::Read,
            OwnLogs::Drop => Treatment::LeaveOut,
            OwnLogs::RateLimit => Treatment::Slowly,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::layout::Pod;
    use super::*;

    fn container(namespace: &str, pod: &str, name: &str) -> Container {
        Container { pod: Pod { namespace: namespace.into(), name: pod.into(), uid: "u".into() }, name: name.into() }
    }

    fn rule(namespace: &str, pod: &str, container: &str, labels: &[(&str, &str)]) -> PodRule {
        let glob = |text: &str| globset::Glob::new(text).unwrap().compile_matcher();
        let labels = labels.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        PodRule { namespace: glob(namespace), pod: glob(pod), container: glob(container), labels }
    }

    #[test]
    fn the_first_rule_whose_every_part_matches_makes_it_dataplane() {
        let labels = BTreeMap::from([("tier".to_owned(), "network".to_owned())]);
        let mut choice = Choice::none();
        choice.dataplane =
            vec![rule("kube-system", "aws-node-*", "*", &[]), rule("*", "*", "agent", &[("tier", "network")])];
        for (container, labels, expected) in [
            (container("kube-system", "aws-node-x1", "eni"), None, Category::Dataplane),
            (container("kube-systems", "aws-node-x1", "eni"), None, Category::Application),
            (container("kube-system", "coredns-5d", "coredns"), Some(&labels), Category::Application),
            // Its labels are not known yet.
            (container("cni", "calico", "agent"), None, Category::Application),
            (container("cni", "calico", "agent"), Some(&labels), Category::Dataplane),
            (container("cni", "calico", "agent"), Some(&BTreeMap::new()), Category::Application),
        ] {
            assert_eq!(choice.category(&container, labels), expected, "{container:?}");
        }
    }

    #[test]
    fn labels_are_asked_for_where_they_decide() {
        let mut choice = Choice::none();
        assert!(!choice.asks_for_labels(&container("cni", "calico", "agent")));
        choice.dataplane = vec![
            rule("cni", "*", "*", &[("tier", "network")]),
            rule("*", "kube-*", "*", &[]),
            rule("*", "*", "proxy", &[("role", "edge"), ("tier", "network")]),
        ];
        for (container, expected) in [
            (container("cni", "calico", "agent"), true),
            (container("shop", "web", "proxy"), true),
            (container("shop", "web", "app"), false),
            // Whatever its labels, it is dataplane.
            (container("cni", "kube-router", "agent"), false),
        ] {
            assert_eq!(choice.asks_for_labels(&container), expected, "{container:?}");
        }
        assert_eq!(choice.label_names(), ["role".to_owned(), "tier".to_owned()].into());
    }

    #[test]
    fn only_the_own_pod_is_left_out() {
        let mut choice = Choice::none();
        let (own, other) = (container("logs", "sluice-a", "agent"), container("logs", "sluice-b", "agent"));
        assert_eq!(choice.treatment(&own), Treatment::Read);
        choice.own_pod = Some(("logs".into(), "sluice-a".into()));
        assert_eq!((choice.treatment(&own), choice.treatment(&other)), (Treatment::LeaveOut, Treatment::Read));
        choice.own_logs = OwnLogs::RateLimit;
        assert_eq!((choice.treatment(&own), choice.treatment(&other)), (Treatment::Slowly, Treatment::Read));
    }
}
