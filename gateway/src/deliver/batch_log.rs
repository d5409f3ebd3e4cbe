//! Which batches are under way: `batches/<destination>/`, a small log. A batch is recorded before it is
//! first sent, so that after a restart the same entries make up the same batch under the same id, and
//! the destination can be asked how much of it arrived.
//!
//! A record is one byte of version, one of kind, then
//! - formed (1): the id of the journal's log (16 bytes), id, records, first and last time (8 bytes each),
//!   category, encoding (1 each), tenant (2 bytes of length, text), number of members (4), and for each its partition (4) and index (8);
//! - settled (2): ids (8 each). They are decided, and the cursor that says so is saved; or they were cut
//!   into others.
//!
//! The last record of an id counts. Members are indexes, which mean nothing in another log: a batch of
//! another one is set aside, unless all of its members lie in the parking log, which is as it was. All
//! integers are little-endian.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::Path;
use std::sync::Arc;

use sluice_durable_log::io::Files;
use sluice_durable_log::{self as durable_log, Item, Log, Options, Reader, Writer};
use sluice_wire::{Category, Encoding, JournalId};

use super::batch::{Batch, BatchId, MAX_MEMBERS};
use super::destination::Mode;
use crate::journal::{Error, PARKED, Position};

const VERSION: u8 = 2;
const FORMED: u8 = 1;
const SETTLED: u8 = 2;
/// Bytes of a batch log; a record has a few kilobytes and lives for a minute.
const MAX_BYTES: u64 = 64 << 20;
const SEGMENT_BYTES: u64 = 4 << 20;
/// Above this the oldest records that live are written once more at the end, so that the log can let go of
/// all that was settled behind them: a tenant that is held keeps its batch for days.
const CARRY_ABOVE: u64 = MAX_BYTES / 2;
/// Records carried at once.
const MAX_CARRIED: usize = 1024;
/// Bytes carried at once, and one record.
const CARRIED_AT_ONCE: usize = 1 << 20;

/// The log of one destination.
#[derive(Debug)]
pub(super) struct BatchLog {
    journal: JournalId,
    writer: Writer,
    log: Log,
    reader: Reader,
    /// Where the record of each unsettled batch is.
    places: HashMap<BatchId, u64>,
    /// The same the other way round: the log is needed from the lowest on.
    live: BTreeMap<u64, Live>,
    /// Bytes of the records that live.
    live_bytes: u64,
    /// Batches of another journal that were found.
    foreign: u64,
    bytes: Vec<u8>,
}

#[derive(Debug, Clone, Copy)]
struct Live {
    id: BatchId,
    bytes: usize,
}

impl BatchLog {
    /// Opens the log in `dir`; returns the batches of `journal` that are not settled, in the order of their
    /// forming, without their entries.
    pub(super) fn open(files: Arc<dyn Files>, dir: &Path, journal: JournalId) -> Result<(Self, Vec<Batch>), Error> {
        let options = Options {
            segment_bytes: SEGMENT_BYTES,
            // Beside the bound, room to carry on records of a log that is full.
            max_bytes: MAX_BYTES + 2 * SEGMENT_BYTES,
            max_record: 2 << 20,
            preallocate: false,
            ..Options::new(dir)
        };
        let (writer, log, _) = durable_log::open(files, options)?;
        let mut this = Self {
            journal,
            writer,
            reader: log.reader(log.oldest()),
            log,
            places: HashMap::new(),
            live: BTreeMap::new(),
            live_bytes: 0,
            foreign: 0,
            bytes: Vec::new(),
        };
        let mut unsettled = BTreeMap::new();
        while let Some(item) = this.reader.next(&mut this.bytes)? {
            let index = match item {
                Item::Record { index } => index,
                Item::Damaged { first, next, .. } | Item::Released { first, next } => {
                    tracing::error!(first, next, dir = %dir.display(), "records of batches are gone; what they were about may be delivered twice");
                    continue;
                }
            };
            match decode(&this.bytes) {
                Some(Record::Formed(of, batch)) => {
                    if let Some(before) = this.note(batch.id, index, this.bytes.len()) {
                        unsettled.remove(&before);
                    }
                    unsettled.insert(index, (of, *batch));
                }
                Some(Record::Settled(ids)) => {
                    for place in ids.into_iter().filter_map(|id| this.forget(id)) {
                        unsettled.remove(&place);
                    }
                }
                None => tracing::error!(index, dir = %dir.display(), "a record of a batch cannot be understood"),
            }
        }
        let is_ours = |of: JournalId, batch: &Batch| {
            of == journal || batch.members.iter().all(|member| member.partition == PARKED)
        };
        let mut ours = Vec::with_capacity(unsettled.len());
        for (of, batch) in unsettled.into_values() {
            if is_ours(of, &batch) {
                ours.push(batch);
                continue;
            }
            tracing::error!(batch = %batch.id, tenant = &*batch.tenant, records = batch.records, dir = %dir.display(), "a batch is of another journal and was set aside: nobody knows any more whether all of it was delivered");
            this.forget(batch.id);
            this.foreign += 1;
        }
        Ok((this, ours))
    }

    /// Batches of another journal that were set aside when this was opened.
    pub(super) fn foreign(&self) -> u64 {
        self.foreign
    }

    /// Records batches, durably; one sync for all.
    pub(super) fn record(&mut self, batches: &[&Batch]) -> Result<(), Error> {
        if let Err(error) = self.carry() {
            tracing::warn!(error = &error as &dyn std::error::Error, "cannot write old records of batches anew");
        }
        let mut noted = Vec::with_capacity(batches.len());
        for batch in batches {
            encode(self.journal, batch, &mut self.bytes);
            noted.push((batch.id, self.append_buffer()?, self.bytes.len()));
        }
        self.sync()?;
        for (id, index, bytes) in noted {
            self.note(id, index, bytes);
        }
        Ok(())
    }

    /// Writes the oldest records that live once more, and lets go of what lay between them.
    fn carry(&mut self) -> Result<(), Error> {
        // Where most of it lives, writing it anew gains nothing.
        if self.log.size_bytes() <= CARRY_ABOVE || self.live_bytes > CARRY_ABOVE / 2 {
            return Ok(());
        }
        let mut carried = Vec::new();
        let mut bytes = 0;
        let oldest: Vec<(u64, BatchId)> =
            self.live.iter().take(MAX_CARRIED).map(|(index, live)| (*index, live.id)).collect();
        for (index, id) in oldest {
            if bytes >= CARRIED_AT_ONCE {
                break;
            }
            match self.reader.read_at(index, &mut self.bytes)? {
                Some(Item::Record { .. }) => {
                    bytes += self.bytes.len();
                    carried.push((id, self.append_buffer()?, self.bytes.len()));
                }
                // It would not be found after a restart either.
                _ => {
                    tracing::error!(batch = %id, "the record of a batch cannot be read any more");
                    self.forget(id);
                }
            }
        }
        self.sync()?;
        for (id, index, bytes) in carried {
            self.note(id, index, bytes);
        }
        self.release();
        Ok(())
    }

    fn release(&mut self) {
        let needed = self.live.first_key_value().map_or(self.writer.next(), |(index, _)| *index);
        self.writer.release(needed);
    }

    /// Notes that batches are settled. Durable with the next record: to find a settled batch again after
    /// a crash only costs a query. Fails silently for the same reason.
    pub(super) fn settle(&mut self, ids: &[BatchId]) {
        if ids.is_empty() {
            return;
        }
        let mut bytes = vec![VERSION, SETTLED];
        ids.iter().for_each(|id| bytes.extend_from_slice(&id.0.to_le_bytes()));
        // A log that is full is the last that may keep what is settled.
        let _ = self.append(&bytes);
        for id in ids {
            self.forget(*id);
        }
        self.release();
    }

    /// Makes durable what was settled.
    pub(super) fn sync(&mut self) -> Result<(), Error> {
        self.writer.sync().map(|_| ()).map_err(|error| Error::Copy(Box::new(error)))
    }

    fn append(&mut self, bytes: &[u8]) -> Result<u64, Error> {
        self.writer.append(&[bytes]).map_err(|error| {
            // Clears a doubt about earlier records, if that is what it was.
            let _ = self.writer.sync();
            Error::Copy(Box::new(error))
        })
    }

    fn append_buffer(&mut self) -> Result<u64, Error> {
        let bytes = std::mem::take(&mut self.bytes);
        let result = self.append(&bytes);
        self.bytes = bytes;
        result
    }

    fn note(&mut self, id: BatchId, index: u64, bytes: usize) -> Option<u64> {
        let before = self.forget(id);
        self.places.insert(id, index);
        self.live.insert(index, Live { id, bytes });
        self.live_bytes += bytes as u64;
        before
    }

    fn forget(&mut self, id: BatchId) -> Option<u64> {
        let place = self.places.remove(&id)?;
        let gone = self.live.remove(&place);
        self.live_bytes -= gone.map_or(0, |live| live.bytes as u64);
        Some(place)
    }
}

enum Record {
    Formed(JournalId, Box<Batch>),
    Settled(Vec<BatchId>),
}

fn encode(journal: JournalId, batch: &Batch, out: &mut Vec<u8>) {
    out.clear();
    out.extend_from_slice(&[VERSION, FORMED]);
    out.extend_from_slice(&journal.0);
    out.extend_from_slice(&batch.id.0.to_le_bytes());
    out.extend_from_slice(&batch.records.to_le_bytes());
    out.extend_from_slice(&batch.first_time.to_le_bytes());
    out.extend_from_slice(&batch.last_time.to_le_bytes());
    out.extend_from_slice(&[batch.category as u8, batch.encoding as u8]);
    // A tenant has at most 150 bytes, a batch at most MAX_MEMBERS members.
    out.extend_from_slice(&u16::try_from(batch.tenant.len()).unwrap_or(u16::MAX).to_le_bytes());
    out.extend_from_slice(batch.tenant.as_bytes());
    out.extend_from_slice(&u32::try_from(batch.members.len()).unwrap_or(u32::MAX).to_le_bytes());
    for member in &batch.members {
        out.extend_from_slice(&member.partition.to_le_bytes());
        out.extend_from_slice(&member.index.to_le_bytes());
    }
}

fn decode(bytes: &[u8]) -> Option<Record> {
    let mut at = Input(bytes);
    match at.take()? {
        [VERSION, FORMED] => {}
        [VERSION, SETTLED] => {
            let (ids, rest) = at.0.as_chunks();
            return rest
                .is_empty()
                .then(|| Record::Settled(ids.iter().map(|id| BatchId(u64::from_le_bytes(*id))).collect()));
        }
        _ => return None,
    }
    let journal = JournalId(at.take()?);
    let id = BatchId(u64::from_le_bytes(at.take()?));
    let records = u64::from_le_bytes(at.take()?);
    let first_time = i64::from_le_bytes(at.take()?);
    let last_time = i64::from_le_bytes(at.take()?);
    let [category, encoding] = at.take()?;
    let category = Category::ALL.into_iter().find(|known| *known as u8 == category)?;
    let encoding = Encoding::ALL.into_iter().find(|known| *known as u8 == encoding)?;
    let length = u16::from_le_bytes(at.take()?);
    let (tenant, rest) = at.0.split_at_checked(length.into())?;
    let tenant = std::str::from_utf8(tenant).ok()?.into();
    at.0 = rest;
    let count = u32::from_le_bytes(at.take()?) as usize;
    let mut members = Vec::with_capacity(count.min(MAX_MEMBERS));
    for _ in 0..count {
        let partition = u32::from_le_bytes(at.take()?);
        members.push(Position { partition, index: u64::from_le_bytes(at.take()?) });
    }
    at.0.is_empty().then(|| {
        let batch = Batch {
            id,
            tenant,
            category,
            encoding,
            records,
            first_time,
            last_time,
            members,
            entries: Vec::new(),
            bytes: 0,
            recorded: true,
            mode: Mode::Whole,
            failures: 0,
            stored: None,
            short: None,
            letters: Vec::new(),
            rejected: 0,
            rejected_members: HashSet::new(),
        };
        Record::Formed(journal, Box::new(batch))
    })
}

struct Input<'a>(&'a [u8]);

impl Input<'_> {
    fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (head, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(*head)
    }
}

#[cfg(test)]
mod tests;
