//! Five hundred pods come and go, objects of a real API server and files as the kubelet and a runtime lay them, and
//! leave nothing behind in the agent: no descriptor, no series, no memory. No node: this needs no root.
//!
//! MINUTES   over which they come; default: 1. From ten minutes on memory is looked at, too, from the fifth on

use std::collections::HashMap;
use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use sluice_harness::metrics::Metrics;
use sluice_harness::ports;
use sluice_harness::process::{Program, Spec};
use sluice_kube_tests::cluster::NODE;
use sluice_kube_tests::gateway::Gateway;
use sluice_kube_tests::server::Server;
use tokio::task::JoinSet;

const PODS: usize = 500;
/// Each lives so long, at most.
const LIFE: Duration = Duration::from_secs(10);
/// Lines of a pod, over three files.
const LINES: usize = 300;
/// They are in so many namespaces, one after the other: what is known of one goes while the next ones come.
const NAMESPACES: usize = 20;
/// Between two looks at the agent.
const SAMPLE_EVERY: Duration = Duration::from_secs(5);
/// How long anything may take, where nothing else is said.
const PATIENCE: Duration = Duration::from_secs(60);
/// After which the agent forgets what is gone: twice that after its last pod a namespace has no series.
const FORGET_AFTER: Duration = Duration::from_secs(10);
/// What memory may grow by from the fifth minute on.
const GROWTH: f64 = 1.05;
/// From which minute on memory is held to be settled.
const SETTLED: Duration = Duration::from_secs(5 * 60);

/// What the agent takes at a moment.
#[derive(Debug, Clone, Copy)]
struct Sample {
    at: Duration,
    rss_kib: u64,
    descriptors: usize,
    series: usize,
    /// Namespaces that have series.
    scopes: usize,
    logs: f64,
}

struct Rig {
    // Dropped in this order.
    agent: Program,
    agent_admin: String,
    _gateway: Gateway,
    cluster: Arc<Server>,
}

impl Rig {
    async fn start() -> Result<Self> {
        let cluster = Server::start()?;
        let path = |name: &str| cluster.path(name);
        let agent_admin = ports::free()?;
        fs::create_dir_all(path("pods"))?;
        let gateway = Gateway::start(path).await?;
        let push = gateway.push;
        fs::write(
            path("agent.yaml"),
            format!(
                "cluster: test\nenvironment: test\nnode: {NODE}\nstate_directory: {}\npods: {}\n\
                 first_start: beginning\nforget_after: {}s\nadmin: 127.0.0.1:{agent_admin}\n\
                 kubernetes: {{source: watch, kubeconfig: {}, labels: true, linger: 10s}}\n\
                 gateway: {{urls: [\"http://127.0.0.1:{push}\"]}}\n",
                path("state").display(),
                path("pods").display(),
                FORGET_AFTER.as_secs(),
                cluster.kubeconfig().display(),
            ),
        )?;
        let spec = Spec::ours("sluice-agent", path("agent.log"))?;
        let mut agent = Program::start(spec.arg("run").arg("--config").arg(path("agent.yaml")))?;
        let agent_admin = format!("http://127.0.0.1:{agent_admin}");
        agent.wait_for_http(&format!("{agent_admin}/readyz"), PATIENCE).await?;
        for nth in 0..NAMESPACES {
            cluster.api().create_namespace(&namespace(nth)).await?;
        }
        Ok(Self { agent, agent_admin, _gateway: gateway, cluster: Arc::new(cluster) })
    }

    async fn sample(&mut self, start: Instant) -> Result<Sample> {
        let url = format!("{}/metrics", self.agent_admin);
        let text = reqwest::get(&url).await?.text().await?;
        let metrics = Metrics::parse(&text);
        let of_ours = |sample: &&sluice_harness::metrics::Sample| {
            sample.labels.iter().any(|(name, value)| name == "scope" && value.starts_with("wave-"))
        };
        Ok(Sample {
            at: start.elapsed(),
            rss_kib: self.agent.rss_kib(),
            descriptors: fs::read_dir(format!("/proc/{}/fd", self.agent.pid()))?.count(),
            series: text.lines().filter(|line| !line.starts_with('#')).count(),
            scopes: metrics.matching("sluice_agent_books_written_bytes_total", &[]).filter(of_ours).count(),
            logs: metrics.get("sluice_agent_logs", &[]).context("no sluice_agent_logs")?,
        })
    }

    /// Waits until the agent has forgotten all of our pods, and has so many descriptors at most: connections that were
    /// replaced go a little later. Gives the last look.
    async fn until_forgotten(&mut self, start: Instant, descriptors: usize) -> Result<Sample> {
        let since = Instant::now();
        loop {
            let sample = self.sample(start).await?;
            if sample.logs == 0.0 && sample.scopes == 0 && sample.descriptors <= descriptors {
                return Ok(sample);
            }
            ensure!(since.elapsed() < FORGET_AFTER * 3 + PATIENCE, "the agent does not forget: {sample:?}");
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
    }
}

fn namespace(nth: usize) -> String {
    format!("wave-{nth:02}")
}

/// A pod's whole life.
async fn live(cluster: Arc<Server>, nth: usize, namespace: String) -> Result<()> {
    let name = format!("pod-{nth}");
    let api = cluster.api();
    let pod = json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": name, "labels": {"app": "pod", "nth": nth.to_string()}},
        "spec": {"nodeName": NODE, "automountServiceAccountToken": false, "enableServiceLinks": false,
            "containers": [{"name": "app", "image": "registry.example.com/app:1"}]},
    });
    api.create_pod(&namespace, &pod.to_string()).await?;
    let pod = api.pod(&namespace, &name).await?.context("the pod")?;
    let uid = pod["metadata"]["uid"].as_str().context("a uid")?;
    let container = cluster.path("pods").join(format!("{namespace}_{name}_{uid}")).join("app");
    fs::create_dir_all(&container)?;
    for file in 0..3 {
        let lines = file * LINES / 3..(file + 1) * LINES / 3;
        write_lines(&container.join("0.log"), nth, lines)?;
        tokio::time::sleep(LIFE / 3).await;
        if file < 2 {
            fs::rename(container.join("0.log"), container.join(format!("0.log.20260101-00000{file}")))?;
        }
    }
    api.delete_pod(&namespace, &name, 0).await?;
    // The kubelet removes a pod's logs some time after the pod.
    tokio::time::sleep(Duration::from_secs(1)).await;
    fs::remove_dir_all(container.parent().context("a parent")?)?;
    Ok(())
}

fn write_lines(path: &Path, pod: usize, lines: std::ops::Range<usize>) -> Result<()> {
    let now = jiff::Timestamp::now();
    let text: String = lines
        .map(|line| format!("{now:.9} stdout F pod {pod} line {line} {}\n", "x".repeat(100 + line % 100)))
        .collect();
    OpenOptions::new().create(true).append(true).open(path)?.write_all(text.as_bytes())?;
    Ok(())
}

/// Every line of every pod that arrived: how often, and whether with its labels.
fn delivered(directory: &Path) -> Result<HashMap<(usize, usize), (u32, bool)>> {
    let mut found = HashMap::new();
    for path in files(directory)? {
        for record in fs::read_to_string(&path)?.lines() {
            let record: Value = serde_json::from_str(record)?;
            let mut words = record["_msg"].as_str().unwrap_or_default().split(' ');
            let (Some("pod"), Some(pod), Some("line"), Some(line)) =
                (words.next(), words.next(), words.next(), words.next())
            else {
                continue;
            };
            let is_labelled = record["k8s_labels"]["nth"] == pod;
            let seen = found.entry((pod.parse()?, line.parse()?)).or_insert((0, true));
            *seen = (seen.0 + 1, seen.1 && is_labelled);
        }
    }
    Ok(found)
}

fn files(directory: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory)? {
        let path = entry?.path();
        if path.is_dir() {
            found.extend(files(&path)?);
        } else if path.extension().is_some_and(|extension| extension == "jsonl") {
            found.push(path);
        }
    }
    Ok(found)
}

#[tokio::test(flavor = "multi_thread")]
async fn five_hundred_pods_come_and_go_and_leave_nothing_behind() {
    let minutes: f64 = std::env::var("MINUTES").map_or(1.0, |text| text.parse().expect("MINUTES is a number"));
    let mut rig = Rig::start().await.expect("a rig");
    let start = Instant::now();
    // One has been there before: connections are open, and what is made once is made.
    live(rig.cluster.clone(), PODS, namespace(0)).await.expect("a pod's life");
    let before = rig.until_forgotten(start, usize::MAX).await.expect("forgotten");
    println!("{before:?}");

    let start = Instant::now();
    let every = Duration::from_secs_f64((minutes * 60.0 - LIFE.as_secs_f64()).max(1.0) / PODS as f64);
    let mut living = JoinSet::new();
    let mut samples = Vec::new();
    for nth in 0..PODS {
        tokio::time::sleep((every * u32::try_from(nth).expect("few")).saturating_sub(start.elapsed())).await;
        living.spawn(live(rig.cluster.clone(), nth, namespace(nth * NAMESPACES / PODS)));
        if samples.last().is_none_or(|last: &Sample| start.elapsed() - last.at >= SAMPLE_EVERY) {
            samples.push(rig.sample(start).await.expect("a sample"));
            println!("{:?}", samples[samples.len() - 1]);
        }
    }
    while let Some(ended) = living.join_next().await {
        ended.expect("no panic").expect("a pod's life");
    }
    let over = start.elapsed();
    let after = rig.until_forgotten(start, before.descriptors).await.expect("forgotten");
    println!("{after:?}");

    assert!(samples.iter().any(|sample| sample.descriptors > before.descriptors), "it opened files: {samples:?}");
    assert!(after.descriptors <= before.descriptors, "{before:?}: {after:?}");
    assert_eq!(after.series, before.series, "{before:?}: {after:?}");
    let most = samples.iter().map(|sample| sample.scopes).max().expect("samples");
    assert!(most > 0, "namespaces have series while they have pods");
    if over > SETTLED * 2 {
        assert!(most < NAMESPACES, "series of the first namespaces go while later ones come: {samples:?}");
        let settled: Vec<_> = samples.iter().filter(|sample| sample.at >= SETTLED).collect();
        let minute = |of: &[&Sample]| of.iter().map(|sample| sample.rss_kib).max().expect("samples") as f64;
        let per_minute = 60 / usize::try_from(SAMPLE_EVERY.as_secs()).expect("few");
        let (first, last) = (minute(&settled[..per_minute]), minute(&settled[settled.len() - per_minute..]));
        assert!(last <= first * GROWTH, "memory grew from {first} to {last} KiB");
    }
    let mut arrived = delivered(&rig.cluster.path("delivered")).expect("what arrived");
    arrived.retain(|(pod, _), _| *pod < PODS);
    assert_eq!(arrived.len(), PODS * LINES, "lines that arrived");
    assert!(arrived.values().all(|(times, _)| *times == 1), "some came twice");
    assert!(arrived.values().all(|(_, is_labelled)| *is_labelled), "some have not their pod's labels");
}
