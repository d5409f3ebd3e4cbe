//! Files that are deleted while no gateway has their lines, and an agent that is killed at every step: each
//! line once, in order, and books that balance.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::Uri;
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;
use sluice_wire::block::Frames;
use sluice_wire::payload::{Checker, Depth};
use sluice_wire::{JournalId, Lane, Reason, Verdict, push};
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::sync::Notify;

use super::*;
use crate::block;
use crate::ship::Endpoint;
use crate::spool::{self, Spool};
use crate::tail::Abandoned;

mod stop;
mod trouble;

/// A gateway that stores in memory, and knows what it has (rule 5).
#[derive(Debug, Clone, Default)]
struct Gateway {
    stored: Arc<Mutex<Stored>>,
    may_answer: Arc<Notify>,
}

#[derive(Debug, Default)]
struct Stored {
    highest: HashMap<Lane, u64>,
    messages: Vec<String>,
    requests: usize,
    /// Of the next requests, the first block is refused.
    refusals: usize,
    /// Of the next requests, the first block is too large.
    too_large: usize,
    /// It waits for a test before it answers.
    slow: bool,
    /// It stores, and does not answer.
    silent: bool,
}

impl Gateway {
    async fn start() -> (Self, Uri) {
        let gateway = Self::default();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap()).parse().unwrap();
        let app = Router::new().route(push::PATH, get(Self::greet).post(Self::push)).with_state(gateway.clone());
        tokio::spawn(async move { axum::serve(listener, app).await });
        (gateway, url)
    }

    fn state(&self) -> std::sync::MutexGuard<'_, Stored> {
        self.stored.lock().unwrap()
    }

    async fn greet() -> String {
        serde_json::to_string(&push::Hello::new(JournalId([1; 16]))).unwrap()
    }

    async fn push(State(gateway): State<Self>, body: Bytes) -> Response {
        let (verdicts, silent) = gateway.state().take(body);
        if gateway.state().slow {
            gateway.may_answer.notified().await;
        }
        if silent {
            std::future::pending::<()>().await;
        }
        ([(push::JOURNAL_HEADER, JournalId([1; 16]).to_string())], push::write_verdicts(&verdicts)).into_response()
    }
}

impl Stored {
    fn take(&mut self, body: Bytes) -> (Vec<Verdict>, bool) {
        self.requests += 1;
        let too_large = self.too_large > 0;
        let refused = self.refusals > 0 || too_large;
        self.refusals = self.refusals.saturating_sub(1);
        self.too_large = self.too_large.saturating_sub(1);
        let mut verdicts = Vec::new();
        for frame in Frames::new(body) {
            let block = frame.unwrap().open().unwrap();
            if refused {
                let wait = Duration::from_millis(1);
                verdicts.push(match verdicts.len() {
                    0 if too_large => Verdict::TooLarge(1000, Reason::Burst),
                    0 => Verdict::RetryAfter(wait, Reason::LimitBytes),
                    _ => Verdict::RetryAfter(wait, Reason::Behind),
                });
                continue;
            }
            let highest = self.highest.entry(block.header.lane.clone()).or_default();
            if block.header.number > *highest {
                *highest = block.header.number;
                let mut checker = Checker::default();
                let raw = checker.check(&block.header, &block.payload, Depth::Json).unwrap();
                for line in raw.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
                    let record: serde_json::Value = serde_json::from_slice(line).unwrap();
                    let text = |field: &str| record[field].as_str().unwrap_or_default().to_owned();
                    self.messages.push(match record["sluice_gap_reason"].as_str() {
                        Some(reason) => format!("gap:{reason}:{}", text("sluice_gap_bytes")),
                        None => text("_msg"),
                    });
                }
            }
            verdicts.push(Verdict::Accepted);
        }
        (verdicts, self.silent)
    }
}

/// A node's directory, its gateway, and an agent that runs or was killed.
struct Node {
    dir: TempDir,
    gateway: Gateway,
    url: Uri,
    agent: Option<Agent>,
}

impl Node {
    async fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let (gateway, url) = Gateway::start().await;
        let mut node = Self { dir, gateway, url, agent: None };
        node.start();
        node
    }

    fn start(&mut self) {
        let mut config = config(self.dir.path(), "first_start: beginning\nblock_bytes: 4KiB");
        let endpoint = Endpoint { url: self.url.clone(), ..(*config.destination.endpoints[0]).clone() };
        config.destination.endpoints = vec![Arc::new(endpoint)];
        self.agent = Some(start_with(config));
        self.check_books();
    }

    fn agent(&mut self) -> &mut Agent {
        self.agent.as_mut().unwrap()
    }

    /// As the kernel does it.
    fn kill(&mut self) {
        self.agent = None;
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join("pods/ns_pod_uid/app").join(name)
    }

    /// Lines `from..to` of a log, of a few hundred bytes each.
    fn write(&self, name: &str, lines: std::ops::Range<usize>) {
        fs::create_dir_all(self.path("")).unwrap();
        let text: String = lines.map(line).collect();
        fs::write(self.path(name), text).unwrap();
    }

    fn lane(&mut self) -> block::LaneId {
        self.agent().lanes.lane(Category::Application, &"ns".into())
    }

    /// Lines of another pod, which stays.
    fn write_other(&self, lines: std::ops::Range<usize>) {
        let directory = self.dir.path().join("pods/ns_other_uid/app");
        fs::create_dir_all(&directory).unwrap();
        fs::write(directory.join("0.log"), lines.map(line).collect::<String>()).unwrap();
    }

    /// Nothing of the lane is taken, as when the gateway is away for long.
    fn hold(&mut self) {
        let lane = self.lane();
        self.agent().lanes.pause(lane, Instant::now() + Duration::from_secs(500));
    }

    fn release(&mut self) {
        self.agent().lanes.resume(Instant::now() + Duration::from_secs(500));
    }

    /// Looks, and reads what can be read, as the wheel does.
    fn look_and_read(&mut self) {
        let agent = self.agent();
        agent.scan();
        agent.note_gone();
        agent.spool();
        loop {
            let pass = agent.tailer.read(&mut agent.lanes, &mut agent.positions, Instant::now(), wall_ns());
            if !agent.spool() && pass.bytes == 0 {
                break;
            }
        }
        agent.lanes.cut_due(Instant::now() + Duration::from_secs(5));
        agent.spool();
        self.check_books();
    }

    fn delete(&self) {
        fs::remove_dir_all(self.dir.path().join("pods/ns_pod_uid")).unwrap();
    }

    /// Turns the sending half of the wheel.
    async fn until(&mut self, done: impl Fn(&Agent, &Gateway) -> bool) {
        let deadline = Instant::now() + Duration::from_secs(20);
        let gateway = self.gateway.clone();
        while !done(self.agent(), &gateway) {
            assert!(Instant::now() < deadline, "it never came to that");
            let agent = self.agent();
            agent.lanes.resume(Instant::now());
            agent.send(Instant::now());
            tokio::select! {
                happening = agent.dispatch.happening() => agent.act_on(happening),
                () = tokio::time::sleep(Duration::from_millis(5)) => {}
            }
            self.check_books();
        }
    }

    /// It is killed, and another one delivers all that is there.
    async fn come_back(&mut self) {
        self.kill();
        self.start();
        self.deliver().await;
    }

    async fn deliver(&mut self) {
        self.release();
        self.look_and_read();
        while !self.agent().lanes.is_empty() {
            self.until(|agent, _| agent.lanes.is_empty()).await;
            self.look_and_read();
        }
    }

    /// A second has passed, and its checkpoint is durable.
    async fn keep_house(&mut self, seconds: u64) {
        let agent = self.agent();
        agent.keep_house(Instant::now() + Duration::from_secs(seconds));
        if let Some(Ok((snapshot, covered, result))) = agent.writing.join_next().await {
            agent.checkpointed(snapshot, covered, result);
        }
        self.check_books();
    }

    fn check_books(&mut self) {
        for page in self.agent().close_books() {
            assert_eq!(page.imbalance, 0, "{page:?}");
        }
    }

    fn messages(&self) -> Vec<String> {
        self.gateway.state().messages.clone()
    }

    fn in_spool(&mut self) -> usize {
        self.agent().spooling.spool.as_ref().unwrap().len()
    }

    fn assert_lines(&self, lines: std::ops::Range<usize>) {
        let messages: Vec<String> =
            self.messages().into_iter().filter(|message| !message.starts_with("gap:vanished:0")).collect();
        let expected: Vec<String> = lines.map(content).collect();
        assert_eq!(messages.len(), expected.len());
        assert_eq!(messages, expected);
    }
}

fn content(n: usize) -> String {
    format!("line {n:05} {}", "some text of a program that logs ".repeat(6))
}

fn line(n: usize) -> String {
    format!("2025-10-26T10:15:30.{n:09}Z stdout F {}\n", content(n))
}

/// A pod is deleted while its lane takes nothing: its lines are in the spool.
async fn node_with_spooled_lines() -> Node {
    let mut node = Node::new().await;
    node.write("0.log", 0..300);
    node.look_and_read_nothing();
    node.delete();
    node.look_and_read();
    assert!(node.in_spool() > 10);
    node
}

impl Node {
    fn look_and_read_nothing(&mut self) {
        self.agent().scan();
        self.hold();
        self.look_and_read();
        assert_eq!(self.agent().tailer.take_counts().bytes, 0);
    }
}

#[tokio::test]
async fn killed_after_spooling_every_line_comes_once() {
    let mut node = node_with_spooled_lines().await;
    node.come_back().await;
    node.assert_lines(0..300);
}

#[tokio::test]
async fn killed_after_a_checkpoint_with_spooled_lines_every_line_comes_once() {
    let mut node = node_with_spooled_lines().await;
    node.keep_house(0).await;
    for _ in 0..2 {
        node.kill();
        node.start();
        node.hold();
        node.look_and_read();
        node.keep_house(0).await;
    }
    node.deliver().await;
    node.assert_lines(0..300);
}

#[tokio::test]
async fn killed_after_loading_every_line_comes_once() {
    let mut node = node_with_spooled_lines().await;
    node.release();
    node.agent().unspool();
    node.check_books();
    let lane = node.lane();
    assert!(!node.agent().lanes.queue(lane).is_empty());
    node.come_back().await;
    node.assert_lines(0..300);
}

#[tokio::test]
async fn killed_after_sending_every_line_comes_once() {
    let mut node = node_with_spooled_lines().await;
    node.release();
    node.gateway.state().silent = true;
    node.until(|_, gateway| gateway.state().requests > 0).await;
    assert!(!node.messages().is_empty());
    node.gateway.state().silent = false;
    node.come_back().await;
    node.assert_lines(0..300);
}

#[tokio::test]
async fn killed_after_the_verdict_and_before_the_checkpoint_every_line_comes_once() {
    let mut node = node_with_spooled_lines().await;
    node.deliver().await;
    let spooled = node.in_spool();
    assert!(spooled > 10, "nothing is let go before a checkpoint covers it");
    node.come_back().await;
    node.assert_lines(0..300);
}

#[tokio::test]
async fn what_a_durable_checkpoint_covers_is_let_go_and_not_sent_again() {
    let mut node = node_with_spooled_lines().await;
    node.deliver().await;
    node.keep_house(0).await;
    assert_eq!(node.in_spool(), 0);
    node.kill();
    node.start();
    let requests = node.gateway.state().requests;
    node.deliver().await;
    node.assert_lines(0..300);
    assert!(node.gateway.state().requests <= requests + 1, "but for the gap's record nothing is sent");
}

#[tokio::test]
async fn what_is_spooled_is_not_held_open_too() {
    let mut node = node_with_spooled_lines().await;
    node.write_other(300..301);
    assert_eq!(node.agent().tailer.totals().1, 1);
    // No end of the last line came, nor anything else.
    node.keep_house(0).await;
    node.keep_house(6).await;
    assert_eq!(node.agent().tailer.totals().1, 0);
    node.come_back().await;
    node.assert_lines(0..301);
    assert_eq!(node.messages().len(), 301, "it was known to be complete: no gap is told");
}

#[tokio::test]
async fn a_source_is_known_for_as_long_as_its_blocks_are_in_the_spool() {
    let mut node = node_with_spooled_lines().await;
    node.keep_house(0).await;
    node.kill();
    node.start();
    node.hold();
    for _ in 0..1000 {
        let agent = node.agent();
        agent.forget_unseen(Instant::now());
    }
    node.check_books();
    node.deliver().await;
    node.assert_lines(0..300);
}

#[tokio::test]
async fn a_file_that_is_there_is_not_read_into_the_spool_and_comes_after_what_is() {
    let mut node = Node::new().await;
    node.write("0.log.20251026-101530", 0..200);
    node.write("0.log", 200..400);
    node.look_and_read_nothing();
    fs::remove_file(node.path("0.log.20251026-101530")).unwrap();
    node.look_and_read();
    let unread: usize = (200..400).map(|n| line(n).len()).sum();
    assert_eq!(node.agent().tailer.totals().2, unread as u64);
    node.release();
    // Also while the lane has room: what is in the spool comes first.
    node.look_and_read();
    assert_eq!(node.agent().tailer.totals().2, unread as u64);
    node.agent().unspool();
    node.look_and_read();
    node.come_back().await;
    node.assert_lines(0..400);
}

#[tokio::test]
async fn a_deleted_file_waits_for_the_one_before_it_that_is_there() {
    let mut node = Node::new().await;
    node.write("0.log.20251026-101530", 0..200);
    node.write("0.log", 200..400);
    node.look_and_read_nothing();
    fs::remove_file(node.path("0.log")).unwrap();
    node.look_and_read();
    assert_eq!(node.in_spool(), 0);
    node.deliver().await;
    node.assert_lines(0..400);
}

#[tokio::test]
async fn an_outage_alone_spools_nothing() {
    let mut node = Node::new().await;
    node.write("0.log", 0..300);
    let agent = node.agent();
    agent.scan();
    agent.tailer.read(&mut agent.lanes, &mut agent.positions, Instant::now(), wall_ns());
    // A block is open when the lane takes no more.
    node.hold();
    node.look_and_read();
    node.keep_house(1).await;
    assert_eq!(node.in_spool(), 0);
    node.delete();
    node.look_and_read();
    assert!(node.in_spool() > 0);
    node.come_back().await;
    node.assert_lines(0..300);
}

#[tokio::test]
async fn a_stop_spools_what_is_deleted_and_nobody_has() {
    let mut node = Node::new().await;
    node.write("0.log", 0..300);
    node.look_and_read_nothing();
    node.delete();
    let mut agent = node.agent.take().unwrap();
    agent.config.drain = Duration::ZERO;
    let balance = agent.drain().await;
    assert_eq!((balance.read, balance.stored, balance.held), (300, 0, 300));
    node.start();
    node.deliver().await;
    node.assert_lines(0..300);
}
