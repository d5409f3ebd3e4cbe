//! Blocks whose lines nobody could read again: their files are deleted, and no gateway has them yet.
//!
//! Compressed, bounded, on disk, without fsync: it outlives the process, not a loss of power. A block here
//! has no number, for it would be another one by the time it is sent; so the spool belongs to no producer,
//! and stays when a new id is drawn. A record goes once a durable checkpoint covers it; that is written down
//! behind it, because its segment may stay for long, and its source may be forgotten by then.
//!
//! A record of the log, little-endian: version 2 · kind. Kind 1, a block and its pieces: place (u64: orders
//! the blocks of a lane) · u32 positions that its frames have, and what each stands for (see
//! [`Portion::write`]) · frames with number 0. Kind 2, records that are let go: their indexes (u64).

use std::collections::{BTreeMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::{Buf as _, Bytes};
use sluice_durable_log::io::RealFiles;
use sluice_durable_log::{AppendError, Item, Log, OpenError, Options, Reader, SyncMode, Writer};
use sluice_wire::block::Frames;
use sluice_wire::{Block, Category, Header, Position, ProducerId};

use crate::block::{Portion, Queued, Unspooled};

const VERSION: u8 = 2;
const BLOCK: u8 = 1;
const LET_GO: u8 = 2;
const SEGMENT: u64 = 4 * 1024 * 1024;
/// The largest record, bytes.
const MAX_RECORD: usize = 3 * 1024 * 1024;
/// Kept free of blocks: what is let go must be written down also where the spool is full.
const ROOM_TO_LET_GO: u64 = 256 * 1024;
/// Indexes in a record that lets go.
const LET_GO_AT_ONCE: usize = 4096;

/// The spool.
#[derive(Debug)]
pub struct Spool {
    writer: Writer,
    log: Log,
    reader: Reader,
    max_bytes: u64,
    /// Records that still matter, and their sizes.
    live: BTreeMap<u64, u64>,
    /// Let go, which could not be written down yet.
    owed: Vec<u64>,
    bytes: u64,
    buffer: Vec<u8>,
}

/// A block of an earlier run, as much as is kept of it in memory.
#[derive(Debug, Clone)]
pub struct Found {
    /// Which record it is.
    pub record: u64,
    /// Where it stands among its lane's blocks.
    pub place: u64,
    /// Its lane.
    pub category: Category,
    /// Its lane.
    pub scope: Arc<str>,
    /// Its positions, and what they stand for.
    pub shares: Vec<(Position, Portion)>,
    /// Lines in it.
    pub records: u64,
}

/// What an earlier run left.
#[derive(Debug, Default)]
pub struct Left {
    /// Blocks, in their order.
    pub blocks: Vec<Found>,
    /// Records that cannot be read; those behind a torn end are not counted.
    pub damaged: u64,
}

/// Why a block could not be spooled.
#[derive(Debug, thiserror::Error)]
pub enum KeepError {
    /// The spool is full, or its disk is.
    #[error(transparent)]
    Append(#[from] AppendError),
    /// The write failed.
    #[error("the spool cannot be written: {0}")]
    Write(String),
}

impl Spool {
    /// Opens the spool in `dir`, at most `max_bytes` large (at least 8 MiB), and tells what is in it.
    ///
    /// # Errors
    /// The directory cannot be written to, or another agent has it.
    pub fn open(dir: &Path, max_bytes: u64) -> Result<(Self, Left), OpenError> {
        let options = Options {
            segment_bytes: SEGMENT,
            max_bytes: max_bytes + ROOM_TO_LET_GO,
            max_record: MAX_RECORD,
            sync: SyncMode::Never,
            preallocate: false,
            quarantine_max_bytes: 0,
            ..Options::new(dir)
        };
        let (writer, log, recovery) = sluice_durable_log::open(Arc::new(RealFiles), options)?;
        tracing::debug!(?recovery, "spool opened");
        let mut reader = log.reader(log.oldest());
        let mut blocks = BTreeMap::new();
        let mut live = BTreeMap::new();
        let mut damaged = 0;
        let mut bytes = Vec::new();
        while let Ok(Some(item)) = reader.next(&mut bytes) {
            match item {
                Item::Record { index } => match read(index, &bytes) {
                    Some(Kind::Block(found)) => {
                        live.insert(index, bytes.len() as u64);
                        blocks.insert(index, found);
                    }
                    Some(Kind::LetGo(indexes)) => indexes.iter().for_each(|index| {
                        live.remove(index);
                        blocks.remove(index);
                    }),
                    None => damaged += 1,
                },
                Item::Damaged { first, next, .. } => damaged += next - first,
                Item::Released { .. } => {}
            }
        }
        let mut blocks: Vec<Found> = blocks.into_values().collect();
        blocks.sort_by_key(|found| found.place);
        let size = live.values().sum();
        let spool = Self { writer, log, reader, max_bytes, live, owed: Vec::new(), bytes: size, buffer: bytes };
        Ok((spool, Left { blocks, damaged }))
    }

    /// Keeps a block and its pieces. Gives its record, or `None` where no record can hold it.
    ///
    /// # Errors
    /// Nothing was kept; after [`KeepError::Write`] nobody knows.
    pub fn keep(&mut self, blocks: &[&Queued]) -> Result<Option<u64>, KeepError> {
        self.buffer.clear();
        self.buffer.extend_from_slice(&[VERSION, BLOCK]);
        let place = blocks.last().map_or(0, |block| block.place());
        self.buffer.extend_from_slice(&place.to_le_bytes());
        let positions: usize = blocks.iter().map(|block| block.header.positions.len()).sum();
        self.buffer.extend_from_slice(&u32::try_from(positions).unwrap_or(u32::MAX).to_le_bytes());
        let shares = blocks.iter().flat_map(|block| block.shares());
        shares.for_each(|(_, portion)| portion.write(&mut self.buffer));
        for block in blocks {
            let mut header = Header { number: 0, ..block.header.clone() };
            header.lane.producer = ProducerId([0; 16]);
            let whole = Block { header, payload: block.payload.clone() };
            // A header that cannot be written cannot be sent either: it becomes a dead letter then.
            if whole.write(&mut self.buffer).is_err() || self.buffer.len() > MAX_RECORD {
                return Ok(None);
            }
        }
        let (size, max, length) = (self.log.size_bytes(), self.max_bytes, self.buffer.len() as u64);
        if size + length > max {
            return Err(AppendError::Full { size, max }.into());
        }
        let index = self.writer.append(&[&self.buffer])?;
        self.writer.sync().map_err(|error| KeepError::Write(error.to_string()))?;
        self.live.insert(index, length);
        self.bytes += length;
        Ok(Some(index))
    }

    /// Reads a record.
    pub fn load(&mut self, record: u64) -> Unspooled {
        let mut bytes = std::mem::take(&mut self.buffer);
        let item = self.reader.read_at(record, &mut bytes);
        match item {
            Ok(Some(Item::Record { .. })) => {
                let blocks = open_blocks(record, bytes.into());
                blocks.map_or_else(|| self.lose(record), |(_, blocks)| Unspooled::Blocks(blocks))
            }
            Ok(_) => {
                self.buffer = bytes;
                self.lose(record)
            }
            Err(error) => {
                self.buffer = bytes;
                tracing::debug!(%error, record, "a record of the spool cannot be read now");
                Unspooled::Later
            }
        }
    }

    fn lose(&mut self, record: u64) -> Unspooled {
        tracing::error!(record, "a block of the spool is damaged: lines of deleted files are lost");
        self.release([record]);
        Unspooled::Lost
    }

    /// Lets records go that a durable checkpoint covers.
    pub fn release(&mut self, records: impl IntoIterator<Item = u64>) {
        for record in records {
            if let Some(bytes) = self.live.remove(&record) {
                self.bytes -= bytes;
                self.owed.push(record);
            }
        }
        let oldest = self.live.first_key_value().map_or(self.writer.next(), |(record, _)| *record);
        self.writer.release(oldest);
        self.pay();
    }

    /// Writes down what is let go and still lies in a segment. Where that fails each later call tries again.
    fn pay(&mut self) {
        let oldest = self.log.oldest();
        self.owed.retain(|record| *record >= oldest);
        while !self.owed.is_empty() {
            let count = self.owed.len().min(LET_GO_AT_ONCE);
            self.buffer.clear();
            self.buffer.extend_from_slice(&[VERSION, LET_GO]);
            self.owed[..count].iter().for_each(|record| self.buffer.extend_from_slice(&record.to_le_bytes()));
            if self.writer.append(&[&self.buffer]).is_err() || self.writer.sync().is_err() {
                return;
            }
            self.owed.drain(..count);
        }
    }

    /// Blocks in the spool.
    #[must_use]
    pub fn len(&self) -> usize {
        self.live.len()
    }

    /// Whether no block is in the spool.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.live.is_empty()
    }

    /// Bytes of the blocks in the spool.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Whether a block of the largest size would find room.
    #[must_use]
    pub fn has_room(&self) -> bool {
        self.log.size_bytes() + MAX_RECORD as u64 <= self.max_bytes
    }
}

#[cfg(test)]
impl Spool {
    /// Leaves no room.
    pub(crate) fn fill(&mut self) {
        self.max_bytes = 0;
    }
}

enum Kind {
    Block(Found),
    LetGo(HashSet<u64>),
}

fn read(index: u64, bytes: &[u8]) -> Option<Kind> {
    match bytes {
        [VERSION, BLOCK, ..] => {
            let (place, blocks) = open_blocks(index, Bytes::copy_from_slice(bytes))?;
            let last = blocks.last()?;
            Some(Kind::Block(Found {
                record: index,
                place,
                category: last.header.lane.category,
                scope: Arc::from(&*last.header.lane.scope),
                shares: blocks
                    .iter()
                    .flat_map(Queued::shares)
                    .map(|(position, portion)| (*position, portion))
                    .collect(),
                records: blocks.iter().map(|block| u64::from(block.header.records)).sum(),
            }))
        }
        [VERSION, LET_GO, indexes @ ..] => {
            let (indexes, []) = indexes.as_chunks::<8>() else { return None };
            Some(Kind::LetGo(indexes.iter().map(|index| u64::from_le_bytes(*index)).collect()))
        }
        _ => None,
    }
}

/// A record's place and its blocks; the last one names the record.
fn open_blocks(record: u64, mut bytes: Bytes) -> Option<(u64, Vec<Queued>)> {
    if bytes.len() < 14 || bytes.get_u8() != VERSION || bytes.get_u8() != BLOCK {
        return None;
    }
    let place = bytes.get_u64_le();
    let positions = bytes.get_u32_le() as usize;
    if bytes.len() / Portion::LEN < positions {
        return None;
    }
    let mut shares = bytes.split_to(positions * Portion::LEN);
    let mut blocks = Vec::new();
    for frame in Frames::new(bytes) {
        let mut block = frame.and_then(|frame| frame.open()).ok()?;
        // Not a part of what was read: that is as large as all pieces.
        block.payload = Bytes::copy_from_slice(&block.payload);
        if shares.len() / Portion::LEN < block.header.positions.len() {
            return None;
        }
        let own = (0..block.header.positions.len()).map(|_| Portion::read(&mut shares)).collect();
        let last = (!block.header.positions.is_empty()).then_some(record);
        blocks.push(Queued::spooled(block, own, last, place));
    }
    blocks.last().is_some_and(|last| !last.header.positions.is_empty()).then_some((place, blocks))
}

/// Where the spool lies in a state directory.
#[must_use]
pub fn directory(state: &Path) -> PathBuf {
    state.join("spool")
}

#[cfg(test)]
mod tests;
