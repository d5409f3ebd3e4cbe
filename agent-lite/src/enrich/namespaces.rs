//! Labels of the namespaces that have pods here, by choice.
//!
//! A GET for each, out of the API server's cache (`resourceVersion=0`), again every five minutes. A watch
//! would send every node every namespace of the cluster, and a node has pods of a few.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use serde::Deserialize;
use tokio::time::sleep;

use super::Pods;
use super::api::{self, Access, Failure};
use super::pods::encoded;
use crate::backoff::Backoff;

/// Age at which a namespace's labels are asked for again.
const AGE: Duration = Duration::from_secs(300);
/// Between two requests, and between looks whether a namespace's labels are old enough.
const PACE: Duration = Duration::from_millis(100);
const LOOK: Duration = Duration::from_secs(10);

#[derive(Default, Deserialize)]
#[serde(default)]
struct Namespace {
    metadata: Metadata,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Metadata {
    #[serde(deserialize_with = "super::pod::or_default")]
    labels: BTreeMap<String, String>,
}

/// Keeps the labels of namespaces that have pods here.
pub(super) async fn follow(pods: &Pods, api: &Access) {
    let mut backoff = Backoff::new(Duration::from_millis(500), Duration::from_secs(60));
    loop {
        let seen = pods.generation();
        let Some(name) = pods.table().due_namespace(AGE, Instant::now()) else {
            let _ = tokio::time::timeout(LOOK, pods.changed(seen)).await;
            continue;
        };
        let labels = match labels(api, &name).await {
            Ok(labels) => Some(labels),
            Err(failure) => {
                pods.0.metrics.errors.with_label_values(&[failure.kind]).inc();
                tracing::debug!(error = %failure, namespace = %name, "no labels of a namespace");
                if !["forbidden", "not-found"].contains(&failure.kind) {
                    api.forget().await;
                    sleep(backoff.failed()).await;
                    continue;
                }
                // It will not be told any sooner: nobody is to wait for it.
                None
            }
        };
        backoff.succeeded();
        pods.update(|table| table.put_namespace(&name, labels, Instant::now()));
        sleep(PACE).await;
    }
}

async fn labels(api: &Access, name: &str) -> Result<BTreeMap<String, String>, Failure> {
    let client = api.client().await?;
    let uri = format!("/api/v1/namespaces/{}?resourceVersion=0", encoded(name));
    let body = api::get(&client, &uri).await?.whole().await?;
    let namespace: Namespace = serde_json::from_slice(&body).map_err(|error| Failure::new("malformed", &error))?;
    Ok(namespace.metadata.labels)
}
