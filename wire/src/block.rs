//! A block's frame: prelude, header, payload. `docs/wire.md` has the same byte by byte.

use std::fmt;

use bytes::Bytes;

use crate::{ProducerId, Reason, limits, push};

const MAGIC: [u8; 4] = *b"SLCB";
/// The same in every version, so that a block of a future one can be stepped over and answered.
pub const PRELUDE: usize = 24;
const POSITION: usize = 25;
const FIXED_HEADER: usize = 64;

/// What a block's lines are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum Category {
    /// Containers that are not part of the platform.
    Application = 1,
    /// The node's own system logs.
    Host = 2,
    /// What carries the cluster: kube-proxy, CNI, kubelet, the container runtime.
    Dataplane = 3,
    /// The API server's audit log.
    Audit = 4,
}

impl Category {
    /// Every category there is.
    pub const ALL: [Self; 4] = [Self::Application, Self::Host, Self::Dataplane, Self::Audit];

    /// The word in configuration, labels and paths.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Application => "application",
            Self::Host => "host",
            Self::Dataplane => "dataplane",
            Self::Audit => "audit",
        }
    }

    fn from_byte(byte: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|category| *category as u8 == byte)
    }
}

impl fmt::Display for Category {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

/// How a payload is compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Encoding {
    /// As it is.
    None = 0,
    /// One or more gzip members.
    Gzip = 1,
    /// One or more zstd frames.
    Zstd = 2,
}

impl Encoding {
    /// Every encoding there is.
    pub const ALL: [Self; 3] = [Self::None, Self::Gzip, Self::Zstd];

    /// The value of `Content-Encoding`, or `none`.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Gzip => "gzip",
            Self::Zstd => "zstd",
        }
    }

    fn from_byte(byte: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|encoding| *encoding as u8 == byte)
    }
}

/// Which of a file's streams a position speaks of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum Stream {
    /// The source has one stream only.
    Whole = 0,
    /// Standard output.
    Stdout = 1,
    /// Standard error.
    Stderr = 2,
}

impl Stream {
    fn from_byte(byte: u8) -> Option<Self> {
        [Self::Whole, Self::Stdout, Self::Stderr].into_iter().find(|stream| *stream as u8 == byte)
    }
}

/// A range of one stream of one source that a block covers: every line of `stream` that ends in
/// `start..end` of the source (bytes, inflated).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Position {
    /// The source's short id: a hash that the producer forms of pod, container, attempt and file.
    pub source: u64,
    /// Which stream of it.
    pub stream: Stream,
    /// First byte covered.
    pub start: u64,
    /// First byte not covered.
    pub end: u64,
}

/// The unit of order: blocks of one lane are stored in the order of their numbers.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Lane {
    /// Who made the block.
    pub producer: ProducerId,
    /// What its lines are.
    pub category: Category,
    /// Namespace, or unit of a host log.
    pub scope: Box<str>,
    /// Empty, unless routing asks for a finer cut.
    pub split: Box<str>,
}

impl Lane {
    /// The lane as bytes: equal exactly for equal lanes. The message key on Kafka.
    #[must_use]
    pub fn key(&self) -> Vec<u8> {
        let mut key = Vec::with_capacity(19 + self.scope.len() + self.split.len());
        key.extend_from_slice(&self.producer.0);
        key.push(self.category as u8);
        put_text(&mut key, &self.scope);
        put_text(&mut key, &self.split);
        key
    }
}

/// What is said of a payload.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Header {
    /// Where the block stands in order.
    pub lane: Lane,
    /// The producer's number for it, rising within the lane; never used twice for other bytes.
    pub number: u64,
    /// Cluster of the node. At most 255 bytes, as every text here.
    pub cluster: Box<str>,
    /// Node.
    pub node: Box<str>,
    /// How the payload is compressed.
    pub encoding: Encoding,
    /// CRC32C of the payload as sent.
    pub payload_crc: u32,
    /// Bytes of the payload once decompressed.
    pub raw_len: u32,
    /// Number of lines.
    pub records: u32,
    /// Bytes of the longest line, without its newline.
    pub longest: u32,
    /// Earliest `_time`, nanoseconds since the epoch.
    pub first_time: i64,
    /// Latest `_time`.
    pub last_time: i64,
    /// What it covers of the producer's sources.
    pub positions: Vec<Position>,
}

/// A header and its payload.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Block {
    /// What is said of the payload.
    pub header: Header,
    /// JSON lines, compressed as the header says.
    pub payload: Bytes,
}

/// Why a header could not be written: one of its texts or lists is over its bound.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{field} is over its limit of {limit}")]
pub struct OverLimit {
    /// The header's field.
    pub field: &'static str,
    /// Its bound: bytes, or for positions their number.
    pub limit: usize,
}

impl Header {
    /// Appends prelude and header for a payload of `payload_len` bytes; the payload follows them.
    ///
    /// # Errors
    /// A text over 255 bytes, more than [`limits::POSITIONS`] positions, or a payload over
    /// [`limits::BLOCK_PAYLOAD`].
    pub fn write(&self, payload_len: usize, out: &mut Vec<u8>) -> Result<(), OverLimit> {
        for (field, text) in [
            ("cluster", &self.cluster),
            ("node", &self.node),
            ("namespace", &self.lane.scope),
            ("split", &self.lane.split),
        ] {
            check(field, text.len(), usize::from(u8::MAX))?;
        }
        check("positions", self.positions.len(), limits::POSITIONS)?;
        check("payload", payload_len, limits::BLOCK_PAYLOAD)?;

        let prelude = out.len();
        out.resize(prelude + PRELUDE, 0);
        let header = out.len();
        out.extend_from_slice(&self.lane.producer.0);
        out.extend_from_slice(&self.number.to_le_bytes());
        out.extend_from_slice(&self.payload_crc.to_le_bytes());
        out.extend_from_slice(&self.raw_len.to_le_bytes());
        out.extend_from_slice(&self.records.to_le_bytes());
        out.extend_from_slice(&self.longest.to_le_bytes());
        out.extend_from_slice(&self.first_time.to_le_bytes());
        out.extend_from_slice(&self.last_time.to_le_bytes());
        out.push(self.lane.category as u8);
        out.push(self.encoding as u8);
        out.extend_from_slice(&small(self.positions.len()).to_le_bytes());
        out.extend_from_slice(&[0; 4]);
        put_text(out, &self.cluster);
        put_text(out, &self.node);
        put_text(out, &self.lane.scope);
        put_text(out, &self.lane.split);
        for position in &self.positions {
            out.extend_from_slice(&position.source.to_le_bytes());
            out.push(position.stream as u8);
            out.extend_from_slice(&position.start.to_le_bytes());
            out.extend_from_slice(&position.end.to_le_bytes());
        }

        let header_crc = crc32c::crc32c(&out[header..]);
        let header_len = length(out.len() - header);
        let mut words = [0; PRELUDE];
        words[..4].copy_from_slice(&MAGIC);
        words[4] = push::VERSION;
        words[8..12].copy_from_slice(&header_len.to_le_bytes());
        words[12..16].copy_from_slice(&length(payload_len).to_le_bytes());
        words[16..20].copy_from_slice(&header_crc.to_le_bytes());
        let prelude_crc = crc32c::crc32c(&words[..20]);
        words[20..].copy_from_slice(&prelude_crc.to_le_bytes());
        out[prelude..header].copy_from_slice(&words);
        Ok(())
    }

    fn read(bytes: &[u8]) -> Option<Self> {
        let mut at = Cursor(bytes);
        let producer = ProducerId(at.take()?);
        let number = u64::from_le_bytes(at.take()?);
        let payload_crc = u32::from_le_bytes(at.take()?);
        let raw_len = u32::from_le_bytes(at.take()?);
        let records = u32::from_le_bytes(at.take()?);
        let longest = u32::from_le_bytes(at.take()?);
        let first_time = i64::from_le_bytes(at.take()?);
        let last_time = i64::from_le_bytes(at.take()?);
        let [category] = at.take()?;
        let [encoding] = at.take()?;
        let positions = u16::from_le_bytes(at.take()?);
        let reserved: [u8; 4] = at.take()?;
        let cluster = at.text()?;
        let node = at.text()?;
        let scope = at.text()?;
        let split = at.text()?;
        if reserved != [0; 4] || usize::from(positions) > limits::POSITIONS {
            return None;
        }
        let positions = (0..positions).map(|_| at.position()).collect::<Option<Vec<_>>>()?;
        let lane = Lane { producer, category: Category::from_byte(category)?, scope, split };
        let encoding = Encoding::from_byte(encoding)?;
        let header = Self {
            lane,
            number,
            cluster,
            node,
            encoding,
            payload_crc,
            raw_len,
            records,
            longest,
            first_time,
            last_time,
            positions,
        };
        (at.0.is_empty() && header.is_sound()).then_some(header)
    }

    /// What can be said of the numbers without looking at the payload.
    fn is_sound(&self) -> bool {
        self.records > 0
            && self.first_time <= self.last_time
            && self.longest < self.raw_len
            && self.records <= self.raw_len
            && self.positions.iter().all(|position| position.start <= position.end)
    }
}

impl Block {
    /// Appends the whole frame.
    ///
    /// # Errors
    /// As [`Header::write`].
    pub fn write(&self, out: &mut Vec<u8>) -> Result<(), OverLimit> {
        self.header.write(self.payload.len(), out)?;
        out.extend_from_slice(&self.payload);
        Ok(())
    }

    /// Reads one whole frame, no more and no less.
    ///
    /// # Errors
    /// As [`Frames`] and [`Frame::open`] give them.
    pub fn read(bytes: &Bytes) -> Result<Self, Reason> {
        let mut frames = Frames::new(bytes.clone());
        let frame = frames.next().ok_or(Reason::Framing)??;
        if frames.next().is_some() {
            return Err(Reason::Framing);
        }
        frame.open()
    }
}

/// One frame of a body, its length believed and nothing else yet.
#[derive(Debug, Clone)]
pub struct Frame {
    /// The version it says it is.
    pub version: u8,
    header_crc: u32,
    header: Bytes,
    payload: Bytes,
}

impl Frame {
    /// Reads the header and checks both checksums.
    ///
    /// # Errors
    /// [`Reason::Version`], [`Reason::Checksum`], [`Reason::Header`], or [`Reason::BlockSize`].
    pub fn open(&self) -> Result<Block, Reason> {
        let header = self.header()?;
        if self.payload.len() > limits::BLOCK_PAYLOAD || header.raw_len as usize > limits::BLOCK_RAW {
            return Err(Reason::BlockSize);
        }
        if crc32c::crc32c(&self.payload) != header.payload_crc {
            return Err(Reason::Checksum);
        }
        Ok(Block { header, payload: self.payload.clone() })
    }

    /// The lane of a block whose header is sound, whatever its payload is: of one that cannot be opened
    /// it tells which blocks stand behind it (rule 4).
    #[must_use]
    pub fn lane(&self) -> Option<Lane> {
        self.header().ok().map(|header| header.lane)
    }

    fn header(&self) -> Result<Header, Reason> {
        if !(push::OLDEST_VERSION..=push::VERSION).contains(&self.version) {
            return Err(Reason::Version);
        }
        if crc32c::crc32c(&self.header) != self.header_crc {
            return Err(Reason::Checksum);
        }
        Header::read(&self.header).ok_or(Reason::Header)
    }
}

/// The frames of a request's body, one after the other. Ends after the first [`Reason::Framing`]:
/// where one length is not to be believed, nothing after it is.
#[derive(Debug)]
pub struct Frames {
    rest: Bytes,
}

impl Frames {
    /// The frames in `body`.
    #[must_use]
    pub fn new(body: Bytes) -> Self {
        Self { rest: body }
    }

    fn split(&mut self) -> Option<Frame> {
        let prelude: [u8; PRELUDE] = *self.rest.first_chunk()?;
        let word = |at: usize| u32::from_le_bytes([prelude[at], prelude[at + 1], prelude[at + 2], prelude[at + 3]]);
        if prelude[..4] != MAGIC || prelude[5..8] != [0; 3] || crc32c::crc32c(&prelude[..20]) != word(20) {
            return None;
        }
        let (header_len, payload_len) = (word(8) as usize, word(12) as usize);
        if header_len > limits::HEADER
            || payload_len > self.rest.len()
            || PRELUDE + header_len + payload_len > self.rest.len()
        {
            return None;
        }
        let _ = self.rest.split_to(PRELUDE);
        Some(Frame {
            version: prelude[4],
            header_crc: word(16),
            header: self.rest.split_to(header_len),
            payload: self.rest.split_to(payload_len),
        })
    }
}

impl Iterator for Frames {
    type Item = Result<Frame, Reason>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        let frame = self.split();
        if frame.is_none() {
            self.rest = Bytes::new();
        }
        Some(frame.ok_or(Reason::Framing))
    }
}

struct Cursor<'a>(&'a [u8]);

impl Cursor<'_> {
    fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (head, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(*head)
    }

    fn text(&mut self) -> Option<Box<str>> {
        let [length] = self.take()?;
        let (text, rest) = self.0.split_at_checked(length.into())?;
        self.0 = rest;
        std::str::from_utf8(text).ok().map(Into::into)
    }

    fn position(&mut self) -> Option<Position> {
        let bytes: [u8; POSITION] = self.take()?;
        let mut at = Cursor(&bytes);
        Some(Position {
            source: u64::from_le_bytes(at.take()?),
            stream: Stream::from_byte(u8::from_le_bytes(at.take()?))?,
            start: u64::from_le_bytes(at.take()?),
            end: u64::from_le_bytes(at.take()?),
        })
    }
}

fn check(field: &'static str, length: usize, limit: usize) -> Result<(), OverLimit> {
    if length > limit { Err(OverLimit { field, limit }) } else { Ok(()) }
}

fn put_text(out: &mut Vec<u8>, text: &str) {
    debug_assert!(text.len() <= 255, "checked by write");
    out.push(u8::try_from(text.len()).unwrap_or(u8::MAX));
    out.extend_from_slice(text.as_bytes());
}

fn length(bytes: usize) -> u32 {
    u32::try_from(bytes).unwrap_or(u32::MAX)
}

fn small(number: usize) -> u16 {
    u16::try_from(number).unwrap_or(u16::MAX)
}

const _: () = assert!(FIXED_HEADER + 4 * 256 + limits::POSITIONS * POSITION <= limits::HEADER);

#[cfg(test)]
mod tests;
