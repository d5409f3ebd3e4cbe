//! How many bytes of its source a block accounts for.

use bytes::{Buf as _, Bytes};

/// What a block's position stands for, in bytes of its source.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Portion {
    /// Of lines that are in the block.
    pub taken: u64,
    /// Of lines between them that were left out, by reason. They are decided with the block: of what is not
    /// stored, a later run may leave out others.
    pub left_out: [u64; Portion::REASONS],
}

impl Portion {
    /// Reasons to leave a line out.
    pub const REASONS: usize = 4;
    /// Bytes that it takes in ring and spool.
    pub const LEN: usize = 8 * (1 + Self::REASONS);

    /// Of one line that is in the block.
    #[must_use]
    pub fn of(taken: u64) -> Self {
        Self { taken, ..Self::default() }
    }

    /// All bytes.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.taken + self.left_out.iter().sum::<u64>()
    }

    /// Appends it, [`Portion::LEN`] bytes, as ring and spool keep it.
    pub fn write(&self, out: &mut Vec<u8>) {
        let numbers = std::iter::once(self.taken).chain(self.left_out);
        numbers.for_each(|bytes| out.extend_from_slice(&bytes.to_le_bytes()));
    }

    /// Reads one. There are [`Portion::LEN`] bytes.
    pub fn read(from: &mut Bytes) -> Self {
        Self { taken: from.get_u64_le(), left_out: std::array::from_fn(|_| from.get_u64_le()) }
    }
}

impl std::ops::AddAssign for Portion {
    fn add_assign(&mut self, other: Self) {
        self.taken += other.taken;
        self.left_out.iter_mut().zip(other.left_out).for_each(|(mine, others)| *mine += others);
    }
}
