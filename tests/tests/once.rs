//! Every line once, through the sudden end of agent and gateway at any moment, and through a store that
//! forgets.

use std::time::Duration;

use sluice_harness::check::Tenants;
use sluice_harness::dirs::TestDir;
use sluice_harness::shape::Mix;
use sluice_harness::victorialogs::VictoriaLogs;
use sluice_harness::write::{self, Rotation};
use sluice_tests::{PATIENCE, Plan, Stack, store_destination};

fn writer(stack: &Stack, seconds: u64, rate: u64) -> write::Config {
    write::Config {
        namespaces: ["a", "b", "c"].map(str::to_owned).to_vec(),
        containers: 9,
        duration: Some(Duration::from_secs(seconds)),
        rate,
        mix: Mix { json: 0.5, partial: 0.1, stderr: 0.2, ..Mix::default() },
        rotation: Rotation { every: Some(Duration::from_secs(2)), cut: true, ..Rotation::default() },
        ..stack.writer()
    }
}

/// Kills at five moments that lie unevenly in the batches' rhythm.
const MOMENTS: [u64; 5] = [700, 1130, 1510, 1890, 2270];

#[tokio::test]
async fn an_agent_that_is_killed_five_times_loses_and_repeats_nothing() {
    let mut stack = Stack::start("kill-agent", &Plan::default()).await.expect("a stack");
    let running = write::spawn(writer(&stack, 10, 5_000));
    for wait in MOMENTS {
        tokio::time::sleep(Duration::from_millis(wait)).await;
        stack.kill_agent().await.expect("another agent");
    }
    let manifest = running.wait().expect("written");
    let report = stack.check_files(&manifest, Tenants::single("main")).await.expect("read");
    report.assert_clean(0);
    let pages = stack.closed_books().await.expect("books that balance");
    assert_eq!(pages.len(), 9, "a page for each container");
    for page in pages {
        assert_eq!((page.written, page.abandoned.len()), (page.acknowledged, 0), "{page:?}");
    }
}

#[tokio::test]
async fn a_gateway_that_is_killed_five_times_loses_and_repeats_nothing() {
    let mut stack = Stack::start("kill-gateway", &Plan::default()).await.expect("a stack");
    let running = write::spawn(writer(&stack, 10, 5_000));
    for wait in MOMENTS {
        tokio::time::sleep(Duration::from_millis(wait)).await;
        stack.kill_gateway().await.expect("another gateway");
    }
    let manifest = running.wait().expect("written");
    let report = stack.check_files(&manifest, Tenants::single("main")).await.expect("read");
    report.assert_clean(0);
}

/// Requests that a destination has under way at most: what a gateway's sudden end may repeat, for the store
/// cannot tell a batch that comes again.
const CONCURRENCY: usize = 4;

/// A store behind an agent, or a gateway, that is killed five times. Gives how many batches it has twice.
async fn store_behind(name: &str, kill_gateway: bool) -> usize {
    let store_dir = TestDir::new(name).expect("a directory");
    let store = VictoriaLogs::start(store_dir.path(), &[("main", 1)]).await.expect("a store");
    let plan = Plan {
        destinations: store_destination(store.url(), "2s"),
        routed_to: vec!["store".to_owned()],
        ..Plan::default()
    };
    let mut stack = Stack::start(name, &plan).await.expect("a stack");
    let running = write::spawn(writer(&stack, 10, 5_000));
    for wait in MOMENTS {
        tokio::time::sleep(Duration::from_millis(wait)).await;
        if kill_gateway {
            stack.kill_gateway().await.expect("another gateway");
        } else {
            stack.kill_agent().await.expect("another agent");
        }
    }
    let manifest = running.wait().expect("written");
    let report = stack.check_store(store.url(), &manifest, Tenants::single("main"), PATIENCE).await.expect("asked");
    println!("{name}: duplicated {} in {} batches", report.duplicated, report.duplicate_batches);
    report.assert_clean(u64::MAX);
    report.duplicate_batches
}

#[tokio::test]
async fn a_store_behind_an_agent_that_is_killed_has_every_line_once() {
    assert_eq!(store_behind("once-agent-store", false).await, 0);
}

#[tokio::test]
async fn a_store_behind_a_gateway_that_is_killed_has_at_most_the_batches_under_way_twice() {
    let duplicated = store_behind("once-gateway-store", true).await;
    assert!(duplicated <= MOMENTS.len() * CONCURRENCY, "{duplicated} batches");
}

async fn store_away(name: &str, kill: bool) {
    let store_dir = TestDir::new(name).expect("a directory");
    let mut store = VictoriaLogs::start(store_dir.path(), &[("main", 1)]).await.expect("a store");
    let plan = Plan {
        // Longer than what the store forgets at `kill -9`.
        destinations: store_destination(store.url(), "15s"),
        routed_to: vec!["store".to_owned()],
        ..Plan::default()
    };
    let stack = Stack::start(name, &plan).await.expect("a stack");
    let running = write::spawn(writer(&stack, 30, 2_000));
    tokio::time::sleep(Duration::from_secs(6)).await;
    if kill {
        store.kill();
    } else {
        store.stop().await.expect("stopped");
    }
    tokio::time::sleep(Duration::from_secs(20)).await;
    store.restart().await.expect("started again");
    let manifest = running.wait().expect("written");
    let report = stack.check_store(store.url(), &manifest, Tenants::single("main"), 3 * PATIENCE).await.expect("asked");
    println!("{name}: duplicated {} in {} batches", report.duplicated, report.duplicate_batches);
    report.assert_clean(u64::MAX);
}

#[tokio::test]
async fn a_store_that_is_stopped_for_20_s_gets_everything() {
    store_away("store-stopped", false).await;
}

#[tokio::test]
async fn a_store_that_is_killed_and_forgets_gets_everything_again() {
    store_away("store-killed", true).await;
}
