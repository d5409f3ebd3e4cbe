//! Settings that change while logs are read, out of a ConfigMap as the kubelet swaps it.

use std::fs::{self, File};
use std::io::Write as _;
use std::os::unix::fs::symlink;
use std::path::PathBuf;
use std::time::Duration;

use sluice_harness::check::Tenants;
use sluice_harness::process::Signal;
use sluice_harness::write::{self, Rotation};
use sluice_tests::{PATIENCE, Plan, Stack, files_below};

/// The settings as a mounted ConfigMap: `agent.yaml` leads to `..data/agent.yaml`, and `..data` to a directory
/// that is replaced as a whole.
struct ConfigMap {
    directory: PathBuf,
    versions: u32,
    /// What was there at first.
    text: String,
}

impl ConfigMap {
    fn mount(stack: &Stack) -> Self {
        let file = stack.path("agent.yaml");
        let directory = file.parent().expect("a directory").to_owned();
        let text = fs::read_to_string(&file).expect("settings");
        let mut map = Self { directory, versions: 0, text: text.clone() };
        map.replace(&text);
        symlink("..data/agent.yaml", map.directory.join("agent.yaml.new")).expect("a link");
        fs::rename(map.directory.join("agent.yaml.new"), file).expect("replaced");
        map
    }

    fn replace(&mut self, text: &str) {
        self.versions += 1;
        let version = format!("..version_{}", self.versions);
        let new = self.directory.join(&version);
        fs::create_dir(&new).expect("a directory");
        fs::write(new.join("agent.yaml"), text).expect("settings");
        symlink(&version, self.directory.join("..data_tmp")).expect("a link");
        fs::rename(self.directory.join("..data_tmp"), self.directory.join("..data")).expect("swapped");
    }

    /// What was there at first, and `more`.
    fn add(&mut self, more: &str) {
        self.replace(&format!("{}{more}", self.text));
    }
}

/// A log in a namespace of its own that is written by hand.
struct Secrets(File);

impl Secrets {
    fn open(stack: &Stack) -> Self {
        let directory = stack.pods().join("secrets_pod_uid/app");
        fs::create_dir_all(&directory).expect("a directory");
        Self(File::create(directory.join("0.log")).expect("a log"))
    }

    fn say(&mut self, text: &str) {
        writeln!(self.0, "2026-10-26T10:15:30.123456789Z stdout F {text}").expect("written");
    }
}

/// Messages that were delivered of [`Secrets`].
fn delivered(stack: &Stack) -> Vec<String> {
    let mut messages = Vec::new();
    for path in files_below(&stack.delivered(), ".jsonl") {
        for line in fs::read_to_string(path).expect("a delivered file").lines() {
            let record: serde_json::Value = serde_json::from_str(line).expect("a record");
            if record["k8s_namespace_name"] == "secrets" {
                messages.push(record["_msg"].as_str().expect("a message").to_owned());
            }
        }
    }
    messages
}

async fn until_delivered(stack: &Stack, messages: usize) -> Vec<String> {
    let started = std::time::Instant::now();
    loop {
        let found = delivered(stack);
        if found.len() >= messages || started.elapsed() > PATIENCE {
            return found;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

async fn readyz(admin: &str) -> String {
    let client = reqwest::Client::builder().no_proxy().build().expect("a client");
    let reply = client.get(format!("http://{admin}/readyz?verbose")).send().await.expect("an answer");
    assert!(reply.status().is_success(), "what is wrong with a file does not make an agent unready");
    reply.text().await.expect("a text")
}

const RELOADED: &str = "settings reloaded";
const MASK: &str = "redact: {rules: [{name: email, namespaces: [secrets]}]}\n";

#[tokio::test]
async fn settings_swapped_under_load_hold_from_then_on_and_lose_and_repeat_nothing() {
    let mut stack = Stack::start("reload", &Plan::default()).await.expect("a stack");
    let admin = fs::read_to_string(stack.path("agent.yaml")).expect("settings");
    let admin = admin.lines().find_map(|line| line.strip_prefix("admin: ")).expect("an address").to_owned();
    let mut secrets = Secrets::open(&stack);
    let running = write::spawn(write::Config {
        namespaces: ["a", "b"].map(str::to_owned).to_vec(),
        containers: 6,
        duration: Some(Duration::from_secs(22)),
        rate: 3_000,
        rotation: Rotation { every: Some(Duration::from_secs(2)), cut: true, ..Rotation::default() },
        ..stack.writer()
    });
    secrets.say("one bob@example.com");
    assert_eq!(until_delivered(&stack, 1).await, ["one bob@example.com"]);

    // What is not to come to anybody's ears, and as much else as can change, at once.
    let push = stack.push_url().to_owned();
    let agent = stack.agent.pid();
    let mut map = ConfigMap::mount(&stack);
    let gateway = format!("gateway: {{urls: [\"{push}\"]}}");
    assert!(map.text.contains(&gateway), "{}", map.text);
    let more = format!(
        "{MASK}block_age: 200ms\nweights: [{{namespaces: [a], weight: 3}}]\n\
         budgets: [{{namespaces: [b], rate: 64MiB, policy: delay}}]\nmultiline: {{default: auto}}\npoll_interval: 50ms\n"
    );
    let swapped =
        map.text.replace(&gateway, &format!("gateway: {{urls: [\"{push}\"], connections: 3, compression: gzip}}"));
    map.replace(&format!("{swapped}{more}"));
    let line = stack.agent.wait_for_log(RELOADED, PATIENCE).await.expect("reloaded");
    for part in ["block_age", "budgets", "gateway", "multiline", "poll_interval", "redact", "weights"] {
        assert!(line.contains(part), "{part} in {line}");
    }
    secrets.say("two bob@example.com");
    assert_eq!(until_delivered(&stack, 2).await, ["one bob@example.com", "two [redacted:email]"]);

    // A fault changes nothing and is told.
    map.add("redact: {rules: [emial]}\nblock_age: 9s\n");
    stack.until_agent("sluice_agent_config_reload_failed", &[], |failed| failed == 1.0).await.expect("told");
    let verbose = readyz(&admin).await;
    assert!(verbose.contains("[!] config: ") && verbose.contains("redact.rules[0]"), "{verbose}");
    secrets.say("three bob@example.com");
    assert_eq!(until_delivered(&stack, 3).await[2], "three [redacted:email]");

    // Mended, on a signal; one part has to wait.
    map.add("spool_bytes: 32MiB\n");
    stack.agent.signal(Signal::HUP).expect("told");
    stack.until_agent("sluice_agent_config_needs_restart", &[], |needs| needs == 1.0).await.expect("told");
    let verbose = readyz(&admin).await;
    assert!(verbose.contains("[+] config: ") && verbose.contains("needs a restart: spool_bytes"), "{verbose}");
    secrets.say("four bob@example.com");
    assert_eq!(until_delivered(&stack, 4).await[3], "four bob@example.com");

    let manifest = running.wait().expect("written");
    let report = stack.check_files(&manifest, Tenants::single("main")).await.expect("read");
    report.assert_clean(0);
    assert_eq!(report.out_of_order, Some(0), "{report}");
    assert_eq!(stack.agent.pid(), agent, "it was the same agent all the time");
    let metrics = stack.agent_metrics().await.expect("metrics");
    assert_eq!(metrics.get("sluice_agent_config_reload_failed", &[]), Some(0.0));
    assert_eq!(metrics.get("sluice_agent_possible_duplicate_records_total", &[]), Some(0.0));
    assert_eq!(metrics.get("sluice_agent_redactions_total", &[("rule", "email")]), Some(2.0));
    assert_eq!(stack.agent.log().matches(RELOADED).count(), 2, "each change once");
    let pages = stack.closed_books().await.expect("closed");
    assert!(pages.len() >= 7, "{} pages", pages.len());
}

#[tokio::test]
async fn an_agent_moves_to_another_gateway_without_a_restart() {
    let stack = Stack::start("reload-from", &Plan::default()).await.expect("a stack");
    let other = Stack::start("reload-to", &Plan::default()).await.expect("a stack");
    let running = write::spawn(write::Config {
        containers: 4,
        duration: Some(Duration::from_secs(14)),
        rate: 2_000,
        ..stack.writer()
    });
    stack.until_agent("sluice_agent_acknowledged_records_total", &[], |records| records > 0.0).await.expect("stored");
    let mut map = ConfigMap::mount(&stack);
    let moved = map.text.replace(stack.push_url(), other.push_url());
    map.replace(&moved);
    let manifest = running.wait().expect("written");
    let lines = manifest.lines() as f64;
    stack.until_agent("sluice_agent_acknowledged_records_total", &[], |records| records >= lines).await.expect("all");
    let mut taken = 0.0;
    for gateway in [&stack, &other] {
        let metrics = gateway.gateway_metrics().await.expect("metrics");
        let accepted = metrics.get("sluice_gateway_receive_accepted_lines_total", &[]).unwrap_or(0.0);
        assert!(accepted > 0.0, "each gateway has a part");
        taken += accepted;
    }
    assert_eq!(taken, lines, "each line is at one of them, once");
    let metrics = stack.agent_metrics().await.expect("metrics");
    assert_eq!(metrics.get("sluice_agent_possible_duplicate_records_total", &[]), Some(0.0));
}
