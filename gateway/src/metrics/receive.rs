//! What comes in, and what becomes of it at the door.
//!
//! The books, in blocks, lines and raw bytes: `received = accepted + refused + unknown`, where accepted
//! holds the duplicates, which were accepted before. A block whose header cannot be read has no lines.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};

use prometheus::{Histogram, HistogramOpts, IntCounter, IntCounterVec, IntGauge, Opts, Registry, exponential_buckets};
use sluice_wire::{Category, Header, Reason, Verdict};

/// Tenants that have a label of their own; those that a reload brings above that share `other`.
const TENANT_LABELS: usize = 1000;

/// The metrics of receiving. Cheap to clone; all clones count into the same registry.
#[derive(Debug, Clone)]
pub struct ReceiveMetrics {
    pub(crate) requests: IntCounter,
    pub(crate) refused_requests: IntCounterVec,
    pub(crate) request_seconds: Histogram,
    pub(crate) body_bytes: IntCounter,
    pub(crate) memory_bytes: IntGauge,
    pub(crate) memory_max_bytes: IntGauge,
    received: Volume<IntCounter>,
    accepted: Volume<IntCounterVec>,
    duplicate: Volume<IntCounterVec>,
    refused: Volume<IntCounterVec>,
    unknown: Volume<IntCounterVec>,
    tenants: Arc<Mutex<HashSet<Arc<str>>>>,
}

#[derive(Debug, Clone)]
struct Volume<C> {
    blocks: C,
    lines: C,
    bytes: C,
}

/// What a block counts for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Size {
    pub(crate) lines: u32,
    pub(crate) raw_bytes: u32,
    pub(crate) category: Category,
}

impl From<&Header> for Size {
    fn from(header: &Header) -> Self {
        Self { lines: header.records, raw_bytes: header.raw_len, category: header.lane.category }
    }
}

impl Volume<IntCounter> {
    fn add(&self, size: Option<Size>) {
        self.blocks.inc();
        self.lines.inc_by(size.map_or(0, |size| size.lines.into()));
        self.bytes.inc_by(size.map_or(0, |size| size.raw_bytes.into()));
    }
}

impl Volume<IntCounterVec> {
    fn add(&self, labels: &[&str], size: Option<Size>) {
        self.blocks.with_label_values(labels).inc();
        self.lines.with_label_values(labels).inc_by(size.map_or(0, |size| size.lines.into()));
        self.bytes.with_label_values(labels).inc_by(size.map_or(0, |size| size.raw_bytes.into()));
    }
}

impl ReceiveMetrics {
    /// Makes and registers them.
    ///
    /// # Errors
    /// If `registry` has one of the names already.
    pub fn register(registry: &Registry) -> prometheus::Result<Self> {
        let name = |name: &str| format!("sluice_gateway_receive_{name}");
        let counter = |what: &str, help: &str| super::register(registry, IntCounter::new(name(what), help)?);
        let gauge = |what: &str, help: &str| super::register(registry, IntGauge::new(name(what), help)?);
        let labelled = |what: &str, help: &str, labels: &[&str]| {
            super::register(registry, IntCounterVec::new(Opts::new(name(what), help), labels)?)
        };
        let volume = |what: &str, help: &str, labels: &[&str]| {
            Ok::<_, prometheus::Error>(Volume {
                blocks: labelled(&format!("{what}_blocks_total"), &format!("Blocks {help}"), labels)?,
                lines: labelled(&format!("{what}_lines_total"), &format!("Lines {help}"), labels)?,
                bytes: labelled(&format!("{what}_raw_bytes_total"), &format!("Raw bytes {help}"), labels)?,
            })
        };
        let request_seconds = HistogramOpts::new(name("request_seconds"), "Time from a request's head to its reply.")
            .buckets(exponential_buckets(0.001, 2.0, 16)?);
        Ok(Self {
            requests: counter("requests_total", "Push requests with a known credential.")?,
            refused_requests: labelled("refused_requests_total", "Requests refused as a whole.", &["reason"])?,
            request_seconds: super::register(registry, Histogram::with_opts(request_seconds)?)?,
            body_bytes: counter("body_bytes_total", "Bytes of request bodies.")?,
            memory_bytes: gauge("memory_bytes", "Bytes of the memory budget in use.")?,
            memory_max_bytes: gauge("memory_max_bytes", "Bytes of the memory budget.")?,
            received: Volume {
                blocks: counter("blocks_total", "Blocks received.")?,
                lines: counter("lines_total", "Lines received.")?,
                bytes: counter("raw_bytes_total", "Raw bytes received.")?,
            },
            accepted: volume("accepted", "that are durable.", &["tenant", "category"])?,
            duplicate: volume("duplicate", "accepted that were stored before.", &["tenant"])?,
            refused: volume("refused", "certainly not stored.", &["tenant", "reason"])?,
            unknown: volume("unknown", "that may be stored.", &["tenant", "reason"])?,
            tenants: Arc::default(),
        })
    }

    /// Counts a request that was refused as a whole, before its blocks were looked at.
    pub(crate) fn refused_request(&self, reason: Reason) {
        self.refused_requests.with_label_values(&[reason.word()]).inc();
    }

    /// Counts a block and its verdict. Without a size its header could not be read, without a tenant it
    /// has not come so far as to have one.
    pub(crate) fn block(&self, size: Option<Size>, tenant: Option<&Arc<str>>, verdict: Verdict, duplicate: bool) {
        self.received.add(size);
        let label = tenant.map_or("none", |tenant| self.label(tenant));
        match (verdict, verdict.reason()) {
            (Verdict::Unknown(reason), _) => self.unknown.add(&[label, reason.word()], size),
            (_, Some(reason)) => self.refused.add(&[label, reason.word()], size),
            (_, None) => {
                let category = size.map_or("none", |size| size.category.word());
                self.accepted.add(&[label, category], size);
                if duplicate {
                    self.duplicate.add(&[label], size);
                }
            }
        }
    }

    fn label<'t>(&self, tenant: &'t Arc<str>) -> &'t str {
        let mut tenants = self.tenants.lock().unwrap_or_else(PoisonError::into_inner);
        if tenants.contains(tenant) {
            return tenant;
        }
        if tenants.len() >= TENANT_LABELS {
            return "other";
        }
        tenants.insert(Arc::clone(tenant));
        tenant
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::receive::testing::header;
    use std::time::Duration;

    #[test]
    fn the_books_balance_and_labels_are_bounded() {
        let registry = Registry::new();
        let metrics = ReceiveMetrics::register(&registry).unwrap();
        let header = header("c", Category::Audit, "ns");
        let size = Some(Size::from(&header));
        for n in 0..TENANT_LABELS + 10 {
            let tenant: Arc<str> = format!("tenant-{n}").into();
            metrics.block(size, Some(&tenant), Verdict::Accepted, n % 2 == 0);
        }
        metrics.block(size, None, Verdict::RetryAfter(Duration::ZERO, Reason::Forbidden), false);
        metrics.block(None, None, Verdict::Rejected(Reason::Checksum), false);
        metrics.block(size, None, Verdict::Unknown(Reason::JournalFailed), false);

        let accepted = |tenant: &str| metrics.accepted.blocks.with_label_values(&[tenant, "audit"]).get();
        assert_eq!((accepted("tenant-0"), accepted("other")), (1, 10));
        assert_eq!(metrics.received.blocks.get(), TENANT_LABELS as u64 + 13);
        assert_eq!(metrics.received.lines.get(), (TENANT_LABELS as u64 + 12) * u64::from(header.records));
        let refused = |reason: Reason| metrics.refused.blocks.with_label_values(&["none", reason.word()]).get();
        assert_eq!((refused(Reason::Forbidden), refused(Reason::Checksum)), (1, 1));
        assert_eq!(
            metrics.unknown.lines.with_label_values(&["none", "journal-failed"]).get(),
            u64::from(header.records)
        );
    }
}
