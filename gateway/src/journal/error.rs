//! What can go wrong with the journal, in words that name the file.

use std::io;
use std::path::PathBuf;

use sluice_durable_log as durable_log;

use super::Position;

/// Why the journal could not be opened, read or saved.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A segmented log (journal, parking, batches) cannot be opened.
    #[error(transparent)]
    Open(#[from] durable_log::OpenError),
    /// A segment cannot be read at present; trying again is harmless.
    #[error(transparent)]
    Read(#[from] durable_log::ReadError),
    /// A file beside the segments cannot be read or written.
    #[error("cannot {action} {file}: check that the disk is well and has room", file = file.display())]
    File {
        /// What was tried, as a verb.
        action: &'static str,
        /// On which file.
        file: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The volume is smaller than the journal needs to free anything.
    #[error(
        "{directory}: the volume has {size} bytes, two segments take {needed}: give it a larger volume, or make journal.segment_bytes smaller",
        directory = directory.display()
    )]
    NoRoom {
        /// The journal's directory.
        directory: PathBuf,
        /// Bytes of the volume.
        size: u64,
        /// Bytes that it has to have.
        needed: u64,
    },
    /// The copy of an entry could not be stored; it stays where it is.
    #[error("cannot store a copy")]
    Copy(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// An entry that was handed out cannot be read again.
    #[error("entry {} of partition {} cannot be read any more: {reason}", position.index, position.partition)]
    Gone {
        /// Which.
        position: Position,
        /// Why.
        reason: String,
    },
    /// The system gave no thread.
    #[error("cannot start the journal's thread")]
    Thread(#[source] io::Error),
    /// The journal was closed.
    #[error("the journal is closed")]
    Closed,
}

impl Error {
    /// For `map_err` after a file operation.
    pub(crate) fn file(action: &'static str, file: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let file = file.into();
        move |source| Self::File { action, file, source }
    }
}
