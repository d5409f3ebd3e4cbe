//! The journal on this machine's own disk.
//!
//! ```text
//! {directory}/log/                  segments
//!             lanes/                snapshots of the lanes' numbers
//!             cursors/              one file for each destination
//!             parking/{destination} copies of entries that would pin the log
//!             batches/, dead-letters/  of the delivery
//! ```

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;

use bytes::Bytes;
use sluice_durable_log::io::{Files, RealFiles};
use sluice_durable_log::{self as durable_log, Item, Log, Options, Writer};
use sluice_wire::JournalId;
use tokio::sync::{Semaphore, mpsc, oneshot, watch};

use super::checked_file;
use super::commit::{Append, Command, Committer};
use super::cursor::{self, Cursor};
use super::lanes::{self, Lanes, Standing};
use super::pins::Pins;
use super::room;
use super::sizes::Sizes;
use super::snapshots::{Restored, Snapshots};
use super::subscription::EmbeddedSubscription;
use super::{Appended, Entry, Error, Journal, entry};
use crate::config::checked;
use crate::metrics::journal::JournalMetrics;

/// Bytes of entries that may wait for their commit. More than the largest request, and what the disk
/// takes in a few tens of milliseconds.
const QUEUE_BYTES: usize = 16 << 20;
/// Calls that may wait; their bytes bound them first, unless blocks are tiny.
const QUEUE_CALLS: usize = 4096;
/// What an entry costs in memory beside its payload, about.
const ENTRY_OVERHEAD: usize = 512;

/// The embedded journal. Closes itself when dropped: syncs, and writes a snapshot.
#[derive(Debug)]
pub struct Embedded {
    shared: Arc<Shared>,
    commands: mpsc::Sender<Command>,
    thread: Option<JoinHandle<()>>,
}

/// See [`Embedded::subscriber`].
#[derive(Debug)]
pub(crate) struct Subscriber {
    shared: Arc<Shared>,
    commands: mpsc::Sender<Command>,
    destination: Box<str>,
}

impl Subscriber {
    /// As [`Journal::subscribe`].
    pub(crate) fn subscribe(&self) -> Result<EmbeddedSubscription, Error> {
        EmbeddedSubscription::open(Arc::clone(&self.shared), self.commands.clone(), &self.destination)
    }
}

/// What the committing thread and the subscriptions have in common.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) files: Arc<dyn Files>,
    pub(super) config: checked::Journal,
    pub(super) log: Log,
    /// The log's next index; everything below is durable.
    pub(super) durable: watch::Sender<u64>,
    pub(super) pins: Pins,
    pub(super) sizes: Sizes,
    pub(super) metrics: JournalMetrics,
    room: Arc<Semaphore>,
}

impl Shared {
    pub(super) fn queued_bytes(&self) -> u64 {
        (QUEUE_BYTES - self.room.available_permits().min(QUEUE_BYTES)) as u64
    }
}

/// How full the journal is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fill {
    /// Bytes that the segments take.
    pub bytes: u64,
    /// Bytes that they may take.
    pub max_bytes: u64,
}

impl Embedded {
    /// Opens the journal in `config.directory`, making it if it is not there. Reads the end of the log,
    /// the cursors, the newest snapshot and what came after it.
    ///
    /// # Errors
    /// Where the disk cannot be used, somebody else uses the directory, or a later release wrote it.
    /// Damage is none.
    pub fn open(config: &checked::Journal, metrics: JournalMetrics) -> Result<Self, Error> {
        room::check(config)?;
        Self::open_on(Arc::new(RealFiles), config, metrics)
    }

    /// The same on another filesystem (tests: one that fails on demand).
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub fn open_on(files: Arc<dyn Files>, config: &checked::Journal, metrics: JournalMetrics) -> Result<Self, Error> {
        let directory = &config.directory;
        let lanes_dir = directory.join("lanes");
        let cursors = read_cursors(&*files, &directory.join("cursors"))?;
        let known = cursors.values().flatten().map(Cursor::next).max().unwrap_or(0);
        let at_least = known.max(Snapshots::highest(&*files, &lanes_dir)?);

        let options = Options {
            segment_bytes: config.segment_bytes,
            max_bytes: config.max_bytes,
            max_record: max_record(config.segment_bytes),
            at_least,
            ..Options::new(directory.join("log"))
        };
        let (writer, log, recovery) = durable_log::open(Arc::clone(&files), options)?;
        if let Some(torn) = &recovery.torn {
            tracing::warn!(index = torn.index, file = %torn.file.display(), offset = torn.offset, "the journal's last write was not finished; cut there");
        }
        for damage in &recovery.damage {
            tracing::error!(first = damage.first, next = damage.next, file = %damage.file.display(), offset = damage.offset, reason = %damage.reason, "the journal is damaged");
        }

        let empty = || Lanes::new(config.lane_retention, lanes::MAX_BYTES);
        let (snapshots, restored) =
            Snapshots::open(Arc::clone(&files), lanes_dir, log.log_id(), metrics.clone(), empty)?;
        let lanes = replay(&log, restored, empty)?;
        metrics.max_bytes.set(i64::try_from(config.max_bytes).unwrap_or(i64::MAX));
        metrics.lanes_max_bytes.set(lanes::MAX_BYTES as i64);
        metrics.queue_max_bytes.set(QUEUE_BYTES as i64);

        let shared = Arc::new(Shared {
            config: config.clone(),
            durable: watch::Sender::new(log.durable()),
            pins: Pins::default(),
            sizes: Sizes::new(log.oldest(), log.durable(), log.size_bytes()),
            metrics,
            room: Arc::new(Semaphore::new(QUEUE_BYTES)),
            log,
            files,
        });
        for (name, cursor) in &cursors {
            // A damaged cursor, or one of another log, pins everything until its destination starts anew.
            let own = cursor.as_ref().filter(|cursor| cursor.log_id() == shared.log.log_id());
            shared.pins.set(name, own.map_or(0, Cursor::next));
        }
        Self::start(shared, writer, lanes, snapshots)
    }

    fn start(shared: Arc<Shared>, writer: Writer, lanes: Lanes, snapshots: Snapshots) -> Result<Self, Error> {
        let committer = Committer::new(Arc::clone(&shared), writer, lanes, snapshots.start()?);
        let (commands, inbox) = mpsc::channel(QUEUE_CALLS);
        let thread = std::thread::Builder::new().name("journal".into()).spawn(move || committer.run(inbox));
        Ok(Self { shared, commands, thread: Some(thread.map_err(Error::Thread)?) })
    }

    /// Tells which destinations the configuration has. Until this is called nothing is released. The
    /// cursors of others go to quarantine and pin nothing any more.
    ///
    /// # Errors
    /// Where such a cursor cannot be moved.
    pub fn keep_only(&self, destinations: &[&str]) -> Result<(), Error> {
        for name in self.shared.pins.keep_only(destinations) {
            let dir = self.shared.config.directory.join("cursors");
            let shelf = checked_file::quarantine(&*self.shared.files, &dir, &cursor::file_name(&name))?;
            self.shared.metrics.files_set_aside.with_label_values(&["removed-destination"]).inc();
            tracing::warn!(destination = name, file = %shelf.display(), "destination is no longer configured; its cursor was set aside and pins no entries");
        }
        // Full or closed: the next commit releases all the same.
        let _ = self.commands.try_send(Command::Release);
        Ok(())
    }

    /// Subscribes `destination`, when and as often as whoever has this wants to. What it needs is kept from
    /// now on, though it may not be able to read yet.
    pub(crate) fn subscriber(&self, destination: &str) -> Subscriber {
        if self.shared.pins.of(destination).is_none() {
            self.shared.pins.set(destination, 0);
        }
        Subscriber {
            shared: Arc::clone(&self.shared),
            commands: self.commands.clone(),
            destination: destination.into(),
        }
    }

    /// How full it is.
    #[must_use]
    pub fn fill(&self) -> Fill {
        Fill { bytes: self.shared.log.size_bytes(), max_bytes: self.shared.config.max_bytes }
    }

    /// Whether its thread has ended, which it does by a panic alone while this is open.
    #[must_use]
    pub fn has_ended(&self) -> bool {
        self.thread.as_ref().is_none_or(JoinHandle::is_finished)
    }

    /// Where the journal, and what is kept beside it, lies.
    #[must_use]
    pub fn directory(&self) -> &Path {
        &self.shared.config.directory
    }

    /// Its settings.
    pub(crate) fn config(&self) -> &checked::Journal {
        &self.shared.config
    }

    /// The filesystem that it was opened on.
    pub(crate) fn files(&self) -> &Arc<dyn Files> {
        &self.shared.files
    }
}

impl Drop for Embedded {
    fn drop(&mut self) {
        // Subscriptions hold the channel open, so it does not end by itself. The thread empties it all the
        // time, so there soon is room.
        while let Err(mpsc::error::TrySendError::Full(_)) = self.commands.try_send(Command::Close) {
            std::thread::sleep(std::time::Duration::from_millis(1));
        }
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl Journal for Embedded {
    type Subscription = EmbeddedSubscription;

    fn id(&self) -> JournalId {
        JournalId(self.shared.log.log_id())
    }

    async fn append(&self, entries: Vec<Entry>) -> Vec<Appended> {
        let count = entries.len();
        let bytes: usize = entries.iter().map(|entry| entry.block.payload.len() + ENTRY_OVERHEAD).sum();
        let share = u32::try_from(bytes.min(QUEUE_BYTES)).unwrap_or(u32::MAX);
        let (reply, answer) = oneshot::channel();
        let Ok(room) = Arc::clone(&self.shared.room).acquire_many_owned(share).await else {
            return vec![Appended::Unavailable; count];
        };
        let command = Command::Append(Append { entries, reply, _room: room });
        if self.commands.send(command).await.is_err() {
            return vec![Appended::Unavailable; count];
        }
        answer.await.unwrap_or_else(|_| vec![Appended::Unknown; count])
    }

    fn subscribe(&self, destination: &str) -> Result<EmbeddedSubscription, Error> {
        EmbeddedSubscription::open(Arc::clone(&self.shared), self.commands.clone(), destination)
    }
}

/// The longest entry: block, header and texts stay below 1 MiB; a small segment holds less.
pub(super) fn max_record(segment_bytes: u64) -> usize {
    usize::try_from(segment_bytes.saturating_sub(96)).unwrap_or(usize::MAX).min(2 << 20)
}

/// All cursors by destination; `None` where the file is damaged. Nothing is moved yet.
fn read_cursors(files: &dyn Files, dir: &PathBuf) -> Result<BTreeMap<String, Option<Cursor>>, Error> {
    files.create_dir(dir).map_err(Error::file("create", dir))?;
    let names = files.list(dir).map_err(Error::file("list", dir))?;
    let destinations = names.iter().filter_map(|name| cursor::destination_of(name));
    destinations.map(|name| Ok((name.to_owned(), cursor::load(files, dir, name)?.sound()))).collect()
}

/// The lanes as of the log's end: the snapshot, and every entry from its position on.
fn replay(log: &Log, restored: Option<Restored>, empty: impl Fn() -> Lanes) -> Result<Lanes, Error> {
    let (from, mut lanes) = match restored {
        Some(Restored { position, lanes }) => (position, lanes),
        None => (log.oldest(), empty()),
    };
    let mut reader = log.reader(from);
    let mut buffer = Vec::new();
    while let Some(item) = reader.next(&mut buffer)? {
        match item {
            Item::Record { index } => match entry::decode(&Bytes::copy_from_slice(&buffer)) {
                Ok(entry) => {
                    let header = &entry.block.header;
                    let key = header.lane.key();
                    // What the log holds was new when it was stored, or room was found for it.
                    if lanes.judge(&key, header.number, entry.received) != Standing::Duplicate {
                        lanes.note(&key, header.number, entry.received);
                    }
                }
                Err(error) => tracing::error!(index, %error, "an entry of the journal cannot be understood"),
            },
            // Logged by the log. The numbers of its lanes are not known; those that follow tell most.
            Item::Damaged { .. } => {}
            Item::Released { first, next } => {
                tracing::warn!(
                    first,
                    next,
                    "entries after the newest good snapshot of the lanes are gone; their blocks, if sent again, are stored again"
                );
            }
        }
    }
    Ok(lanes)
}
