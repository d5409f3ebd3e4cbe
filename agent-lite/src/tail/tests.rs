use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::time::Duration;

use flate2::Compression;
use flate2::write::GzEncoder;
use sluice_wire::Category;
use sluice_wire::payload::{Checker, Depth};
use tempfile::TempDir;

use super::*;
use crate::block::{LaneId, Settings};
use crate::books::Book;
use crate::checkpoint::Positions;
use crate::discover::Discovery;

mod categories;
mod change;
mod deleted;
mod docker;
mod fairness;
mod first_start;
mod gzip;
mod labels;
mod last_words;
mod left_out;
mod long;
mod missed;
mod renamed;
mod runtime;
mod treat;
mod truncated;

const DELETED: Deleted = Deleted { files: 4, bytes: 1 << 20 };

/// A node: files on disk, an agent's tail over them, and a gateway that stores everything at once.
struct Node {
    dir: TempDir,
    tailer: Tailer,
    lanes: Lanes,
    positions: Positions,
    now: Instant,
}

impl Node {
    fn new(start: StartFrom, first_run: bool) -> Self {
        let dir = tempfile::tempdir().unwrap();
        Self::over(dir, Positions::default(), start, first_run)
    }

    fn over(dir: TempDir, positions: Positions, start: StartFrom, first_run: bool) -> Self {
        Self::sharing(dir, positions, start, first_run, Sharing::default())
    }

    fn sharing(dir: TempDir, positions: Positions, start: StartFrom, first_run: bool, sharing: Sharing) -> Self {
        let labels = Labels { cluster: "c".into(), environment: "e".into(), node: "n".into() };
        let lanes = Lanes::new(Settings::for_tests());
        Self {
            dir,
            tailer: Tailer::new(labels, start, DELETED, sharing, first_run).having_met(positions.containers().cloned()),
            lanes,
            positions,
            now: Instant::now(),
        }
    }

    /// The agent is killed; a new one comes up with what was stored.
    fn restart(self) -> Self {
        Self::over(self.dir, self.positions, StartFrom::Beginning, false)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join("ns_pod_uid/app").join(name)
    }

    fn append(&self, name: &str, text: impl AsRef<[u8]>) {
        fs::create_dir_all(self.path(name).parent().unwrap()).unwrap();
        OpenOptions::new().create(true).append(true).open(self.path(name)).unwrap().write_all(text.as_ref()).unwrap();
    }

    /// As the kubelet does it: beside, then into place, then the plain file goes.
    fn gzip(&self, name: &str) {
        let plain = self.path(name);
        let temporary = self.path(&format!("{name}.tmp"));
        let mut encoder = GzEncoder::new(fs::File::create(&temporary).unwrap(), Compression::fast());
        encoder.write_all(&fs::read(&plain).unwrap()).unwrap();
        encoder.finish().unwrap();
        fs::rename(temporary, self.path(&format!("{name}.gz"))).unwrap();
        fs::remove_file(plain).unwrap();
    }

    fn remove(&self, name: &str) {
        fs::remove_file(self.path(name)).unwrap();
    }

    /// The next run looks at everything, and tells what went meanwhile.
    fn restart_and_tell(self) -> Self {
        let mut next = self.restart();
        next.tell_losses();
        next
    }

    /// The next run has nothing to tell and nothing to send.
    fn assert_told_once(self) {
        assert_eq!(self.restart_and_tell().run(), [""; 0]);
    }

    /// Tells of what was lost, as a start does after its first look.
    fn tell_losses(&mut self) {
        self.look();
        self.tailer.tell_losses(&mut self.lanes, &mut self.positions, self.now, 1_000);
    }

    /// Everything is decided: what was written is acknowledged or given up.
    fn is_settled(&mut self) -> bool {
        self.check_books().iter().all(|page| page.unread == 0 && page.held == 0)
    }

    fn rename(&self, from: &str, to: &str) {
        fs::rename(self.path(from), self.path(to)).unwrap();
    }

    /// What the directories list.
    fn listed(&self) -> Look {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let _inotify_needs_it = runtime.enter();
        Discovery::new(self.dir.path()).scan()
    }

    fn look(&mut self) {
        let look = self.listed();
        self.tailer.reconcile(&look, &mut self.lanes, &mut self.positions);
    }

    fn read(&mut self) {
        while self.tailer.read(&mut self.lanes, &mut self.positions, self.now, 1_000).more {}
    }

    /// Everything that was read and not stored yet, as `stream:message`.
    fn deliver(&mut self) -> Vec<String> {
        let describe = |record: &serde_json::Value| {
            let text = |field: &str| record[field].as_str().unwrap_or_default();
            match record["sluice_gap_reason"].as_str() {
                Some(reason) => format!("gap:{reason}:{}", text("sluice_gap_bytes")),
                None => format!("{}:{}", record["stream"].as_str().unwrap_or("host"), text("_msg")),
            }
        };
        self.deliver_records().iter().map(describe).collect()
    }

    fn deliver_records(&mut self) -> Vec<serde_json::Value> {
        self.lanes.cut_all();
        let mut checker = Checker::default();
        let mut records = Vec::new();
        let sendable: Vec<LaneId> = self.lanes.sendable().collect();
        for id in sendable {
            while let Some(block) = self.lanes.remove(id, 0) {
                let raw = checker.check(&block.header, &block.payload, Depth::Json).unwrap();
                for line in raw.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
                    records.push(serde_json::from_slice(line).unwrap());
                }
                self.positions.acknowledge(block.shares());
            }
        }
        records
    }

    fn run(&mut self) -> Vec<String> {
        self.look();
        self.read();
        self.check_books();
        let messages = self.deliver();
        self.check_books();
        messages
    }

    fn wait(&mut self, seconds: u64) {
        self.now += Duration::from_secs(seconds);
        self.tailer.clean_up(&mut self.lanes, &mut self.positions, self.now, 1_000);
        self.check_books();
    }

    /// Every log's account balances, at any moment.
    fn check_books(&mut self) -> Vec<Book> {
        self.positions.sight(self.tailer.sightings());
        if let Some(met) = self.tailer.met() {
            self.positions.meet(met);
        }
        let pages = crate::books::close(&self.positions, self.tailer.on_their_way(), self.lanes.held_of_sources());
        for page in &pages {
            assert_eq!(page.imbalance, 0, "{page:?}");
        }
        pages
    }
}

fn line(stream: &str, tag: &str, content: &str) -> String {
    format!("2025-10-26T10:15:30.1Z {stream} {tag} {content}\n")
}

/// A line that no other file begins with.
fn at(second: u32, content: &str) -> String {
    format!("2025-10-26T10:15:{second:02}.1Z stdout F {content}\n")
}

fn out(content: &str) -> String {
    line("stdout", "F", content)
}

#[test]
fn lines_of_both_streams_in_order() {
    let mut node = Node::new(StartFrom::Beginning, true);
    node.append("0.log", out("a") + &line("stderr", "F", "b") + &out("c"));
    assert_eq!(node.run(), ["stdout:a", "stderr:b", "stdout:c"]);
    node.append("0.log", out("d"));
    assert_eq!(node.run(), ["stdout:d"]);
    assert_eq!(node.run(), [""; 0]);
}

#[test]
fn a_line_without_its_newline_is_waited_for() {
    let mut node = Node::new(StartFrom::Beginning, true);
    let text = out("whole");
    let (head, tail) = text.split_at(12);
    node.append("0.log", head);
    assert_eq!(node.run(), [""; 0]);
    node.append("0.log", tail);
    assert_eq!(node.run(), ["stdout:whole"]);
}

#[test]
fn pieces_are_joined_for_each_stream() {
    let mut node = Node::new(StartFrom::Beginning, true);
    node.append("0.log", line("stdout", "P", "a1 ") + &line("stderr", "P", "b1 ") + &line("stdout", "P", "a2 "));
    assert_eq!(node.run(), [""; 0]);
    node.append("0.log", line("stderr", "F", "b2") + &line("stdout", "F", "a3"));
    assert_eq!(node.run(), ["stderr:b1 b2", "stdout:a1 a2 a3"]);
}

#[test]
fn a_line_cut_by_a_rotation_is_whole() {
    let mut node = Node::new(StartFrom::Beginning, true);
    node.append("0.log", out("before") + &line("stdout", "P", "begun "));
    assert_eq!(node.run(), ["stdout:before"]);
    node.rename("0.log", "0.log.20251026-101530");
    node.append("0.log", line("stdout", "F", "ended") + &out("after"));
    assert_eq!(node.run(), ["stdout:begun ended", "stdout:after"]);
}

#[test]
fn a_restart_between_a_lines_halves_joins_them_again() {
    let mut node = Node::new(StartFrom::Beginning, true);
    node.append("0.log", out("before") + &line("stdout", "P", "begun "));
    assert_eq!(node.run(), ["stdout:before"]);
    node.rename("0.log", "0.log.20251026-101530");
    let mut node = node.restart();
    node.append("0.log", line("stdout", "F", "ended"));
    assert_eq!(node.run(), ["stdout:begun ended"]);
    let mut node = node.restart();
    assert_eq!(node.run(), [""; 0]);
}

#[test]
fn the_streams_of_a_file_advance_apart() {
    let mut node = Node::new(StartFrom::Beginning, true);
    node.append("0.log", out("a") + &line("stderr", "P", "b1 ") + &out("c"));
    assert_eq!(node.run(), ["stdout:a", "stdout:c"]);
    // stdout is stored beyond the piece that stderr waits for.
    let mut node = node.restart();
    node.append("0.log", line("stderr", "F", "b2"));
    assert_eq!(node.run(), ["stderr:b1 b2"]);
}

#[test]
fn a_stream_that_is_silent_is_not_looked_for_again() {
    let mut node = Node::new(StartFrom::Beginning, true);
    node.append("0.log", (0..1000).map(|n| out(&n.to_string())).collect::<String>());
    node.run();
    node.settle();
    let mut node = node.restart();
    assert_eq!(node.run(), [""; 0]);
    assert_eq!(node.tailer.take_counts().bytes, 0);
}

#[test]
fn a_stream_that_waits_for_the_end_of_a_line_is_not_settled() {
    let mut node = Node::new(StartFrom::Beginning, true);
    node.append("0.log", line("stderr", "P", "begun ") + &out("a"));
    assert_eq!(node.run(), ["stdout:a"]);
    assert_eq!(node.tailer.settled(&node.positions), []);
}

#[test]
fn two_rotations_between_two_looks() {
    let mut node = Node::new(StartFrom::Beginning, true);
    node.append("0.log", out("1"));
    assert_eq!(node.run(), ["stdout:1"]);
    node.append("0.log", out("2"));
    node.rename("0.log", "0.log.20251026-101530");
    node.append("0.log", out("3"));
    node.rename("0.log", "0.log.20251026-101532");
    node.append("0.log", out("4"));
    assert_eq!(node.run(), ["stdout:2", "stdout:3", "stdout:4"]);
}

#[test]
fn what_comes_late_into_a_rotated_file_is_read() {
    let mut node = Node::new(StartFrom::Beginning, true);
    node.append("0.log", out("1"));
    node.rename("0.log", "0.log.20251026-101530");
    node.append("0.log", out("2"));
    assert_eq!(node.run(), ["stdout:1", "stdout:2"]);
    node.append("0.log.20251026-101530", out("late"));
    node.wait(1);
    assert_eq!(node.run(), ["stdout:late"]);
    // Closed by then; a look finds that it grew.
    node.wait(20);
    node.append("0.log.20251026-101530", out("very late"));
    assert_eq!(node.run(), ["stdout:very late"]);
}

#[test]
fn a_file_deleted_while_it_is_behind_is_read_to_its_end_and_let_go() {
    let mut node = Node::new(StartFrom::Beginning, true);
    node.append("0.log", out("1"));
    node.look();
    fs::remove_file(node.path("0.log")).unwrap();
    node.look();
    node.wait(20);
    assert_eq!(node.tailer.totals().1, 1, "held while something of it is not stored");
    node.read();
    node.wait(20);
    assert_eq!(node.tailer.totals().1, 1, "read is not stored");
    assert_eq!(node.deliver(), ["stdout:1"]);
    node.read();
    node.wait(20);
    assert_eq!(node.tailer.totals(), (0, 0, 0));
}

#[test]
fn rotated_files_that_are_stored_are_closed_and_not_read_again() {
    let mut node = Node::new(StartFrom::Beginning, true);
    for n in 0..5 {
        node.append("0.log", out(&n.to_string()));
        node.rename("0.log", &format!("0.log.20251026-10153{n}"));
    }
    node.append("0.log", out("live"));
    assert_eq!(node.run().len(), 6);
    node.wait(20);
    assert_eq!(node.tailer.totals().1, 1);
    assert_eq!(node.run(), [""; 0]);
    assert_eq!(node.restart().run(), [""; 0]);
}

#[test]
fn a_file_with_another_files_name_and_inode_is_told_apart() {
    let mut node = Node::new(StartFrom::Beginning, true);
    node.append("0.log", out("old"));
    assert_eq!(node.run(), ["stdout:old"]);
    // The agent is away; the file is replaced by one as long as it.
    fs::remove_file(node.path("0.log")).unwrap();
    node.append("0.log", "2025-10-26T11:00:00.1Z stdout F new\n");
    assert_eq!(node.restart().run(), ["stdout:new"]);
}

#[test]
fn a_closed_files_inode_may_come_back_as_another_file() {
    let mut node = Node::new(StartFrom::Beginning, true);
    node.append("0.log", out("first"));
    node.rename("0.log", "0.log.20251026-101530");
    node.append("0.log", out("second"));
    assert_eq!(node.run(), ["stdout:first", "stdout:second"]);
    node.wait(20);
    // The rotated file is closed by now. It is overwritten in place: the same inode under the live name.
    fs::write(node.path("0.log.20251026-101530"), "2025-10-26T11:00:00.1Z stdout F third\n").unwrap();
    node.rename("0.log", "0.log.20251026-101531");
    node.rename("0.log.20251026-101530", "0.log");
    assert_eq!(node.run(), ["stdout:third"]);
}

#[test]
fn a_stream_is_not_settled_past_what_this_run_has_read() {
    let mut node = Node::new(StartFrom::Beginning, true);
    node.append("0.log", line("stderr", "P", "begun ") + &out("a"));
    assert_eq!(node.run(), ["stdout:a"]);
    let mut node = node.restart();
    node.look();
    assert_eq!(node.tailer.settled(&node.positions), [], "the piece was not read yet");
}

#[test]
fn copytruncate_begins_anew() {
    let mut node = Node::new(StartFrom::Beginning, true);
    node.append("0.log", out("a long first line") + &out("another"));
    assert_eq!(node.run().len(), 2);
    OpenOptions::new().write(true).open(node.path("0.log")).unwrap().set_len(0).unwrap();
    node.append("0.log", out("x"));
    node.wait(1);
    assert_eq!(node.run(), ["stdout:x"]);
    assert_eq!(node.tailer.take_counts().truncated, 1);
}

#[test]
fn bad_input_costs_itself_only() {
    let mut node = Node::new(StartFrom::Beginning, true);
    node.append("0.log", out("1"));
    node.append("0.log", b"\0\0\0\0\n");
    node.append("0.log", "torn 2026-03-10T16:03:15.25+08:00 stdout F found\n");
    node.append("0.log", b"2025-10-26T10:15:30.1Z stdout F bad \xff utf8 \0\n");
    node.append("0.log", out("2"));
    node.append("1.log", "");
    fs::create_dir_all(node.path("2.log")).unwrap();
    std::os::unix::fs::symlink(node.path("3.log"), node.path("3.log")).unwrap();
    assert_eq!(node.run(), ["stdout:1", "stdout:found", "stdout:bad \u{fffd} utf8 \0", "stdout:2"]);
    let counts = node.tailer.take_counts();
    assert_eq!((counts.torn, counts.unreadable), (2, 2));
}

impl Node {
    fn host_path(&self) -> PathBuf {
        self.dir.path().join("messages")
    }

    fn look_at_host(&mut self) {
        let (path, unit) = (self.host_path(), Arc::from("messages"));
        self.tailer.look_at_host_file(&path, &unit, (Category::Host, "plain"), &mut self.lanes, &mut self.positions);
    }

    fn run_host(&mut self) -> Vec<String> {
        self.look_at_host();
        self.read();
        self.deliver()
    }

    fn settle(&mut self) {
        for (source, stream, end) in self.tailer.settled(&self.positions) {
            self.positions.settle(source, stream, end);
        }
    }
}

#[test]
fn host_files_are_followed_over_a_rename() {
    let mut node = Node::new(StartFrom::Beginning, true);
    let path = node.host_path();
    fs::write(&path, "one\ntwo\r\n").unwrap();
    assert_eq!(node.run_host(), ["host:one", "host:two"]);
    fs::rename(&path, path.with_extension("1")).unwrap();
    fs::write(&path, "three\n").unwrap();
    assert_eq!(node.run_host(), ["host:three"]);
}

#[test]
fn two_host_files_that_begin_with_the_same_line_are_two() {
    let mut node = Node::new(StartFrom::Beginning, true);
    let path = node.host_path();
    fs::write(&path, "# version 1\none\n").unwrap();
    assert_eq!(node.run_host(), ["host:# version 1", "host:one"]);
    fs::rename(&path, path.with_extension("1")).unwrap();
    fs::write(&path, "# version 1\ntwo\n").unwrap();
    let mut node = node.restart();
    assert_eq!(node.run_host(), ["host:# version 1", "host:two"]);
    assert_eq!(node.restart().run_host(), [""; 0]);
}

#[test]
fn a_truncated_host_file_that_begins_as_before_is_read_from_its_beginning_once() {
    let mut node = Node::new(StartFrom::Beginning, true);
    fs::write(node.host_path(), "# version 1\none\ntwo\n").unwrap();
    assert_eq!(node.run_host().len(), 3);
    for line in ["three", "four"] {
        fs::write(node.host_path(), "# version 1\n").unwrap();
        node.wait(1);
        assert_eq!(node.run_host(), ["host:# version 1"]);
        fs::write(node.host_path(), format!("# version 1\n{line}\n")).unwrap();
        assert_eq!(node.run_host(), [format!("host:{line}")]);
        node = node.restart();
        assert_eq!(node.run_host(), [""; 0]);
    }
}

#[test]
fn a_line_begun_in_a_truncated_file_goes_as_it_is() {
    let mut node = Node::new(StartFrom::Beginning, true);
    node.append("0.log", out("before") + &line("stdout", "P", "begun "));
    assert_eq!(node.run(), ["stdout:before"]);
    fs::write(node.path("0.log"), "2025-10-26T11:00:00.1Z stdout F after\n").unwrap();
    node.wait(1);
    assert_eq!(node.run(), ["stdout:begun ", "stdout:after"]);
}

#[test]
fn what_lies_in_a_directory_that_cannot_be_read_is_not_gone() {
    let mut node = Node::new(StartFrom::Beginning, true);
    node.append("0.log", out("1"));
    assert_eq!(node.run(), ["stdout:1"]);
    let path = node.path("0.log").parent().unwrap().to_owned();
    let error = std::io::Error::from_raw_os_error(24);
    let unreadable = vec![crate::discover::Unreadable { path, error }];
    let look = Look { unreadable, whole: true, ..Look::default() };
    node.tailer.reconcile(&look, &mut node.lanes, &mut node.positions);
    node.read();
    node.wait(20);
    node.append("0.log", out("2"));
    node.wait(1);
    node.read();
    assert_eq!(node.deliver(), ["stdout:2"]);
}
