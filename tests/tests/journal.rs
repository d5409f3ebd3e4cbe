//! The journal under what disks and kernels do to it: it starts again every time, and what was
//! acknowledged is delivered once, but for what was damaged, which is named.

use std::fs::{self, OpenOptions};
use std::os::unix::fs::FileExt as _;
use std::path::PathBuf;
use std::time::Duration;

use rand::RngExt as _;
use sluice_harness::check::Tenants;
use sluice_harness::dirs::TestDir;
use sluice_harness::shape::Mix;
use sluice_harness::victorialogs::VictoriaLogs;
use sluice_harness::write;
use sluice_tests::{PATIENCE, Plan, Stack, confine, files_below, store_destination};

fn main_tenant() -> Tenants {
    Tenants::single("main")
}

/// 200 in the long runs (`SLUICE_KILLS`).
fn kills() -> u32 {
    std::env::var("SLUICE_KILLS").ok().and_then(|text| text.parse().ok()).unwrap_or(20)
}

#[tokio::test]
async fn killed_in_a_loop_under_load_it_starts_again_and_delivers_all_once() {
    let mut stack = Stack::start("kill-loop", &Plan::default()).await.expect("a stack");
    let writer = write::Config {
        containers: 6,
        duration: Some(Duration::from_secs(3600)),
        rate: 3_000,
        mix: Mix { json: 0.5, partial: 0.1, ..Mix::default() },
        ..stack.writer()
    };
    let running = write::spawn(writer);
    for _ in 0..kills() {
        tokio::time::sleep(Duration::from_millis(rand::rng().random_range(0..400))).await;
        stack.kill_gateway().await.expect("another gateway");
    }
    let manifest = running.stop().expect("written");
    stack.check_files(&manifest, main_tenant()).await.expect("read").assert_clean(0);
}

/// A stack whose store is away, with several segments in its journal; ended by a kill.
async fn with_a_backlog(name: &str, lines: u64) -> (Stack, VictoriaLogs, TestDir, sluice_harness::manifest::Manifest) {
    let store_dir = TestDir::new(name).expect("a directory");
    let mut store = VictoriaLogs::start(store_dir.path(), &[("main", 1)]).await.expect("a store");
    let plan = Plan {
        destinations: store_destination(store.url(), "1s"),
        journal: "  max_bytes: 256MiB\n  segment_bytes: 4MiB\n  park_above: 0.95\n".to_owned(),
        routed_to: vec!["store".to_owned()],
        ..Plan::default()
    };
    let mut stack = Stack::start(name, &plan).await.expect("a stack");
    store.kill();
    let writer = write::Config { containers: 10, lines: Some(lines), mix: Mix::default(), ..stack.writer() };
    let manifest = write::run(&writer).expect("written");
    let written = manifest.lines() as f64;
    stack.until_agent("sluice_agent_acknowledged_records_total", &[], |n| n >= written).await.expect("acknowledged");
    stack.gateway.kill();
    (stack, store, store_dir, manifest)
}

fn segments(stack: &Stack) -> Vec<PathBuf> {
    files_below(&stack.path("journal").join("log"), ".log")
}

#[tokio::test]
async fn a_flipped_byte_in_each_segment_costs_the_block_that_it_is_in() {
    let (mut stack, mut store, _dir, manifest) = with_a_backlog("flipped", 300_000).await;
    let segments = segments(&stack);
    assert!(segments.len() >= 3, "{segments:?}");
    for segment in &segments {
        // In the first block's payload: past the segment's and the record's header, and the entry's.
        let file = OpenOptions::new().read(true).write(true).open(segment).expect("a segment");
        let mut byte = [0];
        file.read_exact_at(&mut byte, 2_000).expect("a byte");
        file.write_all_at(&[byte[0] ^ 0x10], 2_000).expect("flipped");
    }
    stack.gateway.restart().expect("started");
    stack.wait_for_gateway().await.expect("ready in spite of it");
    store.restart().await.expect("a store");
    let report = stack.check_store(store.url(), &manifest, main_tenant(), PATIENCE).await.expect("asked");
    let metrics = stack.gateway_metrics().await.expect("metrics");
    let lost = metrics.get("sluice_gateway_journal_lost_entries_total", &[("destination", "store")]);
    assert_eq!(lost, Some(segments.len() as f64), "one entry of each segment is booked as lost");
    // A block of the agent's has 192 KiB of records, of some hundred bytes each.
    assert!(report.lost > 0 && report.lost <= segments.len() as u64 * 2_000, "{report}");
    assert_eq!((report.duplicated, report.broken, report.wrong_tenant), (0, 0, 0), "{report}");
    assert!(stack.gateway.log().contains("entries cannot be read any more"), "and named in the log");
}

#[tokio::test]
async fn a_truncated_last_segment_costs_what_was_cut_off() {
    let (mut stack, mut store, _dir, manifest) = with_a_backlog("truncated", 150_000).await;
    let last = segments(&stack).pop().expect("a segment");
    let bytes = fs::read(&last).expect("a segment");
    let written = bytes.iter().rposition(|byte| *byte != 0).expect("something");
    OpenOptions::new().write(true).open(&last).expect("a segment").set_len(written as u64 / 2).expect("cut");
    stack.gateway.restart().expect("started");
    stack.wait_for_gateway().await.expect("ready in spite of it");
    store.restart().await.expect("a store");
    // What comes after it is stored and delivered as ever.
    let more = write::Config { containers: 1, lines: Some(5_000), ..write::Config::new(stack.pods()) };
    let after = write::run(&more).expect("written");
    let report = stack.check_store(store.url(), &after, main_tenant(), PATIENCE).await.expect("asked");
    assert_eq!((report.lost, report.duplicated), (0, 0), "{report}");
    let report = stack.check_store(store.url(), &manifest, main_tenant(), PATIENCE).await.expect("asked");
    assert!(report.lost > 0 && report.lost < manifest.lines() / 2, "{report}");
    assert_eq!((report.duplicated, report.broken), (0, 0), "{report}");
}

#[tokio::test]
async fn a_full_journal_is_refused_at_the_door_and_nothing_is_lost() {
    let store_dir = TestDir::new("full-store").expect("a directory");
    let mut store = VictoriaLogs::start(store_dir.path(), &[("main", 1)]).await.expect("a store");
    let plan = Plan {
        destinations: store_destination(store.url(), "1s"),
        journal: "  max_bytes: 64MiB\n  segment_bytes: 4MiB\n  park_above: 0.95\n".to_owned(),
        routed_to: vec!["store".to_owned()],
        ..Plan::default()
    };
    let stack = Stack::start("full", &plan).await.expect("a stack");
    store.kill();
    // More than 64 MiB of blocks.
    fill_up_and_recover(&stack, &mut store, 60_000).await;
}

/// A file system of its own, too small for the journal's `max_bytes`: the disk is full before the journal
/// thinks so.
#[tokio::test]
async fn a_full_disk_under_the_journal_is_refused_at_the_door_and_nothing_is_lost() {
    let store_dir = TestDir::new("full-disk-store").expect("a directory");
    let mut store = VictoriaLogs::start(store_dir.path(), &[("main", 1)]).await.expect("a store");
    let plan = Plan {
        destinations: store_destination(store.url(), "1s"),
        journal: "  segment_bytes: 4MiB\n  park_above: 0.95\n".to_owned(),
        routed_to: vec!["store".to_owned()],
        ..Plan::default()
    };
    let mut stack = Stack::start("full-disk", &plan).await.expect("a stack");
    stack.gateway.stop(PATIENCE).await.expect("stopped");
    let script = format!("mount -t tmpfs -o size=40m tmpfs {}", stack.path("journal").display());
    confine(stack.gateway.spec_mut(), &script);
    stack.gateway.restart().expect("started");
    stack.wait_for_gateway().await.expect("ready");
    store.kill();
    fill_up_and_recover(&stack, &mut store, 40_000).await;
}

/// Writes more than there is room for while the store is away, sees it refused, and brings the store back.
async fn fill_up_and_recover(stack: &Stack, store: &mut VictoriaLogs, lines: u64) {
    let writer = write::Config { containers: 10, lines: Some(lines), mix: long_lines(), ..stack.writer() };
    let manifest = write::run(&writer).expect("written");
    stack
        .until_agent("sluice_agent_verdicts_total", &[("reason", "journal-full")], |refused| refused > 0.0)
        .await
        .expect("refused at the door");
    store.restart().await.expect("a store");
    let report = stack.check_store(store.url(), &manifest, main_tenant(), 3 * PATIENCE).await.expect("asked");
    report.assert_clean(0);
}

/// Text that does not compress well.
fn long_lines() -> Mix {
    Mix { line_size: 8_000, ..Mix::default() }
}
