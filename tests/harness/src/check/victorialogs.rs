//! VictoriaLogs behind vmauth, asked once for each tenant.

use std::time::{Duration, Instant};

use super::{Config, ledger::Ledger, report::Report};
use crate::{error::Result, manifest::Manifest, victorialogs::Reader};

const POLL_EVERY: Duration = Duration::from_millis(250);

/// A count sees new rows a second or so before a query shows them: it does not need the names of their streams,
/// which are indexed later. A reading that shows less than was counted is too early, within this time.
const SHOWN_WITHIN: Duration = Duration::from_secs(10);

pub(super) async fn run(config: &Config, url: &str) -> Result<Report> {
    let store = Reader::new(url);
    let (mut progress, mut counted, mut shown) = (Instant::now(), None, 0);
    loop {
        let manifest =
            config.manifest_file.as_ref().map_or(Ok(config.manifest.clone()), |path| Manifest::load(path))?;
        let mut total = 0;
        for tenant in config.tenants.names() {
            total += store.count(tenant, "*").await?;
        }
        if counted.replace(total) != Some(total) {
            progress = Instant::now();
        }
        let out_of_patience = progress.elapsed() >= config.wait;
        // Reading all is expensive: only when the count says that it is worth while.
        if out_of_patience || manifest.complete && total >= manifest.lines() && shown < total {
            let ledger = read_all(&store, config, manifest).await?;
            shown = ledger.records();
            let too_early = shown < total && progress.elapsed() < SHOWN_WITHIN;
            if !too_early && (out_of_patience || ledger.is_complete() && config.settle.is_zero()) {
                return Ok(ledger.report());
            }
            if !too_early && ledger.is_complete() {
                tokio::time::sleep(config.settle).await;
                return Ok(read_all(&store, config, ledger.manifest().clone()).await?.report());
            }
        }
        tokio::time::sleep(POLL_EVERY).await;
    }
}

/// Line by line as the store sends them: a million records are never held at once.
async fn read_all(store: &Reader, config: &Config, manifest: Manifest) -> Result<Ledger> {
    let mut ledger = Ledger::new(manifest, config.tenants.clone());
    for tenant in config.tenants.names() {
        let book = |line: &[u8]| {
            ledger.take(tenant, line, None);
        };
        store.query(tenant, "*", book).await?;
    }
    Ok(ledger)
}
