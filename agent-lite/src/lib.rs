//! The agent's rooms, in the order in which a line passes them. `pipeline` alone knows them all.
//!
//! ```text
//! discover → tail ───► parse → record → block → ship ──► gateway
//!   files    lines      CRI     JSON    lanes    │
//!            entries ─┘         spool ◄► ring ◄──┤
//!           journal, kernel                      │
//!              ▲                                 │
//!              └───── checkpoint ◄──── verdict ──┘
//! ```

pub mod admin;
mod backoff;
pub mod block;
pub mod books;
pub mod checkpoint;
pub mod config;
pub mod discover;
pub mod enrich;
pub mod entries;
pub mod metrics;
pub mod parse;
pub mod pipeline;
pub mod record;
pub mod redact;
pub mod ring;
pub mod runtime;
pub mod ship;
pub mod spool;
pub mod tail;
pub mod verify;
