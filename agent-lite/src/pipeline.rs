//! The only file that knows every room: it opens the state, then turns the wheel.
//!
//! One thread does it all: look for files, read, cut, send, act on verdicts, checkpoint. What blocks
//! on a disk's fsync goes to a thread of its own.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

use anyhow::Context as _;
use sluice_wire::BlockId;
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use crate::admin::{self, Answer, Status};
use crate::block::Lanes;
use crate::books::{self, Book, Ledger};
use crate::checkpoint::{Numbers, Positions, Snapshot, Store};
use crate::config::{Change, Config, Reloader};
use crate::discover::{self, Discovery};
use crate::enrich;
use crate::entries::Entries;
use crate::metrics::Metrics;
use crate::runtime::{self, Comparison};
use crate::ship::{self, Desk, Dispatch, Happening};
use crate::tail::{Missed, Tailer};

mod absence;
mod count;
mod hints;
mod reload;
mod spooling;
mod start;

use hints::Hints;
pub use reload::Origin;
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
    /// What the container runtime says it wrote, where it is asked.
    comparison: Option<Comparison>,
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

/// Runs until `stop` resolves, then drains. Settings are looked at again and again where they came from.
///
/// # Errors
/// Only what keeps the agent from starting: another agent on the state directory, or an address that
/// cannot be had.
pub async fn run(config: Config, origin: Origin, stop: impl Future<Output = ()>) -> anyhow::Result<Balance> {
    let metrics = Metrics::new()?;
    let reloader = Reloader::new(origin.path, origin.env, config.clone());
    let (status, questions) = Status::new(metrics.clone(), reloader.status());
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
    let (change, changes) = mpsc::channel(1);
    servers.spawn(reload::follow(reloader, change, metrics.clone()).context("SIGHUP cannot be had")?);
    metrics.reload.last.set(wall_ns() / 1_000_000_000);
    ship(config, metrics, pods, Orders { questions, changes }, |ready| status.set_ready(ready), stop).await
}

/// What others want of an agent that runs.
#[derive(Debug)]
pub struct Orders {
    /// Questions of the books.
    pub questions: mpsc::Receiver<Answer>,
    /// Settings to go on with.
    pub changes: mpsc::Receiver<Change>,
}

/// Turns the wheel until `stop` resolves, then drains; `ready` is told when it turns, and when no more.
///
/// # Errors
/// Another agent has the state directory.
pub async fn ship(
    config: Config,
    metrics: Metrics,
    pods: Option<enrich::Pods>,
    mut orders: Orders,
    ready: impl Fn(bool),
    stop: impl Future<Output = ()>,
) -> anyhow::Result<Balance> {
    let mut asking = JoinSet::new();
    let comparison = config.runtime.as_ref().map(|settings| {
        let (comparison, ask) = runtime::start(settings, &metrics.runtime);
        asking.spawn(ask);
        comparison
    });
    let mut agent = Agent::start(config, metrics, pods)?;
    agent.comparison = comparison;
    ready(true);
    tracing::info!(producer = %agent.numbers.producer, state = %agent.config.state.display(), "agent started");
    agent.turn(stop, &mut orders).await;
    ready(false);
    Ok(agent.drain().await)
}

impl Agent {
    /// The wheel.
    async fn turn(&mut self, stop: impl Future<Output = ()>, orders: &mut Orders) {
        tokio::pin!(stop);
        let mut next_read = Instant::now();
        let mut hints = Hints { paths: HashSet::new(), next_scan: Instant::now() + self.scan_interval() };
        let mut next_housekeeping = Instant::now() + HOUSEKEEPING;
        loop {
            let wake = [
                Some(next_read),
                Some(hints.next_scan),
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
                hint = hint => hints.take(hint),
                Some(answer) = orders.questions.recv() => {
                    // Whoever asked may have gone.
                    let _ = answer.send(self.close_books());
                }
                Some(change) = orders.changes.recv() => self.change(change),
                () = tokio::time::sleep_until(wake.into()) => {}
            }
            self.take_hints(&mut hints);
            next_read = hints.due(next_read);
            let now = Instant::now();
            self.lanes.resume(now);
            if now >= hints.next_scan {
                self.scan();
                hints.next_scan = now + self.scan_interval();
                hints.paths.clear();
            }
            if now >= next_read {
                if !hints.paths.is_empty() {
                    self.look_at(&std::mem::take(&mut hints.paths));
                }
                let pass = self.tailer.read(&mut self.lanes, &mut self.positions, now, wall_ns());
                let redactor = self.tailer.redactor();
                let of_entries = self.entries.read(&mut self.lanes, &mut self.positions, redactor, now, wall_ns());
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
        self.tailer.list_anew();
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
        self.lanes.forget_unused();
        self.forget_unseen(now);
        self.settle();
        let pages = self.close_books();
        self.ledger.tell(&pages, &self.metrics.books);
        self.compare(&pages);
        self.count();
        self.begin_checkpoint();
    }

    /// Forgets positions of what was looked for and is gone, and tells of what of that was not read.
    fn forget_unseen(&mut self, now: Instant) {
        let settled = self.entries.settled(&self.positions);
        let is_mounted = self.discovery.as_ref().is_some_and(Discovery::is_mounted);
        let pods = self.config.pods.as_deref().map(|root| (root, is_mounted));
        let may_come = |missed: &Missed<'_>| match self.entries.may_read_again(missed, &settled) {
            Some(may_come) => may_come,
            None => discover::may_be_there(missed.path, pods),
        };
        let held = self.lanes.held_of_sources().map(|(source, _)| source);
        let untold = self.positions.forget_unseen(held, may_come);
        self.tailer.tell_vanished(&untold, &mut self.lanes, &mut self.positions, now, wall_ns());
    }

    /// What is in containers' logs, against what their runtime says it wrote.
    fn compare(&mut self, pages: &[Book]) {
        if let (Some(comparison), Some(pods)) = (&mut self.comparison, &self.config.pods) {
            let of_containers = pages.iter().filter(|page| Path::new(&*page.log).starts_with(pods));
            comparison.compare(of_containers.map(|page| (&page.log, page.written)));
        }
    }

    fn close_books(&mut self) -> Vec<Book> {
        self.sight();
        let on_their_way = self.tailer.on_their_way().chain(self.entries.on_their_way());
        books::close(&self.positions, on_their_way, self.lanes.held_of_sources())
    }

    fn sight(&mut self) {
        self.positions.sight(self.tailer.sightings().chain(self.entries.sightings()));
        self.meet();
    }

    fn meet(&mut self) {
        if let Some(met) = self.tailer.met() {
            self.positions.meet(met);
        }
    }

    fn settle(&mut self) {
        self.entries.settle_left_out(&mut self.positions);
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
        let is_written = self.written.as_ref() == Some(&snapshot);
        let covered = Covered { in_ring: self.dispatch.take_stored(), in_spool: self.lanes.take_decided() };
        let store = self.store.clone();
        self.writing.spawn_blocking(move || {
            let touched = is_written && store.touch().is_ok();
            let result = if touched { Ok(()) } else { store.write(&snapshot) };
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

    /// Reads what is gone to its end, whatever it waits for, while the spool or its lane takes it.
    fn read_what_is_gone(&mut self, deadline: Instant) {
        loop {
            let now = Instant::now();
            self.tailer.hurry(&mut self.lanes, &mut self.positions, now);
            let pass = self.tailer.read(&mut self.lanes, &mut self.positions, now, wall_ns());
            if (!self.spool() && pass.bytes == 0) || Instant::now() >= deadline {
                break;
            }
        }
        self.tailer.end_gone(&mut self.lanes, Instant::now());
        self.lanes.cut_all();
        self.spool();
    }

    /// Reads nothing but what is gone, sends what is cut, spools what nobody could read again, and writes down
    /// where it ends.
    async fn drain(mut self) -> Balance {
        let deadline = tokio::time::Instant::now() + self.config.drain;
        self.scan();
        self.note_gone();
        self.lanes.close();
        self.read_what_is_gone(deadline.into());
        // Of what the spool did not take a lane may yet have room for some.
        while !self.lanes.is_empty() && (self.spooling.refuses() || !self.lanes.are_held_until(deadline.into())) {
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
            // Where there is no spool, the lanes have room by and by.
            self.read_what_is_gone(deadline.into());
        }
        self.tailer.settle_left_out(&mut self.positions);
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

/// Where blocks go, and what is done while they do not get there.
fn shipping(config: &Config) -> ship::Settings {
    ship::Settings {
        endpoints: config.destination.endpoints.clone(),
        pool: config.destination.pool.clone(),
        in_doubt_max: config.destination.in_doubt_max,
        dead_letter_bytes: config.dead_letter_bytes,
    }
}

fn wall_ns() -> i64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_nanos()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests;
