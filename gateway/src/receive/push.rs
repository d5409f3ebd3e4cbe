//! The two requests of `/v1/push`.

use std::sync::Arc;
use std::time::Instant;

use axum::body::{Body, Bytes};
use axum::extract::{Extension, State};
use axum::response::{IntoResponse, Response};
use governor::clock::Clock;
use http::header::CONTENT_TYPE;
use http::{HeaderMap, StatusCode};
use sluice_wire::block::{Frame, Frames};
use sluice_wire::limits;
use sluice_wire::push::{self, Hello, JOURNAL_HEADER, VERDICTS_TYPE};

use super::admission::Request;
use super::budget::Share;
use super::refusal::Refusal;
use super::{Admission, Receiver, body};
use crate::config::checked::Identity;
use crate::journal::Journal;
use crate::serve::Peer;

/// What a connection learns before its first block; a first test of its credential, too.
pub(super) async fn greet<J: Journal, C>(
    State(receiver): State<Arc<Receiver<J, C>>>,
    Extension(peer): Extension<Arc<Peer>>,
    headers: HeaderMap,
) -> Response
where
    C: Clock + Clone + Send + Sync + 'static,
    C::Instant: Send + Sync,
{
    if let Err(refusal) = receiver.enter(&headers, &peer) {
        return receiver.refuse(refusal);
    }
    let journal = receiver.journal.id();
    match serde_json::to_string(&Hello::new(journal)) {
        Ok(hello) => {
            let headers =
                [(CONTENT_TYPE.as_str(), "application/json".to_owned()), (JOURNAL_HEADER, journal.to_string())];
            (headers, hello).into_response()
        }
        Err(error) => {
            tracing::error!(%error, "the greeting cannot be written");
            StatusCode::INTERNAL_SERVER_ERROR.into_response()
        }
    }
}

/// Blocks.
pub(super) async fn push<J: Journal, C>(
    State(receiver): State<Arc<Receiver<J, C>>>,
    Extension(peer): Extension<Arc<Peer>>,
    headers: HeaderMap,
    body: Body,
) -> Response
where
    C: Clock + Clone + Send + Sync + 'static,
    C::Instant: Send + Sync,
{
    let started = Instant::now();
    let response = match Arc::clone(&receiver).take(&headers, &peer, body).await {
        Ok(response) => response,
        Err(refusal) => receiver.refuse(refusal),
    };
    receiver.metrics.request_seconds.observe(started.elapsed().as_secs_f64());
    response
}

impl<J: Journal, C> Receiver<J, C>
where
    C: Clock + Clone + Send + Sync + 'static,
    C::Instant: Send + Sync,
{
    /// Who sends, and under which policy. One policy decides a whole request.
    fn enter(&self, headers: &HeaderMap, peer: &Peer) -> Result<(Arc<Admission<C>>, Arc<Identity>), Refusal> {
        let admission = self.admission.load_full();
        let identity = admission.credentials().identify(headers, peer).map_err(|_| Refusal::Unauthenticated)?;
        let identity = Arc::clone(identity);
        if self.is_draining() {
            return Err(Refusal::Draining);
        }
        Ok((admission, identity))
    }

    async fn take(self: Arc<Self>, headers: &HeaderMap, peer: &Peer, body: Body) -> Result<Response, Refusal> {
        let (admission, identity) = self.enter(headers, peer)?;
        self.metrics.requests.inc();
        if headers.get(CONTENT_TYPE).is_none_or(|value| value.as_bytes() != push::CONTENT_TYPE.as_bytes()) {
            return Err(Refusal::MediaType);
        }
        let journal = self.journal.id();
        if headers.get(JOURNAL_HEADER).is_none_or(|value| value.as_bytes() != journal.to_string().as_bytes()) {
            return Err(Refusal::WrongJournal);
        }
        let (body, share) = body::read(headers, body, &self.budget, self.body_timeout).await?;
        self.metrics.body_bytes.inc_by(body.len() as u64);
        let frames = frames(body)?;

        // A task of its own: who hangs up early ends the request's future, and what is on its way to the
        // journal has to be counted, and its memory held, until its fate is known.
        let task = tokio::spawn(Arc::clone(&self).store(admission, identity, frames, share));
        match task.await {
            Ok(reply) => {
                let headers =
                    [(CONTENT_TYPE.as_str(), VERDICTS_TYPE.to_owned()), (JOURNAL_HEADER, journal.to_string())];
                Ok((headers, reply).into_response())
            }
            Err(error) => {
                tracing::error!(%error, "a push failed within the gateway; its blocks are in doubt");
                Ok(StatusCode::INTERNAL_SERVER_ERROR.into_response())
            }
        }
    }

    async fn store(
        self: Arc<Self>,
        admission: Arc<Admission<C>>,
        identity: Arc<Identity>,
        frames: Vec<Frame>,
        share: Share,
    ) -> String {
        let mut request = Request::new(&admission, &self.producers, &identity, frames.len());
        let mut looked_at = 0;
        for frame in frames {
            looked_at += request.admit(&frame);
            if looked_at > limits::BLOCK_RAW {
                // Decoding runs here rather than in a pool of threads: a block is half a millisecond at
                // most. Between them others may have the thread.
                looked_at = 0;
                tokio::task::yield_now().await;
            }
        }
        let entries = request.take_entries();
        let appended = if entries.is_empty() { Vec::new() } else { self.journal.append(entries).await };
        let reply = push::write_verdicts(&request.conclude(&appended, &self.metrics));
        drop(share);
        reply
    }

    fn refuse(&self, refusal: Refusal) -> Response {
        if let Some(reason) = refusal.verdict().reason() {
            self.metrics.refused_request(reason);
        }
        tracing::debug!(?refusal, "request refused");
        refusal.into_response()
    }
}

/// All frames of a body, or none of them.
fn frames(body: Bytes) -> Result<Vec<Frame>, Refusal> {
    let mut frames = Vec::new();
    for frame in Frames::new(body) {
        if frames.len() == limits::REQUEST_BLOCKS {
            return Err(Refusal::TooLarge);
        }
        frames.push(frame.map_err(|_| Refusal::Framing)?);
    }
    Ok(frames)
}
