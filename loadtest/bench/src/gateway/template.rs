//! Blocks that are compressed once and sent many times, each time with one line of its own.
//!
//! ```text
//! payload = zstd frame { one line: lane, number, time of sending; not compressed } + zstd frame { all others }
//! ```
//!
//! A payload may be several frames (`docs/wire.md`), so the sink can tell every block from every other and
//! the load generator compresses nothing while it runs.

use bytes::{BufMut as _, Bytes};
use sluice_harness::line::{self, Filler, LineId, Tail};
use sluice_wire::{Encoding, Header, Lane, Position, Stream, limits, record, time};

use super::records::Records;
use crate::error::{Error, Result};

/// As the agent compresses.
const LEVEL: i32 = 1;
/// Files that a block has lines of: an agent's header names each.
const SOURCES: u64 = 4;

#[derive(Debug, Clone)]
pub(super) struct Template {
    compressed: Bytes,
    raw_len: u32,
    records: u32,
    longest: u32,
    first_time: i64,
    last_time: i64,
    time_text: Vec<u8>,
}

/// When a block is full.
#[derive(Debug, Clone, Copy)]
pub(super) enum Size {
    Raw(usize),
    Compressed(usize),
}

impl Template {
    /// Fills a block with `records`.
    pub(super) fn fill(records: &mut Records, size: Size) -> Result<Self> {
        let first_time = records.next_ns();
        let mut last_time;
        let mut raw = Vec::new();
        let (mut count, mut longest) = (0, 0);
        let mut compressed = Vec::new();
        loop {
            let start = raw.len();
            last_time = records.next_ns();
            records.push(&mut raw);
            count += 1;
            longest = longest.max(raw.len() - start - 1);
            let full = match size {
                Size::Raw(bytes) => raw.len() >= bytes,
                // Compressed with each line: slow, and done before anything is measured.
                Size::Compressed(bytes) => {
                    compressed = compress(&raw)?;
                    compressed.len() >= bytes
                }
            };
            if full || raw.len() >= limits::BLOCK_RAW / 2 {
                break;
            }
        }
        if compressed.is_empty() {
            compressed = compress(&raw)?;
        }
        let mut time_text = Vec::new();
        time::write(first_time, &mut time_text);
        Ok(Self {
            compressed: compressed.into(),
            raw_len: small(raw.len()),
            records: count,
            longest: small(longest),
            first_time,
            last_time,
            time_text,
        })
    }

    /// Raw bytes for each byte of payload, the block's own line among them.
    pub(super) fn ratio(&self) -> f64 {
        const OWN_LINE: f64 = 200.0;
        (f64::from(self.raw_len) + OWN_LINE) / (self.compressed.len() as f64 + OWN_LINE)
    }

    /// Appends a frame that carries the line `id`, written at `now_ns`. Gives its raw bytes and its lines.
    pub(super) fn write(&self, lane: &Lane, place: Place<'_>, out: &mut Vec<u8>) -> Result<(u32, u32)> {
        let Place { number, id, now_ns, cluster, node } = place;
        let mut own = Vec::with_capacity(256);
        own.extend_from_slice(record::LINE_START);
        own.extend_from_slice(&self.time_text);
        own.extend_from_slice(b"\",\"_msg\":\"");
        line::compose(&mut own, id, now_ns, Filler { plain: b"block", tail: Tail { raw: "", json: "" } }, true);
        own.extend_from_slice(b"\",\"k8s_namespace_name\":\"");
        own.extend_from_slice(lane.scope.as_bytes());
        own.extend_from_slice(b"\"}\n");
        let mut stored = Vec::with_capacity(own.len() + 16);
        store(&own, &mut stored);
        let payload_len = stored.len() + self.compressed.len();
        let covered = number * 200_000;
        let header = Header {
            lane: lane.clone(),
            number,
            cluster: cluster.into(),
            node: node.into(),
            encoding: Encoding::Zstd,
            payload_crc: crc32c::crc32c_append(crc32c::crc32c(&stored), &self.compressed),
            raw_len: self.raw_len + small(own.len()),
            records: self.records + 1,
            longest: self.longest.max(small(own.len() - 1)),
            first_time: self.first_time,
            last_time: self.last_time,
            positions: (0..SOURCES)
                .map(|source| Position { source, stream: Stream::Stdout, start: covered, end: covered + 200_000 })
                .collect(),
        };
        header.write(payload_len, out).map_err(|error| Error::Setup(format!("a block of ours: {error}")))?;
        out.extend_from_slice(&stored);
        out.extend_from_slice(&self.compressed);
        Ok((header.raw_len, header.records))
    }
}

/// Where a block stands.
#[derive(Debug, Clone, Copy)]
pub(super) struct Place<'a> {
    pub(super) number: u64,
    pub(super) id: LineId,
    pub(super) now_ns: u64,
    pub(super) cluster: &'a str,
    pub(super) node: &'a str,
}

fn compress(raw: &[u8]) -> Result<Vec<u8>> {
    let compress = |source| Error::System { what: "cannot compress", source };
    zstd::bulk::Compressor::new(LEVEL).and_then(|mut zstd| zstd.compress(raw)).map_err(compress)
}

/// A zstd frame of one raw block (RFC 8878, 3.1.1): a single segment with its size in four bytes.
fn store(bytes: &[u8], out: &mut Vec<u8>) {
    const MAGIC: u32 = 0xfd2f_b528;
    const SINGLE_SEGMENT: u8 = 0b1010_0000;
    const LAST_RAW: u32 = 1;
    out.put_u32_le(MAGIC);
    out.put_u8(SINGLE_SEGMENT);
    out.put_u32_le(small(bytes.len()));
    out.extend_from_slice(&(LAST_RAW | small(bytes.len()) << 3).to_le_bytes()[..3]);
    out.extend_from_slice(bytes);
}

fn small(n: usize) -> u32 {
    u32::try_from(n).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use sluice_harness::line::Stream as LineStream;
    use sluice_wire::{
        Block, Category, ProducerId,
        payload::{Checker, Depth},
    };

    const FIRST: i64 = 1_700_000_000_000_000_000;

    fn block_of(size: Size) -> Block {
        let mut records = Records::new("team-a", 60, 1, FIRST);
        let template = Template::fill(&mut records, size).unwrap();
        let lane = Lane {
            producer: ProducerId([3; 16]),
            category: Category::Application,
            scope: "team-payments-settlement-service-00".into(),
            split: "".into(),
        };
        let id = LineId { run: 1, source: 2, stream: LineStream::Stdout, seq: 3 };
        let place = Place { number: 7, id, now_ns: 1_763_683_200_123_456_789, cluster: "c", node: "n" };
        let mut frame = Vec::new();
        template.write(&lane, place, &mut frame).unwrap();
        Block::read(&frame.into()).unwrap()
    }

    #[test]
    fn a_block_passes_the_gateways_check() {
        for size in [Size::Raw(200_000), Size::Compressed(5_000)] {
            let block = block_of(size);
            let mut checker = Checker::default();
            let raw = checker.check(&block.header, &block.payload, Depth::Json).unwrap();
            let own = raw.windows(line::TOKEN.len()).position(|window| window == line::TOKEN).unwrap();
            assert_eq!(line::parse_header(&raw[own..]).unwrap().id.seq, 3);
        }
    }

    #[test]
    fn a_block_has_the_size_that_is_asked_for() {
        assert!((200_000..202_000).contains(&block_of(Size::Raw(200_000)).header.raw_len));
        assert!((5_000..6_000).contains(&block_of(Size::Compressed(5_000)).payload.len()));
    }
}
