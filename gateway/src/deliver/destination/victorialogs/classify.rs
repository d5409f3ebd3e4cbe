//! What an answer means: every status, and every way of not getting one.

use std::time::Duration;

use reqwest::header::{HeaderMap, RETRY_AFTER};
use reqwest::{Response, StatusCode};

use super::{Outcome, Receipt, Refusal};

/// Bytes of an answer that are read: its words go into the log.
const WORDS: usize = 1024;
/// The longest wait that an answer can ask for.
const LONGEST_WAIT: Duration = Duration::from_secs(300);

/// What a 400 says that is about the request's way. vmauth: no route for this tenant. VictoriaLogs: no such
/// path. Go's net/http and nginx: plain HTTP to a port for TLS.
const WRONG_ADDRESS: [&str; 4] = [
    "missing route",
    "unsupported path",
    "sent an HTTP request to an HTTPS server",
    "plain HTTP request was sent to HTTPS port",
];

/// Reads an answer, as far as it matters.
pub(super) async fn response(mut response: Response) -> Outcome {
    let status = response.status();
    let after = retry_after(response.headers());
    let mut words = Vec::new();
    // A body that breaks off takes nothing back from the status.
    while words.len() < WORDS
        && let Ok(Some(chunk)) = response.chunk().await
    {
        words.extend_from_slice(&chunk[..chunk.len().min(WORDS - words.len())]);
    }
    status_outcome(status, String::from_utf8_lossy(&words).trim(), after)
}

/// The outcome that `status` stands for.
pub(super) fn status_outcome(status: StatusCode, words: &str, after: Option<Duration>) -> Outcome {
    let refusal = Refusal { why: format!("{status}: {words}"), after };
    match status.as_u16() {
        200..=299 => Outcome::Delivered(Receipt::default()),
        // None of these says a thing about records.
        400 if WRONG_ADDRESS.iter().any(|said| words.contains(said)) => Outcome::Hold(refusal),
        // VictoriaLogs: the disk is nearly full. vmauth: too many requests at once. Both before the body.
        408 | 425 | 429 => Outcome::Retry(refusal),
        300..=399 | 401 | 402 | 403 | 404 | 405 | 407 | 410 | 421 | 501 => Outcome::Hold(refusal),
        // 400: every line was refused. 413: too large for a proxy. The others are not known of this store;
        // in parts it shows whether they are about a record.
        400..=499 => Outcome::Split(refusal),
        // vmauth answers 502 or 503 also when the store went away in the middle of the body.
        _ => Outcome::Unknown(refusal),
    }
}

/// The outcome of a request without an answer.
pub(super) fn error(error: &reqwest::Error) -> Outcome {
    let mut why = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        why = format!("{why}: {error}");
        cause = error.source();
    }
    match error.is_connect() {
        // Nothing was sent.
        true => Outcome::Retry(Refusal::new(why)),
        false => Outcome::Unknown(Refusal::new(why)),
    }
}

/// `Retry-After` in seconds; the form with a date is left to our own backoff.
fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let seconds = headers.get(RETRY_AFTER)?.to_str().ok()?.trim().parse().ok()?;
    Some(Duration::from_secs(seconds).min(LONGEST_WAIT))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn word(status: u16, words: &str) -> &'static str {
        status_outcome(StatusCode::from_u16(status).unwrap(), words, None).word()
    }

    #[test]
    fn every_status_has_its_outcome() {
        for (statuses, outcome) in [
            (&[200, 204][..], "delivered"),
            (&[429, 408, 425], "retry"),
            (&[301, 302, 401, 403, 404, 405, 407, 501], "hold"),
            (&[400, 413, 414, 415, 422, 431], "split"),
            (&[500, 502, 503, 504, 507, 520], "unknown"),
        ] {
            for &status in statuses {
                assert_eq!(word(status, "words"), outcome, "{status}");
            }
        }
    }

    #[test]
    fn a_route_that_is_missing_is_no_fault_of_a_record() {
        // Texts of vmauth v1.130 and VictoriaLogs v1.121.
        assert_eq!(word(400, r#"missing route for "http://127.0.0.1:8427/insert/jsonline""#), "hold");
        assert_eq!(word(400, r#"unsupported path requested: "/insert/jsonlin""#), "hold");
        // Of Go 1.24 and nginx 1.27, at a port for TLS.
        assert_eq!(word(400, "Client sent an HTTP request to an HTTPS server."), "hold");
        assert_eq!(word(400, "<head><title>400 The plain HTTP request was sent to HTTPS port</title></head>"), "hold");
    }

    #[test]
    fn the_wait_that_is_asked_for_is_bounded() {
        let after = |text: &'static str| retry_after(&HeaderMap::from_iter([(RETRY_AFTER, text.parse().unwrap())]));
        assert_eq!(after("7"), Some(Duration::from_secs(7)));
        assert_eq!(after("99999999"), Some(LONGEST_WAIT));
        assert_eq!(after("Sat, 21 Nov 2026 01:00:00 GMT"), None);
    }
}
