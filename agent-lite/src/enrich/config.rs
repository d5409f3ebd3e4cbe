//! Settings under `kubernetes`; `docs/CONFIG.md` lists them.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use globset::{GlobBuilder, GlobSet, GlobSetBuilder};
use http::Uri;
use sluice_settings::{Environment, Map, Node};

use super::annotations::Allowed;
pub use super::kubelet::Kubelet;
use super::render::Fields;

/// Names in a list of parsers, multi-line rules or globs.
const MAX_NAMES: usize = 64;

/// What is asked of Kubernetes, and what records say of it.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Where pods are known from.
    pub source: Source,
    /// How the API server is reached; `None`: as the pod's service account.
    pub kubeconfig: Option<PathBuf>,
    /// How long a new container waits for its pod to be known.
    pub wait: Duration,
    /// How long a deleted pod is remembered.
    pub linger: Duration,
    /// Pods that are remembered.
    pub max_pods: usize,
    /// What records say of their pods.
    pub fields: Fields,
    /// What annotations may ask for.
    pub allowed: Allowed,
    /// Whether wrong annotations are told by Events.
    pub events: bool,
}

/// Where pods are known from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// Nowhere.
    None,
    /// A list and a watch of the API server.
    Watch,
    /// The node's kubelet, polled.
    Kubelet(Kubelet),
}

/// Reads them. Without any, a pod of a cluster watches; anything else knows no pods.
pub fn read(node: &Node<'_>, node_name: Option<&str>, env: &Environment<'_>) -> Option<Settings> {
    let in_cluster = env("KUBERNETES_SERVICE_HOST").is_some_and(|host| !host.is_empty());
    let usual = if in_cluster { "watch" } else { "none" };
    if !node.is_present() {
        let source = if in_cluster { Source::Watch } else { Source::None };
        let fields = Fields { labels: true, container: true, ..Fields::default() };
        return Some(Settings { source, fields, events: true, ..Settings::default() });
    }
    node.map(|map| {
        let source = map.optional("source");
        let word = source.one_of(&[("watch", "watch"), ("kubelet", "kubelet"), ("none", "none")]);
        let word = if source.is_present() { word } else { Some(usual) };
        let kubelet = kubelet(map, node_name);
        let kubeconfig = map.optional("kubeconfig").file();
        let wait = map.optional("wait").duration(Duration::ZERO..=Duration::from_secs(60));
        let linger = map.optional("linger").duration(Duration::from_secs(1)..=Duration::from_secs(86_400));
        let max_pods = map.optional("max_pods").integer(1..=10_000_usize);
        let annotation_fields = globs(&map.optional("annotation_fields"));
        let mut fields = Fields {
            labels: map.optional("labels").bool().unwrap_or(true),
            annotations: GlobSet::empty(),
            owner: map.optional("owner").bool().unwrap_or(false),
            pod_ip: map.optional("pod_ip").bool().unwrap_or(false),
            container: map.optional("container").bool().unwrap_or(true),
            namespace_labels: map.optional("namespace_labels").bool().unwrap_or(false),
            ..Fields::default()
        };
        let allowed = map.optional("annotations");
        let allowed = if allowed.is_present() { allowed.map(annotations) } else { Some(Allowed::default()) };
        let events = map.optional("events").bool();
        let usual = Settings::default();
        fields.annotations = annotation_fields?;
        let word = word?;
        if fields.namespace_labels && word == "none" {
            map.node().fault("namespace_labels needs a source: watch or kubelet");
        }
        Some(Settings {
            source: match word {
                "watch" => Source::Watch,
                "kubelet" => Source::Kubelet(kubelet?),
                _ => Source::None,
            },
            kubeconfig,
            wait: wait.unwrap_or(usual.wait),
            linger: linger.unwrap_or(usual.linger),
            max_pods: max_pods.unwrap_or(usual.max_pods),
            fields,
            allowed: allowed?,
            // Who asks the kubelet wants to leave the API server alone.
            events: events.unwrap_or(word == "watch"),
        })
    })
}

impl Default for Settings {
    /// Nothing is asked.
    fn default() -> Self {
        Self {
            source: Source::None,
            kubeconfig: None,
            wait: Duration::from_secs(5),
            linger: Duration::from_secs(300),
            max_pods: 1000,
            fields: Fields::default(),
            allowed: Allowed::default(),
            events: false,
        }
    }
}

fn kubelet(map: &Map<'_>, node_name: Option<&str>) -> Option<Kubelet> {
    let url = map.optional("kubelet_url");
    let ca_file = map.optional("kubelet_ca_file").file();
    let server_name = map.optional("kubelet_server_name").text().map(str::to_owned);
    let url = if url.is_present() {
        // A token goes there: never in clear.
        url.read("an https url like https://${NODE_IP}:10250", |text| {
            let url: Uri = text.parse().ok()?;
            (url.scheme_str() == Some("https") && url.host().is_some_and(|host| !host.is_empty())).then_some(url)
        })?
    } else {
        format!("https://{}:10250", node_name?).parse().ok()?
    };
    Some(Kubelet { url, ca_file, server_name })
}

fn annotations(map: &Map<'_>) -> Option<Allowed> {
    let parsers = names(&map.optional("parsers"));
    let multiline = names(&map.optional("multiline"));
    let exclude = map.optional("exclude").bool();
    let sample = map.optional("sample").bool();
    let fluentbit = map.optional("fluentbit").bool();
    Some(Allowed {
        parsers: parsers?,
        multiline: multiline?,
        exclude: exclude.unwrap_or(false),
        sample: sample.unwrap_or(false),
        fluentbit: fluentbit.unwrap_or(false),
    })
}

fn names(node: &Node<'_>) -> Option<Vec<Arc<str>>> {
    let name = |node: Node<'_>| {
        node.read("a name of at most 63 bytes, not `none`", |text| {
            (!text.is_empty() && text.len() <= 63 && text != "none").then(|| Arc::from(text))
        })
    };
    let names: Vec<Option<Arc<str>>> = node.list().map(name).collect();
    if names.len() > MAX_NAMES {
        node.fault(format!("at most {MAX_NAMES} names"));
    }
    names.into_iter().collect()
}

/// `*` stands for anything, also for `/`: keys have one between domain and name.
fn globs(node: &Node<'_>) -> Option<GlobSet> {
    let glob = |node: Node<'_>| {
        node.read("a glob such as example.com/*", |text| {
            (text.len() <= 253).then(|| GlobBuilder::new(text).build().ok()).flatten()
        })
    };
    let globs: Vec<_> = node.list().map(glob).collect();
    if globs.len() > MAX_NAMES {
        node.fault(format!("at most {MAX_NAMES} globs"));
        return None;
    }
    let mut set = GlobSetBuilder::new();
    for glob in globs {
        set.add(glob?);
    }
    set.build().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(text: &str, in_cluster: bool) -> Result<Settings, sluice_settings::Faults> {
        let env = |name: &str| (in_cluster && name == "KUBERNETES_SERVICE_HOST").then(|| "10.0.0.1".to_owned());
        let text = format!("a: 1\n{text}");
        sluice_settings::from_str(&text, &env, |node| {
            node.map(|map| {
                let _ = map.optional("a");
                read(&map.optional("kubernetes"), Some("node-a"), &env)
            })
        })
    }

    #[test]
    fn in_a_cluster_pods_are_watched_without_a_word() {
        let inside = settings("", true).unwrap();
        assert_eq!((inside.source, inside.events, inside.fields.labels), (Source::Watch, true, true));
        assert_eq!((inside.wait, inside.max_pods), (Duration::from_secs(5), 1000));
        assert_eq!(settings("", false).unwrap().source, Source::None);
        assert_eq!(settings("kubernetes: {labels: false}", true).unwrap().source, Source::Watch);
        assert_eq!(settings("kubernetes: {source: none}", true).unwrap().source, Source::None);
    }

    #[test]
    fn the_kubelet_of_the_node_is_found_by_its_name() {
        let settings = settings("kubernetes: {source: kubelet, kubelet_ca_file: /ca}", true).unwrap();
        let Source::Kubelet(kubelet) = settings.source else { panic!("{:?}", settings.source) };
        assert_eq!((kubelet.url.to_string(), kubelet.server_name), ("https://node-a:10250/".to_owned(), None));
        assert!(!settings.events, "who polls the kubelet leaves the API server alone");
    }

    #[test]
    fn annotations_are_what_the_operator_lists() {
        let text = "kubernetes: {annotations: {parsers: [json, nginx], multiline: [java], exclude: true, sample: true},\n  annotation_fields: [example.com/*]}";
        let settings = settings(text, true).unwrap();
        assert_eq!(settings.allowed.parsers, [Arc::from("json"), Arc::from("nginx")]);
        assert_eq!(
            (settings.allowed.multiline.len(), settings.allowed.exclude, settings.allowed.sample),
            (1, true, true)
        );
        assert!(!settings.allowed.fluentbit);
        assert!(settings.fields.annotations.is_match("example.com/team/sub"));
        assert!(!settings.fields.annotations.is_match("kubernetes.io/config.hash"));
    }

    #[test]
    fn every_fault_is_named_by_its_path() {
        let text = "kubernetes:\n  source: wach\n  kubelet_url: http://node:10255\n  wait: 2h\n  max_pods: 0\n  annotation_fields: ['{a']\n  annotations: {parsers: [none], exlude: true}";
        let faults = settings(text, true).unwrap_err().to_string();
        for path in [
            "source",
            "kubelet_url",
            "wait",
            "max_pods",
            "annotation_fields[0]",
            "annotations.parsers[0]",
            "annotations.exlude",
        ] {
            assert!(faults.contains(&format!("kubernetes.{path} ")), "{path} in {faults}");
        }
        assert!(faults.contains("did you mean `exclude`"), "{faults}");
        let faults = settings("kubernetes: {namespace_labels: true}", false).unwrap_err().to_string();
        assert!(faults.contains("needs a source"), "{faults}");
    }
}
