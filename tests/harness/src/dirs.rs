//! Directories for a test: gone when it passes, kept when it fails.

use std::{
    path::{Path, PathBuf},
    thread,
};

use tempfile::TempDir;

use crate::error::{At, Result};

#[derive(Debug)]
pub struct TestDir {
    // Always there but while being dropped.
    dir: Option<TempDir>,
}

impl TestDir {
    /// # Errors
    /// When the directory for temporary files takes no more.
    pub fn new(test: &str) -> Result<Self> {
        let dir = tempfile::Builder::new().prefix(&format!("sluice-{test}-")).tempdir();
        Ok(Self { dir: Some(dir.at(&std::env::temp_dir())?) })
    }

    /// # Panics
    /// Never while the directory lives.
    #[must_use]
    pub fn path(&self) -> &Path {
        self.dir.as_ref().expect("there until dropped").path()
    }

    #[must_use]
    pub fn join(&self, name: impl AsRef<Path>) -> PathBuf {
        self.path().join(name)
    }
}

impl Drop for TestDir {
    fn drop(&mut self) {
        if let Some(dir) = self.dir.take().filter(|_| thread::panicking()) {
            eprintln!("the test's files are kept in {}", dir.keep().display());
        }
    }
}
