//! Raw lines to payloads, and payloads too large for a gateway to smaller ones.

use std::io::Write as _;

use bytes::Bytes;
use memchr::memrchr;
use sluice_wire::payload::Checker;
use sluice_wire::{Block, Encoding, Header, limits, record, time};

/// zstd level 1: on log lines level 3 compresses worse and slower (`docs/adr/0003`).
const LEVEL: i32 = 1;

/// gzip at its fastest, for who reads no zstd.
const GZIP_LEVEL: flate2::Compression = flate2::Compression::fast();

/// Compresses, keeping its context and its buffer.
pub struct Compressor {
    encoding: Encoding,
    zstd: Option<zstd::bulk::Compressor<'static>>,
    out: Vec<u8>,
    checker: Checker,
}

impl std::fmt::Debug for Compressor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Compressor").field("buffer", &self.out.capacity()).finish_non_exhaustive()
    }
}

impl Compressor {
    /// With this encoding; where no context for it can be had, payloads go as they are.
    #[must_use]
    pub fn new(encoding: Encoding) -> Self {
        let context = || {
            zstd::bulk::Compressor::new(LEVEL)
                .inspect_err(|error| tracing::error!(%error, "no zstd context, sending blocks uncompressed"))
                .ok()
        };
        let zstd = (encoding == Encoding::Zstd).then(context).flatten();
        Self { encoding, zstd, out: Vec::new(), checker: Checker::default() }
    }

    /// The blocks of `raw`, which `header` describes but for its payload: one, unless the payload is
    /// over its limit.
    pub(super) fn blocks(&mut self, mut header: Header, raw: &[u8]) -> Vec<Block> {
        let payload = self.compress(&mut header, raw);
        if payload.len() <= limits::BLOCK_PAYLOAD {
            return vec![Block { header, payload }];
        }
        self.pieces(&header, raw, raw.len() / 2)
    }

    /// The lines of `block` in pieces of at most `limit` raw bytes, or of one record each.
    pub(super) fn split(&mut self, block: &Block, limit: usize) -> Vec<Block> {
        let mut checker = std::mem::take(&mut self.checker);
        let pieces = match checker.decode(block.header.encoding, block.header.raw_len as usize, &block.payload) {
            Ok(raw) => self.pieces(&block.header, raw, limit),
            // Compressed here a moment ago; if memory has changed since, the gateway's check will say so.
            Err(_) => vec![block.clone()],
        };
        self.checker = checker;
        pieces
    }

    /// All positions go to the last piece: once it is stored, so are those before it in its lane.
    fn pieces(&mut self, whole: &Header, raw: &[u8], limit: usize) -> Vec<Block> {
        let mut pieces = Vec::new();
        let mut rest = raw;
        while !rest.is_empty() {
            let fitting = memrchr(b'\n', &rest[..limit.min(rest.len())]);
            let end = fitting.or_else(|| memchr::memchr(b'\n', rest)).map_or(rest.len(), |at| at + 1);
            let (lines, tail) = rest.split_at(end);
            rest = tail;
            let mut header = describe(whole, lines);
            if rest.is_empty() {
                header.positions.clone_from(&whole.positions);
            }
            let payload = self.compress(&mut header, lines);
            pieces.push(Block { header, payload });
        }
        pieces
    }

    fn compress(&mut self, header: &mut Header, raw: &[u8]) -> Bytes {
        self.out.clear();
        let compressed = match self.encoding {
            Encoding::None => false,
            Encoding::Zstd => self.zstd(raw),
            Encoding::Gzip => self.gzip(raw),
        };
        header.encoding = if compressed { self.encoding } else { Encoding::None };
        let payload = if compressed { Bytes::copy_from_slice(&self.out) } else { Bytes::copy_from_slice(raw) };
        header.payload_crc = crc32c::crc32c(&payload);
        payload
    }

    fn zstd(&mut self, raw: &[u8]) -> bool {
        self.out.reserve(zstd::zstd_safe::compress_bound(raw.len()));
        self.zstd.as_mut().is_some_and(|zstd| zstd.compress_to_buffer(raw, &mut self.out).is_ok())
    }

    /// One member.
    fn gzip(&mut self, raw: &[u8]) -> bool {
        let mut encoder = flate2::write::GzEncoder::new(&mut self.out, GZIP_LEVEL);
        encoder.write_all(raw).and_then(|()| encoder.finish()).is_ok()
    }
}

/// A header for some of the lines of `whole`; covers nothing.
fn describe(whole: &Header, lines: &[u8]) -> Header {
    let mut times = time::Parser::default();
    let mut header = Header {
        raw_len: super::length(lines.len()),
        records: 0,
        longest: 0,
        first_time: whole.last_time,
        last_time: whole.first_time,
        positions: Vec::new(),
        ..whole.clone()
    };
    for line in lines.split_inclusive(|byte| *byte == b'\n') {
        header.records += 1;
        header.longest = header.longest.max(super::length(line.len() - 1));
        let text = &line[record::LINE_START.len().min(line.len())..];
        let text = text.split(|byte| *byte == b'"').next().unwrap_or_default();
        let time = times.parse(text).unwrap_or(whole.first_time);
        header.first_time = header.first_time.min(time);
        header.last_time = header.last_time.max(time);
    }
    header
}
