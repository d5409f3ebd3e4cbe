//! Who is measured, and how each is started.

use std::{fs, net::SocketAddr, path::Path};

use sluice_harness::process::{Program, Spec};

use super::{otelcol, sluice};
use crate::{
    cores::Cores,
    error::{At as _, Result},
};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Contender {
    Sluice,
    /// The OpenTelemetry Collector.
    Otelcol,
}

impl Contender {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Sluice => "sluice-agent",
            Self::Otelcol => "otelcol",
        }
    }

    /// Builds what is missing of a peer, before anything is measured.
    pub(super) fn prepare(self) -> Result<()> {
        match self {
            Self::Sluice => Ok(()),
            Self::Otelcol => otelcol::binary().map(drop),
        }
    }

    /// Starts it on the measured core, with `state` as its own empty directory. It reads everything below
    /// `pods` from the beginning and sends it to the sink.
    pub(super) fn start(self, cores: Cores, pods: &Path, state: &Path, sink: SocketAddr) -> Result<Program> {
        fs::create_dir_all(state).at(state)?;
        let (program, settings, arguments): (_, _, &[&str]) = match self {
            Self::Sluice => (sluice::binary()?, sluice::settings(pods, state, sink), &["run", "--config"]),
            Self::Otelcol => (otelcol::binary()?, otelcol::settings(pods, sink), &["--config"]),
        };
        let file = state.join("settings.yaml");
        fs::write(&file, settings).at(&file)?;
        let spec = arguments.iter().fold(Spec::new(program, state.join("log")), |spec, argument| spec.arg(*argument));
        cores.on_measured(|| Ok(Program::start(spec.arg(file))?))
    }
}
