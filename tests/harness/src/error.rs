//! One error for the whole harness: a test prints it and stops, so it only has to say what happened where.

use std::{io, path::Path, path::PathBuf};

pub type Result<T, E = Error> = std::result::Result<T, E>;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("{path}: {source}")]
    File { path: PathBuf, source: io::Error },
    #[error("{what}: {source}")]
    System { what: String, source: io::Error },
    #[error("{url}: {source}")]
    Http { url: String, source: reqwest::Error },
    #[error("{url}: answered {status}: {body}")]
    Status { url: String, status: u16, body: String },
    #[error("{path}: not a manifest of sluice-verify: {source}")]
    Manifest { path: PathBuf, source: serde_json::Error },
    #[error("part {part}: {reason}")]
    Part { part: String, reason: String },
    #[error("{program}: {reason}; the end of its output:\n{output}")]
    Program { program: String, reason: String, output: String },
    #[error("{what}: not within {seconds} s{last}")]
    Timeout { what: String, seconds: f64, last: String },
    #[error("{0}")]
    Config(String),
    #[error("books: {0}")]
    Books(String),
}

/// Names the file that an I/O error is about; without it "No such file" says nothing.
pub(crate) trait At<T> {
    fn at(self, path: &Path) -> Result<T>;
}

impl<T> At<T> for io::Result<T> {
    fn at(self, path: &Path) -> Result<T> {
        self.map_err(|source| Error::File { path: path.to_owned(), source })
    }
}
