//! Metrics of settings that change while the agent runs.

use prometheus::IntGauge;

use super::register::Register;

/// How the last look at the settings went.
#[derive(Debug, Clone)]
pub struct ReloadMetrics {
    /// The file is unsound.
    pub failed: IntGauge,
    /// The file has changes that are not in force.
    pub needs_restart: IntGauge,
    /// When settings changed last, seconds of the epoch.
    pub last: IntGauge,
}

impl ReloadMetrics {
    pub(super) fn new(register: Register<'_>) -> prometheus::Result<Self> {
        Ok(Self {
            failed: register.gauge(
                "config_reload_failed",
                "1 while the settings as they stand in their file are unsound: the last good ones are in force.",
            )?,
            needs_restart: register
                .gauge("config_needs_restart", "1 while the settings have changes that wait for a restart.")?,
            last: register.gauge(
                "config_last_reload_timestamp_seconds",
                "When settings were taken over last, at the start or since.",
            )?,
        })
    }
}
