//! One error for the whole program: who runs a benchmark reads it and starts again.

use std::{io, path::Path, path::PathBuf};

pub(crate) type Result<T, E = Error> = std::result::Result<T, E>;

#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error(transparent)]
    Harness(#[from] sluice_harness::Error),
    #[error("{path}: {source}")]
    File { path: PathBuf, source: io::Error },
    #[error("{what}: {source}")]
    System { what: &'static str, source: io::Error },
    #[error("API server: {0:#}")]
    Kube(anyhow::Error),
    #[error("{0}")]
    Setup(String),
    #[error("interrupted")]
    Interrupted,
}

/// Names the file that an I/O error is about.
pub(crate) trait At<T> {
    fn at(self, path: &Path) -> Result<T>;
}

impl<T> At<T> for io::Result<T> {
    fn at(self, path: &Path) -> Result<T> {
        self.map_err(|source| Error::File { path: path.to_owned(), source })
    }
}
