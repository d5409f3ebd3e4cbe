//! Blocks that no gateway will ever take, kept on the node with their reason.

use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use serde::Serialize;
use sluice_wire::payload::Checker;
use sluice_wire::{Block, time};

const FILE: &str = "dead-letters.jsonl";

/// A file of JSON lines, one for each block.
#[derive(Debug)]
pub(super) struct DeadLetters {
    path: PathBuf,
    max_bytes: u64,
    checker: Checker,
}

#[derive(Serialize)]
struct Letter<'a> {
    at: String,
    reason: String,
    category: &'static str,
    namespace: &'a str,
    producer: String,
    number: u64,
    lines: Vec<std::borrow::Cow<'a, str>>,
}

impl DeadLetters {
    /// In `state`, at most `max_bytes` large: past that a lane waits rather than lose a line.
    #[must_use]
    pub(super) fn new(state: &Path, max_bytes: u64) -> Self {
        Self { path: state.join(FILE), max_bytes, checker: Checker::default() }
    }

    /// Keeps a block; durable when it returns.
    ///
    /// # Errors
    /// The file is full, or the file system's.
    pub(super) fn keep(&mut self, block: &Block, reason: &str, wall_ns: i64) -> io::Result<()> {
        let header = &block.header;
        let raw = self
            .checker
            .decode(header.encoding, header.raw_len as usize, &block.payload)
            .map_err(|reason| io::Error::new(io::ErrorKind::InvalidData, reason.word()))?;
        let mut at = Vec::new();
        time::write(wall_ns, &mut at);
        let letter = Letter {
            at: String::from_utf8_lossy(&at).into_owned(),
            reason: reason.to_owned(),
            category: header.lane.category.word(),
            namespace: &header.lane.scope,
            producer: header.lane.producer.to_string(),
            number: header.number,
            lines: raw
                .split(|byte| *byte == b'\n')
                .filter(|line| !line.is_empty())
                .map(String::from_utf8_lossy)
                .collect(),
        };
        let mut line = serde_json::to_vec(&letter)?;
        line.push(b'\n');
        let mut file: File = OpenOptions::new().create(true).append(true).open(&self.path)?;
        if file.metadata()?.len() + line.len() as u64 > self.max_bytes {
            let full =
                format!("{} is full ({} bytes): look at it, then move it away", self.path.display(), self.max_bytes);
            return Err(io::Error::new(io::ErrorKind::StorageFull, full));
        }
        file.write_all(&line)?;
        file.sync_data()
    }
}
