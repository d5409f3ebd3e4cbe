//! The whole way of a line, started as users start it: an agent over a node's files, a gateway with its
//! journal, and real destinations. Tests in `tests/` and the long fault runs (`sluice-soak`) share it.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use sluice_harness::books::{self, Page};
use sluice_harness::check::{self, Destination, Report, Tenants};
use sluice_harness::dirs::TestDir;
use sluice_harness::manifest::Manifest;
use sluice_harness::metrics::{self, Metrics};
use sluice_harness::process::{Program, Spec};
use sluice_harness::{Result, ports, write};

/// How long anything may take to start or stop.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// An agent and a gateway on one machine, with their files below one directory.
#[derive(Debug)]
pub struct Stack {
    /// The agent.
    pub agent: Program,
    /// The gateway.
    pub gateway: Program,
    dir: TestDir,
    agent_admin: String,
    gateway_admin: String,
    gateway_push: String,
}

/// What a stack is made of.
#[derive(Debug, Clone, Default)]
pub struct Plan {
    /// The gateway's `tenants:`, `limits:` and `routes:`; empty: everything is tenant `main`'s.
    pub policy: String,
    /// The gateway's destinations but for `files`, which is always there.
    pub destinations: String,
    /// Further keys of the gateway's journal.
    pub journal: String,
    /// Names of the destinations that everything goes to; empty: `files`.
    pub routed_to: Vec<String>,
    /// Further keys of the agent.
    pub agent: String,
    /// Further keys of the agent's `gateway`, as `, compression: gzip`.
    pub to_gateway: String,
}

impl Stack {
    /// Starts a gateway and an agent, and waits until both are ready. Pods' logs are below
    /// [`Stack::pods`].
    ///
    /// # Errors
    /// What could not be started, with its log.
    pub async fn start(name: &str, plan: &Plan) -> Result<Self> {
        let dir = TestDir::new(name)?;
        let [push, gateway_admin, agent_admin] = [ports::free()?, ports::free()?, ports::free()?];
        let path = |name: &str| dir.join(name);
        fs::create_dir_all(path("pods")).expect("a directory for pods");
        fs::write(path("gateway.yaml"), gateway_config(&dir, plan, push, gateway_admin)).expect("a configuration");
        fs::write(path("agent.yaml"), agent_config(&dir, plan, push, agent_admin)).expect("a configuration");
        let program = |name: &str, config: &str| {
            let spec = Spec::ours(name, path(&format!("{name}.log")))?;
            Program::start(spec.arg("run").arg("--config").arg(path(config)))
        };
        let mut stack = Self {
            gateway: program("sluice-gateway", "gateway.yaml")?,
            agent: program("sluice-agent", "agent.yaml")?,
            agent_admin: format!("http://127.0.0.1:{agent_admin}"),
            gateway_admin: format!("http://127.0.0.1:{gateway_admin}"),
            gateway_push: format!("http://127.0.0.1:{push}"),
            dir,
        };
        stack.wait_for_gateway().await?;
        stack.wait_for_agent().await?;
        Ok(stack)
    }

    /// Waits until the gateway takes pushes.
    ///
    /// # Errors
    /// It does not.
    pub async fn wait_for_gateway(&mut self) -> Result<()> {
        self.gateway.wait_for_http(&format!("{}/readyz", self.gateway_admin), PATIENCE).await
    }

    /// Waits until the agent has looked at its files.
    ///
    /// # Errors
    /// It does not.
    pub async fn wait_for_agent(&mut self) -> Result<()> {
        self.agent.wait_for_http(&format!("{}/readyz", self.agent_admin), PATIENCE).await
    }

    /// Kills the agent as the kernel does, and starts another.
    ///
    /// # Errors
    /// It does not start.
    pub async fn kill_agent(&mut self) -> Result<()> {
        self.agent.kill();
        self.agent.restart()?;
        self.wait_for_agent().await
    }

    /// Kills the gateway as the kernel does, and starts another.
    ///
    /// # Errors
    /// It does not start.
    pub async fn kill_gateway(&mut self) -> Result<()> {
        self.gateway.kill();
        self.gateway.restart()?;
        self.wait_for_gateway().await
    }

    /// Where pods' logs are.
    #[must_use]
    pub fn pods(&self) -> PathBuf {
        self.dir.join("pods")
    }

    /// Where delivered logs are.
    #[must_use]
    pub fn delivered(&self) -> PathBuf {
        self.dir.join("delivered")
    }

    /// A file of the stack's.
    #[must_use]
    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    /// Where agents push.
    #[must_use]
    pub fn push_url(&self) -> &str {
        &self.gateway_push
    }

    /// The agent's admin server.
    #[must_use]
    pub fn agent_admin(&self) -> &str {
        &self.agent_admin
    }

    /// The agent's metrics.
    ///
    /// # Errors
    /// It does not answer.
    pub async fn agent_metrics(&self) -> Result<Metrics> {
        Metrics::fetch(&format!("{}/metrics", self.agent_admin)).await
    }

    /// The gateway's metrics.
    ///
    /// # Errors
    /// It does not answer.
    pub async fn gateway_metrics(&self) -> Result<Metrics> {
        Metrics::fetch(&format!("{}/metrics", self.gateway_admin)).await
    }

    /// Waits until the agent's books are closed: everything that is on the disk is decided, to the byte.
    ///
    /// # Errors
    /// They do not balance, or do not come to that.
    pub async fn closed_books(&self) -> Result<Vec<Page>> {
        books::closed(&self.agent_admin, PATIENCE).await
    }

    /// Waits until a metric of the agent's is as it should be.
    ///
    /// # Errors
    /// It does not come to that.
    pub async fn until_agent(&self, name: &str, labels: &[(&str, &str)], holds: impl Fn(f64) -> bool) -> Result<f64> {
        metrics::wait_until(&format!("{}/metrics", self.agent_admin), name, labels, holds, PATIENCE).await
    }

    /// Waits until a metric of the gateway's is as it should be.
    ///
    /// # Errors
    /// It does not come to that.
    pub async fn until_gateway(&self, name: &str, labels: &[(&str, &str)], holds: impl Fn(f64) -> bool) -> Result<f64> {
        metrics::wait_until(&format!("{}/metrics", self.gateway_admin), name, labels, holds, PATIENCE).await
    }

    /// A writer's configuration over this stack's pods.
    #[must_use]
    pub fn writer(&self) -> write::Config {
        write::Config { manifest: Some(self.dir.join("manifest.json")), ..write::Config::new(self.pods()) }
    }

    /// Asks the file destination for every line, waiting for those that are on their way.
    ///
    /// # Errors
    /// It cannot be read.
    pub async fn check_files(&self, manifest: &Manifest, tenants: Tenants) -> Result<Report> {
        let destination = Destination::Files(self.delivered());
        let config = check::Config { wait: PATIENCE, ..check::Config::new(manifest.clone(), destination, tenants) };
        check::run(config).await
    }

    /// Asks VictoriaLogs for every line, waiting for those that are on their way.
    ///
    /// # Errors
    /// It cannot be asked.
    pub async fn check_store(
        &self,
        url: &str,
        manifest: &Manifest,
        tenants: Tenants,
        wait: Duration,
    ) -> Result<Report> {
        let destination = Destination::VictoriaLogs(url.to_owned());
        check::run(check::Config { wait, ..check::Config::new(manifest.clone(), destination, tenants) }).await
    }
}

/// A VictoriaLogs destination named `store`, for [`Plan::destinations`].
#[must_use]
pub fn store_destination(url: &str, durable_after: &str) -> String {
    format!("  - name: store\n    victorialogs: {{url: \"{url}\", durable_after: {durable_after}}}\n")
}

fn gateway_config(dir: &TestDir, plan: &Plan, push: u16, admin: u16) -> String {
    let at = |name: &str| dir.join(name).display().to_string();
    let policy = if plan.policy.is_empty() { "  tenants: {default: main}\n".to_owned() } else { plan.policy.clone() };
    let routed_to = if plan.routed_to.is_empty() { "files".to_owned() } else { plan.routed_to.join(", ") };
    format!(
        "push: {{address: \"127.0.0.1:{push}\"}}\n\
         admin: 127.0.0.1:{admin}\n\
         journal:\n  directory: {}\n{}\
         destinations:\n  - name: files\n    file: {{directory: {}}}\n{}\
         policy:\n  identities: [{{name: local, loopback: true}}]\n{policy}  default_destinations: [{routed_to}]\n",
        at("journal"),
        plan.journal,
        at("delivered"),
        plan.destinations,
    )
}

fn agent_config(dir: &TestDir, plan: &Plan, push: u16, admin: u16) -> String {
    format!(
        "cluster: test\nenvironment: test\nnode: node-a\n\
         state_directory: {}\npods: {}\nfirst_start: beginning\nadmin: 127.0.0.1:{admin}\n\
         gateway: {{urls: [\"http://127.0.0.1:{push}\"]{}}}\n{}",
        dir.join("state").display(),
        dir.join("pods").display(),
        plan.to_gateway,
        plan.agent,
    )
}

/// Makes a program run in user and mount namespaces of its own, once `script` has prepared them.
pub fn confine(spec: &mut Spec, script: &str) {
    let script = format!("{script} && exec \"$@\"");
    let program = std::mem::replace(&mut spec.program, "unshare".into());
    let arguments = std::mem::take(&mut spec.args);
    spec.args = ["--map-root-user", "--mount", "sh", "-c", &script, "sh"].map(Into::into).to_vec();
    spec.args.push(program.into());
    spec.args.extend(arguments);
}

/// The files below a directory that end in `suffix`.
#[must_use]
pub fn files_below(directory: &Path, suffix: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut todo = vec![directory.to_owned()];
    while let Some(directory) = todo.pop() {
        for entry in fs::read_dir(&directory).into_iter().flatten().flatten() {
            let path = entry.path();
            if path.is_dir() {
                todo.push(path);
            } else if path.to_string_lossy().ends_with(suffix) {
                found.push(path);
            }
        }
    }
    found.sort();
    found
}
