//! One segment file: what is known of it while the log is open, and how it is made.

use std::{
    fmt, io,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use crate::{
    SyncMode,
    format::{self, SEGMENT_HEADER, SegmentHeader},
    io::{Access, File, Files},
};

/// Distance in bytes between two remembered places. A seek reads at most this much to find its
/// record, and a full 64 MiB segment costs 4 KiB of memory.
const PLACE_EVERY: u64 = 256 << 10;

/// How many damaged ranges of a segment are told apart; further ones are not counted.
const MAX_RANGES: usize = 1024;

/// Why records cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// No valid record header stands where one should.
    Header,
    /// The payload does not match its checksum, or is cut off.
    Payload,
    /// The segment file is missing, or ends before its last record.
    Missing,
    /// The disk reports an error on reading.
    Io,
    /// The segment file belongs to another log.
    Foreign,
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Header => "header",
            Self::Payload => "payload",
            Self::Missing => "missing",
            Self::Io => "io",
            Self::Foreign => "foreign",
        })
    }
}

#[derive(Debug)]
pub(crate) struct Segment {
    pub(crate) base: u64,
    pub(crate) path: PathBuf,
    /// One past the highest index that counts here: the next segment's base, `u64::MAX` while
    /// there is none.
    end: AtomicU64,
    /// Bytes in which readers may look. While the segment is written, the end of the last
    /// published record.
    readable: AtomicU64,
    /// Bytes taken on the disk.
    size: AtomicU64,
    /// Some records' indexes and offsets, both rising.
    places: Mutex<Vec<(u64, u64)>>,
    ranges: Mutex<Vec<(u64, u64)>>,
    suspect: AtomicBool,
}

impl Segment {
    pub(crate) fn new(base: u64, path: PathBuf, readable: u64, size: u64) -> Self {
        Self {
            base,
            path,
            end: AtomicU64::new(u64::MAX),
            readable: AtomicU64::new(readable),
            size: AtomicU64::new(size),
            places: Mutex::default(),
            ranges: Mutex::default(),
            suspect: AtomicBool::new(false),
        }
    }

    pub(crate) fn end(&self) -> u64 {
        self.end.load(Ordering::Acquire)
    }

    pub(crate) fn end_at(&self, index: u64) {
        self.end.store(index, Ordering::Release);
    }

    pub(crate) fn readable(&self) -> u64 {
        self.readable.load(Ordering::Acquire)
    }

    pub(crate) fn set_readable(&self, bytes: u64) {
        self.readable.store(bytes, Ordering::Release);
    }

    pub(crate) fn size(&self) -> u64 {
        self.size.load(Ordering::Relaxed)
    }

    pub(crate) fn set_size(&self, bytes: u64) {
        self.size.store(bytes, Ordering::Relaxed);
    }

    /// The last remembered place at or before `index`; else that of the first record.
    pub(crate) fn place_before(&self, index: u64) -> (u64, u64) {
        let places = self.places.lock().expect("no code panics while it holds the places");
        let after = places.partition_point(|&(at, _)| at <= index);
        let place = after.checked_sub(1).map(|last| places[last]);
        place.unwrap_or((self.base, SEGMENT_HEADER as u64))
    }

    /// Remembers where `index` is, if that is far enough from the last place.
    pub(crate) fn note_place(&self, index: u64, offset: u64) {
        let mut places = self.places.lock().expect("no code panics while it holds the places");
        let last = places.last().map_or(0, |&(_, offset)| offset);
        if offset >= last + PLACE_EVERY {
            places.push((index, offset));
        }
    }

    /// Whether the damage `first..next` is news.
    pub(crate) fn note_damage(&self, first: u64, next: u64) -> bool {
        self.suspect();
        let mut ranges = self.ranges.lock().expect("no code panics while it holds the ranges");
        let known = ranges.iter().any(|&(a, b)| a <= first && next <= b);
        if known || ranges.len() == MAX_RANGES {
            return false;
        }
        ranges.push((first, next));
        true
    }

    /// Something in the file is not as it was written: keep it when it is released.
    pub(crate) fn suspect(&self) {
        self.suspect.store(true, Ordering::Relaxed);
    }

    pub(crate) fn is_suspect(&self) -> bool {
        self.suspect.load(Ordering::Relaxed)
    }
}

/// What a new segment needs.
#[derive(Debug)]
pub(crate) struct Plan<'a> {
    pub(crate) dir: &'a Path,
    pub(crate) header: SegmentHeader,
    /// Bytes to reserve; `None` grows with each write.
    pub(crate) preallocate: Option<u64>,
    pub(crate) sync: SyncMode,
}

/// A segment that can be written, as [`create`] made it.
#[derive(Debug)]
pub(crate) struct Created {
    pub(crate) segment: Arc<Segment>,
    pub(crate) file: Box<dyn File>,
    pub(crate) preallocated: bool,
}

/// Makes a segment, durable itself with [`SyncMode::Data`], in place of one of the same base.
/// After an error nothing counts: at worst there is a segment without records, which the next
/// attempt replaces.
pub(crate) fn create(files: &dyn Files, plan: &Plan<'_>) -> io::Result<Created> {
    let unfinished = plan.dir.join(format::unfinished_name(plan.header.base));
    let made = create_at(files, plan, &unfinished);
    if made.is_err() {
        // Leaves the space to others; if that fails too, opening deletes it.
        let _ = files.unlink(&unfinished);
    }
    made
}

fn create_at(files: &dyn Files, plan: &Plan<'_>, unfinished: &Path) -> io::Result<Created> {
    let path = plan.dir.join(format::segment_name(plan.header.base));
    let file = files.open(unfinished, Access::Create)?;
    let mut size = SEGMENT_HEADER as u64;
    let mut preallocated = false;
    if let Some(bytes) = plan.preallocate {
        match file.allocate(bytes) {
            Ok(()) => {
                size = bytes;
                preallocated = true;
            }
            Err(e) if e.kind() == io::ErrorKind::Unsupported => {}
            Err(e) => return Err(e),
        }
    }
    file.write_all_at(&plan.header.encode(), 0)?;
    if plan.sync == SyncMode::Data {
        file.sync_data()?;
    }
    files.rename(unfinished, &path)?;
    if plan.sync == SyncMode::Data {
        files.sync_dir(plan.dir)?;
    }
    let segment = Segment::new(plan.header.base, path, SEGMENT_HEADER as u64, size);
    Ok(Created { segment: Arc::new(segment), file, preallocated })
}
