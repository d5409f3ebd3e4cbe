//! Blocks to a gateway, verdicts back.

mod body;
mod connection;
mod dead_letters;
mod dispatch;
mod tls;

pub use connection::Endpoint;
pub use dispatch::{Desk, Dispatch, Happening, Settings};
pub use tls::TlsFiles;
