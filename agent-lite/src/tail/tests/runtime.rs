//! What runtimes and the kubelet do to files beside the ordinary rotation.

use super::*;

impl Node {
    pub(super) fn hold(&mut self) {
        let lane = self.lanes.lane(Category::Application, &"ns".into());
        self.lanes.pause(lane, self.now + Duration::from_secs(500));
    }

    pub(super) fn release(&mut self) {
        self.lanes.resume(self.now + Duration::from_secs(500));
    }
}

#[test]
fn two_rotations_and_a_compression_while_the_lane_is_held_back() {
    let mut node = Node::new(StartFrom::Beginning, true);
    node.append("0.log", at(1, "1"));
    node.look();
    node.hold();
    let names = ["0.log.20251026-101530", "0.log.20251026-101540"];
    node.rename("0.log", names[0]);
    node.append("0.log", at(2, "2"));
    node.look();
    node.read();
    node.gzip(names[0]);
    node.rename("0.log", names[1]);
    node.append("0.log", at(3, "3"));
    node.look();
    node.wait(1);
    node.release();
    assert_eq!(node.run(), ["stdout:1", "stdout:2", "stdout:3"]);
    assert!(node.is_settled());
}

/// The kubelet renames the log, and renames it back where the runtime could not open it anew
/// (kubernetes `pkg/kubelet/logs/container_log_manager.go`, `rotateLatestLog`).
#[test]
fn a_rotation_that_is_taken_back_costs_nothing() {
    let mut node = Node::new(StartFrom::Beginning, true);
    node.append("0.log", at(1, "1") + &line("stdout", "P", "begun "));
    assert_eq!(node.run(), ["stdout:1"]);
    node.rename("0.log", "0.log.20251026-101530");
    node.append("0.log.20251026-101530", line("stdout", "F", "ended"));
    assert_eq!(node.run(), ["stdout:begun ended"]);
    node.wait(20);
    node.rename("0.log.20251026-101530", "0.log");
    node.append("0.log", at(2, "2"));
    assert_eq!(node.run(), ["stdout:2"]);
    node.wait(20);
    node.append("0.log", at(3, "3"));
    assert_eq!(node.run(), ["stdout:3"], "it is the live one again, and is not closed");
    assert!(node.is_settled());
}

/// conmon makes `0.log.tmp`, and renames it over `0.log` (`ctr_logging.c`, `reopen_k8s_file`).
#[test]
fn a_file_that_another_was_renamed_over_is_read_to_its_end() {
    let mut node = Node::new(StartFrom::Beginning, true);
    node.append("0.log", at(1, "1"));
    assert_eq!(node.run(), ["stdout:1"]);
    node.append("0.log", at(2, "2"));
    node.append("0.log.tmp", at(3, "3"));
    node.rename("0.log.tmp", "0.log");
    assert_eq!(node.run(), ["stdout:2", "stdout:3"]);
    assert!(node.is_settled());
}

#[test]
fn a_pod_that_comes_again_under_its_name_is_another() {
    let mut node = Node::new(StartFrom::Beginning, true);
    node.append("0.log", at(1, "same") + &at(2, "first pod"));
    assert_eq!(node.run().len(), 2);
    fs::remove_dir_all(node.dir.path().join("ns_pod_uid")).unwrap();
    node.append("../../ns_pod_uid-2/app/0.log", at(1, "same") + &at(3, "second pod"));
    assert_eq!(node.run(), ["stdout:same", "stdout:second pod"]);
}

#[test]
fn a_container_that_lived_between_two_looks_is_read_to_its_last_byte() {
    let mut node = Node::new(StartFrom::Beginning, true);
    node.append("0.log", at(1, "born"));
    // A hint led here; by the time that it is read it is gone.
    node.look();
    node.append("0.log", at(1, "died") + "2025-10-26T10:15:02.1Z stdout P last words\n");
    fs::remove_dir_all(node.dir.path().join("ns_pod_uid")).unwrap();
    node.look();
    node.read();
    assert_eq!(node.deliver(), ["stdout:born", "stdout:died"]);
    node.read();
    node.wait(20);
    assert_eq!(node.deliver(), ["stdout:last words"]);
    node.wait(20);
    assert_eq!(node.tailer.totals().1, 0);
    assert!(node.is_settled());
}

#[test]
fn a_file_of_twelve_gigabytes_is_gone_on_with_where_it_was_left() {
    const END: u64 = 12 << 30;
    let mut node = Node::new(StartFrom::Beginning, true);
    node.append("0.log", at(1, "1"));
    assert_eq!(node.run(), ["stdout:1"]);
    let source = node.tailer.sightings().next().unwrap().source;
    OpenOptions::new().write(true).open(node.path("0.log")).unwrap().set_len(END).unwrap();
    [Stream::Stdout, Stream::Stderr].into_iter().for_each(|stream| node.positions.settle(source, stream, END));
    node.append("0.log", at(2, "2") + &at(3, "3"));
    let mut node = node.restart();
    node.look();
    node.read();
    assert_eq!(node.deliver(), ["stdout:2", "stdout:3"]);
    assert_eq!(node.positions.acknowledged(source, Stream::Stdout), END + 2 * at(2, "2").len() as u64);
}

#[test]
fn an_empty_file_that_is_rotated_is_no_gap_and_holds_nothing() {
    let mut node = Node::new(StartFrom::Beginning, true);
    node.append("0.log", "");
    assert_eq!(node.run(), [""; 0]);
    node.rename("0.log", "0.log.20251026-101530");
    node.append("0.log", at(2, "2"));
    assert_eq!(node.run(), ["stdout:2"]);
    node.wait(20);
    assert_eq!(node.tailer.totals().1, 1);
    node.remove("0.log.20251026-101530");
    assert_eq!(node.run(), [""; 0]);
    node.wait(20);
    node.assert_told_once();
}
