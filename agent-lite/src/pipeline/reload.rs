//! Settings that change while the agent runs: who looks at the file, and which room is told what.

use std::path::PathBuf;
use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;

use super::{Agent, shipping, wall_ns};
use crate::config::{Change, Reloader};
use crate::metrics::Metrics;

/// Between looks at the settings.
const LOOK: Duration = Duration::from_secs(5);

/// Where the settings came from, and what their variables stand for.
pub struct Origin {
    /// The file.
    pub path: PathBuf,
    /// The environment.
    pub env: &'static (dyn Fn(&str) -> Option<String> + Send + Sync),
}

/// Looks at the settings every so often and on SIGHUP, and hands over what has changed, until nobody takes it.
///
/// # Errors
/// SIGHUP cannot be had.
pub(super) fn follow(
    mut reloader: Reloader,
    changes: mpsc::Sender<Change>,
    metrics: Metrics,
) -> std::io::Result<impl Future<Output = ()>> {
    let mut hangup = signal(SignalKind::hangup())?;
    let status = reloader.status();
    Ok(async move {
        loop {
            tokio::select! {
                () = tokio::time::sleep(LOOK) => {}
                _ = hangup.recv() => tracing::info!("looking at the settings, as told by SIGHUP"),
            }
            // Patterns may take a while to compile, and files to be read.
            let look = tokio::task::spawn_blocking(move || {
                let change = reloader.look();
                (reloader, change)
            });
            let Ok((back, change)) = look.await else { return };
            reloader = back;
            metrics.reload.failed.set(status.failure().is_some().into());
            metrics.reload.needs_restart.set((!status.needs_restart().is_empty()).into());
            if let Some(change) = change
                && changes.send(change).await.is_err()
            {
                return;
            }
        }
    })
}

impl Agent {
    /// Goes on with other settings; what did not change is not touched.
    pub(super) fn change(&mut self, change: Change) {
        let parts: Vec<&str> = change.parts.iter().copied().collect();
        let touches = |parts: &[&str]| change.touches(parts);
        let destination = touches(&["gateway", "direct"]);
        let sharing = touches(&["weights", "budgets", "first_start_rate"]);
        let treatment = touches(&["redact", "parsers", "multiline"]);
        let (choice, deleted) = (touches(&["own_logs", "dataplane"]), touches(&["deleted_files", "deleted_bytes"]));
        self.config = change.config;
        if treatment {
            self.tailer.retool(change.redactor, self.config.messages.clone());
            self.entries.retool();
        }
        if sharing {
            self.tailer.reshare(self.config.sharing.clone());
        }
        if choice {
            self.tailer.choose(self.config.sources.pods.clone());
        }
        if deleted {
            self.tailer.bound_deleted(self.config.deleted);
        }
        self.lanes.change(self.config.block_age, self.config.destination.compression);
        if destination {
            self.dispatch.redirect(shipping(&self.config));
        }
        self.metrics.reload.last.set(wall_ns() / 1_000_000_000);
        tracing::info!(parts = parts.join(", "), "settings reloaded");
    }
}
