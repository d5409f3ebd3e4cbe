//! Who is measured, and how each is started.

use std::{net::SocketAddr, path::Path};

use sluice_harness::process::Program;

use super::{otelcol, sluice};
use crate::{cores::Cores, error::Result, programs};

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
        match self {
            Self::Sluice => {
                programs::start(cores, sluice::binary()?, &programs::OURS, state, &sluice::settings(pods, state, sink))
            }
            Self::Otelcol => {
                programs::start(cores, otelcol::binary()?, &["--config"], state, &otelcol::settings(pods, sink))
            }
        }
    }
}
