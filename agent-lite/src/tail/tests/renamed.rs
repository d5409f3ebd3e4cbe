//! Files of the node that were renamed: to where a start finds them, to where it does not, and removed then.

use super::*;

impl Node {
    fn hold_host(&mut self) {
        let lane = self.lanes.lane(Category::Host, &"messages".into());
        self.lanes.pause(lane, self.now + Duration::from_secs(500));
    }

    fn release_host(&mut self) {
        self.lanes.resume(self.now + Duration::from_secs(500));
    }

    /// As logrotate does it with `olddir`.
    fn rotate_into(&self, directory: &str, name: &str) {
        let directory = self.dir.path().join(directory);
        fs::create_dir_all(&directory).unwrap();
        fs::rename(self.host_path(), directory.join(name)).unwrap();
    }
}

#[test]
fn a_renamed_host_file_that_a_start_would_find_is_not_gone() {
    let mut node = Node::new(StartFrom::Beginning, true);
    node.lanes.set_spool_has_room(true);
    fs::write(node.host_path(), "one\n").unwrap();
    node.look_at_host();
    node.hold_host();
    node.rotate_into("", "messages.1");
    // Before the daemon makes its new file, and after.
    node.look_at_host();
    node.read();
    fs::write(node.host_path(), "two\n").unwrap();
    node.look_at_host();
    node.read();
    assert_eq!(node.tailer.take_counts().bytes, 0, "what exists is read from where it is");
    assert_eq!(node.tailer.existing().count(), 2);
    let path = node.dir.path().join("messages.1");
    assert!(node.tailer.sightings().any(|sighting| sighting.path == path), "a start looks for it there");
    node.release_host();
    assert_eq!(node.run_host(), ["host:one", "host:two"]);
    // Read, and nobody writes to it any more.
    for _ in 0..3 {
        node.wait(400);
        assert_eq!(node.run_host(), [""; 0]);
    }
    assert_eq!(node.tailer.totals().1, 1);
    assert!(node.is_settled());
}

/// Twice as many as may be held where they are deleted.
fn node_with_eight_moved_away() -> Node {
    let mut node = Node::new(StartFrom::Beginning, true);
    node.hold_host();
    for n in 0..8 {
        fs::write(node.host_path(), format!("line {n}\n")).unwrap();
        node.look_at_host();
        node.rotate_into("archive", &format!("messages.{n}"));
        node.look_at_host();
    }
    node
}

#[test]
fn host_files_that_were_moved_away_are_never_given_up_while_they_exist() {
    let mut node = node_with_eight_moved_away();
    node.wait(1);
    node.release_host();
    let lines: Vec<String> = (0..8).map(|n| format!("host:line {n}")).collect();
    assert_eq!(node.run_host(), lines);
    assert!(node.is_settled());
}

#[test]
fn host_files_that_were_moved_away_and_removed_are_bounded() {
    let mut node = node_with_eight_moved_away();
    fs::remove_dir_all(node.dir.path().join("archive")).unwrap();
    node.wait(1);
    node.release_host();
    let sent = node.run_host();
    let gaps = sent.iter().filter(|message| message.starts_with("gap:deleted")).count();
    assert_eq!((gaps, sent.len()), (4, 8), "{sent:?}");
}

#[test]
fn a_host_file_that_was_moved_away_goes_to_the_spool_for_no_start_would_find_it() {
    let mut node = Node::new(StartFrom::Beginning, true);
    node.lanes.set_spool_has_room(true);
    fs::write(node.host_path(), "one\n").unwrap();
    node.look_at_host();
    node.hold_host();
    node.rotate_into("archive", "messages.1");
    node.look_at_host();
    node.read();
    assert_eq!(node.tailer.take_counts().bytes, 4);
    assert_eq!(node.tailer.existing().count(), 0);
}

#[test]
fn a_renamed_host_file_is_gone_once_it_was_compressed() {
    let mut node = Node::new(StartFrom::Beginning, true);
    node.lanes.set_spool_has_room(true);
    fs::write(node.host_path(), "one\n").unwrap();
    node.look_at_host();
    node.hold_host();
    node.rotate_into("", "messages.1");
    node.look_at_host();
    assert_eq!(node.tailer.existing().count(), 1);
    // `gzip` makes another file, and removes this one.
    fs::write(node.dir.path().join("messages.1.gz"), "").unwrap();
    fs::remove_file(node.dir.path().join("messages.1")).unwrap();
    node.look_at_host();
    node.read();
    assert_eq!((node.tailer.existing().count(), node.tailer.take_counts().bytes), (0, 4));
}

impl Node {
    fn append_to_host(&self, name: &str, text: &str) {
        let file = OpenOptions::new().append(true).open(self.dir.path().join(name));
        file.unwrap().write_all(text.as_bytes()).unwrap();
    }
}

/// `messages` was renamed, and both files were read.
fn rotated_and_read() -> Node {
    let mut node = Node::new(StartFrom::Beginning, true);
    fs::write(node.host_path(), "one\n").unwrap();
    assert_eq!(node.run_host(), ["host:one"]);
    node.rotate_into("", "messages.1");
    fs::write(node.host_path(), "two\n").unwrap();
    assert_eq!(node.run_host(), ["host:two"]);
    node
}

#[test]
fn what_a_daemon_writes_into_its_renamed_file_long_after_is_read() {
    let mut node = rotated_and_read();
    for _ in 0..2 {
        node.wait(400);
        assert_eq!(node.run_host(), [""; 0]);
    }
    assert_eq!(node.tailer.totals().1, 1, "the renamed one is closed");
    node.append_to_host("messages.1", "late\n");
    assert_eq!(node.run_host(), ["host:late"]);
    // Its name moves on while it is closed.
    node.wait(400);
    node.rotate_into("", "messages.2");
    fs::rename(node.dir.path().join("messages.1"), node.dir.path().join("messages.3")).unwrap();
    fs::write(node.host_path(), "three\n").unwrap();
    assert_eq!(node.run_host(), ["host:three"]);
    node.append_to_host("messages.3", "very late\n");
    assert_eq!(node.run_host(), ["host:very late"]);
    assert!(node.is_settled());
    assert_eq!(node.restart().run_host(), [""; 0]);
}

#[test]
fn a_renamed_host_file_that_goes_on_growing_is_held_open() {
    let mut node = rotated_and_read();
    for n in 0..3 {
        node.append_to_host("messages.1", &format!("late {n}\n"));
        node.wait(200);
        assert_eq!(node.run_host(), [format!("host:late {n}")]);
    }
    node.wait(200);
    assert_eq!(node.tailer.totals().1, 2, "600 s after it was read to its end first");
    node.wait(200);
    assert_eq!(node.tailer.totals().1, 1);
}

#[test]
fn what_a_daemon_writes_into_its_renamed_file_while_no_agent_runs_is_read() {
    let mut node = rotated_and_read();
    node.wait(400);
    node.append_to_host("messages.1", "late\n");
    let mut node = node.restart();
    assert_eq!(node.run_host(), ["host:late"]);
    assert!(node.is_settled());
}
