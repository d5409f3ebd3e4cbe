//! A cut block on its way: which number it has, and whether somebody may hold it already.

use std::ops::Deref;

use bytes::Bytes;
use sluice_wire::block::OverLimit;
use sluice_wire::{Block, JournalId, ProducerId};

/// A block in its lane's queue.
#[derive(Debug, Clone)]
pub struct Queued {
    block: Block,
    /// Prelude and header as they are sent; empty while the block has no number.
    head: Bytes,
    doubt: Option<Doubt>,
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
    pub(super) fn new(block: Block) -> Self {
        Self { block, head: Bytes::new(), doubt: None }
    }

    /// A block out of the ring: it was sent, and nobody knows what became of it.
    ///
    /// # Errors
    /// Never for a block that was read from a frame.
    pub fn in_doubt(block: Block, doubt: Doubt) -> Result<Self, OverLimit> {
        let mut queued = Self::new(block);
        queued.render()?;
        queued.doubt = Some(doubt);
        Ok(queued)
    }

    /// Gives it a number. To be called on a block that has none.
    ///
    /// # Errors
    /// A name in the header is too long.
    pub fn give_number(&mut self, producer: ProducerId, number: u64) -> Result<(), OverLimit> {
        debug_assert!(self.head.is_empty(), "a number is given once");
        self.block.header.lane.producer = producer;
        self.block.header.number = number;
        self.render()
    }

    fn render(&mut self) -> Result<(), OverLimit> {
        let mut head = Vec::with_capacity(256 + self.block.header.positions.len() * 25);
        self.block.header.write(self.block.payload.len(), &mut head)?;
        self.head = head.into();
        Ok(())
    }

    /// Its number, once it has one.
    #[must_use]
    pub fn number(&self) -> Option<u64> {
        (!self.head.is_empty()).then_some(self.block.header.number)
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

    /// Takes number and doubt away: every attempt was definitely refused, or the doubt was given up.
    /// Gives the number that must not be sent any more.
    pub fn renumber(&mut self) -> Option<u64> {
        let number = self.number();
        self.head = Bytes::new();
        self.doubt = None;
        number
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
