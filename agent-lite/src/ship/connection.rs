//! One connection: to a gateway, or straight to a store. Whoever sends blocks sees no difference.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Limited};
use hyper::body::Incoming;
use sluice_wire::{Encoding, JournalId, Reason, Verdict, push};

use super::addresses::Place;
use super::credential::CredentialError;
use super::direct::Direct;
use super::gateway::Gateway;
use super::tls::TlsError;
use super::transport::{Endpoint, Http, Peer, causes};
use crate::metrics::Step;

/// What stands for the journal of a destination that has none and knows no block again: all zero, which no
/// random id is. What is in doubt there is given up, and counted, whenever it is sent again.
pub(super) const NOWHERE: JournalId = JournalId([0; 16]);

/// A block as it is handed over.
#[derive(Debug, Clone)]
pub(super) struct Parcel {
    /// Prelude and header.
    pub(super) head: Bytes,
    /// Compressed records.
    pub(super) payload: Bytes,
    /// How they are compressed.
    pub(super) encoding: Encoding,
    /// Bytes of the records.
    pub(super) raw_len: u32,
    /// How many they are.
    pub(super) records: u32,
}

/// What came of a push.
#[derive(Debug)]
pub(super) enum Reply {
    /// One verdict for each block.
    Verdicts(Vec<Verdict>),
    /// One verdict for all of them.
    ForAll(Verdict),
    /// Nothing of it was stored, and nothing will be at this address for a while.
    Aside(Aside),
    /// Anything else: the blocks are in doubt. The wait is what the reply asked for.
    InDoubt(String, Option<Duration>),
}

/// Why an address takes nothing.
#[derive(Debug)]
pub(super) struct Aside {
    /// For how long.
    pub(super) wait: Duration,
    /// In words.
    pub(super) why: String,
    /// Nothing will go until somebody mends a setting.
    pub(super) held: bool,
    /// The gateway's verdict, for the books.
    pub(super) verdict: Option<Verdict>,
}

impl Aside {
    /// What does not work; a store's answer begins with its status.
    pub(super) fn step(&self) -> Step {
        match (self.held, self.why.get(..3)) {
            (true, Some("401")) => Step::Unauthenticated,
            (true, Some("402" | "403")) => Step::Forbidden,
            (true, _) => Step::Refused,
            (false, Some("429")) => Step::Limit,
            (false, _) => Step::Busy,
        }
    }
}

/// Why there is no connection. No block was sent.
#[derive(Debug, thiserror::Error)]
pub(super) enum ConnectError {
    /// The URL names no host.
    #[error("the url has no host that a certificate could name")]
    NoHost,
    /// TLS files are wrong.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// A token's or password's file.
    #[error(transparent)]
    Credential(#[from] CredentialError),
    /// The network, or the TLS handshake.
    #[error("cannot connect: {0}")]
    Io(#[from] std::io::Error),
    /// The proxy refuses.
    #[error("the proxy does not connect us: {0}")]
    Proxy(String),
    /// HTTP.
    #[error("cannot talk: {}", causes(.0))]
    Http(#[from] hyper::Error),
    /// Not a gateway, or one that refuses; it may say why, and for how long.
    #[error("no greeting from the gateway: {0}")]
    Greeting(String, Option<Verdict>),
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

impl ConnectError {
    /// How long the other end wants to be left alone.
    pub(super) fn after(&self) -> Option<Duration> {
        match self {
            Self::Greeting(_, Some(Verdict::RetryAfter(wait, _))) => Some(*wait),
            _ => None,
        }
    }

    /// What does not work.
    pub(super) fn step(&self) -> Step {
        match self {
            Self::Tls(_) => Step::Tls,
            // What rustls says of a certificate comes as an error of the stream.
            Self::Io(error) if error.get_ref().is_some_and(|inner| inner.is::<rustls::Error>()) => Step::Tls,
            Self::Credential(_) => Step::Credential,
            Self::NoHost | Self::Io(_) | Self::Proxy(_) | Self::Timeout(_) => Step::Connection,
            Self::Greeting(_, Some(verdict)) => match verdict.reason() {
                Some(Reason::Unauthenticated) => Step::Unauthenticated,
                Some(Reason::Forbidden) => Step::Forbidden,
                _ => Step::Busy,
            },
            Self::Http(_) | Self::Greeting(_, None) | Self::Version { .. } => Step::Greeting,
        }
    }
}

/// Ready to push.
#[derive(Debug)]
pub(super) enum Connection {
    /// To a gateway, which was greeted.
    Gateway(Gateway),
    /// To a store.
    Direct(Direct),
}

impl Connection {
    /// Connects, and learns the journal where there is one.
    ///
    /// # Errors
    /// Why not; nothing was sent that could have been stored.
    pub(super) async fn open(endpoint: Arc<Endpoint>, place: Place) -> Result<Self, ConnectError> {
        let timeout = endpoint.connect_timeout;
        let open = async {
            let peer = endpoint.peer.clone();
            let http = Http::open(endpoint, place).await?;
            Ok(match peer {
                Peer::Gateway => Self::Gateway(Gateway::greet(http).await?),
                Peer::Store(store) => Self::Direct(Direct::new(http, store)),
            })
        };
        tokio::time::timeout(timeout, open).await.map_err(|_| ConnectError::Timeout(timeout))?
    }

    /// The journal behind it, or [`NOWHERE`].
    pub(super) fn journal(&self) -> JournalId {
        match self {
            Self::Gateway(gateway) => gateway.journal(),
            Self::Direct(_) => NOWHERE,
        }
    }

    /// What one push may hold.
    pub(super) fn limits(&self) -> push::Limits {
        match self {
            Self::Gateway(gateway) => *gateway.limits(),
            Self::Direct(_) => push::Limits::default(),
        }
    }

    /// Sends blocks. After [`Reply::InDoubt`] and [`Reply::Aside`] it is not to be used again.
    pub(super) async fn push(&mut self, parcels: Vec<Parcel>) -> Reply {
        let timeout = self.http().endpoint().request_timeout;
        let push = async {
            match self {
                Self::Gateway(gateway) => gateway.push(parcels).await,
                Self::Direct(direct) => direct.push(parcels).await,
            }
        };
        let silence = |_| Reply::InDoubt(format!("no reply within {timeout:?}"), None);
        tokio::time::timeout(timeout, push).await.unwrap_or_else(silence)
    }

    /// Whether another push can be sent.
    pub(super) fn is_open(&self) -> bool {
        self.http().is_open()
    }

    fn http(&self) -> &Http {
        match self {
            Self::Gateway(gateway) => gateway.http(),
            Self::Direct(direct) => direct.http(),
        }
    }
}

/// A reply's body, at most so many bytes of it.
///
/// # Errors
/// It breaks off, or is longer.
pub(super) async fn read_body(body: Incoming, most: usize) -> Result<Bytes, String> {
    Limited::new(body, most).collect().await.map(|body| body.to_bytes()).map_err(|error| error.to_string())
}
