//! Batches: entries of one tenant, category and encoding that go out in one request.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use sluice_wire::{Category, Encoding};
use tokio::time::Instant;

use super::dead_letters::Letter;
use super::destination::{Mode, Terms};
use crate::journal::{Entry, PARKED, Position};

/// What an entry costs in memory beside its payload, about.
const ENTRY_OVERHEAD: usize = 512;
/// Entries of a batch, so that its record stays below 1 MiB.
pub(super) const MAX_MEMBERS: usize = 65_536;

/// A batch's name at the destination: 16 hexadecimal digits, random.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct BatchId(pub(super) u64);

impl fmt::Display for BatchId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

/// Entries that share one fate, and how far they have come.
#[derive(Debug)]
pub(super) struct Batch {
    pub(super) id: BatchId,
    pub(super) tenant: Arc<str>,
    pub(super) category: Category,
    pub(super) encoding: Encoding,
    /// Records of all members.
    pub(super) records: u64,
    pub(super) first_time: i64,
    pub(super) last_time: i64,
    pub(super) members: Vec<Position>,
    /// The members' entries in the same order; none while the batch waits: they are read again.
    pub(super) entries: Vec<Entry>,
    /// Compressed bytes of all members.
    pub(super) bytes: usize,
    /// Id and members are recorded.
    pub(super) recorded: bool,
    /// What goes out next.
    pub(super) mode: Mode,
    /// Attempts that failed since the last that did not.
    pub(super) failures: u32,
    /// Records that the destination was last said to have.
    pub(super) stored: Option<u64>,
    /// What the destination had of it when it was last counted after an answer, too little, and how often
    /// in a row it was the same.
    pub(super) short: Option<(u64, u32)>,
    /// Dead letters that are not written yet.
    pub(super) letters: Vec<Letter>,
    /// Records that were rejected.
    pub(super) rejected: u64,
    /// Members of which every record was rejected.
    pub(super) rejected_members: HashSet<Position>,
}

impl Batch {
    /// A batch of these entries; there is at least one.
    pub(super) fn new(members: Vec<Position>, entries: Vec<Entry>) -> Self {
        let header = &entries[0].block.header;
        let (category, encoding, tenant) = (header.lane.category, header.encoding, Arc::clone(&entries[0].tenant));
        let headers = || entries.iter().map(|entry| &entry.block.header);
        Self {
            id: BatchId(rand::random()),
            tenant,
            category,
            encoding,
            records: headers().map(|header| u64::from(header.records)).sum(),
            first_time: headers().map(|header| header.first_time).min().unwrap_or(0),
            last_time: headers().map(|header| header.last_time).max().unwrap_or(0),
            bytes: entries.iter().map(|entry| entry.block.payload.len()).sum(),
            members,
            entries,
            recorded: false,
            mode: Mode::Whole,
            failures: 0,
            stored: None,
            short: None,
            letters: Vec::new(),
            rejected: 0,
            rejected_members: HashSet::new(),
        }
    }

    /// The same entries, read again: keeps what `before` has been through.
    pub(super) fn with_history_of(self, before: &Self) -> Self {
        Self {
            id: before.id,
            recorded: before.recorded,
            mode: before.mode,
            failures: before.failures,
            stored: before.stored,
            short: before.short,
            ..self
        }
    }

    /// Memory that its entries take, about.
    pub(super) fn loaded_bytes(&self) -> usize {
        self.entries.iter().map(cost).sum()
    }

    /// Cuts it into two batches with ids of their own; there are at least two members, and they are
    /// loaded.
    pub(super) fn halves(mut self) -> (Self, Self) {
        let middle = self.members.len() / 2;
        let members = self.members.split_off(middle);
        let entries = self.entries.split_off(middle);
        (Self::new(self.members, self.entries), Self::new(members, entries))
    }

    /// The oldest of its members in the journal; `None`: all of them are parked.
    pub(super) fn oldest(&self) -> Option<u64> {
        self.members.iter().filter(|member| member.partition != PARKED).map(|member| member.index).min()
    }

    /// What the destination should have of it.
    pub(super) fn expected(&self) -> u64 {
        self.stored.unwrap_or(self.records)
    }
}

/// What an entry takes of the memory for batches.
pub(super) fn cost(entry: &Entry) -> usize {
    entry.block.payload.len() + ENTRY_OVERHEAD
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct Key {
    tenant: Arc<str>,
    category: Category,
    encoding: Option<Encoding>,
}

#[derive(Debug)]
struct Open {
    since: Instant,
    bytes: usize,
    raw_bytes: usize,
    members: Vec<Position>,
    entries: Vec<Entry>,
}

/// The batches that are being filled.
#[derive(Debug)]
pub(super) struct Gather {
    terms: Terms,
    open: HashMap<Key, Open>,
}

impl Gather {
    pub(super) fn new(terms: Terms) -> Self {
        Self { terms, open: HashMap::new() }
    }

    /// Takes an entry in; returns the batch before it if they do not go together any more.
    pub(super) fn add(&mut self, position: Position, entry: Entry, now: Instant) -> Option<Batch> {
        let header = &entry.block.header;
        let encoding = (!self.terms.mixes_encodings).then_some(header.encoding);
        let key = Key { tenant: Arc::clone(&entry.tenant), category: header.lane.category, encoding };
        let (bytes, raw_bytes) = (entry.block.payload.len(), header.raw_len as usize);
        let terms = &self.terms;
        let fits = |open: &Open| {
            open.bytes + bytes <= terms.batch_bytes
                && open.raw_bytes + raw_bytes <= terms.batch_raw_bytes
                && open.members.len() < MAX_MEMBERS
        };
        let full = match self.open.get(&key) {
            Some(open) if !fits(open) => self.open.remove(&key).map(seal),
            _ => None,
        };
        let fresh = || Open { since: now, bytes: 0, raw_bytes: 0, members: Vec::new(), entries: Vec::new() };
        let open = self.open.entry(key).or_insert_with(fresh);
        open.bytes += bytes;
        open.raw_bytes += raw_bytes;
        open.members.push(position);
        open.entries.push(entry);
        full
    }

    /// The batches that are old enough.
    pub(super) fn due(&mut self, now: Instant) -> Vec<Batch> {
        let age = self.terms.batch_age;
        self.take(|_, open| now.duration_since(open.since) >= age)
    }

    /// When the next one is.
    pub(super) fn next_due(&self) -> Option<Instant> {
        self.open.values().map(|open| open.since).min().map(|since| since + self.terms.batch_age)
    }

    /// The largest one: what to send when memory is short.
    pub(super) fn largest(&mut self) -> Option<Batch> {
        let largest = self.open.values().map(|open| open.bytes).max()?;
        self.take(|_, open| open.bytes == largest).pop()
    }

    /// All batches of the tenants that `chosen` names.
    pub(super) fn of_tenants(&mut self, chosen: impl Fn(&str) -> bool) -> Vec<Batch> {
        self.take(|key, _| chosen(&key.tenant))
    }

    fn take(&mut self, chosen: impl Fn(&Key, &Open) -> bool) -> Vec<Batch> {
        self.open.extract_if(|key, open| chosen(key, open)).map(|(_, open)| seal(open)).collect()
    }
}

fn seal(open: Open) -> Batch {
    Batch::new(open.members, open.entries)
}

/// Waits between attempts.
pub(super) mod backoff {
    use super::Duration;

    /// The most that one attempt after another is put off.
    const CAP: Duration = Duration::from_secs(30);
    const BASE: Duration = Duration::from_millis(500);

    /// Full jitter (a random share of an exponentially rising time), so that what failed together is not
    /// tried together again; on top of `least`.
    pub(in crate::deliver) fn after(failures: u32, least: Duration) -> Duration {
        let most = BASE.saturating_mul(1 << failures.min(10)).min(CAP);
        least + most.mul_f64(rand::random::<f64>())
    }
}

#[cfg(test)]
mod tests;
