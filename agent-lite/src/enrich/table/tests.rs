use serde_json::{Value, json};

use super::*;

fn rules() -> Rules {
    Rules {
        fields: Fields { labels: true, ..Fields::default() },
        allowed: Allowed::default(),
        max_pods: 3,
        linger: Duration::from_secs(300),
    }
}

fn pod(name: &str, uid: &str, more: &Value) -> Pod {
    let mut metadata = json!({"namespace": "default", "name": name, "uid": uid});
    metadata.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    serde_json::from_value(json!({"metadata": metadata, "spec": {"containers": [{"name": "app"}]}})).unwrap()
}

fn plain(name: &str, uid: &str) -> Pod {
    pod(name, uid, &json!({}))
}

fn has(table: &Table, name: &str, uid: &str) -> bool {
    table.find("default", name, uid).is_some()
}

#[test]
fn a_deleted_pod_stays_until_it_is_released_or_time_has_passed() {
    let mut now = Instant::now();
    let mut table = Table::new(rules());
    table.put(&plain("a", "1"));
    table.put(&plain("b", "2"));
    table.put(&plain("c", "3"));
    table.release("1");
    assert!(has(&table, "a", "1"), "the API still has it");
    table.gone("1", now);
    table.gone("2", now);
    assert!(has(&table, "a", "1") && has(&table, "b", "2"));
    table.release("1");
    assert!(!has(&table, "a", "1"));
    now += Duration::from_secs(299);
    table.sweep(now);
    assert!(has(&table, "b", "2"));
    // Told again that it is gone: the time runs from the first word.
    table.gone("2", now);
    now += Duration::from_secs(1);
    table.sweep(now);
    assert!(!has(&table, "b", "2") && has(&table, "c", "3"));
}

#[test]
fn what_a_list_does_not_have_is_gone_when_it_ends_and_not_before() {
    let mut now = Instant::now();
    let mut table = Table::new(rules());
    table.begin_list();
    table.put(&plain("a", "1"));
    table.put(&plain("b", "2"));
    assert!(!table.is_synced());
    table.end_list(now);
    assert!(table.is_synced());
    // A list that failed in the middle.
    table.begin_list();
    table.put(&plain("a", "1"));
    now += Duration::from_secs(400);
    table.sweep(now);
    assert!(has(&table, "b", "2"));
    table.begin_list();
    table.put(&plain("a", "1"));
    table.end_list(now);
    now += Duration::from_secs(400);
    table.sweep(now);
    assert!(has(&table, "a", "1") && !has(&table, "b", "2"));
}

#[test]
fn of_more_pods_than_there_is_room_for_the_longest_gone_makes_way() {
    let mut now = Instant::now();
    let mut table = Table::new(rules());
    for (name, uid) in [("a", "1"), ("b", "2"), ("c", "3")] {
        table.put(&plain(name, uid));
    }
    assert!(table.put(&plain("d", "4")).refused);
    table.gone("2", now);
    now += Duration::from_secs(1);
    table.gone("1", now);
    assert!(!table.put(&plain("d", "4")).refused);
    assert!(!has(&table, "b", "2") && has(&table, "a", "1") && has(&table, "d", "4"));
    assert!(!table.put(&plain("c", "3")).refused, "one that is known is not refused");
    assert_eq!(table.len(), 3);
}

#[test]
fn pods_of_one_name_are_told_apart_by_uid() {
    let now = Instant::now();
    let mut table = Table::new(rules());
    table.put(&pod("db-0", "old", &json!({"labels": {"v": "1"}})));
    table.gone("old", now);
    table.put(&pod("db-0", "new", &json!({"labels": {"v": "2"}})));
    let rendered = |uid: &str| {
        let mut out = Vec::new();
        table.find("default", "db-0", uid).unwrap().append("app", 0, &mut out);
        String::from_utf8(out).unwrap()
    };
    assert!(rendered("old").contains("\"1\"") && rendered("new").contains("\"2\""));
}

fn mirror(uid: &str, hash: &str) -> Pod {
    pod(
        "etcd-node-a",
        uid,
        &json!({"annotations": {"kubernetes.io/config.hash": hash, "kubernetes.io/config.mirror": hash,
        "kubernetes.io/config.source": "file"}}),
    )
}

#[test]
fn a_static_pod_is_found_by_its_configurations_hash() {
    let now = Instant::now();
    let mut table = Table::new(rules());
    table.put(&mirror("uid-1", "0f3c"));
    assert!(has(&table, "etcd-node-a", "0f3c") && has(&table, "etcd-node-a", "uid-1"));
    // The mirror is deleted and made anew: the same hash, another uid, in either order.
    table.put(&mirror("uid-2", "0f3c"));
    table.gone("uid-1", now);
    table.release("uid-1");
    assert!(has(&table, "etcd-node-a", "0f3c"));
    table.gone("uid-2", now);
    assert!(has(&table, "etcd-node-a", "0f3c"), "gone, but not shipped");
    table.release("0f3c");
    assert!(!has(&table, "etcd-node-a", "0f3c"));
    assert!(table.aliases.is_empty());
}

/// Anybody may write the annotation; a name in a namespace is had by one alone.
#[test]
fn a_pod_cannot_lend_its_labels_to_anothers_logs() {
    let mut table = Table::new(rules());
    table.put(&plain("victim", "v-1"));
    table.put(&pod(
        "thief",
        "t-1",
        &json!({"annotations": {"kubernetes.io/config.hash": "v-1"}, "labels": {"app": "bank"}}),
    ));
    let info = table.find("default", "victim", "v-1").unwrap();
    assert_eq!(&*info.name, "victim");
    assert!(table.find("default", "static", "t-1").is_none());
    assert!(table.find("other", "victim", "v-1").is_none());
}

#[test]
fn what_does_not_change_a_record_changes_nothing() {
    let mut table = Table::new(rules());
    let first = table.put(&pod("a", "1", &json!({"labels": {"x": "1"}})));
    assert!(first.changed);
    let before = table.find("default", "a", "1").unwrap().clone();
    let again =
        table.put(&pod("a", "1", &json!({"labels": {"x": "1"}, "resourceVersion": "99", "annotations": {"y": "z"}})));
    assert!(!again.changed);
    assert!(Arc::ptr_eq(&before, table.find("default", "a", "1").unwrap()));
    assert!(table.put(&pod("a", "1", &json!({"labels": {"x": "2"}}))).changed);
    assert!(!Arc::ptr_eq(&before, table.find("default", "a", "1").unwrap()));
}

#[test]
fn a_problem_is_news_once() {
    let mut table = Table::new(rules());
    let wrong = |value: &str| pod("a", "1", &json!({"annotations": {"sluice.dev/parser": value}}));
    let count = |put: Put| put.problems.len();
    assert_eq!(count(table.put(&wrong("x"))), 1);
    assert_eq!(count(table.put(&wrong("x"))), 0);
    assert_eq!(count(table.put(&plain("a", "1"))), 0);
    assert_eq!(count(table.put(&wrong("x"))), 1, "it was mended in between");
}

#[test]
fn namespaces_that_have_pods_are_due_in_turn() {
    let mut now = Instant::now();
    let age = Duration::from_secs(300);
    let fields = Fields { namespace_labels: true, ..Fields::default() };
    let mut table = Table::new(Rules { fields, ..rules() });
    assert_eq!(table.due_namespace(age, now), None);
    table.put(&plain("a", "1"));
    assert!(!table.find("default", "a", "1").unwrap().is_whole());
    assert_eq!(table.due_namespace(age, now).as_deref(), Some("default"));
    let labels = BTreeMap::from([("team".to_owned(), "core".to_owned())]);
    assert!(table.put_namespace("default", Some(labels.clone()), now));
    assert!(table.find("default", "a", "1").unwrap().is_whole());
    assert_eq!(table.due_namespace(age, now), None);
    // A pod that comes later has them at once.
    table.put(&plain("b", "2"));
    assert!(table.find("default", "b", "2").unwrap().is_whole());
    now += age;
    assert_eq!(table.due_namespace(age, now).as_deref(), Some("default"));
    assert!(!table.put_namespace("default", Some(labels), now), "nothing has changed");
    assert!(!table.put_namespace("default", None, now), "what is known stays");
    assert!(table.put_namespace("default", Some(BTreeMap::new()), now));
    for uid in ["1", "2"] {
        table.gone(uid, now);
        table.release(uid);
    }
    table.sweep(now);
    assert!(table.namespaces.is_empty());
}
