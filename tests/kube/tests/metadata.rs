//! What the agent knows of a node's pods, against a real API server and etcd: nothing is played here.
//!
//! Each test has a server of its own, reached through a line that can be cut. They take turns: a server is
//! some 300 MiB.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking, in its helpers too")]

mod metadata_server;

use std::time::Duration;

use metadata_server::{Api, Server};
use serde_json::{Value, json};
use sluice_agent::enrich::config::Kubelet;
use sluice_agent::enrich::{self, Allowed, Fields, Lookup, Pods, Settings, Source};
use sluice_agent::metrics::{KubernetesMetrics, Metrics};
use tokio::task::JoinHandle;
use tokio::time::timeout;

/// More than the longest wait of a backoff.
const SOON: Duration = Duration::from_secs(90);

/// The room, asking as a service account that may do what the manifests give it.
struct Room {
    pods: Pods,
    metrics: KubernetesMetrics,
    task: JoinHandle<()>,
}

impl Room {
    fn start(server: &Server, settings: Settings) -> Self {
        Self::start_with(&Settings { source: Source::Watch, kubeconfig: Some(server.agent_kubeconfig()), ..settings })
    }

    fn start_with(settings: &Settings) -> Self {
        let metrics = Metrics::new().unwrap().kubernetes;
        let (pods, run) = enrich::start(settings, "node-a", &metrics);
        Self { pods, metrics, task: tokio::spawn(run) }
    }

    /// Waits until the pod's records say what `wanted` wants of them.
    async fn until(&self, pod: &Value, attempt: u32, wanted: impl Fn(&Value) -> bool) -> Value {
        let looked = async {
            let mut seen = self.pods.generation();
            loop {
                if let Some(record) = self.record(pod, attempt)
                    && wanted(&record)
                {
                    return record;
                }
                seen = self.pods.changed(seen).await;
            }
        };
        timeout(SOON, looked)
            .await
            .unwrap_or_else(|_| panic!("still {:?}; {}", self.record(pod, attempt), self.trouble()))
    }

    async fn until_known(&self, pod: &Value) -> Value {
        self.until(pod, 0, |_| true).await
    }

    /// What the pod's records say, as a store reads them.
    fn record(&self, pod: &Value, attempt: u32) -> Option<Value> {
        let Lookup::Known(info) = self.lookup(pod) else { return None };
        if !info.is_whole() {
            return None;
        }
        let mut bytes = b"{\"_msg\":\"\"".to_vec();
        info.append("app", attempt, &mut bytes);
        bytes.push(b'}');
        Some(serde_json::from_slice(&bytes).unwrap())
    }

    fn lookup(&self, pod: &Value) -> Lookup {
        let field = |name: &str| pod["metadata"][name].as_str().unwrap();
        self.pods.lookup(field("namespace"), field("name"), field("uid"))
    }

    /// What has failed so far, for a test's last words.
    fn trouble(&self) -> String {
        let kinds = ["unreachable", "unauthorized", "forbidden", "gone", "malformed", "config", "timeout"];
        kinds.map(|kind| format!("{kind}: {}", self.errors(kind))).join(", ")
    }

    fn errors(&self, kind: &str) -> u64 {
        self.metrics.errors.with_label_values(&[kind]).get()
    }

    /// A counter tells nobody when it is counted up.
    async fn until_counted(&self, what: &str, count: impl Fn(&Self) -> u64, wanted: u64) {
        let looked = async {
            while count(self) < wanted {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        timeout(SOON, looked).await.unwrap_or_else(|_| panic!("{what}: {}", count(self)));
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn labels_only() -> Settings {
    Settings { fields: Fields { labels: true, ..Fields::default() }, ..Settings::default() }
}

fn pod(name: &str, node: &str, metadata: &Value) -> Value {
    let mut pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "namespace": "shop"},
        "spec": {"nodeName": node, "containers": [{"name": "app", "image": "registry.example.com/app:1"}]}});
    pod["metadata"].as_object_mut().unwrap().extend(metadata.as_object().unwrap().clone());
    pod
}

async fn create(api: &Api, name: &str, metadata: &Value) -> Value {
    api.post("/api/v1/namespaces/shop/pods", &pod(name, "node-a", metadata)).await
}

fn path(name: &str) -> String {
    format!("/api/v1/namespaces/shop/pods/{name}")
}

#[tokio::test]
async fn a_pod_is_known_from_its_first_label_to_its_last_container() {
    let server = Server::start().await;
    let api = server.api();
    let base = api.pod_requests().await;
    let early = create(api, "early", &json!({"labels": {"app": "early"}})).await;
    let elsewhere = api.post("/api/v1/namespaces/shop/pods", &pod("elsewhere", "node-b", &json!({}))).await;
    let fields = Fields {
        labels: true,
        owner: true,
        pod_ip: true,
        container: true,
        namespace_labels: true,
        ..Fields::default()
    };
    let room = Room::start(&server, Settings { fields, linger: Duration::from_secs(1), ..Settings::default() });
    assert_eq!(room.lookup(&early), Lookup::Unavailable);
    let record = room.until_known(&early).await;
    assert_eq!(record["k8s_labels"], json!({"app": "early"}));
    assert_eq!(record["k8s_namespace_labels"], json!({"kubernetes.io/metadata.name": "shop", "team": "core"}));
    assert_eq!(record["k8s_container_image"], "registry.example.com/app:1");
    assert_eq!(record.get("k8s_container_id"), None, "it never ran");

    let owner =
        json!([{"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "web-7c9", "uid": "u-1", "controller": true}]);
    let late =
        create(api, "web-7c9-abc", &json!({"labels": {"pod-template-hash": "7c9"}, "ownerReferences": owner})).await;
    let record = room.until_known(&late).await;
    assert_eq!((&record["k8s_owner_kind"], &record["k8s_owner_name"]), (&json!("Deployment"), &json!("web")));

    api.patch(&path("early"), &json!({"metadata": {"labels": {"app": "renamed"}}})).await;
    room.until(&early, 0, |record| record["k8s_labels"]["app"] == "renamed").await;
    let status = |restarts: u32, id: &str, last: &str| {
        json!({"status": {"podIP": "10.88.0.9", "podIPs": [{"ip": "10.88.0.9"}], "containerStatuses": [{
            "name": "app", "restartCount": restarts, "containerID": format!("containerd://{id}"), "image": "x", "imageID": "y",
            "ready": true, "lastState": {"terminated": {"exitCode": 1, "containerID": format!("containerd://{last}")}}}]}})
    };
    api.patch(&format!("{}/status", path("early")), &status(3, "new", "old")).await;
    let record = room.until(&early, 3, |record| record["k8s_container_id"] == "new").await;
    assert_eq!(record["k8s_pod_ip"], "10.88.0.9");
    assert_eq!(room.record(&early, 2).unwrap()["k8s_container_id"], "old");

    // A static pod's directory is called by the hash of its configuration.
    let hash = json!({"kubernetes.io/config.hash": "c0ffee", "kubernetes.io/config.mirror": "c0ffee"});
    let mirror = create(api, "etcd-node-a", &json!({"annotations": hash})).await;
    room.until_known(&mirror).await;
    assert!(matches!(room.pods.lookup("shop", "etcd-node-a", "c0ffee"), Lookup::Known(_)));
    assert_eq!(room.lookup(&elsewhere), Lookup::Unknown, "another node's pod is none of ours");

    // Deleted: known until it has lingered long enough, and no longer.
    api.delete(&path("early")).await;
    let next = create(api, "early", &json!({"labels": {"app": "next"}})).await;
    room.until_known(&next).await;
    assert!(matches!(room.lookup(&early), Lookup::Known(_)), "its files may not be shipped yet");
    room.pods.release(early["metadata"]["uid"].as_str().unwrap());
    assert_eq!(room.lookup(&early), Lookup::Unknown);
    assert!(matches!(room.lookup(&next), Lookup::Known(_)), "of the same name, but another pod");

    let asked = api.pod_requests().await - base;
    assert_eq!((asked.lists, asked.watches_under_way), (1, 1), "{asked:?}");
    assert_eq!((room.metrics.lists.get(), room.metrics.watches.get(), room.metrics.syncs.get()), (1, 1, 1));
}

#[tokio::test]
async fn a_server_that_is_away_is_asked_again_and_its_pods_are_listed_once() {
    let server = Server::start().await;
    let api = server.api();
    server.cut();
    let kept = create(api, "kept", &json!({"labels": {"v": "1"}})).await;
    let lost = create(api, "lost", &json!({})).await;
    let room = Room::start(&server, labels_only());
    room.until_counted("failures while it is away", |room| room.errors("unreachable"), 2).await;
    assert_eq!(room.lookup(&kept), Lookup::Unavailable);
    assert_eq!(room.metrics.syncs.get(), 0);
    let base = api.pod_requests().await;
    server.mend();
    room.until_known(&kept).await;
    assert!(matches!(room.lookup(&lost), Lookup::Known(_)));

    // Away for a moment: the watch goes on where it was, and nothing is listed.
    server.cut();
    api.patch(&path("kept"), &json!({"metadata": {"labels": {"v": "2"}}})).await;
    server.mend();
    room.until(&kept, 0, |record| record["k8s_labels"]["v"] == "2").await;
    let asked = api.pod_requests().await - base;
    assert_eq!((asked.lists, asked.watches_under_way), (1, 1), "{asked:?}");

    // Away for long: what happened meanwhile is nowhere to be had, and the server says so (410).
    server.cut();
    api.patch(&path("kept"), &json!({"metadata": {"labels": {"v": "3"}}})).await;
    api.delete(&path("lost")).await;
    let born = create(api, "born", &json!({})).await;
    api.compact().await;
    server.restart().await;
    assert!(matches!(room.lookup(&lost), Lookup::Known(_)), "what is known stays while nothing can be asked");
    let base = api.pod_requests().await;
    server.mend();
    room.until(&kept, 0, |record| record["k8s_labels"]["v"] == "3").await;
    room.until_known(&born).await;
    assert_eq!(room.errors("gone"), 1);
    room.until_counted("lists taken over", |room| room.metrics.syncs.get(), 2).await;
    room.pods.release(lost["metadata"]["uid"].as_str().unwrap());
    assert_eq!(room.lookup(&lost), Lookup::Unknown);
    room.until_counted("watches", |room| room.metrics.watches.get(), 3).await;
    api.patch(&path("born"), &json!({"metadata": {"labels": {"v": "4"}}})).await;
    room.until(&born, 0, |record| record["k8s_labels"]["v"] == "4").await;
    let asked = api.pod_requests().await - base;
    assert_eq!((asked.lists, asked.watches_under_way), (1, 1), "{asked:?}");

    // The server restarts under a watch.
    server.restart().await;
    api.patch(&path("kept"), &json!({"metadata": {"labels": {"v": "5"}}})).await;
    room.until(&kept, 0, |record| record["k8s_labels"]["v"] == "5").await;
    assert!(room.metrics.syncs.get() <= 3, "{}", room.metrics.syncs.get());
}

#[tokio::test]
async fn a_wrong_annotation_is_told_on_its_pod_once() {
    let server = Server::start().await;
    let api = server.api();
    let allowed = Allowed { parsers: vec!["json".into()], ..Allowed::default() };
    let settings = || Settings { allowed: allowed.clone(), events: true, ..labels_only() };
    let room = Room::start(&server, settings());
    let wrong = json!({"annotations": {"sluice.dev/parser": "jsn", "sluice.dev/parser.app.stderr": "json"}});
    let pod = create(api, "wrong", &wrong).await;
    room.until_known(&pod).await;
    let Lookup::Known(info) = room.lookup(&pod) else { panic!("unknown") };
    assert_eq!(info.choice("app", sluice_wire::Stream::Stderr).parser.as_deref(), Some("json"));
    assert_eq!(info.choice("app", sluice_wire::Stream::Stdout).parser, None);
    let events = "/apis/events.k8s.io/v1/namespaces/shop/events";
    let event = api.watched(events, |event| event["regarding"]["name"] == "wrong").await;
    assert_eq!((&event["type"], &event["reason"]), (&json!("Warning"), &json!("InvalidLogAnnotation")));
    assert_eq!(event["regarding"]["uid"], pod["metadata"]["uid"]);
    let note = event["note"].as_str().unwrap();
    assert!(note.contains("no parser \"jsn\"; there are: json"), "{note}");
    assert_eq!(room.metrics.annotation_errors.get(), 1);
    // The pod changes, and later the agent is another one: the problem is the same, and so is the event.
    api.patch(&path("wrong"), &json!({"metadata": {"labels": {"v": "2"}}})).await;
    room.until(&pod, 0, |record| record["k8s_labels"]["v"] == "2").await;
    drop(room);
    let next = Room::start(&server, settings());
    next.until_known(&pod).await;
    let other = create(api, "other", &json!({"annotations": {"sluice.dev/exclude": "true"}})).await;
    next.until_known(&other).await;
    api.watched(events, |event| event["regarding"]["name"] == "other").await;
    let all = api.get(events).await;
    let of_wrong =
        all["items"].as_array().unwrap().iter().filter(|event| event["regarding"]["name"] == "wrong").count();
    assert_eq!(of_wrong, 1, "{all}");

    // Where it is forbidden, nothing else suffers.
    let role = "/apis/rbac.authorization.k8s.io/v1/clusterroles/agent";
    let pods_only = json!({"rules": [{"apiGroups": [""], "resources": ["pods"], "verbs": ["list", "watch"]}]});
    api.patch(role, &pods_only).await;
    let third = create(api, "third", &json!({"annotations": {"sluice.dev/exclude": "true"}})).await;
    drop(next);
    let room = Room::start(&server, settings());
    room.until_counted("refusals", |room| room.errors("forbidden"), 1).await;
    room.until_known(&third).await;
    api.patch(&path("third"), &json!({"metadata": {"labels": {"v": "2"}}})).await;
    room.until(&third, 0, |record| record["k8s_labels"]["v"] == "2").await;
}

/// On a node of its own: one at a time on a machine, and as root.
#[tokio::test]
async fn a_kubelet_is_polled_and_the_api_server_left_alone() {
    let mut server = Server::start().await;
    let base = server.api().pod_requests().await;
    let (kubeconfig, kubelet_ca) = server.start_node().await;
    let api = server.api();
    let early = create(api, "early", &json!({"labels": {"app": "early"}})).await;
    let polled = |ca_file| {
        let url = "https://198.18.0.1:10250".parse().unwrap();
        let kubelet = Kubelet { url, ca_file, server_name: Some("node-a".to_owned()) };
        Settings { source: Source::Kubelet(kubelet), kubeconfig: Some(kubeconfig.clone()), ..labels_only() }
    };
    let room = Room::start_with(&polled(Some(kubelet_ca)));
    let record = room.until_known(&early).await;
    assert_eq!(record["k8s_labels"], json!({"app": "early"}));
    let late = create(api, "late", &json!({"labels": {"app": "late"}})).await;
    // The look-up itself asks for it.
    assert_eq!(room.lookup(&late), Lookup::Unknown);
    room.until_known(&late).await;
    api.delete(&path("late")).await;
    let uid = late["metadata"]["uid"].as_str().unwrap();
    let gone = async {
        while !matches!(room.lookup(&late), Lookup::Unknown) {
            let syncs = room.metrics.syncs.get();
            room.until_counted("polls", |room| room.metrics.syncs.get(), syncs + 1).await;
            room.pods.release(uid);
        }
    };
    timeout(SOON, gone).await.unwrap();
    let asked = api.pod_requests().await - base;
    assert_eq!((asked.lists, asked.watches_under_way), (1, 1), "the kubelet's own, and no other: {asked:?}");
    // It is not believed on its word.
    let deceived = Room::start_with(&polled(None));
    deceived.until_counted("refused certificates", |room| room.errors("unreachable"), 1).await;
    assert_eq!(deceived.lookup(&early), Lookup::Unavailable);
    assert_eq!(deceived.metrics.syncs.get(), 0);
}
