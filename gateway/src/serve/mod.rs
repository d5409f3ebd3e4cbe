//! Sockets: a bounded number of connections, TLS, HTTP/1.1 and HTTP/2, and an orderly end.

mod idle;
pub mod tls;

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use prometheus::IntGauge;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::time::Instant;
use tower::ServiceExt as _;

use self::idle::Activity;
use self::tls::Acceptor;
use crate::causes;

/// How long a TLS handshake may take.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// HTTP/1.1: bytes of a connection's read buffer, and with that of a request's head.
const BUFFER: usize = 64 * 1024;
/// HTTP/2: requests of a connection at once. Agents have one under way.
const STREAMS: u32 = 16;
/// HTTP/2: bytes that a connection may send before they are read. What counts is the connection's: it is all
/// the memory that a client takes that is not set aside for its requests.
const WINDOW: u32 = 256 * 1024;
/// HTTP/2: bytes of a request's headers.
const HEADERS: u32 = 16 * 1024;
/// HTTP/2: bytes of replies that wait to be written.
const SEND_BUFFER: usize = 64 * 1024;
/// HTTP/2: silence after which a ping asks whether the peer is there, and how long its answer may take.
const PING: (Duration, Duration) = (Duration::from_secs(30), Duration::from_secs(20));
/// How long a connection that was told to end may take with no request under way.
const FAREWELL: Duration = Duration::from_secs(5);

/// Who is at the other end of a connection; an extension of each of its requests.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Peer {
    /// Their address.
    pub address: IpAddr,
    /// Ours.
    pub local: IpAddr,
    /// DNS and URI names in their certificate, which the client CA has signed.
    pub names: Vec<String>,
}

impl Peer {
    /// Whether both ends are on this machine.
    #[must_use]
    pub fn is_loopback(&self) -> bool {
        self.address.to_canonical().is_loopback() && self.local.to_canonical().is_loopback()
    }
}

/// A bound socket with its bounds.
#[derive(Debug)]
pub struct Server {
    listener: TcpListener,
    acceptor: Option<Arc<Acceptor>>,
    max_connections: usize,
    idle_timeout: Duration,
    open: IntGauge,
}

impl Server {
    /// Binds `address`. Connections above `max_connections` wait in the system's queue; one that is
    /// silent for `idle_timeout` is closed. `open` counts them.
    ///
    /// # Errors
    /// Where the system refuses.
    pub async fn bind(
        address: SocketAddr,
        acceptor: Option<Arc<Acceptor>>,
        max_connections: usize,
        idle_timeout: Duration,
        open: IntGauge,
    ) -> io::Result<Self> {
        let listener = TcpListener::bind(address).await?;
        Ok(Self { listener, acceptor, max_connections, idle_timeout, open })
    }

    /// The address that it is bound to, with the port that the system has chosen for 0.
    ///
    /// # Errors
    /// Where the system refuses.
    pub fn address(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Serves until `stop`, then lets requests under way end: whoever bounds the drain drops the future.
    pub async fn run(self, router: Router, stop: impl Future<Output = ()>) {
        let room = Arc::new(Semaphore::new(self.max_connections));
        let (leave, leaving) = watch::channel(());
        let mut stop = std::pin::pin!(stop);
        loop {
            let accepted = async {
                // Before accepting, so that who has no room stays in the queue.
                let permit = Arc::clone(&room).acquire_owned().await;
                (permit, self.listener.accept().await)
            };
            let (permit, accepted) = tokio::select! {
                accepted = accepted => accepted,
                () = &mut stop => break,
            };
            let (stream, address) = match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    // Out of file descriptors, or the peer has gone again. A pause, or it spins.
                    tracing::warn!(%error, "cannot accept a connection");
                    tokio::time::sleep(Duration::from_millis(50)).await;
                    continue;
                }
            };
            let connection = Connection {
                router: router.clone(),
                acceptor: self.acceptor.clone(),
                idle_timeout: self.idle_timeout,
                leaving: leaving.clone(),
            };
            let open = self.open.clone();
            open.inc();
            tokio::spawn(async move {
                if let Err(error) = connection.serve(stream, address).await {
                    tracing::debug!(peer = %address, error = %causes::in_one_line(&*error), "connection ended");
                }
                open.dec();
                drop(permit);
            });
        }
        drop(self.listener);
        drop(leaving);
        leave.send_replace(());
        // Until the last connection has dropped its end.
        leave.closed().await;
    }
}

struct Connection {
    router: Router,
    acceptor: Option<Arc<Acceptor>>,
    idle_timeout: Duration,
    leaving: watch::Receiver<()>,
}

type Error = Box<dyn std::error::Error + Send + Sync>;

impl Connection {
    async fn serve(self, stream: TcpStream, address: SocketAddr) -> Result<(), Error> {
        stream.set_nodelay(true)?;
        let mut peer = Peer { address: address.ip(), local: stream.local_addr()?.ip(), names: Vec::new() };
        match &self.acceptor {
            None => self.serve_http(stream, peer).await,
            Some(acceptor) => {
                let stream = tokio::time::timeout(HANDSHAKE, acceptor.accept(stream)).await??;
                peer.names = tls::peer_names(&stream);
                self.serve_http(stream, peer).await
            }
        }
    }

    async fn serve_http<S>(self, stream: S, peer: Peer) -> Result<(), Error>
    where
        S: AsyncRead + AsyncWrite + Unpin + 'static,
    {
        let peer = Arc::new(peer);
        let activity = Arc::new(Activity::default());
        let (router, counted) = (self.router, Arc::clone(&activity));
        let service = service_fn(move |mut request: http::Request<hyper::body::Incoming>| {
            request.extensions_mut().insert(Arc::clone(&peer));
            let under_way = Activity::begin(&counted);
            let answer = router.clone().oneshot(request.map(Body::new));
            async move {
                let answer = answer.await;
                drop(under_way);
                answer
            }
        });
        let mut builder = auto::Builder::new(TokioExecutor::new());
        builder
            .http1()
            .timer(TokioTimer::new())
            // Runs from the end of the request before, so that it bounds idle connections, too.
            .header_read_timeout(self.idle_timeout)
            .max_buf_size(BUFFER);
        builder
            .http2()
            .timer(TokioTimer::new())
            .max_concurrent_streams(STREAMS)
            .initial_stream_window_size(WINDOW)
            .initial_connection_window_size(WINDOW)
            .max_header_list_size(HEADERS)
            .max_send_buf_size(SEND_BUFFER)
            .keep_alive_interval(PING.0)
            .keep_alive_timeout(PING.1);
        let connection = builder.serve_connection(TokioIo::new(stream), service);
        let mut connection = std::pin::pin!(connection);
        let mut leaving = self.leaving;
        loop {
            // While a request is under way it is looked at again later: its end wakes nobody.
            let look = activity.idle_since().unwrap_or_else(Instant::now) + self.idle_timeout;
            tokio::select! {
                ended = connection.as_mut() => return ended,
                _ = leaving.changed() => break,
                () = tokio::time::sleep_until(look) => if activity.is_idle_for(self.idle_timeout) { break },
            }
        }
        // `connection: close`, or GOAWAY. What is under way ends first; who then holds on is let go.
        connection.as_mut().graceful_shutdown();
        loop {
            tokio::select! {
                ended = connection.as_mut() => return ended,
                () = tokio::time::sleep(FAREWELL) => if activity.is_idle_for(FAREWELL) { return Ok(()) },
            }
        }
    }
}

#[cfg(test)]
mod tests;
