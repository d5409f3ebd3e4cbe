//! End to end on real VictoriaLogs behind vmauth, and on files: every line once, in its tenant.

use std::time::Duration;

use sluice_harness::check::Tenants;
use sluice_harness::dirs::TestDir;
use sluice_harness::shape::Mix;
use sluice_harness::victorialogs::VictoriaLogs;
use sluice_harness::write::{self, Rotation};
use sluice_tests::{PATIENCE, Plan, Stack, store_destination};

const THREE_TENANTS: &str = "  tenants:
    default: rest
    rules:
      - {namespaces: [bank-*], tenant: bank}
      - {namespaces: [shop], tenant: shop}
";
const NAMESPACES: [&str; 4] = ["bank-core", "bank-web", "shop", "tools"];

fn tenants() -> Tenants {
    Tenants::from([("bank-core", "bank"), ("bank-web", "bank"), ("shop", "shop"), ("tools", "rest")])
}

/// A million lines unless `SLUICE_LINES` says otherwise.
fn lines(default: u64) -> u64 {
    std::env::var("SLUICE_LINES").ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

fn twenty_containers(stack: &Stack, lines: u64) -> write::Config {
    write::Config {
        namespaces: NAMESPACES.map(str::to_owned).to_vec(),
        containers: 20,
        lines: Some(lines),
        rate: lines / 10,
        mix: Mix { json: 0.5, odd: 0.1, partial: 0.1, stderr: 0.2, ..Mix::default() },
        rotation: Rotation { every: Some(Duration::from_secs(2)), cut: true, ..Rotation::default() },
        ..stack.writer()
    }
}

#[tokio::test]
async fn every_line_is_once_in_its_tenants_store() {
    let store_dir = TestDir::new("flow-store").expect("a directory");
    let store = VictoriaLogs::start(store_dir.path(), &[("bank", 1), ("shop", 2), ("rest", 3)]).await.expect("a store");
    let plan = Plan {
        policy: THREE_TENANTS.to_owned(),
        destinations: store_destination(store.url(), "2s"),
        routed_to: vec!["store".to_owned(), "files".to_owned()],
        ..Plan::default()
    };
    let stack = Stack::start("flow", &plan).await.expect("a stack");
    let manifest = write::spawn(twenty_containers(&stack, lines(1_000_000))).wait().expect("written");
    let report = stack.check_store(store.url(), &manifest, tenants(), PATIENCE).await.expect("asked");
    report.assert_clean(0);
    let report = stack.check_files(&manifest, tenants()).await.expect("read");
    report.assert_clean(0);
    assert_eq!(report.out_of_order, Some(0), "{report}");
}

#[tokio::test]
async fn the_books_balance_when_all_is_delivered() {
    let stack = Stack::start("books", &Plan::default()).await.expect("a stack");
    let manifest =
        write::run(&write::Config { lines: Some(20_000), containers: 5, ..stack.writer() }).expect("written");
    let report = stack.check_files(&manifest, Tenants::single("main")).await.expect("read");
    report.assert_clean(0);
    let lines = manifest.lines() as f64;
    // Read, acknowledged, accepted, delivered: the same number, each in its own program's books. A line is in its
    // place before they say so.
    let delivered = [("outcome", "delivered")];
    stack.until_agent("sluice_agent_read_lines_total", &[], |read| read >= lines).await.expect("counted");
    stack.until_agent("sluice_agent_acknowledged_records_total", &[], |stored| stored >= lines).await.expect("counted");
    stack
        .until_gateway("sluice_gateway_deliver_records_total", &delivered, |done| done >= lines)
        .await
        .expect("counted");
    let agent = stack.agent_metrics().await.expect("metrics");
    let gateway = stack.gateway_metrics().await.expect("metrics");
    assert_eq!(agent.get("sluice_agent_read_lines_total", &[]), Some(lines));
    assert_eq!(agent.get("sluice_agent_acknowledged_records_total", &[]), Some(lines));
    assert_eq!(gateway.get("sluice_gateway_receive_accepted_lines_total", &[]), Some(lines));
    assert_eq!(gateway.get("sluice_gateway_deliver_records_total", &delivered), Some(lines));
}
