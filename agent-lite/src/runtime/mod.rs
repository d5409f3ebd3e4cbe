//! What the container runtime says it has written to logs, against what the agent has seen of them.
//!
//! ```text
//! containerd ── GET /v1/metrics, every 30 s ──► Reading ─┬► Comparison ─► unseen bytes
//! the books: what is in containers' log files ───────────┘
//! ```
//!
//! Nothing else tells of bytes that came to no file that the agent looked at: a rotation that was too fast, a
//! directory that is not mounted, a log elsewhere. containerd counts a line once it is written whole, with its
//! time, stream, tag and newline (`internal/cri/io/logger.go`), and so in the bytes of the file, which are those
//! of the books. What it has read of containers (`containerd_cri_input_…`) is counted otherwise, by buffers and
//! without empty lines, and cannot be compared.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use http::Uri;
use tokio::sync::watch;
use tokio::time::{MissedTickBehavior, interval};

use crate::metrics::RuntimeMetrics;

mod scrape;
mod text;

pub use text::Reading;

/// Between scrapes.
const INTERVAL: Duration = Duration::from_secs(30);
/// What one may take.
const LIMIT: Duration = Duration::from_secs(10);

/// Where the runtime's metrics are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// Such as `http://127.0.0.1:1338/v1/metrics`.
    pub url: Uri,
}

impl Settings {
    /// Takes a setting; `None`: it is no URL of this kind.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let url: Uri = text.parse().ok()?;
        // containerd has no other.
        (url.scheme_str() == Some("http") && url.host().is_some_and(|host| !host.is_empty())).then_some(Self { url })
    }
}

/// Keeps what the runtime says beside what was seen.
#[derive(Debug)]
pub struct Comparison {
    readings: watch::Receiver<Option<Reading>>,
    metrics: RuntimeMetrics,
    seen: Seen,
    /// The last reading, and what had been seen then.
    last: Option<(Reading, u64)>,
    unseen: i64,
}

/// Bytes that were found in logs, also in those that have no page any more.
#[derive(Debug, Default)]
struct Seen {
    told: HashMap<Arc<str>, u64>,
    total: u64,
}

/// What compares, and what asks the runtime for as long as it is polled.
pub fn start(settings: &Settings, metrics: &RuntimeMetrics) -> (Comparison, impl Future<Output = ()> + use<>) {
    let (to, readings) = watch::channel(None);
    (Comparison::new(readings, metrics.clone()), ask(settings.url.clone(), to, metrics.clone()))
}

async fn ask(url: Uri, to: watch::Sender<Option<Reading>>, metrics: RuntimeMetrics) {
    let mut ticks = interval(INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut is_said = false;
    loop {
        ticks.tick().await;
        match scrape::scrape(&url, LIMIT).await {
            Ok(reading) => {
                is_said = false;
                to.send_replace(Some(reading));
            }
            Err(error) => {
                metrics.scrape_errors.inc();
                // Once, until it is well again.
                if !std::mem::replace(&mut is_said, true) {
                    tracing::warn!(%url, %error, "the runtime's metrics cannot be had, trying again");
                }
            }
        }
    }
}

impl Comparison {
    fn new(readings: watch::Receiver<Option<Reading>>, metrics: RuntimeMetrics) -> Self {
        Self { readings, metrics, seen: Seen::default(), last: None, unseen: 0 }
    }

    /// Takes what is known of each of the containers' logs, its bytes on the disk; compares where the runtime has
    /// said something new.
    pub fn compare<'a>(&mut self, written: impl Iterator<Item = (&'a Arc<str>, u64)>) {
        self.seen.tell(written);
        if !self.readings.has_changed().unwrap_or(false) {
            return;
        }
        let Some(reading) = *self.readings.borrow_and_update() else { return };
        if let Some((last, seen)) = self.last.replace((reading, self.seen.total))
            // Of one that was restarted in between nobody knows what it wrote until then.
            && let (Some(bytes), Some(entries)) =
                (reading.bytes.checked_sub(last.bytes), reading.entries.checked_sub(last.entries))
        {
            self.metrics.output_bytes.inc_by(bytes);
            self.metrics.output_entries.inc_by(entries);
            let seen = signed(self.seen.total.saturating_sub(seen));
            self.unseen = self.unseen.saturating_add(signed(bytes).saturating_sub(seen));
            self.metrics.unseen_bytes.set(self.unseen);
        }
    }
}

impl Seen {
    fn tell<'a>(&mut self, written: impl Iterator<Item = (&'a Arc<str>, u64)>) {
        let mut told = HashMap::with_capacity(self.told.len());
        for (log, bytes) in written {
            let before = self.told.get(log).copied().unwrap_or(0);
            self.total += bytes.saturating_sub(before);
            told.insert(log.clone(), bytes);
        }
        self.told = told;
    }
}

fn signed(bytes: u64) -> i64 {
    i64::try_from(bytes).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests;
