//! TLS to the gateway: its CA, and our own certificate where mTLS is asked for.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, RootCertStore};

use super::transport::Protocol;

/// Files in PEM; read anew for each connection, so that a renewed certificate is used without a restart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsFiles {
    /// Certificates that may sign the gateway's.
    pub ca: PathBuf,
    /// Our certificate chain and its key.
    pub client: Option<(PathBuf, PathBuf)>,
}

/// A file that TLS cannot be made of.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// Not there, or not PEM.
    #[error("{}: {what}: {error}", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// What it should be.
        what: &'static str,
        /// What is wrong.
        error: String,
    },
    /// Certificate and key do not go together.
    #[error("the client's certificate and key cannot be used: {0}")]
    Client(#[source] rustls::Error),
}

impl TlsFiles {
    /// Reads the files; offers what `protocol` allows by ALPN.
    ///
    /// # Errors
    /// Names the file and what it should be.
    pub fn load(&self, protocol: Protocol) -> Result<Arc<ClientConfig>, TlsError> {
        let mut roots = RootCertStore::empty();
        for certificate in certificates(&self.ca, "a CA certificate in PEM")? {
            roots.add(certificate).map_err(|error| fault(&self.ca, "a CA certificate in PEM", &error))?;
        }
        let builder = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(TlsError::Client)?
            .with_root_certificates(roots);
        let mut config = match &self.client {
            None => builder.with_no_client_auth(),
            Some((chain, key_path)) => {
                let key = PrivateKeyDer::from_pem_file(key_path)
                    .map_err(|error| fault(key_path, "a private key in PEM", &error))?;
                builder
                    .with_client_auth_cert(certificates(chain, "a certificate chain in PEM")?, key)
                    .map_err(TlsError::Client)?
            }
        };
        let offered: &[&[u8]] = match protocol {
            Protocol::Auto => &[b"h2", b"http/1.1"],
            Protocol::Http1 => &[b"http/1.1"],
            Protocol::Http2 => &[b"h2"],
        };
        config.alpn_protocols = offered.iter().map(|name| name.to_vec()).collect();
        Ok(Arc::new(config))
    }

    /// The files that it is made of.
    pub(super) fn files(&self) -> impl Iterator<Item = &Path> {
        let client = self.client.iter().flat_map(|(certificate, key)| [&**certificate, &**key]);
        std::iter::once(&*self.ca).chain(client)
    }
}

fn certificates(path: &Path, what: &'static str) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let read = CertificateDer::pem_file_iter(path).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    let certificates = read.map_err(|error| fault(path, what, &error))?;
    if certificates.is_empty() { Err(fault(path, what, &"none in it")) } else { Ok(certificates) }
}

fn fault(path: &Path, what: &'static str, error: &dyn std::fmt::Display) -> TlsError {
    TlsError::File { path: path.to_owned(), what, error: error.to_string() }
}
