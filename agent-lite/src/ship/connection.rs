//! One connection to one gateway: greeted before its first block, so that the journal behind it is
//! known (rule 7).

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{AUTHORIZATION, CONTENT_TYPE, HOST, HeaderValue};
use http::{Method, Request, StatusCode, Uri};
use http_body_util::{BodyExt as _, Limited};
use hyper::body::Incoming;
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use sluice_wire::push::{self, Hello, Versions};
use sluice_wire::{JournalId, Verdict};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;

use super::body::Chunks;
use super::tls::{TlsError, TlsFiles};

/// Bytes of a reply: a verdict has fewer than 64.
const MAX_REPLY: usize = 64 * sluice_wire::limits::REQUEST_BLOCKS;

/// A gateway's address and how to be let in.
#[derive(Debug, Clone)]
pub struct Endpoint {
    /// `http://host:port` or `https://host:port`.
    pub url: Uri,
    /// For https.
    pub tls: Option<TlsFiles>,
    /// Holds the bearer token; read anew for each connection.
    pub token_file: Option<PathBuf>,
    /// For connecting and greeting together.
    pub connect_timeout: Duration,
    /// For one push.
    pub request_timeout: Duration,
}

/// Ready to push.
#[derive(Debug)]
pub(super) struct Connection {
    sender: SendRequest<Chunks>,
    endpoint: Arc<Endpoint>,
    token: Option<HeaderValue>,
    journal: JournalId,
    limits: push::Limits,
}

/// What came of a push.
#[derive(Debug)]
pub(super) enum Reply {
    /// One verdict for each block, in the gateway's own words.
    Verdicts(Vec<Verdict>),
    /// One verdict for all of them.
    ForAll(Verdict),
    /// Anything else: the blocks are in doubt.
    InDoubt(String),
}

/// Why there is no connection. No block was sent.
#[derive(Debug, thiserror::Error)]
pub(super) enum ConnectError {
    /// The URL names no host.
    #[error("the gateway's url has no host")]
    NoHost,
    /// TLS files are wrong.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The token's file cannot be read.
    #[error("{}: cannot read the gateway's token: {error}", path.display())]
    Token {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        error: String,
    },
    /// The network, or the TLS handshake.
    #[error("cannot connect: {0}")]
    Io(#[from] std::io::Error),
    /// HTTP.
    #[error("cannot talk to the gateway: {0}")]
    Http(#[from] hyper::Error),
    /// Not a gateway, or one that refuses.
    #[error("no greeting from the gateway: {0}")]
    Greeting(String),
    /// No version in common.
    #[error("the gateway speaks wire versions {min} to {max}, this agent {ours}: upgrade the older one")]
    Version {
        /// The gateway's oldest.
        min: u8,
        /// The gateway's newest.
        max: u8,
        /// Ours.
        ours: u8,
    },
    /// It took too long.
    #[error("no connection within {0:?}")]
    Timeout(Duration),
}

impl Connection {
    /// Connects and greets.
    ///
    /// # Errors
    /// Why not; nothing was sent that a gateway could have stored.
    pub(super) async fn open(endpoint: Arc<Endpoint>) -> Result<Self, ConnectError> {
        let timeout = endpoint.connect_timeout;
        tokio::time::timeout(timeout, Self::open_unbounded(endpoint))
            .await
            .map_err(|_| ConnectError::Timeout(timeout))?
    }

    async fn open_unbounded(endpoint: Arc<Endpoint>) -> Result<Self, ConnectError> {
        let host = endpoint.url.host().ok_or(ConnectError::NoHost)?;
        let https = endpoint.url.scheme_str() == Some("https");
        let port = endpoint.url.port_u16().unwrap_or(if https { 443 } else { 80 });
        let token = endpoint.token_file.as_ref().map(read_token).transpose()?;
        let stream = TcpStream::connect((host.trim_matches(['[', ']']), port)).await?;
        stream.set_nodelay(true)?;
        let sender = match &endpoint.tls {
            Some(files) => {
                let name =
                    ServerName::try_from(host.trim_matches(['[', ']']).to_owned()).map_err(|_| ConnectError::NoHost)?;
                let connector = tokio_rustls::TlsConnector::from(files.load()?);
                converse(connector.connect(name, stream).await?).await?
            }
            None => converse(stream).await?,
        };
        let unknown = JournalId([0; 16]);
        let mut connection = Self { sender, endpoint, token, journal: unknown, limits: push::Limits::default() };
        connection.greet().await?;
        Ok(connection)
    }

    async fn greet(&mut self) -> Result<(), ConnectError> {
        let request =
            self.request(Method::GET, Chunks::default()).map_err(|error| ConnectError::Greeting(error.to_string()))?;
        let response = self.sender.send_request(request).await?;
        let status = response.status();
        let verdict = header_verdict(response.headers());
        let body = read_body(response.into_body()).await.map_err(ConnectError::Greeting)?;
        if status != StatusCode::OK {
            let why =
                verdict.map_or_else(|| String::from_utf8_lossy(&body).trim().to_owned(), |verdict| verdict.to_string());
            return Err(ConnectError::Greeting(format!("status {status}: {why}")));
        }
        let hello: Hello = serde_json::from_slice(&body).map_err(|error| ConnectError::Greeting(error.to_string()))?;
        if hello.wire.common(Versions::OURS).is_none() {
            return Err(ConnectError::Version { min: hello.wire.min, max: hello.wire.max, ours: push::VERSION });
        }
        self.journal =
            hello.journal.parse().map_err(|_| ConnectError::Greeting("its journal id is none".to_owned()))?;
        self.limits = hello.limits;
        Ok(())
    }

    /// The journal behind it.
    #[must_use]
    pub(super) fn journal(&self) -> JournalId {
        self.journal
    }

    /// The gateway's limits.
    #[must_use]
    pub(super) fn limits(&self) -> &push::Limits {
        &self.limits
    }

    /// Sends frames of `blocks` blocks. A connection whose reply was in doubt is not to be used again.
    pub(super) async fn push(&mut self, frames: Chunks, blocks: usize) -> Reply {
        match tokio::time::timeout(self.endpoint.request_timeout, self.push_unbounded(frames, blocks)).await {
            Ok(Ok(reply)) => reply,
            Ok(Err(error)) => Reply::InDoubt(error),
            Err(_) => Reply::InDoubt(format!("no reply within {:?}", self.endpoint.request_timeout)),
        }
    }

    async fn push_unbounded(&mut self, frames: Chunks, blocks: usize) -> Result<Reply, String> {
        let mut request = self.request(Method::POST, frames).map_err(|error| error.to_string())?;
        let headers = request.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(push::CONTENT_TYPE));
        let journal = HeaderValue::from_str(&self.journal.to_string()).map_err(|error| error.to_string())?;
        headers.insert(push::JOURNAL_HEADER, journal);
        let response = self.sender.send_request(request).await.map_err(|error| error.to_string())?;
        let status = response.status();
        let ours = response.headers().get(push::JOURNAL_HEADER).is_some();
        let verdict = header_verdict(response.headers());
        let body = read_body(response.into_body()).await?;
        if let Some(verdict) = verdict {
            return Ok(Reply::ForAll(verdict));
        }
        if status != StatusCode::OK || !ours {
            return Err(format!("status {status}, not in the gateway's own words"));
        }
        let text = std::str::from_utf8(&body).map_err(|error| error.to_string())?;
        push::read_verdicts(text, blocks).map(Reply::Verdicts).map_err(|error| error.to_string())
    }

    /// Whether another push can be sent.
    pub(super) fn is_open(&self) -> bool {
        !self.sender.is_closed()
    }

    fn request(&self, method: Method, body: Chunks) -> Result<Request<Chunks>, http::Error> {
        let prefix = self.endpoint.url.path().trim_end_matches('/');
        let host = self.endpoint.url.authority().map_or("", |authority| authority.as_str());
        let mut request = Request::builder().method(method).uri(format!("{prefix}{}", push::PATH)).header(HOST, host);
        if let Some(token) = &self.token {
            request = request.header(AUTHORIZATION, token);
        }
        request.body(body)
    }
}

async fn converse<S>(stream: S) -> Result<SendRequest<Chunks>, hyper::Error>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (sender, connection) = handshake(TokioIo::new(stream)).await?;
    tokio::spawn(async move {
        // Ends with the connection; whoever waits for a reply hears of it.
        if let Err(error) = connection.await {
            tracing::debug!(%error, "connection to the gateway ended");
        }
    });
    Ok(sender)
}

fn read_token(path: &PathBuf) -> Result<HeaderValue, ConnectError> {
    let fault = |error: String| ConnectError::Token { path: path.clone(), error };
    let token = std::fs::read_to_string(path).map_err(|error| fault(error.to_string()))?;
    let mut value = HeaderValue::from_str(&format!("Bearer {}", token.trim()))
        .map_err(|_| fault("it holds what no header may hold".to_owned()))?;
    value.set_sensitive(true);
    Ok(value)
}

fn header_verdict(headers: &http::HeaderMap) -> Option<Verdict> {
    headers.get(push::VERDICT_HEADER)?.to_str().ok()?.parse().ok()
}

async fn read_body(body: Incoming) -> Result<Bytes, String> {
    Limited::new(body, MAX_REPLY).collect().await.map(|body| body.to_bytes()).map_err(|error| error.to_string())
}
