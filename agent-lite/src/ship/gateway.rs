//! A connection to a gateway: greeted before its first block, so that the journal behind it is known
//! (rule 7).

use std::time::Duration;

use http::header::{CONTENT_TYPE, HeaderValue};
use http::{HeaderMap, Method, StatusCode};
use sluice_wire::push::{self, Hello, Versions};
use sluice_wire::{JournalId, Reason, Verdict};

use super::body::Chunks;
use super::connection::{Aside, ConnectError, Parcel, Reply, read_body};
use super::transport::{Http, NoResponse};

/// Bytes of a reply: a verdict has fewer than 64.
const MAX_REPLY: usize = 64 * sluice_wire::limits::REQUEST_BLOCKS;

/// Greeted.
#[derive(Debug)]
pub(super) struct Gateway {
    http: Http,
    path: String,
    journal: JournalId,
    limits: push::Limits,
}

impl Gateway {
    /// Greets the gateway at the other end.
    ///
    /// # Errors
    /// There is none, or it refuses.
    pub(super) async fn greet(mut http: Http) -> Result<Self, ConnectError> {
        let path = format!("{}{}", http.endpoint().url.path().trim_end_matches('/'), push::PATH);
        let none = |why: String| ConnectError::Greeting(why, None);
        let request = http.request(Method::GET, &path, Chunks::default()).map_err(|error| none(error.to_string()))?;
        let response = http.send(request).await.map_err(|error| match error {
            NoResponse::NotSent(why) | NoResponse::Broken(why) => none(why),
        })?;
        let status = response.status();
        let verdict = header_verdict(response.headers());
        let body = read_body(response.into_body(), MAX_REPLY).await.map_err(none)?;
        if status != StatusCode::OK {
            let words = || String::from_utf8_lossy(&body).trim().to_owned();
            let why = verdict.map_or_else(words, |verdict| verdict.to_string());
            return Err(ConnectError::Greeting(format!("status {status}: {why}"), verdict));
        }
        let hello: Hello = serde_json::from_slice(&body).map_err(|error| none(error.to_string()))?;
        if hello.wire.common(Versions::OURS).is_none() {
            return Err(ConnectError::Version { min: hello.wire.min, max: hello.wire.max, ours: push::VERSION });
        }
        let journal = hello.journal.parse().map_err(|_| none("its journal id is none".to_owned()))?;
        Ok(Self { http, path, journal, limits: hello.limits })
    }

    /// The journal behind it.
    pub(super) fn journal(&self) -> JournalId {
        self.journal
    }

    /// The gateway's limits.
    pub(super) fn limits(&self) -> &push::Limits {
        &self.limits
    }

    pub(super) fn http(&self) -> &Http {
        &self.http
    }

    /// Sends frames; the verdicts are the gateway's own words.
    pub(super) async fn push(&mut self, parcels: Vec<Parcel>) -> Reply {
        let blocks = parcels.len();
        let mut frames = Chunks::default();
        for parcel in parcels {
            frames.push(parcel.head);
            frames.push(parcel.payload);
        }
        self.push_frames(frames, blocks).await.unwrap_or_else(|why| Reply::InDoubt(why, None))
    }

    async fn push_frames(&mut self, frames: Chunks, blocks: usize) -> Result<Reply, String> {
        let mut request = self.http.request(Method::POST, &self.path, frames).map_err(|error| error.to_string())?;
        let headers = request.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(push::CONTENT_TYPE));
        let journal = HeaderValue::from_str(&self.journal.to_string()).map_err(|error| error.to_string())?;
        headers.insert(push::JOURNAL_HEADER, journal);
        let response = match self.http.send(request).await {
            Ok(response) => response,
            Err(NoResponse::NotSent(why)) => {
                return Ok(Reply::Aside(Aside { wait: Duration::ZERO, why, held: false, verdict: None }));
            }
            Err(NoResponse::Broken(why)) => return Err(why),
        };
        let status = response.status();
        let ours = response.headers().get(push::JOURNAL_HEADER).is_some();
        let verdict = header_verdict(response.headers());
        let body = read_body(response.into_body(), MAX_REPLY).await;
        match verdict {
            // It says so of itself, not of the blocks: another gateway may take them at once.
            Some(Verdict::RetryAfter(wait, Reason::Draining | Reason::Overload)) => {
                let why = verdict.map_or_else(String::new, |verdict| verdict.to_string());
                return Ok(Reply::Aside(Aside { wait, why, held: false, verdict }));
            }
            Some(verdict) => return Ok(Reply::ForAll(verdict)),
            None => {}
        }
        if status != StatusCode::OK || !ours {
            return Err(format!("status {status}, not in the gateway's own words"));
        }
        let body = body?;
        let text = std::str::from_utf8(&body).map_err(|error| error.to_string())?;
        push::read_verdicts(text, blocks).map(Reply::Verdicts).map_err(|error| error.to_string())
    }
}

fn header_verdict(headers: &HeaderMap) -> Option<Verdict> {
    headers.get(push::VERDICT_HEADER)?.to_str().ok()?.parse().ok()
}
