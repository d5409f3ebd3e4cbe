//! An agent and a gateway that share the measured core, with their files below one directory.

use std::{fs, path::PathBuf, time::Duration};

use sluice_harness::{
    dirs::TestDir,
    metrics::{self, Metrics},
    ports,
    process::{Program, Signal},
};

use super::settings::{self, Ports};
use crate::{
    cores::Cores,
    error::{At as _, Error, Result},
    measure::{Used, Watch},
    programs,
};

const AGENT: &str = "sluice-agent";
const GATEWAY: &str = "sluice-gateway";

/// For a changed file to be in force.
const RELOAD: Duration = Duration::from_secs(10);
const STOP: Duration = Duration::from_secs(60);

#[derive(Debug)]
pub(super) struct Stack {
    agent: Program,
    gateway: Program,
    ports: Ports,
    dir: TestDir,
}

impl Stack {
    /// Starts both and waits until they are ready. The noisy tenant is limited.
    pub(super) async fn start(cores: Cores) -> Result<Self> {
        let dir = TestDir::new("bench")?;
        let ports = Ports { push: ports::free()?, gateway_admin: ports::free()?, agent_admin: ports::free()? };
        let (pods, agent, gateway) = (dir.join("pods"), dir.join(AGENT), dir.join(GATEWAY));
        // A node has the directory before its first pod.
        fs::create_dir_all(&pods).at(&pods)?;
        let settings = settings::gateway(ports, &gateway, &dir.join("delivered"), true);
        let gateway = programs::start_ours(cores, GATEWAY, &gateway, &settings, ports.gateway_admin).await?;
        let settings = settings::agent(ports, &pods, &agent);
        let agent = programs::start_ours(cores, AGENT, &agent, &settings, ports.agent_admin).await?;
        Ok(Self { agent, gateway, ports, dir })
    }

    pub(super) fn pods(&self) -> PathBuf {
        self.dir.join("pods")
    }

    pub(super) fn delivered(&self) -> PathBuf {
        self.dir.join("delivered")
    }

    /// # Errors
    /// When one of the two has ended: there is nothing to wait for then.
    pub(super) fn check_running(&mut self) -> Result<()> {
        for (name, program) in [(AGENT, &mut self.agent), (GATEWAY, &mut self.gateway)] {
            if !program.is_running() {
                programs::say_last_words(name, program);
                return Err(Error::Setup(format!("{name} has ended")));
            }
        }
        Ok(())
    }

    pub(super) async fn gateway_metrics(&self) -> Result<Metrics> {
        Ok(Metrics::fetch(&self.gateway_metrics_url()).await?)
    }

    /// Takes the noisy tenant's limit out of the gateway's settings and waits until that is in force.
    pub(super) async fn lift_limit(&mut self) -> Result<()> {
        let dir = self.dir.join(GATEWAY);
        let (file, unfinished) = (programs::settings_file(&dir), dir.join("settings.new"));
        fs::write(&unfinished, settings::gateway(self.ports, &dir, &self.delivered(), false)).at(&unfinished)?;
        // The gateway also looks by itself: it must not see half of it.
        fs::rename(&unfinished, &file).at(&file)?;
        self.gateway.signal(Signal::HUP)?;
        let reloaded = "sluice_gateway_config_reloads_total";
        metrics::wait_until(&self.gateway_metrics_url(), reloaded, &[], |reloads| reloads >= 1.0, RELOAD).await?;
        Ok(())
    }

    /// Ends both in order, the agent first, so that all that the gateway has is delivered.
    pub(super) async fn stop(&mut self) -> Result<()> {
        self.agent.stop(STOP).await?;
        self.gateway.stop(STOP).await?;
        Ok(())
    }

    /// Lines are missing.
    pub(super) fn say_last_words(&self) {
        programs::say_last_words(AGENT, &self.agent);
        programs::say_last_words(GATEWAY, &self.gateway);
    }

    fn gateway_metrics_url(&self) -> String {
        format!("http://127.0.0.1:{}/metrics", self.ports.gateway_admin)
    }
}

/// A watch over both.
#[derive(Debug)]
pub(super) struct Watches {
    agent: Watch,
    gateway: Watch,
}

/// What came of it.
#[derive(Debug, Clone, Copy)]
pub(super) struct UsedByBoth {
    pub(super) agent: Used,
    pub(super) gateway: Used,
}

impl Watches {
    pub(super) fn start(stack: &mut Stack) -> Self {
        Self { agent: Watch::start(&mut stack.agent), gateway: Watch::start(&mut stack.gateway) }
    }

    pub(super) fn look(&mut self, stack: &Stack) {
        self.agent.look(&stack.agent);
        self.gateway.look(&stack.gateway);
    }

    pub(super) fn end(self, stack: &mut Stack) -> UsedByBoth {
        UsedByBoth { agent: self.agent.end(&mut stack.agent), gateway: self.gateway.end(&mut stack.gateway) }
    }
}
