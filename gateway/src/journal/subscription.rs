//! One destination's view of the embedded journal.

use std::collections::{HashMap, HashSet};
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use sluice_durable_log::{Item, Reader};
use tokio::sync::{mpsc, watch};

use super::commit::Command;
use super::cursor::{self, Cursor, FORM, Loaded, MAX_RANGES, Totals};
use super::embedded::Shared;
use super::entry::{self, Head};
use super::parking::{Copied, Found, Parking};
use super::{Entry, Error, Event, Lag, Outcome, PARKED, Parked, Position, Subscription, checked_file};

/// Reads, decides and saves for one destination. It blocks its thread while it reads or writes files,
/// so each destination has a thread of its own.
#[derive(Debug)]
pub struct EmbeddedSubscription {
    shared: Arc<Shared>,
    commands: mpsc::Sender<Command>,
    durable: watch::Receiver<u64>,
    destination: Box<str>,
    cursor: Cursor,
    /// Hands entries out in order.
    reader: Reader,
    /// Reads single ones again.
    again: Reader,
    buffer: Vec<u8>,
    /// Open once something was parked.
    parking: Option<Parking>,
    /// Entries that were parked and of which the saved cursor knew nothing: journal → parking.
    moved: HashMap<u64, u64>,
}

impl EmbeddedSubscription {
    pub(super) fn open(shared: Arc<Shared>, commands: mpsc::Sender<Command>, destination: &str) -> Result<Self, Error> {
        let dir = shared.config.directory.join("cursors");
        let oldest = shared.log.oldest();
        let (log_id, end) = (shared.log.log_id(), shared.log.durable());
        let cursor = match cursor::load(&*shared.files, &dir, destination)? {
            Loaded::Sound(cursor) if cursor.log_id() == log_id && cursor.next() <= end => Some(cursor),
            Loaded::Missing => {
                tracing::info!(destination, from = oldest, "destination is new here; it starts at the oldest entry");
                None
            }
            Loaded::Sound(_) | Loaded::Damaged => {
                let shelf = checked_file::quarantine(&*shared.files, &dir, &cursor::file_name(destination))?;
                shared.metrics.files_set_aside.with_label_values(&[FORM.kind]).inc();
                tracing::error!(destination, file = %shelf.display(), from = oldest, "cursor is damaged or of another journal and was set aside; what the journal holds is delivered again");
                None
            }
        };
        let is_new = cursor.is_none();
        let cursor = cursor.unwrap_or_else(|| Cursor::new(log_id, oldest));
        let mut this = Self {
            durable: shared.durable.subscribe(),
            reader: shared.log.reader(cursor.next()),
            again: shared.log.reader(cursor.next()),
            destination: destination.into(),
            buffer: Vec::new(),
            parking: None,
            moved: HashMap::new(),
            shared,
            commands,
            cursor,
        };
        this.open_parking(is_new)?;
        if is_new {
            this.store()?;
        }
        this.shared.pins.set(destination, this.cursor.next());
        Ok(this)
    }

    /// Opens the parking log if there is one, and takes in what the saved cursor did not know of. `is_new`:
    /// there was no saved cursor that could be used.
    fn open_parking(&mut self, is_new: bool) -> Result<(), Error> {
        let dir = self.parking_dir();
        let there = match self.shared.files.list(&dir) {
            Ok(names) => !names.is_empty(),
            Err(error) if error.kind() == io::ErrorKind::NotFound => false,
            // Passed over, what is in it would be delivered from the journal, and once more from there.
            Err(error) => return Err(Error::file("list", dir)(error)),
        };
        if !there && self.cursor.parked_seen == 0 {
            return Ok(());
        }
        let seen = self.cursor.parked_seen;
        let parking = self.make_parking(!is_new)?;
        let (copied, has_foreign) = (parking.copied_since(seen)?, parking.has_foreign());
        if has_foreign {
            self.shared.metrics.files_set_aside.with_label_values(&["parking"]).inc();
            tracing::error!(
                destination = &*self.destination,
                "there are parked entries of another journal; they are delivered, and no entry of this one is taken for them"
            );
        }
        let mut found = HashSet::new();
        for Copied { from, to } in copied {
            let fresh = self.cursor.journal.decide(from, from + 1);
            // A cursor that begins anew knows nothing of what lies below it.
            if !found.insert(from) || (fresh == 0 && !is_new) {
                // The copy was in doubt, and the entry went another way.
                self.cursor.parked.decide(to, to + 1);
                continue;
            }
            self.cursor.book(Outcome::Parked, fresh);
            self.moved.insert(from, to);
        }
        Ok(())
    }

    fn make_parking(&mut self, is_known: bool) -> Result<&mut Parking, Error> {
        if self.parking.is_none() {
            let files = Arc::clone(&self.shared.files);
            let dir = self.parking_dir();
            self.parking = Some(Parking::open(&files, &dir, &self.shared.config, &self.cursor, is_known)?);
        }
        Ok(self.parking.as_mut().expect("made above"))
    }

    fn parking_dir(&self) -> PathBuf {
        self.shared.config.directory.join("parking").join(&*self.destination)
    }

    fn store(&mut self) -> Result<(), Error> {
        self.cursor.parked_seen = self.parking.as_ref().map_or(self.cursor.parked_seen, Parking::end);
        let dir = self.shared.config.directory.join("cursors");
        FORM.replace(&*self.shared.files, &dir, &cursor::file_name(&self.destination), &self.cursor.encode())
    }

    /// Books entries that are gone, and says so.
    fn lost(&mut self, partition: u32, first: u64, next: u64, reason: String) -> Event {
        let track = if partition == PARKED { &mut self.cursor.parked } else { &mut self.cursor.journal };
        let fresh = track.decide(first, next);
        self.cursor.totals.lost += fresh;
        self.shared.metrics.lost_entries.with_label_values(&[&*self.destination]).inc_by(fresh);
        tracing::error!(
            destination = &*self.destination,
            partition,
            first,
            next,
            reason,
            "entries cannot be read any more"
        );
        Event::Lost { first: Position { partition, index: first }, next, reason }
    }

    /// Takes the buffer as an entry that begins at `start`.
    fn take_entry(&mut self, start: usize) -> Result<Entry, String> {
        let mut bytes = Bytes::from(std::mem::take(&mut self.buffer));
        let entry = bytes.split_off(start.min(bytes.len()));
        entry::decode(&entry).map_err(|error| error.to_string())
    }

    /// The event at the reader's position; `None` for an entry that is not ours, or nothing yet.
    fn look(&mut self) -> Result<Option<Option<Event>>, Error> {
        self.reader.seek(self.cursor.journal.open_from(self.reader.position()));
        let Some(item) = self.reader.next(&mut self.buffer)? else { return Ok(None) };
        Ok(Some(match item {
            Item::Record { index } => match Head::read(&self.buffer).map(|head| head.is_for(&self.destination)) {
                Ok(false) => {
                    self.cursor.journal.decide(index, index + 1);
                    None
                }
                Ok(true) => Some(match self.take_entry(0) {
                    Ok(entry) => Event::Entry(Position { partition: 0, index }, entry),
                    Err(reason) => self.lost(0, index, index + 1, reason),
                }),
                Err(error) => Some(self.lost(0, index, index + 1, error.to_string())),
            },
            Item::Damaged { first, next, reason } => Some(self.lost(0, first, next, reason.to_string())),
            Item::Released { first, next } => Some(self.lost(0, first, next, "its segments are gone".into())),
        }))
    }

    /// Puts the bytes of the entry at `position` into the buffer; returns where they begin.
    fn read_bytes(&mut self, position: Position) -> Result<usize, Error> {
        let gone = |reason: String| Error::Gone { position, reason };
        if position.partition == PARKED {
            let Some(parking) = &mut self.parking else { return Err(gone("nothing is parked".into())) };
            return match parking.read(position.index, &mut self.buffer)? {
                Some(Found::Entry(_)) => Ok(Parking::entry_start()),
                Some(Found::Lost(lost)) => Err(gone(lost.reason)),
                None => Err(gone("it was never parked".into())),
            };
        }
        match self.again.read_at(position.index, &mut self.buffer)? {
            Some(Item::Record { .. }) => Ok(0),
            Some(Item::Damaged { reason, .. }) => Err(gone(reason.to_string())),
            Some(Item::Released { .. }) => Err(gone("its segment is gone".into())),
            None => Err(gone("it is not in the log".into())),
        }
    }
}

impl Subscription for EmbeddedSubscription {
    async fn next(&mut self) -> Result<Event, Error> {
        if self.cursor.journal.ranges() >= MAX_RANGES {
            // Too scattered: the oldest entries have to be decided first.
            std::future::pending::<()>().await;
        }
        loop {
            self.durable.borrow_and_update();
            match self.look()? {
                Some(Some(event)) => return Ok(event),
                // Many entries of others in a row must not keep the thread from its other work.
                Some(None) => tokio::task::consume_budget().await,
                None => self.durable.changed().await.map_err(|_| Error::Closed)?,
            }
        }
    }

    fn read(&mut self, position: Position) -> Result<Entry, Error> {
        let start = self.read_bytes(position)?;
        self.take_entry(start).map_err(|reason| Error::Gone { position, reason })
    }

    fn decide(&mut self, position: Position, outcome: Outcome) {
        let track = match position.partition {
            PARKED => &mut self.cursor.parked,
            _ => &mut self.cursor.journal,
        };
        let fresh = track.decide(position.index, position.index + 1);
        self.cursor.book(outcome, fresh);
    }

    fn lose(&mut self, position: Position, reason: &str) {
        self.lost(position.partition, position.index, position.index + 1, reason.to_owned());
    }

    fn is_decided(&self, position: Position) -> bool {
        let track = match position.partition {
            PARKED => &self.cursor.parked,
            _ => &self.cursor.journal,
        };
        track.open_from(position.index) != position.index
    }

    fn state(&self) -> Option<&[u8]> {
        self.cursor.state.as_deref()
    }

    async fn save(&mut self, state: &[u8]) -> Result<(), Error> {
        self.cursor.state = Some(state.to_vec());
        self.store()?;
        self.shared.pins.set(&self.destination, self.cursor.next());
        if let Some(parking) = &mut self.parking {
            parking.release(self.cursor.parked.next());
        }
        // A full channel means that a commit is near, and it releases as well.
        let _ = self.commands.try_send(Command::Release);
        Ok(())
    }

    fn is_saved(&self) -> bool {
        self.shared.pins.of(&self.destination) == Some(self.cursor.next())
    }

    fn lag(&self) -> Lag {
        Lag {
            entries: self.cursor.journal.undecided(self.shared.log.durable()),
            bytes: self.shared.sizes.from(self.cursor.next()),
        }
    }

    fn totals(&self) -> Totals {
        self.cursor.totals
    }

    fn park(&mut self, positions: &[Position]) -> Result<Parked, Error> {
        self.make_parking(true)?;
        let mut copied = Vec::with_capacity(positions.len());
        let mut full = false;
        let mut failed = None;
        for &position in positions.iter().filter(|position| position.partition != PARKED) {
            match self.read_bytes(position) {
                Ok(start) => {
                    let parking = self.parking.as_mut().expect("made above");
                    match parking.add(position.index, &self.buffer[start..]) {
                        Ok(Some(copy)) => copied.push(copy),
                        Ok(None) => full = true,
                        Err(error) => failed = Some(error),
                    }
                }
                Err(Error::Gone { reason, .. }) => self.lose(position, &reason),
                Err(error) => failed = Some(error),
            }
            if full || failed.is_some() {
                break;
            }
        }
        // Whatever failed: copies that are published come out again, so their entries are parked. With a
        // segment that is full the first of them are published before the sync.
        let parking = self.parking.as_mut().expect("made above");
        let synced = parking.sync();
        let end = parking.end();
        let mut moved = Vec::with_capacity(copied.len());
        for Copied { from, to } in copied.into_iter().filter(|copy| copy.to < end) {
            let from = Position { partition: 0, index: from };
            self.decide(from, Outcome::Parked);
            moved.push((from, Position { partition: PARKED, index: to }));
        }
        match failed.or(synced.err()) {
            Some(error) if moved.is_empty() => Err(error),
            Some(error) => {
                tracing::warn!(
                    destination = &*self.destination,
                    error = &error as &dyn std::error::Error,
                    "could not park all entries; the others are tried again"
                );
                Ok(Parked { moved, full })
            }
            None => Ok(Parked { moved, full }),
        }
    }

    fn next_parked(&mut self) -> Result<Option<Event>, Error> {
        if self.cursor.parked.ranges() >= MAX_RANGES {
            return Ok(None);
        }
        let Some(parking) = &mut self.parking else { return Ok(None) };
        Ok(match parking.next(&self.cursor.parked, &mut self.buffer)? {
            None => None,
            Some(Found::Lost(lost)) => Some(self.lost(PARKED, lost.first, lost.next, lost.reason)),
            Some(Found::Entry(index)) => Some(match self.take_entry(Parking::entry_start()) {
                Ok(entry) => Event::Entry(Position { partition: PARKED, index }, entry),
                Err(reason) => self.lost(PARKED, index, index + 1, reason),
            }),
        })
    }

    fn has_parked(&self) -> bool {
        self.parking.as_ref().is_some_and(|parking| !parking.is_read())
    }

    fn rewind_parked(&mut self) {
        if let Some(parking) = &mut self.parking {
            parking.rewind(self.cursor.parked.next());
        }
    }

    fn parked(&self) -> Lag {
        let Some(parking) = &self.parking else { return Lag::default() };
        let entries = self.cursor.parked.undecided(parking.end());
        Lag { entries, bytes: if entries == 0 { 0 } else { parking.bytes() } }
    }

    fn parked_limit(&self) -> u64 {
        self.parking.as_ref().map_or_else(|| Parking::max_bytes(&self.shared.config), Parking::limit)
    }

    fn moved(&self, position: Position) -> Option<Position> {
        let index = *self.moved.get(&position.index).filter(|_| position.partition != PARKED)?;
        Some(Position { partition: PARKED, index })
    }
}
