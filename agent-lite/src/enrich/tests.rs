use std::time::Duration;

use serde_json::json;

use super::*;
use crate::metrics::Metrics;

fn pods() -> Pods {
    let settings = Settings { fields: Fields { labels: true, ..Fields::default() }, ..Settings::default() };
    start(&settings, "node-a", &Metrics::new().unwrap().kubernetes).0
}

fn pod(uid: &str, label: &str) -> Pod {
    serde_json::from_value(json!({"metadata": {"namespace": "n", "name": "p", "uid": uid, "labels": {"l": label}}}))
        .unwrap()
}

#[tokio::test]
async fn a_pod_is_unavailable_before_the_first_list_and_unknown_after_it() {
    let pods = pods();
    assert_eq!(pods.lookup("n", "p", "1"), Lookup::Unavailable);
    pods.begin_list();
    pods.put(&pod("1", "a"));
    assert!(matches!(pods.lookup("n", "p", "1"), Lookup::Known(_)), "known before the list has ended");
    assert_eq!(pods.lookup("n", "p", "2"), Lookup::Unavailable);
    pods.end_list();
    assert_eq!(pods.lookup("n", "p", "2"), Lookup::Unknown);
    assert_eq!(pods.0.metrics.missed.get(), 1);
}

#[tokio::test]
async fn whoever_waits_is_woken_by_a_change_and_by_nothing_else() {
    let pods = pods();
    pods.put(&pod("1", "a"));
    let seen = pods.generation();
    // Changed before it is waited for: no wake-up is lost.
    assert_eq!(pods.changed(seen - 1).await, seen);
    pods.put(&pod("1", "a"));
    pods.gone("1");
    pods.release("2");
    assert_eq!(pods.generation(), seen);
    let waiting = tokio::spawn({
        let pods = pods.clone();
        async move { pods.changed(seen).await }
    });
    tokio::task::yield_now().await;
    assert!(!waiting.is_finished());
    pods.put(&pod("1", "b"));
    let now = tokio::time::timeout(Duration::from_secs(5), waiting).await.unwrap().unwrap();
    assert_eq!(now, seen + 1);
}

#[tokio::test]
async fn without_a_source_nothing_is_asked_and_nothing_is_known() {
    let metrics = Metrics::new().unwrap();
    let (pods, run) = start(&Settings::default(), "node-a", &metrics.kubernetes);
    let run = tokio::spawn(run);
    tokio::task::yield_now().await;
    assert_eq!(pods.lookup("n", "p", "1"), Lookup::Unavailable);
    assert_eq!((metrics.kubernetes.lists.get(), metrics.kubernetes.watches.get()), (0, 0));
    assert!(!run.is_finished(), "it never ends");
    run.abort();
}
