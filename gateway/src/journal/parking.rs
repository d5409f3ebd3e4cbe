//! Copies of entries that would pin the journal, or stand behind a tenant that is held: a log of its
//! own for each destination, `parking/<destination>/`.
//!
//! A record is the entry's index in the journal (8 bytes, little-endian), then the entry as it was. An
//! entry is parked once: after a crash between the copy and the save of the cursor, the copies that the
//! cursor does not know of yet are found by that index.
//!
//! Such an index means nothing in another journal. So a checked file `journal` beside the segments says of
//! which one it is (log id, 16 bytes), and from which copy on (8 bytes).

use std::path::Path;
use std::sync::Arc;

use sluice_durable_log::io::Files;
use sluice_durable_log::{self as durable_log, AppendError, Item, Log, Options, Reader, Writer};

use super::Error;
use super::checked_file::{Content, Form};
use super::cursor::{Cursor, Track};
use super::embedded::max_record;
use crate::config::checked;

const INDEX: usize = 8;
const ORIGIN: Form = Form { mark: b"SLPARKED", version: 1, kind: "parking" };
const ORIGIN_FILE: &str = "journal";
const SEGMENT_BYTES: u64 = 16 << 20;

/// One destination's parking log.
#[derive(Debug)]
pub(super) struct Parking {
    writer: Writer,
    log: Log,
    /// Hands entries out in order.
    reader: Reader,
    /// Reads single ones again.
    again: Reader,
    max_bytes: u64,
    /// Copies below this are of another journal.
    own_from: u64,
}

/// Where an entry was, and where its copy is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Copied {
    pub(super) from: u64,
    pub(super) to: u64,
}

/// An entry out of the parking log.
pub(super) enum Found {
    /// Its bytes are in the buffer, from [`Parking::entry_start`] on.
    Entry(u64),
    Lost(Lost),
}

/// Copies that cannot be read any more.
#[derive(Debug)]
pub(super) struct Lost {
    pub(super) first: u64,
    pub(super) next: u64,
    pub(super) reason: String,
}

impl Parking {
    pub(super) fn max_bytes(config: &checked::Journal) -> u64 {
        // As precise as a share of a disk has to be.
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_precision_loss)]
        let share = (config.max_bytes as f64 * config.park_above) as u64;
        share.max(2 * segment_bytes(config))
    }

    /// Opens the log below `dir`, where all that the journal's `cursor` knows of was there. `is_known`: the
    /// cursor was found, so that copies of which nothing says whose they are can be no other journal's.
    pub(super) fn open(
        files: &Arc<dyn Files>,
        dir: &Path,
        config: &checked::Journal,
        cursor: &Cursor,
        is_known: bool,
    ) -> Result<Self, Error> {
        let (track, seen) = (&cursor.parked, cursor.parked_seen);
        let max_bytes = Self::max_bytes(config);
        let options = Options {
            segment_bytes: segment_bytes(config),
            max_bytes,
            max_record: max_record(segment_bytes(config)),
            // Most of the time there is nothing in it.
            preallocate: false,
            at_least: seen.max(track.next()),
            ..Options::new(dir)
        };
        let (writer, log, _) = durable_log::open(Arc::clone(files), options)?;
        let path = dir.join(ORIGIN_FILE);
        let found = ORIGIN.read(&**files, &path)?;
        let own_from = match &found {
            Content::Sound(content) => origin(content).filter(|(of, _)| *of == cursor.log_id()).map(|(_, from)| from),
            // Written before there was such a file.
            Content::Missing => is_known.then_some(0),
            Content::Damaged => None,
        };
        let is_noted = matches!(found, Content::Sound(_)) && own_from.is_some();
        let own_from = own_from.unwrap_or(log.durable());
        if !is_noted {
            ORIGIN.replace(&**files, dir, ORIGIN_FILE, &[&cursor.log_id()[..], &own_from.to_le_bytes()].concat())?;
        }
        Ok(Self { reader: log.reader(track.next()), again: log.reader(0), writer, log, max_bytes, own_from })
    }

    /// Whether there are copies of another journal's entries.
    pub(super) fn has_foreign(&self) -> bool {
        self.log.oldest() < self.own_from
    }

    /// Appends a copy; false if there is no room. Not there before [`sync`](Self::sync).
    pub(super) fn add(&mut self, from: u64, entry: &[u8]) -> Result<Option<Copied>, Error> {
        match self.writer.append(&[&from.to_le_bytes(), entry]) {
            Ok(to) => Ok(Some(Copied { from, to })),
            Err(AppendError::Full { .. } | AppendError::NoSpace { .. }) => Ok(None),
            Err(error) => {
                // What came before it is in doubt, and told by the sync that clears the doubt.
                let _ = self.writer.sync();
                Err(Error::Copy(Box::new(error)))
            }
        }
    }

    /// Makes the copies durable.
    pub(super) fn sync(&mut self) -> Result<u64, Error> {
        self.writer.sync().map_err(|error| Error::Copy(Box::new(error)))
    }

    /// Lets go of what lies below `next`.
    pub(super) fn release(&mut self, next: u64) {
        self.writer.release(next);
    }

    pub(super) fn end(&self) -> u64 {
        self.log.durable()
    }

    pub(super) fn bytes(&self) -> u64 {
        self.log.size_bytes()
    }

    pub(super) fn limit(&self) -> u64 {
        self.max_bytes
    }

    /// Hands everything out again from `next` on.
    pub(super) fn rewind(&mut self, next: u64) {
        self.reader.seek(next);
    }

    /// Whether [`next`](Self::next) has come to the end.
    pub(super) fn is_read(&self) -> bool {
        self.reader.position() >= self.log.durable()
    }

    /// The next one that `track` has not decided.
    pub(super) fn next(&mut self, track: &Track, buffer: &mut Vec<u8>) -> Result<Option<Found>, Error> {
        self.reader.seek(track.open_from(self.reader.position()));
        Ok(self.reader.next(buffer)?.map(|item| found(item, buffer)))
    }

    /// One copy, by its index.
    pub(super) fn read(&mut self, index: u64, buffer: &mut Vec<u8>) -> Result<Option<Found>, Error> {
        Ok(self.again.read_at(index, buffer)?.map(|item| found(item, buffer)))
    }

    /// Copies of this journal's entries from `seen` on: those that a cursor saved then knows nothing of.
    pub(super) fn copied_since(&mut self, seen: u64) -> Result<Vec<Copied>, Error> {
        let mut reader = self.log.reader(seen.max(self.own_from));
        let mut buffer = Vec::new();
        let mut copied = Vec::new();
        while let Some(item) = reader.next(&mut buffer)? {
            if let (Item::Record { index: to }, Some(from)) = (item, buffer.first_chunk()) {
                copied.push(Copied { from: u64::from_le_bytes(*from), to });
            }
        }
        Ok(copied)
    }

    /// Where the entry begins in the buffer.
    pub(super) const fn entry_start() -> usize {
        INDEX
    }
}

fn origin(content: &[u8]) -> Option<([u8; 16], u64)> {
    let (of, from) = content.split_first_chunk()?;
    Some((*of, u64::from_le_bytes(from.try_into().ok()?)))
}

fn found(item: Item, buffer: &[u8]) -> Found {
    match item {
        Item::Record { index } if buffer.len() >= INDEX => Found::Entry(index),
        Item::Record { index } => Found::Lost(Lost { first: index, next: index + 1, reason: "no parked entry".into() }),
        Item::Damaged { first, next, reason } => Found::Lost(Lost { first, next, reason: reason.to_string() }),
        Item::Released { first, next } => Found::Lost(Lost { first, next, reason: "its segments are gone".into() }),
    }
}

fn segment_bytes(config: &checked::Journal) -> u64 {
    config.segment_bytes.min(SEGMENT_BYTES)
}
