//! The node and its API server, by the scripts beside this crate. Ended and cleaned up when dropped.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, ensure};
use sluice_harness::dirs::TestDir;
use sluice_harness::ports;

use crate::api::Api;

/// What all of our pods run.
pub const IMAGE: &str = "localhost/sluice-test:1";
/// The node's name.
pub const NODE: &str = "node-a";

/// A running API server and node.
#[derive(Debug)]
pub struct Cluster {
    api: Api,
    dir: TestDir,
    port: u16,
    environment: Vec<(&'static str, String)>,
}

impl Cluster {
    /// Starts everything; pods can use [`IMAGE`], which has `programs` in `/bin`.
    ///
    /// # Errors
    /// What does not start; its script has said why on standard error.
    pub fn start(programs: &[PathBuf]) -> Result<Self> {
        let cluster = Self::without_node()?;
        let image = cluster.dir.join("image.tar");
        let mut arguments = vec![image.clone(), IMAGE.into()];
        arguments.extend(programs.iter().cloned());
        cluster.script("image.sh", arguments)?;
        cluster.script("node.sh", [Path::new("up"), &image])?;
        Ok(cluster)
    }

    /// Starts the API server alone: no root, and nothing outside of its directory.
    ///
    /// # Errors
    /// What does not start; its script has said why on standard error.
    pub fn without_node() -> Result<Self> {
        let dir = TestDir::new("kube")?;
        let port = ports::free()?;
        let environment = vec![
            ("KUBE_RUN", dir.path().display().to_string()),
            ("KUBE_PORT", port.to_string()),
            ("ETCD_PORT", ports::free()?.to_string()),
        ];
        script(&environment, "api.sh", ["up"])?;
        // From here on dropping it ends what was started.
        Ok(Self { api: Api::new(dir.path(), port)?, dir, port, environment })
    }

    /// Its API.
    #[must_use]
    pub fn api(&self) -> &Api {
        &self.api
    }

    /// The API server's port on 127.0.0.1.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// A path in the run's directory.
    #[must_use]
    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    /// Takes the API server away for so long.
    ///
    /// # Errors
    /// It does not come back.
    pub async fn restart_api(&self, seconds: u64) -> Result<()> {
        let environment = self.environment.clone();
        let restart = move || script(&environment, "api.sh", ["restart", &seconds.to_string()]);
        tokio::task::spawn_blocking(restart).await?.map(drop)
    }

    /// The first process of a container, by the container's id as the API gives it.
    ///
    /// # Errors
    /// It does not run.
    pub fn pid(&self, container: &str) -> Result<i32> {
        let id = container.strip_prefix("containerd://").unwrap_or(container);
        let tasks = self.script("node.sh", ["ctr", "tasks", "ls"])?;
        let of_it = tasks.lines().find(|line| line.starts_with(id)).with_context(|| format!("no task {id}"))?;
        Ok(of_it.split_ascii_whitespace().nth(1).context("a pid")?.parse()?)
    }

    fn script<A: AsRef<std::ffi::OsStr>>(&self, name: &str, arguments: impl IntoIterator<Item = A>) -> Result<String> {
        script(&self.environment, name, arguments)
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        for name in ["node.sh", "api.sh"] {
            if let Err(error) = self.script(name, ["down"]) {
                eprintln!("{error:#}");
            }
        }
    }
}

/// Runs a script to its end and gives what it printed; what it says goes to standard error.
fn script<A: AsRef<std::ffi::OsStr>>(
    environment: &[(&'static str, String)],
    name: &str,
    arguments: impl IntoIterator<Item = A>,
) -> Result<String> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(name);
    let output = Command::new("bash")
        .arg(&path)
        .args(arguments)
        .envs(environment.iter().map(|(name, value)| (name, value)))
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .output()
        .with_context(|| path.display().to_string())?;
    ensure!(output.status.success(), "tests/kube/{name} failed ({}), see above", output.status);
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
