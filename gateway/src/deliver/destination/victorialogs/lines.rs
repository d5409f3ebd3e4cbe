//! Blocks taken apart into lines: only where the store would drop some of them, refuses some, or has
//! some already.

use std::io::{self, Write as _};
use std::time::Duration;

use bytes::Bytes;
use memchr::memchr;
use sluice_wire::payload::Checker;
use sluice_wire::{Encoding, record, time};

use super::{RejectReason, Rejected};
use crate::journal::{Entry, Position};

const DAY: i64 = 86_400 * time::SECOND;

/// The days that the store takes, reckoned as it does: a record is dropped if its day (UTC) lies before
/// the day of `now - retention`, or after that of `now + future` (lib/logstorage/storage.go,
/// `getMinAllowedDay`, of VictoriaMetrics v1.121).
#[derive(Debug, Clone, Copy)]
pub(super) struct Days {
    first: i64,
    last: i64,
}

impl Days {
    pub(super) fn new(now: i64, retention: Option<Duration>, future: Duration) -> Self {
        let nanos = |duration: Duration| i64::try_from(duration.as_nanos()).unwrap_or(i64::MAX);
        let first = retention.map_or(i64::MIN, |retention| now.saturating_sub(nanos(retention)).div_euclid(DAY));
        Self { first, last: now.saturating_add(nanos(future)).div_euclid(DAY) }
    }

    pub(super) fn hold(&self, time: i64) -> bool {
        self.judge(time).is_none()
    }

    fn judge(&self, time: i64) -> Option<RejectReason> {
        let day = time.div_euclid(DAY);
        if day < self.first {
            return Some(RejectReason::OutsideRetention);
        }
        (day > self.last).then_some(RejectReason::InTheFuture)
    }
}

/// One block, decompressed.
pub(super) struct Decoded {
    position: Position,
    raw: Result<Bytes, Bytes>,
}

/// A block's lines by whether the store takes their times.
pub(super) struct Sorted {
    pub(super) kept: Lines,
    pub(super) rejected: Vec<Rejected>,
}

impl Decoded {
    pub(super) fn new(position: Position, entry: &Entry) -> Self {
        let (header, payload) = (&entry.block.header, &entry.block.payload);
        let raw = Checker::default()
            .decode(header.encoding, header.raw_len as usize, payload)
            .map(Bytes::copy_from_slice)
            .map_err(|_| payload.clone());
        Self { position, raw }
    }

    /// Keeps the lines of these days. A block that cannot be decompressed is rejected as one record: it
    /// was decompressed at the door, so this is a fault of ours, not of its sender.
    pub(super) fn sort_by_days(self, days: &Days) -> Sorted {
        let position = self.position;
        let mut sorted = Sorted { kept: Lines::default(), rejected: Vec::new() };
        let raw = match self.raw {
            Ok(raw) => raw,
            Err(line) => {
                tracing::error!(position.index, "a block of the journal cannot be decompressed");
                sorted.rejected.push(Rejected { position, reason: RejectReason::Undecodable, line });
                return sorted;
            }
        };
        let mut times = time::Parser::default();
        let mut at = 0;
        while let Some(length) = memchr(b'\n', &raw[at..]) {
            let line = raw.slice(at..at + length);
            at += length + 1;
            match time_of(&line, &mut times).and_then(|time| days.judge(time)) {
                Some(reason) => sorted.rejected.push(Rejected { position, reason, line }),
                None => sorted.kept.0.push((position, line)),
            }
        }
        sorted
    }
}

/// A record's time; the door has seen to it that there is one.
pub(super) fn time_of(line: &[u8], times: &mut time::Parser) -> Option<i64> {
    let text = line.strip_prefix(record::LINE_START)?;
    times.parse(&text[..memchr(b'"', text)?])
}

/// Lines without their newlines, each with the entry that it came in.
#[derive(Debug, Default)]
pub(super) struct Lines(Vec<(Position, Bytes)>);

impl Lines {
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn extend(&mut self, more: Self) {
        self.0.extend(more.0);
    }

    pub(super) fn retain(mut self, keep: impl FnMut(&[u8]) -> bool) -> Self {
        let mut keep = keep;
        self.0.retain(|(_, line)| keep(line));
        self
    }

    /// All of them as dead letters.
    pub(super) fn reject(self, reason: RejectReason) -> Vec<Rejected> {
        self.0.into_iter().map(|(position, line)| Rejected { position, reason, line }).collect()
    }

    /// In parts of at most `raw_bytes`, the first one last.
    pub(super) fn parts(self, raw_bytes: usize) -> Vec<Self> {
        let mut parts = vec![];
        let mut part = Self::default();
        let mut size = 0;
        for (position, line) in self.0 {
            if size + line.len() > raw_bytes && !part.is_empty() {
                parts.push(std::mem::take(&mut part));
                size = 0;
            }
            size += line.len() + 1;
            part.0.push((position, line));
        }
        if !part.is_empty() {
            parts.push(part);
        }
        parts.reverse();
        parts
    }

    /// Two halves; a single line comes back as the error.
    pub(super) fn halves(mut self) -> Result<(Self, Self), (Position, Bytes)> {
        let second = self.0.split_off(self.0.len() / 2);
        match (self.0.is_empty(), second) {
            (true, mut second) => Err(second.swap_remove(0)),
            (false, second) => Ok((self, Self(second))),
        }
    }
}

/// Lines as a payload.
pub(super) fn compress(lines: &Lines, encoding: Encoding) -> io::Result<Bytes> {
    let mut raw = Vec::with_capacity(lines.0.iter().map(|(_, line)| line.len() + 1).sum());
    for (_, line) in &lines.0 {
        raw.extend_from_slice(line);
        raw.push(b'\n');
    }
    Ok(Bytes::from(match encoding {
        Encoding::None => raw,
        Encoding::Zstd => zstd::bulk::compress(&raw, 1)?,
        Encoding::Gzip => {
            let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
            gzip.write_all(&raw)?;
            gzip.finish()?
        }
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: i64 = 3600 * time::SECOND;

    #[test]
    fn days_are_reckoned_as_the_store_does() {
        let now = 100 * DAY + 5 * HOUR;
        let days = Days::new(now, Some(Duration::from_secs(7 * 86_400)), Duration::from_secs(2 * 86_400));
        assert!(days.hold(now));
        assert!(days.hold(93 * DAY), "the first moment of the last day that is kept");
        assert_eq!(days.judge(93 * DAY - 1), Some(RejectReason::OutsideRetention));
        assert!(days.hold(103 * DAY - 1));
        assert_eq!(days.judge(103 * DAY), Some(RejectReason::InTheFuture));
        assert!(Days::new(now, None, Duration::ZERO).hold(-500 * DAY));
    }

    #[test]
    fn halving_ends_at_a_single_line() {
        let position = Position { partition: 0, index: 7 };
        let lines = |n: u8| Lines((0..n).map(|i| (position, Bytes::copy_from_slice(&[i]))).collect());
        let (first, second) = lines(5).halves().unwrap();
        assert_eq!((first.len(), second.len()), (2, 3));
        assert_eq!(lines(1).halves().unwrap_err(), (position, Bytes::from_static(&[0])));
    }

    #[test]
    fn parts_keep_order_and_size() {
        let position = Position { partition: 0, index: 7 };
        let lines = Lines((0..10_u8).map(|i| (position, Bytes::copy_from_slice(&[i, i, i]))).collect());
        let mut parts = lines.parts(8);
        parts.reverse();
        assert!(parts.iter().all(|part| part.len() <= 2));
        let order: Vec<u8> = parts.iter().flat_map(|part| part.0.iter().map(|(_, line)| line[0])).collect();
        assert_eq!(order, (0..10).collect::<Vec<_>>());
    }
}
