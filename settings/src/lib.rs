//! Settings out of a YAML file: environment substituted, and every fault named at once, by its path,
//! with what was found, what is expected and the fix.
//!
//! ```text
//! text ──► syntax (bounded, no anchors) ──► substitute ${VAR} in scalars ──► Node ──► your struct
//!                          └──────────────── faults ◄──────────────────────────┘
//! ```
//!
//! The reader decides what a scalar is, not the YAML: `cluster: 007` read as [`Node::text`] is `007`,
//! and `port: "80"` read as [`Node::integer`] is 80. Substitution happens after the syntax is read and
//! in scalars only, so that no value of a variable can add a key.
//!
//! ```
//! use std::path::PathBuf;
//! use std::time::Duration;
//! use sluice_settings::Node;
//!
//! #[derive(Debug, PartialEq)]
//! struct Ship { url: String, max_age: Duration, token_file: Option<PathBuf> }
//!
//! impl Ship {
//!     fn read(node: &Node<'_>) -> Option<Self> {
//!         node.map(|map| {
//!             // Read everything before the first `?`, so that every fault is found.
//!             let url = map.required("url").text();
//!             let max_age = map.optional("max_age").duration(Duration::from_millis(50)..=Duration::from_secs(60));
//!             let token_file = map.optional("token_file").file();
//!             Some(Self { url: url?.to_owned(), max_age: max_age.unwrap_or(Duration::from_secs(1)), token_file })
//!         })
//!     }
//! }
//!
//! let env = |name: &str| (name == "HOST").then(|| "gateway".to_owned());
//! let ship = sluice_settings::from_str("url: http://${HOST}:${PORT:-7070}\nmax_age: 250ms", &env, Ship::read);
//! assert_eq!(ship.unwrap().url, "http://gateway:7070");
//!
//! let faults = sluice_settings::from_str("url: http://${HOTS}\nmax_aeg: 1s\ntoken_file: [a]", &env, Ship::read).unwrap_err();
//! assert_eq!(faults.to_string(), "\
//! url (line 1): the environment has no variable HOTS: set it, or write ${HOTS:-default}
//! max_aeg (line 2): there is no such key; did you mean `max_age`?
//! token_file (line 3): expected a path, found a list");
//! ```

mod fault;
mod nearest;
mod node;
mod reload;
mod substitute;
mod syntax;
pub mod units;

use std::cell::RefCell;
use std::io::Read as _;
use std::path::{Path, PathBuf};

pub use fault::{Fault, Faults};
pub use nearest::nearest;
pub use node::{Map, Node};
pub use reload::Status;

/// Bytes of a file, and of all its values after substitution.
pub const MAX_BYTES: usize = 1024 * 1024;
/// Lists and maps inside one another, of each notation (block and flow).
pub const MAX_DEPTH: usize = 32;

/// What `${NAME}` stands for; `None`: not set.
pub type Environment<'a> = dyn Fn(&str) -> Option<String> + 'a;

/// The environment of this process. A variable that is not UTF-8 counts as not set.
#[must_use]
pub fn environment(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

/// Reads settings out of `text`. `read` answers `None` only where it has met a fault.
///
/// # Errors
/// Every fault of the text, in the order of its lines.
pub fn from_str<T>(text: &str, env: &Environment<'_>, read: impl FnOnce(&Node<'_>) -> Option<T>) -> Result<T, Faults> {
    let (root, faults) = syntax::parse(text, env)?;
    let faults = RefCell::new(faults);
    let value = read(&Node::root(&root, &faults));
    match (value, Faults::sorted(faults.into_inner())) {
        (Some(value), None) => Ok(value),
        (_, Some(faults)) => Err(faults),
        (None, None) => Err(Fault::new("", 1, "nothing could be read from it").into()),
    }
}

/// Reads settings out of a file.
///
/// # Errors
/// The file cannot be read, is over [`MAX_BYTES`] or not UTF-8, or has faults; each names the file.
pub fn from_file<T>(
    path: &Path,
    env: &Environment<'_>,
    read: impl FnOnce(&Node<'_>) -> Option<T>,
) -> Result<T, FileError> {
    let text = read_file(path)?;
    from_str(&text, env, read).map_err(|faults| FileError::Faults { path: path.to_owned(), faults })
}

/// A file's text, within [`MAX_BYTES`].
///
/// # Errors
/// As [`from_file`], but for faults.
pub fn read_file(path: &Path) -> Result<String, FileError> {
    let unreadable = |source| FileError::Unreadable { path: path.to_owned(), source };
    let file = std::fs::File::open(path).map_err(unreadable)?;
    let mut bytes = Vec::new();
    file.take(MAX_BYTES as u64 + 1).read_to_end(&mut bytes).map_err(unreadable)?;
    if bytes.len() > MAX_BYTES {
        return Err(FileError::TooLarge { path: path.to_owned() });
    }
    String::from_utf8(bytes).map_err(|_| FileError::NotText { path: path.to_owned() })
}

/// Why settings could not be had from a file.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// The system refused.
    #[error("{}: cannot be read: {source}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// Over [`MAX_BYTES`].
    #[error("{}: is over the limit of {} for settings", path.display(), units::Bytes(MAX_BYTES as u64))]
    TooLarge {
        /// The file.
        path: PathBuf,
    },
    /// Not UTF-8.
    #[error("{}: is not UTF-8 text", path.display())]
    NotText {
        /// The file.
        path: PathBuf,
    },
    /// What it says is wrong.
    #[error("{}: {}\n{faults}", path.display(), faults.count())]
    Faults {
        /// The file.
        path: PathBuf,
        /// All of them.
        faults: Faults,
    },
}

#[cfg(test)]
mod tests;
