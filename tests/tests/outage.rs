//! A gateway that is away while pods come and go: their log files are deleted before anybody has stored them.

use std::fs;
use std::path::Path;
use std::time::Duration;

use sluice_harness::check::Tenants;
use sluice_harness::metrics::Metrics;
use sluice_harness::write::{self, Rotation};
use sluice_tests::{Plan, Stack, files_below};

/// Deletes the directories of all pods but those in the namespace `stays`.
fn delete_pods(stack: &Stack) {
    for pod in fs::read_dir(stack.pods()).expect("pods").flatten() {
        if !pod.file_name().to_string_lossy().starts_with("stays_") {
            fs::remove_dir_all(pod.path()).expect("deleted");
        }
    }
}

/// A node is never without a single log.
fn write_a_pod_that_stays(stack: &Stack) {
    let directory = stack.pods().join("stays_pod_uid/app");
    fs::create_dir_all(&directory).expect("a directory");
    fs::write(directory.join("0.log"), "2025-10-26T10:15:30.1Z stdout F here\n").expect("a log");
}

/// Gap records at the destination.
fn told_gaps(stack: &Stack) -> usize {
    let texts = files_below(&stack.delivered(), "").into_iter().map(|path| fs::read(path).expect("a delivered file"));
    let texts: Vec<String> = texts.map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).collect();
    assert!(texts.iter().any(|text| text.contains("k8s_namespace_name")), "files of plain text");
    texts.iter().map(|text| text.matches("sluice_gap_reason").count()).sum()
}

fn bytes_below(directory: &Path) -> u64 {
    files_below(directory, "").iter().filter_map(|path| path.metadata().ok()).map(|metadata| metadata.len()).sum()
}

fn writer(stack: &Stack, lines: u64, containers: u32) -> write::Config {
    write::Config {
        namespaces: ["a", "b", "c"].map(str::to_owned).to_vec(),
        containers,
        lines: Some(lines),
        ..stack.writer()
    }
}

#[tokio::test]
async fn logs_deleted_while_the_gateway_is_away_outlive_the_agent() {
    // Little room in memory, so that most of it has to go to the disk.
    let plan = Plan { agent: "queued_bytes: 2MiB\nscan_interval: 1s\n".to_owned(), ..Plan::default() };
    let mut stack = Stack::start("outage", &plan).await.expect("a stack");
    write_a_pod_that_stays(&stack);
    stack.gateway.kill();
    let config = write::Config {
        rotation: Rotation { every: Some(Duration::from_millis(200)), cut: true, ..Rotation::default() },
        rate: 20_000,
        ..writer(&stack, 20_000, 9)
    };
    let manifest = write::spawn(config).wait().expect("written");
    let written = bytes_below(&stack.pods());
    stack.until_agent("sluice_agent_logs", &[], |logs| logs >= 10.0).await.expect("all logs are met");
    delete_pods(&stack);
    // All of it is in blocks that are on the disk, and no file is held open but the one that is there.
    stack.until_agent("sluice_agent_open_files", &[], |files| files <= 1.0).await.expect("closed");
    let in_spool = stack.until_agent("sluice_agent_spool_bytes", &[], |bytes| bytes > 0.0).await.expect("spooled");
    println!("{written} bytes of logs are {in_spool} bytes in the spool");
    for _ in 0..2 {
        stack.kill_agent().await.expect("another agent");
    }
    stack.gateway.restart().expect("started");
    stack.wait_for_gateway().await.expect("a gateway");
    let report = stack.check_files(&manifest, Tenants::single("main")).await.expect("read");
    println!("{report}");
    assert_eq!((report.found, report.lost, report.duplicated, report.broken), (20_000, 0, 0, 0), "{report}");
    assert_eq!(report.out_of_order, Some(0), "{report}");
    for page in stack.closed_books().await.expect("books that balance") {
        assert_eq!((page.written, page.abandoned.len()), (page.acknowledged, 0), "{page:?}");
    }
    assert_eq!(told_gaps(&stack), 0, "the agent knew that it had all of it");
    stack.until_agent("sluice_agent_spool_bytes", &[], |bytes| bytes == 0.0).await.expect("let go");
    let errors = stack.agent_metrics().await.expect("metrics").get("sluice_agent_spool_errors_total", &[]);
    assert_eq!(errors, Some(0.0));
}

/// Bytes of logs that are deleted in the test of the agent's memory.
const MUCH: u64 = 200_000_000;
/// What the agent may take of memory while they go to the spool, KiB.
const MEMORY: u64 = 40 * 1024;

#[tokio::test]
async fn memory_stays_bounded_while_200_mb_of_deleted_logs_go_to_the_spool() {
    let mut stack = Stack::start("outage-memory", &Plan::default()).await.expect("a stack");
    write_a_pod_that_stays(&stack);
    stack.gateway.kill();
    let manifest = write::spawn(writer(&stack, 700_000, 30)).wait().expect("written");
    let written = bytes_below(&stack.pods());
    assert!(written > MUCH, "{written} bytes");
    stack.until_agent("sluice_agent_logs", &[], |logs| logs >= 31.0).await.expect("all logs are met");
    delete_pods(&stack);
    stack.until_agent("sluice_agent_open_files", &[], |files| files <= 1.0).await.expect("closed");
    let metrics: Metrics = stack.agent_metrics().await.expect("metrics");
    let peak = stack.agent.peak_rss_kib();
    println!("peak {peak} KiB, {written} bytes of logs, spool {:?}", metrics.get("sluice_agent_spool_bytes", &[]));
    assert!(peak < MEMORY, "{peak} KiB");
    stack.kill_agent().await.expect("another agent");
    stack.gateway.restart().expect("started");
    stack.wait_for_gateway().await.expect("a gateway");
    let report = stack.check_files(&manifest, Tenants::single("main")).await.expect("read");
    assert_eq!((report.found, report.lost, report.duplicated), (700_000, 0, 0), "{report}");
    let peak = stack.agent.peak_rss_kib();
    println!("peak of the next agent {peak} KiB");
    assert!(peak < MEMORY, "{peak} KiB");
}
