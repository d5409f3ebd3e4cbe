//! The gateway's rooms, in the order in which a block passes them.
//!
//! ```text
//! authenticate → receive → assign → limit → route → journal ─┬► deliver → destination (VictoriaLogs)
//!   who sends     frames,    tenant   bytes,   where   durable ├► deliver → destination (files)
//!                 checks              lines                    └► …
//! ```

pub mod admin;
pub mod assign;
pub mod authenticate;
pub mod config;
pub mod deliver;
pub mod journal;
pub mod limit;
pub mod metrics;
pub mod pipeline;
pub mod receive;
pub mod route;
pub mod serve;

mod causes;
