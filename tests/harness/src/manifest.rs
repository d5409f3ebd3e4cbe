//! What a run of the writer leaves for the checker: who wrote how many lines, and by which rules.

use std::{fs, path::Path};

use serde::{Deserialize, Serialize};

use crate::{
    error::{At, Error, Result},
    line::Stream,
    shape::Mix,
};

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Manifest {
    pub run: u32,
    /// What the agent is to put on every record.
    pub cluster: String,
    pub environment: String,
    pub mix: Mix,
    pub sources: Vec<Source>,
    /// Bytes in CRI form, over all files.
    pub cri_bytes: u64,
    /// Set by a writer that came to its end; without it, lines may follow that are not counted here yet.
    pub complete: bool,
}

/// One container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Source {
    pub namespace: String,
    pub pod: String,
    pub uid: String,
    pub container: String,
    pub stdout: u64,
    pub stderr: u64,
}

impl Source {
    /// How many lines were written to `stream`: their numbers are 0 up to this.
    #[must_use]
    pub fn lines(&self, stream: Stream) -> u64 {
        match stream {
            Stream::Stdout => self.stdout,
            Stream::Stderr => self.stderr,
        }
    }

    pub(crate) fn lines_mut(&mut self, stream: Stream) -> &mut u64 {
        match stream {
            Stream::Stdout => &mut self.stdout,
            Stream::Stderr => &mut self.stderr,
        }
    }
}

impl Manifest {
    #[must_use]
    pub fn lines(&self) -> u64 {
        self.sources.iter().map(|source| source.stdout + source.stderr).sum()
    }

    /// # Errors
    /// When the file cannot be read or is no manifest.
    pub fn load(path: &Path) -> Result<Self> {
        let bytes = fs::read(path).at(path)?;
        serde_json::from_slice(&bytes).map_err(|source| Error::Manifest { path: path.to_owned(), source })
    }

    /// Replaces the file as a whole: a reader finds the old state or the new, never half of one.
    ///
    /// # Errors
    /// When the file or its neighbour `*.tmp` cannot be written.
    pub fn save(&self, path: &Path) -> Result<()> {
        let unfinished = path.with_added_extension("tmp");
        let json = serde_json::to_vec_pretty(self).expect("a manifest has only string keys");
        fs::write(&unfinished, json).at(&unfinished)?;
        fs::rename(&unfinished, path).at(path)
    }
}
