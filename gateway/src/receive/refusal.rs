//! A request that is refused as a whole: from its cause to status, headers and the one verdict that
//! stands for every block.

use std::time::Duration;

use axum::response::{IntoResponse, Response};
use http::header::{CONNECTION, RETRY_AFTER, WWW_AUTHENTICATE};
use http::{HeaderValue, StatusCode};
use sluice_wire::push::VERDICT_HEADER;
use sluice_wire::{Reason, Verdict, limits};

/// How long somebody waits whom only a change of configuration or version can help: long enough to cost
/// nothing, short enough to be soon there once it is mended.
pub(super) const MISTAKE: Duration = Duration::from_secs(30);
/// How long somebody waits for memory, at least; at most twice as long.
const OVERLOAD: Duration = Duration::from_millis(250);
const DRAINING: Duration = Duration::from_secs(1);

/// Why.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Refusal {
    /// No credential, or one that is not known.
    Unauthenticated,
    /// About to end.
    Draining,
    /// Not the media type of blocks.
    MediaType,
    /// Meant for another journal.
    WrongJournal,
    /// Over its size, or its number of blocks.
    TooLarge,
    /// No memory left.
    Overload,
    /// The body took too long.
    TooSlow,
    /// The body broke off.
    Broken,
    /// The body is no sequence of frames.
    Framing,
}

impl Refusal {
    pub(super) fn status(self) -> StatusCode {
        match self {
            Self::Unauthenticated => StatusCode::UNAUTHORIZED,
            Self::Draining | Self::Overload => StatusCode::SERVICE_UNAVAILABLE,
            Self::MediaType => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            Self::WrongJournal => StatusCode::PRECONDITION_FAILED,
            Self::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Self::TooSlow => StatusCode::REQUEST_TIMEOUT,
            Self::Broken | Self::Framing => StatusCode::BAD_REQUEST,
        }
    }

    pub(super) fn verdict(self) -> Verdict {
        // The body's limit is far below 4 GiB.
        #[allow(clippy::cast_possible_truncation)]
        const REQUEST: u32 = limits::REQUEST as u32;
        match self {
            // Never `rejected`: nothing is dropped for a mistake in configuration.
            Self::Unauthenticated => Verdict::RetryAfter(MISTAKE, Reason::Unauthenticated),
            Self::MediaType => Verdict::RetryAfter(MISTAKE, Reason::Version),
            Self::Draining => Verdict::RetryAfter(DRAINING, Reason::Draining),
            Self::WrongJournal => Verdict::RetryAfter(Duration::ZERO, Reason::WrongJournal),
            Self::TooLarge => Verdict::TooLarge(REQUEST, Reason::Request),
            // A slow or broken way says nothing of the blocks: only whole bodies are badly framed.
            Self::Overload | Self::TooSlow | Self::Broken => {
                Verdict::RetryAfter(OVERLOAD.mul_f64(1.0 + rand::random::<f64>()), Reason::Overload)
            }
            Self::Framing => Verdict::RetryAfter(Duration::ZERO, Reason::Framing),
        }
    }

    /// Whether what the client has yet to send cannot be told from a next request.
    fn leaves_body_unread(self) -> bool {
        !matches!(self, Self::Framing)
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let verdict = self.verdict();
        let mut response = (self.status(), format!("{verdict}\n")).into_response();
        let headers = response.headers_mut();
        headers.insert(VERDICT_HEADER, value(&verdict.to_string()));
        if let Verdict::RetryAfter(wait, _) = verdict
            && matches!(self, Self::Draining | Self::Overload)
        {
            headers.insert(RETRY_AFTER, value(&wait.as_millis().div_ceil(1000).to_string()));
        }
        if self == Self::Unauthenticated {
            headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        if self.leaves_body_unread() {
            headers.insert(CONNECTION, HeaderValue::from_static("close"));
        }
        response
    }
}

fn value(text: &str) -> HeaderValue {
    // Words and digits, always.
    HeaderValue::from_str(text).unwrap_or(HeaderValue::from_static(""))
}
