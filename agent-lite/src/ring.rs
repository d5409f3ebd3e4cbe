//! Blocks that a gateway may hold and that no durable checkpoint covers yet (rule 3).
//!
//! Written before a block's first send, without fsync: it has to outlive the process, not the machine
//! (after a reboot without a clean end the producer is a new one). After a restart the ring is sent
//! first, byte for byte; cutting the lines anew could not give the same bytes.
//!
//! A record of the log: version 3 · u16 ids that it takes back, and they (producer, 16 bytes, and number,
//! u64, each) · the journal that the blocks are about to be sent to (16 bytes) · since when (u64, ms) ·
//! u32 positions that all its blocks have, and what each stands for (u64 bytes of lines taken, and of lines
//! left out by reason) · frames. Little-endian.

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::{Buf as _, Bytes};
use sluice_durable_log::io::RealFiles;
use sluice_durable_log::{AppendError, Item, Log, OpenError, Options, SyncMode, Writer};
use sluice_wire::block::Frames;
use sluice_wire::{Block, BlockId, JournalId, ProducerId};

use crate::block::{Doubt, Portion, Queued};

const VERSION: u8 = 3;
const SEGMENT: u64 = 4 * 1024 * 1024;
/// Kept free of blocks: what is taken back must be written down also where the ring is full.
const ROOM_TO_TAKE_BACK: u64 = 256 * 1024;
/// An id that is taken back, bytes.
const ID: usize = 24;

/// The ring.
#[derive(Debug)]
pub struct Ring {
    writer: Writer,
    log: Log,
    max_bytes: u64,
    /// Records that still matter, with how many of their blocks do.
    live: BTreeMap<u64, usize>,
    /// The record that holds a block.
    record_of: HashMap<BlockId, u64>,
    /// Will never be sent again, which could not be written down yet.
    owed: Vec<BlockId>,
    head: Vec<u8>,
}

/// Why a block could not be put into the ring: it is sent all the same, at least once.
#[derive(Debug, thiserror::Error)]
pub enum KeepError {
    /// The ring is full, or its disk is.
    #[error(transparent)]
    Append(#[from] AppendError),
    /// The write failed.
    #[error("the ring cannot be written: {0}")]
    Write(String),
}

impl Ring {
    /// Opens the ring in `dir`, at most `max_bytes` large, and gives what was under way, in order.
    ///
    /// # Errors
    /// The directory cannot be written to, or another agent has it.
    pub fn open(dir: &Path, max_bytes: u64) -> Result<(Self, Vec<Queued>), OpenError> {
        let options = Options {
            segment_bytes: SEGMENT,
            max_bytes: max_bytes + ROOM_TO_TAKE_BACK,
            sync: SyncMode::Never,
            preallocate: false,
            quarantine_max_bytes: 0,
            ..Options::new(dir)
        };
        let (writer, log, recovery) = sluice_durable_log::open(Arc::new(RealFiles), options)?;
        tracing::debug!(?recovery, "ring opened");
        let mut reader = log.reader(log.oldest());
        let (live, record_of) = (BTreeMap::new(), HashMap::new());
        let mut ring = Self { writer, log, max_bytes, live, record_of, owed: Vec::new(), head: Vec::new() };
        let mut bytes = Vec::new();
        let mut blocks = Vec::new();
        // A record that cannot be read is one that was not written: its blocks are cut anew.
        while let Ok(Some(item)) = reader.next(&mut bytes) {
            if let Item::Record { index } = item {
                ring.replay(index, std::mem::take(&mut bytes), &mut blocks);
            }
        }
        Ok((ring, blocks))
    }

    /// Removes a ring whose producer is no more.
    ///
    /// # Errors
    /// The file system's.
    pub fn discard(dir: &Path) -> std::io::Result<()> {
        match std::fs::remove_dir_all(dir) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    fn replay(&mut self, index: u64, record: Vec<u8>, blocks: &mut Vec<Queued>) {
        let Some(mut record) = Record::read(record.into()) else { return };
        if !record.taken_back.is_empty() {
            blocks.retain(|block| block.id().is_none_or(|id| !record.taken_back.contains(&id)));
            record.taken_back.into_iter().for_each(|id| self.let_go(id));
        }
        for frame in Frames::new(record.frames) {
            let Ok(block): Result<Block, _> = frame.and_then(|frame| frame.open()) else { return };
            let positions = block.header.positions.len();
            if record.portions.len() < positions {
                return;
            }
            let portions = record.portions.drain(..positions).collect();
            let Ok(queued) = Queued::in_doubt(block, portions, record.doubt) else { return };
            self.hold(index, &queued);
            blocks.push(queued);
        }
    }

    /// Keeps `blocks`, which have their numbers, before they are sent to `doubt.journal`; `replaced` are
    /// not sent any more, and taken back in the same breath.
    ///
    /// # Errors
    /// Nothing was kept; after [`KeepError::Write`] nobody knows. What is replaced is taken back all the
    /// same where that can be written.
    pub fn keep<'a>(
        &mut self,
        blocks: impl Iterator<Item = &'a Queued> + Clone,
        replaced: &[BlockId],
        doubt: Doubt,
    ) -> Result<(), KeepError> {
        self.owe(replaced);
        self.append(blocks, doubt).inspect_err(|_| {
            // Where this fails, too, each later call of any kind tries again.
            let _ = self.pay();
        })
    }

    fn append<'a>(&mut self, blocks: impl Iterator<Item = &'a Queued> + Clone, doubt: Doubt) -> Result<(), KeepError> {
        let (size, max) = (self.log.size_bytes(), self.max_bytes);
        if size + blocks.clone().map(|block| block.frame_len() as u64).sum::<u64>() > max {
            return Err(AppendError::Full { size, max }.into());
        }
        let owed = self.write_head(doubt, blocks.clone().flat_map(|block| block.shares().map(|(_, portion)| portion)));
        let mut parts: Vec<&[u8]> = vec![&self.head];
        parts.extend(blocks.clone().flat_map(|block| [&block.head()[..], &block.payload[..]]));
        let index = self.writer.append(&parts)?;
        // Also where the write fails: some of it may be there at the next start.
        blocks.for_each(|block| self.hold(index, block));
        self.writer.sync().map_err(|error| KeepError::Write(error.to_string()))?;
        self.paid(owed);
        Ok(())
    }

    /// Notes that these will not be sent any more: every attempt was definitely refused. To be called
    /// before their lines are sent under other numbers, or a restart would send both.
    ///
    /// # Errors
    /// It could not be written down yet; each later call of any kind tries again.
    pub fn take_back(&mut self, ids: &[BlockId]) -> Result<(), KeepError> {
        self.owe(ids);
        self.pay()
    }

    fn owe(&mut self, ids: &[BlockId]) {
        self.owed.extend(ids.iter().filter(|id| self.record_of.contains_key(id)));
    }

    fn pay(&mut self) -> Result<(), KeepError> {
        while !self.owed.is_empty() {
            let owed = self.write_head(Doubt { journal: JournalId([0; 16]), since_ms: 0 }, std::iter::empty());
            self.writer.append(&[&self.head])?;
            self.writer.sync().map_err(|error| KeepError::Write(error.to_string()))?;
            self.paid(owed);
        }
        Ok(())
    }

    /// The first `count` of what was owed is written down. (In a record behind theirs, so that it goes
    /// after them: segments go from the oldest on.)
    fn paid(&mut self, count: usize) {
        let paid: Vec<BlockId> = self.owed.drain(..count).collect();
        paid.into_iter().for_each(|id| self.let_go(id));
        self.release();
    }

    /// Lets blocks go that a durable checkpoint covers.
    pub fn forget(&mut self, ids: impl IntoIterator<Item = BlockId>) {
        ids.into_iter().for_each(|id| self.let_go(id));
        self.release();
        // Said when it failed first.
        let _ = self.pay();
    }

    fn release(&mut self) {
        let oldest = self.live.first_key_value().map_or(self.writer.next(), |(record, _)| *record);
        self.writer.release(oldest);
    }

    fn let_go(&mut self, id: BlockId) {
        let Some(record) = self.record_of.remove(&id) else { return };
        if let Some(count) = self.live.get_mut(&record) {
            *count -= 1;
            if *count == 0 {
                self.live.remove(&record);
            }
        }
    }

    /// Blocks in the ring.
    #[must_use]
    pub fn len(&self) -> usize {
        self.record_of.len()
    }

    /// Whether no block is in the ring.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.record_of.is_empty()
    }

    fn hold(&mut self, index: u64, block: &Queued) {
        if let Some(id) = block.id() {
            self.let_go(id);
            self.record_of.insert(id, index);
            *self.live.entry(index).or_default() += 1;
        }
    }

    /// Begins a record that takes back what is owed, or as much as it can name. Gives how many.
    fn write_head(&mut self, doubt: Doubt, portions: impl Iterator<Item = Portion>) -> usize {
        let count = u16::try_from(self.owed.len()).unwrap_or(u16::MAX);
        self.head.clear();
        self.head.push(VERSION);
        self.head.extend_from_slice(&count.to_le_bytes());
        for id in &self.owed[..count.into()] {
            self.head.extend_from_slice(&id.producer.0);
            self.head.extend_from_slice(&id.number.to_le_bytes());
        }
        self.head.extend_from_slice(&doubt.journal.0);
        self.head.extend_from_slice(&doubt.since_ms.to_le_bytes());
        let at = self.head.len();
        self.head.extend_from_slice(&[0; 4]);
        let mut positions = 0_u32;
        for portion in portions {
            positions += 1;
            portion.write(&mut self.head);
        }
        self.head[at..at + 4].copy_from_slice(&positions.to_le_bytes());
        count.into()
    }
}

struct Record {
    taken_back: HashSet<BlockId>,
    doubt: Doubt,
    portions: VecDeque<Portion>,
    frames: Bytes,
}

impl Record {
    fn read(mut bytes: Bytes) -> Option<Self> {
        if bytes.len() < 3 || bytes.get_u8() != VERSION {
            return None;
        }
        let count = usize::from(bytes.get_u16_le());
        if bytes.len() < count * ID + 28 {
            return None;
        }
        let taken_back =
            (0..count).map(|_| BlockId { producer: ProducerId(id(&mut bytes)), number: bytes.get_u64_le() });
        let taken_back = taken_back.collect();
        let doubt = Doubt { journal: JournalId(id(&mut bytes)), since_ms: bytes.get_u64_le() };
        let positions = bytes.get_u32_le() as usize;
        if bytes.len() / Portion::LEN < positions {
            return None;
        }
        let portions = (0..positions).map(|_| Portion::read(&mut bytes)).collect();
        Some(Self { taken_back, doubt, portions, frames: bytes })
    }
}

fn id(bytes: &mut Bytes) -> [u8; 16] {
    let mut id = [0; 16];
    bytes.copy_to_slice(&mut id);
    id
}

/// Where the ring lies in a state directory.
#[must_use]
pub fn directory(state: &Path) -> PathBuf {
    state.join("ring")
}

#[cfg(test)]
mod tests;
