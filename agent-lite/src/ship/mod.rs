//! Blocks to a gateway, verdicts back; or straight to a store.
//!
//! ```text
//! dispatch: which blocks, what a verdict means ─► pool: which connection ─► connection ─┬ gateway
//!                                                   ▲                                   └ direct: a store
//!                                       addresses ──┘                       over: transport, tls, proxy
//! ```

mod addresses;
mod body;
mod connection;
mod credential;
mod dead_letters;
mod direct;
mod dispatch;
mod gateway;
mod pool;
mod proxy;
mod tls;
mod transport;

pub use credential::Credential;
pub use direct::Store;
pub use dispatch::{Desk, Dispatch, Happening, Settings};
pub use pool::Settings as PoolSettings;
pub use proxy::Proxy;
pub use tls::TlsFiles;
pub use transport::{Endpoint, Peer, Protocol};
