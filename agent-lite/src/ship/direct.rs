//! A connection straight to VictoriaLogs, or vmauth before it, without a gateway: `POST` of payloads as they
//! are. What is lost with the gateway: "once", tenants and limits of the gateway's, and that a yes is durable
//! (the store keeps rows in memory for some seconds).
//!
//! What its answers mean is what the gateway's destination of that kind makes of them, for the same reasons:
//! - another content type than `application/stream+json` is answered 200 and stores nothing;
//! - 400 says that every line was refused, or that vmauth has no route, which is no fault of a line. So no
//!   line is given up before the store has taken others, and takes a request without lines now;
//! - vmauth's 502 and 503 come also after a part was passed on: what was sent may be there, and is sent again;
//! - payloads of one encoding can be concatenated, those of several cannot.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONTENT_ENCODING, CONTENT_TYPE, HeaderMap, HeaderValue, RETRY_AFTER};
use http::{Method, Response, StatusCode};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use sluice_wire::{Encoding, Reason, Verdict};

use super::body::Chunks;
use super::connection::{Aside, Parcel, Reply};
use super::transport::{Http, NoResponse};

/// The tenant, for vmauth.
const TENANT: &str = "x-scope-orgid";
/// Bytes of an answer that are read: its words go into the log.
const WORDS: usize = 1024;
/// The longest wait that an answer can ask for.
const LONGEST_WAIT: Duration = Duration::from_secs(300);
/// How long nothing goes after an answer that only somebody's doing can change; up to half as long again.
const MISTAKE: Duration = Duration::from_secs(10);
/// How long nothing goes after "not now" without a time.
const BUSY: Duration = Duration::from_secs(1);
/// What a 400 says that is about the request's way. vmauth: no route for this tenant. VictoriaLogs: no such
/// path. Go's net/http and nginx: plain HTTP to a port for TLS.
const WRONG_ADDRESS: [&str; 4] = [
    "missing route",
    "unsupported path",
    "sent an HTTP request to an HTTPS server",
    "plain HTTP request was sent to HTTPS port",
];

/// What is said to the store with every request.
#[derive(Debug, Clone)]
pub struct Store {
    tenant: Option<HeaderValue>,
    stream_fields: Vec<String>,
    /// It has taken a line since the agent started; all connections share this.
    has_taken: Arc<AtomicBool>,
}

impl Store {
    /// A store that is given `tenant` as `X-Scope-OrgID`; streams are told apart by `stream_fields`. `None`
    /// where the tenant is no header's value.
    #[must_use]
    pub fn new(tenant: Option<&str>, stream_fields: Vec<String>) -> Option<Self> {
        let tenant = tenant.map(HeaderValue::from_str).transpose().ok()?;
        Some(Self { tenant, stream_fields, has_taken: Arc::default() })
    }
}

/// Connected.
#[derive(Debug)]
pub(super) struct Direct {
    http: Http,
    store: Store,
    path: String,
}

/// What one answer means.
#[derive(Debug, PartialEq, Eq)]
enum Outcome {
    /// The store has it.
    Taken,
    /// Not now. Nothing of it was stored.
    Retry(String, Option<Duration>),
    /// It may be there, or a part of it.
    Unknown(String, Option<Duration>),
    /// A mistake in configuration or rights.
    Hold(String),
    /// Something in it is refused, or it is too large.
    Split(String, Reason),
}

impl Direct {
    /// Over a connection that is open.
    pub(super) fn new(http: Http, store: Store) -> Self {
        let fields = form_urlencoded::Serializer::new(String::new())
            .append_pair("_stream_fields", &store.stream_fields.join(","))
            .append_pair("_time_field", "_time")
            .append_pair("_msg_field", "_msg")
            .finish();
        let path = format!("{}?{fields}", http.endpoint().url.path());
        Self { http, store, path }
    }

    pub(super) fn http(&self) -> &Http {
        &self.http
    }

    /// Sends payloads, in as few requests as their encodings allow: one, but after a change of the setting.
    pub(super) async fn push(&mut self, parcels: Vec<Parcel>) -> Reply {
        let mut taken = 0;
        for run in parcels.chunk_by(|one, next| one.encoding == next.encoding) {
            let body = run.iter().map(|parcel| parcel.payload.clone());
            match self.post(run[0].encoding, body).await {
                Outcome::Taken => {
                    self.store.has_taken.store(true, Ordering::Relaxed);
                    taken += run.len();
                }
                // What is taken is said; the others are sent again.
                outcome if taken > 0 => {
                    let again = match outcome {
                        Outcome::Unknown(..) => Verdict::Unknown(Reason::JournalFailed),
                        _ => Verdict::RetryAfter(Duration::ZERO, Reason::Behind),
                    };
                    let rest = parcels.len() - taken;
                    return Reply::Verdicts([vec![Verdict::Accepted; taken], vec![again; rest]].concat());
                }
                outcome => return self.reply(run, outcome).await,
            }
        }
        Reply::Verdicts(vec![Verdict::Accepted; parcels.len()])
    }

    async fn reply(&mut self, run: &[Parcel], outcome: Outcome) -> Reply {
        match outcome {
            Outcome::Taken => Reply::Verdicts(vec![Verdict::Accepted; run.len()]),
            Outcome::Retry(why, after) => aside(why, after.unwrap_or(BUSY), false),
            Outcome::Unknown(why, after) => Reply::InDoubt(why, after),
            Outcome::Hold(why) => hold(why),
            Outcome::Split(why, reason) => self.split(run, &why, reason).await,
        }
    }

    /// In smaller parts: fewer blocks, blocks of fewer lines, and at last the one line alone.
    async fn split(&mut self, run: &[Parcel], why: &str, reason: Reason) -> Reply {
        match (run, reason) {
            ([one], _) if one.records <= 1 => self.give_up(why, one.encoding, reason).await,
            ([one], _) => Reply::ForAll(Verdict::TooLarge((one.raw_len / 2).max(1), reason)),
            (_, Reason::Request) => {
                let bytes = run.iter().map(|parcel| parcel.payload.len()).sum::<usize>();
                Reply::ForAll(Verdict::TooLarge(u32::try_from(bytes).unwrap_or(u32::MAX), Reason::Request))
            }
            // Each by itself, so that the bad one is found.
            _ => Reply::ForAll(Verdict::RetryAfter(Duration::ZERO, Reason::Framing)),
        }
    }

    /// One line is refused alone: a dead letter, if that can be its own fault.
    async fn give_up(&mut self, why: &str, encoding: Encoding, reason: Reason) -> Reply {
        let check = "check the url's scheme, port and path, and the proxies on the way";
        if !self.store.has_taken.load(Ordering::Relaxed) {
            return hold(format!("a line is refused alone ({why}), and no other was taken since the start: {check}"));
        }
        let nothing = match encoding {
            Encoding::None => Bytes::new(),
            // Empty members and frames (RFC 1952, RFC 8878): a body that decompresses to nothing.
            Encoding::Gzip => Bytes::from_static(&[31, 139, 8, 0, 0, 0, 0, 0, 0, 255, 3, 0, 0, 0, 0, 0, 0, 0, 0, 0]),
            Encoding::Zstd => Bytes::from_static(&[0x28, 0xb5, 0x2f, 0xfd, 0x20, 0x00, 0x01, 0x00, 0x00]),
        };
        match self.post(encoding, [nothing].into_iter()).await {
            Outcome::Taken => Reply::ForAll(Verdict::Rejected(reason)),
            Outcome::Split(..) => {
                hold(format!("a line is refused alone ({why}), and so is a request without lines: {check}"))
            }
            Outcome::Hold(why) => hold(why),
            Outcome::Retry(why, after) | Outcome::Unknown(why, after) => aside(why, after.unwrap_or(BUSY), false),
        }
    }

    async fn post(&mut self, encoding: Encoding, payloads: impl Iterator<Item = Bytes>) -> Outcome {
        let mut body = Chunks::default();
        payloads.for_each(|payload| body.push(payload));
        let mut request = match self.http.request(Method::POST, &self.path, body) {
            Ok(request) => request,
            Err(error) => return Outcome::Hold(error.to_string()),
        };
        let headers = request.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/stream+json"));
        if encoding != Encoding::None {
            headers.insert(CONTENT_ENCODING, HeaderValue::from_static(encoding.word()));
        }
        if let Some(tenant) = &self.store.tenant {
            headers.insert(TENANT, tenant.clone());
        }
        match self.http.send(request).await {
            Ok(response) => answer(response).await,
            // The store closes what is idle: not its refusal.
            Err(NoResponse::NotSent(why)) => Outcome::Retry(why, Some(Duration::ZERO)),
            Err(NoResponse::Broken(why)) => Outcome::Unknown(why, None),
        }
    }
}

fn aside(why: String, wait: Duration, held: bool) -> Reply {
    Reply::Aside(Aside { wait, why, held, verdict: None })
}

fn hold(why: String) -> Reply {
    aside(why, MISTAKE, true)
}

async fn answer(response: Response<Incoming>) -> Outcome {
    let status = response.status();
    let after = retry_after(response.headers());
    let mut body = response.into_body();
    let mut words = Vec::new();
    // To its end, or the connection cannot be used again; a body that breaks off takes nothing back from the
    // status.
    let mut seen = 0;
    while let Some(Ok(frame)) = body.frame().await {
        let Ok(data) = frame.into_data() else { continue };
        words.extend_from_slice(&data[..data.len().min(WORDS - words.len())]);
        seen += data.len();
        if seen > 64 * WORDS {
            break;
        }
    }
    outcome(status, String::from_utf8_lossy(&words).trim(), after)
}

fn outcome(status: StatusCode, words: &str, after: Option<Duration>) -> Outcome {
    let why = format!("{status}: {words}");
    match status.as_u16() {
        200..=299 => Outcome::Taken,
        400 if WRONG_ADDRESS.iter().any(|said| words.contains(said)) => Outcome::Hold(why),
        // VictoriaLogs: the disk is nearly full. vmauth: too many requests at once. Both before the body.
        408 | 425 | 429 => Outcome::Retry(why, after),
        300..=399 | 401 | 402 | 403 | 404 | 405 | 407 | 410 | 421 | 501 => Outcome::Hold(why),
        413 => Outcome::Split(why, Reason::Request),
        400..=499 => Outcome::Split(why, Reason::NotRecords),
        _ => Outcome::Unknown(why, after),
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

    fn kind(status: u16, words: &str) -> &'static str {
        match outcome(StatusCode::from_u16(status).unwrap(), words, None) {
            Outcome::Taken => "taken",
            Outcome::Retry(..) => "retry",
            Outcome::Unknown(..) => "unknown",
            Outcome::Hold(_) => "hold",
            Outcome::Split(_, Reason::Request) => "fewer",
            Outcome::Split(..) => "split",
        }
    }

    #[test]
    fn every_status_has_its_outcome() {
        for (statuses, expected) in [
            (&[200, 204][..], "taken"),
            (&[429, 408, 425], "retry"),
            (&[301, 302, 401, 403, 404, 405, 407, 501], "hold"),
            (&[413], "fewer"),
            (&[400, 414, 415, 422, 431], "split"),
            (&[500, 502, 503, 504, 507, 520], "unknown"),
        ] {
            for &status in statuses {
                assert_eq!(kind(status, "words"), expected, "{status}");
            }
        }
        // Texts of vmauth v1.130 and VictoriaLogs v1.121, of Go 1.24 and of nginx 1.27.
        for words in [
            r#"missing route for "http://127.0.0.1:8427/insert/jsonline""#,
            r#"unsupported path requested: "/insert/jsonlin""#,
            "Client sent an HTTP request to an HTTPS server.",
            "<title>400 The plain HTTP request was sent to HTTPS port</title>",
        ] {
            assert_eq!(kind(400, words), "hold");
        }
    }

    #[test]
    fn the_wait_that_is_asked_for_is_bounded() {
        let after = |text: &'static str| retry_after(&HeaderMap::from_iter([(RETRY_AFTER, text.parse().unwrap())]));
        assert_eq!(after("7"), Some(Duration::from_secs(7)));
        assert_eq!(after("99999999"), Some(LONGEST_WAIT));
        assert_eq!(after("Sat, 21 Nov 2026 01:00:00 GMT"), None);
    }
}
