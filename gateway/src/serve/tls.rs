//! TLS, and the names in a client's certificate.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwap;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use crate::config::checked::Tls;

/// What is wrong with a certificate, key or CA; names the file.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It cannot be read.
    #[error("{}: cannot be read: {source}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// It holds no PEM of the kind that it should.
    #[error("{}: expected {expected} in PEM: {reason}", path.display())]
    NotPem {
        /// The file.
        path: PathBuf,
        /// What it should hold.
        expected: &'static str,
        /// Why.
        reason: String,
    },
    /// The parts do not fit together.
    #[error("{}: cannot be used: {reason}", path.display())]
    Unusable {
        /// The file.
        path: PathBuf,
        /// Why.
        reason: String,
    },
}

/// Accepts TLS connections with the certificate as it is in its file: it is looked at again and again,
/// because certificates are renewed.
#[derive(Debug)]
pub struct Acceptor {
    files: Tls,
    seen: Mutex<Pem>,
    config: ArcSwap<ServerConfig>,
}

/// The files' content.
#[derive(PartialEq)]
struct Pem {
    certificate: Vec<u8>,
    key: Vec<u8>,
    client_ca: Option<Vec<u8>>,
}

impl std::fmt::Debug for Pem {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Pem(…)")
    }
}

impl Acceptor {
    /// Reads the files.
    ///
    /// # Errors
    /// The first file that is not what it should be.
    pub fn new(files: &Tls) -> Result<Self, Error> {
        let pem = Pem::read(files)?;
        let config = ArcSwap::from_pointee(server_config(files, &pem)?);
        Ok(Self { files: files.clone(), seen: Mutex::new(pem), config })
    }

    /// Reads the files again; true if they have changed. Connections that are open go on as they are.
    ///
    /// # Errors
    /// As [`new`](Self::new); what was in force stays so.
    pub fn refresh(&self) -> Result<bool, Error> {
        let pem = Pem::read(&self.files)?;
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        if *seen == pem {
            return Ok(false);
        }
        self.config.store(Arc::new(server_config(&self.files, &pem)?));
        *seen = pem;
        Ok(true)
    }

    pub(super) async fn accept(&self, stream: TcpStream) -> std::io::Result<TlsStream<TcpStream>> {
        TlsAcceptor::from(self.config.load_full()).accept(stream).await
    }
}

impl Pem {
    fn read(files: &Tls) -> Result<Self, Error> {
        let read =
            |path: &Path| std::fs::read(path).map_err(|source| Error::Unreadable { path: path.to_owned(), source });
        let client_ca = files.client_ca.as_deref().map(read).transpose()?;
        Ok(Self { certificate: read(&files.certificate)?, key: read(&files.key)?, client_ca })
    }
}

fn server_config(files: &Tls, pem: &Pem) -> Result<ServerConfig, Error> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let unusable =
        |path: &Path, reason: &dyn ToString| Error::Unusable { path: path.to_owned(), reason: reason.to_string() };
    let certificates = certificates(&files.certificate, &pem.certificate)?;
    let key = PrivateKeyDer::from_pem_slice(&pem.key).map_err(|error| Error::NotPem {
        path: files.key.clone(),
        expected: "a private key",
        reason: error.to_string(),
    })?;
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(|error| unusable(&files.certificate, &error))?;
    let builder = match (&files.client_ca, &pem.client_ca) {
        (Some(path), Some(bytes)) => {
            let mut roots = RootCertStore::empty();
            for certificate in self::certificates(path, bytes)? {
                roots.add(certificate).map_err(|error| unusable(path, &error))?;
            }
            // Who shows no certificate is let in so far, and is then told in words, with a verdict, that
            // a credential is missing.
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider)
                .allow_unauthenticated()
                .build()
                .map_err(|error| unusable(path, &error))?;
            builder.with_client_cert_verifier(verifier)
        }
        _ => builder.with_no_client_auth(),
    };
    let mut config =
        builder.with_single_cert(certificates, key).map_err(|error| unusable(&files.certificate, &error))?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(config)
}

fn certificates(path: &Path, pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, Error> {
    let not_pem = |reason: String| Error::NotPem { path: path.to_owned(), expected: "a certificate", reason };
    let certificates: Vec<_> =
        CertificateDer::pem_slice_iter(pem).collect::<Result<_, _>>().map_err(|error| not_pem(error.to_string()))?;
    if certificates.is_empty() { Err(not_pem("there is none".to_owned())) } else { Ok(certificates) }
}

/// DNS and URI names in the client's certificate; none where it has shown none.
pub(super) fn peer_names(stream: &TlsStream<TcpStream>) -> Vec<String> {
    let (_, connection) = stream.get_ref();
    let Some(certificate) = connection.peer_certificates().and_then(|chain| chain.first()) else { return Vec::new() };
    let Ok(certificate) = webpki::EndEntityCert::try_from(certificate) else { return Vec::new() };
    certificate.valid_dns_names().chain(certificate.valid_uri_names()).map(str::to_owned).collect()
}
