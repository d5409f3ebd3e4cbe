//! Health, readiness and metrics, on a listener of their own.

use std::fmt::Write as _;
use std::sync::Arc;

use axum::Router;
use axum::extract::Request;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use http::StatusCode;
use http::header::CONTENT_TYPE;
use prometheus::{Registry, TextEncoder};

/// One thing that `/readyz?verbose` tells of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// What was looked at, as `destination logs`.
    pub what: String,
    /// How it is.
    pub condition: Condition,
    /// The same in words.
    pub text: String,
}

/// How something is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Condition {
    /// As it should be.
    Well,
    /// Somebody should look at it; agents are served all the same.
    Amiss,
    /// No requests should be sent here.
    NotReady,
    /// It does not work any more, and only a restart helps.
    Dead,
}

/// Looks at everything that readiness depends on, or tells of.
pub type Look = dyn Fn() -> Vec<Finding> + Send + Sync;

/// `/healthz`, `/readyz`, `/metrics`.
pub fn router(registry: Registry, look: Arc<Look>) -> Router {
    let alive = Arc::clone(&look);
    let readyz = async move |request: Request| ready(&look(), request.uri().query() == Some("verbose"));
    Router::new()
        .route("/healthz", get(async move || health(&alive())))
        .route("/readyz", get(readyz))
        .route("/metrics", get(async move || metrics(&registry)))
}

fn health(findings: &[Finding]) -> Response {
    let mut dead = findings.iter().filter(|finding| finding.condition == Condition::Dead);
    match dead.next() {
        None => "ok\n".into_response(),
        Some(Finding { what, text, .. }) => {
            (StatusCode::SERVICE_UNAVAILABLE, format!("{what}: {text}\n")).into_response()
        }
    }
}

fn ready(findings: &[Finding], verbose: bool) -> Response {
    let ready = findings.iter().all(|finding| matches!(finding.condition, Condition::Well | Condition::Amiss));
    let mut text = String::new();
    for Finding { what, condition, text: words } in findings.iter().filter(|_| verbose) {
        let mark = match condition {
            Condition::Well => "[+]",
            Condition::Amiss => "[!]",
            Condition::NotReady | Condition::Dead => "[-]",
        };
        // Of several lines, such as faults, each but the first is indented. Writing to a String cannot fail.
        let _ = writeln!(text, "{mark} {what}: {}", words.replace('\n', "\n    "));
    }
    text.push_str(if ready { "ready\n" } else { "not ready\n" });
    (if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE }, text).into_response()
}

fn metrics(registry: &Registry) -> Response {
    match TextEncoder::new().encode_to_string(&registry.gather()) {
        Ok(text) => ([(CONTENT_TYPE, prometheus::TEXT_FORMAT)], text).into_response(),
        Err(error) => {
            tracing::error!(%error, "metrics cannot be printed");
            StatusCode::INTERNAL_SERVER_ERROR.into_response()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::body::Body;
    use http_body_util::BodyExt as _;
    use prometheus::IntCounter;
    use tower::ServiceExt as _;

    async fn get(findings: Vec<Finding>, path: &str) -> (StatusCode, String) {
        let registry = Registry::new();
        let counter = IntCounter::new("sluice_gateway_x_total", "X.").unwrap();
        registry.register(Box::new(counter)).unwrap();
        let router = router(registry, Arc::new(move || findings.clone()));
        let response = router.oneshot(Request::get(path).body(Body::empty()).unwrap()).await.unwrap();
        let status = response.status();
        let body = response.into_body().collect().await.unwrap().to_bytes();
        (status, String::from_utf8(body.to_vec()).unwrap())
    }

    fn finding(condition: Condition) -> Finding {
        Finding { what: "config".into(), condition, text: "as\nit is".into() }
    }

    #[tokio::test]
    async fn only_what_is_not_ready_makes_it_unready() {
        let ok = (StatusCode::OK, "ready\n".to_owned());
        assert_eq!(get(vec![finding(Condition::Well), finding(Condition::Amiss)], "/readyz").await, ok);
        let not = get(vec![finding(Condition::Well), finding(Condition::NotReady)], "/readyz?verbose").await;
        let text = "[+] config: as\n    it is\n[-] config: as\n    it is\nnot ready\n".to_owned();
        assert_eq!(not, (StatusCode::SERVICE_UNAVAILABLE, text));
        assert_eq!(get(vec![finding(Condition::NotReady)], "/healthz").await, (StatusCode::OK, "ok\n".to_owned()));
        let dead = (StatusCode::SERVICE_UNAVAILABLE, "config: as\nit is\n".to_owned());
        assert_eq!(get(vec![finding(Condition::Well), finding(Condition::Dead)], "/healthz").await, dead);
        assert_eq!(get(vec![finding(Condition::Dead)], "/readyz").await.0, StatusCode::SERVICE_UNAVAILABLE);
    }

    #[tokio::test]
    async fn metrics_are_printed_for_prometheus() {
        let (status, text) = get(Vec::new(), "/metrics").await;
        assert_eq!(status, StatusCode::OK);
        assert!(text.contains("sluice_gateway_x_total 0"), "{text}");
    }
}
