//! The one thread that writes to the log: it decides duplicates in the log's order, gathers a group,
//! syncs once for all of it, and answers.
//!
//! ```text
//! append ─► channel ─► judge by lanes ─► log.append ─┐ (more, for commit_delay or up to 6 MiB)
//!                                                    ▼
//!                 answers ◄── Ok ── sync ── Err ──► what the log gave up is Unknown, lanes as before it
//! ```

use std::collections::HashSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use sluice_durable_log::{AppendError, Writer};
use tokio::sync::mpsc::Receiver;
use tokio::sync::{OwnedSemaphorePermit, oneshot};

use super::lanes::{Lanes, Standing, Undo};
use super::snapshots::Keeper;
use super::{Appended, Entry, Position, embedded::Shared, entry};

/// Bytes after which a group waits for no more company.
const GROUP_BYTES: u64 = 6 << 20;

/// What the thread is asked for.
#[derive(Debug)]
pub(super) enum Command {
    /// Entries to be stored.
    Append(Append),
    /// A cursor has moved: see what can be released.
    Release,
    /// Sync, take a snapshot, end.
    Close,
}

/// One call of `append`.
#[derive(Debug)]
pub(super) struct Append {
    pub(super) entries: Vec<Entry>,
    pub(super) reply: oneshot::Sender<Vec<Appended>>,
    /// Its share of the queue, given back when it is answered.
    pub(super) _room: OwnedSemaphorePermit,
}

/// The thread's state.
pub(super) struct Committer {
    shared: Arc<Shared>,
    writer: Writer,
    lanes: Lanes,
    keeper: Keeper,
    commit_delay: Duration,
    /// Bytes stored between two snapshots of the lanes.
    snapshot_every: u64,
    since_snapshot: u64,
    released: u64,
    /// An append was refused for want of room.
    full: bool,
    /// When it was last said that no lane can be remembered.
    said_no_room: Option<Instant>,
    head: Vec<u8>,
    group: Group,
}

/// What waits for the next sync.
#[derive(Default)]
struct Group {
    answers: Vec<(Append, Vec<Appended>)>,
    /// Each entry's index, its bytes, and how to take its number back.
    noted: Vec<(u64, u64, Undo)>,
    bytes: u64,
}

impl Committer {
    pub(super) fn new(shared: Arc<Shared>, writer: Writer, lanes: Lanes, keeper: Keeper) -> Self {
        let commit_delay = shared.config.commit_delay;
        let snapshot_every = shared.config.segment_bytes.min(shared.config.max_bytes / 16);
        Self {
            shared,
            writer,
            lanes,
            keeper,
            commit_delay,
            snapshot_every,
            since_snapshot: 0,
            released: 0,
            full: false,
            said_no_room: None,
            head: Vec::new(),
            group: Group::default(),
        }
    }

    /// Works until told to close, or until nobody is left to ask.
    pub(super) fn run(mut self, mut inbox: Receiver<Command>) {
        self.tell_fill();
        while let Some(command) = inbox.blocking_recv() {
            let mut open = self.take(command);
            if open && !self.group.answers.is_empty() && self.group.bytes < GROUP_BYTES {
                std::thread::sleep(self.commit_delay);
            }
            while open && self.group.bytes < GROUP_BYTES {
                let Ok(command) = inbox.try_recv() else { break };
                open = self.take(command);
            }
            self.commit();
            self.release();
            self.snapshot();
            self.tell_fill();
            if !open {
                break;
            }
        }
        if self.since_snapshot > 0 {
            self.keeper.finish(self.shared.log.durable(), &self.lanes);
        }
    }

    /// False on [`Command::Close`].
    fn take(&mut self, command: Command) -> bool {
        match command {
            Command::Append(append) => self.append(append),
            Command::Release => {}
            Command::Close => return false,
        }
        true
    }

    fn append(&mut self, append: Append) {
        let mut answers = Vec::with_capacity(append.entries.len());
        // Lanes of which an entry of this call was refused: no later one of them is tried (rule 4).
        let mut stuck = HashSet::new();
        for entry in &append.entries {
            let lane = &entry.block.header.lane;
            if stuck.contains(lane) {
                answers.push(Appended::Behind);
                continue;
            }
            let answer = match self.add(entry) {
                Ok(answer) => answer,
                Err(GroupFailed) => {
                    self.fail_group();
                    // Earlier entries of this call are in doubt with the group, or as good as. Nothing more
                    // of the call is tried: a later number of one of their lanes must not be stored without
                    // them.
                    answers.fill(Appended::Unknown);
                    answers.resize(append.entries.len(), Appended::Unavailable);
                    self.answer(append, answers);
                    return;
                }
            };
            if !matches!(answer, Appended::Stored(_) | Appended::Duplicate) {
                stuck.insert(lane);
            }
            answers.push(answer);
        }
        drop(stuck);
        self.group.answers.push((append, answers));
    }

    /// `Stored` here means: stored once the group is.
    fn add(&mut self, entry: &Entry) -> Result<Appended, GroupFailed> {
        let header = &entry.block.header;
        let key = header.lane.key();
        match self.lanes.judge(&key, header.number, entry.received) {
            Standing::New => {}
            Standing::Duplicate => return Ok(Appended::Duplicate),
            Standing::NoRoom => {
                self.say_no_room();
                return Ok(Appended::Full);
            }
        }
        if let Err(error) = entry::encode_head(entry, &mut self.head) {
            tracing::error!(tenant = &*entry.tenant, %error, "an entry cannot be written");
            return Ok(Appended::Unavailable);
        }
        match self.writer.append(&[&self.head, &entry.block.payload]) {
            Ok(index) => {
                let bytes = (self.head.len() + entry.block.payload.len()) as u64;
                self.group.noted.push((index, bytes, self.lanes.note(&key, header.number, entry.received)));
                self.group.bytes += bytes;
                Ok(Appended::Stored(Position { partition: 0, index }))
            }
            Err(AppendError::InDoubt { .. }) => Err(GroupFailed),
            Err(AppendError::Full { .. } | AppendError::NoSpace { .. }) => {
                self.full = true;
                Ok(Appended::Full)
            }
            Err(error @ (AppendError::Failed { .. } | AppendError::TooLarge { .. })) => {
                tracing::error!(error = &error as &dyn std::error::Error, "the journal takes no entry");
                Ok(Appended::Unavailable)
            }
        }
    }

    /// Syncs and answers.
    fn commit(&mut self) {
        if self.group.answers.is_empty() {
            return;
        }
        let started = Instant::now();
        // Also for a group of duplicates alone: cheap when there is nothing to write, and the answer then
        // never comes before what it rests on is durable.
        match self.writer.sync() {
            Ok(next) => {
                self.shared.metrics.sync_seconds.observe(started.elapsed().as_secs_f64());
                let group = std::mem::take(&mut self.group);
                self.tell_durable(next, group.bytes);
                for (append, answers) in group.answers {
                    self.answer(append, answers);
                }
            }
            Err(error) => self.undo_group(error.first),
        }
    }

    fn tell_durable(&mut self, next: u64, bytes: u64) {
        self.shared.metrics.stored_bytes.inc_by(bytes);
        self.shared.sizes.grow(next, bytes);
        self.since_snapshot += bytes;
        self.shared.durable.send_replace(next);
    }

    /// The log has given the group up: asks it to forget the doubt, and answers.
    fn fail_group(&mut self) {
        // The error was logged where it happened; asking for it makes the log go on. What failed before
        // anything of the group was written gives nothing up.
        let first = self.writer.sync().unwrap_or_else(|error| error.first);
        self.undo_group(first);
    }

    /// Nobody knows what the disk holds from `first` on: those entries are not in the lanes (else the same
    /// block, sent again, would be taken for a duplicate of an entry that the log no longer has). Entries
    /// below it are in the log, which began a segment in the middle of the group, and stay in the lanes
    /// (else the same block, sent again, would be stored twice). What is a duplicate may be one of an
    /// entry in doubt.
    fn undo_group(&mut self, first: u64) {
        let mut group = std::mem::take(&mut self.group);
        while let Some((_, bytes, undo)) = group.noted.pop_if(|(index, ..)| *index >= first) {
            group.bytes -= bytes;
            self.lanes.undo(undo);
        }
        if !group.noted.is_empty() {
            self.tell_durable(first, group.bytes);
        }
        for (append, mut answers) in group.answers {
            for answer in &mut answers {
                let in_doubt = match answer {
                    Appended::Stored(position) => position.index >= first,
                    Appended::Duplicate => true,
                    _ => false,
                };
                if in_doubt {
                    *answer = Appended::Unknown;
                }
            }
            self.answer(append, answers);
        }
    }

    /// Once a second at most: the answers are counted.
    fn say_no_room(&mut self) {
        if self.said_no_room.is_none_or(|at| at.elapsed() > Duration::from_secs(1)) {
            self.said_no_room = Some(Instant::now());
            tracing::warn!(lanes = self.lanes.len(), "no room to remember another lane; its blocks are refused");
        }
    }

    fn answer(&self, append: Append, answers: Vec<Appended>) {
        for answer in &answers {
            self.shared.metrics.appends.with_label_values(&[answer.word()]).inc();
        }
        // The caller may have gone away; what is stored is stored.
        let _ = append.reply.send(answers);
    }

    /// Lets go of what no destination and no snapshot needs.
    fn release(&mut self) {
        let wanted = self.shared.pins.floor(self.shared.log.durable());
        let floor = wanted.min(self.keeper.floor());
        if floor > self.released {
            self.writer.release(floor);
            self.shared.sizes.forget_below(floor);
            self.released = floor;
            self.full = false;
        }
    }

    fn snapshot(&mut self) {
        let durable = self.shared.log.durable();
        debug_assert!(self.group.noted.is_empty(), "a snapshot speaks of nothing that is not durable (rule 6)");
        // A full journal that only its snapshots pin would stay full: nothing is stored, so none is taken.
        let pinned = self.full && self.keeper.floor() < self.shared.pins.floor(durable);
        // A table is not written more often than four times its size was stored.
        let due = self.since_snapshot >= self.snapshot_every.max(4 * self.lanes.bytes() as u64);
        if (due || pinned) && self.keeper.order(durable, &self.lanes, pinned) {
            self.since_snapshot = 0;
            self.full = false;
        }
    }

    fn tell_fill(&self) {
        let metrics = &self.shared.metrics;
        metrics.size_bytes.set(gauge(self.shared.log.size_bytes()));
        metrics.lanes.set(gauge(self.lanes.len() as u64));
        metrics.lanes_bytes.set(gauge(self.lanes.bytes() as u64));
        metrics.queue_bytes.set(gauge(self.shared.queued_bytes()));
    }
}

/// An earlier entry could not be written: the log has given up what it had not stored by then.
struct GroupFailed;

fn gauge(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}
