//! Configurations for the tests of every room.

use std::path::Path;

use sluice_settings::FileError;

use super::checked::{Config, Policy};
use super::{Sources, load_text};

fn env(name: &str) -> Option<String> {
    (name == "TOKEN_A").then(|| "secret-a".to_owned()).or_else(|| (name == "TOKEN_B").then(|| "secret-b".to_owned()))
}

fn file(path: &Path) -> Result<String, FileError> {
    let unreadable = || FileError::Unreadable { path: path.to_owned(), source: std::io::ErrorKind::NotFound.into() };
    path.to_str()
        .and_then(|path| path.strip_prefix("/tokens/"))
        .map(|name| format!("secret-{name}\n"))
        .ok_or_else(unreadable)
}

/// `TOKEN_A` and `TOKEN_B` in the environment, a file for every name under `/tokens/`.
pub(crate) const SOURCES: Sources<'static> = Sources { env: &env, file: &file };

/// The smallest that does something.
pub(crate) const SMALL: &str = "
push: {address: '127.0.0.1:0'}
journal: {directory: /var/lib/sluice/journal}
destinations:
  - {name: local, file: {directory: /var/lib/sluice/logs}}
  - {name: logs, victorialogs: {url: 'http://vmauth:8427'}}
policy:
";

/// Reads a text.
pub(crate) fn config(text: &str) -> Config {
    load_text(text, SOURCES).unwrap_or_else(|faults| panic!("{faults}"))
}

/// A policy, below [`SMALL`], whose destinations are `local` and `logs`.
pub(crate) fn policy(text: &str) -> Policy {
    let indented: String = text.lines().map(|line| format!("  {line}\n")).collect();
    config(&format!("{SMALL}{indented}")).policy
}
