//! A tenant far over its limit slows itself alone, and loses nothing while its files are there.

use sluice_harness::check::Tenants;
use sluice_harness::shape::Mix;
use sluice_harness::write;
use sluice_tests::{Plan, Stack};

const POLICY: &str = "  tenants:
    default: quiet
    rules: [{namespaces: [noisy], tenant: noisy}]
  limits:
    tenants: {noisy: {bytes_per_second: 1MiB, bytes_burst: 1MiB}}
";

#[tokio::test]
async fn a_limited_tenant_waits_in_its_files_and_its_neighbour_does_not() {
    let plan = Plan { policy: POLICY.to_owned(), ..Plan::default() };
    let stack = Stack::start("limits", &plan).await.expect("a stack");
    let writer = |namespace: &str, lines| write::Config {
        namespaces: vec![namespace.to_owned()],
        containers: 4,
        lines: Some(lines),
        mix: Mix { json: 0.5, ..Mix::default() },
        ..write::Config::new(stack.pods())
    };
    // About ten seconds' worth of the limit, at once.
    let noisy = write::run(&writer("noisy", 20_000)).expect("written");
    let quiet = write::run(&writer("quiet", 20_000)).expect("written");
    let tenants = || Tenants::from([("noisy", "noisy"), ("quiet", "quiet")]);

    let report = stack.check_files(&quiet, tenants()).await.expect("read");
    report.assert_clean(0);
    let metrics = stack.agent_metrics().await.expect("metrics");
    let limited = metrics.get("sluice_agent_verdicts_total", &[("reason", "limit-bytes")]).unwrap_or(0.0);
    assert!(limited > 0.0, "the noisy tenant met its limit");
    let stored = metrics.get("sluice_agent_acknowledged_records_total", &[]).unwrap_or(0.0);
    assert!(stored < (noisy.lines() + quiet.lines()) as f64, "and is still held back when its neighbour is through");

    // Looks on as long as anything comes.
    let report = stack.check_files(&noisy, tenants()).await.expect("read");
    report.assert_clean(0);
    assert_eq!(report.out_of_order, Some(0), "{report}");
}
