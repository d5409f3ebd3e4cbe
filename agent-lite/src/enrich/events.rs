//! Tells the owner of a pod, by an Event on it, that an annotation is wrong: `kubectl describe pod` shows it.
//! The event's name is made of the pod's uid and the problem, so that it is there once, however often an
//! agent is restarted.

use std::time::Duration;

use serde_json::json;
use sluice_wire::time;
use tokio::sync::mpsc;
use tokio::time::sleep;
use xxhash_rust::xxh3::xxh3_64;

use super::annotations::Problem;
use super::api::{self, Access};
use super::pod::Pod;
use super::pods::encoded;
use crate::metrics::KubernetesMetrics;

/// Ten a minute of one node.
const PACE: Duration = Duration::from_secs(6);
/// Bytes of a note. The API takes fewer than 1,024.
const MAX_NOTE: usize = 900;
/// Bytes of an event's name that are its pod's; all of it is at most 253.
const MAX_NAME: usize = 200;

/// A problem to be told.
#[derive(Debug)]
pub(super) struct Report {
    namespace: String,
    pod: String,
    uid: String,
    note: String,
}

impl Report {
    pub(super) fn new(pod: &Pod, problem: &Problem) -> Self {
        let note = problem.to_string();
        let end = (0..=MAX_NOTE.min(note.len())).rev().find(|end| note.is_char_boundary(*end)).unwrap_or(0);
        Self {
            namespace: pod.metadata.namespace.clone(),
            pod: pod.metadata.name.clone(),
            uid: pod.metadata.uid.clone(),
            note: note[..end].to_owned(),
        }
    }

    /// The same for the same pod and problem.
    fn name(&self) -> String {
        let id = xxh3_64(format!("{}\n{}", self.uid, self.note).as_bytes());
        // A pod's name is ASCII; one that is not is refused by the API, not by us.
        let pod: String = self.pod.chars().take(MAX_NAME).collect();
        format!("{}.sluice.{id:016x}", pod.trim_end_matches(['-', '.']))
    }

    fn event(&self, node: &str, now: i64) -> Vec<u8> {
        // The API takes 128 characters.
        let node: String = node.chars().take(128).collect();
        let mut text = Vec::new();
        time::write(now, &mut text);
        // The API's `MicroTime` takes six digits, no more and no fewer.
        text.truncate("2006-01-02T15:04:05.000000".len());
        let at = format!("{}Z", String::from_utf8_lossy(&text));
        let regarding = json!({"apiVersion": "v1", "kind": "Pod", "namespace": self.namespace, "name": self.pod,
            "uid": self.uid});
        json!({
            "apiVersion": "events.k8s.io/v1", "kind": "Event",
            "metadata": {"namespace": self.namespace, "name": self.name()},
            "eventTime": at, "type": "Warning", "reason": "InvalidLogAnnotation", "action": "ReadAnnotations",
            "reportingController": "sluice.dev/agent", "reportingInstance": node,
            "regarding": regarding, "note": self.note,
        })
        .to_string()
        .into_bytes()
    }
}

/// Writes what comes, one at a time, until nothing can come any more. Where that is forbidden it ends: the
/// rest is only counted.
pub(super) async fn write(mut reports: mpsc::Receiver<Report>, api: &Access, node: &str, metrics: &KubernetesMetrics) {
    while let Some(report) = reports.recv().await {
        let uri = format!("/apis/events.k8s.io/v1/namespaces/{}/events", encoded(&report.namespace));
        let sent = match api.client().await {
            Ok(client) => api::post(&client, &uri, report.event(node, wall_ns())).await,
            Err(failure) => Err(failure),
        };
        match sent {
            Ok(()) => metrics.events.inc(),
            // Told before.
            Err(failure) if failure.kind == "conflict" => continue,
            Err(failure) => {
                metrics.errors.with_label_values(&[failure.kind]).inc();
                tracing::debug!(error = %failure, "an event cannot be written");
                if failure.kind == "forbidden" {
                    return;
                }
            }
        }
        sleep(PACE).await;
    }
}

fn wall_ns() -> i64 {
    let now = std::time::SystemTime::now().duration_since(std::time::SystemTime::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(now.as_nanos()).unwrap_or(i64::MAX)
}
