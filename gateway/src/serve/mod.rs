//! Sockets: a bounded number of connections, TLS, HTTP/1.1, and an orderly end.

pub mod tls;

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::{GracefulShutdown, Watcher};
use prometheus::IntGauge;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tower::ServiceExt as _;

use self::tls::Acceptor;
use crate::causes;

/// How long a TLS handshake may take.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// Bytes of a connection's read buffer, and with that of a request's head.
const BUFFER: usize = 64 * 1024;

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
        let graceful = GracefulShutdown::new();
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
                watcher: graceful.watcher(),
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
        graceful.shutdown().await;
    }
}

struct Connection {
    router: Router,
    acceptor: Option<Arc<Acceptor>>,
    idle_timeout: Duration,
    watcher: Watcher,
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
        let service = service_fn(move |mut request: http::Request<hyper::body::Incoming>| {
            request.extensions_mut().insert(Arc::clone(&peer));
            self.router.clone().oneshot(request.map(Body::new))
        });
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            // Runs from the end of the request before, so that it bounds idle connections, too.
            .header_read_timeout(self.idle_timeout)
            .max_buf_size(BUFFER)
            .serve_connection(TokioIo::new(stream), service);
        Ok(self.watcher.watch(connection).await?)
    }
}

#[cfg(test)]
mod tests;
