//! The only file that knows every room: it opens the state, then turns the wheel.
//!
//! One thread does it all: look for files, read, cut, send, act on verdicts, checkpoint. What blocks
//! on a disk's fsync goes to a thread of its own.

use std::collections::{HashMap, HashSet};
use std::path::PathBuf;
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context as _, bail};
use jiff::tz::TimeZone;
use sluice_durable_log::OpenError;
use sluice_wire::{BlockId, Lane};
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use crate::admin::{self, Answer, Status};
use crate::block::{self, Lanes, Queued};
use crate::books::{self, Book, Ledger};
use crate::checkpoint::{Numbers, Positions, Snapshot, Store};
use crate::config::{Config, FirstStart};
use crate::discover::{Discovery, Hint};
use crate::enrich::{self, Pods};
use crate::entries::Entries;
use crate::metrics::Metrics;
use crate::ring::{self, Ring};
use crate::ship::{self, Desk, Dispatch, Happening};
use crate::tail::{Counts, Labels, StartFrom, Tailer, Workshop};

mod spooling;

use spooling::Spooling;

/// Between checkpoints, clean-ups and updates of gauges.
const HOUSEKEEPING: Duration = Duration::from_secs(1);

struct Agent {
    config: Config,
    metrics: Metrics,
    store: Store,
    since: Option<i64>,
    discovery: Option<Discovery>,
    tailer: Tailer,
    entries: Entries,
    lanes: Lanes,
    positions: Positions,
    numbers: Numbers,
    dispatch: Dispatch,
    spooling: Spooling,
    /// At most one checkpoint is being written.
    writing: JoinSet<(Snapshot, Covered, std::io::Result<()>)>,
    written: Option<Snapshot>,
    ledger: Ledger,
}

/// What a checkpoint covers, once it is durable.
#[derive(Debug, Default)]
struct Covered {
    in_ring: Vec<BlockId>,
    in_spool: Vec<u64>,
}

/// What the agent did, for its last words.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Balance {
    /// Lines read from files.
    pub read: u64,
    /// Records that gateways have stored.
    pub stored: u64,
    /// Records in blocks that are not decided.
    pub held: u64,
}

/// Runs until `stop` resolves, then drains.
///
/// # Errors
/// Only what keeps the agent from starting: another agent on the state directory, or an address that
/// cannot be had.
pub async fn run(config: Config, stop: impl Future<Output = ()>) -> anyhow::Result<Balance> {
    let metrics = Metrics::new()?;
    let (status, mut questions) = Status::new(metrics.clone());
    let mut servers = JoinSet::new();
    if let Some(address) = config.admin {
        let listener =
            TcpListener::bind(address).await.with_context(|| format!("admin: cannot listen on {address}"))?;
        tracing::info!(admin = %listener.local_addr()?, "listening");
        servers.spawn(admin::serve(listener, status.clone()));
    }
    let pods = if config.kubernetes.source == enrich::Source::None {
        None
    } else {
        let (pods, follow) = enrich::start(&config.kubernetes, &config.node, &metrics.kubernetes);
        servers.spawn(follow);
        Some(pods)
    };
    let mut agent = Agent::start(config, metrics, pods)?;
    status.set_ready(true);
    tracing::info!(producer = %agent.numbers.producer, state = %agent.config.state.display(), "agent started");
    agent.turn(stop, &mut questions).await;
    status.set_ready(false);
    Ok(agent.drain().await)
}

impl Agent {
    fn start(config: Config, metrics: Metrics, pods: Option<Pods>) -> anyhow::Result<Self> {
        if let Err(error) = std::fs::create_dir_all(&config.state) {
            tracing::error!(path = %config.state.display(), %error, "no state directory: logs are shipped at least once");
        }
        let store = Store::new(&config.state);
        let loaded = store.load();
        let ring_directory = ring::directory(&config.state);
        if loaded.first_run || loaded.renewed.is_some() {
            // Its blocks belong to a producer that is no more.
            if let Err(error) = Ring::discard(&ring_directory) {
                tracing::warn!(path = %ring_directory.display(), %error, "an old ring cannot be removed");
            }
        }
        if let Some(why) = loaded.renewed {
            tracing::warn!(?why, "a new producer id: what was sent since the last checkpoint may be sent again");
        }
        let (ring, kept) = open_ring(&ring_directory, config.ring_bytes)?;
        let (spooling, left) = Spooling::open(&config.state, config.spool_bytes)?;
        let start = match config.first_start {
            FirstStart::Beginning => StartFrom::Beginning,
            FirstStart::End => StartFrom::End,
            FirstStart::Since(age) => {
                StartFrom::Since(wall_ns().saturating_sub(i64::try_from(age.as_nanos()).unwrap_or(i64::MAX)))
            }
        };
        let since = match start {
            StartFrom::Since(since) if loaded.first_run => Some(since),
            _ => loaded.since,
        };
        let start = if loaded.first_run { start } else { since.map_or(StartFrom::Beginning, StartFrom::Since) };
        let labels = Labels {
            cluster: config.cluster.clone(),
            environment: config.environment.clone(),
            node: config.node.clone(),
        };
        let mut lanes = Lanes::new(block::Settings {
            cluster: config.cluster.as_str().into(),
            node: config.node.as_str().into(),
            target_bytes: config.block_bytes,
            max_age: config.block_age,
            open_bytes: config.open_bytes,
            queued_bytes: config.queued_bytes,
            lane_queued_bytes: config.queued_bytes / 4,
            compression: config.destination.compression,
        });
        let places = left.blocks.first().zip(left.blocks.last()).map(|(first, last)| (first.place, last.place));
        lanes.begin_places(places, kept.len());
        let settings = ship::Settings {
            endpoints: config.destination.endpoints.clone(),
            pool: config.destination.pool.clone(),
            in_doubt_max: config.destination.in_doubt_max,
            dead_letter_bytes: config.dead_letter_bytes,
        };
        let mut positions = loaded.positions;
        let entries = entries(&config, &labels, start, &mut positions);
        let workshop = Workshop::new(config.redactor()?, config.messages.clone(), node_zone());
        let tailer = Tailer::new(labels, start, config.deleted, config.sharing.clone(), loaded.first_run)
            .choosing(config.sources.pods.clone())
            .following(loaded.written_ns)
            .with_workshop(workshop)
            .with_pods(pods);
        let mut agent = Self {
            discovery: config.pods.as_deref().map(Discovery::new),
            tailer,
            entries,
            dispatch: Dispatch::new(settings, &config.state, ring, metrics.clone()),
            spooling,
            lanes,
            ledger: Ledger::new(&positions),
            positions,
            numbers: loaded.numbers,
            since,
            store,
            metrics,
            config,
            writing: JoinSet::new(),
            written: None,
        };
        agent.take_up_ring(kept);
        agent.take_up_spool(left, Self::scan);
        // Numbers are reserved before the first one is used, and where a first start begins is written
        // down before anything is read.
        agent.tailer.tell_losses(&mut agent.lanes, &mut agent.positions, Instant::now(), wall_ns());
        agent.entries.tell_losses(&mut agent.lanes, &mut agent.positions, Instant::now(), wall_ns());
        // What is here now is known to the next start, too.
        agent.positions.sight(agent.tailer.sightings());
        agent.settle();
        let snapshot = agent.snapshot(false);
        match agent.store.write(&snapshot) {
            Ok(()) => agent.numbers.reserved(&snapshot),
            Err(error) => agent.say_checkpoint_failed(&error),
        }
        Ok(agent)
    }

    /// What was under way when the last run ended goes first. A block that does not follow on what is
    /// stored (the ring was full once) is cut anew with all that come after it in its lane. Pieces of a
    /// block that was too large share the fate of the last one, which has their positions.
    fn take_up_ring(&mut self, kept: Vec<Queued>) {
        let mut broken = HashSet::new();
        let mut pieces: HashMap<Lane, Vec<Queued>> = HashMap::new();
        let (mut decided, mut cut_anew) = (Vec::new(), Vec::new());
        for block in kept {
            let lane = block.header.lane.clone();
            let whole = pieces.entry(lane.clone()).or_default();
            whole.push(block);
            let last = &whole[whole.len() - 1];
            if last.header.positions.is_empty() {
                continue;
            }
            if self.positions.are_stored(&last.header.positions) {
                decided.extend(whole.drain(..).filter_map(|block| block.id()));
            } else if broken.contains(&lane) || !self.positions.extend_by_ring(last.shares()) {
                cut_anew.append(whole);
                broken.insert(lane);
            } else {
                whole.drain(..).for_each(|block| self.lanes.restore(block));
            }
        }
        // Pieces whose last one never came into the ring.
        cut_anew.extend(pieces.into_values().flatten());
        let records = cut_anew.iter().map(|block| u64::from(block.header.records)).sum();
        self.metrics.possible_duplicates.inc_by(records);
        if !cut_anew.is_empty() {
            tracing::warn!(
                blocks = cut_anew.len(),
                records,
                "blocks of the ring do not follow on what is stored: their lines are read again"
            );
        }
        self.dispatch.checkpointed(decided);
        self.dispatch.take_back(&cut_anew.iter().filter_map(Queued::id).collect::<Vec<_>>());
    }

    /// The wheel.
    async fn turn(&mut self, stop: impl Future<Output = ()>, questions: &mut mpsc::Receiver<Answer>) {
        tokio::pin!(stop);
        let mut hints: HashSet<PathBuf> = HashSet::new();
        let mut next_read = Instant::now();
        let mut next_scan = Instant::now() + self.scan_interval();
        let mut next_housekeeping = Instant::now() + HOUSEKEEPING;
        loop {
            let wake = [
                Some(next_read),
                Some(next_scan),
                Some(next_housekeeping),
                self.lanes.next_due(),
                self.lanes.next_resume(),
            ]
            .into_iter()
            .flatten()
            .min()
            .unwrap_or(next_read);
            let hint = async {
                match &mut self.discovery {
                    Some(discovery) => discovery.hint().await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                biased;
                () = &mut stop => return,
                happening = self.dispatch.happening() => {
                    self.act_on(happening);
                    // At once, not at the next poll: catching up goes as fast as verdicts come.
                    if self.tailer.can_read_on(&self.lanes) || self.entries.can_read_on(&self.lanes) {
                        next_read = Instant::now();
                    }
                }
                Some(Ok((snapshot, covered, result))) = self.writing.join_next() => self.checkpointed(snapshot, covered, result),
                hint = hint => match hint {
                    Hint::Changed(path) => {
                        hints.insert(path);
                        // Looked at with the next read, so that a burst of events costs one look.
                        next_read = next_read.min(Instant::now() + Duration::from_millis(20));
                    }
                    Hint::Overflow => next_scan = Instant::now(),
                },
                Some(answer) = questions.recv() => {
                    // Whoever asked may have gone.
                    let _ = answer.send(self.close_books());
                }
                () = tokio::time::sleep_until(wake.into()) => {}
            }
            let now = Instant::now();
            self.lanes.resume(now);
            if now >= next_scan {
                self.scan();
                next_scan = now + self.scan_interval();
                hints.clear();
            }
            if now >= next_read {
                if !hints.is_empty() {
                    self.look_at(&std::mem::take(&mut hints));
                }
                let pass = self.tailer.read(&mut self.lanes, &mut self.positions, now, wall_ns());
                let of_entries = self.entries.read(&mut self.lanes, &mut self.positions, now, wall_ns());
                let more = self.spool() || pass.more || of_entries.more;
                next_read = if more { now } else { now + self.config.poll_interval };
            }
            if now >= next_housekeeping {
                self.keep_house(now);
                next_housekeeping = now + HOUSEKEEPING;
            }
            self.lanes.cut_due(now);
            self.send(now);
            // While there is more to read the timer above is always due: let the connections work.
            tokio::task::yield_now().await;
        }
    }

    fn send(&mut self, now: Instant) {
        self.unspool();
        let mut desk = Desk {
            lanes: &mut self.lanes,
            positions: &mut self.positions,
            numbers: &mut self.numbers,
            now,
            wall_ns: wall_ns(),
        };
        self.dispatch.send(&mut desk);
    }

    fn act_on(&mut self, happening: Happening) {
        let mut desk = Desk {
            lanes: &mut self.lanes,
            positions: &mut self.positions,
            numbers: &mut self.numbers,
            now: Instant::now(),
            wall_ns: wall_ns(),
        };
        self.dispatch.handle(happening, &mut desk);
        // What was refused leaves the ring with the next request.
        self.spool();
    }

    fn scan_interval(&self) -> Duration {
        self.discovery
            .as_ref()
            .map_or(self.config.scan_interval, |discovery| discovery.interval(self.config.scan_interval))
    }

    fn scan(&mut self) {
        if let Some(discovery) = &mut self.discovery {
            let look = discovery.scan();
            let (watches, complete) = discovery.watches();
            self.metrics.watches.set(i64::try_from(watches).unwrap_or(i64::MAX));
            self.metrics.scan_only.set(i64::from(!complete));
            self.tailer.reconcile(&look, &mut self.lanes, &mut self.positions);
        }
        self.look_at_host_files();
    }

    fn look_at(&mut self, hints: &HashSet<PathBuf>) {
        if let Some(discovery) = &mut self.discovery {
            let look = discovery.look_at(hints);
            self.tailer.reconcile(&look, &mut self.lanes, &mut self.positions);
        }
    }

    fn look_at_host_files(&mut self) {
        self.tailer.look_at_host(&self.config.sources.host, &mut self.lanes, &mut self.positions);
    }

    fn keep_house(&mut self, now: Instant) {
        self.look_at_host_files();
        self.note_gone();
        self.spool();
        self.tailer.clean_up(&mut self.lanes, &mut self.positions, now, wall_ns());
        self.positions.forget_unseen(self.lanes.held_of_sources().map(|(source, _)| source));
        self.settle();
        let pages = self.close_books();
        self.ledger.tell(&pages, &self.metrics.books);
        self.count();
        self.begin_checkpoint();
    }

    fn close_books(&mut self) -> Vec<Book> {
        self.sight();
        books::close(&self.positions, self.tailer.on_their_way(), self.lanes.held_of_sources())
    }

    fn sight(&mut self) {
        self.positions.sight(self.tailer.sightings().chain(self.entries.sightings()));
    }

    fn settle(&mut self) {
        let mut settled = self.tailer.settled(&self.positions);
        settled.extend(self.entries.settled(&self.positions));
        for (source, stream, end) in settled {
            self.positions.settle(source, stream, end);
        }
    }

    fn snapshot(&self, clean: bool) -> Snapshot {
        Snapshot::take(self.numbers, &self.positions, self.since, clean)
    }

    fn begin_checkpoint(&mut self) {
        if !self.writing.is_empty() {
            return;
        }
        let snapshot = self.snapshot(false);
        if self.written.as_ref() == Some(&snapshot) {
            return;
        }
        let covered = Covered { in_ring: self.dispatch.take_stored(), in_spool: self.lanes.take_decided() };
        let store = self.store.clone();
        self.writing.spawn_blocking(move || {
            let result = store.write(&snapshot);
            (snapshot, covered, result)
        });
    }

    fn checkpointed(&mut self, snapshot: Snapshot, covered: Covered, result: std::io::Result<()>) {
        match result {
            Ok(()) => {
                self.metrics.checkpoints.inc();
                self.numbers.reserved(&snapshot);
                self.dispatch.checkpointed(covered.in_ring);
                self.let_go(covered.in_spool);
                self.written = Some(snapshot);
            }
            Err(error) => {
                self.dispatch.give_back_stored(covered.in_ring);
                self.lanes.give_back_decided(covered.in_spool);
                self.say_checkpoint_failed(&error);
            }
        }
    }

    fn say_checkpoint_failed(&self, error: &std::io::Error) {
        self.metrics.checkpoint_errors.inc();
        tracing::error!(
            path = %self.config.state.display(), %error,
            "checkpoint cannot be written: shipping goes on, a restart will send again what came since the last one"
        );
    }

    fn count(&mut self) {
        for counts in [self.tailer.take_counts(), self.entries.take_counts()] {
            self.count_reading(&counts);
        }
        self.metrics.own_left_out.set(gauge(self.tailer.left_out()));
        self.count_held();
    }

    fn count_reading(&self, counts: &Counts) {
        self.metrics.read_bytes.inc_by(counts.bytes);
        self.metrics.read_lines.inc_by(counts.lines);
        self.metrics.torn_lines.inc_by(counts.torn);
        self.metrics.torn_bytes.inc_by(counts.torn_bytes);
        self.metrics.long_lines.inc_by(counts.long);
        self.metrics.too_old_lines.inc_by(counts.too_old);
        self.metrics.unreadable.inc_by(counts.unreadable);
        self.metrics.truncated.inc_by(counts.truncated);
        self.metrics.gaps.inc_by(counts.gaps);
        self.metrics.dropped_lines.inc_by(counts.dropped);
        self.metrics.undescribed_logs.inc_by(counts.undescribed);
        self.metrics.audit_text_lines.inc_by(counts.no_events);
        self.metrics.missing_entries.inc_by(counts.missing_entries);
        self.metrics.journal_reader_ends.inc_by(counts.reader_ends);
    }

    fn count_held(&mut self) {
        self.metrics.waiting_logs.set(gauge(self.tailer.undescribed()));
        for (rule, matches) in self.tailer.redactions() {
            self.metrics.redacted(rule, matches);
        }
        let cut = self.lanes.take_cut();
        self.metrics.blocks.inc_by(cut.blocks);
        self.metrics.raw_bytes.inc_by(cut.raw);
        self.metrics.payload_bytes.inc_by(cut.payload);
        let (logs, open_files, unread) = self.tailer.totals();
        self.metrics.logs.set(gauge(logs));
        self.metrics.open_files.set(gauge(open_files));
        self.metrics.unread_bytes.set(i64::try_from(unread).unwrap_or(i64::MAX));
        let (open, queued) = self.lanes.held_bytes();
        self.metrics.open_block_bytes.set(gauge(open));
        self.metrics.queued_bytes.set(gauge(queued));
        self.metrics.held_records.set(i64::try_from(self.lanes.held_records()).unwrap_or(i64::MAX));
        self.metrics.paused_lanes.set(gauge(self.lanes.paused()));
        self.count_spool();
    }

    /// Reads what is gone to its end while there is a spool for it, and nothing else.
    fn read_what_is_gone(&mut self, deadline: Instant) {
        self.scan();
        self.note_gone();
        self.lanes.close();
        loop {
            let pass = self.tailer.read(&mut self.lanes, &mut self.positions, Instant::now(), wall_ns());
            if (!self.spool() && pass.bytes == 0) || Instant::now() >= deadline {
                return;
            }
        }
    }

    /// Reads no more, sends what is cut, spools what nobody could read again, and writes down where it ends.
    async fn drain(mut self) -> Balance {
        let deadline = tokio::time::Instant::now() + self.config.drain;
        self.read_what_is_gone(deadline.into());
        self.lanes.cut_all();
        self.spool();
        while !self.lanes.is_empty() {
            let now = Instant::now();
            self.lanes.resume(now);
            self.send(now);
            let resume = self.lanes.next_resume().map_or(deadline, Into::into).min(deadline);
            tokio::select! {
                happening = self.dispatch.happening() => self.act_on(happening),
                () = tokio::time::sleep_until(resume) => {}
            }
            if tokio::time::Instant::now() >= deadline {
                break;
            }
        }
        self.note_gone();
        self.spool();
        if let Some(Ok((snapshot, covered, result))) = self.writing.join_next().await {
            self.checkpointed(snapshot, covered, result);
        }
        self.settle();
        self.sight();
        self.count();
        // Clean: no block is under way, so that even after a reboot nothing is in doubt.
        let snapshot = self.snapshot(self.lanes.is_empty());
        match self.store.write(&snapshot) {
            Ok(()) => {
                let decided = self.lanes.take_decided();
                self.let_go(decided);
            }
            Err(error) => self.say_checkpoint_failed(&error),
        }
        let balance = Balance {
            read: self.metrics.read_lines.get(),
            stored: self.metrics.acknowledged_records.get(),
            held: self.lanes.held_records(),
        };
        tracing::info!(read = balance.read, stored = balance.stored, held = balance.held, "agent stopped");
        balance
    }
}

/// What is read that is no file.
fn entries(config: &Config, labels: &Labels, start: StartFrom, positions: &mut Positions) -> Entries {
    let mut entries = Entries::default();
    if let Some(journal) = &config.sources.journal {
        entries = entries.with_journal(journal.clone(), labels, start, wall_ns(), positions);
    }
    if let Some(path) = &config.sources.kmsg {
        entries = entries.with_kmsg(path, labels, start, wall_ns(), positions);
    }
    entries
}

/// A ring, or none where its directory cannot be used; an error where another agent uses it.
fn open_ring(directory: &std::path::Path, bytes: u64) -> anyhow::Result<(Option<Ring>, Vec<Queued>)> {
    match Ring::open(directory, bytes) {
        Ok((ring, kept)) => Ok((Some(ring), kept)),
        Err(error @ OpenError::Locked { .. }) => bail!("{error}"),
        Err(error) => {
            tracing::error!(%error, "no in-flight ring: logs are shipped at least once");
            Ok((None, Vec::new()))
        }
    }
}

/// The node's zone, as its `/etc/localtime` says; UTC where there is none.
fn node_zone() -> TimeZone {
    let read = std::fs::read("/etc/localtime").ok();
    read.and_then(|bytes| TimeZone::tzif("localtime", &bytes).ok()).unwrap_or(TimeZone::UTC)
}

fn wall_ns() -> i64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_nanos()).unwrap_or(i64::MAX)
}

fn gauge(value: usize) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests;
