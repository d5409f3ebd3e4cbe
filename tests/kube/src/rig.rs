//! The agent under test, its gateway, and what befalls them while pods come and go.

mod agent;
mod daemon;
mod faults;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use sluice_harness::metrics::Metrics;
use sluice_harness::ports;
use sluice_harness::process::{Program, our_binary};
use tokio::sync::Mutex;

use crate::cluster::Cluster;
use crate::delivered::{self, Delivered};
use crate::disk::Disk;
use crate::gateway::Gateway;
use crate::pods::{Writers, Writing};
use crate::verdict::{Verdict, verdict};
use crate::witness::Witness;

use agent::Agent;
pub use agent::Kind;
pub use faults::{Fault, Faults};

/// How long anything may take to start.
const PATIENCE: Duration = Duration::from_secs(180);
/// How long what is written may be on its way once nobody writes any more.
const DRAIN: Duration = Duration::from_secs(180);
/// No byte more for so long, with nothing on its way: all is there.
const QUIET: Duration = Duration::from_secs(6);
/// How long the agent runs between its ends, from when it is ready: as a process, and as a pod, whose kubelet waits
/// for 10 to 15 s before it starts a container again that ended early.
const KILL_EVERY: [Duration; 2] = [Duration::from_secs(10), Duration::from_secs(20)];
/// How long the gateway is away.
const GATEWAY_AWAY: Duration = Duration::from_secs(30);
/// How long the API server is away, in seconds.
const API_AWAY: u64 = 3;
/// Between two pods that live for a moment.
const SHORT_EVERY: Duration = Duration::from_secs(2);
/// Between two pods that are removed while they write much.
const VICTIM_EVERY: Duration = Duration::from_secs(12);
/// How long such a pod lives.
const VICTIM_LIFE: Duration = Duration::from_secs(8);

/// Where our pods are: lines of a namespace travel together, so that neighbours in it wait for each other, and
/// those of another do not. One noisy pod is among the quiet ones.
const NAMESPACES: [&str; 5] = ["quiet", "noisy", "loops", "shorts", "victims"];
/// Lines a second that are enough for a rotation at nearly every look of the kubelet's.
const FAST: u64 = 2_500;

/// What a run is to be.
#[derive(Debug, Clone)]
pub struct Plan {
    /// How the agent runs.
    pub agent: Kind,
    /// How long pods write.
    pub duration: Duration,
    /// Decides the lines and the moments.
    pub seed: u64,
    /// What befalls it.
    pub faults: BTreeSet<Fault>,
}

/// A run that is over. While it lives its node does, and when it is dropped in a panic its files are kept.
#[derive(Debug)]
pub struct Run {
    /// How it came out.
    pub verdict: Verdict,
    rig: Rig,
    _witness: Witness,
}

impl Run {
    /// Its node.
    #[must_use]
    pub fn cluster(&self) -> &Cluster {
        &self.rig.cluster
    }
}

#[derive(Debug)]
struct Rig {
    // Dropped in this order.
    agent: Mutex<Agent>,
    gateway: Mutex<Program>,
    gateway_admin: String,
    cluster: Cluster,
    writers: std::sync::Mutex<Writers>,
    faults: std::sync::Mutex<Faults>,
    plan: Plan,
}

/// Runs a node for a while, with everything that happens to one, and compares.
///
/// # Errors
/// What could not be started or read: not what the agent did, which is the verdict.
///
/// # Panics
/// When a part of the rig did.
pub async fn run(plan: &Plan) -> Result<Run> {
    // The random part of every line, so that it is none of another run's.
    let number = u32::try_from(plan.seed & 0xffff_ffff).unwrap_or_default();
    let cluster = Cluster::start(&[writer()?, our_binary("sluice-agent")?])?;
    let mut witness = Witness::start(Path::new("/var/log/pods"))?;
    let rig = Rig::start(plan, number, cluster).await?;
    let (start, start_ns) = (Instant::now(), faults::now());
    rig.populate().await?;
    tokio::try_join!(
        rig.kill_agents(start),
        rig.take_gateway_away(start),
        rig.take_api_away(start),
        rig.make_short_pods(start),
        rig.make_victims(start),
    )?;
    fs::write(rig.shared().join("stop"), "")?;
    let over_ns = faults::now();
    let drained = rig.drain().await;
    println!("{}", rig.metrics().await);
    let imbalance = rig.imbalance().await;
    let testimony = witness.testify()?;
    let disk = Disk::read(number, &testimony)?;
    let delivered = Delivered::read(number, &rig.cluster.path("delivered"))?;
    let faults = rig.faults.lock().expect("not poisoned").clone();
    let (killed, away) = faults.share(Fault::AgentDown, start_ns, over_ns);
    let seconds = (over_ns - start_ns) as f64 / 1e9;
    println!(
        "the agent was running {:.1} % of {seconds:.0} s: killed {killed} times, away for {:.1} s each time",
        100.0 * (1.0 - away / seconds),
        away / killed.max(1) as f64,
    );
    println!(
        "{} files of {} logs, {} MiB; records of others on the disk: {}",
        disk.files.len(),
        disk.logs.len(),
        disk.bytes >> 20,
        disk.foreign,
    );
    let mut verdict = verdict(&disk, &delivered, &delivered.gaps, &faults, &testimony.doubts);
    if imbalance != Some(0.0) {
        verdict.wrong.push(format!("the agent's books are off by {imbalance:?} bytes"));
    }
    if plan.agent == Kind::Pod {
        verdict.judge_labels(&disk, &delivered, &faults);
    }
    if let Err(error) = drained {
        verdict.wrong.push(format!("{error:#}"));
    }
    Ok(Run { verdict, rig, _witness: witness })
}

/// The writer beside this program: a binary of this crate.
fn writer() -> Result<PathBuf> {
    our_binary("sluice-kube-writer").context("cargo builds it with the tests of its crate")
}

impl Rig {
    async fn start(plan: &Plan, number: u32, cluster: Cluster) -> Result<Self> {
        let path = |name: &str| cluster.path(name);
        let agent_admin = ports::free()?;
        let shared = path("shared");
        fs::create_dir_all(&shared)?;
        let Gateway { program: gateway, push, admin: gateway_admin } = Gateway::start(path).await?;
        for namespace in NAMESPACES {
            cluster.api().create_namespace(namespace).await?;
        }
        let agent = Agent::start(plan.agent, &cluster, push, agent_admin).await?;
        Ok(Self {
            agent: Mutex::new(agent),
            gateway: Mutex::new(gateway),
            gateway_admin,
            writers: std::sync::Mutex::new(Writers::new(number, plan.seed, &shared)),
            faults: std::sync::Mutex::default(),
            plan: plan.clone(),
            cluster,
        })
    }

    fn shared(&self) -> PathBuf {
        self.cluster.path("shared")
    }

    /// Thirty pods, of which two are removed and made again while the run goes on.
    async fn populate(&self) -> Result<()> {
        let steady = |rate, line_size| vec![Writing { rate, line_size, ..Writing::default() }];
        let looping = |lines, rate| vec![Writing { lines, rate, exit: Some(1), ..Writing::default() }];
        for at in 0..12 {
            self.make("quiet", &format!("steady-{at}"), false, &steady(10 + 10 * at, 200)).await?;
        }
        for at in 0..4 {
            self.make(if at == 0 { "quiet" } else { "noisy" }, &format!("fast-{at}"), false, &steady(FAST, 200))
                .await?;
        }
        for at in 0..2 {
            self.make("quiet", &format!("long-{at}"), false, &steady(5, 40_000)).await?;
            self.make("quiet", &format!("pair-{at}"), false, &[steady(100, 300), steady(30, 2_000)].concat()).await?;
        }
        for at in 0..8 {
            self.make("loops", &format!("loop-{at}"), true, &looping(20 + 60 * at, if at < 6 { 0 } else { 200 }))
                .await?;
        }
        Ok(())
    }

    async fn make(&self, namespace: &str, name: &str, restart: bool, containers: &[Writing]) -> Result<()> {
        let pod = self.writers.lock().expect("not poisoned").pod(name, restart, containers);
        self.cluster.api().create_pod(namespace, &pod).await
    }

    fn is_over(&self, start: Instant) -> bool {
        start.elapsed() >= self.plan.duration
    }

    async fn wait_until(&self, start: Instant, after: Duration) {
        tokio::time::sleep(after.min(self.plan.duration).saturating_sub(start.elapsed())).await;
    }

    async fn kill_agents(&self, start: Instant) -> Result<()> {
        if !self.plan.faults.contains(&Fault::AgentDown) {
            return Ok(());
        }
        let mut nth = 1_u64;
        loop {
            // At another moment of its second each time, and away for up to three.
            let away = Duration::from_millis((self.plan.seed.wrapping_add(nth).wrapping_mul(997)) % 3_000);
            self.wait_until(start, start.elapsed() + KILL_EVERY[usize::from(self.plan.agent == Kind::Pod)] + away / 5)
                .await;
            if self.is_over(start) {
                return Ok(());
            }
            let mut ongoing = None;
            self.agent.lock().await.kill(&self.cluster, away, || ongoing = Some(self.begin(Fault::AgentDown))).await?;
            self.end(ongoing.context("it was killed")?);
            nth += 1;
        }
    }

    async fn take_gateway_away(&self, start: Instant) -> Result<()> {
        if !self.plan.faults.contains(&Fault::GatewayAway) {
            return Ok(());
        }
        self.wait_until(start, self.plan.duration / 4).await;
        let mut gateway = self.gateway.lock().await;
        let ongoing = self.begin(Fault::GatewayAway);
        gateway.stop(PATIENCE).await?;
        tokio::time::sleep(GATEWAY_AWAY).await;
        gateway.restart()?;
        gateway.wait_for_http(&format!("{}/readyz", self.gateway_admin), PATIENCE).await?;
        self.end(ongoing);
        Ok(())
    }

    async fn take_api_away(&self, start: Instant) -> Result<()> {
        if !self.plan.faults.contains(&Fault::ApiAway) {
            return Ok(());
        }
        self.wait_until(start, self.plan.duration * 7 / 10).await;
        let ongoing = self.begin(Fault::ApiAway);
        self.cluster.restart_api(API_AWAY).await?;
        self.end(ongoing);
        Ok(())
    }

    /// Pods that write a little, end, and are removed at once.
    async fn make_short_pods(&self, start: Instant) -> Result<()> {
        let mut nth = 0;
        while !self.is_over(start) {
            let name = format!("short-{nth}");
            let writing = Writing { rate: 0, lines: 10 + 37 * u64::from(nth % 7), exit: Some(0), ..Writing::default() };
            self.make("shorts", &name, false, &[writing]).await?;
            let ended = |pod: Option<&serde_json::Value>| {
                pod.is_none_or(|pod| matches!(pod["status"]["phase"].as_str(), Some("Succeeded" | "Failed")))
            };
            self.cluster.api().until("shorts", &name, PATIENCE, ended).await?;
            self.cluster.api().delete_pod("shorts", &name, 0).await?;
            nth += 1;
            self.wait_until(start, SHORT_EVERY * nth).await;
        }
        Ok(())
    }

    /// Pods that write much, and one that writes long lines, and are removed in the middle of it.
    async fn make_victims(&self, start: Instant) -> Result<()> {
        let mut nth = 0;
        while start.elapsed() + VICTIM_LIFE < self.plan.duration {
            let names = [format!("victim-{nth}a"), format!("victim-{nth}b")];
            for name in &names {
                let fast = Writing { rate: FAST, ..Writing::default() };
                let long = Writing { rate: 4, line_size: 60_000, stutter: 150, ..Writing::default() };
                self.make("victims", name, false, &[fast, long]).await?;
            }
            tokio::time::sleep(VICTIM_LIFE).await;
            // One with a second of grace, in which it goes on writing, one without.
            for (name, grace) in names.iter().zip([1, 0]) {
                self.cluster.api().delete_pod("victims", name, grace).await?;
            }
            nth += 1;
            self.wait_until(start, VICTIM_EVERY * nth).await;
        }
        Ok(())
    }

    /// Waits until nothing is on its way any more.
    async fn drain(&self) -> Result<()> {
        let start = Instant::now();
        let directory = self.cluster.path("delivered");
        let (mut bytes, mut since) = (0, Instant::now());
        loop {
            let now = delivered::bytes(&directory);
            if now != bytes {
                (bytes, since) = (now, Instant::now());
            }
            let held = self.held().await;
            if held == Some(0.0) && since.elapsed() >= QUIET {
                return Ok(());
            }
            if start.elapsed() >= DRAIN {
                bail!("not drained after {DRAIN:?}: {held:?} records and bytes are held or unread");
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }

    /// Bytes that the agent knows it has to read, and records that it has read and not delivered.
    async fn held(&self) -> Option<f64> {
        let metrics = Metrics::fetch(&self.agent.lock().await.metrics_url()).await.ok()?;
        Some(metrics.get("sluice_agent_unread_bytes", &[])? + metrics.get("sluice_agent_held_records", &[])?)
    }

    /// What the agent's books are off by.
    async fn imbalance(&self) -> Option<f64> {
        let metrics = Metrics::fetch(&self.agent.lock().await.metrics_url()).await.ok()?;
        metrics.get("sluice_agent_books_imbalance_bytes", &[])
    }

    /// What the agent says of its last life.
    async fn metrics(&self) -> String {
        let Ok(metrics) = Metrics::fetch(&self.agent.lock().await.metrics_url()).await else {
            return "the agent gives no metrics".to_owned();
        };
        let shown =
            |name: &str| format!("{name} {}", metrics.get(&format!("sluice_agent_{name}"), &[]).unwrap_or(-1.0));
        let names = [
            "read_lines_total",
            "torn_lines_total",
            "unreadable_total",
            "possible_duplicate_records_total",
            "unringed_blocks_total",
            "dead_letter_records_total",
            "unread_bytes",
            "held_records",
            "open_files",
            "logs",
            "scan_only",
        ];
        format!("the agent since its last start: {}", names.map(shown).join(", "))
    }

    fn begin(&self, fault: Fault) -> usize {
        self.faults.lock().expect("not poisoned").begin(fault)
    }

    fn end(&self, ongoing: usize) {
        self.faults.lock().expect("not poisoned").end(ongoing);
    }
}
