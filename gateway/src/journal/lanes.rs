//! The highest number of each lane: what decides whether a block is a duplicate (rule 5).
//!
//! Every answer is a function of the log's prefix and of the block that asks. So time here is the
//! log's own (the latest `received` of any entry in it), and a number is forgotten by comparing with
//! that, never because a timer ran or a sweep happened to pass.

use std::collections::HashMap;
use std::time::Duration;

/// What one lane costs beside its key: map slot, allocation, number and time.
const OVERHEAD: usize = 96;

/// Bytes that all lanes may take: some 400,000. A cluster of 1,000 nodes with 50 namespaces on each
/// has 50,000.
pub(super) const MAX_BYTES: usize = 64 << 20;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Last {
    number: u64,
    time: i64,
}

/// What a number is to its lane.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Standing {
    /// Above all that the log holds.
    New,
    /// Not above the highest.
    Duplicate,
    /// A lane that is not known, and no room to remember it.
    NoRoom,
}

/// How to take a [`Lanes::note`] back.
#[derive(Debug)]
pub(super) struct Undo {
    key: Box<[u8]>,
    before: Option<Last>,
    clock: i64,
}

/// The table.
#[derive(Debug)]
pub(super) struct Lanes {
    table: HashMap<Box<[u8]>, Last>,
    bytes: usize,
    max_bytes: usize,
    /// Time of the log, nanoseconds since the epoch.
    clock: i64,
    retention: i64,
    /// The clock at the last sweep.
    swept: i64,
}

impl Lanes {
    /// An empty table that remembers a lane for `retention` of log time.
    pub(super) fn new(retention: Duration, max_bytes: usize) -> Self {
        let retention = i64::try_from(retention.as_nanos()).unwrap_or(i64::MAX);
        Self { table: HashMap::new(), bytes: 0, max_bytes, clock: i64::MIN, retention, swept: i64::MIN }
    }

    /// Judges an entry that would come next in the log.
    pub(super) fn judge(&mut self, key: &[u8], number: u64, received: i64) -> Standing {
        let now = self.clock.max(received);
        match self.table.get(key) {
            Some(last) if !self.is_forgotten(*last, now) => match number > last.number {
                true => Standing::New,
                false => Standing::Duplicate,
            },
            Some(_) => Standing::New,
            None if self.bytes + key.len() + OVERHEAD <= self.max_bytes => Standing::New,
            None => {
                self.sweep();
                match self.bytes + key.len() + OVERHEAD <= self.max_bytes {
                    true => Standing::New,
                    false => Standing::NoRoom,
                }
            }
        }
    }

    /// Takes in an entry of the log.
    pub(super) fn note(&mut self, key: &[u8], number: u64, received: i64) -> Undo {
        let clock = self.clock;
        self.clock = clock.max(received);
        let last = Last { number, time: self.clock };
        let before = match self.table.get_mut(key) {
            Some(slot) => Some(std::mem::replace(slot, last)),
            None => {
                self.bytes += key.len() + OVERHEAD;
                self.table.insert(key.into(), last);
                None
            }
        };
        Undo { key: key.into(), before, clock }
    }

    /// Takes a note back; the latest first.
    pub(super) fn undo(&mut self, undo: Undo) {
        self.clock = undo.clock;
        match undo.before {
            Some(last) => {
                self.table.insert(undo.key, last);
            }
            None => {
                if self.table.remove(&undo.key).is_some() {
                    self.bytes -= undo.key.len() + OVERHEAD;
                }
            }
        }
    }

    /// Number of lanes.
    pub(super) fn len(&self) -> usize {
        self.table.len()
    }

    /// Bytes that they take, about.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    fn is_forgotten(&self, last: Last, now: i64) -> bool {
        now.saturating_sub(last.time) > self.retention
    }

    /// Drops what [`judge`](Self::judge) would not look at any more. It changes no answer, so it may run
    /// at any time; a pass over the table pays only once the clock has moved on.
    fn sweep(&mut self) {
        let pause = self.retention / 64;
        if self.swept != i64::MIN && self.clock.saturating_sub(self.swept) <= pause {
            return;
        }
        self.swept = self.clock;
        let (clock, retention) = (self.clock, self.retention);
        self.table.retain(|_, last| clock.saturating_sub(last.time) <= retention);
        self.bytes = self.table.keys().map(|key| key.len() + OVERHEAD).sum();
    }

    /// The table as bytes: clock, count, then key, number and time of each lane.
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(16 + self.bytes);
        out.extend_from_slice(&self.clock.to_le_bytes());
        out.extend_from_slice(&(self.table.len() as u64).to_le_bytes());
        for (key, last) in &self.table {
            // A key has at most 531 bytes (`Lane::key`).
            out.extend_from_slice(&u16::try_from(key.len()).unwrap_or(u16::MAX).to_le_bytes());
            out.extend_from_slice(key);
            out.extend_from_slice(&last.number.to_le_bytes());
            out.extend_from_slice(&last.time.to_le_bytes());
        }
        out
    }

    /// Fills the table from what [`encode`](Self::encode) gave; `None` if it is not exactly that.
    pub(super) fn decode(mut self, bytes: &[u8]) -> Option<Self> {
        let (clock, rest) = bytes.split_first_chunk()?;
        let (count, mut rest) = rest.split_first_chunk()?;
        self.clock = i64::from_le_bytes(*clock);
        for _ in 0..u64::from_le_bytes(*count) {
            let (length, after) = rest.split_first_chunk()?;
            let (key, after) = after.split_at_checked(u16::from_le_bytes(*length).into())?;
            let (number, after) = after.split_first_chunk()?;
            let (time, after) = after.split_first_chunk()?;
            let last = Last { number: u64::from_le_bytes(*number), time: i64::from_le_bytes(*time) };
            self.bytes += key.len() + OVERHEAD;
            if self.table.insert(key.into(), last).is_some() {
                return None;
            }
            rest = after;
        }
        rest.is_empty().then_some(self)
    }
}

#[cfg(test)]
mod tests;
