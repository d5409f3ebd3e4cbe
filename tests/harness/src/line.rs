//! The text of a test line, which says by itself where it belongs and whether it is whole:
//!
//! ```text
//! sv1 src=9f3c01aa.17 str=o seq=4711 wt=1763683200123456789 len=000200 crc=1c291ca3 filler …
//! ```
//!
//! `src` is the run and the source's index in the manifest, `str` the stream (`o`, `e`), `seq` the number
//! within source and stream (dense from 0), `wt` the time of writing in Unix nanoseconds, `len` the length of
//! the whole text in bytes and `crc` the CRC-32C of the text without the `crc=… ` word. A text that was cut,
//! glued to another or changed on its way matches one of the two no more.

use serde::{Deserialize, Serialize};

/// What every text starts with; a sink looks for it without parsing anything else.
pub const TOKEN: &[u8] = b"sv1 src=";

/// Room that the header takes at most, so that a writer can aim at a line's size.
const HEADER: usize = 84;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Stream {
    Stdout,
    Stderr,
}

impl Stream {
    pub const BOTH: [Self; 2] = [Self::Stdout, Self::Stderr];

    /// As CRI files and records name it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Stdout => "stdout",
            Self::Stderr => "stderr",
        }
    }

    #[must_use]
    pub fn index(self) -> usize {
        usize::from(self == Self::Stderr)
    }

    #[must_use]
    pub fn other(self) -> Self {
        Self::BOTH[1 - self.index()]
    }
}

/// One line among all that were ever written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct LineId {
    /// Tells the lines of one run of the writer from those of another in the same store.
    pub run: u32,
    pub source: u32,
    pub stream: Stream,
    pub seq: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    pub id: LineId,
    pub written_ns: u64,
    len: usize,
    crc: u32,
    /// Where `crc=` starts and where the filler does: what is between is not part of the checksum.
    crc_at: usize,
    filler_at: usize,
}

/// Why a text is not the one that was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, thiserror::Error)]
pub enum Flaw {
    #[error("no header")]
    NoHeader,
    #[error("length")]
    Length,
    #[error("checksum")]
    Checksum,
}

/// What follows the header: text as it is, and as it stands inside a JSON string.
#[derive(Debug, Clone, Copy)]
pub struct Filler<'a> {
    /// Needs no escaping.
    pub plain: &'a [u8],
    pub tail: Tail,
}

/// An ending that is awkward to carry: quotes, control characters, letters of several bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tail {
    pub raw: &'static str,
    pub json: &'static str,
}

/// How much filler makes a text of about `size` bytes.
#[must_use]
pub fn filler_for(size: usize) -> usize {
    size.saturating_sub(HEADER)
}

/// Appends the text of a line; `escaped` for use inside a JSON string.
pub fn compose(out: &mut Vec<u8>, id: LineId, written_ns: u64, filler: Filler<'_>, escaped: bool) {
    let start = out.len();
    let mut digits = itoa::Buffer::new();
    out.extend_from_slice(TOKEN);
    out.extend_from_slice(&hex8(id.run));
    out.push(b'.');
    out.extend_from_slice(digits.format(id.source).as_bytes());
    out.extend_from_slice(if id.stream == Stream::Stdout { b" str=o seq=" } else { b" str=e seq=" });
    out.extend_from_slice(digits.format(id.seq).as_bytes());
    out.extend_from_slice(b" wt=");
    out.extend_from_slice(digits.format(written_ns).as_bytes());
    out.extend_from_slice(b" len=");
    // Six digits whatever the length, which counts its own digits.
    let len = out.len() - start + "000000 crc=00000000 ".len() + filler.plain.len() + filler.tail.raw.len();
    out.extend_from_slice(&six_digits(len));
    out.push(b' ');
    let crc = checksum(&out[start..], &[filler.plain, filler.tail.raw.as_bytes()]);
    out.extend_from_slice(b"crc=");
    out.extend_from_slice(&hex8(crc));
    out.push(b' ');
    out.extend_from_slice(filler.plain);
    out.extend_from_slice(if escaped { filler.tail.json } else { filler.tail.raw }.as_bytes());
}

/// Reads the header at the start of `text` and judges nothing else.
#[must_use]
pub fn parse_header(text: &[u8]) -> Option<Header> {
    let mut words = Words { text, at: 0 };
    words.literal(TOKEN)?;
    let run = words.hex8()?;
    words.literal(b".")?;
    let source = u32::try_from(words.number()?).ok()?;
    words.literal(b" str=")?;
    let stream = match words.byte()? {
        b'o' => Stream::Stdout,
        b'e' => Stream::Stderr,
        _ => return None,
    };
    words.literal(b" seq=")?;
    let seq = words.number()?;
    words.literal(b" wt=")?;
    let written_ns = words.number()?;
    words.literal(b" len=")?;
    let len = usize::try_from(words.number()?).ok()?;
    words.literal(b" ")?;
    let crc_at = words.at;
    words.literal(b"crc=")?;
    let crc = words.hex8()?;
    words.literal(b" ")?;
    let id = LineId { run, source, stream, seq };
    Some(Header { id, written_ns, len, crc, crc_at, filler_at: words.at })
}

/// Reads the header and checks that the text is the whole one that was written.
///
/// # Errors
/// Says in which way it is not.
pub fn verify(text: &[u8]) -> Result<Header, Flaw> {
    let header = parse_header(text).ok_or(Flaw::NoHeader)?;
    if text.len() != header.len {
        return Err(Flaw::Length);
    }
    if checksum(&text[..header.crc_at], &[&text[header.filler_at..]]) != header.crc {
        return Err(Flaw::Checksum);
    }
    Ok(header)
}

fn checksum(head: &[u8], rest: &[&[u8]]) -> u32 {
    rest.iter().fold(crc32c::crc32c(head), |crc, part| crc32c::crc32c_append(crc, part))
}

fn hex8(n: u32) -> [u8; 8] {
    std::array::from_fn(|i| b"0123456789abcdef"[(n >> (28 - 4 * i) & 15) as usize])
}

fn six_digits(mut n: usize) -> [u8; 6] {
    assert!(n < 1_000_000, "a test line of {n} bytes: the limit is 999,999");
    let mut digits = [b'0'; 6];
    for digit in digits.iter_mut().rev() {
        *digit += u8::try_from(n % 10).expect("one digit");
        n /= 10;
    }
    digits
}

struct Words<'a> {
    text: &'a [u8],
    at: usize,
}

impl Words<'_> {
    fn literal(&mut self, expected: &[u8]) -> Option<()> {
        self.text[self.at..].starts_with(expected).then(|| self.at += expected.len())
    }

    fn byte(&mut self) -> Option<u8> {
        let byte = *self.text.get(self.at)?;
        self.at += 1;
        Some(byte)
    }

    fn number(&mut self) -> Option<u64> {
        let start = self.at;
        let mut n = 0_u64;
        while let Some(digit @ b'0'..=b'9') = self.text.get(self.at) {
            n = n.checked_mul(10)?.checked_add(u64::from(digit - b'0'))?;
            self.at += 1;
        }
        (self.at > start).then_some(n)
    }

    fn hex8(&mut self) -> Option<u32> {
        let digits = self.text.get(self.at..self.at + 8)?;
        self.at += 8;
        digits.iter().try_fold(0, |n, digit| Some(n << 4 | char::from(*digit).to_digit(16)?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TAIL: Tail = Tail { raw: "\t\"é\"", json: "\\t\\\"é\\\"" };

    fn text() -> Vec<u8> {
        let id = LineId { run: 0x9f3c_01aa, source: 17, stream: Stream::Stderr, seq: 4711 };
        let mut out = Vec::new();
        compose(&mut out, id, 1_763_683_200_123_456_789, Filler { plain: b"some words", tail: TAIL }, false);
        out
    }

    #[test]
    fn a_text_tells_what_it_is() {
        let header = verify(&text()).expect("whole");
        assert_eq!(header.id, LineId { run: 0x9f3c_01aa, source: 17, stream: Stream::Stderr, seq: 4711 });
        assert_eq!(header.written_ns, 1_763_683_200_123_456_789);
    }

    #[test]
    fn the_escaped_text_is_the_same_text() {
        let id = verify(&text()).expect("whole").id;
        let mut json = b"\"".to_vec();
        compose(&mut json, id, 1_763_683_200_123_456_789, Filler { plain: b"some words", tail: TAIL }, true);
        json.push(b'"');
        let decoded: String = serde_json::from_slice(&json).expect("a JSON string");
        assert_eq!(decoded.as_bytes(), text());
    }

    #[test]
    fn damage_is_seen() {
        let whole = text();
        assert_eq!(verify(&whole[..whole.len() - 1]), Err(Flaw::Length), "cut");
        assert_eq!(verify(&[&whole[..], &whole[..]].concat()), Err(Flaw::Length), "glued");
        assert_eq!(verify(&whole[1..]), Err(Flaw::NoHeader), "beginning lost");
        for at in 0..whole.len() {
            let mut changed = whole.clone();
            changed[at] ^= 1;
            assert!(verify(&changed).is_err(), "byte {at} changed unseen");
        }
    }
}
