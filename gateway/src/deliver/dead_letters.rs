//! What a destination will never take, kept with its reason: `dead-letters/<destination>/<n>.jsonl`.
//!
//! One JSON object a line: `time` (when it was given up), `reason`, `tenant`, `category`, `identity`,
//! `cluster`, `node`, `namespace`, `position` (of the journal), and `record`: the record itself, as it
//! would have been delivered. A last line that is cut belongs to an entry that was not decided, and
//! comes again.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::Serialize;
use serde_json::value::RawValue;
use sluice_durable_log::io::{Access, File, Files};
use sluice_wire::time;

use super::destination::{RejectReason, Rejected};
use crate::journal::{Entry, Error};

/// A file is closed at this size, bytes.
const FILE_BYTES: u64 = 64 << 20;
/// Bytes written at once: what does not fit as a whole is kept as far as it does.
const PIECE_BYTES: usize = 256 << 10;

/// One dead letter: a line of the file, and its reason for the metric.
#[derive(Debug)]
pub(super) struct Letter {
    pub(super) reason: RejectReason,
    line: Vec<u8>,
}

#[derive(Serialize)]
struct Form<'a> {
    time: &'a str,
    reason: &'a str,
    tenant: &'a str,
    category: &'a str,
    identity: &'a str,
    cluster: &'a str,
    node: &'a str,
    namespace: &'a str,
    position: String,
    record: Record<'a>,
}

#[derive(Serialize)]
#[serde(untagged)]
enum Record<'a> {
    Json(&'a RawValue),
    Text(String),
}

impl Letter {
    /// The letter for one record of `entry`; `now` in nanoseconds since the epoch.
    pub(super) fn new(rejected: &Rejected, entry: &Entry, now: i64) -> Self {
        let header = &entry.block.header;
        let mut moment = Vec::new();
        time::write(now, &mut moment);
        let form = Form {
            time: std::str::from_utf8(&moment).unwrap_or_default(),
            reason: rejected.reason.word(),
            tenant: &entry.tenant,
            category: header.lane.category.word(),
            identity: &entry.identity,
            cluster: &header.cluster,
            node: &header.node,
            namespace: &header.lane.scope,
            position: format!("{}/{}", rejected.position.partition, rejected.position.index),
            record: match serde_json::from_slice(&rejected.line) {
                Ok(json) => Record::Json(json),
                Err(_) => Record::Text(String::from_utf8_lossy(&rejected.line).into_owned()),
            },
        };
        // Texts, and one value that was parsed: nothing in it can fail.
        let mut line = serde_json::to_vec(&form).unwrap_or_default();
        line.push(b'\n');
        Self { reason: rejected.reason, line }
    }
}

/// Why letters were not written; they are to be tried again.
#[derive(Debug, thiserror::Error)]
pub(super) enum NotWritten {
    #[error("dead letters take {bytes} of {max_bytes} bytes: replay or remove files in {dir}", dir = dir.display())]
    Full { bytes: u64, max_bytes: u64, dir: PathBuf },
    #[error(transparent)]
    File(#[from] Error),
}

/// One destination's dead letters.
#[derive(Debug)]
pub(super) struct DeadLetters {
    files: Arc<dyn Files>,
    dir: PathBuf,
    max_bytes: u64,
    /// The number of the next file.
    next: u64,
    active: Option<Active>,
    /// Bytes of all files as of the last look.
    bytes: u64,
}

#[derive(Debug)]
struct Active {
    file: Box<dyn File>,
    path: PathBuf,
    /// Bytes that are durable.
    length: u64,
}

impl DeadLetters {
    /// Those in `dir`, at most `max_bytes`.
    ///
    /// # Errors
    /// Where the directory cannot be made or listed.
    pub(super) fn open(files: Arc<dyn Files>, dir: &Path, max_bytes: u64) -> Result<Self, Error> {
        files.create_dir(dir).map_err(Error::file("create", dir))?;
        let mut this = Self { files, dir: dir.into(), max_bytes, next: 0, active: None, bytes: 0 };
        let names = this.measure()?;
        // Never appends to an older file, whose last line may be cut.
        this.next = names.iter().filter_map(|name| number_of(name)).max().map_or(0, |last| last + 1);
        Ok(this)
    }

    /// Bytes that they take.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Bytes that they may take.
    pub(super) fn max_bytes(&self) -> u64 {
        self.max_bytes
    }

    /// Writes letters, durably, piece by piece; returns how many were written, and why the others were not.
    pub(super) fn append(&mut self, letters: &[Letter]) -> (usize, Result<(), NotWritten>) {
        let mut written = 0;
        while written < letters.len() {
            let mut piece = Vec::new();
            let mut next = written;
            while let Some(letter) = letters.get(next)
                && (piece.is_empty() || piece.len() + letter.line.len() <= PIECE_BYTES)
            {
                piece.extend_from_slice(&letter.line);
                next += 1;
            }
            if let Err(error) = self.append_piece(&piece) {
                return (written, Err(error));
            }
            written = next;
        }
        (written, Ok(()))
    }

    fn append_piece(&mut self, lines: &[u8]) -> Result<(), NotWritten> {
        let fits = |this: &Self| this.bytes + lines.len() as u64 <= this.max_bytes;
        if !fits(self) {
            // Somebody may have taken files away.
            self.measure()?;
        }
        if !fits(self) {
            return Err(NotWritten::Full { bytes: self.bytes, max_bytes: self.max_bytes, dir: self.dir.clone() });
        }
        let active = match self.active.take_if(|active| active.length < FILE_BYTES) {
            Some(active) => active,
            None => self.begin()?,
        };
        // What fails leaves the file behind: the next attempt begins another one.
        let written = active.file.write_all_at(lines, active.length).and_then(|()| active.file.sync_data());
        written.map_err(Error::file("write", &active.path))?;
        self.bytes += lines.len() as u64;
        self.active = Some(Active { length: active.length + lines.len() as u64, ..active });
        Ok(())
    }

    fn begin(&mut self) -> Result<Active, Error> {
        let path = self.dir.join(format!("{:08}.jsonl", self.next));
        let file = self.files.open(&path, Access::Create).map_err(Error::file("create", &path))?;
        self.files.sync_dir(&self.dir).map_err(Error::file("sync", &self.dir))?;
        self.next += 1;
        Ok(Active { file, path, length: 0 })
    }

    /// Adds up what is there; returns the names.
    fn measure(&mut self) -> Result<Vec<String>, Error> {
        let names = self.files.list(&self.dir).map_err(Error::file("list", &self.dir))?;
        self.bytes = 0;
        for name in names.iter().filter(|name| number_of(name).is_some()) {
            let path = self.dir.join(name);
            let size = self.files.open(&path, Access::Read).and_then(|file| file.size());
            self.bytes += size.map_err(Error::file("measure", &path))?;
        }
        Ok(names)
    }
}

fn number_of(name: &str) -> Option<u64> {
    name.strip_suffix(".jsonl")?.parse().ok()
}

#[cfg(test)]
mod tests;
