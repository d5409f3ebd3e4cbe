//! `sluice-agent verify` as a user runs it: beside an agent, against a gateway that takes its lines, one that
//! does not know it, one that limits it, and none.

use std::fs;
use std::time::Duration;

use serde_json::Value;
use sluice_harness::dirs::TestDir;
use sluice_harness::process::{Program, Spec};
use sluice_harness::victorialogs::VictoriaLogs;
use sluice_tests::{PATIENCE, Plan, Stack, files_below};

/// Runs it over the stack's settings; gives whether it ended with 0, and its report.
async fn verify(stack: &Stack, arguments: &str) -> (bool, Value) {
    let log = stack.path("verify.log");
    let spec = Spec::ours("sluice-agent", &log).expect("a binary");
    let spec = spec.arg("verify").arg("--config").arg(stack.path("agent.yaml")).arg("--output").arg("json");
    let spec = arguments.split(' ').fold(spec, |spec, argument| spec.arg(argument));
    let mut program = Program::start(spec).expect("started");
    let status = program.wait(3 * PATIENCE).await.expect("ended");
    let report = program.log().lines().rev().find_map(|line| serde_json::from_str(line).ok());
    (status.success(), report.unwrap_or_else(|| panic!("no report: {}", program.log())))
}

/// Numbers of a run that a file destination has, and whether they are of a tenant and namespace.
fn delivered(stack: &Stack, tenant: &str, run: &Value, namespace: &str) -> Vec<u64> {
    let mut numbers = Vec::new();
    for path in files_below(&stack.delivered().join(tenant), ".jsonl") {
        for line in fs::read_to_string(path).expect("a delivered file").lines() {
            let record: Value = serde_json::from_str(line).expect("a record");
            if record["verify_run"] == *run {
                assert_eq!(record["k8s_namespace_name"], namespace);
                numbers.extend(record["verify_line"].as_u64());
            }
        }
    }
    numbers
}

fn trouble<'a>(report: &'a Value, step: &str) -> &'a str {
    let troubles = report["troubles"].as_array().expect("a list");
    let found = troubles.iter().find(|trouble| trouble["step"] == step);
    found.and_then(|trouble| trouble["fix"].as_str()).unwrap_or_else(|| panic!("{step} in {report}"))
}

fn edit(stack: &Stack, name: &str, from: &str, to: &str) {
    let text = fs::read_to_string(stack.path(name)).expect("a file");
    assert!(text.contains(from), "{text}");
    fs::write(stack.path(name), text.replace(from, to)).expect("a file");
}

const SHOP: &str = "  tenants:\n    default: main\n    rules: [{namespaces: [shop], tenant: shop}]\n";

#[tokio::test]
async fn beside_an_agent_every_line_is_acknowledged_and_delivered_once_to_its_tenant() {
    let plan = Plan { policy: SHOP.to_owned(), ..Plan::default() };
    let stack = Stack::start("verify", &plan).await.expect("a stack");
    let (passed, report) = verify(&stack, "--lines 600 --rate 300 --namespace shop").await;
    assert!(passed && report["passed"] == true, "{report}");
    let counts = ["written", "acknowledged", "lost", "refused", "repeated_possible"].map(|key| report[key].as_u64());
    assert_eq!(counts, [600, 600, 0, 0, 0].map(Some), "{report}");
    let [p50, max] = ["p50_seconds", "max_seconds"].map(|key| report["latency"][key].as_f64().expect("a latency"));
    // A block waits a second, and on a busy machine a while longer.
    assert!(p50 > 0.0 && p50 <= max && max < 15.0, "{report}");
    let mut numbers = Vec::new();
    let started = std::time::Instant::now();
    while numbers.len() < 600 && started.elapsed() < PATIENCE {
        tokio::time::sleep(Duration::from_millis(50)).await;
        numbers = delivered(&stack, "shop", &report["run"], "shop");
    }
    numbers.sort_unstable();
    assert_eq!(numbers, (1..=600).collect::<Vec<u64>>());
    let agent = stack.agent_metrics().await.expect("metrics");
    assert_eq!(agent.get("sluice_agent_read_lines_total", &[]), Some(0.0), "the agent has seen nothing of it");
    assert!(
        !stack
            .path("state")
            .read_dir()
            .expect("a directory")
            .flatten()
            .any(|entry| { entry.file_name().to_string_lossy().contains("verify") })
    );
}

#[tokio::test]
async fn a_gateway_that_is_away_fails_it_with_the_fix() {
    let mut stack = Stack::start("verify-away", &Plan::default()).await.expect("a stack");
    stack.gateway.kill();
    let (passed, report) = verify(&stack, "--lines 100 --rate 1000 --timeout 2s").await;
    assert!(!passed && report["passed"] == false, "{report}");
    assert_eq!((report["written"].as_u64(), report["lost"].as_u64()), (Some(100), Some(100)));
    assert!(trouble(&report, "connection").contains("gateway.urls"), "{report}");
}

#[tokio::test]
async fn a_wrong_token_and_a_namespace_that_is_not_allowed_fail_it_with_the_fix() {
    let mut stack = Stack::start("verify-token", &Plan::default()).await.expect("a stack");
    let token = stack.path("token");
    let identity = format!("{{name: agents, token_file: {}, namespaces: [shop]}}", token.display());
    fs::write(&token, "the-right-token-of-the-agents-0123456789").expect("a file");
    edit(&stack, "gateway.yaml", "{name: local, loopback: true}", &identity);
    stack.kill_gateway().await.expect("a gateway with tokens");
    let other = stack.path("other-token");
    fs::write(&other, "another-token-that-nobody-knows-0123456789").expect("a file");
    edit(&stack, "agent.yaml", "\"]", &format!("\"], token_file: {}", other.display()));

    let (passed, report) = verify(&stack, "--lines 50 --rate 1000 --timeout 2s --namespace shop").await;
    assert!(!passed, "{report}");
    assert!(trouble(&report, "unauthenticated").contains("token_file"), "{report}");

    fs::write(&other, "the-right-token-of-the-agents-0123456789").expect("a file");
    let (passed, report) = verify(&stack, "--lines 50 --rate 1000 --timeout 2s").await;
    assert!(!passed, "{report}");
    let fix = trouble(&report, "forbidden");
    assert!(fix.contains("namespace sluice-verify") && fix.contains("--namespace"), "{report}");

    let (passed, report) = verify(&stack, "--lines 50 --rate 1000 --namespace shop").await;
    assert!(passed, "{report}");
}

#[tokio::test]
async fn a_limit_is_told_of_also_where_every_line_gets_through() {
    let limits =
        "  tenants: {default: main}\n  limits:\n    tenants: {main: {lines_per_second: 200, lines_burst: 200}}\n";
    let plan = Plan { policy: limits.to_owned(), ..Plan::default() };
    let stack = Stack::start("verify-limit", &plan).await.expect("a stack");
    let (passed, report) = verify(&stack, "--lines 1000 --rate 10000").await;
    assert!(passed && report["acknowledged"] == 1000, "{report}");
    assert!(trouble(&report, "limit").contains("policy.limits"), "{report}");
}

#[tokio::test]
async fn a_budget_of_the_node_that_drops_lines_fails_it() {
    let budget = "budgets: [{namespaces: [sluice-verify], rate: 1KiB, policy: drop}]\n";
    let plan = Plan { agent: budget.to_owned(), ..Plan::default() };
    let stack = Stack::start("verify-budget", &plan).await.expect("a stack");
    let (passed, report) = verify(&stack, "--lines 500 --rate 5000").await;
    let [acknowledged, lost] = ["acknowledged", "lost"].map(|key| report[key].as_u64().expect("a number"));
    let dropped = report["left_out"]["over-budget"].as_u64().expect("a number");
    assert!(!passed && dropped > 0 && lost == 0 && acknowledged + dropped == 500, "{report}");
    assert!(trouble(&report, "node").contains("budgets"), "{report}");
}

#[tokio::test]
async fn straight_to_a_store_its_query_finds_every_line() {
    let dir = TestDir::new("verify-store").expect("a directory");
    let store = VictoriaLogs::start(dir.path(), &[("bank", 1)]).await.expect("a store");
    let stack = Stack::start("verify-direct", &Plan::default()).await.expect("a stack");
    let settings = fs::read_to_string(stack.path("agent.yaml")).expect("settings");
    let (before, _) = settings.split_once("gateway:").expect("a gateway");
    let direct = format!("{before}direct: {{url: \"{}\", tenant: bank}}\n", store.url());
    fs::write(stack.path("agent.yaml"), direct).expect("settings");
    let (passed, report) = verify(&stack, "--lines 300 --rate 300").await;
    assert!(passed, "{report}");
    assert!(report["not_verified"].as_str().is_some_and(|text| text.contains("the store")), "{report}");
    let query = report["query"].as_str().expect("a query").to_owned();
    let client = reqwest::Client::builder().no_proxy().build().expect("a client");
    let ask = || async {
        let url = format!("{}/select/logsql/query", store.url());
        let url = reqwest::Url::parse_with_params(&url, [("query", &query)]).expect("a url");
        let reply = client.get(url).header("X-Scope-OrgID", "bank").send().await.expect("asked");
        let text = reply.text().await.expect("an answer");
        serde_json::from_str::<Value>(&text).unwrap_or_else(|_| panic!("{query}: {text}"))
    };
    let started = std::time::Instant::now();
    let mut found = ask().await;
    while found["lines"] != "300" && started.elapsed() < PATIENCE {
        tokio::time::sleep(Duration::from_millis(200)).await;
        found = ask().await;
    }
    assert_eq!((found["lines"].as_str(), found["numbers"].as_str()), (Some("300"), Some("300")), "{found}");
}
