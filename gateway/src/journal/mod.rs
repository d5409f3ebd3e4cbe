//! The durable buffer between admission and delivery: one trait, written so that a Kafka topic can
//! stand behind it as well as the embedded log.
//!
//! What is a duplicate is a function of the log (rule 5): a block whose number is not above the
//! highest of its lane at a lower position of the same partition is one, whoever looks and whenever.

use std::sync::Arc;

use sluice_wire::{Block, JournalId};

mod checked_file;
mod commit;
mod cursor;
mod embedded;
pub mod entry;
mod error;
mod lanes;
mod parking;
mod pins;
mod room;
mod sizes;
mod snapshots;
mod subscription;

pub use cursor::Totals;
pub(crate) use embedded::Subscriber;
pub use embedded::{Embedded, Fill};
pub use error::Error;
pub use subscription::EmbeddedSubscription;

/// The partition of entries that a destination has parked; their indexes are those of its parking log.
pub const PARKED: u32 = u32::MAX;

/// A place in the journal. The embedded journal has partition 0 only.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Position {
    /// Partition.
    pub partition: u32,
    /// Dense within the partition, from 0.
    pub index: u64,
}

/// A block as it was admitted: everything that decides its further way is stored with it (rule 8).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Whose it is.
    pub tenant: Arc<str>,
    /// Where it goes, by name.
    pub destinations: Vec<Arc<str>>,
    /// The version of the policy that said so.
    pub policy: u64,
    /// Who sent it.
    pub identity: Arc<str>,
    /// When it was admitted, nanoseconds since the epoch: the log's time.
    pub received: i64,
    /// Header and payload as they came.
    pub block: Block,
}

/// What became of one entry of an append.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Appended {
    /// Durable.
    Stored(Position),
    /// An earlier entry has this number of its lane, or a higher one, and is durable.
    Duplicate,
    /// An earlier entry of the same lane in the same call was neither stored nor a duplicate; this one
    /// was not tried.
    Behind,
    /// No room; nothing was written.
    Full,
    /// The journal cannot be written to at present; nothing was written.
    Unavailable,
    /// The write or its fsync failed, or timed out: it may be there.
    Unknown,
}

impl Appended {
    /// The word in metrics.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Stored(_) => "stored",
            Self::Duplicate => "duplicate",
            Self::Behind => "behind",
            Self::Full => "full",
            Self::Unavailable => "unavailable",
            Self::Unknown => "unknown",
        }
    }
}

/// What a destination has made of one entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// It has it.
    Delivered,
    /// It will never take it: kept as a dead letter.
    Rejected,
    /// Copied to the parking log, to be delivered from there.
    Parked,
}

/// What comes out of a subscription, in the order of the log.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(clippy::large_enum_variant, reason = "nearly every event is an entry")]
pub enum Event {
    /// An entry that is routed to the destination and is no duplicate.
    Entry(Position, Entry),
    /// Entries `first..next` of a partition cannot be read any more: damaged, or overtaken by retention.
    Lost {
        /// The first of them.
        first: Position,
        /// The first after them.
        next: u64,
        /// In words, for the log.
        reason: String,
    },
}

/// Where blocks are kept until every destination has decided them.
pub trait Journal: Send + Sync + 'static {
    /// How one destination reads it.
    type Subscription: Subscription;

    /// The journal that agents ask for by id (rule 7).
    fn id(&self) -> JournalId;

    /// Stores entries, in order; answers when each is durable or decided otherwise. Dropping the future
    /// does not undo it.
    fn append(&self, entries: Vec<Entry>) -> impl Future<Output = Vec<Appended>> + Send;

    /// Reads for `destination` from its own saved cursor on; a destination without one starts at the
    /// oldest entry that names it. One subscription at a time for each destination.
    ///
    /// # Errors
    /// In words that name the file and the fix.
    fn subscribe(&self, destination: &str) -> Result<Self::Subscription, Error>;
}

/// One destination's view of the journal: reads ahead, decides in any order, and saves a cursor that
/// is the contiguous prefix of what is decided, with the decisions above it and the destination's own
/// state, all at once.
pub trait Subscription: Send + 'static {
    /// The next event; waits for one. Cancel safe. Waits as well while the decisions are scattered over
    /// too many ranges: decide the oldest entries, then call again.
    ///
    /// # Errors
    /// Where the journal cannot be read at present, or was closed.
    fn next(&mut self) -> impl Future<Output = Result<Event, Error>> + Send;

    /// Reads one entry again (to send it once more).
    ///
    /// # Errors
    /// [`Error::Gone`] where it cannot be read any more.
    fn read(&mut self, position: Position) -> Result<Entry, Error>;

    /// Notes what became of an entry. Not durable before [`Subscription::save`].
    fn decide(&mut self, position: Position, outcome: Outcome);

    /// Notes that an entry, handed out before, cannot be read any more.
    fn lose(&mut self, position: Position, reason: &str);

    /// Whether an entry is decided, or lost.
    fn is_decided(&self, position: Position) -> bool;

    /// The destination's own state as last saved.
    fn state(&self) -> Option<&[u8]>;

    /// Makes all decisions so far durable together with `state`.
    ///
    /// # Errors
    /// The last saved cursor stands; what is decided is still known and goes with the next save.
    fn save(&mut self, state: &[u8]) -> impl Future<Output = Result<(), Error>> + Send;

    /// Whether the saved cursor is where this one is. Entries of others move it without an event: a
    /// destination that nothing is routed to has to save as well, or it would pin the journal for ever.
    fn is_saved(&self) -> bool;

    /// How many entries are not decided, and how much lies from the first of them on.
    fn lag(&self) -> Lag;

    /// What was decided over the life of the cursor.
    fn totals(&self) -> Totals;

    /// Copies entries to the destination's parking log, durably, and decides them as parked: the journal
    /// need not keep them any more. They come out of [`next_parked`](Self::next_parked) as entries of
    /// partition [`PARKED`]. Stops where the parking log is full, or something fails after some were parked.
    /// Parked ones among `positions` are left.
    ///
    /// # Errors
    /// None of them is parked.
    fn park(&mut self, positions: &[Position]) -> Result<Parked, Error>;

    /// The next parked entry that is not decided and was not handed out since the last
    /// [`rewind_parked`](Self::rewind_parked); does not wait. `None` as well while the decisions on parked
    /// entries are scattered over too many ranges: the oldest have to be decided first.
    ///
    /// # Errors
    /// Where the parking log cannot be read at present.
    fn next_parked(&mut self) -> Result<Option<Event>, Error>;

    /// Whether [`next_parked`](Self::next_parked) has not come to the end.
    fn has_parked(&self) -> bool;

    /// Begins again with the oldest parked entry that is not decided.
    fn rewind_parked(&mut self);

    /// What is parked and not decided; bytes are those that the parking log takes.
    fn parked(&self) -> Lag;

    /// Bytes that the parking log may take.
    fn parked_limit(&self) -> u64;

    /// Where an entry is now that was parked just before a crash, after whoever asks had noted its old
    /// place.
    fn moved(&self, position: Position) -> Option<Position>;
}

/// What became of a call to [`Subscription::park`].
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Parked {
    /// Old and new place of each entry that was copied.
    pub moved: Vec<(Position, Position)>,
    /// There was no room for the rest.
    pub full: bool,
}

/// How far a destination is behind.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Lag {
    /// Entries that are not decided.
    pub entries: u64,
    /// Bytes of the journal from the cursor on.
    pub bytes: u64,
}
