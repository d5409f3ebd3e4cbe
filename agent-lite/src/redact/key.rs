//! The key under which secrets are hashed.

use std::fmt;

use ring::hmac;

/// Whoever has it can try out which secret a hash is of; whoever has it not, cannot.
#[derive(Clone)]
pub struct Key(hmac::Key);

/// Why a text is no key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "the key for hashes has less than {} bytes: write a random one, as `openssl rand -hex 32` prints",
    Key::SHORTEST
)]
pub struct KeyError;

impl Key {
    /// Bytes of a key.
    pub const SHORTEST: usize = 16;

    /// What a file or variable holds, without the newline that editors and `echo` add.
    ///
    /// # Errors
    /// It is too short.
    pub fn new(text: &str) -> Result<Self, KeyError> {
        let text = text.trim();
        if text.len() < Self::SHORTEST {
            return Err(KeyError);
        }
        Ok(Self(hmac::Key::new(hmac::HMAC_SHA256, text.as_bytes())))
    }

    /// The first 64 bits of HMAC-SHA-256. Spaces and dashes do not count where `is_number` says so: a card
    /// is the same however it is written.
    pub(super) fn hash(&self, secret: &str, is_number: bool) -> u64 {
        let mut context = hmac::Context::with_key(&self.0);
        if is_number {
            secret.split([' ', '-']).for_each(|group| context.update(group.as_bytes()));
        } else {
            context.update(secret.as_bytes());
        }
        let tag = context.sign();
        tag.as_ref().iter().take(8).fold(0, |bits, byte| bits << 8 | u64::from(*byte))
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Key(…)")
    }
}
