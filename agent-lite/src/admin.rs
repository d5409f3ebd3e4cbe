//! Health, readiness and metrics over HTTP, where the configuration asks for them.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::get;
use tokio::net::TcpListener;
use tokio::sync::{mpsc, oneshot};

use crate::books::Book;
use crate::metrics::Metrics;

/// Questions of the books that wait; more are turned away.
const QUESTIONS: usize = 8;

/// Where an answer to a question of the books goes.
pub type Answer = oneshot::Sender<Vec<Book>>;

/// What the pages show of the rest.
#[derive(Debug, Clone)]
pub struct Status {
    metrics: Metrics,
    ready: Arc<AtomicBool>,
    questions: mpsc::Sender<Answer>,
}

impl Status {
    /// Not ready yet; and the questions of the books, which whoever keeps them answers.
    #[must_use]
    pub fn new(metrics: Metrics) -> (Self, mpsc::Receiver<Answer>) {
        let (questions, asked) = mpsc::channel(QUESTIONS);
        (Self { metrics, ready: Arc::default(), questions }, asked)
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
        .route("/books", get(books))
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

/// Every log's page as a JSON line. Whose `imbalance` is not 0 is a fault of the agent.
async fn books(State(status): State<Status>) -> impl IntoResponse {
    let (answer, pages) = oneshot::channel();
    let asked = status.questions.try_send(answer).is_ok();
    let pages = if asked { pages.await.ok() } else { None };
    let Some(pages) = pages else {
        return (StatusCode::SERVICE_UNAVAILABLE, "busy, starting or stopping: ask again\n").into_response();
    };
    let mut lines = Vec::new();
    for page in &pages {
        if let Err(error) = serde_json::to_writer(&mut lines, page) {
            return (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response();
        }
        lines.push(b'\n');
    }
    ([(header::CONTENT_TYPE, "application/x-ndjson")], lines).into_response()
}

async fn metrics(State(status): State<Status>) -> impl IntoResponse {
    match status.metrics.render() {
        Ok(text) => ([(header::CONTENT_TYPE, "text/plain; version=0.0.4")], text).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
    }
}
