//! What of a lane lies in the spool: lines that nobody could read again, in blocks without numbers.
//!
//! ```text
//! a lane, oldest first:  queue (memory) ── stubs (on disk) ── fresh (cut, about to go to the disk)
//! ```
//!
//! A block of the queue that holds such lines gets a copy in the spool, and stays where it is. What is cut
//! while the queue takes no more goes to the spool alone; a *stub* remembers it. Nothing here does I/O: the
//! pipeline hands in what writes and what reads.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;

use sluice_wire::{Category, Position};

use super::{Lane, LaneId, Lanes, Portion, Queued};

/// Compressed bytes of blocks that wait to be spooled, above which no deleted file is read on.
const FRESH_BYTES: usize = 1024 * 1024;
/// Places begin here: what goes before the first has room below.
const FIRST_PLACE: u64 = 1 << 32;

/// A block in the spool, and its pieces, where it has any.
#[derive(Debug, Clone)]
pub struct Stub {
    /// Which record of the spool.
    pub record: u64,
    /// Lines in it.
    pub records: u64,
    /// Sources of which its positions do not count: their files are there, and are read again.
    pub without: Box<[u64]>,
}

/// What became of reading a record of the spool.
#[derive(Debug)]
pub enum Unspooled {
    /// Its blocks.
    Blocks(Vec<Queued>),
    /// It cannot be read, now or ever.
    Lost,
    /// It could not be read now.
    Later,
}

/// A lane's part of the spool.
#[derive(Debug, Default)]
pub(super) struct Spooled {
    pub(super) stubs: VecDeque<Stub>,
    /// Behind the stubs; not in the spool yet.
    pub(super) fresh: VecDeque<Queued>,
    /// Deleted files were read although the lane takes no more: what is open goes to the spool.
    beyond: bool,
    /// Lines of files that are gone are in memory: every block without a number gets a copy in the spool.
    copies: bool,
}

impl Spooled {
    pub(super) fn is_empty(&self) -> bool {
        self.stubs.is_empty() && self.fresh.is_empty()
    }
}

/// What of the spool concerns all lanes.
#[derive(Debug)]
pub(super) struct Spooling {
    /// The spool takes blocks.
    has_room: bool,
    fresh_bytes: usize,
    /// Bytes of each source that are in stubs.
    pub(super) of_sources: HashMap<u64, u64>,
    /// Records whose blocks are decided, since last asked.
    decided: Vec<u64>,
    /// Orders a lane's blocks over restarts: given when they are cut.
    next_place: u64,
    /// The same for blocks out of the ring, which come before all others.
    restored_place: u64,
}

impl Default for Spooling {
    fn default() -> Self {
        Self {
            has_room: false,
            fresh_bytes: 0,
            of_sources: HashMap::new(),
            decided: Vec::new(),
            next_place: FIRST_PLACE,
            restored_place: 0,
        }
    }
}

impl Spooling {
    pub(super) fn place(&mut self) -> u64 {
        self.next_place += 1;
        self.next_place - 1
    }

    pub(super) fn place_of_restored(&mut self) -> u64 {
        self.restored_place += 1;
        self.restored_place - 1
    }

    pub(super) fn decide(&mut self, block: &Queued) {
        self.decided.extend(block.record());
    }

    fn add(&mut self, source: u64, bytes: u64) {
        if bytes > 0 {
            *self.of_sources.entry(source).or_default() += bytes;
        }
    }

    fn subtract(&mut self, source: u64, bytes: u64) {
        if let Some(sum) = self.of_sources.get_mut(&source) {
            *sum = sum.saturating_sub(bytes);
            if *sum == 0 {
                self.of_sources.remove(&source);
            }
        }
    }
}

impl Lanes {
    /// Goes on from the places in the spool, the lowest and the highest; `restored` blocks of the ring come
    /// before them.
    pub fn begin_places(&mut self, in_spool: Option<(u64, u64)>, restored: usize) {
        let (lowest, highest) = in_spool.unwrap_or((FIRST_PLACE, FIRST_PLACE - 1));
        self.spooling.restored_place = lowest.saturating_sub(restored as u64);
        self.spooling.next_place = highest.saturating_add(1);
    }

    /// Says whether the spool takes blocks; there is none at first.
    pub fn set_spool_has_room(&mut self, has_room: bool) {
        self.spooling.has_room = has_room;
    }

    /// Whether the spool takes blocks.
    #[must_use]
    pub fn spool_has_room(&self) -> bool {
        self.spooling.has_room
    }

    /// Whether there is a spool, full or not.
    #[must_use]
    pub fn uses_spool(&self) -> bool {
        self.spooling.has_room || self.stubs() > 0
    }

    /// Whether a lane takes lines of a file now: of one that is `gone` also where it takes no records, for
    /// the spool does. Where an agent that stops has no spool, what it can still send is read.
    pub fn takes_lines(&mut self, id: LaneId, gone: bool) -> bool {
        let may_be_sent = self.closing && gone && !self.spooling.has_room;
        if self.takes_records(id) || (may_be_sent && self.lanes[id].spooled.is_empty() && self.has_room(id)) {
            return true;
        }
        let takes = gone && self.spooling.has_room && self.spooling.fresh_bytes < FRESH_BYTES;
        self.lanes[id].spooled.beyond |= takes;
        takes
    }

    /// From now on only files that are gone are read: the agent is about to stop.
    pub fn close(&mut self) {
        self.closing = true;
    }

    /// Whether what is cut of the lane goes behind its stubs.
    pub(super) fn goes_to_spool(&mut self, id: LaneId) -> bool {
        let beyond = self.lanes[id].spooled.beyond && !self.takes_records(id);
        let spooled = &mut self.lanes[id].spooled;
        spooled.beyond = beyond;
        beyond || !spooled.is_empty()
    }

    pub(super) fn cut_to_spool(&mut self, id: LaneId, block: Queued) {
        self.spooling.fresh_bytes += block.payload.len();
        self.lanes[id].spooled.fresh.push_back(block);
    }

    /// Notes which lanes hold lines of sources that do not exist any more, and cuts those that do in their
    /// open block.
    pub fn note_gone(&mut self, exists: &HashSet<u64>) {
        for id in self.lanes.ids() {
            let lane = &self.lanes[id];
            let is_gone = |position: &Position| !exists.contains(&position.source);
            let open = lane.open.positions.iter().any(is_gone);
            let cut = lane.queue.iter().any(|block| block.header.positions.iter().any(is_gone));
            self.lanes[id].spooled.copies = open || cut;
            if open {
                self.cut(id);
            }
        }
    }

    /// Puts into the spool what belongs there and is not: copies of blocks that are not in the ring of lanes that
    /// hold lines of files that are gone (all of them, from the first on: what follows on nothing could not
    /// be taken up after a restart), and what was cut beyond what the queue takes. `keep` writes a block with
    /// its pieces and gives its record, or `None` for one that no record can hold. Gives how many were written.
    ///
    /// # Errors
    /// That of `keep`, which is not called again then: what was not written waits in memory.
    pub fn spool<E>(&mut self, mut keep: impl FnMut(&[&Queued]) -> Result<Option<u64>, E>) -> Result<usize, E> {
        let Self { lanes, spooling, .. } = self;
        let mut written = 0;
        for lane in lanes.iter_mut().filter(|lane| lane.spooled.copies || !lane.spooled.is_empty()) {
            written += copy_queue(lane, &mut keep)?;
            while let Some(pieces) = whole(&lane.spooled.fresh, 0) {
                let blocks: Vec<&Queued> = lane.spooled.fresh.range(..pieces).collect();
                let Some(record) = keep(&blocks)? else { break };
                let mut stub = Stub { record, records: 0, without: Box::default() };
                for block in lane.spooled.fresh.drain(..pieces) {
                    spooling.fresh_bytes -= block.payload.len();
                    stub.records += u64::from(block.header.records);
                    block.shares().for_each(|(position, portion)| spooling.add(position.source, portion.bytes()));
                }
                lane.spooled.stubs.push_back(stub);
                written += 1;
            }
        }
        Ok(written)
    }

    /// Brings back the oldest blocks of lanes that have room for them, by `load`, which reads a record. Gives
    /// how many records are lost.
    pub fn unspool(&mut self, mut load: impl FnMut(u64) -> Unspooled) -> usize {
        let mut lost = 0;
        let spooled: Vec<LaneId> =
            self.lanes.iter().filter(|lane| !lane.spooled.is_empty()).map(|lane| lane.id).collect();
        for id in spooled {
            while self.has_room(id) {
                let spooled = &mut self.lanes[id].spooled;
                let Some(stub) = spooled.stubs.front() else { break };
                match load(stub.record) {
                    Unspooled::Later => break,
                    // What it held stays in the books as held, until the next start finds it gone.
                    Unspooled::Lost => {
                        lost += 1;
                        spooled.stubs.pop_front();
                    }
                    Unspooled::Blocks(blocks) => {
                        let without = spooled.stubs.pop_front().map(|stub| stub.without).unwrap_or_default();
                        self.take_up(id, blocks, &without);
                    }
                }
            }
            // What the spool could not take, and parts of a line that has not ended.
            while !self.lanes[id].spooled.fresh.is_empty()
                && self.lanes[id].spooled.stubs.is_empty()
                && self.has_room(id)
            {
                let fresh = &self.lanes[id].spooled.fresh;
                let pieces = whole(fresh, 0).unwrap_or(fresh.len());
                let blocks: Vec<Queued> = self.lanes[id].spooled.fresh.drain(..pieces).collect();
                self.spooling.fresh_bytes -= blocks.iter().map(|block| block.payload.len()).sum::<usize>();
                blocks.into_iter().for_each(|block| self.enqueue(id, block));
            }
        }
        lost
    }

    fn take_up(&mut self, id: LaneId, blocks: Vec<Queued>, without: &[u64]) {
        for mut block in blocks {
            block.drop_positions(without);
            block.shares().for_each(|(position, portion)| self.spooling.subtract(position.source, portion.bytes()));
            self.enqueue(id, block);
        }
    }

    /// Puts a stub of an earlier run behind those of its lane.
    pub fn restore_stub<'a>(
        &mut self,
        (category, scope): (Category, &Arc<str>),
        stub: Stub,
        shares: impl Iterator<Item = &'a (Position, Portion)>,
    ) {
        let id = self.lane(category, scope);
        for (position, portion) in shares.filter(|(position, _)| !stub.without.contains(&position.source)) {
            self.spooling.add(position.source, portion.bytes());
        }
        self.lanes[id].spooled.stubs.push_back(stub);
    }

    /// Records of the spool whose blocks are decided: to be let go once a checkpoint that covers them is
    /// durable.
    pub fn take_decided(&mut self) -> Vec<u64> {
        std::mem::take(&mut self.spooling.decided)
    }

    /// The checkpoint that should have covered these records was not written; the next one will.
    pub fn give_back_decided(&mut self, records: Vec<u64>) {
        self.spooling.decided.extend(records);
    }

    /// Whether every line of `source` in the lane's blocks outlives the process: in the ring or in the spool.
    #[must_use]
    pub fn are_kept(&self, id: LaneId, source: u64) -> bool {
        let lane = &self.lanes[id];
        let has = |positions: &[Position]| positions.iter().any(|position| position.source == source);
        let unkept = |block: &&Queued| !block.is_kept();
        !has(&lane.open.positions)
            && !lane.queue.iter().chain(&lane.spooled.fresh).filter(unkept).any(|block| has(&block.header.positions))
    }

    /// Blocks that lie in the spool alone.
    #[must_use]
    pub fn stubs(&self) -> usize {
        self.lanes.iter().map(|lane| lane.spooled.stubs.len()).sum()
    }
}

fn copy_queue<E>(lane: &mut Lane, keep: &mut impl FnMut(&[&Queued]) -> Result<Option<u64>, E>) -> Result<usize, E> {
    let (mut at, mut written) = (0, 0);
    while let Some(pieces) = whole(&lane.queue, at) {
        let blocks: Vec<&Queued> = lane.queue.range(at..at + pieces).collect();
        at += pieces;
        let is_spooled = blocks.iter().any(|block| block.record().is_some());
        // One with a number is in the ring, unless that was full.
        if !is_spooled && !blocks.iter().all(|block| block.is_kept()) {
            let Some(record) = keep(&blocks)? else { continue };
            lane.queue[at - 1].set_record(record);
            written += 1;
        }
    }
    Ok(written)
}

/// How many blocks from `at` on are one with its pieces: the last has the positions.
fn whole(blocks: &VecDeque<Queued>, at: usize) -> Option<usize> {
    blocks.iter().skip(at).position(|block| !block.header.positions.is_empty()).map(|last| last + 1)
}
