//! A self-test on a node: writes numbered lines into log files of a pod that does not exist, has them shipped by
//! an agent of its own in this process, and tells how many were acknowledged, and how soon.
//!
//! ```text
//! writer (a thread) ─► <scratch>/pods/<namespace>_…/verify/0.log ─► pipeline::ship ─► gateway, or store
//!    │ when each line was written                                      │ books, every 5 ms
//!    └───────────────────────────► watch ◄─────────────────────────────┘
//! ```
//!
//! It uses the settings, the rooms and the credentials of the agent that runs beside it, and none of its files.

use std::collections::VecDeque;
use std::io::{IsTerminal as _, Write as _};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use tokio::sync::{mpsc, oneshot};

use crate::books::Book;
use crate::config::{Config, FirstStart};
use crate::enrich::Source;
use crate::metrics::Metrics;
use crate::pipeline::{self, Orders};

mod fixes;
mod report;
mod scratch;
mod writer;

pub use report::Report;
use scratch::Scratch;
use writer::{LINE, Written};

/// The most lines of one run: what is on its way is remembered.
pub const MAX_LINES: u64 = 1_000_000;
/// Between looks at the books: as exact is a latency.
const LOOK: Duration = Duration::from_millis(5);
/// Between words on a terminal.
const TELL: Duration = Duration::from_millis(200);
/// What a pipeline may take to end that has not got rid of all lines.
const END: Duration = Duration::from_secs(1);
/// Writes whose times have not been taken over yet.
const WRITES: usize = 1024;

/// What is to be tried.
#[derive(Debug, Clone)]
pub struct Plan {
    /// The settings of the agent.
    pub config: Config,
    /// Lines to write, at most [`MAX_LINES`].
    pub lines: u64,
    /// Lines a second.
    pub rate: u64,
    /// How long is waited, after the last line, for what is not acknowledged.
    pub timeout: Duration,
    /// Whose lines they are.
    pub namespace: String,
}

/// What is known of the lines so far.
#[derive(Debug, Default)]
struct Tally {
    written: u64,
    writing: Duration,
    /// Of each line that is on its way: where it ends, in bytes of all that is written, and when it was.
    on_their_way: VecDeque<(u64, Instant)>,
    /// From the write to the verdict, in order of the lines.
    latencies: Vec<Duration>,
    pages: Vec<Book>,
}

/// Writes, ships and waits; ends early when `stop` resolves.
///
/// # Errors
/// What keeps it from starting: a namespace that is none, no directory to write to. That lines are not taken is
/// no error, but told in the report.
pub async fn run(plan: Plan, stop: impl Future<Output = ()>) -> anyhow::Result<Report> {
    let id = run_id();
    let scratch = Scratch::new(&plan.config.state, &id)?;
    let writer = writer::Writer::new(&scratch.pods(), &plan.namespace, &id, plan.lines, plan.rate)?;
    let metrics = Metrics::new()?;
    let (asks, questions) = mpsc::channel(1);
    // Nobody changes these settings.
    let (_, changes) = mpsc::channel(1);
    let (ended, end) = oneshot::channel::<()>();
    let config = config_beside(&plan.config, &scratch);
    let agent = pipeline::ship(config, metrics.clone(), None, Orders { questions, changes }, |_| (), async {
        let _ = end.await;
    });
    let watched = async {
        let tally = watch(&plan, writer, &asks, stop, &metrics).await;
        // Whoever waits for it may have failed to start.
        let _ = ended.send(());
        tally
    };
    let (agent, tally) = tokio::join!(agent, watched);
    agent.context("the pipeline did not start")?;
    Ok(Report::new(&plan, &id, &tally?, &metrics))
}

/// The settings of the agent, for another one beside it that has this one pod.
fn config_beside(config: &Config, scratch: &Scratch) -> Config {
    let mut beside = config.clone();
    beside.state = scratch.state();
    beside.pods = Some(scratch.pods());
    beside.sources.host.clear();
    (beside.sources.journal, beside.sources.kmsg) = (None, None);
    beside.kubernetes.source = Source::None;
    beside.runtime = None;
    beside.admin = None;
    beside.first_start = FirstStart::Beginning;
    beside.sharing.backlog_rate = None;
    beside.drain = beside.drain.min(END);
    beside
}

/// Sixteen letters: no digits, of which a rule for card numbers could make something.
fn run_id() -> String {
    (0..16).map(|_| char::from(b'a' + rand::random_range(0..16_u8))).collect()
}

/// Takes the time of each write and of each verdict, until all lines are decided or it has taken too long.
async fn watch(
    plan: &Plan,
    writer: writer::Writer,
    asks: &mpsc::Sender<oneshot::Sender<Vec<Book>>>,
    stop: impl Future<Output = ()>,
    metrics: &Metrics,
) -> anyhow::Result<Tally> {
    let (writes, mut written) = mpsc::channel::<Written>(WRITES);
    let writing = std::thread::spawn(move || writer.write(&writes));
    let mut tally = Tally::default();
    let mut terminal = Terminal::new();
    let mut deadline = None;
    let started = Instant::now();
    let mut looks = tokio::time::interval(LOOK);
    looks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    tokio::pin!(stop);
    loop {
        tokio::select! {
            () = &mut stop => break,
            _ = looks.tick() => {}
        }
        loop {
            match written.try_recv() {
                Ok(writes) => tally.wrote(&writes, started),
                Err(mpsc::error::TryRecvError::Empty) => break,
                Err(mpsc::error::TryRecvError::Disconnected) => {
                    deadline.get_or_insert_with(|| Instant::now() + plan.timeout);
                    break;
                }
            }
        }
        let (answer, pages) = oneshot::channel();
        if asks.send(answer).await.is_err() {
            // The pipeline has not started; its error says why.
            break;
        }
        // It does not answer while it ends.
        let Ok(pages) = pages.await else { break };
        tally.decided(pages, Instant::now());
        terminal.tell(plan, &tally, metrics);
        let is_done = deadline.is_some() && tally.on_their_way.is_empty();
        if is_done || deadline.is_some_and(|deadline| Instant::now() >= deadline) {
            break;
        }
    }
    terminal.clear();
    // A writer that is still at it ends with its next line.
    drop(written);
    match writing.join() {
        Ok(result) => result.context("the test's log file cannot be written")?,
        Err(_) => anyhow::bail!("the thread that writes has ended"),
    }
    Ok(tally)
}

impl Tally {
    fn wrote(&mut self, writes: &Written, started: Instant) {
        for _ in 0..writes.lines {
            self.written += 1;
            self.on_their_way.push_back((self.written * LINE as u64, writes.at));
        }
        self.writing = writes.at.saturating_duration_since(started);
    }

    /// A lane is decided in order: what is decided are the first bytes of all.
    fn decided(&mut self, pages: Vec<Book>, now: Instant) {
        self.pages = pages;
        let decided =
            self.acknowledged_bytes() + self.pages.iter().flat_map(|page| page.abandoned.values()).sum::<u64>();
        while let Some((_, at)) = self.on_their_way.pop_front_if(|(end, _)| *end <= decided) {
            self.latencies.push(now.saturating_duration_since(at));
        }
    }

    fn acknowledged_bytes(&self) -> u64 {
        self.pages.iter().map(|page| page.acknowledged).sum()
    }
}

/// One line that is written over, where somebody looks.
struct Terminal {
    told: Option<Instant>,
    is_one: bool,
}

impl Terminal {
    fn new() -> Self {
        Self { told: None, is_one: std::io::stderr().is_terminal() }
    }

    fn tell(&mut self, plan: &Plan, tally: &Tally, metrics: &Metrics) {
        if !self.is_one || self.told.is_some_and(|told| told.elapsed() < TELL) {
            return;
        }
        self.told = Some(Instant::now());
        let acknowledged = tally.acknowledged_bytes() / LINE as u64;
        let troubles = metrics.troubles.all();
        let trouble = troubles.values().next().map_or_else(String::new, |trouble| format!("; {}", trouble.said));
        let trouble: String = trouble.chars().filter(|c| !c.is_control()).take(80).collect();
        // What cannot be shown is in the report.
        let _ = write!(
            std::io::stderr(),
            "\r\x1b[K{} of {} lines written, {acknowledged} acknowledged{trouble}",
            tally.written,
            plan.lines
        );
    }

    fn clear(&mut self) {
        if self.told.is_some() {
            let _ = write!(std::io::stderr(), "\r\x1b[K");
        }
    }
}

/// Where nothing else is said: a namespace of which everybody sees whose it is.
pub const NAMESPACE: &str = "sluice-verify";

/// The file that a run writes, for whoever looks on.
fn log_directory(pods: &std::path::Path, namespace: &str, id: &str) -> PathBuf {
    pods.join(format!("{namespace}_sluice-verify-{id}_{id}")).join("verify")
}

#[cfg(test)]
mod tests;
