//! One way to make a metric and have it shown.

use prometheus::{Gauge, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry, core::Collector};

/// What every name begins with.
const PREFIX: &str = "sluice_agent_";

/// Makes metrics under their short names, and registers them. Each fails where a name is there already.
#[derive(Debug, Clone, Copy)]
pub(super) struct Register<'a>(pub(super) &'a Registry);

impl Register<'_> {
    pub(super) fn counter(self, name: &str, help: &str) -> prometheus::Result<IntCounter> {
        self.shown(IntCounter::new(format!("{PREFIX}{name}_total"), help)?)
    }

    pub(super) fn gauge(self, name: &str, help: &str) -> prometheus::Result<IntGauge> {
        self.shown(IntGauge::new(format!("{PREFIX}{name}"), help)?)
    }

    pub(super) fn seconds(self, name: &str, help: &str) -> prometheus::Result<Gauge> {
        self.shown(Gauge::new(format!("{PREFIX}{name}_seconds"), help)?)
    }

    pub(super) fn counters(self, name: &str, help: &str, labels: &[&str]) -> prometheus::Result<IntCounterVec> {
        self.shown(IntCounterVec::new(Opts::new(format!("{PREFIX}{name}_total"), help), labels)?)
    }

    pub(super) fn gauges(self, name: &str, help: &str, labels: &[&str]) -> prometheus::Result<IntGaugeVec> {
        self.shown(IntGaugeVec::new(Opts::new(format!("{PREFIX}{name}"), help), labels)?)
    }

    fn shown<T: Collector + Clone + 'static>(self, metric: T) -> prometheus::Result<T> {
        self.0.register(Box::new(metric.clone()))?;
        Ok(metric)
    }
}
