//! Metrics of what is asked of the Kubernetes API.

use prometheus::{IntCounter, IntCounterVec, IntGauge};

use super::register::Register;

/// Handles; cheap to clone.
#[derive(Debug, Clone)]
pub struct KubernetesMetrics {
    /// Pods in the table.
    pub pods: IntGauge,
    /// Pods that the table had no room for.
    pub pods_left_out: IntCounter,
    /// Whole lists, or polls, that were taken over.
    pub syncs: IntCounter,
    /// Lists asked for.
    pub lists: IntCounter,
    /// Watches opened.
    pub watches: IntCounter,
    /// What failed, by kind.
    pub errors: IntCounterVec,
    /// Look-ups of pods that are not known.
    pub missed: IntCounter,
    /// Labels and annotations that a record has no room for.
    pub labels_left_out: IntCounter,
    /// Annotations that ask for what is not to be had.
    pub annotation_errors: IntCounter,
    /// Events written.
    pub events: IntCounter,
    /// Seconds since the epoch.
    pub last_contact: IntGauge,
}

impl KubernetesMetrics {
    pub(super) fn new(register: Register<'_>) -> prometheus::Result<Self> {
        let counter = |name, help| register.counter(name, help);
        let gauge = |name, help| register.gauge(name, help);
        Ok(Self {
            pods: gauge("kubernetes_pods", "Pods whose metadata is known, with those that are gone but not shipped.")?,
            pods_left_out: counter("kubernetes_pods_left_out", "Times that a pod was not kept: over max_pods.")?,
            syncs: counter("kubernetes_syncs", "Whole lists of pods taken over.")?,
            lists: counter("kubernetes_lists", "Lists of pods asked for.")?,
            watches: counter("kubernetes_watches", "Watches of pods opened.")?,
            errors: register.counters(
                "kubernetes_errors",
                "Failures of asking the Kubernetes API, by kind.",
                &["kind"],
            )?,
            missed: counter("kubernetes_missed_lookups", "Look-ups of pods that are not known.")?,
            labels_left_out: counter("kubernetes_labels_left_out", "Labels and annotations over a record's bounds.")?,
            annotation_errors: counter("annotation_errors", "Annotations of pods that ask for what is not to be had.")?,
            events: counter("kubernetes_events", "Events written on pods with wrong annotations.")?,
            last_contact: gauge("kubernetes_last_contact_timestamp_seconds", "When the source of pods last answered.")?,
        })
    }
}
