//! Delivery to a real VictoriaLogs behind a real vmauth.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking, in its helpers too")]

mod deliver_support;

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use deliver_support::{Rig, eventually, victorialogs};
use sluice_gateway::journal::{Appended, Journal as _};
use sluice_harness::victorialogs::VictoriaLogs;

/// How often the store has each text of a tenant.
async fn stored(store: &VictoriaLogs, tenant: &str) -> BTreeMap<String, u64> {
    let mut counts = BTreeMap::new();
    let each = |line: &[u8]| {
        let record: serde_json::Value = serde_json::from_slice(line).unwrap();
        *counts.entry(record["_msg"].as_str().unwrap().to_owned()).or_default() += 1;
    };
    store.reader().query(tenant, "* | fields _msg", each).await.unwrap();
    counts
}

fn once(tenant: &str, numbers: std::ops::RangeInclusive<u64>) -> BTreeMap<String, u64> {
    Rig::texts(tenant, numbers).into_iter().map(|text| (text, 1)).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn records_arrive_once_each_with_its_tenant() {
    let dir = tempfile::tempdir().unwrap();
    let store = VictoriaLogs::start(dir.path(), &[("team-a", 1), ("team-b", 2)]).await.unwrap();
    let rig = Rig::new(victorialogs(store.url(), Duration::from_secs(3)));
    let journal = rig.open();
    rig.append(&journal, "team-a", 1..=500).await;
    rig.append(&journal, "team-b", 1..=300).await;
    let deliverers = rig.start(&journal);
    eventually("all is decided", || rig.is_done(800)).await;
    assert_eq!(stored(&store, "team-a").await, once("team-a", 1..=500));
    assert_eq!(stored(&store, "team-b").await, once("team-b", 1..=300));
    rig.books_balance();
    assert!(deliverers.shutdown(Duration::from_secs(5)).await);
}

/// SIGKILL of the store some seconds after its 200: what it kept in memory is gone, and nobody but the
/// count by batch id would know.
#[tokio::test(flavor = "multi_thread")]
async fn what_the_store_lost_after_its_answer_is_sent_again() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = VictoriaLogs::start(dir.path(), &[("team-a", 1)]).await.unwrap();
    let rig = Rig::new(victorialogs(store.url(), Duration::from_secs(10)));
    let journal = rig.open();
    let deliverers = rig.start(&journal);
    rig.append(&journal, "team-a", 1..=1000).await;
    eventually("it was answered", || rig.metric("trailing_batches") > 0).await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    store.kill();
    tokio::time::sleep(Duration::from_secs(1)).await;
    store.restart().await.unwrap();
    let there = stored(&store, "team-a").await.len();
    eventually("all is decided", || rig.is_done(1000)).await;
    println!("{there} of 1000 records survived the kill");
    assert!(there < 1000, "the store lost nothing, so nothing was tested");
    assert_eq!(stored(&store, "team-a").await, once("team-a", 1..=1000));
    assert!(deliverers.shutdown(Duration::from_secs(5)).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_that_starts_again_with_batches_under_way_repeats_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let store = VictoriaLogs::start(dir.path(), &[("team-a", 1)]).await.unwrap();
    let rig = Rig::new(victorialogs(store.url(), Duration::from_secs(5)));
    let mut last = 0;
    for pause in [0, 50, 110, 150, 400, 1200] {
        let journal = rig.open();
        rig.append(&journal, "team-a", last + 1..=last + 50).await;
        last += 50;
        let deliverers = rig.start(&journal);
        tokio::time::sleep(Duration::from_millis(pause)).await;
        // As after a SIGKILL: no time to send, and nothing saved that was not.
        assert!(deliverers.shutdown(Duration::ZERO).await);
    }
    let journal = rig.open();
    let deliverers = rig.start(&journal);
    eventually("all is decided", || rig.metric("undecided_entries") == 0 && rig.metric("lag_entries") == 0).await;
    assert_eq!(stored(&store, "team-a").await, once("team-a", 1..=last));
    assert!(deliverers.shutdown(Duration::from_secs(5)).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_is_away_for_a_while_gets_everything_once() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = VictoriaLogs::start(dir.path(), &[("team-a", 1)]).await.unwrap();
    let rig = Rig::new(victorialogs(store.url(), Duration::from_secs(2)));
    let journal = rig.open();
    let deliverers = rig.start(&journal);
    rig.append(&journal, "team-a", 1..=100).await;
    eventually("it was answered", || rig.metric("trailing_batches") > 0).await;
    store.stop().await.unwrap();
    for number in 101..=110 {
        rig.append(&journal, "team-a", number..=number).await;
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    store.restart().await.unwrap();
    eventually("all is decided", || rig.is_done(110)).await;
    assert_eq!(stored(&store, "team-a").await, once("team-a", 1..=110));
    assert!(deliverers.shutdown(Duration::from_secs(5)).await);
}

/// vmauth answers 400 to a tenant that it does not know: a mistake in configuration, no fault of records.
#[tokio::test(flavor = "multi_thread")]
async fn a_tenant_without_a_route_is_held_and_the_others_go_on() {
    let dir = tempfile::tempdir().unwrap();
    let store = VictoriaLogs::start(dir.path(), &[("team-a", 1)]).await.unwrap();
    let rig = Rig::new(victorialogs(store.url(), Duration::from_secs(1)));
    let journal = rig.open();
    rig.append(&journal, "unknown", 1..=10).await;
    rig.append(&journal, "team-a", 1..=10).await;
    let deliverers = rig.start(&journal);
    eventually("the others are decided", || rig.metric("records_total") == 10 && rig.metric("lag_entries") == 0).await;
    assert_eq!(rig.metric("held"), 1);
    assert_eq!(rig.metric("parked_entries"), 10);
    assert_eq!(rig.metric("dead_letters_total"), 0);
    assert_eq!(stored(&store, "team-a").await, once("team-a", 1..=10));
    let health = deliverers.health();
    assert!(health[0].failing[0].1.contains("missing route"), "{health:?}");
    rig.books_balance();
    assert!(deliverers.shutdown(Duration::from_secs(5)).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn records_that_the_store_would_drop_silently_are_dead_letters_and_the_rest_arrives() {
    let dir = tempfile::tempdir().unwrap();
    let store = VictoriaLogs::start(dir.path(), &[("team-a", 1)]).await.unwrap();
    let mut config = victorialogs(store.url(), Duration::from_secs(1));
    // As the store was started.
    config.retention = Some(Duration::from_secs(36_500 * 86_400));
    config.future = Duration::from_secs(2 * 86_400);
    let rig = Rig::new(config);
    let journal = rig.open();
    let ahead = rig.time_of(2) + 5 * 86_400 * 1_000_000_000;
    let entry = rig.entry("team-a", 1, &[(1, rig.time_of(1)), (2, ahead), (3, rig.time_of(3))]);
    assert!(matches!(journal.append(vec![entry]).await[..], [Appended::Stored(_)]));
    let deliverers = rig.start(&journal);
    eventually("all is decided", || rig.is_done(3)).await;
    let stored = stored(&store, "team-a").await;
    assert_eq!(stored.into_keys().collect::<Vec<_>>(), [Rig::text("team-a", 1), Rig::text("team-a", 3)]);
    let letters = rig.files("dead-letters/logs");
    assert_eq!(letters.len(), 1);
    assert!(letters[0].contains("in-the-future") && letters[0].contains(&Rig::text("team-a", 2)), "{letters:?}");
    assert!(deliverers.shutdown(Duration::from_secs(5)).await);
}

/// A batch of which the store has a part: a row of another origin under the same id stands for it.
#[tokio::test(flavor = "multi_thread")]
async fn of_a_batch_that_the_store_has_in_part_only_the_rest_is_sent() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = VictoriaLogs::start(dir.path(), &[("team-a", 1)]).await.unwrap();
    let rig = Rig::new(victorialogs(store.url(), Duration::from_secs(12)));
    let journal = rig.open();
    let deliverers = rig.start(&journal);
    let started = Instant::now();
    // One batch over several days: the store keeps each day apart, so that a part of it can be taken away.
    let day = 86_400 * 1_000_000_000;
    let records: Vec<_> = (1..=90).map(|n| (n, rig.time_of(n) - (i64::try_from(n).unwrap() % 3) * day)).collect();
    let answer = journal.append(vec![rig.entry("team-a", 1, &records)]).await;
    assert!(matches!(answer[..], [Appended::Stored(_)]));
    eventually("it was answered", || rig.metric("trailing_batches") > 0).await;
    store.stop().await.unwrap();
    let mut partitions: Vec<_> = std::fs::read_dir(dir.path().join("victoria-logs-data/partitions"))
        .unwrap()
        .map(|dir| dir.unwrap().path())
        .collect();
    partitions.sort();
    assert_eq!(partitions.len(), 3);
    std::fs::remove_dir_all(&partitions[1]).unwrap();
    store.restart().await.unwrap();
    assert_eq!(stored(&store, "team-a").await.len(), 60);
    assert!(started.elapsed() < Duration::from_secs(12), "too slow to be a test");
    eventually("all is decided", || rig.is_done(90)).await;
    assert_eq!(stored(&store, "team-a").await, once("team-a", 1..=90));
    assert_eq!(rig.metric("completed_batches_total"), 1);
    assert!(deliverers.shutdown(Duration::from_secs(5)).await);
}
