//! One file: which one it is, whatever its name, and how far it has been read.

use std::fs::File;
use std::io;
use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use memchr::{memchr, memrchr};
use sluice_wire::Stream;
use xxhash_rust::xxh3::xxh3_64;

use super::{Key, Known, StartFrom};
use crate::block::Progress;
use crate::discover::layout::Age;

/// A runtime may flush its last bytes into a rotated file a moment after the rotation
/// (containerd `container_log_reopen.go`); that long it is looked at again.
pub(super) const LATE_BYTES: Duration = Duration::from_secs(10);

/// Of a file's first line, this many bytes at most make its fingerprint: a runtime's time with
/// nanoseconds is in them.
const FINGERPRINT: usize = 1024;

/// Which file it is while it exists. An open file's inode is not given to another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Identity {
    device: u64,
    inode: u64,
}

/// What came of looking at a path.
#[derive(Debug)]
pub(super) enum Opened {
    /// The log has this file already.
    Known(Identity),
    /// The log has it now.
    New(Identity),
    /// Nothing is there any more.
    Gone,
}

#[derive(Debug)]
pub(super) struct LogFile {
    /// `None` once it is read, stored and will not grow.
    pub(super) file: Option<File>,
    pub(super) identity: Identity,
    pub(super) path: PathBuf,
    pub(super) age: Age,
    /// Its short id over restarts; 0 until its first line is whole.
    pub(super) source: u64,
    /// Next byte to read.
    pub(super) read: u64,
    pub(super) size: u64,
    pub(super) progress: [Progress; 3],
    /// Read to its end, and a younger file follows.
    pub(super) finished_at: Option<Instant>,
    /// No directory lists it any more.
    pub(super) gone: bool,
    /// In the middle of a line that is longer than the buffer.
    pub(super) long: Option<LongLine>,
}

/// A line of which the beginning is gone through already.
#[derive(Debug, Clone, Copy)]
pub(super) struct LongLine {
    /// Whose it is and when it was; `None`: it had no header, and is stepped over.
    pub(super) head: Option<(Stream, i64)>,
    /// Parts so far.
    pub(super) parts: u32,
}

impl LogFile {
    /// Opens `path`. Its source is not known before [`LogFile::identify`].
    pub(super) fn open(path: &Path, age: &Age) -> io::Result<Option<Self>> {
        let file = match File::open(path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        let metadata = file.metadata()?;
        if !metadata.is_file() {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file"));
        }
        Ok(Some(Self {
            file: Some(file),
            identity: Identity { device: metadata.dev(), inode: metadata.ino() },
            path: path.to_owned(),
            age: age.clone(),
            source: 0,
            read: 0,
            size: metadata.len(),
            progress: [Progress::default(); 3],
            finished_at: None,
            gone: false,
            long: None,
        }))
    }

    pub(super) fn identity_of(path: &Path) -> io::Result<Option<(Identity, u64)>> {
        match std::fs::metadata(path) {
            Ok(metadata) => Ok(Some((Identity { device: metadata.dev(), inode: metadata.ino() }, metadata.len()))),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Finds out which source the file is and where to go on in it. Gives `false` while its first line
    /// is not whole: there is nothing to read before that.
    pub(super) fn identify(&mut self, key: &Key, start: StartFrom, known: &dyn Known) -> io::Result<bool> {
        if self.source != 0 {
            return Ok(true);
        }
        let Some(file) = &self.file else { return Ok(false) };
        let mut head = [0; FINGERPRINT];
        let length = read_up_to(file, &mut head, 0)?;
        let first_line = match memchr(b'\n', &head[..length]) {
            Some(newline) => &head[..=newline],
            None if length == FINGERPRINT => &head[..],
            None => return Ok(false),
        };
        self.source = source_id(&key.text(), xxh3_64(first_line));
        let resumed = [Stream::Whole, Stream::Stdout, Stream::Stderr].map(|stream| known.covered(self.source, stream));
        self.progress = resumed.map(Progress::from);
        let whole = if matches!(key, Key::Host(_)) { resumed[0] } else { resumed[1].min(resumed[2]) };
        // A stream that never wrote has no position: then the other's first line is where to begin,
        // and what lies before its own position is passed over line by line.
        self.read = whole;
        if start == StartFrom::End && resumed == [0; 3] {
            self.read = end_of_last_line(file, file.metadata()?.len())?;
            self.progress = [Progress::from(self.read); 3];
        }
        Ok(true)
    }

    /// Whether the file after it has its turn: this one was read to its end, and nothing came late.
    pub(super) fn is_finished(&self, now: Instant) -> bool {
        let Some(finished) = self.finished_at else { return false };
        self.size <= self.read || now.saturating_duration_since(finished) > LATE_BYTES
    }

    /// Fills `buffer` from where reading stands.
    pub(super) fn fill(&self, buffer: &mut [u8]) -> io::Result<usize> {
        match &self.file {
            Some(file) => read_up_to(file, buffer, self.read),
            None => Ok(0),
        }
    }

    /// Looks at its size again. Gives `true` where it became smaller than what was read: somebody
    /// truncated it, and it begins anew.
    pub(super) fn look(&mut self) -> io::Result<bool> {
        let Some(file) = &self.file else { return Ok(false) };
        self.size = file.metadata()?.len();
        if self.size >= self.read {
            return Ok(false);
        }
        self.source = 0;
        self.read = 0;
        self.progress = [Progress::default(); 3];
        self.long = None;
        self.finished_at = None;
        Ok(true)
    }

    /// Whether everything that was read of it is stored.
    pub(super) fn is_stored(&self, known: &dyn Known) -> bool {
        self.source == 0
            || [Stream::Whole, Stream::Stdout, Stream::Stderr]
                .into_iter()
                .all(|stream| known.acknowledged(self.source, stream) >= self.progress[stream as usize].covered)
    }
}

/// The short id of a source: the same over renames and restarts, different for every file.
#[must_use]
pub fn source_id(log: &str, fingerprint: u64) -> u64 {
    let mut text = Vec::with_capacity(log.len() + 8);
    text.extend_from_slice(log.as_bytes());
    text.extend_from_slice(&fingerprint.to_le_bytes());
    // 0 stands for "not known yet".
    xxh3_64(&text).max(1)
}

fn read_up_to(file: &File, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match file.read_at(&mut buffer[filled..], offset + filled as u64) {
            Ok(0) => break,
            Ok(count) => filled += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}

/// Where the last whole line of a file ends; looked for in its last 64 KiB.
fn end_of_last_line(file: &File, size: u64) -> io::Result<u64> {
    let mut tail = vec![0; 64 * 1024];
    let from = size.saturating_sub(tail.len() as u64);
    let length = read_up_to(file, &mut tail, from)?;
    Ok(memrchr(b'\n', &tail[..length]).map_or(from, |at| from + at as u64 + 1))
}
