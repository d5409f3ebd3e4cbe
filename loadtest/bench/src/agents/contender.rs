//! Who is measured, and how each is started.

use std::path::Path;

use sluice_harness::process::Program;

use super::{Job, otelcol, sluice};
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

    /// Starts it on the measured core, with `state` as its own empty directory.
    pub(super) fn start(self, cores: Cores, job: &Job<'_>, state: &Path) -> Result<Program> {
        let (spec, settings) = match self {
            Self::Sluice => (programs::spec(sluice::binary()?, &programs::OURS, state), sluice::settings(job, state)),
            Self::Otelcol => {
                let spec = programs::spec(otelcol::binary()?, &["--config"], state);
                let spec = match job.kubeconfig {
                    Some(kubeconfig) => spec.env("KUBECONFIG", kubeconfig),
                    None => spec,
                };
                (spec, otelcol::settings(job))
            }
        };
        programs::start(cores, spec, state, &settings)
    }
}
