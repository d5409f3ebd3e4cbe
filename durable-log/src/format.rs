//! The bytes on disk, format version 1. The tables are in `docs/durable-log.md`.

use std::ops::RangeInclusive;

pub(crate) const VERSION: u32 = 1;
pub(crate) const SEGMENT_HEADER: usize = 64;
pub(crate) const RECORD_HEADER: usize = 32;
/// What `Options::segment_bytes` may be.
pub(crate) const SEGMENT_BYTES: RangeInclusive<u64> = 64 << 10..=1 << 30;
/// Far above what a log can reach in its life, far below where adding to an index overflows.
pub(crate) const MAX_INDEX: u64 = 1 << 62;
/// Starts every record; a reader that lost its way looks for these bytes.
pub(crate) const MARKER: &[u8; 4] = b"SLR1";

const MAGIC: &[u8; 8] = b"SLUICLOG";

/// What all segments of a log have in common.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Identity {
    pub(crate) id: [u8; 16],
    /// Mixed into the CRC of record headers, so that a payload cannot contain a valid one.
    pub(crate) salt: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SegmentHeader {
    pub(crate) identity: Identity,
    pub(crate) base: u64,
    pub(crate) synced: u64,
    pub(crate) previous: u64,
}

/// Why bytes are not a segment header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum HeaderFault {
    Unreadable,
    LaterVersion(u32),
}

impl SegmentHeader {
    pub(crate) fn encode(&self) -> [u8; SEGMENT_HEADER] {
        let mut bytes = [0; SEGMENT_HEADER];
        bytes[0..8].copy_from_slice(MAGIC);
        bytes[8..12].copy_from_slice(&VERSION.to_le_bytes());
        bytes[12..16].copy_from_slice(&self.identity.salt.to_le_bytes());
        bytes[16..32].copy_from_slice(&self.identity.id);
        bytes[32..40].copy_from_slice(&self.base.to_le_bytes());
        bytes[40..48].copy_from_slice(&self.synced.to_le_bytes());
        bytes[48..56].copy_from_slice(&self.previous.to_le_bytes());
        let crc = crc32c::crc32c(&bytes[..60]);
        bytes[60..].copy_from_slice(&crc.to_le_bytes());
        bytes
    }

    pub(crate) fn decode(bytes: &[u8; SEGMENT_HEADER]) -> Result<Self, HeaderFault> {
        if &bytes[..8] != MAGIC || u32_at(bytes, 60) != crc32c::crc32c(&bytes[..60]) {
            return Err(HeaderFault::Unreadable);
        }
        match u32_at(bytes, 8) {
            VERSION => {}
            later if later > VERSION => return Err(HeaderFault::LaterVersion(later)),
            _ => return Err(HeaderFault::Unreadable),
        }
        let mut id = [0; 16];
        id.copy_from_slice(&bytes[16..32]);
        let header = Self {
            identity: Identity { id, salt: u32_at(bytes, 12) },
            base: u64_at(bytes, 32),
            synced: u64_at(bytes, 40),
            previous: u64_at(bytes, 48),
        };
        let plausible = header.base <= MAX_INDEX && header.synced <= header.base && header.previous <= header.base;
        if plausible { Ok(header) } else { Err(HeaderFault::Unreadable) }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct RecordHeader {
    pub(crate) length: u32,
    pub(crate) index: u64,
    pub(crate) synced: u64,
    pub(crate) payload_crc: u32,
}

impl RecordHeader {
    pub(crate) fn encode(&self, salt: u32) -> [u8; RECORD_HEADER] {
        let mut bytes = [0; RECORD_HEADER];
        bytes[0..4].copy_from_slice(MARKER);
        bytes[4..8].copy_from_slice(&self.length.to_le_bytes());
        bytes[8..16].copy_from_slice(&self.index.to_le_bytes());
        bytes[16..24].copy_from_slice(&self.synced.to_le_bytes());
        bytes[24..28].copy_from_slice(&self.payload_crc.to_le_bytes());
        let crc = header_crc(salt, &bytes[..28]);
        bytes[28..].copy_from_slice(&crc.to_le_bytes());
        bytes
    }

    /// `None` unless `bytes` starts with a header that may stand at `offset` of the segment `base`.
    pub(crate) fn decode(bytes: &[u8], salt: u32, base: u64, offset: u64) -> Option<Self> {
        let bytes = bytes.first_chunk::<RECORD_HEADER>()?;
        if &bytes[..4] != MARKER || u32_at(bytes, 28) != header_crc(salt, &bytes[..28]) {
            return None;
        }
        let header = Self {
            length: u32_at(bytes, 4),
            index: u64_at(bytes, 8),
            synced: u64_at(bytes, 16),
            payload_crc: u32_at(bytes, 24),
        };
        let possible =
            header.synced <= header.index && header.index >= base && header.index <= highest_index(base, offset);
        possible.then_some(header)
    }

    /// Bytes of the record, header and payload.
    pub(crate) fn size(&self) -> u64 {
        RECORD_HEADER as u64 + u64::from(self.length)
    }
}

/// The highest index that a record at `offset` of the segment `base` can have: as many records as
/// fit before it, each at least a header long.
pub(crate) fn highest_index(base: u64, offset: u64) -> u64 {
    base + offset.saturating_sub(SEGMENT_HEADER as u64) / RECORD_HEADER as u64
}

fn header_crc(salt: u32, bytes: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(&salt.to_le_bytes()), bytes)
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(*bytes[at..].first_chunk().expect("four bytes inside a header"))
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(*bytes[at..].first_chunk().expect("eight bytes inside a header"))
}

pub(crate) fn segment_name(base: u64) -> String {
    format!("{base:020}.log")
}

/// The name of a segment while it is being made.
pub(crate) fn unfinished_name(base: u64) -> String {
    format!("{base:020}.new")
}

/// The base that a segment's file name tells; `None` for other files.
pub(crate) fn segment_base(name: &str) -> Option<u64> {
    base_before(name, ".log")
}

pub(crate) fn is_unfinished(name: &str) -> bool {
    base_before(name, ".new").is_some()
}

fn base_before(name: &str, ending: &str) -> Option<u64> {
    let digits = name.strip_suffix(ending)?;
    if digits.len() != 20 || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    digits.parse().ok().filter(|&base| base <= MAX_INDEX)
}

#[cfg(test)]
mod tests;
