//! Records to blocks: one open buffer for each lane, cut by size, by age, or when all open buffers
//! together pass their budget; cut blocks wait in their lane's queue, in order.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use sluice_wire::{Header, Lane as LaneKey, Position, ProducerId, Stream, limits};

use crate::record::{Encoder, Line};

mod compress;
mod lane;
mod portion;
mod queued;
mod spooled;
mod table;

pub use compress::Compressor;
use lane::{Lane, Window};
pub use portion::Portion;
pub use queued::{Doubt, Queued};
use spooled::Spooling;
pub use spooled::{Stub, Unspooled};
pub use table::LaneId;
use table::Table;

/// How blocks are formed.
#[derive(Debug, Clone)]
pub struct Settings {
    /// `cluster` in headers.
    pub cluster: Box<str>,
    /// `node` in headers.
    pub node: Box<str>,
    /// Raw bytes at which a block is cut.
    pub target_bytes: usize,
    /// Age of its oldest record at which a block is cut.
    pub max_age: Duration,
    /// Raw bytes of all open blocks.
    pub open_bytes: usize,
    /// Compressed bytes of all cut blocks that are not decided yet; a lane may always have one block.
    pub queued_bytes: usize,
    /// Compressed bytes that one lane may have cut and not decided; two blocks are never too much.
    pub lane_queued_bytes: usize,
    /// How blocks are compressed.
    pub compression: sluice_wire::Encoding,
}

#[cfg(test)]
impl Settings {
    /// Lanes that are never in the way.
    pub(crate) fn for_tests() -> Self {
        Self {
            cluster: "c".into(),
            node: "n".into(),
            target_bytes: 192 << 10,
            max_age: Duration::from_secs(1),
            open_bytes: 6 << 20,
            queued_bytes: 1 << 30,
            lane_queued_bytes: 1 << 30,
            compression: sluice_wire::Encoding::Zstd,
        }
    }
}

/// How far one stream of one source has been put into blocks.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Progress {
    /// Every line of the stream that ends at or before this offset is in a block.
    pub covered: u64,
    /// The open block that holds its latest lines, and where in its positions.
    block: u64,
    slot: usize,
}

impl Progress {
    /// Starts at `covered`.
    #[must_use]
    pub fn from(covered: u64) -> Self {
        Self { covered, ..Self::default() }
    }
}

/// Positions in one block before it is cut: below the limit by what one record can add.
const MAX_POSITIONS: usize = limits::POSITIONS - 64;

/// Content above this is given to a buffer of its own: escaped sixfold it still is below
/// [`limits::BLOCK_RAW`].
const LARGE_CONTENT: usize = 32 * 1024;

/// The most content that [`Lanes::push`] takes at once.
pub const MAX_CONTENT: usize = 160 * 1024;

/// All lanes of the agent.
#[derive(Debug)]
pub struct Lanes {
    settings: Settings,
    lanes: Table,
    encoder: Encoder,
    compressor: Compressor,
    blocks: u64,
    open_bytes: usize,
    queued_bytes: usize,
    /// Buffers of cut blocks, kept for the next ones.
    spare: Vec<Vec<u8>>,
    cut: Cut,
    spooling: Spooling,
    /// Nothing is read any more but what is gone.
    closing: bool,
}

/// What was cut since it was last asked for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Cut {
    /// Blocks.
    pub blocks: u64,
    /// Records.
    pub records: u64,
    /// Bytes before compression.
    pub raw: u64,
    /// Bytes after it.
    pub payload: u64,
}

impl Lanes {
    /// No lanes yet.
    #[must_use]
    pub fn new(settings: Settings) -> Self {
        Self {
            compressor: Compressor::new(settings.compression),
            settings,
            lanes: Table::default(),
            encoder: Encoder::default(),
            blocks: 0,
            open_bytes: 0,
            queued_bytes: 0,
            spare: Vec::new(),
            cut: Cut::default(),
            spooling: Spooling::default(),
            closing: false,
        }
    }

    /// Blocks are cut at this age, and compressed like this, from now on.
    pub fn change(&mut self, max_age: Duration, compression: sluice_wire::Encoding) {
        self.settings.max_age = max_age;
        if self.settings.compression != compression {
            self.settings.compression = compression;
            self.compressor = Compressor::new(compression);
        }
    }

    /// Whether a lane takes records: it is not paused, and neither it nor all lanes together have too
    /// much cut and undecided, nor has it any in the spool. Its sources are not read meanwhile: their files
    /// are the buffer.
    #[must_use]
    pub fn takes_records(&self, id: LaneId) -> bool {
        !self.closing && self.lanes[id].spooled.is_empty() && self.has_room(id)
    }

    /// Whether a lane's queue takes blocks. One of which nothing waits takes some whatever the others hold,
    /// and one at its limit has no more waiting than it can soon send.
    fn has_room(&self, id: LaneId) -> bool {
        let lane = &self.lanes[id];
        let waiting = lane.queue.len();
        let own = waiting < 2
            || (lane.queued_bytes < self.settings.lane_queued_bytes && waiting < lane.window.blocks.saturating_mul(2));
        let shared = waiting == 0 || self.queued_bytes < self.settings.queued_bytes;
        lane.paused_until.is_none() && own && shared
    }

    /// Appends a line's records to its lane, and gives their number. Content is at most [`MAX_CONTENT`]
    /// bytes.
    pub fn push(&mut self, id: LaneId, line: &Line<'_>, now: Instant) -> u32 {
        debug_assert!(line.content.len() <= MAX_CONTENT);
        if line.content.len() > LARGE_CONTENT {
            self.cut(id);
        }
        let time = line.record_time();
        let lane = &mut self.lanes[id];
        let open = &mut lane.open;
        if open.since.is_none() {
            self.blocks += 1;
            open.id = self.blocks;
            open.since = Some(now);
            open.first_time = time;
            open.last_time = time;
            if open.raw.capacity() == 0 {
                open.raw = self.spare.pop().unwrap_or_default();
            }
        }
        let before = open.raw.len();
        let records = self.encoder.encode(line, &mut open.raw);
        let added = &open.raw[before..];
        let longest = if records == 1 { added.len() - 1 } else { longest_line(added) };
        open.longest = open.longest.max(longest);
        open.records += records;
        open.first_time = open.first_time.min(time);
        open.last_time = open.last_time.max(time);
        self.open_bytes += added.len();
        records
    }

    /// Notes that the lane's open block has taken `source`'s lines of `stream` up to `end`, which stand for
    /// `portion` more of it.
    pub fn cover(
        &mut self,
        id: LaneId,
        source: u64,
        stream: Stream,
        progress: &mut Progress,
        end: u64,
        portion: Portion,
    ) {
        debug_assert!(end >= progress.covered, "a position never goes back");
        let open = &mut self.lanes[id].open;
        if progress.block == open.id && open.id != 0 {
            open.positions[progress.slot].end = end;
            open.portions[progress.slot] += portion;
        } else {
            progress.block = open.id;
            progress.slot = open.positions.len();
            open.positions.push(Position { source, stream, start: progress.covered, end });
            open.portions.push(portion);
        }
        progress.covered = end;
    }

    /// Cuts what has reached its size. To be called after each record's [`Lanes::cover`].
    pub fn cut_if_full(&mut self, id: LaneId) {
        let lane = &self.lanes[id];
        if lane.open.raw.len() >= lane.target_bytes || lane.open.positions.len() >= MAX_POSITIONS {
            self.cut(id);
        } else if self.open_bytes > self.settings.open_bytes {
            self.cut_largest();
        }
    }

    fn cut_largest(&mut self) {
        let largest = self.lanes.iter().max_by_key(|lane| lane.open.raw.len()).map(|lane| lane.id);
        if let Some(id) = largest {
            self.cut(id);
        }
    }

    /// Cuts every lane whose oldest record has reached the age limit, and those past half of it too,
    /// so that they share a request.
    pub fn cut_due(&mut self, now: Instant) {
        let age = |lane: &Lane| lane.open.since.map(|since| now.saturating_duration_since(since));
        let max_age = self.settings.max_age;
        if self.lanes.iter().any(|lane| age(lane) >= Some(max_age)) {
            for id in self.lanes.ids() {
                if age(&self.lanes[id]) >= Some(max_age / 2) {
                    self.cut(id);
                }
            }
        }
    }

    /// When [`Lanes::cut_due`] has something to do next.
    #[must_use]
    pub fn next_due(&self) -> Option<Instant> {
        self.lanes.iter().filter_map(|lane| lane.open.since).min().map(|since| since + self.settings.max_age)
    }

    /// Cuts everything: the agent is about to stop.
    pub fn cut_all(&mut self) {
        self.lanes.ids().into_iter().for_each(|id| self.cut(id));
    }

    fn cut(&mut self, id: LaneId) {
        if self.lanes[id].open.since.is_none() {
            return;
        }
        let to_spool = self.goes_to_spool(id);
        let lane = &mut self.lanes[id];
        let open = std::mem::take(&mut lane.open);
        self.open_bytes -= open.raw.len();
        let header = Header {
            // Producer and number are given when the block is first sent.
            lane: LaneKey {
                producer: ProducerId([0; 16]),
                category: lane.category,
                scope: (&*lane.scope).into(),
                split: "".into(),
            },
            number: 0,
            cluster: self.settings.cluster.clone(),
            node: self.settings.node.clone(),
            encoding: sluice_wire::Encoding::Zstd,
            payload_crc: 0,
            raw_len: length(open.raw.len()),
            records: open.records,
            longest: length(open.longest),
            first_time: open.first_time,
            last_time: open.last_time,
            positions: open.positions,
        };
        let mut portions = Some(open.portions);
        for block in self.compressor.blocks(header, &open.raw) {
            self.cut.blocks += 1;
            self.cut.records += u64::from(block.header.records);
            self.cut.raw += u64::from(block.header.raw_len);
            self.cut.payload += block.payload.len() as u64;
            // Pieces of a block: the last one has its positions.
            let own = if block.header.positions.is_empty() { None } else { portions.take() };
            let block = Queued::new(block, own.unwrap_or_default()).at(self.spooling.place());
            if to_spool {
                self.cut_to_spool(id, block);
            } else {
                self.enqueue(id, block);
            }
        }
        // As many as are in use at once when every lane is busy; larger ones go.
        let mut raw = open.raw;
        raw.clear();
        if self.spare.len() < 8 && raw.capacity() <= 2 * self.settings.target_bytes {
            self.spare.push(raw);
        }
    }

    /// What was cut since the last call.
    pub fn take_cut(&mut self) -> Cut {
        std::mem::take(&mut self.cut)
    }

    /// Puts a block of an earlier run at the end of its lane's queue, to be sent before anything new.
    pub fn restore(&mut self, block: Queued) {
        let key = &block.header.lane;
        let id = self.lane(key.category, &Arc::from(&*key.scope));
        let place = self.spooling.place_of_restored();
        self.enqueue(id, block.at(place));
    }

    fn enqueue(&mut self, id: LaneId, block: Queued) {
        let lane = &mut self.lanes[id];
        lane.queued_bytes += block.payload.len();
        self.queued_bytes += block.payload.len();
        lane.queue.push_back(block);
    }

    /// Lanes that may send: something is cut, nothing is under way, and no pause holds.
    pub fn sendable(&self) -> impl Iterator<Item = LaneId> + '_ {
        let sendable = |lane: &Lane| !lane.queue.is_empty() && lane.in_flight == 0 && lane.paused_until.is_none();
        self.lanes.iter().filter(move |lane| sendable(lane)).map(|lane| lane.id)
    }

    /// A lane's cut blocks, oldest first.
    pub fn queue(&mut self, id: LaneId) -> &mut VecDeque<Queued> {
        &mut self.lanes[id].queue
    }

    /// Notes that the first `blocks` of the lane's queue are under way.
    pub fn depart(&mut self, id: LaneId, blocks: usize) {
        self.lanes[id].in_flight = blocks;
    }

    /// Notes that nothing of the lane is under way any more.
    pub fn arrive(&mut self, id: LaneId) {
        self.lanes[id].in_flight = 0;
    }

    /// How many of the lane's blocks the next request may carry.
    #[must_use]
    pub fn window(&self, id: LaneId) -> usize {
        self.lanes[id].window.blocks
    }

    /// Notes that a block of the lane was refused.
    pub fn narrow(&mut self, id: LaneId) {
        self.lanes[id].window = Window::narrow();
    }

    /// Notes that all blocks of a request of the lane were accepted.
    pub fn widen(&mut self, id: LaneId) {
        let lane = &mut self.lanes[id];
        if lane.window.widen() {
            lane.target_bytes = (lane.target_bytes * 2).min(self.settings.target_bytes);
        }
    }

    /// One of a lane's cut blocks.
    ///
    /// # Panics
    /// Where there is none at `at`.
    #[must_use]
    pub fn peek(&self, id: LaneId, at: usize) -> &Queued {
        &self.lanes[id].queue[at]
    }

    /// Takes a block off the queue: it is decided.
    pub fn remove(&mut self, id: LaneId, at: usize) -> Option<Queued> {
        let lane = &mut self.lanes[id];
        let block = lane.queue.remove(at)?;
        lane.queued_bytes -= block.payload.len();
        self.queued_bytes -= block.payload.len();
        self.spooling.decide(&block);
        Some(block)
    }

    /// Cuts the block at `at` of the queue into pieces of at most `limit` raw bytes each, and forms
    /// smaller blocks from now on. Gives how many there are now; 1 where it is one record.
    pub fn split(&mut self, id: LaneId, at: usize, limit: usize) -> usize {
        let lane = &mut self.lanes[id];
        lane.target_bytes = lane.target_bytes.min(limit).max(1);
        let Some(mut block) = lane.queue.remove(at) else { return 0 };
        block.renumber();
        let mut replaced = block.take_replaced();
        let pieces = self.compressor.split(&block, limit);
        let before = block.payload.len();
        let after: usize = pieces.iter().map(|piece| piece.payload.len()).sum();
        lane.queued_bytes = lane.queued_bytes - before + after;
        self.queued_bytes = self.queued_bytes - before + after;
        let count = pieces.len();
        for (offset, piece) in pieces.into_iter().enumerate() {
            let own = if piece.header.positions.is_empty() { Vec::new() } else { block.take_portions() };
            let mut piece = Queued::new(piece, own).at(block.place()).replace(replaced.take());
            // It is decided when the last one is.
            if let Some(record) = block.record().filter(|_| !piece.header.positions.is_empty()) {
                piece.set_record(record);
            }
            lane.queue.insert(at + offset, piece);
        }
        count
    }

    /// Holds a lane back until `until`.
    pub fn pause(&mut self, id: LaneId, until: Instant) {
        let lane = &mut self.lanes[id];
        lane.paused_until = Some(lane.paused_until.map_or(until, |earlier| earlier.max(until)));
    }

    /// Lets go the lanes whose pause is over.
    pub fn resume(&mut self, now: Instant) {
        for lane in self.lanes.iter_mut() {
            if lane.paused_until.is_some_and(|until| until <= now) {
                lane.paused_until = None;
            }
        }
    }

    /// When [`Lanes::resume`] has something to do next.
    #[must_use]
    pub fn next_resume(&self) -> Option<Instant> {
        self.lanes.iter().filter_map(|lane| lane.paused_until).min()
    }

    /// Whether nothing can become of any block before `deadline`: every lane that has one is held back for longer.
    #[must_use]
    pub fn are_held_until(&self, deadline: Instant) -> bool {
        let is_held = |lane: &Lane| lane.in_flight == 0 && lane.paused_until.is_some_and(|until| until >= deadline);
        self.open_bytes == 0 && self.lanes.iter().all(|lane| lane.is_decided() || is_held(lane))
    }

    /// Lanes that are held back.
    #[must_use]
    pub fn paused(&self) -> usize {
        self.lanes.iter().filter(|lane| lane.paused_until.is_some()).count()
    }

    /// Whether none of a lane's cut blocks waits.
    #[must_use]
    pub fn is_lane_empty(&self, id: LaneId) -> bool {
        self.lanes[id].queue.is_empty()
    }

    /// Whether every block is decided and nothing is open.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.open_bytes == 0 && self.lanes.iter().all(Lane::is_decided)
    }

    /// Bytes of sources in open blocks and in cut ones that are not decided, in the spool too, by source.
    pub fn held_of_sources(&self) -> impl Iterator<Item = (u64, u64)> {
        let in_memory = self.lanes.iter().flat_map(|lane| {
            let open = lane.open.positions.iter().zip(lane.open.portions.iter().copied());
            let queued = lane.queue.iter().chain(&lane.spooled.fresh).flat_map(Queued::shares);
            open.chain(queued).map(|(position, portion)| (position.source, portion.bytes()))
        });
        in_memory.chain(self.spooling.of_sources.iter().map(|(source, bytes)| (*source, *bytes)))
    }

    /// Raw bytes in open blocks, compressed bytes in cut ones.
    #[must_use]
    pub fn held_bytes(&self) -> (usize, usize) {
        (self.open_bytes, self.queued_bytes)
    }

    /// Lines in open blocks and in cut ones that are not decided.
    #[must_use]
    pub fn held_records(&self) -> u64 {
        let held = |lane: &Lane| {
            let cut = lane.queue.iter().chain(&lane.spooled.fresh).map(|block| u64::from(block.header.records));
            let spooled = lane.spooled.stubs.iter().map(|stub| stub.records);
            u64::from(lane.open.records) + cut.chain(spooled).sum::<u64>()
        };
        self.lanes.iter().map(held).sum()
    }
}

fn longest_line(lines: &[u8]) -> usize {
    lines.split(|byte| *byte == b'\n').map(<[u8]>::len).max().unwrap_or(0)
}

fn length(bytes: usize) -> u32 {
    u32::try_from(bytes).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests;
