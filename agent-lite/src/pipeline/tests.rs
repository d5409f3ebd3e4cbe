use std::fs;
use std::path::Path;

use sluice_wire::{Category, JournalId, Stream};

use super::*;
use crate::block::{Doubt, Portion, Progress};
use crate::checkpoint::Loaded;
use crate::record::Line;
use crate::ring::{self, Ring};
use crate::tail::Known as _;

mod absence;
mod outage;

const SOURCE: u64 = 7;

fn config(dir: &Path, more: &str) -> Config {
    crate::config::for_tests(&format!("state_directory: {0}/state\npods: {0}/pods\n{more}", dir.display()))
}

/// An agent that tells of no absence: a start is often not what a test is about.
fn start_with(config: Config) -> Agent {
    let mut agent = Agent::open(config, Metrics::new().unwrap(), None).unwrap();
    agent.write_down();
    agent
}

fn start(dir: &Path, more: &str) -> Agent {
    start_with(config(dir, more))
}

#[tokio::test]
async fn what_lies_in_the_state_directory_is_for_the_agent_alone() {
    use std::os::unix::fs::PermissionsExt as _;
    let dir = tempfile::tempdir().unwrap();
    let state = dir.path().join("state");
    let mode = || fs::metadata(&state).unwrap().permissions().mode() & 0o7777;
    drop(start(dir.path(), ""));
    assert_eq!(mode(), 0o700);
    // As a kubelet makes it.
    fs::set_permissions(&state, fs::Permissions::from_mode(0o755)).unwrap();
    drop(start(dir.path(), ""));
    assert_eq!(mode(), 0o700);
}

/// Blocks of one lane that were sent when the agent was killed: whole ones of a line each, with their
/// positions, and the last one in pieces.
fn leave_in_ring(dir: &Path, whole: usize, pieces: usize) {
    let agent = start(dir, "");
    let (mut numbers, mut lanes) = (agent.numbers, agent.lanes);
    let lane = lanes.lane(Category::Application, &"ns".into());
    let mut progress = Progress::default();
    for n in 0..=whole {
        for line in 0..if n == whole { pieces } else { 1 } {
            let content = format!("block {n} line {line}");
            let line = Line {
                time_text: b"2025-10-26T10:15:30Z",
                time: 0,
                content: content.as_bytes(),
                common: b"",
                part: None,
                parsed: None,
            };
            lanes.push(lane, &line, Instant::now());
        }
        let end = 100 * (n as u64 + 1);
        lanes.cover(lane, SOURCE, Stream::Stdout, &mut progress, end, Portion::of(100));
        lanes.cut_all();
    }
    assert_eq!(lanes.split(lane, whole, 1), pieces);
    let queue = lanes.queue(lane);
    queue.iter_mut().for_each(|block| block.give_number(numbers.take()).unwrap());
    drop(agent.dispatch);
    let (mut ring, _) = Ring::open(&ring::directory(&dir.join("state")), 64 << 20).unwrap();
    ring.keep(queue.iter(), &[], Doubt { journal: JournalId([1; 16]), since_ms: 0 }).unwrap();
}

/// What a start makes of the ring when so much is stored: blocks to send again, and covered bytes.
fn after_a_start(dir: &Path, stored: u64) -> (usize, u64, u64) {
    let store = Store::new(&dir.join("state"));
    let Loaded { mut positions, numbers, .. } = store.load();
    positions.settle(SOURCE, Stream::Stdout, stored);
    store.write(&Snapshot::take(numbers, &positions, None, false)).unwrap();
    let mut agent = start(dir, "");
    let lane = agent.lanes.lane(Category::Application, &"ns".into());
    let restored = agent.lanes.queue(lane).len();
    (restored, agent.positions.covered(SOURCE, Stream::Stdout), agent.metrics.possible_duplicates.get())
}

#[tokio::test]
async fn rule_3_what_was_under_way_goes_again_and_what_is_stored_does_not() {
    let dir = tempfile::tempdir().unwrap();
    leave_in_ring(dir.path(), 2, 3);
    assert_eq!(after_a_start(dir.path(), 100), (4, 300, 0));
}

#[tokio::test]
async fn pieces_of_a_block_that_is_stored_are_stored_with_it() {
    let dir = tempfile::tempdir().unwrap();
    leave_in_ring(dir.path(), 0, 3);
    assert_eq!(after_a_start(dir.path(), 100), (0, 100, 0));
}

#[tokio::test]
async fn pieces_of_a_block_that_does_not_follow_on_are_cut_anew_with_it() {
    let dir = tempfile::tempdir().unwrap();
    leave_in_ring(dir.path(), 1, 3);
    let ring = ring::directory(&dir.path().join("state"));
    // The first block never came into the ring: it was full.
    let first = Ring::open(&ring, 64 << 20).unwrap().1[0].id().unwrap();
    Ring::open(&ring, 64 << 20).unwrap().0.take_back(&[first]).unwrap();
    assert_eq!(after_a_start(dir.path(), 0), (0, 0, 3));
}

#[tokio::test]
async fn what_a_lost_ring_may_have_sent_is_counted() {
    let dir = tempfile::tempdir().unwrap();
    leave_in_ring(dir.path(), 2, 3);
    // The machine went down after the first block was stored: the ring's others are read again.
    let state = dir.path().join("state");
    let Loaded { mut positions, numbers, .. } = Store::new(&state).load();
    positions.settle(SOURCE, Stream::Stdout, 100);
    Store::on_boot(&state, "another").write(&Snapshot::take(numbers, &positions, None, false)).unwrap();
    let agent = start(dir.path(), "");
    assert_ne!(agent.numbers.producer, numbers.producer);
    assert_eq!((agent.metrics.possible_duplicates.get(), agent.dispatch.in_ring()), (4, 0));
    assert!(agent.lanes.is_empty());
    drop(agent);
    assert_eq!(start(dir.path(), "").metrics.possible_duplicates.get(), 0, "counted once");
}

#[tokio::test]
async fn a_ring_without_its_checkpoint_is_counted_whole() {
    let dir = tempfile::tempdir().unwrap();
    leave_in_ring(dir.path(), 2, 3);
    fs::remove_file(dir.path().join("state/checkpoint.json")).unwrap();
    assert_eq!(start(dir.path(), "").metrics.possible_duplicates.get(), 5);
}

/// An agent with these rules reads what there is, and is killed once its block is in the ring, before any
/// checkpoint knows of the log.
fn leave_first_block_in_ring(dir: &Path, rules: &str) {
    let mut agent = start(dir, rules);
    agent.tailer.read(&mut agent.lanes, &mut agent.positions, Instant::now(), wall_ns());
    agent.lanes.cut_all();
    let lane = agent.lanes.sendable().next().unwrap();
    let block = &mut agent.lanes.queue(lane)[0];
    block.give_number(agent.numbers.take()).unwrap();
    drop(agent.dispatch);
    let (mut ring, _) = Ring::open(&ring::directory(&dir.join("state")), 64 << 20).unwrap();
    ring.keep(std::iter::once(&*block), &[], Doubt { journal: JournalId([1; 16]), since_ms: 0 }).unwrap();
    agent.store.write(&Snapshot::take(agent.numbers, &Positions::default(), None, false)).unwrap();
}

#[tokio::test]
async fn a_log_goes_on_in_the_lane_of_its_blocks_whatever_the_rules_are_by_then() {
    let dir = tempfile::tempdir().unwrap();
    let pod = dir.path().join("pods/ns_pod_uid/app");
    fs::create_dir_all(&pod).unwrap();
    let line = |message: &str| format!("2025-10-26T10:15:30.1Z stdout F {message}\n");
    fs::write(pod.join("0.log"), line("first")).unwrap();
    leave_first_block_in_ring(dir.path(), "first_start: beginning\ndataplane: [{namespace: ns}]\n");

    fs::write(pod.join("0.log"), line("first") + &line("second")).unwrap();
    let mut agent = start(dir.path(), "first_start: beginning\ndataplane: []\n");
    agent.tailer.read(&mut agent.lanes, &mut agent.positions, Instant::now(), wall_ns());
    agent.lanes.cut_all();
    // In another lane the second could be stored before the first, which would pass for stored then.
    let lane = agent.lanes.lane(Category::Dataplane, &"ns".into());
    assert_eq!((agent.lanes.queue(lane).len(), agent.lanes.held_records()), (2, 2));
    agent.lanes.forget_unused();
    assert_eq!(agent.lanes.count(), 1);
}

#[tokio::test]
async fn where_a_first_start_begins_is_durable_before_anything_is_read() {
    let dir = tempfile::tempdir().unwrap();
    let pod = dir.path().join("pods/ns_pod_uid/app");
    fs::create_dir_all(&pod).unwrap();
    fs::write(pod.join("0.log"), "2025-10-26T10:15:30.1Z stdout F old\n").unwrap();
    // Killed at once; then, a while later, the next one.
    drop(start(dir.path(), "first_start: end\n"));
    let new = "2025-10-26T10:15:31.1Z stdout F new\n";
    fs::write(pod.join("0.log"), format!("2025-10-26T10:15:30.1Z stdout F old\n{new}")).unwrap();
    let mut agent = start(dir.path(), "first_start: end\n");
    agent.tailer.read(&mut agent.lanes, &mut agent.positions, Instant::now(), wall_ns());
    assert_eq!(agent.tailer.take_counts().bytes, new.len() as u64);
}

#[tokio::test]
async fn all_hints_that_there_are_are_taken_before_a_pass() {
    let dir = tempfile::tempdir().unwrap();
    let container = |n: usize| dir.path().join(format!("pods/ns_pod-{n}_uid/app"));
    (0..200).for_each(|n| fs::create_dir_all(container(n)).unwrap());
    let mut agent = start(dir.path(), "");
    (0..200).for_each(|n| fs::write(container(n).join("0.log"), "").unwrap());
    let mut hints = Hints { paths: HashSet::new(), next_scan: Instant::now() };
    // The reactor has to notice that there is something.
    let first = agent.discovery.as_mut().unwrap().hint().await;
    hints.take(first);
    // A turn of the wheel each.
    while hints.paths.len() < 200 {
        let before = hints.paths.len();
        agent.take_hints(&mut hints);
        assert!(hints.paths.len() > before + 20, "{} after {before}", hints.paths.len());
        tokio::task::yield_now().await;
    }
}
