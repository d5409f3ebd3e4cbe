//! Looks into a payload once, at the door: what the header says of it must be so, and every line must
//! be a record, because stores answer 200 and lose what is not (measured, `docs/wire.md`).

use std::io::Read as _;

use memchr::memchr;
use serde::de::IgnoredAny;

use crate::{Encoding, Header, Reason, limits, record, time};

/// How closely the lines are looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Depth {
    /// Size, count, line ends, times, UTF-8.
    Shape,
    /// The same, and every line is parsed as JSON.
    Json,
}

/// Decompresses and checks payloads, keeping its buffers from one to the next: at most
/// [`limits::BLOCK_RAW`] and a decompressor's own.
#[derive(Default)]
pub struct Checker {
    zstd: Option<zstd::bulk::Decompressor<'static>>,
    raw: Vec<u8>,
}

impl std::fmt::Debug for Checker {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Checker").field("buffer", &self.raw.capacity()).finish_non_exhaustive()
    }
}

impl Checker {
    /// Decompresses `payload` and checks it against `header`; gives the raw lines.
    ///
    /// # Errors
    /// The reason that the block is to be rejected with.
    pub fn check(&mut self, header: &Header, payload: &[u8], depth: Depth) -> Result<&[u8], Reason> {
        self.decode(header.encoding, header.raw_len as usize, payload)?;
        check_lines(header, &self.raw, depth)?;
        Ok(&self.raw)
    }

    /// Decompresses `payload` within the size that its header declares: a bomb stops there.
    ///
    /// # Errors
    /// [`Reason::BlockSize`] for a declared size over the limit, [`Reason::Encoding`] for anything but
    /// exactly that size.
    pub fn decode(&mut self, encoding: Encoding, raw_len: usize, payload: &[u8]) -> Result<&[u8], Reason> {
        if raw_len > limits::BLOCK_RAW {
            return Err(Reason::BlockSize);
        }
        self.raw.clear();
        self.raw.reserve(raw_len);
        match encoding {
            Encoding::None if payload.len() == raw_len => self.raw.extend_from_slice(payload),
            // Not copied to be found too long; and an empty buffer is not what a declared size of 0 promises of it.
            Encoding::None => return Err(Reason::Encoding),
            Encoding::Gzip => {
                // One byte more than declared is asked for, so that a longer payload shows.
                flate2::read::MultiGzDecoder::new(payload)
                    .take(raw_len as u64 + 1)
                    .read_to_end(&mut self.raw)
                    .map_err(|_| Reason::Encoding)?;
            }
            Encoding::Zstd => {
                let zstd = match &mut self.zstd {
                    Some(zstd) => zstd,
                    none => none.insert(zstd::bulk::Decompressor::new().map_err(|_| Reason::Encoding)?),
                };
                // Writes within the buffer's capacity and fails on a payload that is longer.
                zstd.decompress_to_buffer(payload, &mut self.raw).map_err(|_| Reason::Encoding)?;
            }
        }
        if self.raw.len() == raw_len { Ok(&self.raw) } else { Err(Reason::Encoding) }
    }
}

fn check_lines(header: &Header, raw: &[u8], depth: Depth) -> Result<(), Reason> {
    if raw.last() != Some(&b'\n') || simdutf8::basic::from_utf8(raw).is_err() {
        return Err(Reason::NotRecords);
    }
    let mut records = 0;
    let mut longest = 0;
    let (mut first_time, mut last_time) = (i64::MAX, i64::MIN);
    let mut times = time::Parser::default();
    let mut rest = raw;
    while let Some(end) = memchr(b'\n', rest) {
        let line = &rest[..end];
        rest = &rest[end + 1..];
        records += 1;
        longest = longest.max(line.len());
        let time = record_time(line, &mut times)?;
        first_time = first_time.min(time);
        last_time = last_time.max(time);
        if depth == Depth::Json && serde_json::from_slice::<IgnoredAny>(line).is_err() {
            return Err(Reason::Json);
        }
    }
    if longest > limits::LINE {
        return Err(Reason::LineTooLong);
    }
    // Exactly: who claims all of time makes whoever looks for the block look everywhere.
    if (first_time, last_time) != (header.first_time, header.last_time) {
        return Err(Reason::Times);
    }
    if records != header.records as usize || longest != header.longest as usize {
        return Err(Reason::Count);
    }
    Ok(())
}

fn record_time(line: &[u8], times: &mut time::Parser) -> Result<i64, Reason> {
    let text = line.strip_prefix(record::LINE_START).ok_or(Reason::NotRecords)?;
    if line.last() != Some(&b'}') {
        return Err(Reason::NotRecords);
    }
    // The longest time has 35 bytes; a quote that comes later closes something else.
    let end = memchr(b'"', &text[..text.len().min(36)]).ok_or(Reason::Times)?;
    times.parse(&text[..end]).ok_or(Reason::Times)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Category, Lane, ProducerId};
    use proptest::prelude::*;
    use std::io::Write as _;

    const LINES: &str = concat!(
        r#"{"_time":"2025-10-26T10:15:30.5Z","_msg":"one"}"#,
        "\n",
        r#"{"_time":"2025-10-26T10:15:31Z","_msg":"two is longer"}"#,
        "\n",
    );

    fn header_of(raw: &str, encoding: Encoding) -> Header {
        let times = || raw.lines().filter_map(|line| record_time(line.as_bytes(), &mut time::Parser::default()).ok());
        Header {
            lane: Lane {
                producer: ProducerId([1; 16]),
                category: Category::Application,
                scope: "ns".into(),
                split: "".into(),
            },
            number: 1,
            cluster: "c".into(),
            node: "n".into(),
            encoding,
            payload_crc: 0,
            raw_len: u32::try_from(raw.len()).unwrap(),
            records: u32::try_from(raw.lines().count()).unwrap(),
            longest: raw.lines().map(|line| u32::try_from(line.len()).unwrap()).max().unwrap_or(0),
            first_time: times().min().unwrap_or(0),
            last_time: times().max().unwrap_or(0),
            positions: Vec::new(),
        }
    }

    fn compress(raw: &[u8], encoding: Encoding) -> Vec<u8> {
        match encoding {
            Encoding::None => raw.to_vec(),
            Encoding::Gzip => {
                let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
                gzip.write_all(raw).unwrap();
                gzip.finish().unwrap()
            }
            Encoding::Zstd => zstd::bulk::compress(raw, 1).unwrap(),
        }
    }

    fn verdict(raw: &str, change: impl FnOnce(&mut Header)) -> Result<(), Reason> {
        let mut header = header_of(raw, Encoding::Zstd);
        change(&mut header);
        Checker::default().check(&header, &compress(raw.as_bytes(), Encoding::Zstd), Depth::Json).map(|_| ())
    }

    #[test]
    fn a_true_header_passes_in_every_encoding() {
        let mut checker = Checker::default();
        for encoding in Encoding::ALL {
            let payload = compress(LINES.as_bytes(), encoding);
            let raw = checker.check(&header_of(LINES, encoding), &payload, Depth::Json);
            assert_eq!(raw, Ok(LINES.as_bytes()), "{encoding:?}");
        }
    }

    #[test]
    fn each_lie_has_its_reason() {
        assert_eq!(verdict(LINES, |_| ()), Ok(()));
        assert_eq!(verdict(LINES, |h| h.records += 1), Err(Reason::Count));
        assert_eq!(verdict(LINES, |h| h.longest -= 1), Err(Reason::Count));
        assert_eq!(verdict(LINES, |h| h.raw_len += 1), Err(Reason::Encoding));
        assert_eq!(verdict(LINES, |h| h.raw_len -= 1), Err(Reason::Encoding));
        assert_eq!(verdict(LINES, |h| h.first_time += 1), Err(Reason::Times));
        assert_eq!(verdict(LINES, |h| h.last_time -= 1), Err(Reason::Times));
        assert_eq!(verdict(LINES, |h| h.raw_len = u32::MAX), Err(Reason::BlockSize));
    }

    #[test]
    fn what_is_no_record_is_refused() {
        let line = |line: &str| verdict(&format!("{LINES}{line}"), |_| ());
        assert_eq!(line("{\"_time\":\"2025-10-26T10:15:30Z\",\"_msg\":\"no newline\"}"), Err(Reason::NotRecords));
        assert_eq!(line("\n"), Err(Reason::NotRecords));
        assert_eq!(line("text\n"), Err(Reason::NotRecords));
        assert_eq!(line("{\"_time\":\"2025-10-26T10:15:30Z\",\"_msg\":\"x\"\n"), Err(Reason::NotRecords));
        assert_eq!(line("{\"_time\":\"2025-10-26T10:15:30Z\",\"_msg\":\"x}\n"), Err(Reason::Json));
        assert_eq!(line("{\"_time\":\"2025-10-26T10:15:30Z\",\"_msg\":x}\n"), Err(Reason::Json));
        assert_eq!(line("{\"_time\":\"yesterday\",\"_msg\":\"x\"}\n"), Err(Reason::Times));
        assert_eq!(line("{\"_time\":\"x}\n"), Err(Reason::Times));
        let long = format!("{{\"_time\":\"2025-10-26T10:15:30Z\",\"_msg\":\"{}\"}}\n", "x".repeat(limits::LINE));
        assert_eq!(line(&long), Err(Reason::LineTooLong));
    }

    #[test]
    fn text_that_is_not_utf8_is_refused() {
        let mut header = header_of(LINES, Encoding::None);
        let mut raw = LINES.as_bytes().to_vec();
        let at = LINES.find("one").unwrap();
        raw[at] = 0xff;
        header.payload_crc = 0;
        assert_eq!(Checker::default().check(&header, &raw, Depth::Shape), Err(Reason::NotRecords));
    }

    #[test]
    fn a_bomb_stops_at_the_declared_size() {
        let bomb = vec![b'x'; 64 * 1024 * 1024];
        for encoding in [Encoding::Gzip, Encoding::Zstd] {
            let payload = compress(&bomb, encoding);
            let mut checker = Checker::default();
            assert_eq!(checker.check(&header_of(LINES, encoding), &payload, Depth::Shape), Err(Reason::Encoding));
            assert!(checker.raw.capacity() <= limits::BLOCK_RAW + 1, "{encoding:?}");
        }
    }

    #[test]
    fn what_declares_no_bytes_has_none() {
        for encoding in Encoding::ALL {
            let decode = |raw: &[u8]| Checker::default().decode(encoding, 0, &compress(raw, encoding)).map(<[u8]>::len);
            assert_eq!((decode(b""), decode(b"x")), (Ok(0), Err(Reason::Encoding)), "{encoding:?}");
        }
    }

    proptest! {
        #[test]
        fn any_payload_is_looked_at_without_a_panic(
            payload in prop::collection::vec(any::<u8>(), 0..300),
            encoding in prop::sample::select(Encoding::ALL.to_vec()),
            raw_len in 0_u32..2_000_000,
        ) {
            let mut header = header_of(LINES, encoding);
            header.raw_len = raw_len;
            prop_assert!(Checker::default().check(&header, &payload, Depth::Json).is_err());
        }
    }
}
