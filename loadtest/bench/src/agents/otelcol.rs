//! The peer: filelog receiver with the container operator, OTLP over HTTP with gzip; where pods' metadata is asked
//! for, the k8sattributes processor with a watch of this node's pods.
//!
//! Where there is a choice it gets the faster or safer one: positions are not stored, the queue is in memory
//! and waits instead of dropping, requests are batched by thousands, and the names that Sluice puts on every
//! record stand once in a request's resource.

use std::path::PathBuf;

use sluice_harness::parts;

use super::Job;
use crate::{
    error::Result,
    node::{CLUSTER, ENVIRONMENT, NODE},
};

pub(super) fn binary() -> Result<PathBuf> {
    Ok(parts::binary("otelcol")?)
}

/// Pods are known by the uid that their log's directory has; all their labels, and what else Sluice says of them.
/// Nothing is passed on before the pods are known. The kubeconfig is in the environment.
fn processor() -> String {
    format!(
        "processors:
  k8sattributes:
    auth_type: kubeConfig
    filter: {{node: '{NODE}'}}
    wait_for_metadata: true
    extract:
      metadata: [k8s.pod.name, k8s.pod.uid, k8s.namespace.name, container.id, container.image.name, container.image.tag]
      labels: [{{tag_name: $$1, key_regex: (.*), from: pod}}]
    pod_association:
      - sources: [{{from: resource_attribute, name: k8s.pod.uid}}]
"
    )
}

pub(super) fn settings(job: &Job<'_>) -> String {
    let (pods, url) = (job.pods.display(), job.url());
    let tls = job.ca.map_or_else(String::new, |ca| format!("\n    tls: {{ca_file: '{}'}}", ca.display()));
    let (processor, used) = match job.kubeconfig {
        Some(_) => (processor(), "k8sattributes"),
        None => (String::new(), ""),
    };
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
{processor}exporters:
  otlphttp:
    endpoint: {url}{tls}
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
    logs: {{receivers: [filelog], processors: [{used}], exporters: [otlphttp]}}
"
    )
}
