//! Which logs of the node are read beside its pods', and which category each is of.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use globset::{Glob, GlobMatcher, GlobSet, GlobSetBuilder};
use sluice_settings::{Environment, Map, Node};
use sluice_wire::Category;

use crate::discover::{Choice, HostFiles, HostPath, OwnLogs, PodRule};
use crate::entries::JournalSettings;

/// What carries the cluster, where nothing else is said. (CoreDNS answers applications, and stays one.)
const DATAPLANE_PODS: [(&str, &str); 2] = [("kube-system", "kube-proxy-*"), ("kube-system", "aws-node-*")];
const DATAPLANE_UNITS: [&str; 4] = ["kubelet.service", "containerd.service", "crio.service", "docker.service"];
/// Parsers of a host file's messages.
const FORMATS: [&str; 5] = ["plain", "syslog", "klog", "json", "logfmt"];

/// Everything that is read, and of which category it is.
#[derive(Debug, Clone)]
pub struct Sources {
    /// Log files of the node; the audit log is one of them.
    pub host: Vec<HostFiles>,
    /// Categories of pods, and the agent's own.
    pub pods: Choice,
    /// The journal; `None`: it is not read.
    pub journal: Option<JournalSettings>,
    /// The kernel's log; `None`: it is not read.
    pub kmsg: Option<PathBuf>,
}

impl Sources {
    pub(super) fn read(map: &Map<'_>, env: &Environment<'_>) -> Option<Self> {
        let host: Vec<_> = map.optional("host").list().map(|file| host_files(&file)).collect();
        let audit = map.optional("audit");
        let audit_file = audit.is_present().then(|| audit_log(&audit));
        let dataplane = map.optional("dataplane");
        let rules: Vec<_> = dataplane.list().map(|rule| pod_rule(&rule)).collect();
        let journald = map.optional("journald");
        let journal = journald.is_present().then(|| journal(&journald));
        let kernel = map.optional("kmsg");
        let kmsg = kernel.is_present().then(|| {
            kernel.map(|map| {
                let path = map.optional("path");
                if path.is_present() { path.file() } else { Some("/dev/kmsg".into()) }
            })
        });
        let own_logs = map.optional("own_logs").one_of(&[("drop", OwnLogs::Drop), ("rate-limit", OwnLogs::RateLimit)]);

        let mut host = host.into_iter().collect::<Option<Vec<_>>>()?;
        host.extend(audit_file.map_or(Some(None), |file| file.map(Some))?);
        let rules = rules.into_iter().collect::<Option<Vec<_>>>()?;
        let own_pod = env("POD_NAMESPACE").zip(env("POD_NAME"));
        Some(Self {
            host,
            pods: Choice {
                dataplane: if dataplane.is_present() { rules } else { default_rules() },
                own_logs: own_logs.unwrap_or(OwnLogs::Drop),
                own_pod: own_pod.map(|(namespace, name)| (namespace.into(), name.into())),
            },
            journal: journal.map_or(Some(None), |journal| journal.map(Some))?,
            kmsg: kmsg.map_or(Some(None), |kmsg| kmsg.map(Some))?,
        })
    }
}

fn host_files(node: &Node<'_>) -> Option<HostFiles> {
    node.map(|map| {
        let path = host_path(&map.required("path"));
        let unit = unit(map);
        let category = map.optional("category").one_of(&[("host", Category::Host), ("dataplane", Category::Dataplane)]);
        let format = map.optional("format").one_of(&FORMATS.map(|name| (name, name)));
        Some(HostFiles {
            path: path?,
            unit: unit?,
            category: category.unwrap_or(Category::Host),
            format: format.unwrap_or("plain"),
        })
    })
}

fn audit_log(node: &Node<'_>) -> Option<HostFiles> {
    node.map(|map| {
        let path = map.optional("path");
        let path = if path.is_present() { path.file() } else { Some(PathBuf::from("/var/log/kubernetes/audit.log")) };
        Some(HostFiles {
            path: HostPath::One(path?),
            unit: Some("audit".into()),
            category: Category::Audit,
            format: "plain",
        })
    })
}

fn host_path(node: &Node<'_>) -> Option<HostPath> {
    let text = node.text()?;
    HostPath::parse(text).map_err(|why| node.fault(format!("no path of log files: {why}"))).ok()
}

fn unit(map: &Map<'_>) -> Option<Option<Arc<str>>> {
    let unit = map.optional("unit");
    if unit.is_present() { super::name(&unit).map(|name| Some(name.into())) } else { Some(None) }
}

fn pod_rule(node: &Node<'_>) -> Option<PodRule> {
    node.map(|map| {
        let part = |key| {
            let node = map.optional(key);
            if node.is_present() { node.read("a glob like kube-*", matcher) } else { matcher("*") }
        };
        let (namespace, pod, container) = (part("namespace"), part("pod"), part("container"));
        let labels: Option<BTreeMap<_, _>> = map
            .optional("labels")
            .entries()
            .map(|(name, value)| Some((name.to_owned(), value.text()?.to_owned())))
            .collect();
        Some(PodRule { namespace: namespace?, pod: pod?, container: container?, labels: labels? })
    })
}

fn default_rules() -> Vec<PodRule> {
    let rule = |(namespace, pod)| {
        let any = matcher("*")?;
        Some(PodRule { namespace: matcher(namespace)?, pod: matcher(pod)?, container: any, labels: BTreeMap::new() })
    };
    DATAPLANE_PODS.into_iter().filter_map(rule).collect()
}

fn journal(node: &Node<'_>) -> Option<JournalSettings> {
    node.map(|map| {
        let directory = map.optional("directory");
        let directory = if directory.is_present() { directory.file().map(Some) } else { Some(None) };
        let units = globs(&map.optional("units"), &["*"]);
        let dataplane_units = globs(&map.optional("dataplane_units"), &DATAPLANE_UNITS);
        let binary = map.optional("binary");
        let binary = if binary.is_present() { binary.file() } else { Some("journalctl".into()) };
        Some(JournalSettings {
            directory: directory?,
            units: units?,
            dataplane_units: dataplane_units?,
            binary: binary?,
        })
    })
}

/// Globs of a list, or the defaults where nothing is written.
fn globs(node: &Node<'_>, defaults: &[&str]) -> Option<GlobSet> {
    let mut builder = GlobSetBuilder::new();
    if node.is_present() {
        let globs: Vec<_> =
            node.list().map(|item| item.read("a glob like ssh*.service", |text| Glob::new(text).ok())).collect();
        for glob in globs {
            builder.add(glob?);
        }
    } else {
        for glob in defaults.iter().filter_map(|text| Glob::new(text).ok()) {
            builder.add(glob);
        }
    }
    builder.build().map_err(|error| node.fault(format!("these globs are too much together: {error}"))).ok()
}

fn matcher(text: &str) -> Option<GlobMatcher> {
    Some(Glob::new(text).ok()?.compile_matcher())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::discover::Container;
    use crate::discover::layout::Pod;

    fn read(text: &str) -> Result<Sources, String> {
        let env = |name: &str| match name {
            "POD_NAMESPACE" => Some("logs".to_owned()),
            "POD_NAME" => Some("sluice-x".to_owned()),
            _ => None,
        };
        let read = |node: &Node<'_>| node.map(|map| Sources::read(map, &env));
        sluice_settings::from_str(text, &env, read).map_err(|faults| faults.to_string())
    }

    fn category(sources: &Sources, namespace: &str, pod: &str) -> Category {
        let pod = Pod { namespace: namespace.into(), name: pod.into(), uid: "u".into() };
        sources.pods.category(&Container { pod, name: "c".into() }, None)
    }

    #[test]
    fn by_default_pods_alone_are_read_and_what_carries_the_cluster_is_dataplane() {
        let sources = read("own_logs: drop").unwrap();
        assert!(sources.host.is_empty() && sources.journal.is_none() && sources.kmsg.is_none());
        assert_eq!(category(&sources, "kube-system", "kube-proxy-abc"), Category::Dataplane);
        assert_eq!(category(&sources, "kube-system", "aws-node-abc"), Category::Dataplane);
        assert_eq!(category(&sources, "kube-system", "coredns-abc"), Category::Application);
        assert_eq!(sources.pods.own_pod, Some(("logs".into(), "sluice-x".into())));
    }

    #[test]
    fn all_of_them_as_they_are_written() {
        let text = "
host:
  - {path: /var/log/messages, format: syslog}
  - {path: '/var/log/containerd/*.log', unit: containerd, category: dataplane}
audit: {path: /audit.log}
dataplane: [{namespace: cni-*}]
journald: {directory: /run/log/journal, units: ['*.service'], dataplane_units: [k3s.service]}
kmsg: {}
own_logs: rate-limit";
        let sources = read(text).unwrap();
        let of = |at: usize| (sources.host[at].category, sources.host[at].format, sources.host[at].unit.as_deref());
        assert_eq!(of(0), (Category::Host, "syslog", None));
        assert_eq!(of(1), (Category::Dataplane, "plain", Some("containerd")));
        assert_eq!(of(2), (Category::Audit, "plain", Some("audit")));
        assert_eq!(category(&sources, "cni-1", "x"), Category::Dataplane);
        assert_eq!(category(&sources, "kube-system", "kube-proxy-abc"), Category::Application);
        let journal = sources.journal.unwrap();
        assert!(journal.units.is_match("ssh.service") && !journal.units.is_match("session-1.scope"));
        assert!(
            journal.dataplane_units.is_match("k3s.service") && !journal.dataplane_units.is_match("kubelet.service")
        );
        assert_eq!(sources.kmsg, Some("/dev/kmsg".into()));
        assert_eq!(sources.pods.own_logs, OwnLogs::RateLimit);
    }

    #[test]
    fn every_fault_is_named_at_once() {
        let text = "
host: [{path: relative.log}, {path: /x, category: audit, format: xml}]
audit: {file: /x}
dataplane: [{pod: '['}]
journald: {units: ['[']}
kmsg: {path: [x]}
own_logs: yes please";
        let faults = read(text).unwrap_err();
        for expected in [
            "host[0].path",
            "host[1].category",
            "host[1].format",
            "audit.file",
            "dataplane[0].pod",
            "journald.units[0]",
            "kmsg.path",
            "own_logs",
        ] {
            assert!(faults.contains(expected), "{expected} in {faults}");
        }
    }
}
