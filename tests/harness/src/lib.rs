//! What the tests and benchmarks of Sluice share: a writer of numbered log lines, a checker that asks the
//! destination for every one of them, and the real components that stand at both ends.
//!
//! ```text
//!  write ──► <ns>_<pod>_<uid>/<container>/0.log …  ──► agent ──► gateway ──► files, VictoriaLogs ──► check
//!    └────► manifest.json (who wrote how many) ─────────────────────────────────────────────────────────┘
//! ```
//!
//! The idea that everything rests on: what a line looks like is a pure function ([`shape`]) of the run's seed
//! and the line's own number. The writer renders it, the checker computes it again, and nothing but counts
//! passes between them. Each line's text ([`line`](mod@line)) carries its number, the time of writing and a
//! checksum, so that a line that was lost, repeated, cut or glued is told from one that is whole.
//!
//! - Lines: [`line`](mod@line), [`shape`], [`manifest`], [`write`](mod@write), [`check`], and [`sink`] for benchmarks.
//! - Components: [`parts`] installs them, [`victorialogs`] and [`process`] run them, [`metrics`] watches them.
//! - Documents: [`guide`] has the commands that they give.

pub mod books;
pub mod check;
pub mod dirs;
pub mod error;
pub mod guide;
pub mod latency;
pub mod line;
pub mod manifest;
pub mod metrics;
pub mod parts;
pub mod ports;
pub mod process;
pub mod shape;
pub mod sink;
pub mod victorialogs;
pub mod write;

mod bitset;
mod http;

pub use error::{Error, Result};
