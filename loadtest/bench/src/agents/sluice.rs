//! Sluice's agent with its default settings: what is written here has no default.

use std::{
    fmt::Write as _,
    path::{Path, PathBuf},
};

use sluice_harness::process::our_binary;

use super::Job;
use crate::{
    error::Result,
    node::{CLUSTER, ENVIRONMENT, NODE},
};

pub(crate) fn binary() -> Result<PathBuf> {
    Ok(our_binary("sluice-agent")?)
}

pub(crate) fn settings(job: &Job<'_>, state: &Path) -> String {
    let (pods, state, url) = (job.pods.display(), state.display(), job.url());
    let ca = job.ca.map_or_else(String::new, |ca| format!(", ca_file: {}", ca.display()));
    let mut text = format!(
        "cluster: {CLUSTER}
environment: {ENVIRONMENT}
node: {NODE}
pods: {pods}
state_directory: {state}/state
first_start: beginning
gateway: {{urls: ['{url}']{ca}}}
"
    );
    // Writing to a String cannot fail.
    if let Some(kubeconfig) = job.kubeconfig {
        let _ = writeln!(text, "kubernetes: {{source: watch, kubeconfig: {}}}", kubeconfig.display());
    }
    if job.multiline {
        text.push_str("multiline: {default: auto}\n");
    }
    if job.redaction {
        text.push_str("redact: {rules: [bearer-token, email, card-number]}\n");
    }
    text
}
