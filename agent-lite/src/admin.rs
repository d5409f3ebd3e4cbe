//! Health, readiness and metrics over HTTP, where the configuration asks for them.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use axum::Router;
use axum::extract::{RawQuery, State};
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::get;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio::task::JoinSet;

use crate::books::Book;
use crate::metrics::Metrics;

/// Questions of the books that wait; more are turned away.
const QUESTIONS: usize = 8;

/// What clients may take: descriptors are for log files.
#[derive(Debug, Clone, Copy)]
struct Bounds {
    /// Connections at once; more wait to be accepted.
    connections: usize,
    /// How long a client may be silent.
    idle: Duration,
    /// How long a connection lives at most: a scraper makes a new one.
    age: Duration,
}

const BOUNDS: Bounds = Bounds { connections: 32, idle: Duration::from_secs(10), age: Duration::from_secs(120) };

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
    serve_within(BOUNDS, listener, status).await;
}

async fn serve_within(bounds: Bounds, listener: TcpListener, status: Status) {
    let app = Router::new()
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/readyz", get(readyz))
        .route("/metrics", get(metrics))
        .route("/books", get(books))
        .with_state(status);
    let room = Arc::new(Semaphore::new(bounds.connections));
    let mut connections = JoinSet::new();
    loop {
        // Before accepting, so that who has no room stays in the queue.
        let Ok(permit) = Arc::clone(&room).acquire_owned().await else { return };
        match listener.accept().await {
            Ok((stream, _)) => {
                let app = app.clone();
                connections.spawn(async move {
                    answer(stream, app, bounds).await;
                    drop(permit);
                });
            }
            Err(error) => {
                // Out of file descriptors, or the peer has gone again. A pause, or it spins.
                tracing::warn!(%error, "admin: cannot accept a connection");
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
        while connections.try_join_next().is_some() {}
    }
}

async fn answer(stream: TcpStream, app: Router, bounds: Bounds) {
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(bounds.idle)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(app));
    let mut connection = std::pin::pin!(connection);
    // Who goes away in the middle is none of our troubles.
    if tokio::time::timeout(bounds.age, connection.as_mut()).await.is_err() {
        connection.as_mut().graceful_shutdown();
        let _ = tokio::time::timeout(bounds.idle, connection).await;
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
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    #[tokio::test]
    async fn who_says_nothing_is_let_go_and_makes_room() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (status, _questions) = Status::new(Metrics::new().unwrap(), Arc::default());
        let bounds = Bounds { connections: 4, idle: Duration::from_millis(50), age: Duration::from_secs(60) };
        let server = tokio::spawn(serve_within(bounds, listener, status));
        let mut silent = Vec::new();
        for _ in 0..=bounds.connections {
            silent.push(TcpStream::connect(address).await.unwrap());
        }
        for stream in &mut silent {
            let ended = tokio::time::timeout(Duration::from_secs(20), stream.read(&mut [0; 64])).await;
            assert_eq!(ended.expect("let go").unwrap_or(0), 0);
        }
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(b"GET /healthz HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n").await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        assert!(answer.starts_with("HTTP/1.1 200") && answer.ends_with("ok\n"), "{answer}");
        server.abort();
    }

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
