//! Reading published records, in order or by index.

use std::{io, sync::Arc};

use crate::{
    ReadError, Reason,
    scan::{Found, Scanner, is_media_error},
    segment::Segment,
    shared::Shared,
};

/// What a reader finds at its position.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Item {
    /// A record; its payload is in the caller's buffer.
    Record {
        /// Its index.
        index: u64,
    },
    /// The records `first..next` were stored and cannot be read any more.
    Damaged {
        /// First index lost.
        first: u64,
        /// One past the last.
        next: u64,
        /// Why.
        reason: Reason,
    },
    /// The records `first..next` were released. A caller who never reads below its own release
    /// mark sees this only if segment files were taken away behind the log's back.
    Released {
        /// First index asked for.
        first: u64,
        /// The lowest index that is still there.
        next: u64,
    },
}

impl Item {
    /// One past the last index that this item covers: where reading goes on.
    #[must_use]
    pub fn next(&self) -> u64 {
        match *self {
            Self::Record { index } => index + 1,
            Self::Damaged { next, .. } | Self::Released { next, .. } => next,
        }
    }
}

/// A position in a log, with a file handle of its own (at most one).
#[derive(Debug)]
pub struct Reader {
    shared: Arc<Shared>,
    position: u64,
    scanner: Option<Scanner>,
}

impl Reader {
    pub(crate) fn new(shared: Arc<Shared>, from: u64) -> Self {
        Self { shared, position: from, scanner: None }
    }

    /// The index that [`next`](Self::next) tells about next.
    #[must_use]
    pub fn position(&self) -> u64 {
        self.position
    }

    /// Goes to `index`, which need not be published yet.
    pub fn seek(&mut self, index: u64) {
        self.position = index;
    }

    /// The item at the position, which moves past it; `None` if nothing is published there yet.
    ///
    /// `buf` holds the payload after [`Item::Record`], and nothing of meaning otherwise.
    ///
    /// # Errors
    /// If the system could not be asked; the position is where it was.
    pub fn next(&mut self, buf: &mut Vec<u8>) -> Result<Option<Item>, ReadError> {
        let item = self.read_at(self.position, buf)?;
        if let Some(item) = item {
            self.position = item.next();
        }
        Ok(item)
    }

    /// The item at `index`, as [`next`](Self::next) would return it there; the position stays.
    /// Reads at most 256 KiB of headers to find it.
    ///
    /// # Errors
    /// If the system could not be asked.
    pub fn read_at(&mut self, index: u64, buf: &mut Vec<u8>) -> Result<Option<Item>, ReadError> {
        let published = self.shared.published();
        if index >= published {
            return Ok(None);
        }
        let Some(segment) = self.segment_of(index) else {
            let next = self.shared.oldest();
            return Ok(Some(Item::Released { first: index, next }));
        };
        let limit = segment.end().min(published);
        match self.look(&segment, index, limit, buf) {
            Ok(Look::Record) => Ok(Some(Item::Record { index })),
            Ok(Look::Lost { next, offset, reason }) => {
                self.shared.damaged(&segment, index, next, offset, reason);
                Ok(Some(Item::Damaged { first: index, next, reason }))
            }
            // Between the look at the list and the opening, the segment was released.
            Err(_) if index < self.shared.oldest() => self.read_at(index, buf),
            Err(source) => {
                self.scanner = None;
                Err(ReadError { file: segment.path.clone(), source })
            }
        }
    }

    /// The segment of `index`: that of the open file as long as it is there, which spares the
    /// list's lock.
    fn segment_of(&self, index: u64) -> Option<Arc<Segment>> {
        let open = self.scanner.as_ref().map(Scanner::segment);
        match open.filter(|segment| segment.base <= index && index < segment.end()) {
            Some(segment) if segment.base >= self.shared.oldest() => Some(Arc::clone(segment)),
            _ => self.shared.segment_of(index),
        }
    }

    fn look(&mut self, segment: &Arc<Segment>, index: u64, limit: u64, buf: &mut Vec<u8>) -> io::Result<Look> {
        if !self.scanner.as_ref().is_some_and(|scanner| Arc::ptr_eq(scanner.segment(), segment)) {
            // Closes the file before it opens the next: one handle each.
            self.scanner = None;
        }
        let scanner = match &mut self.scanner {
            Some(scanner) => scanner,
            none => match Scanner::open(&*self.shared.files, Arc::clone(segment), self.shared.identity.salt) {
                Ok(scanner) => none.insert(scanner),
                Err(e) if e.kind() == io::ErrorKind::NotFound && segment.base >= self.shared.oldest() => {
                    return Ok(Look::Lost { next: limit, offset: 0, reason: Reason::Missing });
                }
                Err(e) if is_media_error(&e) => {
                    return Ok(Look::Lost { next: limit, offset: 0, reason: Reason::Io });
                }
                Err(e) => return Err(e),
            },
        };
        let header = match scanner.find(index, limit)? {
            Found::Record(header) => header,
            Found::Lost { next, offset, reason } => return Ok(Look::Lost { next, offset, reason }),
        };
        let offset = scanner.offset();
        let payload = scanner.payload(&header, buf)?;
        scanner.skip(&header);
        Ok(match payload {
            Ok(()) => Look::Record,
            Err(reason) => Look::Lost { next: index + 1, offset, reason },
        })
    }
}

enum Look {
    Record,
    Lost { next: u64, offset: u64, reason: Reason },
}
