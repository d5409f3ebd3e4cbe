//! The node and its API server, by the scripts beside this crate. Ended and cleaned up when dropped.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};
use sluice_harness::guide;

use crate::api::Api;
use crate::server::Server;

/// What all of our pods run.
pub const IMAGE: &str = "localhost/sluice-test:1";
/// The node's name.
pub const NODE: &str = "node-a";

/// A running API server and node.
#[derive(Debug)]
pub struct Cluster {
    // Dropped after the node has been ended.
    server: Server,
}

impl Cluster {
    /// Starts everything; pods can use [`IMAGE`], which has `programs` in `/bin`.
    ///
    /// # Errors
    /// What does not start; its script has said why on standard error.
    pub fn start(programs: &[PathBuf]) -> Result<Self> {
        // From here on dropping it ends what was started.
        let cluster = Self { server: Server::start()? };
        let image = cluster.path("image.tar");
        let mut arguments = vec![image.clone(), IMAGE.into()];
        arguments.extend(programs.iter().cloned());
        cluster.server.script("image.sh", arguments)?;
        cluster.server.script("node.sh", [Path::new("up"), &image])?;
        Ok(cluster)
    }

    /// Its API.
    #[must_use]
    pub fn api(&self) -> &Api {
        self.server.api()
    }

    /// The API server's port on 127.0.0.1.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.server.port()
    }

    /// A path in the run's directory.
    #[must_use]
    pub fn path(&self, name: &str) -> PathBuf {
        self.server.path(name)
    }

    /// Runs a shell's command, such as a guide gives for `kubectl`, as an administrator, and gives all that it says.
    ///
    /// # Errors
    /// It fails; or there is no `kubectl` to be had.
    pub fn run(&self, command: &str) -> Result<String> {
        let kubectl = PathBuf::from(self.server.script("install.sh", ["kubectl"])?.trim_end());
        let mut shell = guide::shell(command, kubectl.parent().context("kubectl's directory")?);
        shell.env("KUBECONFIG", self.server.kubeconfig()).env("KUBECACHEDIR", self.path("kubectl"));
        let output = shell.output()?;
        let [said, faults] = [&output.stdout, &output.stderr].map(|bytes| String::from_utf8_lossy(bytes).into_owned());
        ensure!(output.status.success(), "{command}: {}\n{said}\n{faults}", output.status);
        Ok(said + &faults)
    }

    /// Takes the API server away for so long.
    ///
    /// # Errors
    /// It does not come back.
    pub async fn restart_api(&self, seconds: u64) -> Result<()> {
        self.server.restart(seconds).await
    }

    /// The first process of a container, by the container's id as the API gives it.
    ///
    /// # Errors
    /// It does not run.
    pub fn pid(&self, container: &str) -> Result<i32> {
        let id = container.strip_prefix("containerd://").unwrap_or(container);
        let tasks = self.server.script("node.sh", ["ctr", "tasks", "ls"])?;
        let of_it = tasks.lines().find(|line| line.starts_with(id)).with_context(|| format!("no task {id}"))?;
        Ok(of_it.split_ascii_whitespace().nth(1).context("a pid")?.parse()?)
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if let Err(error) = self.server.script("node.sh", ["down"]) {
            eprintln!("{error:#}");
        }
    }
}
