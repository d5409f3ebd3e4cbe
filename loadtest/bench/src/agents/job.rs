//! What a contender is asked to do in a case.

use std::{net::SocketAddr, path::Path};

/// Reads everything below `pods` from the beginning and sends it to the sink.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Job<'a> {
    pub(crate) pods: &'a Path,
    pub(crate) sink: SocketAddr,
    /// The PEM file of who signed the sink's certificate; without it, no TLS.
    pub(crate) ca: Option<&'a Path>,
    /// How the API server is reached; without it, no pods' metadata.
    pub(crate) kubeconfig: Option<&'a Path>,
    /// Whether stack traces are joined.
    pub(crate) multiline: bool,
    /// Whether three of the rules that the agent brings along are looked for.
    pub(crate) redaction: bool,
}

impl<'a> Job<'a> {
    /// Nothing else.
    pub(crate) fn plain(pods: &'a Path, sink: SocketAddr) -> Self {
        Self { pods, sink, ca: None, kubeconfig: None, multiline: false, redaction: false }
    }

    /// The sink's url.
    pub(super) fn url(&self) -> String {
        let scheme = if self.ca.is_some() { "https" } else { "http" };
        format!("{scheme}://{}", self.sink)
    }
}
