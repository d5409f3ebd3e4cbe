use std::collections::BTreeMap;

use sluice_wire::{Reason, Verdict};

use super::*;
use crate::metrics::Step;
use crate::tail::Abandoned;

fn plan(more: &str) -> Plan {
    Plan {
        config: crate::config::for_tests(more),
        lines: 10,
        rate: 1000,
        timeout: Duration::from_secs(1),
        namespace: "shop".to_owned(),
    }
}

fn page(acknowledged: u64, abandoned: &[(Abandoned, u64)]) -> Book {
    Book {
        log: "log".into(),
        books: "application/shop".into(),
        written: 10 * LINE as u64,
        acknowledged,
        abandoned: abandoned.iter().copied().collect(),
        missing_entries: 0,
        unread: 0,
        held: 0,
        imbalance: 0,
    }
}

/// Ten lines, written a millisecond apart.
fn written() -> (Tally, Instant) {
    let (mut tally, start) = (Tally::default(), Instant::now());
    (0..10).for_each(|n| tally.wrote(&Written { lines: 1, at: start + Duration::from_millis(n) }, start));
    (tally, start)
}

fn report(tally: &Tally, metrics: &Metrics) -> Report {
    Report::new(&plan(""), "abcdefghijklmnop", tally, metrics)
}

#[test]
fn a_line_is_acknowledged_when_its_last_byte_is() {
    let (mut tally, start) = written();
    tally.decided(vec![page(3 * LINE as u64 - 1, &[])], start + Duration::from_millis(100));
    assert_eq!((tally.on_their_way.len(), report(&tally, &Metrics::new().unwrap()).acknowledged), (8, 2));
    tally.decided(vec![page(10 * LINE as u64, &[])], start + Duration::from_millis(1009));
    let report = report(&tally, &Metrics::new().unwrap());
    assert!(report.passed && report.lost == 0 && report.troubles.is_empty(), "{report}");
    let latency = report.latency.unwrap();
    assert_eq!((latency.p50_seconds, latency.p99_seconds, latency.max_seconds), (1.002, 1.007, 1.007));
    assert!(report.to_string().ends_with("OK: every line was acknowledged"), "{report}");
}

#[test]
fn what_has_no_verdict_is_lost_and_what_was_in_the_way_is_told_with_its_fix() {
    let (mut tally, start) = written();
    tally.decided(vec![page(4 * LINE as u64, &[])], start);
    let metrics = Metrics::new().unwrap();
    metrics.troubles.add(Step::Connection, &"refused\x1b[2J");
    metrics.verdict(Verdict::RetryAfter(Duration::ZERO, Reason::LimitBytes));
    let report = report(&tally, &metrics);
    assert_eq!((report.acknowledged, report.lost, report.passed), (4, 6, false));
    let steps: Vec<_> = report.troubles.iter().map(|trouble| &*trouble.step).collect();
    assert_eq!(steps, ["connection", "limit"]);
    let text = report.to_string();
    for expected in ["gateway.urls", "policy.limits", "namespace shop", "FAILED: 4 of 10", "Not verified"] {
        assert!(text.contains(expected), "{expected} in {text}");
    }
    assert!(!text.contains('\x1b'), "a server's words do nothing to a terminal");
    let json = serde_json::to_value(&report).unwrap();
    assert_eq!((json["lost"].as_u64(), json["troubles"][1]["step"].as_str()), (Some(6), Some("limit")));
}

#[test]
fn what_is_left_out_or_refused_is_not_acknowledged() {
    let (mut tally, start) = written();
    let left_out = [(Abandoned::OverBudget, 3 * LINE as u64), (Abandoned::Redacted, LINE as u64)];
    tally.decided(vec![page(6 * LINE as u64, &left_out)], start);
    let metrics = Metrics::new().unwrap();
    metrics.dead_letters.inc_by(2);
    let report = report(&tally, &metrics);
    assert_eq!((report.acknowledged, report.refused, report.lost, report.passed), (4, 2, 0, false));
    assert_eq!(report.left_out, BTreeMap::from([(Abandoned::OverBudget, 3), (Abandoned::Redacted, 1)]));
    assert!(report.to_string().contains("budgets"), "{report}");
}

#[test]
fn time_that_was_too_short_is_said_where_nothing_else_went_wrong() {
    let (tally, _) = written();
    let report = report(&tally, &Metrics::new().unwrap());
    assert_eq!((report.lost, &*report.troubles[0].step, report.latency), (10, "time", None));
}

#[test]
fn the_agent_beside_it_is_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    let state = format!("state_directory: '{}'\n", dir.path().display());
    let more = "admin: 127.0.0.1:2020\nhost: [{path: /var/log/messages}]\nkmsg: {}\njournald: {}\nfirst_start: end\n";
    let config = plan(&format!("{state}{more}")).config;
    let scratch = Scratch::new(&config.state, "abcdefghijklmnop").unwrap();
    let beside = config_beside(&config, &scratch);
    let below = |path: &std::path::Path| path != dir.path() && path.starts_with(dir.path());
    assert!(below(&beside.state) && beside.pods.as_deref().is_some_and(below));
    assert!(beside.sources.host.is_empty() && beside.sources.journal.is_none() && beside.sources.kmsg.is_none());
    assert_eq!((beside.admin, beside.first_start), (None, FirstStart::Beginning));
    drop(scratch);
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0, "and nothing is left of the test");
}

#[tokio::test]
async fn a_run_without_a_gateway_ends_with_the_step_that_failed() {
    let dir = tempfile::tempdir().unwrap();
    // Port 9, where nobody listens.
    let plan = plan(&format!("state_directory: '{}'\n", dir.path().display()));
    let report = run(plan, std::future::pending()).await.unwrap();
    assert_eq!((report.written, report.acknowledged, report.lost), (10, 0, 10));
    assert_eq!(report.troubles[0].step, "connection");
    assert!(report.troubles[0].said.contains("refused"), "{report}");
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
}
