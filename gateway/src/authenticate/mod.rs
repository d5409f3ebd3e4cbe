//! Who sends, from headers and connection alone, before a body is read; and what they may say of
//! themselves.

mod producers;

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use http::HeaderMap;
use http::header::AUTHORIZATION;
use ring::hmac;
use sluice_wire::Header;

pub use self::producers::Producers;
use crate::config::checked::{Identity, Policy, Proof};
use crate::serve::Peer;

/// No credential, or one that is not known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("no credential, or one that is not known")]
pub struct Unauthenticated;

/// The identities of a policy, by what proves them.
pub struct Credentials {
    key: hmac::Key,
    tokens: HashMap<[u8; 32], Arc<Identity>>,
    sans: HashMap<String, Arc<Identity>>,
    loopback: Option<Arc<Identity>>,
}

impl Credentials {
    /// Those of `policy`.
    #[must_use]
    pub fn new(policy: &Policy) -> Self {
        // Tokens are looked up by their MAC under a key that nobody knows: how long the comparison of
        // two MACs takes says nothing about a token.
        let key = hmac::Key::new(hmac::HMAC_SHA256, &rand::random::<[u8; 32]>());
        let mut credentials = Self { key, tokens: HashMap::new(), sans: HashMap::new(), loopback: None };
        for identity in &policy.identities {
            let identity = Arc::new(identity.clone());
            match &identity.proof {
                Proof::Token(secret) => {
                    let mac = credentials.mac(secret.reveal().as_bytes());
                    credentials.tokens.insert(mac, identity);
                }
                Proof::San(san) => {
                    credentials.sans.insert(san.clone(), identity);
                }
                Proof::Loopback => credentials.loopback = Some(identity),
            }
        }
        credentials
    }

    fn mac(&self, token: &[u8]) -> [u8; 32] {
        let mut mac = [0; 32];
        mac.copy_from_slice(hmac::sign(&self.key, token).as_ref());
        mac
    }

    /// Who sends. A token, where there is one, must be known: one that is not is never overlooked in
    /// favour of a certificate or a loopback address.
    ///
    /// # Errors
    /// [`Unauthenticated`].
    pub fn identify(&self, headers: &HeaderMap, peer: &Peer) -> Result<&Arc<Identity>, Unauthenticated> {
        let identity = if let Some(value) = headers.get(AUTHORIZATION) {
            let token = bearer(value.as_bytes()).filter(|_| headers.get_all(AUTHORIZATION).iter().count() == 1);
            token.and_then(|token| self.tokens.get(&self.mac(token)))
        } else if peer.names.is_empty() {
            self.loopback.as_ref().filter(|_| peer.is_loopback())
        } else {
            peer.names.iter().find_map(|name| self.sans.get(name))
        };
        identity.ok_or(Unauthenticated)
    }
}

fn bearer(value: &[u8]) -> Option<&[u8]> {
    let (scheme, token) = value.split_at_checked(7)?;
    scheme.eq_ignore_ascii_case(b"bearer ").then(|| token.trim_ascii())
}

/// Whether what a header says of cluster, node, category and namespace is within the credential.
#[must_use]
pub fn covers(identity: &Identity, header: &Header) -> bool {
    (identity.clusters.is_empty() || identity.clusters.iter().any(|cluster| **cluster == *header.cluster))
        && identity.nodes.allow(&header.node)
        && identity.categories.contains(&header.lane.category)
        && identity.namespaces.allow(&header.lane.scope)
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (tokens, sans) = (self.tokens.len(), self.sans.len());
        f.debug_struct("Credentials").field("tokens", &tokens).field("sans", &sans).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
