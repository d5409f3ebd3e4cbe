//! Blocks that a gateway may hold and that no durable checkpoint covers yet (rule 3).
//!
//! Written before a block's first send, without fsync: it has to outlive the process, not the machine
//! (after a reboot without a clean end the producer is a new one). After a restart the ring is sent
//! first, byte for byte; cutting the lines anew could not give the same bytes.
//!
//! A record of the log: version 1 · u16 numbers that it takes back, and they (u64 each) · the journal
//! that the blocks are about to be sent to (16 bytes) · since when (u64, ms) · frames. Little-endian.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::{Buf as _, Bytes};
use sluice_durable_log::io::RealFiles;
use sluice_durable_log::{AppendError, Item, OpenError, Options, SyncMode, Writer};
use sluice_wire::block::Frames;
use sluice_wire::{Block, JournalId};

use crate::block::{Doubt, Queued};

const VERSION: u8 = 1;
const SEGMENT: u64 = 4 * 1024 * 1024;

/// The ring.
#[derive(Debug)]
pub struct Ring {
    writer: Writer,
    /// Records that still matter, with how many of their blocks do.
    live: BTreeMap<u64, usize>,
    /// The record that holds a block, by number.
    record_of: HashMap<u64, u64>,
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
            max_bytes,
            sync: SyncMode::Never,
            preallocate: false,
            quarantine_max_bytes: 0,
            ..Options::new(dir)
        };
        let (writer, log, recovery) = sluice_durable_log::open(Arc::new(RealFiles), options)?;
        tracing::debug!(?recovery, "ring opened");
        let mut ring = Self { writer, live: BTreeMap::new(), record_of: HashMap::new(), head: Vec::new() };
        let mut reader = log.reader(log.oldest());
        let mut bytes = Vec::new();
        let mut blocks: BTreeMap<u64, Queued> = BTreeMap::new();
        // A record that cannot be read is one that was not written: its blocks are cut anew.
        while let Ok(Some(item)) = reader.next(&mut bytes) {
            if let Item::Record { index } = item {
                ring.replay(index, std::mem::take(&mut bytes), &mut blocks);
            }
        }
        Ok((ring, blocks.into_values().collect()))
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

    fn replay(&mut self, index: u64, record: Vec<u8>, blocks: &mut BTreeMap<u64, Queued>) {
        let Some(record) = Record::read(record.into()) else { return };
        for number in record.taken_back {
            blocks.remove(&number);
            self.let_go(number);
        }
        for frame in Frames::new(record.frames) {
            let block: Result<Block, _> = frame.and_then(sluice_wire::block::Frame::open);
            let Ok(Ok(queued)) = block.map(|block| Queued::in_doubt(block, record.doubt)) else { return };
            self.hold(index, queued.header.number);
            blocks.insert(queued.header.number, queued);
        }
    }

    /// Keeps `blocks`, which have their numbers, before they are sent to `doubt.journal`.
    ///
    /// # Errors
    /// Nothing was kept.
    pub fn keep<'a>(
        &mut self,
        blocks: impl Iterator<Item = &'a Queued> + Clone,
        doubt: Doubt,
    ) -> Result<(), KeepError> {
        self.write_head(&[], doubt);
        let mut parts: Vec<&[u8]> = vec![&self.head];
        parts.extend(blocks.clone().flat_map(|block| [&block.head()[..], &block.payload[..]]));
        let index = self.writer.append(&parts)?;
        self.writer.sync().map_err(|error| KeepError::Write(error.to_string()))?;
        for block in blocks {
            self.hold(index, block.header.number);
        }
        Ok(())
    }

    /// Notes that these numbers will not be sent any more: every attempt was definitely refused. To be
    /// called before their lines are sent under other numbers, or a restart would send both.
    ///
    /// # Errors
    /// It could not be written down.
    pub fn take_back(&mut self, numbers: &[u64]) -> Result<(), KeepError> {
        let held: Vec<u64> = numbers.iter().copied().filter(|number| self.record_of.contains_key(number)).collect();
        if held.is_empty() {
            return Ok(());
        }
        self.write_head(&held, Doubt { journal: JournalId([0; 16]), since_ms: 0 });
        let index = self.writer.append(&[&self.head])?;
        self.writer.sync().map_err(|error| KeepError::Write(error.to_string()))?;
        // What takes back has to outlive what it takes back: segments go from the oldest on.
        debug_assert!(held.iter().all(|number| self.record_of[number] < index));
        self.forget(held);
        Ok(())
    }

    /// Lets blocks go that a durable checkpoint covers.
    pub fn forget(&mut self, numbers: impl IntoIterator<Item = u64>) {
        numbers.into_iter().for_each(|number| self.let_go(number));
        let oldest = self.live.first_key_value().map_or(self.writer.next(), |(record, _)| *record);
        self.writer.release(oldest);
    }

    fn let_go(&mut self, number: u64) {
        let Some(record) = self.record_of.remove(&number) else { return };
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

    fn hold(&mut self, index: u64, number: u64) {
        self.record_of.insert(number, index);
        *self.live.entry(index).or_default() += 1;
    }

    fn write_head(&mut self, taken_back: &[u64], doubt: Doubt) {
        let count = u16::try_from(taken_back.len()).unwrap_or(u16::MAX);
        self.head.clear();
        self.head.push(VERSION);
        self.head.extend_from_slice(&count.to_le_bytes());
        for number in &taken_back[..count.into()] {
            self.head.extend_from_slice(&number.to_le_bytes());
        }
        self.head.extend_from_slice(&doubt.journal.0);
        self.head.extend_from_slice(&doubt.since_ms.to_le_bytes());
    }
}

struct Record {
    taken_back: Vec<u64>,
    doubt: Doubt,
    frames: Bytes,
}

impl Record {
    fn read(mut bytes: Bytes) -> Option<Self> {
        if bytes.len() < 3 || bytes.get_u8() != VERSION {
            return None;
        }
        let count = usize::from(bytes.get_u16_le());
        if bytes.len() < count * 8 + 24 {
            return None;
        }
        let taken_back = (0..count).map(|_| bytes.get_u64_le()).collect();
        let mut journal = [0; 16];
        bytes.copy_to_slice(&mut journal);
        let since_ms = bytes.get_u64_le();
        Some(Self { taken_back, doubt: Doubt { journal: JournalId(journal), since_ms }, frames: bytes })
    }
}

/// Where the ring lies in a state directory.
#[must_use]
pub fn directory(state: &Path) -> PathBuf {
    state.join("ring")
}

#[cfg(test)]
mod tests;
