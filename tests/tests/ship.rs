//! The ways between agent and gateway that are not the default: HTTP/2, gzip, connections that are replaced.

use std::time::Duration;

use sluice_harness::check::Tenants;
use sluice_harness::write;
use sluice_tests::{Plan, Stack};

async fn every_line_arrives_once(name: &str, to_gateway: &str) -> Stack {
    let plan = Plan { to_gateway: to_gateway.to_owned(), ..Plan::default() };
    let mut stack = Stack::start(name, &plan).await.expect("a stack");
    let duration = Some(Duration::from_secs(8));
    let running = write::spawn(write::Config { duration, rate: 2_000, containers: 5, ..stack.writer() });
    tokio::time::sleep(Duration::from_secs(3)).await;
    stack.kill_gateway().await.expect("another gateway");
    let manifest = running.wait().expect("written");
    stack.check_files(&manifest, Tenants::single("main")).await.expect("read").assert_clean(0);
    stack
}

#[tokio::test]
async fn over_http_2_with_gzip_every_line_arrives_once() {
    let stack = every_line_arrives_once("h2-gzip", ", protocol: http2, compression: gzip").await;
    let raw = stack.agent_metrics().await.expect("metrics").get("sluice_agent_block_raw_bytes_total", &[]);
    let sent = stack.agent_metrics().await.expect("metrics").get("sluice_agent_block_payload_bytes_total", &[]);
    assert!(raw > sent.map(|sent| 2.0 * sent), "{raw:?} bytes became {sent:?}");
}

#[tokio::test]
async fn over_connections_that_are_replaced_all_the_time_every_line_arrives_once() {
    let stack = every_line_arrives_once("max-age", ", connection_max_age: 5s, connections: 1, compression: none").await;
    let metrics = stack.agent_metrics().await.expect("metrics");
    assert_eq!(metrics.get("sluice_agent_possible_duplicate_records_total", &[]), Some(0.0));
}
