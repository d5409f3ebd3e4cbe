//! Log files to lines, in order, fairly, from where an earlier run left off.
//!
//! ```text
//! Tailer ── Log (a container's attempt, or a host file) ── LogFile, LogFile, … (rotated, then live)
//!                └ partial line of stdout, of stderr            └ read offset, progress of each stream
//! ```
//!
//! Lines go straight into their lane's open block; nothing is kept here but a partial line.

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use sluice_wire::{Category, Stream, time};

use crate::block::Lanes;
use crate::discover::layout::Age;
use crate::discover::{Choice, Container, Listings, Look, Treatment};
use crate::enrich::Pods;
use crate::redact::Redactor;

mod books;
mod change;
pub mod content;
mod counts;
mod cut;
mod file;
mod host;
mod known;
mod log;
mod losses;
mod missed;
mod place;
mod pods;
mod share;
mod stop;
mod treat;

pub use books::{Abandoned, Dropped, Gap, LEFT_OUT, LeftBehind, Missed, Reached, Sighting};
pub use counts::Counts;
pub(crate) use cut::whole_characters;
use file::{Identity, Opened};
pub use known::Known;
use log::{Log, Output, Reading, WallTime};
pub use missed::Attempts;
use missed::Containers;
use share::Shares;
pub use share::{Budget, Policy, Sharing};
pub use treat::{Tools, Workshop};

/// Read from one log before the next has its turn, bytes.
const QUANTUM: usize = 256 * 1024;
/// The buffer that all logs share; the longest physical line that is looked at whole.
const BUFFER: usize = 256 * 1024;
/// Messages whose end has not been read may take so much memory, all together.
const PENDING_BYTES: usize = 2 * 1024 * 1024;
/// Between records that tell of the lines that a pod's budget has cost it.
const TELL_DROPPED: Duration = Duration::from_secs(10);
/// Logs whose compressed files may be in the middle of being inflated, which takes about 300 KiB each.
const INFLATING: usize = 8;

/// Where a source that is met for the first time is read from, when the agent has never run here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StartFrom {
    /// Its first byte.
    Beginning,
    /// Its end.
    End,
    /// Its first line that is not older, nanoseconds of the epoch.
    Since(i64),
}

/// What is said of every record of this node.
#[derive(Debug, Clone)]
pub struct Labels {
    /// `cluster`.
    pub cluster: String,
    /// `environment`.
    pub environment: String,
    /// `k8s_node_name`.
    pub node: String,
}

impl Labels {
    /// What the records of a unit of the node have in common.
    #[must_use]
    pub fn of_unit(&self, unit: &str, category: Category) -> Vec<u8> {
        crate::record::common([
            ("unit", unit),
            ("cluster", &self.cluster),
            ("environment", &self.environment),
            ("k8s_node_name", &self.node),
            ("log_type", category.word()),
        ])
    }
}

/// How much may be held that no directory lists any more: a file that is open is on the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Deleted {
    /// Files.
    pub files: usize,
    /// Their bytes.
    pub bytes: u64,
}

/// Which log a [`Log`] is.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Key {
    Container(Container, u32),
    Host(PathBuf),
}

/// All logs of the node.
#[derive(Debug)]
pub struct Tailer {
    labels: Labels,
    start: StartFrom,
    deleted: Deleted,
    shares: Shares,
    workshop: Workshop,
    /// What is known of the node's pods; `None`: nothing is asked.
    pods: Option<Pods>,
    /// Of which generation of that all logs know.
    described: u64,
    scratch: Vec<u8>,
    /// Nothing was read yet in a node's first run: `start` holds for whole files.
    first_look: bool,
    /// Looks at directories.
    looks: u64,
    /// When was last told of lines that were dropped.
    told_dropped: Option<Instant>,
    logs: Vec<Log>,
    by_key: HashMap<Key, usize>,
    buffer: Vec<u8>,
    /// Passes over all logs.
    passes: u64,
    /// In the last one a log was not read because too many are being inflated.
    waits_to_inflate: bool,
    listings: Listings,
    /// In which order a pass goes through the logs.
    order: Vec<usize>,
    counts: Counts,
    /// Paths that could not be opened, said once.
    unreadable: HashSet<PathBuf>,
    choice: Choice,
    /// The agent's own containers that are left out.
    left_out: HashSet<Container>,
    /// When an earlier run is known to have looked last, nanoseconds of the epoch.
    last_look: Option<i64>,
    containers: Containers,
}

/// What a pass over all logs came to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Pass {
    /// Bytes that were read.
    pub bytes: usize,
    /// Some log has more to read right now.
    pub more: bool,
}

impl Tailer {
    /// No logs yet. `first_run`: nothing is known of this node.
    #[must_use]
    pub fn new(labels: Labels, start: StartFrom, deleted: Deleted, sharing: Sharing, first_run: bool) -> Self {
        Self {
            labels,
            start,
            deleted,
            shares: Shares::new(sharing),
            workshop: Workshop::default(),
            pods: None,
            described: 0,
            scratch: Vec::new(),
            first_look: first_run,
            looks: 0,
            told_dropped: None,
            logs: Vec::new(),
            by_key: HashMap::new(),
            buffer: vec![0; BUFFER],
            passes: 0,
            waits_to_inflate: false,
            listings: Listings::default(),
            order: Vec::new(),
            counts: Counts::default(),
            unreadable: HashSet::new(),
            choice: Choice::none(),
            left_out: HashSet::new(),
            last_look: None,
            containers: Containers::default(),
        }
    }

    /// Treats messages with these tools from now on.
    #[must_use]
    pub fn with_workshop(mut self, workshop: Workshop) -> Self {
        self.workshop = workshop;
        self
    }

    /// Redaction rules, and how often each has matched.
    pub fn redactions(&self) -> impl Iterator<Item = (String, u64)> {
        self.workshop.redactions()
    }

    /// What takes secrets out, for those who have no messages of files.
    pub fn redactor(&mut self) -> Option<&mut Redactor> {
        self.workshop.redactor.as_mut()
    }

    /// Which containers are of which category, and which are the agent's own.
    #[must_use]
    pub fn choosing(self, choice: Choice) -> Self {
        Self { choice, ..self }
    }

    /// When an earlier run is known to have looked last, nanoseconds of the epoch: a rotated file of the node
    /// that was written since is read even where nothing is known of it.
    #[must_use]
    pub fn following(self, last_look: Option<i64>) -> Self {
        Self { last_look, ..self }
    }

    /// See [`Tailer::following`].
    #[must_use]
    pub fn last_look(&self) -> Option<i64> {
        self.last_look
    }

    /// Containers of the agent's own that are left out.
    #[must_use]
    pub fn left_out(&self) -> usize {
        self.left_out.len()
    }

    /// Takes up what a look found: opens new files, follows renames, notes what is gone.
    pub fn reconcile(&mut self, look: &Look, lanes: &mut Lanes, known: &mut dyn Known) {
        self.looks += 1;
        for unreadable in &look.unreadable {
            self.say_unreadable(&unreadable.path, &unreadable.error);
        }
        let mut met = HashSet::new();
        for listing in &look.containers {
            let leave_out = self.choice.treatment(&listing.container) == Treatment::LeaveOut;
            // What is followed already is not gone for a change of the settings.
            if leave_out && !self.follows(&listing.container) {
                self.left_out.insert(listing.container.clone());
                continue;
            }
            let mut attempts: Vec<u32> = listing.files.iter().map(|found| found.name.attempt).collect();
            attempts.dedup();
            for attempt in &attempts {
                let at = self.container_log(&listing.container, *attempt, &listing.directory, lanes, known);
                met.insert(at);
                let was_followed = self.logs[at].has_files();
                let mut present = Vec::new();
                for found in listing.files.iter().filter(|found| found.name.attempt == *attempt) {
                    present.extend(self.take_up(at, &found.path, &found.name.age, known));
                }
                self.recall(at, lanes, known);
                let follows_on = present.iter().any(|opened| matches!(opened, Opened::Known(_)));
                let present: Vec<Identity> = present.iter().map(Opened::identity).collect();
                self.logs[at].keep_only(&present, self.looks);
                if was_followed && !follows_on {
                    self.note_unseen_rotations(at);
                }
                // A container has one attempt at a time: once there is another, no more is written to this one.
                self.logs[at].ended = attempts.last() > Some(attempt);
            }
        }
        self.meet(look, &*known);
        for (at, log) in self.logs.iter_mut().enumerate() {
            let looked_at = match &log.key {
                Key::Container(container, _) => {
                    look.whole || look.containers.iter().any(|listing| listing.container == *container)
                }
                Key::Host(_) => false,
            };
            // What could not be looked at is not gone.
            let hidden = look.unreadable.iter().any(|unreadable| log.lies_in(&unreadable.path));
            if looked_at && !hidden && !met.contains(&at) {
                log.keep_only(&[], self.looks);
            }
        }
    }

    /// Gives each log whose lane takes records a turn: those first of which deleted files are held, then those
    /// of which nothing was read for longest, so that the logs of a lane that takes little have their turns. A
    /// turn is a quantum of bytes, as many times as the namespace weighs; what a line was too long by is
    /// taken off the next.
    pub fn read(&mut self, lanes: &mut Lanes, known: &mut dyn Known, now: Instant, wall_ns: i64) -> Pass {
        let mut pass = Pass::default();
        // What is found from now on came after the first start.
        self.first_look = false;
        self.passes += 1;
        self.describe(lanes, known, now);
        self.order.clear();
        self.order.extend(0..self.logs.len());
        self.order.sort_by_cached_key(|at| (!self.logs[*at].is_urgent(), self.logs[*at].read_in));
        let mut text = Vec::with_capacity(30);
        time::write(wall_ns, &mut text);
        let mut reading = Reading {
            output: Output { lanes, counts: &mut self.counts, workshop: &mut self.workshop, now },
            buffer: &mut self.buffer,
            known,
            wall: WallTime { ns: wall_ns, text: &text },
            since: if let StartFrom::Since(since) = self.start { since } else { i64::MIN },
            quantum: QUANTUM,
            scratch: std::mem::take(&mut self.scratch),
        };
        let mut inflating = self.logs.iter().filter(|log| log.is_inflating()).count();
        self.waits_to_inflate = false;
        for at in &self.order {
            let log = &mut self.logs[*at];
            let was_inflating = log.is_inflating();
            if !was_inflating && inflating >= INFLATING && log.is_to_inflate() {
                self.waits_to_inflate = true;
                continue;
            }
            let read = log.read(&mut reading);
            inflating = inflating - usize::from(was_inflating) + usize::from(log.is_inflating());
            if read.bytes > 0 {
                log.read_in = self.passes;
            }
            pass.bytes += read.bytes;
            pass.more |= read.more;
        }
        self.scratch = std::mem::take(&mut reading.scratch);
        pass.more |= self.waits_to_inflate && inflating < INFLATING;
        self.bound_pending(lanes, now);
        pass
    }

    /// Sends the longest messages that wait for their end ahead, until all together are within their bound.
    fn bound_pending(&mut self, lanes: &mut Lanes, now: Instant) {
        let mut total: usize = self.logs.iter().map(Log::pending_bytes).sum();
        while total > PENDING_BYTES {
            let Some(longest) = self.logs.iter_mut().max_by_key(|log| log.pending_bytes()) else { return };
            let before = longest.pending_bytes();
            longest.send_ahead(&mut Output { lanes, counts: &mut self.counts, workshop: &mut self.workshop, now });
            let after = longest.pending_bytes();
            if after >= before {
                return;
            }
            total -= before - after;
        }
    }

    /// Whether a log that was not read on, because its lane took nothing, can be by now.
    #[must_use]
    pub fn can_read_on(&self, lanes: &Lanes) -> bool {
        self.logs.iter().any(|log| log.held_back && lanes.takes_records(log.lane))
    }

    /// Closes what is read, stored and will not grow; forgets what is gone; gives up the deleted files that
    /// are too many.
    pub fn clean_up(&mut self, lanes: &mut Lanes, known: &mut dyn Known, now: Instant, wall_ns: i64) {
        let mut output = Output { lanes, counts: &mut self.counts, workshop: &mut self.workshop, now };
        self.logs.iter_mut().for_each(|log| log.clean_up(known, &mut output));
        if self.told_dropped.is_none_or(|told| now.saturating_duration_since(told) >= TELL_DROPPED) {
            self.told_dropped = Some(now);
            self.settle_left_out(known);
            self.tell_dropped(lanes, known, now, wall_ns);
        }
        self.tell_missed(lanes, known, now, wall_ns);
        self.give_up_deleted(lanes, known, now);
        if self.waits_to_inflate {
            // What holds back those that are being inflated is not to hold back the others.
            let is_stuck = |log: &&mut Log| log.is_inflating() && log.read_in < self.passes;
            self.logs.iter_mut().filter(is_stuck).for_each(Log::stop_inflating);
        }
        let mut at = 0;
        while at < self.logs.len() {
            if self.logs[at].is_over() {
                let log = self.logs.swap_remove(at);
                lanes.let_go(log.lane);
                self.by_key.remove(&log.key);
                self.release_pod(&log.key);
                if let Some(moved) = self.logs.get(at) {
                    self.by_key.insert(moved.key.clone(), at);
                }
            } else {
                at += 1;
            }
        }
    }

    /// Tells of the lines that were dropped since the last time, also of files that are not followed any more.
    fn tell_dropped(&mut self, lanes: &mut Lanes, known: &mut dyn Known, now: Instant, wall_ns: i64) {
        let dropped = known.with_dropped();
        let gaps: Vec<_> = dropped.into_iter().flat_map(|source| known.gaps_of_dropped(source, wall_ns)).collect();
        for gap in gaps {
            if let Some(at) = self.log_named(&gap.log, lanes, known) {
                let mut output = Output { lanes, counts: &mut self.counts, workshop: &mut self.workshop, now };
                self.logs[at].tell(&gap, &mut output);
            }
        }
    }

    /// Gives up the deleted files that are beyond the bound, those first that were deleted first. Where a log
    /// waits for its pod's metadata it goes on without, rather than lose lines: it is judged the next time.
    fn give_up_deleted(&mut self, lanes: &mut Lanes, known: &mut dyn Known, now: Instant) {
        let spool = lanes.spool_has_room();
        let mut held: Vec<(u64, u64)> = self.logs.iter().flat_map(|log| log.held_deleted(spool)).collect();
        held.sort_unstable();
        let (mut files, mut bytes) = (held.len(), held.iter().map(|(_, size)| size).sum::<u64>());
        let mut up_to = None;
        for (since, size) in held {
            if files <= self.deleted.files && bytes <= self.deleted.bytes {
                break;
            }
            files -= 1;
            bytes -= size;
            up_to = Some(since);
        }
        let Some(up_to) = up_to else { return };
        let rules = (&self.choice, &self.labels);
        let mut output = Output { lanes, counts: &mut self.counts, workshop: &mut self.workshop, now };
        for log in &mut self.logs {
            if log.waits_since().is_some() && log.holds_deleted(up_to) {
                place::go_on_undescribed(log, rules, known, &mut output);
            } else {
                log.give_up_deleted(up_to, known, &mut output);
            }
        }
    }

    /// Every source that exists: what checkpoints are kept for.
    pub fn sightings(&self) -> impl Iterator<Item = Sighting<'_>> {
        self.logs.iter().flat_map(Log::sightings)
    }

    /// Every source that a directory lists.
    pub fn existing(&self) -> impl Iterator<Item = u64> {
        self.logs.iter().flat_map(Log::existing)
    }

    /// Of each log, bytes that are not read yet less those that will be passed over, and bytes of lines that
    /// wait for their end.
    pub fn on_their_way(&self) -> impl Iterator<Item = (&Arc<str>, i128, u64)> {
        self.logs.iter().map(|log| (&log.names.log, log.to_read(), log.waiting_bytes()))
    }

    /// How far streams are settled that wrote little or nothing: without this a file whose stderr is
    /// silent would be read from its beginning at each start, to look for it.
    #[must_use]
    pub fn settled(&self, known: &dyn Known) -> Vec<(u64, Stream, u64)> {
        self.logs.iter().flat_map(|log| log.settled(known)).collect()
    }

    /// What was read since the last call.
    pub fn take_counts(&mut self) -> Counts {
        std::mem::take(&mut self.counts)
    }

    /// Logs, files held open, and bytes on disk that are not read yet.
    #[must_use]
    pub fn totals(&self) -> (usize, usize, u64) {
        let files = self.logs.iter().map(Log::open_files).sum();
        let unread = self.logs.iter().map(Log::unread_bytes).sum();
        (self.logs.len(), files, unread)
    }

    fn follows(&self, container: &Container) -> bool {
        self.logs.iter().any(|log| matches!(&log.key, Key::Container(followed, _) if followed == container))
    }

    fn add(&mut self, log: Log, lanes: &mut Lanes) -> usize {
        lanes.hold(log.lane);
        self.by_key.insert(log.key.clone(), self.logs.len());
        self.logs.push(log);
        self.logs.len() - 1
    }

    /// Opens the file at `path` unless the log has it.
    fn take_up(&mut self, at: usize, path: &Path, age: &Age, known: &mut dyn Known) -> Option<Opened> {
        let start = if self.first_look { self.start } else { StartFrom::Beginning };
        match self.logs[at].take_up(path, age, start, known) {
            Ok(opened) => {
                if opened.is_some() {
                    self.unreadable.remove(path);
                }
                opened
            }
            Err(error) => {
                self.say_unreadable(path, &error);
                // What cannot be looked at is not gone.
                self.logs[at].identity_at(path).map(Opened::Known)
            }
        }
    }

    fn say_unreadable(&mut self, path: &Path, error: &std::io::Error) {
        self.counts.unreadable += 1;
        // Once for each path, within a bound: a scan comes by every few seconds.
        if self.unreadable.len() < 1000 && self.unreadable.insert(path.to_owned()) {
            tracing::error!(path = %path.display(), %error, "log file cannot be read, going on with the others");
        }
    }
}

#[cfg(test)]
mod tests;
