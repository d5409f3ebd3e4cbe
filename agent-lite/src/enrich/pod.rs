//! What is read of a pod. Everything else in the API's objects (a pod has some twenty kilobytes) is
//! stepped over by the parser and never allocated.

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer};

/// Set by the kubelet on static pods and on their mirrors: what the log directory is called by.
const CONFIG_HASH: &str = "kubernetes.io/config.hash";
/// Set on mirrors: the same.
const CONFIG_MIRROR: &str = "kubernetes.io/config.mirror";
/// Set by a ReplicaSet's controller: what a Deployment's ReplicaSet has at the end of its name.
const TEMPLATE_HASH: &str = "pod-template-hash";

/// A pod of the API server, or of the kubelet.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(super) struct Pod {
    pub(super) metadata: Metadata,
    #[serde(deserialize_with = "or_default")]
    spec: Spec,
    #[serde(deserialize_with = "or_default")]
    status: Status,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct Metadata {
    pub(super) name: String,
    pub(super) namespace: String,
    pub(super) uid: String,
    #[serde(deserialize_with = "or_default")]
    pub(super) resource_version: String,
    #[serde(deserialize_with = "or_default")]
    pub(super) labels: BTreeMap<String, String>,
    #[serde(deserialize_with = "or_default")]
    pub(super) annotations: BTreeMap<String, String>,
    #[serde(deserialize_with = "or_default")]
    owner_references: Vec<Owner>,
}

/// Who made it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub(super) struct Owner {
    pub(super) kind: String,
    pub(super) name: String,
    #[serde(deserialize_with = "or_default")]
    controller: bool,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Spec {
    #[serde(deserialize_with = "or_default")]
    containers: Vec<Container>,
    #[serde(deserialize_with = "or_default")]
    init_containers: Vec<Container>,
    #[serde(deserialize_with = "or_default")]
    ephemeral_containers: Vec<Container>,
}

/// A container as its pod asks for it.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(super) struct Container {
    pub(super) name: String,
    /// As it was written; a status may have a digest in its place.
    #[serde(deserialize_with = "or_default")]
    pub(super) image: String,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Status {
    #[serde(rename = "podIP", deserialize_with = "or_default")]
    pod_ip: String,
    #[serde(deserialize_with = "or_default")]
    container_statuses: Vec<ContainerStatus>,
    #[serde(deserialize_with = "or_default")]
    init_container_statuses: Vec<ContainerStatus>,
    #[serde(deserialize_with = "or_default")]
    ephemeral_container_statuses: Vec<ContainerStatus>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct ContainerStatus {
    name: String,
    #[serde(rename = "containerID", deserialize_with = "or_default")]
    container_id: String,
    #[serde(deserialize_with = "or_default")]
    restart_count: u32,
    #[serde(deserialize_with = "or_default")]
    last_state: LastState,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
struct LastState {
    #[serde(deserialize_with = "or_default")]
    terminated: Terminated,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
struct Terminated {
    #[serde(rename = "containerID", deserialize_with = "or_default")]
    container_id: String,
}

impl Pod {
    /// What its log directory may be called by, beside its uid.
    pub(super) fn aliases(&self) -> impl Iterator<Item = &str> {
        let annotations = &self.metadata.annotations;
        [CONFIG_HASH, CONFIG_MIRROR].into_iter().filter_map(|key| annotations.get(key)).map(String::as_str)
    }

    /// All its containers: its own, those that ran before, those that were added for debugging.
    pub(super) fn containers(&self) -> impl Iterator<Item = &Container> {
        let spec = &self.spec;
        spec.containers.iter().chain(&spec.init_containers).chain(&spec.ephemeral_containers)
    }

    /// The container's ids as far as its status tells them, each with its attempt, newest first. Without
    /// the runtime's name (`containerd://`): runtimes' own tools take the id without it.
    pub(super) fn container_ids(&self, container: &str) -> Vec<(u32, &str)> {
        let status = &self.status;
        let all = status.container_statuses.iter();
        let mut all = all.chain(&status.init_container_statuses).chain(&status.ephemeral_container_statuses);
        let Some(status) = all.find(|status| status.name == container) else { return Vec::new() };
        let current = without_runtime(&status.container_id);
        let last = without_runtime(&status.last_state.terminated.container_id);
        let mut ids = Vec::new();
        if !current.is_empty() {
            ids.push((status.restart_count, current));
        }
        // Between two attempts the last one is still the current one.
        if !last.is_empty() && !current.is_empty() && last != current {
            ids.extend(status.restart_count.checked_sub(1).map(|attempt| (attempt, last)));
        }
        ids
    }

    /// Kind and name of who made it. Of a Deployment's ReplicaSet the Deployment: its name ends in the hash
    /// that is also on the pod, so nobody has to be asked.
    pub(super) fn owner(&self) -> Option<(&str, &str)> {
        let owners = &self.metadata.owner_references;
        let owner = owners.iter().find(|owner| owner.controller).or_else(|| owners.first())?;
        if owner.kind == "ReplicaSet"
            && let Some(hash) = self.metadata.labels.get(TEMPLATE_HASH).filter(|hash| !hash.is_empty())
            && let Some(name) = owner.name.strip_suffix(hash.as_str()).and_then(|name| name.strip_suffix('-'))
            && !name.is_empty()
        {
            return Some(("Deployment", name));
        }
        Some((&owner.kind, &owner.name))
    }

    /// Its address, once it has one.
    pub(super) fn ip(&self) -> Option<&str> {
        Some(self.status.pod_ip.as_str()).filter(|ip| !ip.is_empty())
    }
}

fn without_runtime(id: &str) -> &str {
    id.split_once("://").map_or(id, |(_, id)| id)
}

/// Go writes `null` for what is empty.
pub(super) fn or_default<'de, D: Deserializer<'de>, T: Default + Deserialize<'de>>(from: D) -> Result<T, D::Error> {
    Ok(Option::deserialize(from)?.unwrap_or_default())
}
