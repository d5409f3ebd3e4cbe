//! One destination's cursor: what it has decided, and its own state, in one file
//! `cursors/<destination>.cursor` that is replaced as a whole.

use std::collections::BTreeMap;
use std::path::Path;

use sluice_durable_log::io::Files;

use super::checked_file::{Content, Form};
use super::{Error, Outcome};

pub(super) const FORM: Form = Form { mark: b"SLCURSOR", version: 1, kind: "cursor" };

/// Ranges above the prefix, in each of the tracks; keeps the file below 600 KiB beside the state.
pub(super) const MAX_RANGES: usize = 16_384;

/// What is decided of one log: all below `next`, and some ranges above it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Track {
    next: u64,
    /// First index → one past the last; neither touching each other nor `next`.
    above: BTreeMap<u64, u64>,
    /// Indexes in `above`.
    scattered: u64,
}

impl Track {
    pub(super) fn starting_at(next: u64) -> Self {
        Self { next, ..Self::default() }
    }

    /// The first index that is not decided.
    pub(super) fn next(&self) -> u64 {
        self.next
    }

    /// Indexes of `..end` that are not decided.
    pub(super) fn undecided(&self, end: u64) -> u64 {
        end.saturating_sub(self.next).saturating_sub(self.scattered)
    }

    pub(super) fn ranges(&self) -> usize {
        self.above.len()
    }

    /// The first index from `index` on that is not decided.
    pub(super) fn open_from(&self, index: u64) -> u64 {
        let index = index.max(self.next);
        match self.above.range(..=index).next_back() {
            Some((_, &end)) if end > index => end,
            _ => index,
        }
    }

    /// Decides `first..next`; returns how many of them were not decided before.
    pub(super) fn decide(&mut self, first: u64, next: u64) -> u64 {
        let (mut first, mut end) = (first.max(self.next), next);
        if first >= end {
            return 0;
        }
        let mut known = 0;
        // Ranges that touch or overlap are merged into the new one.
        while let Some((&low, &high)) = self.above.range(..=end).next_back() {
            if high < first {
                break;
            }
            known += high - low;
            first = first.min(low);
            end = end.max(high);
            self.above.remove(&low);
        }
        let fresh = end - first - known;
        self.scattered -= known;
        if first == self.next {
            self.next = end;
        } else {
            self.above.insert(first, end);
            self.scattered += end - first;
        }
        fresh
    }

    fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.next.to_le_bytes());
        out.extend_from_slice(&(self.above.len() as u64).to_le_bytes());
        for (first, next) in &self.above {
            out.extend_from_slice(&first.to_le_bytes());
            out.extend_from_slice(&next.to_le_bytes());
        }
    }

    fn decode(at: &mut Input<'_>) -> Option<Self> {
        let mut track = Self::starting_at(at.number()?);
        for _ in 0..at.number()? {
            let (first, next) = (at.number()?, at.number()?);
            let after_last = track.above.last_key_value().map_or(track.next, |(_, &end)| end);
            if first <= after_last || next <= first {
                return None;
            }
            track.above.insert(first, next);
            track.scattered += next - first;
        }
        Some(track)
    }
}

/// Entries by what became of them, over the cursor's life.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Totals {
    /// The destination has them.
    pub delivered: u64,
    /// Dead letters.
    pub rejected: u64,
    /// Copied to the parking log. Those delivered from there are counted above as well.
    pub parked: u64,
    /// Could not be read any more.
    pub lost: u64,
}

/// The whole of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Cursor {
    log_id: [u8; 16],
    /// Of the journal's log.
    pub(super) journal: Track,
    /// Of the destination's parking log.
    pub(super) parked: Track,
    /// The parking log's next index when this was saved: what is parked below it is decided in `journal`.
    pub(super) parked_seen: u64,
    pub(super) totals: Totals,
    pub(super) state: Option<Vec<u8>>,
}

impl Cursor {
    pub(super) fn new(log_id: [u8; 16], next: u64) -> Self {
        Self {
            log_id,
            journal: Track::starting_at(next),
            parked: Track::default(),
            parked_seen: 0,
            totals: Totals::default(),
            state: None,
        }
    }

    pub(super) fn log_id(&self) -> [u8; 16] {
        self.log_id
    }

    pub(super) fn next(&self) -> u64 {
        self.journal.next
    }

    /// Books `count` entries.
    pub(super) fn book(&mut self, outcome: Outcome, count: u64) {
        match outcome {
            Outcome::Delivered => self.totals.delivered += count,
            Outcome::Rejected => self.totals.rejected += count,
            Outcome::Parked => self.totals.parked += count,
        }
    }

    pub(super) fn encode(&self) -> Vec<u8> {
        let mut out = self.log_id.to_vec();
        let Totals { delivered, rejected, parked, lost } = self.totals;
        for number in [self.parked_seen, delivered, rejected, parked, lost] {
            out.extend_from_slice(&number.to_le_bytes());
        }
        self.journal.encode(&mut out);
        self.parked.encode(&mut out);
        out.push(self.state.is_some().into());
        out.extend_from_slice(self.state.as_deref().unwrap_or_default());
        out
    }

    pub(super) fn decode(bytes: &[u8]) -> Option<Self> {
        let (log_id, rest) = bytes.split_first_chunk()?;
        let mut at = Input(rest);
        let parked_seen = at.number()?;
        let totals =
            Totals { delivered: at.number()?, rejected: at.number()?, parked: at.number()?, lost: at.number()? };
        let journal = Track::decode(&mut at)?;
        let parked = Track::decode(&mut at)?;
        let state = match at.0.split_first()? {
            (0, []) => None,
            (1, state) => Some(state.to_vec()),
            _ => return None,
        };
        Some(Self { log_id: *log_id, journal, parked, parked_seen, totals, state })
    }
}

struct Input<'a>(&'a [u8]);

impl Input<'_> {
    fn number(&mut self) -> Option<u64> {
        let (number, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(u64::from_le_bytes(*number))
    }
}

/// What is in a cursor's place.
#[derive(Debug)]
pub(super) enum Loaded {
    Missing,
    Sound(Cursor),
    Damaged,
}

impl Loaded {
    pub(super) fn sound(self) -> Option<Cursor> {
        match self {
            Self::Sound(cursor) => Some(cursor),
            Self::Missing | Self::Damaged => None,
        }
    }
}

/// Reads the cursor of `destination`.
pub(super) fn load(files: &dyn Files, dir: &Path, destination: &str) -> Result<Loaded, Error> {
    Ok(match FORM.read(files, &dir.join(file_name(destination)))? {
        Content::Missing => Loaded::Missing,
        Content::Damaged => Loaded::Damaged,
        Content::Sound(content) => Cursor::decode(&content).map_or(Loaded::Damaged, Loaded::Sound),
    })
}

pub(super) fn file_name(destination: &str) -> String {
    format!("{destination}.cursor")
}

pub(super) fn destination_of(name: &str) -> Option<&str> {
    name.strip_suffix(".cursor")
}

#[cfg(test)]
mod tests;
