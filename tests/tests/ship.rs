//! The ways between agent and gateway that are not the default: HTTP/2, gzip, TLS, several gateways,
//! connections that are replaced.

use std::fs;
use std::path::Path;
use std::time::Duration;

use rcgen::{BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair};
use sluice_harness::check::Tenants;
use sluice_harness::dirs::TestDir;
use sluice_harness::victorialogs::VictoriaLogs;
use sluice_harness::write;
use sluice_tests::{PATIENCE, Plan, Stack, store_destination};

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

/// Kills at five moments that lie unevenly in the batches' rhythm.
const MOMENTS: [u64; 5] = [700, 1130, 1510, 1890, 2270];

/// Changes a file of the stack's.
fn edit(stack: &Stack, name: &str, from: &str, to: &str) {
    let text = fs::read_to_string(stack.path(name)).expect("a file");
    assert!(text.contains(from), "{text}");
    fs::write(stack.path(name), text.replace(from, to)).expect("a file");
}

#[tokio::test]
async fn an_agent_of_two_gateways_that_is_killed_five_times_repeats_nothing() {
    let store_dir = TestDir::new("two-gateways-store").expect("a directory");
    let store = VictoriaLogs::start(store_dir.path(), &[("main", 1)]).await.expect("a store");
    let plan = Plan {
        destinations: store_destination(store.url(), "2s"),
        routed_to: vec!["store".to_owned()],
        to_gateway: ", connection_max_age: 5s, connections: 2".to_owned(),
        ..Plan::default()
    };
    let other = Stack::start("two-gateways-b", &plan).await.expect("a stack");
    let mut stack = Stack::start("two-gateways-a", &plan).await.expect("a stack");
    let urls = format!("\"{}\", \"{}\"", stack.push_url(), other.push_url());
    edit(&stack, "agent.yaml", &format!("\"{}\"", stack.push_url()), &urls);
    stack.kill_agent().await.expect("an agent of both");
    let running = write::spawn(write::Config {
        namespaces: ["a", "b", "c"].map(str::to_owned).to_vec(),
        containers: 9,
        duration: Some(Duration::from_secs(12)),
        rate: 3_000,
        ..stack.writer()
    });
    for wait in MOMENTS {
        tokio::time::sleep(Duration::from_millis(wait)).await;
        stack.kill_agent().await.expect("another agent");
    }
    let manifest = running.wait().expect("written");
    let report = stack.check_store(store.url(), &manifest, Tenants::single("main"), PATIENCE).await.expect("asked");
    report.assert_clean(0);
    for gateway in [&stack, &other] {
        let accepted = gateway.gateway_metrics().await.expect("metrics");
        let accepted = accepted.get("sluice_gateway_receive_accepted_lines_total", &[]);
        assert!(accepted > Some(0.0), "both gateways have a part: {accepted:?}");
    }
}

/// A CA of its own, certificates of gateway and agent, and their keys, as `ca`, `gateway`, `agent`, `….key`.
fn write_certificates(dir: &Path) {
    let key = KeyPair::generate().expect("a key");
    let mut params = CertificateParams::new(Vec::new()).expect("parameters");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let ca = params.self_signed(&key).expect("a certificate").pem();
    let issuer = Issuer::new(params, key);
    for (name, usage) in
        [("gateway", ExtendedKeyUsagePurpose::ServerAuth), ("agent", ExtendedKeyUsagePurpose::ClientAuth)]
    {
        let key = KeyPair::generate().expect("a key");
        let mut params = CertificateParams::new(vec!["localhost".to_owned()]).expect("parameters");
        params.extended_key_usages = vec![usage];
        let certificate = params.signed_by(&key, &issuer).expect("a certificate");
        fs::write(dir.join(name), certificate.pem()).expect("a file");
        fs::write(dir.join(format!("{name}.key")), key.serialize_pem()).expect("a file");
    }
    fs::write(dir.join("ca"), ca).expect("a file");
}

#[tokio::test]
async fn certificates_of_a_new_ca_are_used_without_a_restart() {
    let plan = Plan { to_gateway: ", connection_max_age: 5s, protocol: auto".to_owned(), ..Plan::default() };
    let mut stack = Stack::start("tls", &plan).await.expect("a stack");
    let dir = stack.path("tls");
    fs::create_dir_all(&dir).expect("a directory");
    write_certificates(&dir);
    let at = |name: &str| dir.join(name).display().to_string();
    let address = stack.push_url().trim_start_matches("http://").to_owned();
    let tls = format!("tls: {{certificate: {}, key: {}, client_ca: {}}}", at("gateway"), at("gateway.key"), at("ca"));
    edit(&stack, "gateway.yaml", &format!("\"{address}\"}}"), &format!("\"{address}\", {tls}}}"));
    // By the certificate alone: nobody else is let in.
    edit(&stack, "gateway.yaml", "{name: local, loopback: true}", "{name: agents, san: localhost}");
    let https = format!("https://localhost:{}", address.split(':').nth(1).expect("a port"));
    let files = format!("ca_file: {}, certificate_file: {}, key_file: {}", at("ca"), at("agent"), at("agent.key"));
    edit(&stack, "agent.yaml", &format!("\"{}\"]", stack.push_url()), &format!("\"{https}\"], {files}"));
    stack.kill_gateway().await.expect("a gateway over TLS");
    stack.kill_agent().await.expect("an agent over TLS");
    let duration = Some(Duration::from_secs(20));
    let running = write::spawn(write::Config { duration, rate: 500, containers: 2, ..stack.writer() });
    stack.until_agent("sluice_agent_acknowledged_records_total", &[], |records| records > 0.0).await.expect("stored");
    write_certificates(&dir);
    let manifest = running.wait().expect("written");
    stack.check_files(&manifest, Tenants::single("main")).await.expect("read").assert_clean(0);
    let lines = manifest.lines() as f64;
    stack.until_agent("sluice_agent_acknowledged_records_total", &[], |records| records >= lines).await.expect("all");
}
