//! Categories of pods, the agent's own logs, and host files over rotations that no agent saw.

use super::*;
use crate::discover::{Choice, HostFiles, HostPath, OwnLogs, PodRule};

fn choice(own: Option<&str>, own_logs: OwnLogs) -> Choice {
    let glob = |text: &str| globset::Glob::new(text).unwrap().compile_matcher();
    let rule = PodRule { namespace: glob("ns"), pod: glob("p*"), container: glob("*"), labels: [].into() };
    let own_pod = own.map(|pod| ("ns".into(), pod.into()));
    Choice { dataplane: vec![rule], own_logs, own_pod }
}

impl Node {
    fn choosing(self, choice: Choice) -> Self {
        Self { tailer: self.tailer.choosing(choice), ..self }
    }

    /// An agent after this one, which was alive until then.
    fn after(self, last_look: i64) -> Self {
        let node = self.restart();
        Self { tailer: node.tailer.following(Some(last_look)), ..node }
    }

    fn begin(&self, name: &str, lines: std::ops::Range<u32>) {
        let text: String = lines.map(|line| format!("{name} {line}\n")).collect();
        fs::write(self.dir.path().join(name), text).unwrap();
    }

    fn look_at_files(&mut self, pattern: &str) {
        let path = HostPath::parse(&format!("{}/{pattern}", self.dir.path().display())).unwrap();
        let files = HostFiles { path, unit: None, category: Category::Host, format: "plain" };
        self.tailer.look_at_host(&[files], &mut self.lanes, &mut self.positions);
        self.read();
        self.check_books();
    }

    /// As logrotate does it: the copy keeps the time of what it is of.
    fn gzip_host(&self, name: &str, to: &str) {
        let (from, to) = (self.dir.path().join(name), self.dir.path().join(to));
        let mut encoder = GzEncoder::new(fs::File::create(&to).unwrap(), Compression::fast());
        encoder.write_all(&fs::read(&from).unwrap()).unwrap();
        encoder.finish().unwrap().set_modified(fs::metadata(&from).unwrap().modified().unwrap()).unwrap();
        fs::remove_file(from).unwrap();
    }
}

#[test]
fn what_carries_the_cluster_has_lanes_and_books_of_its_own() {
    let mut node = Node::new(StartFrom::Beginning, true).choosing(choice(None, OwnLogs::Drop));
    node.append("0.log", out("a"));
    node.look();
    node.read();
    assert_eq!(&*node.check_books()[0].books, "dataplane/ns");
    node.lanes.cut_all();
    let lane = node.lanes.lane(Category::Dataplane, &"ns".into());
    let block = node.lanes.remove(lane, 0).unwrap();
    let mut checker = Checker::default();
    let raw = checker.check(&block.header, &block.payload, Depth::Json).unwrap();
    let record: serde_json::Value = serde_json::from_slice(raw).unwrap();
    assert_eq!((&record["log_type"], &record["k8s_pod_name"]), (&"dataplane".into(), &"pod".into()));
}

#[test]
fn the_agents_own_logs_are_left_out() {
    let mut node = Node::new(StartFrom::Beginning, true).choosing(choice(Some("pod"), OwnLogs::Drop));
    node.append("0.log", out("a"));
    assert_eq!((node.run(), node.tailer.left_out(), node.tailer.totals().0), (vec![], 1, 0));
    let mut node = node.restart().choosing(choice(Some("other"), OwnLogs::Drop));
    assert_eq!(node.run(), ["stdout:a"]);
}

#[test]
fn the_agents_own_logs_are_read_slowly_where_it_is_told_so() {
    let mut node = Node::new(StartFrom::Beginning, true).choosing(choice(Some("pod"), OwnLogs::RateLimit));
    node.append("0.log", out(&"x".repeat(100_000)));
    assert_eq!(node.run().len(), 1);
    node.append("0.log", out("later"));
    assert_eq!(node.run(), [""; 0]);
    // 100 kB at 64 KiB/s.
    node.wait(2);
    assert_eq!(node.run(), ["stdout:later"]);
}

#[test]
fn a_file_that_was_rotated_while_no_agent_ran_is_read_to_its_end() {
    let mut node = Node::new(StartFrom::Beginning, true);
    node.begin("syslog", 0..2);
    node.begin("syslog.1", 0..3);
    node.look_at_files("syslog");
    // What was rotated before the first start is not wanted.
    assert_eq!(node.deliver(), ["host:syslog 0", "host:syslog 1"]);
    let path = |name: &str| node.dir.path().join(name);
    OpenOptions::new().append(true).open(path("syslog")).unwrap().write_all(b"late\n").unwrap();
    fs::rename(path("syslog.1"), path("syslog.2")).unwrap();
    fs::rename(path("syslog"), path("syslog.1")).unwrap();
    node.begin("syslog", 5..6);
    let mut node = node.after(i64::MAX);
    node.look_at_files("syslog");
    assert_eq!(node.deliver(), ["host:late", "host:syslog 5"]);
}

#[test]
fn a_file_that_came_and_went_between_two_runs_is_read_if_it_was_written_since() {
    let mut node = Node::new(StartFrom::Beginning, true);
    node.begin("syslog", 0..1);
    node.look_at_files("syslog");
    node.deliver();
    node.begin("syslog.1", 7..8);
    let mut node = node.after(0);
    node.look_at_files("syslog");
    assert_eq!(node.deliver(), ["host:syslog.1 7"]);
}

#[test]
fn a_compressed_copy_goes_on_where_its_file_was_left() {
    let mut node = Node::new(StartFrom::Beginning, true);
    node.begin("syslog", 0..2);
    node.look_at_files("syslog");
    node.deliver();
    let path = node.dir.path().join("syslog");
    OpenOptions::new().append(true).open(&path).unwrap().write_all(b"late\n").unwrap();
    node.gzip_host("syslog", "syslog.1.gz");
    // It begins as the one before it did.
    node.begin("syslog", 0..1);
    let mut node = node.after(i64::MAX);
    node.look_at_files("syslog");
    assert_eq!(node.deliver(), ["host:late", "host:syslog 0"]);
    assert!(node.is_settled());
}

#[test]
fn a_compressed_file_is_no_copy_of_one_that_is_still_there() {
    let mut node = Node::new(StartFrom::Beginning, true);
    node.begin("syslog", 0..3);
    node.look_at_files("syslog");
    node.deliver();
    // An older and longer file with the same first line.
    let text: String = (0..6).map(|line| format!("syslog {line}\n")).collect();
    fs::write(node.dir.path().join("old"), text).unwrap();
    node.gzip_host("old", "syslog.1.gz");
    let mut node = node.after(i64::MAX);
    OpenOptions::new().append(true).open(node.dir.path().join("syslog")).unwrap().write_all(b"new\n").unwrap();
    node.look_at_files("syslog");
    assert_eq!(node.deliver(), ["host:new"]);
}

#[test]
fn a_file_that_a_pattern_matches_no_more_is_forgotten_once_it_is_read() {
    let mut node = Node::new(StartFrom::Beginning, true);
    node.begin("a.log", 0..1);
    node.begin("b.log", 0..1);
    node.look_at_files("*.log");
    assert_eq!(node.deliver().len(), 2);
    fs::remove_file(node.dir.path().join("a.log")).unwrap();
    node.look_at_files("*.log");
    node.wait(400);
    node.look_at_files("*.log");
    node.wait(400);
    assert_eq!(node.tailer.totals().0, 1);
    node.begin("a.log", 5..6);
    node.look_at_files("*.log");
    assert_eq!(node.deliver(), ["host:a.log 5"]);
}

#[test]
fn a_copy_that_is_being_written_is_left_alone_while_its_file_is_there() {
    let mut node = Node::new(StartFrom::Beginning, true);
    node.begin("syslog", 0..2);
    node.look_at_files("syslog");
    node.deliver();
    let path = |name: &str| node.dir.path().join(name);
    OpenOptions::new().append(true).open(path("syslog")).unwrap().write_all(b"late\n").unwrap();
    fs::copy(path("syslog"), path("whole")).unwrap();
    fs::rename(path("syslog"), path("syslog.1")).unwrap();
    node.gzip_host("whole", "syslog.1.gz");
    let copy = fs::read(path("syslog.1.gz")).unwrap();
    fs::write(path("syslog.1.gz"), &copy[..copy.len() / 2]).unwrap();
    node.begin("syslog", 5..6);
    let mut node = node.after(0);
    node.look_at_files("syslog");
    assert_eq!(node.deliver(), ["host:late", "host:syslog 5"]);
    assert_eq!(node.tailer.take_counts().unreadable, 0, "nobody has looked into the half copy");
    assert!(node.is_settled());
}

/// `syslog` was rotated, and rotated again while no agent ran, and all of it compressed; the files begin alike.
/// `late` came into both when they were seen last.
fn begin_alike(older: &str, late: [&str; 2]) -> Node {
    let mut node = Node::new(StartFrom::Beginning, true);
    let path = |node: &Node, name: &str| node.dir.path().join(name);
    let begin = |node: &Node, text: &str| fs::write(path(node, "syslog"), format!("# version 1\n{text}\n")).unwrap();
    let append = |node: &Node, name: &str, text: &str| {
        OpenOptions::new().append(true).open(path(node, name)).unwrap().write_all(text.as_bytes()).unwrap();
    };
    begin(&node, older);
    node.look_at_files("syslog");
    fs::rename(path(&node, "syslog"), path(&node, "syslog.1")).unwrap();
    begin(&node, "the newer one's");
    node.look_at_files("syslog");
    node.deliver();
    if late[0].is_empty() {
        node.wait(400);
    }
    node.look_at_files("syslog");
    append(&node, "syslog.1", late[0]);
    append(&node, "syslog", late[1]);
    node.gzip_host("syslog.1", "syslog.2.gz");
    let older = fs::File::options().append(true).open(path(&node, "syslog.2.gz")).unwrap();
    older.set_modified(std::time::SystemTime::now() - Duration::from_secs(3600)).unwrap();
    node.gzip_host("syslog", "syslog.1.gz");
    begin(&node, "the newest one's");
    node.after(i64::MAX)
}

#[test]
fn two_copies_that_begin_alike_go_on_each_where_it_was_left() {
    let mut node = begin_alike("older", ["older and late\n", "late\n"]);
    node.look_at_files("syslog");
    assert_eq!(node.deliver(), ["host:older and late", "host:late", "host:# version 1", "host:the newest one's"]);
    assert!(node.is_settled());
}

#[test]
fn a_copy_of_what_was_read_is_not_taken_for_one_that_begins_alike_and_is_gone() {
    let mut node = begin_alike("the line of the older one, which is the longer", ["", "lost\n"]);
    fs::remove_file(node.dir.path().join("syslog.1.gz")).unwrap();
    node.look_at_files("syslog");
    assert_eq!(node.deliver(), ["host:# version 1", "host:the newest one's"]);
}

#[test]
fn a_copy_of_what_was_truncated_while_no_agent_ran_goes_on_where_its_file_was_left() {
    let mut node = Node::new(StartFrom::Beginning, true);
    node.begin("syslog", 0..2);
    node.look_at_files("syslog");
    node.deliver();
    node.append("0.log", out("a pod"));
    assert_eq!(node.run(), ["stdout:a pod"]);
    let path = |name: &str| node.dir.path().join(name);
    OpenOptions::new().append(true).open(path("syslog")).unwrap().write_all(b"late\n").unwrap();
    fs::copy(path("syslog"), path("syslog.1")).unwrap();
    // In its place, as `copytruncate` does it.
    node.begin("syslog", 5..6);
    let mut node = node.after(0);
    node.look_at_files("syslog");
    node.tell_losses();
    assert_eq!(node.deliver(), ["host:late", "host:syslog 5"]);
    assert!(node.is_settled());
}

/// `syslog`, which a pattern matches, was rotated, and nobody has made it anew.
fn rotated_without_a_live_file(restart: bool) -> Node {
    let mut node = Node::new(StartFrom::Beginning, true);
    node.begin("syslog", 0..2);
    node.begin("syslog.1", 3..4);
    node.look_at_files("syslog*");
    assert_eq!(node.deliver(), ["host:syslog 0", "host:syslog 1"]);
    let path = |name: &str| node.dir.path().join(name);
    fs::rename(path("syslog.1"), path("syslog.2")).unwrap();
    fs::rename(path("syslog"), path("syslog.1")).unwrap();
    if restart { node.after(i64::MAX) } else { node }
}

#[test]
fn a_rotated_file_is_no_log_of_its_own_before_its_live_one_is_made_anew() {
    for restart in [false, true] {
        let mut node = rotated_without_a_live_file(restart);
        for _ in 0..2 {
            node.tailer.list_anew();
            node.look_at_files("syslog*");
            assert_eq!(node.deliver(), [""; 0], "restart: {restart}");
        }
        let late = OpenOptions::new().append(true).open(node.dir.path().join("syslog.1"));
        late.unwrap().write_all(b"late\n").unwrap();
        node.begin("syslog", 5..6);
        node.tailer.list_anew();
        node.look_at_files("syslog*");
        assert_eq!(node.deliver(), ["host:late", "host:syslog 5"], "restart: {restart}");
        assert_eq!(node.tailer.totals().0, 1);
    }
}

#[test]
fn a_file_of_a_pattern_that_went_while_no_agent_ran_is_told_of() {
    let mut node = Node::new(StartFrom::Beginning, true);
    node.begin("a.log", 0..1);
    node.begin("b.log", 0..1);
    node.look_at_files("*.log");
    assert_eq!(node.deliver().len(), 2);
    let mut node = node.restart();
    fs::remove_file(node.dir.path().join("a.log")).unwrap();
    node.look_at_files("*.log");
    node.tell_losses();
    let told = node.deliver_records();
    assert_eq!((told.len(), &told[0]["unit"]), (1, &"a.log".into()));
    assert_eq!(told[0]["sluice_gap_reason"], "vanished");
    node.wait(1);
    node.look_at_files("*.log");
    node.wait(1);
    assert_eq!(node.tailer.totals().0, 1, "its log is for the gap alone");
    let mut node = node.restart();
    node.look_at_files("*.log");
    node.tell_losses();
    assert_eq!(node.deliver(), [""; 0]);
}
