//! An API server with its etcd and no node, by the scripts beside this crate. Ended and cleaned up when dropped.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, ensure};
use sluice_harness::dirs::TestDir;
use sluice_harness::ports;

use crate::api::Api;

/// A running API server.
#[derive(Debug)]
pub struct Server {
    api: Api,
    dir: TestDir,
    port: u16,
    environment: Vec<(&'static str, String)>,
}

impl Server {
    /// Starts it, and builds it where it never was: that takes minutes, and is said on standard error.
    ///
    /// # Errors
    /// It does not start; its script has said why on standard error.
    pub fn start() -> Result<Self> {
        let dir = TestDir::new("kube")?;
        let port = ports::free()?;
        let environment = vec![
            ("KUBE_RUN", dir.path().display().to_string()),
            ("KUBE_PORT", port.to_string()),
            ("ETCD_PORT", ports::free()?.to_string()),
        ];
        script(&environment, "api.sh", ["up"])?;
        let api = Api::new(dir.path(), port)?;
        Ok(Self { api, dir, port, environment })
    }

    /// Its API.
    #[must_use]
    pub fn api(&self) -> &Api {
        &self.api
    }

    /// Its port on 127.0.0.1.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// A path in the run's directory.
    #[must_use]
    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    /// How an administrator reaches it.
    #[must_use]
    pub fn kubeconfig(&self) -> PathBuf {
        self.path("admin.kubeconfig")
    }

    /// Takes it away for so long.
    ///
    /// # Errors
    /// It does not come back.
    pub async fn restart(&self, seconds: u64) -> Result<()> {
        let environment = self.environment.clone();
        let restart = move || script(&environment, "api.sh", ["restart", &seconds.to_string()]);
        tokio::task::spawn_blocking(restart).await?.map(drop)
    }

    /// Runs one of the scripts to its end and gives what it printed; what it says goes to standard error.
    pub(crate) fn script<A: AsRef<std::ffi::OsStr>>(
        &self,
        name: &str,
        arguments: impl IntoIterator<Item = A>,
    ) -> Result<String> {
        script(&self.environment, name, arguments)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Err(error) = self.script("api.sh", ["down"]) {
            eprintln!("{error:#}");
        }
    }
}

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
