//! One file: which one it is, whatever its name, and how far it has been read.

use std::fs::{File, Metadata, OpenOptions};
use std::io;
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, UNIX_EPOCH};

use memchr::{memchr, memrchr};
use rustix::fs::OFlags;
use sluice_wire::{Stream, time};
use xxhash_rust::xxh3::{Xxh3, xxh3_64};

use super::books::Abandoned;
use super::content::{Content, read_up_to};
use super::{Key, Known, StartFrom};
use crate::block::{Portion, Progress};
use crate::discover::is_rotation;
use crate::discover::layout::Age;
use crate::parse::{Runtime, cri, docker, leading_nuls};

/// A runtime may flush its last bytes into a rotated file a moment after the rotation
/// (containerd `container_log_reopen.go`); that long it is looked at again.
pub(super) const LATE_BYTES: Duration = Duration::from_secs(10);
/// A daemon writes to its renamed file until somebody tells it to open the new one, which logrotate does
/// once it is through with all files.
pub(super) const LATE_HOST_BYTES: Duration = Duration::from_secs(300);

/// Of a file's first line, this many bytes at most make its fingerprint: a runtime's time with
/// nanoseconds is in them.
const FINGERPRINT: usize = 1024;

/// Which file it is while it exists. An open file's inode is not given to another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Identity {
    device: u64,
    inode: u64,
}

/// What came of looking at a path where something is.
#[derive(Debug)]
pub(super) enum Opened {
    /// The log has this file already.
    Known(Identity),
    /// The log has it now.
    New(Identity),
}

impl Opened {
    pub(super) fn identity(&self) -> Identity {
        match self {
            Self::Known(identity) | Self::New(identity) => *identity,
        }
    }
}

#[derive(Debug)]
pub(super) struct LogFile {
    /// `None` once it is read, stored and will not grow, or was given up.
    pub(super) content: Option<Content>,
    pub(super) identity: Identity,
    pub(super) path: PathBuf,
    pub(super) age: Age,
    /// What it is called as long as it is never truncated; 0 until its first line is whole.
    base: u64,
    /// Its short id over restarts, another one after each truncation; 0 until its first line is whole.
    pub(super) source: u64,
    /// Which runtime writes it, if one does.
    pub(super) runtime: Runtime,
    /// A whole line of it has shown so.
    pub(super) has_shown_runtime: bool,
    /// Of its first line; 0 until that is whole.
    pub(super) fingerprint: u64,
    /// The time of its first line, nanoseconds of the epoch; 0 where it has none.
    first_time: i64,
    /// Next byte to read.
    pub(super) read: u64,
    /// How much it holds, as far as is known.
    pub(super) size: u64,
    /// What it took on the disk when it was opened.
    pub(super) on_disk: u64,
    /// Its compressed copy, which is not opened while this is here, and what that takes on the disk.
    pub(super) copy: Option<(Identity, u64)>,
    /// Where reading began that was to begin at the end: what lies before is not wanted.
    pub(super) began: u64,
    /// Bytes beyond `read` that are accounted for already, by lines that an earlier run has taken: they are
    /// passed over when they are read again.
    pub(super) ahead: u64,
    pub(super) progress: [Progress; 3],
    /// Read to its end, and a younger file follows.
    pub(super) finished_at: Option<Instant>,
    /// Nobody will write the newline of its last line any more: what is there is the line.
    pub(super) is_complete: bool,
    /// No directory lists it any more since that look.
    pub(super) gone: Option<u64>,
    /// The agent stops, and this is gone or stands before what is.
    pub(super) now_or_never: bool,
    /// Its last read failed, which was said.
    pub(super) unreadable: bool,
    /// In the middle of a line that is longer than the buffer.
    pub(super) long: Option<LongLine>,
    /// What was left out of each stream behind its last line that was sent.
    pub(super) left_out: [LeftOut; 3],
}

/// Lines of a stream that are not sent: decided together with the next one that is.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct LeftOut {
    /// Where the last of them ends; 0: there is none.
    pub(super) end: u64,
    /// Their bytes, by reason.
    pub(super) bytes: [u64; Portion::REASONS],
}

/// A line of which the beginning is gone through already.
#[derive(Debug, Clone, Copy)]
pub(super) enum LongLine {
    /// It is appended to its stream's partial line.
    Taken {
        /// Whose it is.
        stream: Stream,
        /// When it was written.
        time: i64,
        /// The runtime cut it: the next piece of the stream continues it.
        partial: bool,
        /// Where it begins in the file.
        start: u64,
    },
    /// It is left out by a decision, and told of like any other.
    LeftOut {
        /// Whose it is.
        stream: Stream,
        /// Which decision.
        why: Abandoned,
        /// Where it begins in the file.
        start: u64,
    },
    /// It is stepped over: stored already, or given up.
    Passed {
        /// Why, where it is given up.
        why: Option<Abandoned>,
        /// Where it begins in the file.
        start: u64,
    },
}

impl LongLine {
    /// Where it begins in its file.
    pub(super) fn start(self) -> u64 {
        match self {
            Self::Taken { start, .. } | Self::LeftOut { start, .. } | Self::Passed { start, .. } => start,
        }
    }
}

/// Opens a file without its time of access changing with each look at it, which would be written to the disk. Only
/// its owner and root may ask for that.
fn open_unseen(path: &Path) -> io::Result<File> {
    let flags = i32::try_from(OFlags::NOATIME.bits()).unwrap_or(0);
    match OpenOptions::new().read(true).custom_flags(flags).open(path) {
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => File::open(path),
        opened => opened,
    }
}

impl LogFile {
    /// Opens `path`. Its source is not known before [`LogFile::identify`].
    pub(super) fn open(path: &Path, age: &Age) -> io::Result<Option<Self>> {
        let file = match open_unseen(path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        let metadata = file.metadata()?;
        if !metadata.is_file() {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file"));
        }
        let content = Content::open(file, path);
        Ok(Some(Self {
            size: content.size()?,
            on_disk: metadata.len(),
            copy: None,
            // The kubelet compresses what it has put aside.
            is_complete: content.is_compressed(),
            content: Some(content),
            identity: Identity { device: metadata.dev(), inode: metadata.ino() },
            path: path.to_owned(),
            age: age.clone(),
            base: 0,
            source: 0,
            runtime: Runtime::Cri,
            has_shown_runtime: false,
            fingerprint: 0,
            first_time: 0,
            read: 0,
            began: 0,
            ahead: 0,
            progress: [Progress::default(); 3],
            finished_at: None,
            gone: None,
            now_or_never: false,
            unreadable: false,
            long: None,
            left_out: [LeftOut::default(); 3],
        }))
    }

    /// Its place among a log's files: the live one last, others by their first line's time; the name of a
    /// rotated file has the node's local time, which goes back in autumn.
    pub(super) fn place(&self) -> (bool, i64, &Age) {
        (self.age == Age::Live, self.first_time, &self.age)
    }

    /// The time of its first line, nanoseconds of the epoch; 0 where it has none, or it is not whole.
    pub(super) fn first_time(&self) -> i64 {
        self.first_time
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
    pub(super) fn identify(&mut self, key: &Key, start: StartFrom, known: &mut dyn Known) -> io::Result<bool> {
        if self.source != 0 {
            return Ok(true);
        }
        let Some(content) = &mut self.content else { return Ok(false) };
        if !content.is_compressed() {
            // What it held before it had a name is nobody's.
            self.size = content.size()?;
        }
        let mut head = [0; FINGERPRINT];
        let length = content.fill(&mut head, 0)?;
        let first_line = match memchr(b'\n', &head[..length]) {
            Some(newline) => &head[..=newline],
            None if length == FINGERPRINT || (self.is_complete && length > 0) => &head[..length],
            None => return Ok(false),
        };
        self.fingerprint = xxh3_64(first_line);
        self.base = match key {
            // A runtime's first line has a time with nanoseconds: no other file begins with it.
            Key::Container(..) => source_id(&key.text(), self.fingerprint, &[]),
            // Any two files may begin with the same line.
            Key::Host(_) => source_id(&key.text(), self.fingerprint, &birth(&content.file().metadata()?)),
        };
        (self.runtime, self.first_time) = runtime_of(first_line);
        self.source = after_truncations(self.base, known.truncations(self.base));
        self.resume(key, start, known)?;
        if let Some(content) = &mut self.content {
            // It may be long until its turn.
            content.stop_inflating();
        }
        Ok(true)
    }

    /// It is damaged before its first line is whole: it has a name all the same, for what is told of it.
    pub(super) fn identify_damaged(&mut self, key: &Key, known: &dyn Known) {
        let metadata = self.content.as_ref().and_then(|content| content.file().metadata().ok());
        let Some(metadata) = metadata else { return };
        self.base = source_id(&key.text(), 0, &birth(&metadata));
        self.source = self.base;
        self.ahead = known.accounted(self.source);
    }

    /// What the host file at this place was called as long as it began with a line of that fingerprint.
    pub(super) fn called_with(&self, fingerprint: u64, key: &Key, known: &dyn Known) -> Option<u64> {
        let metadata = self.content.as_ref()?.file().metadata().ok()?;
        let base = source_id(&key.text(), fingerprint, &birth(&metadata));
        Some(after_truncations(base, known.truncations(base)))
    }

    /// It is a copy of a host file that is known as `original`. Gives `false`, and leaves it what
    /// it is, where it holds less than that did.
    pub(super) fn take_over(&mut self, original: u64, key: &Key, known: &mut dyn Known) -> io::Result<bool> {
        let is_copy = self.size >= known.covered(original, Stream::Whole);
        if is_copy {
            self.base = original;
            self.source = original;
            self.resume(key, StartFrom::Beginning, known)?;
        }
        Ok(is_copy)
    }

    /// Goes on where its source was left.
    fn resume(&mut self, key: &Key, start: StartFrom, known: &mut dyn Known) -> io::Result<()> {
        let Some(content) = &mut self.content else { return Ok(()) };
        let resumed = [Stream::Whole, Stream::Stdout, Stream::Stderr].map(|stream| known.covered(self.source, stream));
        self.progress = resumed.map(Progress::from);
        // A stream that never wrote has no position: then the other's first line is where to begin,
        // and what lies before its own position is passed over line by line.
        self.read = if matches!(key, Key::Host(_)) { resumed[0] } else { resumed[1].min(resumed[2]) };
        if start == StartFrom::End && resumed == [0; 3] && !content.is_compressed() {
            self.read = end_of_last_line(content.file(), content.size()?)?;
            self.began = self.read;
            self.progress = [Progress::from(self.read); 3];
            known.abandon(self.source, self.read, self.read, Abandoned::TooOld);
        }
        self.ahead = known.accounted(self.source).saturating_sub(self.read);
        Ok(())
    }

    /// Takes from a line which runtime writes the file: what it began with may have been none. A whole line decides
    /// for good, for one inside a torn one may be what an application wrote.
    pub(super) fn look_for_runtime(&mut self, line: &[u8]) {
        let line = &line[leading_nuls(line)..];
        let mut times = time::Parser::default();
        let whole = if docker::parse(line, &mut Vec::new(), &mut times).is_some() {
            Some(Runtime::Docker)
        } else {
            cri::parse(line, &mut times).map(|_| Runtime::Cri)
        };
        self.has_shown_runtime = whole.is_some();
        self.runtime = whole.or_else(|| Runtime::of_line(line)).unwrap_or(self.runtime);
    }

    /// What a line of so many bytes stands for, with what was left out before it.
    pub(super) fn portion(&mut self, stream: Stream, taken: u64) -> Portion {
        let left_out = &mut self.left_out[stream as usize];
        // By far the most lines.
        if left_out.end == 0 {
            return Portion::of(taken);
        }
        Portion { taken, left_out: std::mem::take(left_out).bytes }
    }

    /// Whether it is read whatever limit holds and whether its lane takes records or not: later nobody can.
    pub(super) fn cannot_wait(&self) -> bool {
        self.gone.is_some() || self.now_or_never
    }

    /// The ids under which it is known: its own, and the one that its truncations are counted under.
    pub(super) fn ids(&self) -> impl Iterator<Item = u64> + use<> {
        let renamed = (self.source != self.base).then_some(self.source);
        std::iter::once(self.base).chain(renamed).filter(|id| *id != 0)
    }

    /// Whether the file after it has its turn: this one was read to its end, and nothing came late.
    pub(super) fn is_finished(&self) -> bool {
        // A compressed one that an earlier run has read is not inflated to see that.
        let is_believed =
            self.content.as_ref().is_some_and(|content| content.may_hold_more() && !content.is_inflating());
        (self.finished_at.is_some() || is_believed) && self.is_read_out()
    }

    /// Whether nothing of it is left to be read, nor the end of a line to come. (Of a compressed file that
    /// an earlier run has read to where it should end, that is believed: it is not inflated again. What this run
    /// inflates is read until it ends.)
    pub(super) fn is_read_out(&self) -> bool {
        let is_believed = self.read > 0 && self.size == self.read;
        let is_at_its_end = |content: &Content| !content.may_hold_more() || (is_believed && !content.is_inflating());
        self.size <= self.read && self.long.is_none() && self.content.as_ref().is_none_or(is_at_its_end)
    }

    /// Fills `buffer` from where reading stands.
    pub(super) fn fill(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let Some(content) = &mut self.content else { return Ok(0) };
        let length = content.fill_past(buffer, self.read, self.size)?;
        if !content.is_compressed() && length < buffer.len() && self.read + (length as u64) < self.size {
            // It was truncated since it was looked at, which the next look notices: this continues nothing.
            return Ok(0);
        }
        if content.is_compressed() && !content.may_hold_more() {
            self.size = content.size()?;
        }
        self.size = self.size.max(self.read + length as u64);
        Ok(length)
    }

    /// Looks at its size again. Gives `true` where it became smaller than it was, read or not: somebody
    /// truncated it. (One that was truncated and has outgrown its old size since cannot be told.)
    pub(super) fn has_shrunk(&mut self) -> io::Result<bool> {
        match &self.content {
            Some(content) if !content.is_compressed() => {
                let size = content.size()?;
                let has_shrunk = self.source != 0 && size < self.size.max(self.read);
                if !has_shrunk {
                    self.size = size;
                }
                Ok(has_shrunk)
            }
            _ => Ok(false),
        }
    }

    /// Where it is by now, if it was renamed to what a rotation of `live` makes, beside it: there a start finds
    /// it again. (The kernel says what an open file is called; whether it is that is looked at.)
    pub(super) fn rotated_from(&self, live: &Path) -> Option<PathBuf> {
        let descriptor = self.content.as_ref()?.file().as_raw_fd();
        let now = std::fs::read_link(format!("/proc/self/fd/{descriptor}")).ok()?;
        let path = live.parent()?.join(now.file_name()?);
        let is_it =
            is_rotation(live, &path) && matches!(Self::identity_of(&path), Ok(Some((it, _))) if it == self.identity);
        is_it.then_some(path)
    }

    /// Whether it has a name in some directory, perhaps in one that is not looked at: then its room on the
    /// disk is not ours to give back.
    pub(super) fn has_name(&self) -> bool {
        let metadata = self.content.as_ref().and_then(|content| content.file().metadata().ok());
        metadata.is_some_and(|metadata| metadata.nlink() > 0)
    }

    /// Whether it has no name any more, and all that it holds by now was read.
    pub(super) fn went_read_out(&self) -> bool {
        let plain = self.content.as_ref().filter(|content| !content.is_compressed());
        let metadata = plain.and_then(|content| content.file().metadata().ok());
        self.long.is_none() && metadata.is_some_and(|metadata| metadata.nlink() == 0 && metadata.len() <= self.read)
    }

    /// When it was written last, nanoseconds of the epoch; 0: not known.
    pub(super) fn modified(&self) -> i64 {
        let metadata = self.content.as_ref().and_then(|content| content.file().metadata().ok());
        metadata.map_or(0, |metadata| metadata.mtime().saturating_mul(1_000_000_000) + metadata.mtime_nsec())
    }

    /// Books what was left out of it, for no line of it will follow that could carry it.
    pub(super) fn book_left_out(&mut self, known: &mut dyn Known) {
        for left_out in &mut self.left_out {
            let LeftOut { end, bytes } = std::mem::take(left_out);
            if end > 0 {
                known.book_left_out(self.source, end, bytes);
            }
        }
    }

    /// It was truncated: from now on it is another source, whatever it begins with, so that positions of
    /// what it held before say nothing of what it holds now.
    pub(super) fn begin_anew(&mut self, known: &mut dyn Known) {
        self.book_left_out(known);
        if self.base != 0 {
            // It may have grown, and been read, since it was looked at for its books.
            known.note_end(self.source, self.size);
            known.note_truncation(self.base, self.source);
        }
        self.base = 0;
        self.source = 0;
        self.first_time = 0;
        self.read = 0;
        self.size = 0;
        self.began = 0;
        self.ahead = 0;
        self.progress = [Progress::default(); 3];
        self.long = None;
        self.finished_at = None;
        self.is_complete = false;
    }

    /// Whether everything that was read of it is stored, or left out for good.
    pub(super) fn is_stored(&self, known: &dyn Known) -> bool {
        if self.left_out.iter().any(|left_out| left_out.end > 0) {
            return false;
        }
        self.source == 0
            || [Stream::Whole, Stream::Stdout, Stream::Stderr]
                .into_iter()
                .all(|stream| known.acknowledged(self.source, stream) >= self.progress[stream as usize].covered)
    }
}

/// Which runtime wrote a file that begins so, and when.
fn runtime_of(first_line: &[u8]) -> (Runtime, i64) {
    let line = first_line.strip_suffix(b"\n").unwrap_or(first_line);
    let line = &line[leading_nuls(line)..];
    // Of a line that is longer than the fingerprint only the beginning is here.
    let begins_with = if line.first() == Some(&b'{') { Runtime::Docker } else { Runtime::Cri };
    let runtime = Runtime::of_line(line).unwrap_or(begins_with);
    let mut times = time::Parser::default();
    let time = match runtime {
        Runtime::Cri => cri::parse(line, &mut times).map(|piece| piece.time),
        Runtime::Docker => docker::parse(line, &mut Vec::new(), &mut times).map(|piece| piece.time),
    };
    (runtime, time.unwrap_or(0))
}

/// The short id of a source: the same over renames and restarts, different for every file.
fn source_id(log: &str, fingerprint: u64, birth: &[u8]) -> u64 {
    let mut hash = Xxh3::new();
    hash.update(log.as_bytes());
    hash.update(&fingerprint.to_le_bytes());
    hash.update(birth);
    // 0 stands for "not known yet".
    hash.digest().max(1)
}

fn after_truncations(base: u64, truncations: u32) -> u64 {
    if truncations == 0 {
        return base;
    }
    let mut hash = Xxh3::with_seed(base);
    hash.update(&truncations.to_le_bytes());
    hash.digest().max(1)
}

/// What tells a file from all others of its path, also from one that got its inode: the inode, and when
/// it was made where the file system knows.
fn birth(metadata: &Metadata) -> [u8; 24] {
    let made = metadata.created().ok().and_then(|at| at.duration_since(UNIX_EPOCH).ok());
    let mut birth = [0; 24];
    birth[..8].copy_from_slice(&metadata.ino().to_le_bytes());
    birth[8..].copy_from_slice(&made.unwrap_or_default().as_nanos().to_le_bytes());
    birth
}

/// Where the last whole line of a file ends; looked for in its last 64 KiB.
fn end_of_last_line(file: &File, size: u64) -> io::Result<u64> {
    let mut tail = vec![0; 64 * 1024];
    let from = size.saturating_sub(tail.len() as u64);
    let length = read_up_to(file, &mut tail, from)?;
    Ok(memrchr(b'\n', &tail[..length]).map_or(from, |at| from + at as u64 + 1))
}
