//! This node's pods out of the API server: one list, then one watch that goes on where the last one
//! ended. Listed again only where the server has forgotten the version that we know (410).
//!
//! The list is asked for with `resourceVersion=0`: the server answers out of its cache, and never
//! asks etcd for it. It then sends all of a node's pods in one reply, which is taken apart as it comes.

use std::time::Duration;

use serde::Deserialize;
use serde_json::value::RawValue;
use tokio::time::{Instant, sleep};

use super::Pods;
use super::api::{self, Access, Failure, Reply, Status};
use super::items::Items;
use super::pod::Pod;
use crate::backoff::Backoff;

/// Pods in one reply, where the server cuts lists at all.
const PAGE: usize = 250;
/// Silence within a list.
const LIST_IDLE: Duration = Duration::from_secs(30);
/// Silence of a watch. The server sends a bookmark each minute.
const WATCH_IDLE: Duration = Duration::from_secs(150);
/// Seconds after which the server is to end a watch; drawn, so that a fleet's do not end together.
const WATCH_SECONDS: std::ops::Range<u32> = 240..360;
/// Bytes of one event.
const MAX_EVENT: usize = 4 * 1024 * 1024;
/// A watch that lived for so long ends a row of failures.
const LIVED: Duration = Duration::from_secs(10);

/// Keeps the table as the API server has it.
pub(super) async fn follow(pods: &Pods, api: &Access, node: &str) {
    let mut backoff = Backoff::new(Duration::from_millis(500), Duration::from_secs(60));
    let mut version = None;
    let mut said: Option<Failure> = None;
    loop {
        let mut watching = None;
        let ended = session(pods, api, node, &mut version, &mut watching).await;
        let lived = watching.is_some_and(|since: Instant| since.elapsed() >= LIVED);
        if lived {
            backoff.succeeded();
        }
        match ended {
            // Its time was up.
            Ok(()) if lived => continue,
            Ok(()) => {}
            Err(failure) => {
                pods.0.metrics.errors.with_label_values(&[failure.kind]).inc();
                if failure.kind == "gone" {
                    version = None;
                }
                api.forget().await;
                // The same trouble is said once, until it is over.
                if said.as_ref().is_none_or(|said| said.kind != failure.kind) || lived {
                    tracing::warn!(error = %failure, kind = failure.kind, "the API server's pods cannot be followed");
                }
                said = Some(failure);
            }
        }
        sleep(backoff.failed()).await;
    }
}

/// A list where there is no version yet, then a watch until it ends; `watching`: since when.
async fn session(
    pods: &Pods,
    api: &Access,
    node: &str,
    version: &mut Option<String>,
    watching: &mut Option<Instant>,
) -> Result<(), Failure> {
    let client = api.client().await?;
    let from = match version {
        Some(version) => version,
        None => version.insert(list(pods, &client, node).await?),
    };
    let seconds = rand::random_range(WATCH_SECONDS);
    let uri = format!(
        "/api/v1/pods?fieldSelector=spec.nodeName%3D{}&watch=true&allowWatchBookmarks=true&timeoutSeconds={seconds}\
         &resourceVersion={from}",
        encoded(node)
    );
    pods.0.metrics.watches.inc();
    let mut reply = api::get(&client, &uri).await?;
    *watching = Some(Instant::now());
    pods.in_contact();
    watch(pods, &mut reply, from).await
}

/// Takes over all pods; gives the version that they are of.
async fn list(pods: &Pods, client: &kube::Client, node: &str) -> Result<String, Failure> {
    pods.begin_list();
    let mut uri = format!(
        "/api/v1/pods?fieldSelector=spec.nodeName%3D{}&limit={PAGE}&resourceVersion=0&resourceVersionMatch=NotOlderThan",
        encoded(node)
    );
    loop {
        let frame = take(pods, api::get(client, &uri).await?).await?;
        if frame.more.is_empty() {
            pods.end_list();
            pods.in_contact();
            return Ok(frame.resource_version);
        }
        uri = format!(
            "/api/v1/pods?fieldSelector=spec.nodeName%3D{}&limit={PAGE}&continue={}",
            encoded(node),
            encoded(&frame.more)
        );
    }
}

/// Puts the pods of one reply into the table as they come.
pub(super) async fn take(pods: &Pods, mut reply: Reply) -> Result<super::items::ListMetadata, Failure> {
    let mut items = Items::default();
    while let Some(bytes) = reply.next(LIST_IDLE).await? {
        let each = |item: Option<&[u8]>| match item.map(serde_json::from_slice::<Pod>) {
            Some(Ok(pod)) => pods.put(&pod),
            Some(Err(error)) => malformed(pods, &error),
            None => malformed(pods, &"too large"),
        };
        items.feed(&bytes, each).map_err(|error| Failure::new("malformed", &error))?;
    }
    Ok(items.finish().map_err(|error| Failure::new("malformed", &error))?.metadata)
}

/// One pod that cannot be read harms itself alone.
fn malformed(pods: &Pods, error: &dyn std::fmt::Display) {
    pods.0.metrics.errors.with_label_values(&["malformed"]).inc();
    tracing::debug!(%error, "a pod that cannot be read");
}

/// An event, one on each line.
#[derive(Deserialize)]
struct Event<'a> {
    #[serde(rename = "type")]
    kind: &'a str,
    #[serde(borrow)]
    object: &'a RawValue,
}

/// Acts on events until the server ends the watch.
async fn watch(pods: &Pods, reply: &mut Reply, version: &mut String) -> Result<(), Failure> {
    let mut line = Vec::new();
    while let Some(bytes) = reply.next(WATCH_IDLE).await? {
        pods.in_contact();
        let mut parts = bytes.split(|byte| *byte == b'\n').peekable();
        while let Some(part) = parts.next() {
            line.extend_from_slice(part);
            if line.len() > MAX_EVENT {
                return Err(Failure::refused(410, "an event that is too large: the pods are listed anew"));
            }
            if parts.peek().is_some() {
                act(pods, &line, version)?;
                line.clear();
                line.shrink_to(64 * 1024);
            }
        }
    }
    Ok(())
}

fn act(pods: &Pods, line: &[u8], version: &mut String) -> Result<(), Failure> {
    let event: Event<'_> = match serde_json::from_slice(line) {
        Ok(event) => event,
        Err(error) => {
            malformed(pods, &error);
            return Ok(());
        }
    };
    if event.kind == "ERROR" {
        let status: Status = serde_json::from_str(event.object.get()).unwrap_or_default();
        return Err(status.into());
    }
    let pod: Pod = match serde_json::from_str(event.object.get()) {
        Ok(pod) => pod,
        Err(error) => {
            malformed(pods, &error);
            return Ok(());
        }
    };
    match event.kind {
        "ADDED" | "MODIFIED" => pods.put(&pod),
        "DELETED" => {
            // With it comes what it was at last, such as the id of its last container.
            pods.put(&pod);
            pods.gone(&pod.metadata.uid);
        }
        // BOOKMARK: only the version.
        _ => {}
    }
    if !pod.metadata.resource_version.is_empty() {
        version.clone_from(&pod.metadata.resource_version);
    }
    Ok(())
}

/// For a query: what is not unreserved is written by its number (RFC 3986).
pub(super) fn encoded(text: &str) -> String {
    let mut out = String::new();
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}
