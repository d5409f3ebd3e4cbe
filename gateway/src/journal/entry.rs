//! An entry's bytes in the log, version 1. The table is in `docs/delivery.md`.

use std::sync::Arc;

use bytes::Bytes;
use sluice_wire::Block;
use sluice_wire::block::OverLimit;

use super::Entry;

const VERSION: u8 = 1;
const FIXED: usize = 24;

/// Why bytes are not an entry. The log's checksums held, so they were written so: by a later release,
/// or by a fault of ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NotAnEntry {
    /// A later release wrote it.
    #[error("entry version {0} is later than this program's {VERSION}; start the newer program")]
    Version(u8),
    /// It contradicts itself.
    #[error("the entry's {0} does not fit its bytes")]
    Field(&'static str),
}

/// Writes all of an entry but its payload, which follows as it is: the log takes records in parts, so
/// that a payload is not copied for this.
///
/// # Errors
/// A text or list over its bound.
pub(crate) fn encode_head(entry: &Entry, out: &mut Vec<u8>) -> Result<(), OverLimit> {
    out.clear();
    let destinations = bounded("destinations", entry.destinations.len())?;
    out.extend_from_slice(&[VERSION, 0]);
    out.extend_from_slice(&destinations.to_le_bytes());
    out.extend_from_slice(&[0; 4]);
    out.extend_from_slice(&entry.received.to_le_bytes());
    out.extend_from_slice(&entry.policy.to_le_bytes());
    put("tenant", &entry.tenant, out)?;
    put("identity", &entry.identity, out)?;
    for destination in &entry.destinations {
        put("destination", destination, out)?;
    }
    let texts = u32::try_from(out.len() - FIXED).map_err(|_| OverLimit { field: "texts", limit: u32::MAX as usize })?;
    out[4..8].copy_from_slice(&texts.to_le_bytes());
    entry.block.header.write(entry.block.payload.len(), out)
}

fn put(field: &'static str, text: &str, out: &mut Vec<u8>) -> Result<(), OverLimit> {
    out.extend_from_slice(&bounded(field, text.len())?.to_le_bytes());
    out.extend_from_slice(text.as_bytes());
    Ok(())
}

fn bounded(field: &'static str, length: usize) -> Result<u16, OverLimit> {
    u16::try_from(length).map_err(|_| OverLimit { field, limit: u16::MAX.into() })
}

/// The part before the frame, borrowed: enough to pass over an entry that is for somebody else.
#[derive(Debug)]
pub(crate) struct Head<'a> {
    received: i64,
    policy: u64,
    tenant: &'a str,
    identity: &'a str,
    destinations: Texts<'a>,
    frame: usize,
}

impl<'a> Head<'a> {
    /// Reads it, and all of its texts.
    ///
    /// # Errors
    /// Where it is not one of this version.
    pub(crate) fn read(bytes: &'a [u8]) -> Result<Self, NotAnEntry> {
        let fixed: &[u8; FIXED] = bytes.first_chunk().ok_or(NotAnEntry::Field("length"))?;
        if fixed[0] != VERSION {
            return Err(NotAnEntry::Version(fixed[0]));
        }
        if fixed[1] != 0 {
            return Err(NotAnEntry::Field("reserved byte"));
        }
        let long =
            |at: usize| u64::from_le_bytes(*fixed[at..].first_chunk().expect("eight bytes inside the fixed part"));
        let count = u16::from_le_bytes([fixed[2], fixed[3]]);
        let length = u32::from_le_bytes([fixed[4], fixed[5], fixed[6], fixed[7]]) as usize;
        let texts = bytes[FIXED..].get(..length).ok_or(NotAnEntry::Field("texts"))?;
        let mut texts = Texts { rest: texts };
        let tenant = texts.text().ok_or(NotAnEntry::Field("tenant"))?;
        let identity = texts.text().ok_or(NotAnEntry::Field("identity"))?;
        let destinations = texts.clone();
        let found = texts.by_ref().count();
        if !texts.rest.is_empty() || found != usize::from(count) {
            return Err(NotAnEntry::Field("destinations"));
        }
        Ok(Self {
            received: i64::from_le_bytes(long(8).to_le_bytes()),
            policy: long(16),
            tenant,
            identity,
            destinations,
            frame: FIXED + length,
        })
    }

    /// Whether the entry is routed to `destination`.
    pub(crate) fn is_for(&self, destination: &str) -> bool {
        self.destinations.clone().any(|name| name == destination)
    }
}

/// Texts with their lengths before them, as far as they are whole.
#[derive(Debug, Clone)]
struct Texts<'a> {
    rest: &'a [u8],
}

impl<'a> Texts<'a> {
    fn text(&mut self) -> Option<&'a str> {
        let (length, rest) = self.rest.split_first_chunk()?;
        let (text, rest) = rest.split_at_checked(u16::from_le_bytes(*length).into())?;
        let text = std::str::from_utf8(text).ok()?;
        self.rest = rest;
        Some(text)
    }
}

impl<'a> Iterator for Texts<'a> {
    type Item = &'a str;

    fn next(&mut self) -> Option<&'a str> {
        self.text()
    }
}

/// Reads a whole entry; its payload is a slice of `bytes`.
///
/// # Errors
/// Where it is not one of this version.
pub fn decode(bytes: &Bytes) -> Result<Entry, NotAnEntry> {
    let head = Head::read(bytes)?;
    let block = Block::read(&bytes.slice(head.frame..)).map_err(|reason| NotAnEntry::Field(reason.word()))?;
    Ok(Entry {
        tenant: head.tenant.into(),
        destinations: head.destinations.map(Arc::from).collect(),
        policy: head.policy,
        identity: head.identity.into(),
        received: head.received,
        block,
    })
}

/// A whole entry in one piece.
///
/// # Errors
/// A text or list over its bound.
pub fn encode(entry: &Entry) -> Result<Vec<u8>, OverLimit> {
    let mut bytes = Vec::new();
    encode_head(entry, &mut bytes)?;
    bytes.extend_from_slice(&entry.block.payload);
    Ok(bytes)
}

#[cfg(test)]
mod tests;
