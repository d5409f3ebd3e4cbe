//! The agent, as a process of this machine or as a pod of the node.

use std::fs;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use sluice_harness::metrics::Metrics;
use sluice_harness::process::{Program, Spec};

use super::PATIENCE;
use super::daemon::{self, NAMESPACE, POD};
use crate::api::Api;
use crate::cluster::{Cluster, NODE};

/// How the agent runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// As a process of this machine.
    Process,
    /// As a DaemonSet's pod on the node, restarted by the kubelet, watching the API server by its service account.
    Pod,
}

#[derive(Debug)]
pub(super) struct Agent {
    running: Running,
    admin: String,
}

#[derive(Debug)]
enum Running {
    Process(Box<Program>),
    Pod(Api),
}

impl Agent {
    pub(super) async fn start(kind: Kind, cluster: &Cluster, push: u16, admin: u16) -> Result<Self> {
        let configuration = cluster.path("agent.yaml");
        let state = match kind {
            Kind::Process => cluster.path("state"),
            Kind::Pod => "/var/lib/sluice".into(),
        };
        fs::write(
            &configuration,
            format!(
                "cluster: test\nenvironment: test\nnode: {NODE}\nstate_directory: {}\nfirst_start: beginning\n\
                 admin: 127.0.0.1:{admin}\ngateway: {{urls: [\"http://127.0.0.1:{push}\"]}}\n",
                state.display(),
            ),
        )?;
        let running = match kind {
            Kind::Process => {
                let spec = Spec::ours("sluice-agent", cluster.path("agent.log"))?;
                Running::Process(Box::new(Program::start(spec.arg("run").arg("--config").arg(configuration))?))
            }
            Kind::Pod => {
                daemon::create(cluster, &configuration, &cluster.path("state")).await?;
                Running::Pod(cluster.api().clone())
            }
        };
        let mut agent = Self { running, admin: format!("http://127.0.0.1:{admin}") };
        agent.until_ready().await?;
        Ok(agent)
    }

    pub(super) fn metrics_url(&self) -> String {
        format!("{}/metrics", self.admin)
    }

    /// As the kernel ends it; a process is back after so long, a pod when the kubelet says so. `begun` is called
    /// when it ends.
    pub(super) async fn kill(&mut self, cluster: &Cluster, away: Duration, begun: impl FnOnce()) -> Result<()> {
        match &mut self.running {
            Running::Process(program) => {
                begun();
                program.kill();
                tokio::time::sleep(away).await;
                program.restart()?;
            }
            Running::Pod(api) => {
                let before = container(api).await?.context("the agent's container")?;
                let pid = Pid::from_raw(cluster.pid(&before)?).context("a pid")?;
                begun();
                kill_process(pid, Signal::KILL)?;
                let start = Instant::now();
                while container(api).await?.is_none_or(|now| now == before) {
                    if start.elapsed() > PATIENCE {
                        bail!("the kubelet does not start the agent again");
                    }
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            }
        }
        self.until_ready().await
    }

    async fn until_ready(&mut self) -> Result<()> {
        match &mut self.running {
            Running::Process(program) => program.wait_for_http(&format!("{}/readyz", self.admin), PATIENCE).await?,
            Running::Pod(api) => {
                let start = Instant::now();
                // A pod's log is the node's: what it says is in the records of others.
                while Metrics::fetch(&format!("{}/readyz", self.admin)).await.is_err() {
                    if start.elapsed() > PATIENCE {
                        let pod = api.pod(NAMESPACE, POD).await?.unwrap_or_default();
                        bail!("the agent's pod is not ready: {}", pod["status"]);
                    }
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
            }
        }
        Ok(())
    }
}

/// The id of the container that runs; `None`: it does not.
async fn container(api: &Api) -> Result<Option<String>> {
    let pod = api.pod(NAMESPACE, POD).await?.context("the agent's pod")?;
    let status = &pod["status"]["containerStatuses"][0];
    let id = status["containerID"].as_str().filter(|_| status["state"]["running"] != Value::Null);
    Ok(id.map(str::to_owned))
}
