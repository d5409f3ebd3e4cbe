//! What the delivery counts, for each destination.
//!
//! The books of a destination, since the gateway started:
//! `routed + unparked = delivered + rejected + parked + lost + undecided` (entries).

use prometheus::{HistogramOpts, HistogramVec, IntCounterVec, IntGaugeVec, Opts, Registry, exponential_buckets};

/// The delivery's metrics. Cheap to clone; all clones count into the same registry.
#[derive(Debug, Clone)]
pub struct DeliverMetrics {
    pub(crate) entries: IntCounterVec,
    pub(crate) records: IntCounterVec,
    pub(crate) bytes: IntCounterVec,
    pub(crate) batches: IntCounterVec,
    pub(crate) request_seconds: HistogramVec,
    pub(crate) resent: IntCounterVec,
    pub(crate) completed: IntCounterVec,
    pub(crate) duplicated_records: IntCounterVec,
    pub(crate) count_failures: IntCounterVec,
    pub(crate) saves: IntCounterVec,
    pub(crate) dead_letters: IntCounterVec,
    pub(crate) set_aside_batches: IntCounterVec,
    pub(crate) undecided_entries: IntGaugeVec,
    pub(crate) undecided_max_entries: IntGaugeVec,
    pub(crate) loaded_bytes: IntGaugeVec,
    pub(crate) loaded_max_bytes: IntGaugeVec,
    pub(crate) trailing_batches: IntGaugeVec,
    pub(crate) lag_entries: IntGaugeVec,
    pub(crate) lag_bytes: IntGaugeVec,
    pub(crate) lag_seconds: IntGaugeVec,
    pub(crate) parked_entries: IntGaugeVec,
    pub(crate) parked_bytes: IntGaugeVec,
    pub(crate) parked_max_bytes: IntGaugeVec,
    pub(crate) held: IntGaugeVec,
    pub(crate) stopped: IntGaugeVec,
    pub(crate) dead_letter_bytes: IntGaugeVec,
    pub(crate) dead_letter_max_bytes: IntGaugeVec,
}

const DESTINATION: &str = "destination";

impl DeliverMetrics {
    /// Makes and registers them.
    ///
    /// # Errors
    /// If `registry` has one of the names already.
    pub fn register(registry: &Registry) -> prometheus::Result<Self> {
        let counter = |name: &str, help: &str, labels: &[&str]| {
            let labels = [&[DESTINATION], labels].concat();
            let made = IntCounterVec::new(Opts::new(format!("sluice_gateway_deliver_{name}"), help), &labels)?;
            registry.register(Box::new(made.clone()))?;
            Ok::<_, prometheus::Error>(made)
        };
        let gauge = |name: &str, help: &str, labels: &[&str]| {
            let labels = [&[DESTINATION], labels].concat();
            let made = IntGaugeVec::new(Opts::new(format!("sluice_gateway_deliver_{name}"), help), &labels)?;
            registry.register(Box::new(made.clone()))?;
            Ok::<_, prometheus::Error>(made)
        };
        let request_seconds = HistogramVec::new(
            HistogramOpts::new("sluice_gateway_deliver_request_seconds", "Time that a batch took to be answered.")
                .buckets(exponential_buckets(0.001, 2.0, 17)?),
            &[DESTINATION],
        )?;
        registry.register(Box::new(request_seconds.clone()))?;
        Ok(Self {
            entries: counter("entries_total", "Entries by what became of them.", &["outcome"])?,
            records: counter("records_total", "Records decided.", &["tenant", "category", "outcome"])?,
            bytes: counter("bytes_total", "Compressed bytes of entries delivered.", &[])?,
            batches: counter("batches_total", "Batches sent, by the outcome of each attempt.", &["outcome"])?,
            request_seconds,
            resent: counter("resent_batches_total", "Batches of which the store held nothing when counted.", &[])?,
            completed: counter("completed_batches_total", "Batches of which the store held a part when counted.", &[])?,
            duplicated_records: counter(
                "duplicated_records_total",
                "Records that the store holds more than once.",
                &[],
            )?,
            count_failures: counter("count_failures_total", "Queries for stored batches that failed.", &[])?,
            saves: counter("saves_total", "Saves of the cursor.", &["result"])?,
            dead_letters: counter("dead_letters_total", "Records kept as dead letters.", &["reason"])?,
            set_aside_batches: counter(
                "set_aside_batches_total",
                "Batches under way that were of another journal.",
                &[],
            )?,
            undecided_entries: gauge("undecided_entries", "Entries taken in and not decided.", &[])?,
            undecided_max_entries: gauge(
                "undecided_max_entries",
                "Entries that may be taken in and not decided.",
                &[],
            )?,
            loaded_bytes: gauge("loaded_bytes", "Bytes of batches in memory.", &[])?,
            loaded_max_bytes: gauge(
                "loaded_max_bytes",
                "Bytes of batches in memory above which nothing is read.",
                &[],
            )?,
            trailing_batches: gauge(
                "trailing_batches",
                "Batches that are answered and not yet passed by the cursor.",
                &[],
            )?,
            lag_entries: gauge("lag_entries", "Entries of the journal that are not decided.", &[])?,
            lag_bytes: gauge("lag_bytes", "Bytes of the journal from the cursor on.", &[])?,
            lag_seconds: gauge("lag_seconds", "Age of the oldest entry that was taken in and is not decided.", &[])?,
            parked_entries: gauge("parked_entries", "Entries in the parking log.", &[])?,
            parked_bytes: gauge("parked_bytes", "Bytes that the parking log takes.", &[])?,
            parked_max_bytes: gauge("parked_max_bytes", "Bytes that the parking log may take.", &[])?,
            held: gauge(
                "held",
                "1 while nothing goes out for the tenant because of a mistake in configuration.",
                &["tenant"],
            )?,
            stopped: gauge("stopped", "1 while the destination cannot be set up, and nothing goes to it.", &[])?,
            dead_letter_bytes: gauge("dead_letter_bytes", "Bytes that dead letters take.", &[])?,
            dead_letter_max_bytes: gauge(
                "dead_letter_max_bytes",
                "Bytes that dead letters may take; delivery stops there.",
                &[],
            )?,
        })
    }
}
