//! The API server that agents ask for their pods: a hundred of them in fifty namespaces on one node, as large as
//! pods are in practice, with eight to twelve labels each.

use serde_json::{Value, json};
use sluice_harness::write::Pod;
use sluice_kube_tests::{api::Api, server::Server};

use crate::{
    error::{Error, Result},
    node::{self, NODE},
    progress::Progress,
};

/// A pod's only container, as the writer calls it.
const CONTAINER: &str = "c0";

/// An API server, and the pods that it knows.
#[derive(Debug)]
pub(super) struct Cluster {
    pub(super) server: Server,
    /// Dealt out to the namespaces in turn.
    pub(super) pods: Vec<Pod>,
}

impl Cluster {
    /// It shares our core: what it does after the pods are listed is next to nothing.
    pub(super) async fn start() -> Result<Self> {
        let mut progress = Progress::of("API server");
        let server = Server::start().map_err(Error::Kube)?;
        let namespaces: Vec<_> = node::namespaces(node::NAMESPACES).collect();
        let mut pods = Vec::new();
        for namespace in &namespaces {
            server.api().create_namespace(namespace).await.map_err(Error::Kube)?;
        }
        for nth in 0..node::CONTAINERS {
            let namespace = &namespaces[nth as usize % namespaces.len()];
            pods.push(create(server.api(), namespace, nth).await.map_err(Error::Kube)?);
            progress.say(|| format!("{} pods", pods.len()));
        }
        progress.done(&format!("{} pods in {} namespaces", pods.len(), namespaces.len()));
        Ok(Self { server, pods })
    }
}

async fn create(api: &Api, namespace: &str, nth: u32) -> anyhow::Result<Pod> {
    let name = format!("settlement-worker-{nth:03}-{HASH}-{:05x}", 0x7_a3c1_u32.wrapping_mul(nth + 1) & 0xf_ffff);
    api.create_pod(namespace, &pod(&name, nth).to_string()).await?;
    api.set_pod_status(namespace, &name, status(nth)).await?;
    let uid = api.pod(namespace, &name).await?.and_then(|pod| Some(pod["metadata"]["uid"].as_str()?.to_owned()));
    let uid = uid.ok_or_else(|| anyhow::anyhow!("pod {namespace}/{name} has no uid"))?;
    Ok(Pod { namespace: namespace.to_owned(), name, uid })
}

const HASH: &str = "6d4cf56db6";
const IMAGE: &str = "registry.eu-central-1.example.com/payments/settlement-worker:2.17.4-5f0c1ab";

/// What Helm and a Deployment make of a service.
fn pod(name: &str, nth: u32) -> Value {
    let variables: Vec<_> =
        (0..20).map(|n| json!({"name": format!("SETTING_{n:02}"), "value": format!("value-{n}-of-{nth}")})).collect();
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {
            "name": name,
            "labels": labels(nth),
            "annotations": {
                "checksum/config": "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
                "kubectl.kubernetes.io/restartedAt": "2026-11-20T09:12:44Z",
                "prometheus.io/port": "9102", "prometheus.io/scrape": "true",
            },
        },
        "spec": {
            "nodeName": NODE,
            "automountServiceAccountToken": false,
            "containers": [{
                "name": CONTAINER, "image": IMAGE, "env": variables,
                "ports": [{"name": "http", "containerPort": 8080}, {"name": "metrics", "containerPort": 9102}],
                "resources": {"requests": {"cpu": "100m", "memory": "256Mi"}, "limits": {"memory": "512Mi"}},
                "livenessProbe": {"httpGet": {"path": "/livez", "port": "http"}, "periodSeconds": 10},
                "readinessProbe": {"httpGet": {"path": "/readyz", "port": "http"}, "periodSeconds": 5},
                "volumeMounts": [{"name": "config", "mountPath": "/etc/settlement"}, {"name": "tmp", "mountPath": "/tmp"}],
            }],
            "volumes": [{"name": "config", "configMap": {"name": "settlement"}}, {"name": "tmp", "emptyDir": {}}],
        },
    })
}

/// Eight to twelve. All have the first one: by it the sink knows whether labels are there.
fn labels(nth: u32) -> Value {
    let all = [
        ("app.kubernetes.io/name", format!("settlement-worker-{nth:03}")),
        ("app.kubernetes.io/instance", format!("settlement-worker-{nth:03}-blue")),
        ("app.kubernetes.io/version", "2.17.4".to_owned()),
        ("app.kubernetes.io/component", "worker".to_owned()),
        ("app.kubernetes.io/part-of", "payments-platform".to_owned()),
        ("app.kubernetes.io/managed-by", "Helm".to_owned()),
        ("helm.sh/chart", "settlement-worker-4.2.1".to_owned()),
        ("pod-template-hash", HASH.to_owned()),
        ("team", format!("payments-{}", nth % 7)),
        ("cost-center", format!("cc-{}", 4_100 + nth % 9)),
        ("security.istio.io/tlsMode", "istio".to_owned()),
        ("topology.kubernetes.io/zone", "eu-central-1b".to_owned()),
    ];
    all.into_iter().take(8 + nth as usize % 5).map(|(key, value)| (key.to_owned(), Value::from(value))).collect()
}

fn status(nth: u32) -> Value {
    let id = format!(
        "containerd://{:064x}",
        u128::from(nth + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835) >> 3
    );
    let address = format!("10.12.{}.{}", nth / 200, nth % 200 + 10);
    let time = "2026-11-20T09:12:46Z";
    let condition = |kind: &str| json!({"type": kind, "status": "True", "lastTransitionTime": time});
    let conditions = ["Initialized", "Ready", "ContainersReady", "PodScheduled"].map(condition);
    json!({
        "phase": "Running", "podIP": address, "podIPs": [{"ip": address}], "startTime": time,
        "conditions": conditions,
        "containerStatuses": [{
            "name": CONTAINER, "ready": true, "started": true, "restartCount": 0, "image": IMAGE,
            "imageID": format!("{IMAGE}@sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"),
            "containerID": id, "state": {"running": {"startedAt": time}},
        }],
    })
}
