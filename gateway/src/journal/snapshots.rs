//! Snapshots of the lanes: `lanes/<position>.lanes`, the newest two.
//!
//! A snapshot speaks of every entry below its position, and is taken only when all of these are durable
//! (rule 6). The log is kept from the older one on, so that with the newer one damaged nothing of the
//! lanes is forgotten. Writing is done by a thread of its own: a commit does not wait for it.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::thread::JoinHandle;

use sluice_durable_log::io::Files;

use super::Error;
use super::checked_file::{self, Content, Form};
use super::lanes::Lanes;
use crate::metrics::journal::JournalMetrics;

const FORM: Form = Form { mark: b"SLLANES1", version: 1, kind: "lanes" };
/// Log id and position, before the lanes.
const PREFIX: usize = 24;

/// Where snapshots are, and which.
#[derive(Debug)]
pub(super) struct Snapshots {
    files: Arc<dyn Files>,
    dir: PathBuf,
    log_id: [u8; 16],
    metrics: JournalMetrics,
    /// Positions of those that are good, rising, at most two.
    kept: Vec<u64>,
}

/// What a snapshot said at open.
pub(super) struct Restored {
    pub(super) position: u64,
    pub(super) lanes: Lanes,
}

impl Snapshots {
    /// The highest position in any file name: known durable, as far as names tell. Read before the log
    /// is opened.
    pub(super) fn highest(files: &dyn Files, dir: &std::path::Path) -> Result<u64, Error> {
        files.create_dir(dir).map_err(Error::file("create", dir))?;
        let names = files.list(dir).map_err(Error::file("list", dir))?;
        Ok(names.iter().filter_map(|name| position_of(name)).max().unwrap_or(0))
    }

    /// Finds the newest good snapshot; sets damaged ones and those of another log aside.
    pub(super) fn open(
        files: Arc<dyn Files>,
        dir: PathBuf,
        log_id: [u8; 16],
        metrics: JournalMetrics,
        empty: impl Fn() -> Lanes,
    ) -> Result<(Self, Option<Restored>), Error> {
        let names = files.list(&dir).map_err(Error::file("list", &dir))?;
        let mut positions: Vec<u64> = names.iter().filter_map(|name| position_of(name)).collect();
        positions.sort_unstable();
        let mut this = Self { files, dir, log_id, metrics, kept: Vec::new() };
        let mut restored = None;
        for &position in positions.iter().rev() {
            match this.load(position, &empty)? {
                Some(lanes) => {
                    this.kept.insert(0, position);
                    restored.get_or_insert(Restored { position, lanes });
                }
                None => {
                    let name = file_name(position);
                    let shelf = checked_file::quarantine(&*this.files, &this.dir, &name)?;
                    this.metrics.files_set_aside.with_label_values(&[FORM.kind]).inc();
                    tracing::error!(file = %shelf.display(), position, "snapshot of the lanes is damaged or of another journal; set aside");
                }
            }
        }
        if this.kept.len() < 2 {
            // The empty table before the first entry stands in for an older snapshot.
            this.kept.insert(0, 0);
        }
        this.prune();
        Ok((this, restored))
    }

    fn load(&self, position: u64, empty: &impl Fn() -> Lanes) -> Result<Option<Lanes>, Error> {
        let Content::Sound(content) = FORM.read(&*self.files, &self.dir.join(file_name(position)))? else {
            return Ok(None);
        };
        let mut prefix = self.log_id.to_vec();
        prefix.extend_from_slice(&position.to_le_bytes());
        Ok(content.strip_prefix(&prefix[..PREFIX]).and_then(|lanes| empty().decode(lanes)))
    }

    /// The position from which on the log is still needed.
    fn floor(&self) -> u64 {
        self.kept.first().copied().unwrap_or(0)
    }

    fn write(&mut self, order: &Order) -> Result<(), Error> {
        FORM.replace(&*self.files, &self.dir, &file_name(order.position), &order.content)?;
        if order.alone {
            self.kept.retain(|kept| *kept >= order.position);
        }
        if self.kept.last() != Some(&order.position) {
            self.kept.push(order.position);
        }
        self.prune();
        Ok(())
    }

    /// Removes all but the newest two of those kept. A file that cannot be removed costs its bytes only.
    fn prune(&mut self) {
        let surplus = self.kept.len().saturating_sub(2);
        self.kept.drain(..surplus);
        let Ok(names) = self.files.list(&self.dir) else { return };
        for name in names {
            if position_of(&name).is_some_and(|position| !self.kept.contains(&position))
                && let Err(error) = self.files.unlink(&self.dir.join(&name))
            {
                tracing::warn!(file = name, %error, "cannot remove an old snapshot of the lanes");
            }
        }
    }

    /// Starts the thread that writes them.
    pub(super) fn start(mut self) -> Result<Keeper, Error> {
        let floor = Arc::new(AtomicU64::new(self.floor()));
        let log_id = self.log_id;
        let (orders, inbox) = sync_channel::<Order>(1);
        let busy = Arc::new(AtomicBool::new(false));
        let (told, done) = (Arc::clone(&floor), Arc::clone(&busy));
        let work = move || {
            for order in inbox {
                let result = match self.write(&order) {
                    Ok(()) => "written",
                    Err(error) => {
                        tracing::error!(
                            error = &error as &dyn std::error::Error,
                            "cannot write a snapshot of the lanes; segments stay until one is written"
                        );
                        "failed"
                    }
                };
                self.metrics.snapshots.with_label_values(&[result]).inc();
                told.store(self.floor(), Ordering::Release);
                done.store(false, Ordering::Release);
            }
        };
        let thread = std::thread::Builder::new().name("journal-lanes".into()).spawn(work).map_err(Error::Thread)?;
        Ok(Keeper { orders: Some(orders), busy, floor, log_id, thread: Some(thread) })
    }
}

struct Order {
    position: u64,
    content: Vec<u8>,
    /// The older ones are let go at once: they pin a journal that is full.
    alone: bool,
}

/// The thread that writes snapshots.
#[derive(Debug)]
pub(super) struct Keeper {
    orders: Option<SyncSender<Order>>,
    /// One is being written, or about to be.
    busy: Arc<AtomicBool>,
    floor: Arc<AtomicU64>,
    log_id: [u8; 16],
    thread: Option<JoinHandle<()>>,
}

impl Keeper {
    /// The position from which on the log is needed for the lanes.
    pub(super) fn floor(&self) -> u64 {
        self.floor.load(Ordering::Acquire)
    }

    /// Orders a snapshot of `lanes`, all of whose entries are durable; false if one is being written.
    /// `alone`: older ones are not kept beside it.
    pub(super) fn order(&self, position: u64, lanes: &Lanes, alone: bool) -> bool {
        // Asked before the table is encoded, which may be 64 MiB.
        let is_busy = self.busy.load(Ordering::Acquire);
        let Some(orders) = self.orders.as_ref().filter(|_| !is_busy) else { return false };
        self.busy.store(true, Ordering::Release);
        orders.try_send(self.order_for(position, lanes, alone)).is_ok()
    }

    /// Orders the last one, waiting for those before it, and waits until it is written.
    pub(super) fn finish(self, position: u64, lanes: &Lanes) {
        if let Some(orders) = &self.orders {
            // The thread ends only with us; if it panicked, the log is replayed from an older snapshot.
            let _ = orders.send(self.order_for(position, lanes, false));
        }
    }

    fn order_for(&self, position: u64, lanes: &Lanes, alone: bool) -> Order {
        let mut content = self.log_id.to_vec();
        content.extend_from_slice(&position.to_le_bytes());
        content.extend_from_slice(&lanes.encode());
        Order { position, content, alone }
    }
}

impl Drop for Keeper {
    /// Waits for the snapshot that is being written.
    fn drop(&mut self) {
        self.orders = None;
        if let Some(thread) = self.thread.take() {
            // It ends by itself; a panic in it was printed already.
            let _ = thread.join();
        }
    }
}

fn file_name(position: u64) -> String {
    format!("{position:020}.lanes")
}

fn position_of(name: &str) -> Option<u64> {
    let digits = name.strip_suffix(".lanes")?;
    (digits.len() == 20 && digits.bytes().all(|b| b.is_ascii_digit())).then(|| digits.parse().ok())?
}
