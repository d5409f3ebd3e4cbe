//! From a YAML file to [`checked::Config`], every fault named at once; and the part of it that is
//! reloaded while the gateway runs.

pub mod checked;
mod load;
mod reload;
#[cfg(test)]
pub(crate) mod testing;

pub use load::{Sources, load, load_text};
pub use reload::Reloader;
