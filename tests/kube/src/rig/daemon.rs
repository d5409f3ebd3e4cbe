//! The agent's DaemonSet, and what a cluster's controllers would make of it: there are none here.

use std::path::Path;

use anyhow::{Context as _, Result};
use serde_json::{Value, json};

use crate::cluster::{Cluster, IMAGE, NODE};

/// Where the agent's pod is.
pub(super) const NAMESPACE: &str = "logging";
/// Its name: the DaemonSet's with letters behind it.
pub(super) const POD: &str = "sluice-agent-x7k2p";
/// Where a pod finds its account's token.
const ACCOUNT: &str = "/var/run/secrets/kubernetes.io/serviceaccount";

/// Makes the account, its rights, the DaemonSet and its pod on the node.
pub(super) async fn create(cluster: &Cluster, configuration: &Path, state: &Path) -> Result<()> {
    let api = cluster.api();
    api.create_namespace(NAMESPACE).await?;
    let manifest = include_str!("../../agent-daemonset.yaml")
        .replace("$IMAGE", IMAGE)
        .replace("$PORT", &cluster.port().to_string())
        .replace("$STATE", &state.display().to_string())
        .replace("$CONFIG", &configuration.display().to_string());
    let rbac = "/apis/rbac.authorization.k8s.io/v1";
    let daemons = format!("/apis/apps/v1/namespaces/{NAMESPACE}/daemonsets");
    let kinds = [
        format!("/api/v1/namespaces/{NAMESPACE}/serviceaccounts"),
        format!("{rbac}/clusterroles"),
        format!("{rbac}/clusterrolebindings"),
        daemons.clone(),
    ];
    for (kind, object) in kinds.iter().zip(manifest.split("\n---\n")) {
        api.create(kind, object).await?;
    }
    // The controller that publishes the CA makes this in each namespace.
    let ca = std::fs::read_to_string(cluster.path("pki/ca.crt"))?;
    let published = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "kube-root-ca.crt"},
        "data": {"ca.crt": ca}});
    api.create(&format!("/api/v1/namespaces/{NAMESPACE}/configmaps"), &published.to_string()).await?;
    let daemon = api.get(&format!("{daemons}/sluice-agent")).await?.context("the DaemonSet")?;
    api.create_pod(NAMESPACE, &pod_of(&daemon).to_string()).await
}

/// As the DaemonSet's controller and the admission of service accounts make it.
fn pod_of(daemon: &Value) -> Value {
    let mut pod = daemon["spec"]["template"].clone();
    pod["apiVersion"] = json!("v1");
    pod["kind"] = json!("Pod");
    pod["metadata"]["name"] = json!(POD);
    pod["metadata"]["labels"]["controller-revision-hash"] = json!("1");
    let owner = &daemon["metadata"];
    pod["metadata"]["ownerReferences"] = json!([{"apiVersion": "apps/v1", "kind": "DaemonSet", "controller": true,
        "blockOwnerDeletion": true, "name": owner["name"], "uid": owner["uid"]}]);
    let spec = &mut pod["spec"];
    spec["nodeName"] = json!(NODE);
    let sources = json!([
        {"serviceAccountToken": {"expirationSeconds": 3607, "path": "token"}},
        {"configMap": {"name": "kube-root-ca.crt", "items": [{"key": "ca.crt", "path": "ca.crt"}]}},
        {"downwardAPI": {"items": [{"path": "namespace", "fieldRef": {"fieldPath": "metadata.namespace"}}]}},
    ]);
    let volume = json!({"name": "kube-api-access", "projected": {"sources": sources}});
    let mount = json!({"name": "kube-api-access", "mountPath": ACCOUNT, "readOnly": true});
    for (list, item) in [("/volumes", volume), ("/containers/0/volumeMounts", mount)] {
        if let Some(list) = spec.pointer_mut(list).and_then(Value::as_array_mut) {
            list.push(item);
        }
    }
    pod
}
