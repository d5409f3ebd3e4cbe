//! Appending, syncing and releasing.

use std::{io, sync::Arc};

use crate::{
    AppendError, Options, SyncError, SyncMode,
    format::{self, RECORD_HEADER, RecordHeader, SEGMENT_HEADER, SegmentHeader},
    io::{File, Lock},
    reclaim::Reclaim,
    segment::{self, Created, Plan, Segment},
    shared::Shared,
};

/// Bytes that are gathered before they are written ahead of the `sync`.
const BUFFER: usize = 1 << 20;

/// The one writer of a log, which holds its lock. Not synced when it is dropped.
#[derive(Debug)]
pub struct Writer {
    shared: Arc<Shared>,
    options: Options,
    /// `None` after a failure, until the next append has made a new segment.
    active: Option<Active>,
    next: u64,
    /// Records that no write has seen yet.
    buffer: Vec<u8>,
    /// Bytes that all segments but the active one take.
    sealed_bytes: u64,
    /// A failure that `sync` has not told yet.
    doubt: Option<SyncError>,
    reclaim: Reclaim,
    /// After `reclaim`, which is still at work in the directory when it is dropped.
    _lock: Box<dyn Lock>,
}

#[derive(Debug)]
struct Active {
    segment: Arc<Segment>,
    file: Box<dyn File>,
    preallocated: bool,
    /// Where the buffer goes.
    written: u64,
}

impl Writer {
    /// A writer that continues at what is published, without a segment yet.
    pub(crate) fn new(shared: Arc<Shared>, options: Options, lock: Box<dyn Lock>) -> Self {
        Self {
            active: None,
            next: shared.published(),
            buffer: Vec::new(),
            sealed_bytes: shared.size_bytes(),
            doubt: None,
            reclaim: Reclaim::new(Arc::clone(&shared), options.quarantine_max_bytes),
            shared,
            options,
            _lock: lock,
        }
    }

    /// Adds a record, which is the concatenation of `parts`, and returns its index. It is neither
    /// stored nor seen by readers before [`sync`](Self::sync).
    ///
    /// # Errors
    /// All of them mean that the record is not, and never will be, in the log.
    pub fn append(&mut self, parts: &[&[u8]]) -> Result<u64, AppendError> {
        if let Some(doubt) = &self.doubt {
            return Err(in_doubt(doubt));
        }
        let len = parts.iter().fold(0_usize, |sum, part| sum.saturating_add(part.len()));
        let max = self.options.max_record;
        let length = u32::try_from(len).ok().filter(|_| len <= max);
        let length = length.ok_or(AppendError::TooLarge { len, max })?;
        self.make_room((RECORD_HEADER + len) as u64)?;
        // Others' bytes, never this record's own: what fails here leaves it out.
        if self.buffer.len() >= BUFFER
            && let Err(source) = self.write_out()
        {
            return Err(self.refuse(source));
        }
        let active = self.active.as_ref().expect("make_room leaves an active segment");
        active.segment.note_place(self.next, active.written + self.buffer.len() as u64);
        let header = RecordHeader {
            length,
            index: self.next,
            synced: self.synced(),
            payload_crc: parts.iter().fold(0, |crc, part| crc32c::crc32c_append(crc, part)),
        };
        self.buffer.extend_from_slice(&header.encode(self.shared.identity.salt));
        for part in parts {
            self.buffer.extend_from_slice(part);
        }
        self.next += 1;
        Ok(header.index)
    }

    /// Stores all that was appended (how well, [`SyncMode`] says), shows it to readers, and
    /// returns the number of records that the log has stored in its life: the next index.
    ///
    /// # Errors
    /// Tells, once, the records whose fate is unknown. The writer goes on: the next append makes
    /// a new segment and gets the first of their indexes.
    pub fn sync(&mut self) -> Result<u64, SyncError> {
        match self.doubt.take() {
            Some(doubt) => Err(doubt),
            None => self.store().map_err(|source| self.give_up(source)),
        }
    }

    /// Lets go of the records below `below`, by whole segments; the last segment stays. Does not
    /// wait for the disk.
    pub fn release(&mut self, below: u64) {
        let released = self.shared.release(below.min(self.shared.published()));
        self.sealed_bytes -= released.iter().map(|segment| segment.size()).sum::<u64>();
        self.reclaim.add(released);
    }

    /// The index of the next record, if nothing appended before fails.
    #[must_use]
    pub fn next(&self) -> u64 {
        self.next
    }

    /// Sees to it that the active segment takes `size` more bytes, making a new one if need be.
    fn make_room(&mut self, size: u64) -> Result<(), AppendError> {
        let buffered = self.buffer.len() as u64;
        let (taken, fits, more) = match &self.active {
            Some(active) => {
                let end = active.written + buffered;
                let fits = end + size <= self.options.segment_bytes;
                match active.preallocated {
                    true => (active.segment.size(), fits, 0),
                    false => (end, fits, size),
                }
            }
            None => (0, false, 0),
        };
        let more = match self.options.preallocate {
            _ if fits => more,
            true => self.options.segment_bytes,
            false => SEGMENT_HEADER as u64 + size,
        };
        let (now, max) = (self.sealed_bytes + taken, self.options.max_bytes);
        if now + more > max {
            return Err(AppendError::Full { size: now, max });
        }
        if fits {
            return Ok(());
        }
        // All below a segment's base is stored before the segment exists.
        if let Err(source) = self.store() {
            return Err(self.refuse(source));
        }
        self.active = None;
        self.sealed_bytes = self.shared.size_bytes();
        self.start_segment().map_err(|source| {
            let file = self.shared.dir.join(format::segment_name(self.next));
            match source.kind() {
                io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => AppendError::NoSpace { file, source },
                _ => AppendError::Failed { file, source },
            }
        })
    }

    /// Makes the segment that begins with the next record.
    pub(crate) fn start_segment(&mut self) -> io::Result<()> {
        let plan = Plan {
            dir: &self.shared.dir,
            header: SegmentHeader {
                identity: self.shared.identity,
                base: self.next,
                synced: self.synced(),
                previous: self.shared.base_before(self.next),
            },
            preallocate: self.options.preallocate.then_some(self.options.segment_bytes),
            sync: self.options.sync,
        };
        let Created { segment, file, preallocated } = segment::create(&*self.shared.files, &plan)?;
        self.shared.add(Arc::clone(&segment));
        self.sealed_bytes = self.shared.size_bytes() - segment.size();
        self.active = Some(Active { segment, file, preallocated, written: SEGMENT_HEADER as u64 });
        Ok(())
    }

    /// How many records are known to survive a loss of power.
    fn synced(&self) -> u64 {
        match self.options.sync {
            SyncMode::Data => self.shared.published(),
            SyncMode::Never => 0,
        }
    }

    fn store(&mut self) -> io::Result<u64> {
        if self.next > self.shared.published() {
            self.write_out()?;
            let active = self.active.as_ref().expect("records were appended to it");
            if self.options.sync == SyncMode::Data {
                active.file.sync_data()?;
            }
            active.segment.set_readable(active.written);
            if !active.preallocated {
                active.segment.set_size(active.written);
            }
            self.shared.publish(self.next);
        }
        Ok(self.next)
    }

    fn write_out(&mut self) -> io::Result<()> {
        if let Some(active) = &mut self.active {
            active.file.write_all_at(&self.buffer, active.written)?;
            active.written += self.buffer.len() as u64;
            self.buffer.clear();
        }
        Ok(())
    }

    /// After a failed write or sync: forgets the group, and never touches its segment again.
    fn give_up(&mut self, source: io::Error) -> SyncError {
        let first = self.shared.published();
        let next = std::mem::replace(&mut self.next, first);
        self.buffer.clear();
        let active = self.active.take().expect("only an active segment is written");
        if !active.preallocated {
            // Some of the group may be there.
            active.segment.set_size(active.file.size().unwrap_or(active.written));
        }
        self.sealed_bytes = self.shared.size_bytes();
        let file = active.segment.path.clone();
        tracing::error!(file = %file.display(), first, next, error = %source, "log write failed; records are in doubt");
        SyncError { first, next, file, source }
    }

    fn refuse(&mut self, source: io::Error) -> AppendError {
        let doubt = self.give_up(source);
        let error = in_doubt(&doubt);
        self.doubt = Some(doubt);
        error
    }
}

fn in_doubt(doubt: &SyncError) -> AppendError {
    AppendError::InDoubt { first: doubt.first, next: doubt.next }
}
