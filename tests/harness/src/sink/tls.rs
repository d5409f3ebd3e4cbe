//! The sink behind TLS, with a certificate authority that lives as long as the process.

use std::{fs, io, net::SocketAddr, path::Path, path::PathBuf, sync::Arc, time::Duration};

use axum::{Router, serve::Listener};
use rcgen::{BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair};
use rustls::{ServerConfig, pki_types::PrivateKeyDer};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::{TlsAcceptor, server::TlsStream};

use crate::error::{At as _, Error, Result};

/// A client that connects and says nothing holds up all others so long.
const HANDSHAKE: Duration = Duration::from_secs(5);

/// What clients and server need.
pub struct Tls {
    /// PEM file of the authority's certificate.
    pub ca_file: PathBuf,
    acceptor: TlsAcceptor,
}

impl std::fmt::Debug for Tls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tls").field("ca_file", &self.ca_file).finish_non_exhaustive()
    }
}

impl Tls {
    /// An authority, and a certificate of its for `127.0.0.1`: HTTP/1.1, TLS 1.2 and 1.3, P-256. Writes the
    /// authority's certificate to `ca_file`.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn new(ca_file: PathBuf) -> Result<Self> {
        let (ca, acceptor) = certify().map_err(|error| Error::Config(format!("TLS: {error}")))?;
        fs::write(&ca_file, ca).at(Path::new(&ca_file))?;
        Ok(Self { ca_file, acceptor })
    }
}

/// The authority's certificate, and what takes connections by the one that it signed.
fn certify() -> Result<(String, TlsAcceptor), Box<dyn std::error::Error>> {
    let key = KeyPair::generate()?;
    let mut params = CertificateParams::new(Vec::new())?;
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority = params.self_signed(&key)?.pem();
    let issuer = Issuer::new(params, key);

    let key = KeyPair::generate()?;
    let mut params = CertificateParams::new(vec!["127.0.0.1".to_owned()])?;
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    let certificate = params.signed_by(&key, &issuer)?;

    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
    let key = PrivateKeyDer::try_from(key.serialize_der())?;
    let mut config = builder.with_no_client_auth().with_single_cert(vec![certificate.der().clone()], key)?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok((authority, TlsAcceptor::from(Arc::new(config))))
}

/// As [`serve`](super::serve), over TLS.
///
/// # Errors
/// When the address cannot be bound.
pub async fn serve_tls(listen: SocketAddr, router: Router, tls: &Tls) -> Result<SocketAddr> {
    let failed = |source: io::Error| Error::System { what: format!("listening on {listen}"), source };
    let listener = TcpListener::bind(listen).await.map_err(failed)?;
    let address = listener.local_addr().map_err(failed)?;
    let listener = Secured { listener, acceptor: tls.acceptor.clone() };
    tokio::spawn(async move { axum::serve(listener, router).await });
    Ok(address)
}

struct Secured {
    listener: TcpListener,
    acceptor: TlsAcceptor,
}

impl Listener for Secured {
    type Io = TlsStream<TcpStream>;
    type Addr = SocketAddr;

    /// One handshake after the other: a collector has few connections.
    async fn accept(&mut self) -> (Self::Io, SocketAddr) {
        loop {
            let (connection, peer) = Listener::accept(&mut self.listener).await;
            match tokio::time::timeout(HANDSHAKE, self.acceptor.accept(connection)).await {
                Ok(Ok(stream)) => return (stream, peer),
                Ok(Err(error)) => eprintln!("sink: {peer}: {error}"),
                Err(_) => eprintln!("sink: {peer}: no handshake within {HANDSHAKE:?}"),
            }
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }
}
