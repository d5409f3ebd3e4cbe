//! Directories of a run, gone with it.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Context as _;

/// `verify-<run>`, below the state directory: what a hardened pod can write to. Where that is not there or
/// somebody else's, below the system's directory for temporary files.
#[derive(Debug)]
pub(super) struct Scratch(PathBuf);

impl Scratch {
    pub(super) fn new(state: &Path, id: &str) -> anyhow::Result<Self> {
        let name = format!("sluice-verify-{id}");
        let (below_state, temporary) = (state.join(&name), std::env::temp_dir().join(&name));
        let made = fs::create_dir(&below_state).map(|()| below_state);
        let directory = made.or_else(|_| fs::create_dir(&temporary).map(|()| temporary)).with_context(|| {
            format!(
                "no directory can be made, neither in {} nor in {}: run it as the agent's user, or set TMPDIR",
                state.display(),
                std::env::temp_dir().display()
            )
        })?;
        let scratch = Self(directory);
        for directory in [scratch.state(), scratch.pods()] {
            fs::create_dir(&directory).with_context(|| directory.display().to_string())?;
        }
        Ok(scratch)
    }

    /// Its state directory.
    pub(super) fn state(&self) -> PathBuf {
        self.0.join("state")
    }

    /// Its pods' logs.
    pub(super) fn pods(&self) -> PathBuf {
        self.0.join("pods")
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir_all(&self.0) {
            tracing::error!(path = %self.0.display(), %error, "the test's directory cannot be removed, please do");
        }
    }
}
