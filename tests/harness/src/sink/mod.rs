//! An HTTP endpoint for benchmarks that takes whatever collectors send and counts the lines, faster than any
//! collector sends them: it decompresses, looks for the texts' token, and builds no tree of anything.
//!
//! - `POST /insert/jsonline`: VictoriaLogs' JSON lines, identity, gzip or zstd, also several frames in a row
//! - `POST /v1/logs`: OTLP over HTTP, protobuf
//! - `GET /report`, `POST /reset`, `GET /health`
//!
//! Another protocol is a route beside [`Sink::router`] that hands its lines to [`Sink::take_lines`].

mod body;
mod otlp;
mod tally;
mod tls;

use std::{
    io,
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard},
};

use axum::{
    Router,
    body::Body,
    extract::{Request, State},
    http::{StatusCode, header},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use prost::Message as _;
use tokio::net::TcpListener;

use crate::{
    error::{Error, Result},
    latency::now_ns,
};
use tally::{Batch, Tally};

pub use tally::Report;
pub use tls::{Tls, serve_tls};

/// Counts on behalf of all its clones.
#[derive(Debug, Clone, Default)]
pub struct Sink(Arc<Mutex<Tally>>);

impl Sink {
    /// # Panics
    /// When a request panicked.
    #[must_use]
    pub fn report(&self) -> Report {
        self.tally().report()
    }

    /// Forgets everything.
    ///
    /// # Panics
    /// When a request panicked.
    pub fn reset(&self) {
        *self.tally() = Tally::default();
    }

    /// Counts one request's JSON lines, decoded from `wire_bytes` and received at `received_ns`
    /// ([`now_ns`]).
    ///
    /// # Panics
    /// When a request panicked.
    pub fn take_lines(&self, lines: &[u8], wire_bytes: u64, received_ns: u64) {
        let batch = Batch { wire_bytes, ..Batch::of_lines(lines) };
        self.tally().add(&batch, received_ns);
    }

    /// The routes; more can be merged in.
    pub fn router(&self) -> Router {
        Router::new()
            .route("/insert/jsonline", post(jsonline))
            .route("/v1/logs", post(otlp_logs))
            .route("/report", get(report))
            .route("/reset", post(reset))
            .route("/health", get(|| async { "OK" }))
            .with_state(self.clone())
    }

    fn tally(&self) -> MutexGuard<'_, Tally> {
        self.0.lock().expect("nobody panics in here")
    }

    fn refuse(&self, status: StatusCode) -> StatusCode {
        self.tally().refuse();
        status
    }
}

/// Serves `router` in the background, as long as the runtime lives; returns the address, also where port 0
/// was asked for.
///
/// # Errors
/// When the address cannot be bound.
pub async fn serve(listen: SocketAddr, router: Router) -> Result<SocketAddr> {
    let failed = |source: io::Error| Error::System { what: format!("listening on {listen}"), source };
    let listener = TcpListener::bind(listen).await.map_err(failed)?;
    let address = listener.local_addr().map_err(failed)?;
    tokio::spawn(async move { axum::serve(listener, router).await });
    Ok(address)
}

async fn jsonline(State(sink): State<Sink>, request: Request) -> Result<StatusCode, StatusCode> {
    let (parts, body) = request.into_parts();
    let received = body::receive(&parts, body).await.map_err(|status| sink.refuse(status))?;
    sink.take_lines(&received.decoded, received.wire_bytes, now_ns());
    Ok(StatusCode::OK)
}

async fn otlp_logs(State(sink): State<Sink>, request: Request) -> Result<Response, StatusCode> {
    let (parts, body) = request.into_parts();
    let received = body::receive(&parts, body).await.map_err(|status| sink.refuse(status))?;
    let received_ns = now_ns();
    let body_bytes = received.decoded.len() as u64;
    let logs = otlp::ExportLogs::decode(received.decoded).map_err(|_| sink.refuse(StatusCode::BAD_REQUEST))?;
    let batch = Batch::of_records(logs.records().map(|record| &record[..]));
    let (resources, described) = logs.resources();
    let batch = Batch { wire_bytes: received.wire_bytes, body_bytes, resources, described, ..batch };
    sink.tally().add(&batch, received_ns);
    // An empty ExportLogsServiceResponse: everything was taken.
    Ok(([(header::CONTENT_TYPE, "application/x-protobuf")], Body::empty()).into_response())
}

async fn report(State(sink): State<Sink>) -> Response {
    let report = serde_json::to_vec(&sink.report()).expect("a report has only string keys");
    ([(header::CONTENT_TYPE, "application/json")], report).into_response()
}

async fn reset(State(sink): State<Sink>) -> StatusCode {
    sink.reset();
    StatusCode::NO_CONTENT
}

#[cfg(test)]
mod tests;
