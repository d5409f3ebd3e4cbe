//! What blocks are called.

use sluice_wire::{BlockId, ProducerId};

use super::Snapshot;

/// Numbers reserved ahead of their use: enough for hours without a checkpoint.
const RESERVE: u64 = 1 << 20;
/// Numbers that one request may need: more than its blocks and their pieces.
const REQUEST: u64 = 1 << 14;

/// Numbers of blocks: rising, reserved durably ahead, never used twice (rule 2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Numbers {
    /// Whose they are.
    pub producer: ProducerId,
    pub(super) next: u64,
    pub(super) reserved: u64,
}

impl Numbers {
    /// A new producer, with no number reserved.
    #[must_use]
    pub fn draw() -> Self {
        Self { producer: ProducerId(rand::random()), next: 1, reserved: 1 }
    }

    /// The next number. Where none is reserved a new producer is drawn, because a number that is not
    /// reserved durably would be used again after a crash: nobody can come back under an id that no
    /// checkpoint has named. The next checkpoint names it, and reserves for it.
    pub fn take(&mut self) -> BlockId {
        if self.next >= self.reserved {
            self.renew();
        }
        self.next += 1;
        BlockId { producer: self.producer, number: self.next - 1 }
    }

    /// Whose number [`Numbers::take`] gives next, and for as many blocks as a request has.
    pub fn current(&mut self) -> ProducerId {
        if self.next.saturating_add(REQUEST) > self.reserved {
            self.renew();
        }
        self.producer
    }

    fn renew(&mut self) {
        *self = Self { reserved: u64::MAX, ..Self::draw() };
    }

    /// Up to where a checkpoint written now reserves.
    pub(super) fn to_reserve(self) -> u64 {
        self.next.saturating_add(RESERVE)
    }

    /// Notes that a checkpoint with these numbers is durable.
    pub fn reserved(&mut self, by: &Snapshot) {
        if by.producer == self.producer {
            // Also downwards: what was drawn without a reservation has one from now on.
            self.reserved = by.reserved;
        }
    }
}
