//! The peer: filelog receiver with the container operator, OTLP over HTTP with gzip.
//!
//! Where there is a choice it gets the faster or safer one: positions are not stored, the queue is in memory
//! and waits instead of dropping, requests are batched by thousands, and the names that Sluice puts on every
//! record stand once in a request's resource.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
};

use sluice_harness::parts;

use crate::{
    error::Result,
    node::{CLUSTER, ENVIRONMENT, NODE},
};

pub(super) fn binary() -> Result<PathBuf> {
    Ok(parts::binary("otelcol")?)
}

pub(super) fn settings(pods: &Path, sink: SocketAddr) -> String {
    let pods = pods.display();
    format!(
        "receivers:
  filelog:
    include: ['{pods}/*/*/*.log']
    start_at: beginning
    include_file_path: true
    include_file_name: false
    resource:
      k8s.cluster.name: {CLUSTER}
      deployment.environment.name: {ENVIRONMENT}
      k8s.node.name: {NODE}
    operators:
      - type: container
        id: container
exporters:
  otlphttp:
    endpoint: http://{sink}
    compression: gzip
    retry_on_failure: {{enabled: true, max_elapsed_time: 0}}
    sending_queue:
      enabled: true
      block_on_overflow: true
      batch: {{flush_timeout: 1s, min_size: 2000, max_size: 8000}}
service:
  telemetry:
    metrics: {{level: none}}
    logs: {{level: warn}}
  pipelines:
    logs: {{receivers: [filelog], exporters: [otlphttp]}}
"
    )
}
