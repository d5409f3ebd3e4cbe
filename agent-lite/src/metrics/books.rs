//! The equation of the books as metrics, by category and namespace (or unit): few series, which go with
//! what they stand for.

use std::collections::BTreeMap;

use prometheus::{IntCounterVec, IntGauge, IntGaugeVec};

use super::register::Register;

/// What was added to an account since it was last told, and what is under way now.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Volume {
    /// Bytes that appeared on the disk.
    pub written: u64,
    /// Bytes that were stored.
    pub acknowledged: u64,
    /// Bytes that were given up, by reason.
    pub abandoned: BTreeMap<&'static str, u64>,
    /// Bytes to be read.
    pub unread: i64,
    /// Bytes in blocks, and in lines that wait for their end.
    pub held: i64,
}

/// Handles; cheap to clone.
#[derive(Debug, Clone)]
pub struct BookMetrics {
    written: IntCounterVec,
    acknowledged: IntCounterVec,
    abandoned: IntCounterVec,
    unread: IntGaugeVec,
    held: IntGaugeVec,
    imbalance: IntGauge,
}

const LABELS: [&str; 2] = ["category", "scope"];

impl BookMetrics {
    pub(super) fn new(register: Register<'_>) -> prometheus::Result<Self> {
        Ok(Self {
            written: register.counters("books_written_bytes", "Bytes that appeared in log files.", &LABELS)?,
            acknowledged: register.counters(
                "books_acknowledged_bytes",
                "Bytes of log files whose lines a gateway has stored.",
                &LABELS,
            )?,
            abandoned: register.counters(
                "books_abandoned_bytes",
                "Bytes of log files that are not sent, by reason.",
                &[LABELS[0], LABELS[1], "reason"],
            )?,
            unread: register.gauges(
                "books_unread_bytes",
                "Bytes of log files that are still to be read.",
                &LABELS,
            )?,
            held: register.gauges(
                "books_held_bytes",
                "Bytes of log files in blocks that are not decided, or in lines that wait for their end.",
                &LABELS,
            )?,
            imbalance: register.gauge(
                "books_imbalance_bytes",
                "What written = acknowledged + abandoned + unread + held is off by, over all logs. Not 0: a fault of the agent.",
            )?,
        })
    }

    /// What the equation is off by, over all logs.
    pub fn set_imbalance(&self, bytes: i64) {
        self.imbalance.set(bytes);
    }

    /// Counts what happened to the logs of a category and scope, and shows what of them is under way.
    pub fn tell(&self, [category, scope]: [&str; 2], volume: &Volume) {
        let labels = [category, scope];
        self.written.with_label_values(&labels).inc_by(volume.written);
        self.acknowledged.with_label_values(&labels).inc_by(volume.acknowledged);
        for (reason, bytes) in &volume.abandoned {
            self.abandoned.with_label_values(&[category, scope, reason]).inc_by(*bytes);
        }
        self.unread.with_label_values(&labels).set(volume.unread);
        self.held.with_label_values(&labels).set(volume.held);
    }

    /// Drops the series of a category and scope of which no log is left.
    pub fn forget(&self, [category, scope]: [&str; 2], reasons: impl Iterator<Item = &'static str>) {
        let labels = [category, scope];
        // An error says that there was none.
        let _ = self.written.remove_label_values(&labels);
        let _ = self.acknowledged.remove_label_values(&labels);
        let _ = self.unread.remove_label_values(&labels);
        let _ = self.held.remove_label_values(&labels);
        reasons.for_each(|reason| drop(self.abandoned.remove_label_values(&[category, scope, reason])));
    }
}
