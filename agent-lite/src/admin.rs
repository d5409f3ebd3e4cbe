//! Health, readiness and metrics over HTTP, where the configuration asks for them.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::get;
use tokio::net::TcpListener;

use crate::metrics::Metrics;

/// What the pages show of the rest.
#[derive(Debug, Clone)]
pub struct Status {
    metrics: Metrics,
    ready: Arc<AtomicBool>,
}

impl Status {
    /// Not ready yet.
    #[must_use]
    pub fn new(metrics: Metrics) -> Self {
        Self { metrics, ready: Arc::default() }
    }

    /// Ready: the first look at all files is done. (A gateway that is away is not our unreadiness: the
    /// files hold the logs meanwhile.)
    pub fn set_ready(&self, ready: bool) {
        self.ready.store(ready, Ordering::Relaxed);
    }
}

/// Serves until the task is dropped.
pub async fn serve(listener: TcpListener, status: Status) {
    let app = Router::new()
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/readyz", get(readyz))
        .route("/metrics", get(metrics))
        .with_state(status);
    if let Err(error) = axum::serve(listener, app).await {
        tracing::error!(%error, "health and metrics are not served any more");
    }
}

async fn readyz(State(status): State<Status>) -> impl IntoResponse {
    if status.ready.load(Ordering::Relaxed) {
        (StatusCode::OK, "ok\n")
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, "not ready: starting or stopping\n")
    }
}

async fn metrics(State(status): State<Status>) -> impl IntoResponse {
    match status.metrics.render() {
        Ok(text) => ([(header::CONTENT_TYPE, "text/plain; version=0.0.4")], text).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
    }
}
