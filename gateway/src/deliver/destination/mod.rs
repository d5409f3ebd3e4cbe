//! What a kind of destination has to be able to do, and the six outcomes that every answer is mapped to.

pub(super) mod file;
pub(super) mod victorialogs;

use std::time::Duration;

use super::batch::Batch;
use crate::journal::Position;

/// How a destination wants its batches.
#[derive(Debug, Clone)]
pub(super) struct Terms {
    /// Compressed bytes of a batch; a single entry may be larger.
    pub(super) batch_bytes: usize,
    /// Raw bytes of a batch.
    pub(super) batch_raw_bytes: usize,
    /// Age of a batch's first entry.
    pub(super) batch_age: Duration,
    /// Batches under way at once.
    pub(super) concurrency: usize,
    /// Entries go out in the order of the journal; a batch that fails stops all.
    pub(super) ordered: bool,
    /// One batch may hold blocks of several encodings.
    pub(super) mixes_encodings: bool,
    /// What happens after the destination said yes.
    pub(super) trailing: Trailing,
}

/// How far a yes can be believed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Trailing {
    /// It is durable.
    Final,
    /// It is after this time, as far as anybody can tell.
    Wait(Duration),
    /// After this time the destination can be asked how much of the batch it has.
    Count(Duration),
}

/// How much of a batch is to be sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mode {
    /// All of it, as it came.
    Whole,
    /// What the destination does not have.
    Missing,
    /// Nothing: it was answered and not kept time after time. What the destination does not have is rejected.
    GiveUp,
    /// Line by line if need be: something in it is refused.
    Lines,
}

/// What became of one attempt.
#[derive(Debug)]
pub(super) enum Outcome {
    /// The destination has it, but for the records that it will never take.
    Delivered(Receipt),
    /// Not now. Nothing of it was stored.
    Retry(Refusal),
    /// It may be there, or a part of it.
    Unknown(Refusal),
    /// A mistake in configuration or rights: nothing goes until somebody mends it.
    Hold(Refusal),
    /// Something in it is refused, or it is too large: in smaller parts. Nothing of it was stored.
    Split(Refusal),
}

impl Outcome {
    /// The word in metrics.
    pub(super) fn word(&self) -> &'static str {
        match self {
            Self::Delivered(_) => "delivered",
            Self::Retry(_) => "retry",
            Self::Unknown(_) => "unknown",
            Self::Hold(_) => "hold",
            Self::Split(_) => "split",
        }
    }
}

/// What was said.
#[derive(Debug)]
pub(super) struct Refusal {
    /// In words, for the log and the readiness page.
    pub(super) why: String,
    /// `Retry-After`.
    pub(super) after: Option<Duration>,
}

impl Refusal {
    pub(super) fn new(why: impl Into<String>) -> Self {
        Self { why: why.into(), after: None }
    }
}

/// What a destination has of a batch.
#[derive(Debug, Default)]
pub(super) struct Receipt {
    /// Records that it holds of this batch now.
    pub(super) stored: u64,
    /// Records that it will never take.
    pub(super) rejected: Vec<Rejected>,
}

/// One record, or one entry as a whole, that a destination will never take.
#[derive(Debug)]
pub(super) struct Rejected {
    /// The entry.
    pub(super) position: Position,
    /// Why; a word out of a closed list, as a label.
    pub(super) reason: RejectReason,
    /// The record's line, without its newline.
    pub(super) line: bytes::Bytes,
}

/// Why a record is a dead letter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum RejectReason {
    /// Older than the destination keeps.
    OutsideRetention,
    /// Further ahead than the destination takes.
    InTheFuture,
    /// The destination refused it by itself.
    Refused,
    /// The destination said yes to it several times, and does not have it.
    NotKept,
    /// Its block cannot be decompressed, though its checksums hold.
    Undecodable,
}

impl RejectReason {
    pub(super) const fn word(self) -> &'static str {
        match self {
            Self::OutsideRetention => "outside-retention",
            Self::InTheFuture => "in-the-future",
            Self::Refused => "refused",
            Self::NotKept => "not-kept",
            Self::Undecodable => "undecodable",
        }
    }
}

/// A batch whose records are to be counted.
#[derive(Debug, Clone, Copy)]
pub(super) struct Asked {
    pub(super) id: super::batch::BatchId,
    pub(super) first_time: i64,
    pub(super) last_time: i64,
}

/// One kind of destination. It runs on a thread of its own and may block it.
pub(super) trait Destination: 'static {
    fn terms(&self) -> Terms;

    /// Sends a batch whose entries are loaded.
    fn send(&self, batch: &Batch, mode: Mode) -> impl Future<Output = Outcome>;

    /// How many records it has of each of these batches of one tenant. Asked only under
    /// [`Trailing::Count`].
    fn count(&self, tenant: &str, asked: &[Asked]) -> impl Future<Output = Result<Vec<u64>, Refusal>>;

    /// What it wants to find again after a restart. Saved in one piece with the decisions.
    fn state(&self) -> Vec<u8>;
}
