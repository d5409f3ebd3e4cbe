//! A cut block on its way: which number it has, and whether somebody may hold it already.

use std::ops::Deref;

use bytes::Bytes;
use sluice_wire::block::OverLimit;
use sluice_wire::{Block, BlockId, JournalId, Position};

use super::Portion;

/// A block in its lane's queue.
#[derive(Debug, Clone)]
pub struct Queued {
    block: Block,
    /// What each of its positions stands for.
    portions: Vec<Portion>,
    /// Prelude and header as they are sent; empty while the block has no number.
    head: Bytes,
    doubt: Option<Doubt>,
    alone: bool,
    /// What its lines were called before: to be taken back when they get another name, not earlier.
    replaces: Option<BlockId>,
    /// The ring has it under its number.
    ringed: bool,
    /// The spool's record that has it too.
    record: Option<u64>,
    /// Orders its lane's blocks over restarts.
    place: u64,
}

/// A journal may hold the block: only the same bytes under the same number may be sent again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Doubt {
    /// The journal that may hold it.
    pub journal: JournalId,
    /// Since when, milliseconds of the Unix epoch (it outlives the process).
    pub since_ms: u64,
}

impl Queued {
    pub(super) fn new(block: Block, portions: Vec<Portion>) -> Self {
        debug_assert_eq!(block.header.positions.len(), portions.len());
        Self {
            block,
            portions,
            head: Bytes::new(),
            doubt: None,
            alone: false,
            replaces: None,
            ringed: false,
            record: None,
            place: 0,
        }
    }

    /// A block out of the spool, without a number; `record`: which, if it is the last piece of its block.
    #[must_use]
    pub fn spooled(block: Block, portions: Vec<Portion>, record: Option<u64>, place: u64) -> Self {
        Self { record, place, ..Self::new(block, portions) }
    }

    /// A block out of the ring: it was sent, and nobody knows what became of it.
    ///
    /// # Errors
    /// Never for a block that was read from a frame.
    pub fn in_doubt(block: Block, portions: Vec<Portion>, doubt: Doubt) -> Result<Self, OverLimit> {
        let mut queued = Self::new(block, portions);
        queued.render()?;
        queued.doubt = Some(doubt);
        queued.ringed = true;
        Ok(queued)
    }

    /// Gives it a number. To be called on a block that has none.
    ///
    /// # Errors
    /// A name in the header is too long.
    pub fn give_number(&mut self, id: BlockId) -> Result<(), OverLimit> {
        debug_assert!(self.head.is_empty(), "a number is given once");
        self.block.header.lane.producer = id.producer;
        self.block.header.number = id.number;
        self.render()
    }

    fn render(&mut self) -> Result<(), OverLimit> {
        let mut head = Vec::with_capacity(256 + self.block.header.positions.len() * 25);
        self.block.header.write(self.block.payload.len(), &mut head)?;
        self.head = head.into();
        Ok(())
    }

    /// What it is called, once it has a number.
    #[must_use]
    pub fn id(&self) -> Option<BlockId> {
        let header = &self.block.header;
        (!self.head.is_empty()).then_some(BlockId { producer: header.lane.producer, number: header.number })
    }

    /// Prelude and header; empty while it has no number. The payload follows them.
    #[must_use]
    pub fn head(&self) -> &Bytes {
        &self.head
    }

    /// Who may hold it.
    #[must_use]
    pub fn doubt(&self) -> Option<Doubt> {
        self.doubt
    }

    /// Notes that a journal may hold it. The first doubt stays: nothing but `accepted` ends it.
    pub fn enter_doubt(&mut self, doubt: Doubt) {
        self.doubt.get_or_insert(doubt);
    }

    #[cfg(test)]
    pub(crate) fn set_doubt(&mut self, doubt: Doubt) {
        self.doubt = Some(doubt);
    }

    /// Takes number and doubt away: every attempt was definitely refused, or the doubt was given up. The
    /// id must not be sent any more once the lane has sent another number.
    pub fn renumber(&mut self) {
        self.replaces = self.id().or(self.replaces);
        self.head = Bytes::new();
        self.doubt = None;
        self.ringed = false;
    }

    /// Notes that the ring has it.
    pub fn enter_ring(&mut self) {
        self.ringed = true;
    }

    /// Whether it outlives the process: it is in the ring or in the spool.
    #[must_use]
    pub fn is_kept(&self) -> bool {
        self.ringed || self.record.is_some()
    }

    /// The spool's record that has it.
    #[must_use]
    pub fn record(&self) -> Option<u64> {
        self.record
    }

    pub(super) fn set_record(&mut self, record: u64) {
        self.record = Some(record);
    }

    /// Where it stands among its lane's blocks, also over restarts.
    #[must_use]
    pub fn place(&self) -> u64 {
        self.place
    }

    pub(super) fn at(mut self, place: u64) -> Self {
        self.place = place;
        self
    }

    /// Takes the positions of these sources off; to be called before it has a number.
    pub(super) fn drop_positions(&mut self, sources: &[u64]) {
        if !sources.is_empty() {
            let kept: Vec<(Position, Portion)> =
                self.shares().map(|(position, portion)| (*position, portion)).collect();
            let kept = kept.into_iter().filter(|(position, _)| !sources.contains(&position.source));
            (self.block.header.positions, self.portions) = kept.unzip();
        }
    }

    /// The id that its lines had before; the next call gives none.
    pub fn take_replaced(&mut self) -> Option<BlockId> {
        self.replaces.take()
    }

    pub(super) fn replace(mut self, replaced: Option<BlockId>) -> Self {
        self.replaces = replaced;
        self
    }

    /// Its positions, and what they stand for.
    pub fn shares(&self) -> impl Iterator<Item = (&Position, Portion)> + Clone {
        self.block.header.positions.iter().zip(self.portions.iter().copied())
    }

    pub(super) fn take_portions(&mut self) -> Vec<Portion> {
        std::mem::take(&mut self.portions)
    }

    /// It was in a request that a gateway could not make out: it goes by itself, so that the bad one is
    /// found.
    pub fn isolate(&mut self) {
        self.alone = true;
    }

    /// Whether it is to be the only block of its request.
    #[must_use]
    pub fn is_alone(&self) -> bool {
        self.alone
    }

    /// Bytes of the whole frame.
    #[must_use]
    pub fn frame_len(&self) -> usize {
        self.head.len() + self.block.payload.len()
    }
}

impl Deref for Queued {
    type Target = Block;

    fn deref(&self) -> &Block {
        &self.block
    }
}
