//! Who writes what.

use std::{path::Path, time::Duration};

use sluice_harness::{
    check,
    manifest::Manifest,
    write::{self, Config, Running},
};
use tokio::time::Instant;

use crate::{
    error::{Error, Result},
    node,
};

pub(super) const NOISY: &str = "noisy";
/// Those whose delivery is measured.
const QUIET: [&str; 3] = ["alpha", "beta", "gamma"];
const CONTAINERS_OF_A_TENANT: u32 = 3;

/// Lines a second of the quiet tenants together: 4.6 MB of log file.
pub(super) const QUIET_RATE: u64 = 22_000;
/// The noisy tenant's limit, in bytes of records a second.
pub(super) const LIMIT: u64 = 1_000_000;
/// How many times its limit the noisy tenant writes.
pub(super) const TIMES: u64 = 10;
/// Bytes of a record, reckoned low, so that it is not less. What it came to is measured.
const RECORD_BYTES: u64 = 600;

/// For a writer to have made its files.
const START: Duration = Duration::from_secs(10);
const POLL_EVERY: Duration = Duration::from_millis(1);

pub(super) fn names() -> impl Iterator<Item = &'static str> {
    QUIET.into_iter().chain([NOISY])
}

/// Each tenant has a namespace.
pub(super) fn namespace(tenant: &str) -> String {
    format!("team-payments-settlement-service-{tenant}")
}

pub(super) fn by_namespace() -> check::Tenants {
    let by_namespace = names().map(|tenant| (namespace(tenant), tenant.to_owned())).collect();
    check::Tenants { by_namespace, default: None }
}

/// Starts to write the quiet tenants' lines, for so long.
pub(super) async fn quiet(pods: &Path, text_bytes: usize, duration: Duration) -> Result<Writing> {
    let config = Config { rate: QUIET_RATE, duration: Some(duration), ..node::writer(pods, 1, text_bytes) };
    Writing::start(&QUIET, config).await
}

/// Starts to write the noisy tenant's, until it is stopped or so long has passed.
pub(super) async fn noisy(pods: &Path, text_bytes: usize, at_most: Duration) -> Result<Writing> {
    let rate = TIMES * LIMIT / RECORD_BYTES;
    let config = Config { rate, duration: Some(at_most), ..node::writer(pods, 1, text_bytes) };
    Writing::start(&[NOISY], config).await
}

/// A writer at work.
#[derive(Debug)]
pub(super) struct Writing {
    pub(super) running: Running,
    /// As it was at its start: who writes, but not yet how much.
    pub(super) manifest: Manifest,
}

impl Writing {
    async fn start(tenants: &[&str], config: Config) -> Result<Self> {
        let file = config.root.with_file_name(format!("manifest-{}.json", tenants[0]));
        let running = write::spawn(Config {
            namespaces: tenants.iter().map(|tenant| namespace(tenant)).collect(),
            containers: CONTAINERS_OF_A_TENANT * u32::try_from(tenants.len()).unwrap_or(1),
            manifest: Some(file.clone()),
            ..config
        });
        let started = Instant::now();
        // It is saved before the first line is written.
        while !file.exists() {
            if running.is_finished() || started.elapsed() > START {
                running.stop()?;
                return Err(Error::Setup("a writer did not begin".to_owned()));
            }
            tokio::time::sleep(POLL_EVERY).await;
        }
        Ok(Self { running, manifest: Manifest::load(&file)? })
    }
}
