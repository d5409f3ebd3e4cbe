//! What the writer, the readers and the reclaiming thread of one open log have in common.

use std::{
    collections::VecDeque,
    path::PathBuf,
    sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicU64, Ordering},
    },
};

use crate::{Reader, Reason, format::Identity, io::Files, segment::Segment};

#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) files: Arc<dyn Files>,
    pub(crate) dir: PathBuf,
    pub(crate) identity: Identity,
    /// Records below this are readable. Stored after everything that a reader needs to find them.
    published: AtomicU64,
    /// The first segment's base, kept beside the list for readers, who ask at each record.
    oldest: AtomicU64,
    /// Rising bases, no gaps between one's `end` and the next one's base. Empty only while a new
    /// log is being opened.
    segments: Mutex<VecDeque<Arc<Segment>>>,
    damaged_ranges: AtomicU64,
    damaged_records: AtomicU64,
    pub(crate) quarantined: AtomicU64,
}

impl Shared {
    pub(crate) fn new(
        files: Arc<dyn Files>,
        dir: PathBuf,
        identity: Identity,
        published: u64,
        segments: VecDeque<Arc<Segment>>,
    ) -> Self {
        Self {
            files,
            dir,
            identity,
            published: AtomicU64::new(published),
            oldest: AtomicU64::new(segments.front().map_or(published, |first| first.base)),
            segments: Mutex::new(segments),
            damaged_ranges: AtomicU64::new(0),
            damaged_records: AtomicU64::new(0),
            quarantined: AtomicU64::new(0),
        }
    }

    /// The list of segments. Held for moments, never across I/O.
    pub(crate) fn segments(&self) -> MutexGuard<'_, VecDeque<Arc<Segment>>> {
        self.segments.lock().expect("no code panics while it holds the list")
    }

    pub(crate) fn published(&self) -> u64 {
        self.published.load(Ordering::Acquire)
    }

    pub(crate) fn publish(&self, next: u64) {
        self.published.store(next, Ordering::Release);
    }

    pub(crate) fn oldest(&self) -> u64 {
        self.oldest.load(Ordering::Acquire)
    }

    /// Takes segments off the front that end at or below `below`; the last one always stays.
    pub(crate) fn release(&self, below: u64) -> Vec<Arc<Segment>> {
        let mut segments = self.segments();
        // A segment ends where the next one begins.
        let count = segments.partition_point(|segment| segment.base <= below).saturating_sub(1);
        let released = segments.drain(..count).collect();
        if let Some(first) = segments.front() {
            self.oldest.store(first.base, Ordering::Release);
        }
        released
    }

    /// The base of the last segment below `base`, which itself is that if there is none.
    pub(crate) fn base_before(&self, base: u64) -> u64 {
        let segments = self.segments();
        let before = segments.iter().rev().find(|segment| segment.base < base);
        before.map_or(base, |segment| segment.base)
    }

    /// The segment to which `index` belongs; `None` below the first.
    pub(crate) fn segment_of(&self, index: u64) -> Option<Arc<Segment>> {
        let segments = self.segments();
        let after = segments.partition_point(|segment| segment.base <= index);
        segments.get(after.checked_sub(1)?).cloned()
    }

    /// Appends a segment to the list; one that it replaces, having the same base, goes.
    pub(crate) fn add(&self, segment: Arc<Segment>) {
        let mut segments = self.segments();
        if segments.back().is_some_and(|last| last.base == segment.base) {
            segments.pop_back();
        }
        if let Some(last) = segments.back() {
            last.end_at(segment.base);
        }
        segments.push_back(segment);
    }

    pub(crate) fn size_bytes(&self) -> u64 {
        self.segments().iter().map(|segment| segment.size()).sum()
    }

    /// Counts and logs damage, once per range however many readers pass it.
    pub(crate) fn damaged(&self, segment: &Segment, first: u64, next: u64, offset: u64, reason: Reason) {
        if !segment.note_damage(first, next) {
            return;
        }
        self.damaged_ranges.fetch_add(1, Ordering::Relaxed);
        self.damaged_records.fetch_add(next - first, Ordering::Relaxed);
        tracing::error!(
            file = %segment.path.display(),
            offset,
            first,
            next,
            %reason,
            "log records are damaged"
        );
    }
}

/// Counts since the log was opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Damaged ranges found, by opening and by readers, each once.
    pub damaged_ranges: u64,
    /// Indexes in these.
    pub damaged_records: u64,
    /// Segment files moved to `quarantine/`.
    pub quarantined: u64,
}

/// A handle on an open log, for everybody but the writer. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Log {
    pub(crate) shared: Arc<Shared>,
}

impl Log {
    /// A reader whose first item is the one at `from`, once that is published.
    #[must_use]
    pub fn reader(&self, from: u64) -> Reader {
        Reader::new(Arc::clone(&self.shared), from)
    }

    /// One past the last record that readers see: all below are stored in the sense of the log's
    /// [`SyncMode`](crate::SyncMode).
    #[must_use]
    pub fn durable(&self) -> u64 {
        self.shared.published()
    }

    /// The lowest index not yet released. Rises by whole segments.
    #[must_use]
    pub fn oldest(&self) -> u64 {
        self.shared.oldest()
    }

    /// Bytes that the segments take, a preallocated one in full. Without quarantine, and without
    /// what is released and about to be unlinked.
    #[must_use]
    pub fn size_bytes(&self) -> u64 {
        self.shared.size_bytes()
    }

    /// Drawn at random when the log was made; another id means another log, with indexes of its
    /// own.
    #[must_use]
    pub fn log_id(&self) -> [u8; 16] {
        self.shared.identity.id
    }

    /// What went wrong since the log was opened.
    #[must_use]
    pub fn stats(&self) -> Stats {
        Stats {
            damaged_ranges: self.shared.damaged_ranges.load(Ordering::Relaxed),
            damaged_records: self.shared.damaged_records.load(Ordering::Relaxed),
            quarantined: self.shared.quarantined.load(Ordering::Relaxed),
        }
    }
}
