use globset::{Glob, GlobSetBuilder};
use proptest::prelude::*;
use serde_json::{Map, Value, json};

use super::*;

fn all_fields() -> Fields {
    let mut annotations = GlobSetBuilder::new();
    annotations.add(Glob::new("example.com/*").unwrap());
    Fields {
        labels: true,
        annotations: annotations.build().unwrap(),
        owner: true,
        pod_ip: true,
        container: true,
        namespace_labels: false,
        ..Fields::default()
    }
}

fn pod(json: &Value) -> Pod {
    serde_json::from_value(json.clone()).unwrap()
}

fn info(json: &Value, fields: &Fields) -> PodInfo {
    PodInfo::new(&pod(json), fields, Choices::default())
}

/// What a record says, as the stores read it.
fn record(info: &PodInfo, container: &str, attempt: u32) -> Map<String, Value> {
    let mut bytes = br#"{"_msg":"""#.to_vec();
    info.append(container, attempt, &mut bytes);
    bytes.push(b'}');
    serde_json::from_slice(&bytes).unwrap()
}

#[test]
fn a_deployments_pod() {
    let pod = serde_json::from_str(include_str!("deployment-pod.json")).unwrap();
    let info = info(&pod, &all_fields());
    let expected = json!({
        "_msg": "",
        "k8s_labels": {"app": "my-app", "app.kubernetes.io/part-of": "größe", "pod-template-hash": "6d4cf56db6"},
        "k8s_annotations": {"example.com/team": "payments \"core\""},
        "k8s_owner_kind": "Deployment", "k8s_owner_name": "my-app",
        "k8s_pod_ip": "10.88.0.12",
        "k8s_container_image": "registry.example.com/my-app:1.4",
        "k8s_container_id": "0a4d9d1f3c",
    });
    assert_eq!(Value::from(record(&info, "app", 2)), expected);
    // The attempt before: its id is in the last state.
    assert_eq!(record(&info, "app", 1)["k8s_container_id"], "77aa01");
    // One that nobody remembers.
    assert_eq!(record(&info, "app", 0).get("k8s_container_id"), None);
    assert_eq!(record(&info, "setup", 0)["k8s_container_id"], "1111");
    assert_eq!(record(&info, "debugger-x7", 0)["k8s_container_id"], "2222");
    // A container that waits for its image has no id, and one that is not in the pod nothing.
    assert_eq!(record(&info, "slow", 0).get("k8s_container_id"), None);
    assert_eq!(record(&info, "slow", 0)["k8s_container_image"], "registry.example.com/slow:1");
    assert_eq!(record(&info, "other", 0).get("k8s_container_image"), None);
}

/// Between two attempts the one that ended is in both places.
#[test]
fn the_id_of_an_attempt_that_ended_is_not_that_of_the_one_before() {
    let status = json!({"name": "app", "restartCount": 4, "containerID": "containerd://aa",
        "lastState": {"terminated": {"containerID": "containerd://aa"}}});
    let crashed = json!({"spec": {"containers": [{"name": "app"}]}, "status": {"containerStatuses": [status]}});
    let info = info(&crashed, &all_fields());
    assert_eq!(record(&info, "app", 4)["k8s_container_id"], "aa");
    assert_eq!(record(&info, "app", 3).get("k8s_container_id"), None);
}

#[test]
fn a_record_says_what_the_mission_shows_and_no_more_where_no_more_is_asked_for() {
    let pod = serde_json::from_str(include_str!("deployment-pod.json")).unwrap();
    let labels_only = Fields { labels: true, ..Fields::default() };
    let mut bytes = Vec::new();
    info(&pod, &labels_only).append("app", 2, &mut bytes);
    assert_eq!(
        String::from_utf8(bytes).unwrap(),
        r#","k8s_labels":{"app":"my-app","app.kubernetes.io/part-of":"größe","pod-template-hash":"6d4cf56db6"}"#
    );
    let mut bytes = Vec::new();
    info(&pod, &Fields::default()).append("app", 2, &mut bytes);
    assert_eq!(bytes, b"");
}

#[test]
fn owners_are_told_without_asking_anyone() {
    let owned = |kind: &str, name: &str, labels: Value| {
        let owners = json!([{"kind": "Odd", "name": "first"}, {"kind": kind, "name": name, "controller": true}]);
        let info = info(&json!({"metadata": {"labels": labels, "ownerReferences": owners}}), &all_fields());
        let record = record(&info, "app", 0);
        format!("{} {}", record["k8s_owner_kind"].as_str().unwrap(), record["k8s_owner_name"].as_str().unwrap())
    };
    assert_eq!(owned("ReplicaSet", "web-6d4", json!({"pod-template-hash": "6d4"})), "Deployment web");
    assert_eq!(owned("ReplicaSet", "a-b-6d4", json!({"pod-template-hash": "6d4"})), "Deployment a-b");
    // A ReplicaSet that no Deployment has made, or that only looks like it.
    assert_eq!(owned("ReplicaSet", "web-6d4", json!({})), "ReplicaSet web-6d4");
    assert_eq!(owned("ReplicaSet", "web6d4", json!({"pod-template-hash": "6d4"})), "ReplicaSet web6d4");
    assert_eq!(owned("ReplicaSet", "-6d4", json!({"pod-template-hash": "6d4"})), "ReplicaSet -6d4");
    assert_eq!(owned("ReplicaSet", "web-", json!({"pod-template-hash": ""})), "ReplicaSet web-");
    assert_eq!(owned("StatefulSet", "db-6d4", json!({"pod-template-hash": "6d4"})), "StatefulSet db-6d4");
    assert_eq!(owned("Job", "backup-28000000", json!({})), "Job backup-28000000");
    let info = info(&json!({"metadata": {"ownerReferences": null}}), &all_fields());
    assert_eq!(record(&info, "app", 0).get("k8s_owner_kind"), None);
}

#[test]
fn labels_over_the_bounds_are_left_out_and_counted() {
    let many: Map<String, Value> = (0..100).map(|n| (format!("label-{n:03}"), "x".into())).collect();
    let of_many = info(&json!({"metadata": {"labels": many}}), &all_fields());
    assert_eq!(record(&of_many, "app", 0)["k8s_labels"].as_object().unwrap().len(), MAX_LABELS);
    assert_eq!(of_many.left_out, 36);
    let long: Map<String, Value> = (0..30).map(|n| (format!("label-{n:02}"), "x".repeat(300).into())).collect();
    let of_long = info(&json!({"metadata": {"labels": long}}), &all_fields());
    let kept = record(&of_long, "app", 0)["k8s_labels"].to_string();
    assert!(kept.len() <= MAX_BYTES && kept.len() > MAX_BYTES - 320, "{}", kept.len());
    assert!(of_long.left_out > 0);
}

#[test]
fn labels_of_pod_and_namespace_and_annotations_share_a_records_fields() {
    let labels: Map<String, Value> = (0..70).map(|n| (format!("l{n}"), "x".into())).collect();
    let annotations: Map<String, Value> = (0..70).map(|n| (format!("example.com/{n}"), "x".into())).collect();
    let fields = Fields { namespace_labels: true, ..all_fields() };
    let info = info(&json!({"metadata": {"labels": labels, "annotations": annotations}}), &fields);
    assert!(!info.is_whole());
    let of_namespace: BTreeMap<String, String> = (0..70).map(|n| (format!("n{n}"), "x".into())).collect();
    let info = info.with_namespace_labels(&of_namespace);
    assert!(info.is_whole());
    let record = record(&info, "app", 0);
    let count = |name: &str| record.get(name).map_or(0, |member| member.as_object().unwrap().len());
    assert_eq!(count("k8s_labels") + count("k8s_annotations") + count("k8s_namespace_labels"), MAX_MEMBERS);
    assert_eq!((count("k8s_labels"), count("k8s_annotations")), (MAX_LABELS, MAX_OTHERS));
}

#[test]
fn labels_of_a_namespace_come_after_those_of_the_pod() {
    let fields = Fields { labels: true, namespace_labels: true, ..Fields::default() };
    let info = info(&json!({"metadata": {"labels": {"a": "b"}}}), &fields);
    let info = info.with_namespace_labels(&BTreeMap::from([("team".to_owned(), "core".to_owned())]));
    let mut bytes = Vec::new();
    info.append("app", 0, &mut bytes);
    assert_eq!(bytes, br#","k8s_labels":{"a":"b"},"k8s_namespace_labels":{"team":"core"}"#);
}

proptest! {
    /// The API allows far less than any text; what renders does not rely on it.
    #[test]
    fn any_labels_give_a_record_that_has_them_or_counts_them(
        labels in prop::collection::btree_map(".{0,40}", ".{0,80}", 0..90),
        annotations in prop::collection::btree_map("example\\.com/.{0,9}", prop_oneof![".{0,80}", "\"{0,3000}"], 0..30),
        name in ".{0,30}",
    ) {
        let json = json!({"metadata": {"name": name, "labels": labels, "annotations": annotations},
            "spec": {"containers": [{"name": name, "image": "\"".repeat(name.len() * 100)}]}});
        let info = info(&json, &all_fields());
        let mut bytes = Vec::new();
        info.append(&name, 0, &mut bytes);
        prop_assert!(!bytes.contains(&b'\n') && bytes.len() < 16 * 1024);
        let record = record(&info, &name, 0);
        let empty = Map::new();
        let kept = |key: &str| record.get(key).map_or(&empty, |kept| kept.as_object().unwrap());
        let (of_labels, of_annotations) = (kept("k8s_labels"), kept("k8s_annotations"));
        prop_assert!(of_labels.iter().all(|(key, value)| labels[key] == value.as_str().unwrap()));
        prop_assert!(of_annotations.iter().all(|(key, value)| annotations[key] == value.as_str().unwrap()));
        prop_assert_eq!(of_labels.len() + of_annotations.len() + info.left_out, labels.len() + annotations.len());
        prop_assert!(of_labels.len() <= MAX_LABELS && of_annotations.len() <= MAX_OTHERS);
    }
}
