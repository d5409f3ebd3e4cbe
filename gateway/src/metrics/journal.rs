//! What the journal counts.

use prometheus::{Histogram, HistogramOpts, IntCounter, IntCounterVec, IntGauge, Opts, Registry, exponential_buckets};

/// The journal's metrics. Cheap to clone; all clones count into the same registry.
#[derive(Debug, Clone)]
pub struct JournalMetrics {
    pub(crate) appends: IntCounterVec,
    pub(crate) stored_bytes: IntCounter,
    pub(crate) size_bytes: IntGauge,
    pub(crate) max_bytes: IntGauge,
    pub(crate) queue_bytes: IntGauge,
    pub(crate) queue_max_bytes: IntGauge,
    pub(crate) sync_seconds: Histogram,
    pub(crate) lanes: IntGauge,
    pub(crate) lanes_bytes: IntGauge,
    pub(crate) lanes_max_bytes: IntGauge,
    pub(crate) snapshots: IntCounterVec,
    pub(crate) files_set_aside: IntCounterVec,
    pub(crate) lost_entries: IntCounterVec,
}

impl JournalMetrics {
    /// Makes and registers them.
    ///
    /// # Errors
    /// If `registry` has one of the names already.
    pub fn register(registry: &Registry) -> prometheus::Result<Self> {
        let counter = |name: &str, help: &str| {
            let made = IntCounter::new(format!("sluice_gateway_journal_{name}"), help)?;
            registry.register(Box::new(made.clone()))?;
            Ok::<_, prometheus::Error>(made)
        };
        let counters = |name: &str, help: &str, label: &str| {
            let made = IntCounterVec::new(Opts::new(format!("sluice_gateway_journal_{name}"), help), &[label])?;
            registry.register(Box::new(made.clone()))?;
            Ok::<_, prometheus::Error>(made)
        };
        let gauge = |name: &str, help: &str| {
            let made = IntGauge::new(format!("sluice_gateway_journal_{name}"), help)?;
            registry.register(Box::new(made.clone()))?;
            Ok::<_, prometheus::Error>(made)
        };
        let sync_seconds = Histogram::with_opts(
            HistogramOpts::new(
                "sluice_gateway_journal_sync_seconds",
                "Time that one group of entries took to be written and synced.",
            )
            .buckets(exponential_buckets(0.000_25, 2.0, 16)?),
        )?;
        registry.register(Box::new(sync_seconds.clone()))?;
        Ok(Self {
            appends: counters("appends_total", "Entries by what became of them.", "outcome")?,
            stored_bytes: counter("stored_bytes_total", "Bytes of entries made durable.")?,
            size_bytes: gauge("size_bytes", "Bytes that the segments take.")?,
            max_bytes: gauge("max_bytes", "Bytes that the segments may take.")?,
            queue_bytes: gauge("queue_bytes", "Bytes of entries that wait for their commit.")?,
            queue_max_bytes: gauge("queue_max_bytes", "Bytes of entries that may wait for their commit.")?,
            sync_seconds,
            lanes: gauge("lanes", "Lanes whose highest number is remembered.")?,
            lanes_bytes: gauge("lanes_bytes", "Memory that the lanes take.")?,
            lanes_max_bytes: gauge(
                "lanes_max_bytes",
                "Memory that the lanes may take; new ones are refused above it.",
            )?,
            snapshots: counters("snapshots_total", "Snapshots of the lanes by result.", "result")?,
            files_set_aside: counters(
                "files_set_aside_total",
                "Cursors and snapshots that were damaged, or nobody's, and went to quarantine.",
                "kind",
            )?,
            lost_entries: counters(
                "lost_entries_total",
                "Entries that a destination could not read any more: damaged, or gone.",
                "destination",
            )?,
        })
    }
}
