//! The checker: asks the destination for every line that a manifest counts.

mod files;
mod judge;
mod ledger;
mod record;
mod report;
mod victorialogs;

use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
    time::Duration,
};

use crate::{
    error::{Error, Result},
    manifest::Manifest,
};

pub use files::Follower;
pub use report::{LostRange, Report};

#[derive(Debug, Clone)]
pub struct Config {
    pub manifest: Manifest,
    /// Read again while waiting, for a writer that is still at it.
    pub manifest_file: Option<PathBuf>,
    pub destination: Destination,
    pub tenants: Tenants,
    /// Gives up when nothing has come for so long; zero: looks once.
    pub wait: Duration,
    /// Goes on for so long after all lines are there, for repeats that come late.
    pub settle: Duration,
    /// Looks every 10 ms and measures how long each line took; files only.
    pub follow: bool,
}

#[derive(Debug, Clone)]
pub enum Destination {
    /// `{tenant}/{category}/**/*.jsonl` under this directory.
    Files(PathBuf),
    /// The address of vmauth.
    VictoriaLogs(String),
}

/// Which tenant a namespace belongs to.
#[derive(Debug, Clone, Default)]
pub struct Tenants {
    pub by_namespace: BTreeMap<String, String>,
    /// The tenant of all other namespaces.
    pub default: Option<String>,
}

impl Tenants {
    /// All lines belong to one tenant.
    #[must_use]
    pub fn single(tenant: &str) -> Self {
        Self { by_namespace: BTreeMap::new(), default: Some(tenant.to_owned()) }
    }

    #[must_use]
    pub fn of(&self, namespace: &str) -> Option<&str> {
        self.by_namespace.get(namespace).or(self.default.as_ref()).map(String::as_str)
    }

    /// Every namespace must have its tenant.
    fn cover(&self, manifest: &Manifest) -> Result<()> {
        let namespaces = manifest.sources.iter().map(|source| source.namespace.as_str());
        let orphans: BTreeSet<_> = namespaces.filter(|namespace| self.of(namespace).is_none()).collect();
        if !orphans.is_empty() {
            return Err(Error::Config(format!("no tenant is given for the namespaces {orphans:?}")));
        }
        Ok(())
    }

    /// Every tenant that lines can be in, each once.
    fn names(&self) -> BTreeSet<&str> {
        self.by_namespace.values().chain(&self.default).map(String::as_str).collect()
    }
}

impl<K: Into<String>, V: Into<String>, const N: usize> From<[(K, V); N]> for Tenants {
    fn from(pairs: [(K, V); N]) -> Self {
        let by_namespace = pairs.into_iter().map(|(namespace, tenant)| (namespace.into(), tenant.into())).collect();
        Self { by_namespace, default: None }
    }
}

impl Config {
    /// Looks once; the caller adds patience.
    #[must_use]
    pub fn new(manifest: Manifest, destination: Destination, tenants: Tenants) -> Self {
        Self {
            manifest,
            manifest_file: None,
            destination,
            tenants,
            wait: Duration::ZERO,
            settle: Duration::ZERO,
            follow: false,
        }
    }

    fn check(&self) -> Result<()> {
        self.tenants.cover(&self.manifest)?;
        if self.follow && matches!(self.destination, Destination::VictoriaLogs(_)) {
            return Err(Error::Config("only files can be followed".to_owned()));
        }
        Ok(())
    }
}

/// Looks at the destination, as long as the configuration says.
///
/// # Errors
/// When the destination cannot be read. What is wrong with the lines is no error but in the report.
///
/// # Panics
/// When the runtime shuts down meanwhile.
pub async fn run(config: Config) -> Result<Report> {
    config.check()?;
    match config.destination.clone() {
        Destination::VictoriaLogs(url) => victorialogs::run(&config, &url).await,
        Destination::Files(root) => tokio::task::spawn_blocking(move || files::run(&config, &root))
            .await
            .expect("the reader of files does not panic"),
    }
}

#[cfg(test)]
mod tests;
