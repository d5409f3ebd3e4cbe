//! Metrics of what the container runtime says of logs.

use prometheus::{IntCounter, IntGauge};

use super::register::Register;

/// Handles; cheap to clone.
#[derive(Debug, Clone)]
pub struct RuntimeMetrics {
    /// Bytes that it wrote.
    pub output_bytes: IntCounter,
    /// Lines and parts of lines that it wrote.
    pub output_entries: IntCounter,
    /// Bytes that it wrote less those that were seen.
    pub unseen_bytes: IntGauge,
    /// Times that it could not be asked.
    pub scrape_errors: IntCounter,
}

impl RuntimeMetrics {
    pub(super) fn new(register: Register<'_>) -> prometheus::Result<Self> {
        Ok(Self {
            output_bytes: register
                .counter("runtime_output_bytes", "Bytes that the container runtime says it wrote to logs.")?,
            output_entries: register
                .counter("runtime_output_entries", "Lines, and parts, that the container runtime says it wrote.")?,
            unseen_bytes: register.gauge(
                "runtime_unseen_bytes",
                "Bytes the runtime says it wrote since the agent's start, less those seen in containers' logs.",
            )?,
            scrape_errors: register
                .counter("runtime_scrape_errors", "Times that the runtime's metrics could not be had.")?,
        })
    }
}
