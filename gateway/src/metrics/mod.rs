//! Every metric that the gateway has, by room.

pub mod deliver;
pub mod journal;
pub mod receive;

use prometheus::{IntCounter, IntGauge, Registry};

use self::deliver::DeliverMetrics;
use self::journal::JournalMetrics;
use self::receive::ReceiveMetrics;

/// All of them, in one registry.
#[derive(Debug, Clone)]
pub struct Metrics {
    /// What `/metrics` prints.
    pub registry: Registry,
    /// What comes in.
    pub receive: ReceiveMetrics,
    /// The journal's.
    pub journal: JournalMetrics,
    /// The delivery's.
    pub deliver: DeliverMetrics,
    /// The configuration's.
    pub config: ConfigMetrics,
    /// Connections of the push listener.
    pub push_connections: IntGauge,
    /// Connections that the push listener may have.
    pub push_max_connections: IntGauge,
    /// Connections of the admin listener.
    pub admin_connections: IntGauge,
}

/// How reloads go.
#[derive(Debug, Clone)]
pub struct ConfigMetrics {
    /// 1 while the file is not in force because of a fault in it.
    pub reload_failed: IntGauge,
    /// 1 while the file has changes that need a restart.
    pub needs_restart: IntGauge,
    /// 1 while a renewed certificate cannot be used.
    pub tls_reload_failed: IntGauge,
    /// Policies put in force since the start.
    pub reloads: IntCounter,
}

impl Metrics {
    /// Makes and registers them.
    ///
    /// # Errors
    /// If two have one name.
    pub fn new() -> prometheus::Result<Self> {
        let registry = Registry::new();
        let gauge =
            |name: &str, help: &str| register(&registry, IntGauge::new(format!("sluice_gateway_{name}"), help)?);
        let config = ConfigMetrics {
            reload_failed: gauge(
                "config_reload_failed",
                "1 while the configuration file has a fault and the last good one is in force.",
            )?,
            needs_restart: gauge(
                "config_needs_restart",
                "1 while the configuration file has changes that need a restart.",
            )?,
            tls_reload_failed: gauge("config_tls_reload_failed", "1 while renewed TLS files cannot be used.")?,
            reloads: register(
                &registry,
                IntCounter::new("sluice_gateway_config_reloads_total", "Policies put in force since the start.")?,
            )?,
        };
        Ok(Self {
            receive: ReceiveMetrics::register(&registry)?,
            journal: JournalMetrics::register(&registry)?,
            deliver: DeliverMetrics::register(&registry)?,
            config,
            push_connections: gauge("push_connections", "Connections of agents.")?,
            push_max_connections: gauge("push_max_connections", "Connections of agents that there may be.")?,
            admin_connections: gauge("admin_connections", "Connections of the admin listener.")?,
            registry,
        })
    }
}

fn register<C: prometheus::core::Collector + Clone + 'static>(registry: &Registry, made: C) -> prometheus::Result<C> {
    registry.register(Box::new(made.clone()))?;
    Ok(made)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_is_ours_and_there_is_none_twice() {
        let metrics = Metrics::new().unwrap();
        let families = metrics.registry.gather();
        assert!(families.iter().all(|family| family.name().starts_with("sluice_gateway_")));
        assert!(families.len() > 10);
    }
}
