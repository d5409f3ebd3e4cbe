//! Health, readiness and metrics over HTTP, where the configuration asks for them.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use axum::Router;
use axum::extract::{RawQuery, State};
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
    settings: Arc<sluice_settings::Status>,
}

impl Status {
    /// Not ready yet; and the questions of the books, which whoever keeps them answers. `settings`: how the last
    /// look at them went.
    #[must_use]
    pub fn new(metrics: Metrics, settings: Arc<sluice_settings::Status>) -> (Self, mpsc::Receiver<Answer>) {
        let (questions, asked) = mpsc::channel(QUESTIONS);
        (Self { metrics, ready: Arc::default(), questions, settings }, asked)
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

async fn readyz(State(status): State<Status>, RawQuery(query): RawQuery) -> impl IntoResponse {
    let findings = if query.as_deref() == Some("verbose") { findings(&status.settings) } else { String::new() };
    if status.ready.load(Ordering::Relaxed) {
        (StatusCode::OK, format!("{findings}ok\n"))
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, format!("{findings}not ready: starting or stopping\n"))
    }
}

/// What somebody should look at although the agent is ready.
fn findings(settings: &sluice_settings::Status) -> String {
    let restart = Some(settings.needs_restart().join(", ")).filter(|parts| !parts.is_empty());
    let restart = restart.map(|parts| format!("changed, needs a restart: {parts}"));
    let line = |what: &str, fault: Option<String>, well: &str| match fault {
        // Of several lines, such as faults, each but the first is indented.
        Some(fault) => format!("[!] {what}: {}\n", fault.replace('\n', "\n    ")),
        None => format!("[+] {what}: {well}\n"),
    };
    line("config", settings.failure(), "in force as it stands in the file") + &line("restart", restart, "not needed")
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_wrong_with_the_settings_is_told_and_what_waits() {
        let settings = sluice_settings::Status::default();
        assert_eq!(findings(&settings), "[+] config: in force as it stands in the file\n[+] restart: not needed\n");
        settings.set(Some("agent.yaml: 1 fault\nredact (line 4): x".into()), vec!["pods", "admin"]);
        let expected = "[!] config: agent.yaml: 1 fault\n    redact (line 4): x\n\
                        [!] restart: changed, needs a restart: pods, admin\n";
        assert_eq!(findings(&settings), expected);
    }
}
