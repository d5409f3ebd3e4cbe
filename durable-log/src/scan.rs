//! Walks the records of one segment, and finds its way again after damage.

use std::{io, sync::Arc};

use memchr::memmem;
use rustix::io::Errno;

use crate::{
    Reason,
    format::{MARKER, RECORD_HEADER, RecordHeader, SEGMENT_HEADER},
    io::{Access, File, Files},
    segment::Segment,
};

/// Bytes that are read at once: many headers of small records, and little beside a large one.
const WINDOW: usize = 64 << 10;

/// What stands where the scanner is.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// The header of the next record; the payload is not looked at yet.
    Record(RecordHeader),
    /// Indexes `first..next` are unreadable. The scanner has moved to `next`.
    Damaged { first: u64, next: u64, offset: u64, reason: Reason },
    /// No record below the limit from here on. Without a reason, there is nothing but zeros.
    End { offset: u64, reason: Option<Reason> },
}

/// What [`Scanner::find`] found.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Found {
    Record(RecordHeader),
    /// The index is unreadable, as are those after it, below `next`.
    Lost {
        next: u64,
        offset: u64,
        reason: Reason,
    },
}

#[derive(Debug)]
pub(crate) struct Scanner {
    segment: Arc<Segment>,
    file: Box<dyn File>,
    salt: u32,
    /// Where the next header should be, and with which index.
    offset: u64,
    next: u64,
    window: Vec<u8>,
    window_at: u64,
}

impl Scanner {
    pub(crate) fn open(files: &dyn Files, segment: Arc<Segment>, salt: u32) -> io::Result<Self> {
        let file = files.open(&segment.path, Access::Read)?;
        Ok(Self {
            file,
            salt,
            offset: SEGMENT_HEADER as u64,
            next: segment.base,
            window: Vec::new(),
            window_at: 0,
            segment,
        })
    }

    pub(crate) fn segment(&self) -> &Arc<Segment> {
        &self.segment
    }

    pub(crate) fn offset(&self) -> u64 {
        self.offset
    }

    pub(crate) fn next(&self) -> u64 {
        self.next
    }

    /// Looks at the next record, if its index is below `limit`. Errors are those that say nothing
    /// about the file's content.
    pub(crate) fn step(&mut self, limit: u64) -> io::Result<Step> {
        match self.header_here() {
            Ok(Some(header)) if header.index == self.next && header.index < limit => Ok(Step::Record(header)),
            Ok(_) => self.search(limit),
            Err(e) if is_media_error(&e) => Ok(Step::End { offset: self.offset, reason: Some(Reason::Io) }),
            Err(e) => Err(e),
        }
    }

    /// Goes past the record that `step` returned.
    pub(crate) fn skip(&mut self, header: &RecordHeader) {
        self.segment.note_place(header.index, self.offset);
        self.offset += header.size();
        self.next = header.index + 1;
    }

    /// Moves to the record `index`, which is below `limit`.
    pub(crate) fn find(&mut self, index: u64, limit: u64) -> io::Result<Found> {
        if self.next != index {
            let place = self.segment.place_before(index);
            if self.next > index || self.next < place.0 {
                (self.next, self.offset) = place;
            }
        }
        loop {
            match self.step(limit)? {
                Step::Record(header) if header.index == index => return Ok(Found::Record(header)),
                Step::Record(header) => self.skip(&header),
                Step::Damaged { next, offset, reason, .. } if next > index => {
                    return Ok(Found::Lost { next, offset, reason });
                }
                Step::Damaged { .. } => {}
                Step::End { offset, reason } => {
                    // Zeros where records should be: the file was cut and, being preallocated or
                    // not, has no more of them.
                    let reason = reason.unwrap_or(Reason::Missing);
                    return Ok(Found::Lost { next: limit, offset, reason });
                }
            }
        }
    }

    /// Reads the payload of the record that `step` returned, and checks it.
    pub(crate) fn payload(&mut self, header: &RecordHeader, buf: &mut Vec<u8>) -> io::Result<Result<(), Reason>> {
        let start = self.offset + RECORD_HEADER as u64;
        if self.offset + header.size() > self.segment.readable() {
            return Ok(Err(Reason::Payload));
        }
        // Not cleared before: only what grows is zeroed.
        buf.resize(header.length as usize, 0);
        let near = self.in_window(start);
        let (head, rest) = buf.split_at_mut(near.len().min(header.length as usize));
        head.copy_from_slice(&near[..head.len()]);
        match self.file.read_full_at(rest, start + head.len() as u64) {
            Ok(n) if n < rest.len() => Ok(Err(Reason::Payload)),
            Ok(_) if crc32c::crc32c(buf) != header.payload_crc => Ok(Err(Reason::Payload)),
            Ok(_) => Ok(Ok(())),
            Err(e) if is_media_error(&e) => Ok(Err(Reason::Io)),
            Err(e) => Err(e),
        }
    }

    fn header_here(&mut self) -> io::Result<Option<RecordHeader>> {
        let (salt, base, offset) = (self.salt, self.segment.base, self.offset);
        Ok(RecordHeader::decode(self.peek(offset)?, salt, base, offset))
    }

    /// Searches for the next header that can follow.
    fn search(&mut self, limit: u64) -> io::Result<Step> {
        let (salt, base, first, offset) = (self.salt, self.segment.base, self.next, self.offset);
        let mut at = offset;
        let mut zeros = true;
        loop {
            let chunk = match self.peek(at) {
                Ok(chunk) => chunk,
                Err(e) if is_media_error(&e) => {
                    return Ok(Step::End { offset: at, reason: Some(Reason::Io) });
                }
                Err(e) => return Err(e),
            };
            zeros &= is_zero(chunk);
            // How many places of this chunk have room for a whole header; the others are looked
            // at with the next one.
            let Some(places) = (chunk.len() + 1).checked_sub(RECORD_HEADER).filter(|&n| n > 0) else {
                let reason = (!zeros).then_some(Reason::Header);
                return Ok(Step::End { offset, reason });
            };
            let found = memmem::find_iter(&chunk[..places + MARKER.len() - 1], MARKER)
                .map(|hit| (hit, at + hit as u64))
                .filter_map(|(hit, at)| Some((at, RecordHeader::decode(&chunk[hit..], salt, base, at)?)))
                .find(|(_, header)| header.index >= first && header.index < limit);
            if let Some((at, header)) = found {
                self.offset = at;
                self.next = header.index;
                if header.index == first {
                    return Ok(Step::Record(header));
                }
                let next = header.index;
                return Ok(Step::Damaged { first, next, offset, reason: Reason::Header });
            }
            at += places as u64;
        }
    }

    /// The bytes at `offset`: a whole record header at least, unless the file ends before.
    fn peek(&mut self, offset: u64) -> io::Result<&[u8]> {
        if self.in_window(offset).len() < RECORD_HEADER {
            match self.fill(offset, WINDOW) {
                // One bad sector far behind the header should not cost this record.
                Err(e) if is_media_error(&e) => self.fill(offset, RECORD_HEADER)?,
                filled => filled?,
            }
        }
        Ok(self.in_window(offset))
    }

    fn in_window(&self, offset: u64) -> &[u8] {
        offset
            .checked_sub(self.window_at)
            .and_then(|skip| self.window.get(usize::try_from(skip).ok()?..))
            .unwrap_or_default()
    }

    fn fill(&mut self, offset: u64, most: usize) -> io::Result<()> {
        // What lies beyond may still be written, and must not be remembered.
        let readable = self.segment.readable().saturating_sub(offset);
        let most = usize::try_from(readable).map_or(most, |readable| readable.min(most));
        self.window.resize(most, 0);
        self.window_at = offset;
        let read = self.file.read_full_at(&mut self.window, offset);
        self.window.truncate(*read.as_ref().unwrap_or(&0));
        read.map(drop)
    }
}

/// Whether the system says that these bytes are lost, rather than that it cannot read now.
pub(crate) fn is_media_error(error: &io::Error) -> bool {
    // EIO from the device; the others from filesystems with checksums of their own.
    let lost = [Errno::IO, Errno::BADMSG, Errno::UCLEAN, Errno::NODATA];
    error.raw_os_error().is_some_and(|code| lost.iter().any(|e| e.raw_os_error() == code))
}

/// Compares by pages, which is several times as fast as by bytes; a preallocated tail is long.
fn is_zero(bytes: &[u8]) -> bool {
    const ZEROS: [u8; 4096] = [0; 4096];
    bytes.chunks(ZEROS.len()).all(|chunk| *chunk == ZEROS[..chunk.len()])
}
