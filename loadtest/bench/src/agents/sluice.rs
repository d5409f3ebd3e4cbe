//! Sluice's agent with its default settings: what is written here has no default.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
};

use sluice_harness::process::our_binary;

use crate::{
    error::Result,
    node::{CLUSTER, ENVIRONMENT, NODE},
};

pub(crate) fn binary() -> Result<PathBuf> {
    Ok(our_binary("sluice-agent")?)
}

pub(crate) fn settings(pods: &Path, state: &Path, sink: SocketAddr) -> String {
    let (pods, state) = (pods.display(), state.display());
    format!(
        "cluster: {CLUSTER}
environment: {ENVIRONMENT}
node: {NODE}
pods: {pods}
state_directory: {state}/state
first_start: beginning
gateway: {{urls: ['http://{sink}']}}
"
    )
}
