//! From an address to something that takes requests: TCP, a proxy's tunnel, TLS, HTTP/1.1 or HTTP/2.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use http::header::{AUTHORIZATION, HOST, HeaderValue};
use http::{Method, Request, Response, Uri, Version};
use hyper::body::Incoming;
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;

use super::addresses::Place;
use super::body::Chunks;
use super::connection::ConnectError;
use super::credential::Credential;
use super::direct::Store;
use super::proxy::Proxy;
use super::tls::TlsFiles;

/// A peer that acknowledges nothing for so long is gone: `TCP_USER_TIMEOUT`, and for silent connections
/// keepalive probes, and pings of HTTP/2.
const DEAD_AFTER: Duration = Duration::from_secs(30);
/// Silence before the first probe.
const PROBE_AFTER: Duration = Duration::from_secs(15);
/// Between probes.
const PROBE_EVERY: Duration = Duration::from_secs(5);
/// HTTP/2: bytes that the peer may send unasked. Replies are small.
const WINDOW: u32 = 128 * 1024;
/// HTTP/2: bytes of a reply's headers.
const HEADERS: u32 = 16 * 1024;
/// HTTP/2: bytes of a request that wait to be written.
const SEND_BUFFER: usize = 256 * 1024;
/// HTTP/1.1: bytes of the read buffer, and with that of a reply's head.
const READ_BUFFER: usize = 64 * 1024;

/// Which HTTP is spoken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    /// Over TLS what ALPN finds, HTTP/2 first; else HTTP/1.1.
    Auto,
    /// HTTP/1.1.
    Http1,
    /// HTTP/2, in clear by prior knowledge.
    Http2,
}

/// Who is at the other end.
#[derive(Debug, Clone)]
pub enum Peer {
    /// A gateway: greeted, with a journal behind it, and verdicts of its own.
    Gateway,
    /// A store itself.
    Store(Store),
}

/// Where logs go, and how to be let in.
#[derive(Debug, Clone)]
pub struct Endpoint {
    /// `http://host:port` or `https://host:port`, for a store with its path.
    pub url: Uri,
    /// Who is there.
    pub peer: Peer,
    /// For https.
    pub tls: Option<TlsFiles>,
    /// Read anew for each connection.
    pub credential: Credential,
    /// Which HTTP.
    pub protocol: Protocol,
    /// On the way.
    pub proxy: Option<Proxy>,
    /// For connecting and greeting together.
    pub connect_timeout: Duration,
    /// For one push.
    pub request_timeout: Duration,
}

/// When the files of an endpoint were written, as far as the file system says.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Stamps(Vec<(PathBuf, Option<(SystemTime, u64)>)>);

impl Endpoint {
    /// Host, as it is resolved and as the certificate must name it.
    pub(super) fn host(&self) -> &str {
        self.url.host().unwrap_or_default().trim_matches(['[', ']'])
    }

    /// Port.
    pub(super) fn port(&self) -> u16 {
        self.url.port_u16().unwrap_or(if self.tls.is_some() { 443 } else { 80 })
    }

    /// When the files were written that a connection is made with.
    pub(super) fn stamps(&self) -> Stamps {
        let stamp = |path: &Path| {
            let metadata = std::fs::metadata(path).ok();
            (path.to_owned(), metadata.and_then(|metadata| Some((metadata.modified().ok()?, metadata.len()))))
        };
        let tls = self.tls.iter().flat_map(TlsFiles::files);
        let proxy = self.proxy.as_ref().and_then(Proxy::file);
        Stamps(tls.chain(self.credential.file()).chain(proxy).map(stamp).collect())
    }
}

/// Whatever bytes go over.
pub(super) trait ReadWrite: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> ReadWrite for T {}
/// A connection below HTTP.
pub(super) type Stream = Box<dyn ReadWrite>;

/// Takes requests, one at a time.
#[derive(Debug)]
pub(super) struct Http {
    sender: Sender,
    endpoint: Arc<Endpoint>,
    authorization: Option<HeaderValue>,
}

#[derive(Debug)]
enum Sender {
    One(http1::SendRequest<Chunks>),
    Two(http2::SendRequest<Chunks>),
}

/// Why there is no response.
#[derive(Debug)]
pub(super) enum NoResponse {
    /// Not a byte of the request was written.
    NotSent(String),
    /// Nobody knows how far it came.
    Broken(String),
}

impl Http {
    /// Connects; nothing is sent but handshakes.
    ///
    /// # Errors
    /// Why not.
    pub(super) async fn open(endpoint: Arc<Endpoint>, place: Place) -> Result<Self, ConnectError> {
        let authorization = endpoint.credential.header()?;
        let stream: Stream = match (place, &endpoint.proxy) {
            (Place::At(address), _) => {
                let stream = TcpStream::connect(address).await?;
                tune(&stream)?;
                Box::new(stream)
            }
            (Place::Proxied, Some(proxy)) => proxy.tunnel(endpoint.host(), endpoint.port()).await?,
            (Place::Proxied, None) => return Err(ConnectError::NoHost),
        };
        let (stream, is_h2): (Stream, bool) = match &endpoint.tls {
            Some(files) => {
                let name = ServerName::try_from(endpoint.host().to_owned()).map_err(|_| ConnectError::NoHost)?;
                let connector = tokio_rustls::TlsConnector::from(files.load(endpoint.protocol)?);
                let stream = connector.connect(name, stream).await?;
                let is_h2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
                (Box::new(stream), is_h2)
            }
            None => (stream, false),
        };
        let sender = match endpoint.protocol {
            Protocol::Http2 => Sender::two(stream).await?,
            Protocol::Auto if is_h2 => Sender::two(stream).await?,
            Protocol::Auto | Protocol::Http1 => Sender::one(stream).await?,
        };
        Ok(Self { sender, endpoint, authorization })
    }

    /// How to reach it.
    pub(super) fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    /// A request for a path and query, with what all requests carry.
    ///
    /// # Errors
    /// The path is none.
    pub(super) fn request(&self, method: Method, path: &str, body: Chunks) -> Result<Request<Chunks>, http::Error> {
        let authority = self.endpoint.url.authority().map_or("", |authority| authority.as_str());
        let mut request = Request::builder().method(method);
        request = match self.sender {
            Sender::One(_) => request.uri(path).header(HOST, authority),
            Sender::Two(_) => {
                let scheme = self.endpoint.url.scheme_str().unwrap_or("http");
                request.version(Version::HTTP_2).uri(format!("{scheme}://{authority}{path}"))
            }
        };
        if let Some(value) = &self.authorization {
            request = request.header(AUTHORIZATION, value);
        }
        request.body(body)
    }

    /// Sends it, and waits for the head of the response.
    pub(super) async fn send(&mut self, request: Request<Chunks>) -> Result<Response<Incoming>, NoResponse> {
        let sent = match &mut self.sender {
            Sender::One(sender) => sender.try_send_request(request).await,
            Sender::Two(sender) => sender.try_send_request(request).await,
        };
        sent.map_err(|mut failed| {
            // Only a request that is given back was not begun.
            let is_back = failed.take_message().is_some();
            let why = causes(failed.error());
            if is_back { NoResponse::NotSent(why) } else { NoResponse::Broken(why) }
        })
    }

    /// Whether another request can be sent.
    pub(super) fn is_open(&self) -> bool {
        match &self.sender {
            Sender::One(sender) => !sender.is_closed(),
            Sender::Two(sender) => !sender.is_closed(),
        }
    }
}

impl Sender {
    async fn one(stream: Stream) -> Result<Self, hyper::Error> {
        let (sender, connection) =
            http1::Builder::new().max_buf_size(READ_BUFFER).handshake(TokioIo::new(stream)).await?;
        tokio::spawn(drive(connection));
        Ok(Self::One(sender))
    }

    async fn two(stream: Stream) -> Result<Self, hyper::Error> {
        let (mut sender, connection) = http2::Builder::new(TokioExecutor::new())
            .timer(TokioTimer::new())
            .initial_stream_window_size(WINDOW)
            .initial_connection_window_size(WINDOW)
            .max_header_list_size(HEADERS)
            .max_send_buf_size(SEND_BUFFER)
            .keep_alive_interval(PROBE_AFTER)
            .keep_alive_timeout(DEAD_AFTER - PROBE_AFTER)
            .keep_alive_while_idle(true)
            .handshake(TokioIo::new(stream))
            .await?;
        tokio::spawn(drive(connection));
        sender.ready().await?;
        Ok(Self::Two(sender))
    }
}

/// Ends with the connection; whoever waits for a reply hears of it.
async fn drive(connection: impl Future<Output = Result<(), hyper::Error>>) {
    if let Err(error) = connection.await {
        tracing::debug!(error = causes(&error), "connection ended");
    }
}

/// No waiting to fill packets, and a peer that is dead is noticed.
pub(super) fn tune(stream: &TcpStream) -> io::Result<()> {
    use rustix::net::sockopt;
    stream.set_nodelay(true)?;
    sockopt::set_socket_keepalive(stream, true)?;
    sockopt::set_tcp_keepidle(stream, PROBE_AFTER)?;
    sockopt::set_tcp_keepintvl(stream, PROBE_EVERY)?;
    sockopt::set_tcp_keepcnt(stream, 3)?;
    sockopt::set_tcp_user_timeout(stream, u32::try_from(DEAD_AFTER.as_millis()).unwrap_or(u32::MAX))?;
    Ok(())
}

/// An error and its causes on one line.
pub(super) fn causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}
