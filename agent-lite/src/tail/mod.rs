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
use std::time::Instant;

use sluice_wire::{Category, Stream, time};

use crate::block::{LaneId, Lanes};
use crate::discover::{Container, Look};

mod counts;
mod cut;
mod file;
mod log;

pub use counts::Counts;
use file::{Identity, Opened};
use log::{Format, Log, Output, Reading, WallTime};

/// Read from one log before the next has its turn, bytes.
const QUANTUM: usize = 256 * 1024;
/// The buffer that all logs share; the longest physical line that is looked at whole.
const BUFFER: usize = 256 * 1024;

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

/// What is known of a source, also from earlier runs; by its short id.
pub trait Known {
    /// Bytes of `stream` that need not be read again: stored, or in the ring.
    fn covered(&self, source: u64, stream: Stream) -> u64;

    /// Bytes of `stream` that are stored.
    fn acknowledged(&self, source: u64, stream: Stream) -> u64;

    /// How often the file was truncated that `source` was its first id.
    fn truncations(&self, source: u64) -> u32;

    /// Notes one more.
    fn note_truncation(&mut self, source: u64);
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
    /// Nothing was read yet in a node's first run: `start` holds for whole files.
    first_look: bool,
    logs: Vec<Log>,
    by_key: HashMap<Key, usize>,
    buffer: Vec<u8>,
    /// Passes over all logs.
    passes: u64,
    /// In which order a pass goes through the logs.
    order: Vec<usize>,
    counts: Counts,
    /// Paths that could not be opened, said once.
    unreadable: HashSet<PathBuf>,
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
    pub fn new(labels: Labels, start: StartFrom, first_run: bool) -> Self {
        Self {
            labels,
            start,
            first_look: first_run,
            logs: Vec::new(),
            by_key: HashMap::new(),
            buffer: vec![0; BUFFER],
            passes: 0,
            order: Vec::new(),
            counts: Counts::default(),
            unreadable: HashSet::new(),
        }
    }

    /// Takes up what a look found: opens new files, follows renames, notes what is gone.
    pub fn reconcile(&mut self, look: &Look, lanes: &mut Lanes, known: &dyn Known) {
        for unreadable in &look.unreadable {
            self.say_unreadable(&unreadable.path, &unreadable.error);
        }
        let mut met = HashSet::new();
        for listing in &look.containers {
            let mut attempts: Vec<u32> = listing.files.iter().map(|found| found.name.attempt).collect();
            attempts.dedup();
            for attempt in attempts {
                let at = self.container_log(&listing.container, attempt, lanes);
                met.insert(at);
                let mut present = Vec::new();
                for found in listing.files.iter().filter(|found| found.name.attempt == attempt) {
                    present.extend(self.take_up(at, &found.path, &found.name.age, known));
                }
                self.logs[at].keep_only(&present);
            }
            self.mark_older_attempts_ended(listing);
        }
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
                log.keep_only(&[]);
            }
        }
    }

    /// Looks at a host log's path: opens it where it is new or was replaced.
    pub fn look_at_host_file(&mut self, path: &Path, unit: &Arc<str>, lanes: &mut Lanes, known: &dyn Known) {
        let key = Key::Host(path.to_owned());
        let at = match self.by_key.get(&key) {
            Some(at) => *at,
            None => {
                let lane = lanes.lane(Category::Host, unit);
                let common = self.host_common(unit);
                self.add(Log::new(key, lane, Format::Plain, common))
            }
        };
        match path.try_exists() {
            Ok(true) => {}
            Ok(false) => return self.logs[at].keep_only(&[]),
            // Opening it says why.
            Err(_) => {}
        }
        let live = crate::discover::layout::Age::Live;
        if let Some(present) = self.take_up(at, path, &live, known) {
            self.logs[at].supersede(present);
        }
    }

    /// Reads up to a quantum of each log whose lane takes records: those first of which nothing was read
    /// for longest, so that the logs of a lane that takes little have their turns.
    pub fn read(&mut self, lanes: &mut Lanes, known: &dyn Known, now: Instant, wall_ns: i64) -> Pass {
        let mut pass = Pass::default();
        // What is found from now on came after the first start.
        self.first_look = false;
        self.passes += 1;
        self.order.clear();
        self.order.extend(0..self.logs.len());
        self.order.sort_by_key(|at| self.logs[*at].read_in);
        let mut text = Vec::with_capacity(30);
        time::write(wall_ns, &mut text);
        let mut reading = Reading {
            output: Output { lanes, counts: &mut self.counts, now },
            buffer: &mut self.buffer,
            known,
            wall: WallTime { ns: wall_ns, text: &text },
            since: if let StartFrom::Since(since) = self.start { since } else { i64::MIN },
            quantum: QUANTUM,
        };
        for at in &self.order {
            let log = &mut self.logs[*at];
            let read = log.read(&mut reading);
            if read.bytes > 0 {
                log.read_in = self.passes;
            }
            pass.bytes += read.bytes;
            pass.more |= read.more;
        }
        pass
    }

    /// Whether a log that was not read on, because its lane took nothing, can be by now.
    #[must_use]
    pub fn can_read_on(&self, lanes: &Lanes) -> bool {
        self.logs.iter().any(|log| log.held_back && lanes.takes_records(log.lane))
    }

    /// Closes what is read, stored and will not grow; forgets what is gone.
    pub fn clean_up(&mut self, lanes: &mut Lanes, known: &mut dyn Known, now: Instant) {
        let mut output = Output { lanes, counts: &mut self.counts, now };
        for log in &mut self.logs {
            log.clean_up(known, &mut output);
        }
        let mut at = 0;
        while at < self.logs.len() {
            if self.logs[at].is_over() {
                let log = self.logs.swap_remove(at);
                self.by_key.remove(&log.key);
                if let Some(moved) = self.logs.get(at) {
                    self.by_key.insert(moved.key.clone(), at);
                }
            } else {
                at += 1;
            }
        }
    }

    /// Every source that exists, with its path: what checkpoints are kept for.
    pub fn sources(&self) -> impl Iterator<Item = (u64, &Path)> {
        self.logs.iter().flat_map(Log::sources)
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

    fn container_log(&mut self, container: &Container, attempt: u32, lanes: &mut Lanes) -> usize {
        let key = Key::Container(container.clone(), attempt);
        if let Some(at) = self.by_key.get(&key) {
            return *at;
        }
        let lane: LaneId = lanes.lane(Category::Application, &container.pod.namespace);
        let common = self.container_common(container, attempt);
        self.add(Log::new(key, lane, Format::Cri, common))
    }

    fn add(&mut self, log: Log) -> usize {
        self.by_key.insert(log.key.clone(), self.logs.len());
        self.logs.push(log);
        self.logs.len() - 1
    }

    /// Opens the file at `path` unless the log has it; gives its identity.
    fn take_up(
        &mut self,
        at: usize,
        path: &Path,
        age: &crate::discover::layout::Age,
        known: &dyn Known,
    ) -> Option<Identity> {
        let start = if self.first_look { self.start } else { StartFrom::Beginning };
        let opened = self.logs[at].take_up(path, age, start, known);
        match opened {
            Ok(Opened::Known(identity) | Opened::New(identity)) => {
                self.unreadable.remove(path);
                Some(identity)
            }
            Ok(Opened::Gone) => None,
            Err(error) => {
                self.say_unreadable(path, &error);
                // What cannot be looked at is not gone.
                self.logs[at].identity_at(path)
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

    /// A container has one attempt at a time: once N+1 is there, nothing more is written to N.
    fn mark_older_attempts_ended(&mut self, listing: &crate::discover::Listing) {
        let Some(newest) = listing.files.iter().map(|found| found.name.attempt).max() else { return };
        for log in &mut self.logs {
            if let Key::Container(container, attempt) = &log.key
                && *container == listing.container
                && *attempt < newest
            {
                log.ended = true;
            }
        }
    }

    fn container_common(&self, container: &Container, attempt: u32) -> [Vec<u8>; 3] {
        let attempt = attempt.to_string();
        let render = |stream: &str| {
            crate::record::common([
                ("cluster", &*self.labels.cluster),
                ("environment", &self.labels.environment),
                ("k8s_namespace_name", &container.pod.namespace),
                ("k8s_pod_name", &container.pod.name),
                ("k8s_pod_uid", &container.pod.uid),
                ("k8s_container_name", &container.name),
                ("k8s_container_restart_count", &attempt),
                ("k8s_node_name", &self.labels.node),
                ("stream", stream),
            ])
        };
        [Vec::new(), render("stdout"), render("stderr")]
    }

    fn host_common(&self, unit: &str) -> [Vec<u8>; 3] {
        let common = crate::record::common([
            ("cluster", &*self.labels.cluster),
            ("environment", &self.labels.environment),
            ("k8s_node_name", &self.labels.node),
            ("log_type", "host"),
            ("unit", unit),
        ]);
        [common, Vec::new(), Vec::new()]
    }
}

#[cfg(test)]
mod tests;
