//! A gateway with its journal and a destination of files, everything of one tenant.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::Result;
use sluice_harness::ports;
use sluice_harness::process::{Program, Spec};

/// How long it may take to start.
const PATIENCE: Duration = Duration::from_secs(60);

/// A running gateway.
#[derive(Debug)]
pub struct Gateway {
    /// Its process.
    pub program: Program,
    /// The port on 127.0.0.1 where agents push.
    pub push: u16,
    /// Where its metrics are.
    pub admin: String,
}

impl Gateway {
    /// Starts it, with `journal`, `delivered` and its own files at what `path` makes of their names.
    ///
    /// # Errors
    /// It does not start, with its log.
    pub async fn start(path: impl Fn(&str) -> PathBuf) -> Result<Self> {
        let [push, admin] = [ports::free()?, ports::free()?];
        fs::write(
            path("gateway.yaml"),
            format!(
                "push: {{address: \"127.0.0.1:{push}\"}}\nadmin: 127.0.0.1:{admin}\n\
                 journal: {{directory: {}}}\n\
                 destinations:\n  - name: files\n    file: {{directory: {}}}\n\
                 policy:\n  identities: [{{name: local, loopback: true}}]\n  tenants: {{default: main}}\n  \
                 default_destinations: [files]\n",
                path("journal").display(),
                path("delivered").display(),
            ),
        )?;
        let spec = Spec::ours("sluice-gateway", path("gateway.log"))?;
        let mut program = Program::start(spec.arg("run").arg("--config").arg(path("gateway.yaml")))?;
        let admin = format!("http://127.0.0.1:{admin}");
        program.wait_for_http(&format!("{admin}/readyz"), PATIENCE).await?;
        Ok(Self { program, push, admin })
    }
}
