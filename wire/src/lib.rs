//! What two Sluice processes say to each other: blocks one way, verdicts the other.
//!
//! ```text
//! agent ── POST /v1/push: frame frame frame … ──► gateway
//!       ◄── one verdict line for each frame ────
//!
//! frame = prelude (24 B, the same in every version) + header (who, where, what) + payload
//! payload = JSON lines, compressed: stored, sent on and delivered as they came
//! ```
//!
//! The bytes are specified in `docs/wire.md`; this crate is that document as code. It does no I/O,
//! reads no clock and trusts nothing it decodes: a lying length, count or checksum is an error that
//! names the field, never a panic and never an allocation larger than the limits in [`limits`].

pub mod block;
pub mod limits;
pub mod payload;
pub mod push;
pub mod record;
pub mod time;
pub mod verdict;

mod id;

pub use block::{Block, Category, Encoding, Header, Lane, Position, Stream};
pub use id::{BlockId, JournalId, ProducerId};
pub use verdict::{Reason, Verdict};
