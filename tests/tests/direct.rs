//! Straight to real VictoriaLogs behind vmauth, without a gateway: at least once.

use std::fs;
use std::time::Duration;

use sluice_harness::check::{self, Destination, Report, Tenants};
use sluice_harness::dirs::TestDir;
use sluice_harness::manifest::Manifest;
use sluice_harness::metrics;
use sluice_harness::process::{Program, Spec};
use sluice_harness::victorialogs::VictoriaLogs;
use sluice_harness::{parts, ports, write};
use sluice_tests::PATIENCE;

/// An agent that sends to a store.
struct Node {
    dir: TestDir,
    agent: Program,
    admin: String,
}

impl Node {
    /// `direct`: the section's keys; `env`: variables.
    async fn start(name: &str, direct: &str, env: &[(&str, &str)]) -> Self {
        let dir = TestDir::new(name).expect("a directory");
        let port = ports::free().expect("a port");
        fs::create_dir_all(dir.join("pods")).expect("a directory for pods");
        let config = format!(
            "cluster: test\nenvironment: test\nnode: node-a\nstate_directory: {}\npods: {}\nfirst_start: beginning\n\
             admin: 127.0.0.1:{port}\ndirect: {{{direct}}}\n",
            dir.join("state").display(),
            dir.join("pods").display()
        );
        fs::write(dir.join("agent.yaml"), config).expect("a configuration");
        let spec = Spec::ours("sluice-agent", dir.join("agent.log")).expect("a binary");
        let spec = spec.arg("run").arg("--config").arg(dir.join("agent.yaml"));
        let spec = env.iter().fold(spec, |spec, (name, value)| spec.env(name, value));
        let agent = Program::start(spec).expect("an agent");
        let mut node = Self { agent, admin: format!("http://127.0.0.1:{port}"), dir };
        node.agent.wait_for_http(&format!("{}/readyz", node.admin), PATIENCE).await.expect("ready");
        node
    }

    fn writer(&self, lines: u64, rate: u64) -> write::Config {
        let manifest = Some(self.dir.join("manifest.json"));
        write::Config { lines: Some(lines), rate, containers: 5, manifest, ..write::Config::new(self.dir.join("pods")) }
    }

    async fn until(&self, metric: &str, holds: impl Fn(f64) -> bool) {
        let url = format!("{}/metrics", self.admin);
        if let Err(error) = metrics::wait_until(&url, metric, &[], holds, PATIENCE).await {
            panic!("{error}\n{}", self.agent.log());
        }
    }
}

async fn check(store: &VictoriaLogs, manifest: &Manifest, tenant: &str) -> Report {
    let destination = Destination::VictoriaLogs(store.url().to_owned());
    let config = check::Config::new(manifest.clone(), destination, Tenants::single(tenant));
    check::run(check::Config { wait: PATIENCE, ..config }).await.expect("asked")
}

async fn store(dir: &TestDir) -> VictoriaLogs {
    VictoriaLogs::start(dir.path(), &[("bank", 1), ("other", 2)]).await.expect("a store")
}

#[tokio::test]
async fn a_store_that_is_stopped_and_started_again_gets_every_line_in_its_tenant() {
    let dir = TestDir::new("direct-stop-store").expect("a directory");
    let mut store = store(&dir).await;
    let node = Node::start("direct-stop", &format!("url: \"{}\", tenant: bank", store.url()), &[]).await;
    let running = write::spawn(node.writer(20_000, 4_000));
    node.until("sluice_agent_acknowledged_records_total", |records| records > 2_000.0).await;
    store.stop().await.expect("stopped");
    // It is away until the agent has met with that.
    node.until("sluice_agent_in_doubt_blocks_total", |blocks| blocks > 0.0).await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    store.restart().await.expect("started again");
    let manifest = running.wait().expect("written");
    assert_eq!(manifest.lines(), 20_000);
    let report = check(&store, &manifest, "bank").await;
    println!("direct: duplicated {}", report.duplicated);
    report.assert_clean(u64::MAX);
    assert_eq!(store.reader().count("other", "*").await.expect("asked"), 0, "another tenant's");
}

#[tokio::test]
async fn a_wrong_token_holds_and_nothing_is_lost_once_it_is_right() {
    let dir = TestDir::new("direct-token-store").expect("a directory");
    let store = store(&dir).await;
    let port = ports::free().expect("a port");
    let auth = format!(
        "users:\n  - bearer_token: right\n    url_map:\n      - src_paths: [\"/insert/.*\"]\n        \
         url_prefix: \"{}\"\n        headers: [\"AccountID: 1\", \"ProjectID: 0\"]\n",
        store.store_url()
    );
    fs::write(dir.join("auth.yml"), auth).expect("a file");
    let binary = tokio::task::spawn_blocking(|| parts::binary("vmauth")).await.expect("no panic").expect("vmauth");
    let spec = Spec::new(binary, dir.join("guard.log"))
        .arg(format!("-httpListenAddr=127.0.0.1:{port}"))
        .arg(format!("-auth.config={}", dir.join("auth.yml").display()));
    let mut guard = Program::start(spec).expect("vmauth");
    guard.wait_for_http(&format!("http://127.0.0.1:{port}/health"), PATIENCE).await.expect("ready");

    let token = dir.join("token");
    fs::write(&token, "wrong").expect("a file");
    let settings = format!("url: \"http://127.0.0.1:{port}\", token_file: {}, compression: zstd", token.display());
    let node = Node::start("direct-token", &settings, &[]).await;
    let manifest = write::run(&node.writer(2_000, 0)).expect("written");
    node.until("sluice_agent_held", |held| held == 1.0).await;
    assert_eq!(store.reader().count("bank", "*").await.expect("asked"), 0);
    fs::write(&token, "right\n").expect("a file");
    node.until("sluice_agent_acknowledged_records_total", |records| records == 2_000.0).await;
    node.until("sluice_agent_held", |held| held == 0.0).await;
    check(&store, &manifest, "bank").await.assert_clean(0);
    assert!(!node.agent.log().contains("wrong"), "the token is in the log");
}

#[tokio::test]
async fn a_tenant_that_vmauth_does_not_know_is_held_and_drops_nothing() {
    let dir = TestDir::new("direct-tenant-store").expect("a directory");
    let store = store(&dir).await;
    let address = store.url().trim_start_matches("http://").to_owned();
    let (host, port) = address.split_once(':').expect("host and port");
    // All of it from the environment.
    let env = [
        ("OBSERVABILITY_LOG_ENDPOINT_HOST", host),
        ("OBSERVABILITY_LOG_ENDPOINT_PORT", port),
        ("OBSERVABILITY_LOG_TENANT", "nobody"),
    ];
    let mut node = Node::start("direct-tenant", "", &env).await;
    let manifest = write::run(&node.writer(1_000, 0)).expect("written");
    node.until("sluice_agent_held", |held| held == 1.0).await;
    node.agent.stop(PATIENCE).await.expect("stopped");
    let variables = &mut node.agent.spec_mut().env;
    variables.retain(|(name, _)| name != "OBSERVABILITY_LOG_TENANT");
    variables.push(("OBSERVABILITY_LOG_TENANT".into(), "bank".into()));
    node.agent.restart().expect("another agent");
    check(&store, &manifest, "bank").await.assert_clean(0);
}
