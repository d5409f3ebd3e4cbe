//! What is known of a pod, as bytes of a record: rendered once when the pod changes, copied into what a
//! source's records have in common, never rendered per record.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use globset::GlobSet;
use sluice_wire::Stream;

use super::annotations::Choices;
use super::pod::Pod;
use crate::record::escape;

/// Labels of a pod in a record.
const MAX_LABELS: usize = 64;
/// Labels and annotations of a pod and its namespace together. With an application's 900 fields and ours a
/// record stays below the thousand that VictoriaLogs takes.
const MAX_MEMBERS: usize = 80;
/// Annotations, and labels of the namespace, in a record; each.
const MAX_OTHERS: usize = 16;
/// Escaped bytes of each: labels, annotations, labels of the namespace.
const MAX_BYTES: usize = 4 * 1024;
/// Containers of a pod that are told apart.
const MAX_CONTAINERS: usize = 128;
/// Bytes of any one value: names and images are shorter, an id is 64.
const MAX_VALUE: usize = 1024;

/// What records say of their pod.
#[derive(Debug, Clone, Default)]
pub struct Fields {
    /// `k8s_labels`.
    pub labels: bool,
    /// `k8s_annotations`: those whose keys match.
    pub annotations: GlobSet,
    /// `k8s_owner_kind`, `k8s_owner_name`.
    pub owner: bool,
    /// `k8s_pod_ip`.
    pub pod_ip: bool,
    /// `k8s_container_image`, `k8s_container_id`.
    pub container: bool,
    /// `k8s_namespace_labels`.
    pub namespace_labels: bool,
    /// Names of labels that rules of the agent ask for: their values are kept beside what is rendered.
    pub asked_labels: BTreeSet<String>,
}

/// What is known of a pod. Never changes: a changed pod is a new one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PodInfo {
    pub(super) namespace: Box<str>,
    pub(super) name: Box<str>,
    /// `,"k8s_labels":{…},…`.
    pod: Arc<[u8]>,
    /// Labels of the namespace that there is room for beside it.
    room: usize,
    /// `,"k8s_namespace_labels":{…}`; `None`: awaited.
    of_namespace: Option<Arc<[u8]>>,
    containers: Arc<[Container]>,
    choices: Arc<Choices>,
    /// Those of [`Fields::asked_labels`] that it has.
    asked_labels: Arc<BTreeMap<String, String>>,
    /// Labels and annotations that are not in `pod`.
    pub(super) left_out: usize,
}

#[derive(Debug, PartialEq, Eq)]
struct Container {
    name: Box<str>,
    image: Box<str>,
    /// By attempt.
    ids: Box<[(u32, Box<str>)]>,
}

impl PodInfo {
    /// Renders a pod. Its namespace's labels are awaited where `fields` wants them.
    pub(super) fn new(pod: &Pod, fields: &Fields, choices: Choices) -> Self {
        let mut out = Vec::new();
        let (mut used, mut left_out) = (0, 0);
        if fields.labels {
            let labels = members("k8s_labels", &pod.metadata.labels, MAX_LABELS, &mut out);
            used += labels.0;
            left_out += labels.1;
        }
        let wanted = pod.metadata.annotations.iter().filter(|(key, _)| fields.annotations.is_match(key));
        let annotations = members("k8s_annotations", wanted, MAX_OTHERS.min(MAX_MEMBERS - used), &mut out);
        used += annotations.0;
        left_out += annotations.1;
        if let Some((kind, name)) = pod.owner().filter(|_| fields.owner) {
            member("k8s_owner_kind", kind, &mut out);
            member("k8s_owner_name", name, &mut out);
        }
        if let Some(ip) = pod.ip().filter(|_| fields.pod_ip) {
            member("k8s_pod_ip", ip, &mut out);
        }
        let containers = if fields.container { containers(pod) } else { Arc::default() };
        let asked = pod.metadata.labels.iter().filter(|(name, _)| fields.asked_labels.contains(*name));
        let asked_labels = asked.map(|(name, value)| (name.clone(), value.clone())).collect();
        Self {
            namespace: pod.metadata.namespace.as_str().into(),
            name: pod.metadata.name.as_str().into(),
            pod: out.into(),
            room: MAX_OTHERS.min(MAX_MEMBERS - used),
            of_namespace: (!fields.namespace_labels).then(Arc::default),
            containers,
            choices: Arc::new(choices),
            asked_labels: Arc::new(asked_labels),
            left_out,
        }
    }

    /// The same pod, its namespace's labels known.
    pub(super) fn with_namespace_labels(&self, labels: &BTreeMap<String, String>) -> Self {
        let mut out = Vec::new();
        members("k8s_namespace_labels", labels, self.room, &mut out);
        Self { of_namespace: Some(out.into()), ..self.clone() }
    }

    /// Whether nothing is awaited any more: labels of the namespace come a little later.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        self.of_namespace.is_some()
    }

    /// Appends `,"k8s_labels":{…}` and so on, to stand after what the records of a container's attempt have
    /// in common. Of an attempt whose id is not known there is none.
    pub fn append(&self, container: &str, attempt: u32, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.pod);
        out.extend_from_slice(self.of_namespace.as_deref().unwrap_or_default());
        let Some(container) = self.containers.iter().find(|one| *one.name == *container) else { return };
        if !container.image.is_empty() {
            member("k8s_container_image", &container.image, out);
        }
        if let Some((_, id)) = container.ids.iter().find(|(of, _)| *of == attempt) {
            member("k8s_container_id", id, out);
        }
    }

    /// Those of its labels that rules of the agent ask for.
    #[must_use]
    pub fn asked_labels(&self) -> &BTreeMap<String, String> {
        &self.asked_labels
    }

    /// What the pod's annotations ask for.
    #[must_use]
    pub fn choice(&self, container: &str, stream: Stream) -> &super::Choice {
        self.choices.of(container, stream)
    }
}

#[cfg(test)]
impl PodInfo {
    /// What is known of a pod, for tests of other rooms.
    pub(crate) fn of_json(json: &str, allowed: &super::Allowed) -> Arc<Self> {
        let pod: Pod = serde_json::from_str(json).unwrap();
        let annotations = pod.metadata.annotations.iter().map(|(key, value)| (key.as_str(), value.as_str()));
        let (choices, problems) = super::annotations::read(annotations, &["app"], allowed);
        assert!(problems.is_empty(), "{problems:?}");
        let asked_labels = pod.metadata.labels.keys().cloned().collect();
        let fields = Fields { labels: true, container: true, asked_labels, ..Fields::default() };
        Arc::new(Self::new(&pod, &fields, choices))
    }
}

fn containers(pod: &Pod) -> Arc<[Container]> {
    let of = |container: &super::pod::Container| Container {
        name: container.name.as_str().into(),
        image: fitting(&container.image).into(),
        ids: pod.container_ids(&container.name).iter().map(|(attempt, id)| (*attempt, fitting(id).into())).collect(),
    };
    pod.containers().take(MAX_CONTAINERS).map(of).collect()
}

fn member(name: &str, value: &str, out: &mut Vec<u8>) {
    begin(name, out);
    escape::quoted(fitting(value), out);
}

fn begin(name: &str, out: &mut Vec<u8>) {
    out.extend_from_slice(b",\"");
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(b"\":");
}

fn fitting(value: &str) -> &str {
    &value[..escape::fitting(value, MAX_VALUE).min(value.len())]
}

/// Appends `,"name":{…}` with what there is room for, in the order of the keys; nothing where that is
/// nothing. Gives the number of members, and of those left out.
fn members<'a>(
    name: &str,
    all: impl IntoIterator<Item = (&'a String, &'a String)>,
    most: usize,
    out: &mut Vec<u8>,
) -> (usize, usize) {
    let start = out.len();
    begin(name, out);
    let inner = out.len();
    let (mut taken, mut left_out) = (0, 0);
    for (key, value) in all {
        let before = out.len();
        out.push(if taken == 0 { b'{' } else { b',' });
        escape::quoted(key, out);
        out.push(b':');
        escape::quoted(value, out);
        // One more for the closing brace.
        if taken == most || out.len() + 1 - inner > MAX_BYTES {
            out.truncate(before);
            left_out += 1;
        } else {
            taken += 1;
        }
    }
    if taken == 0 {
        out.truncate(start);
    } else {
        out.push(b'}');
    }
    (taken, left_out)
}

#[cfg(test)]
mod tests;
