//! Files that are cut short while they are behind, and grow again before anybody looks.

use super::*;

impl Node {
    fn truncate(&self, name: &str) {
        OpenOptions::new().write(true).open(self.path(name)).unwrap().set_len(0).unwrap();
    }
}

fn lost() -> String {
    (0..100).map(|n| at(2, &format!("lost {n}"))).collect()
}

/// Read to its first line, seen with a hundred more, and cut short since.
fn behind() -> Node {
    let mut node = Node::new(StartFrom::Beginning, true);
    node.append("0.log", at(1, "1"));
    assert_eq!(node.run(), ["stdout:1"]);
    node.hold();
    node.append("0.log", lost());
    node.look();
    node.truncate("0.log");
    node.append("0.log", at(3, "3") + &at(4, "4"));
    node
}

#[test]
fn a_truncated_file_that_outgrew_what_was_read_of_it_is_read_anew() {
    let mut node = behind();
    node.look();
    node.wait(1);
    node.release();
    assert_eq!(node.run(), [format!("gap:truncated:{}", lost().len()), "stdout:3".into(), "stdout:4".into()]);
    assert!(node.is_settled());
    node.assert_told_once();
}

#[test]
fn a_truncated_file_is_not_read_on_before_that_is_noticed() {
    let mut node = behind();
    node.release();
    assert_eq!(node.run(), [""; 0], "what stands there now continues nothing");
    node.wait(1);
    assert_eq!(node.run(), [format!("gap:truncated:{}", lost().len()), "stdout:3".into(), "stdout:4".into()]);
    assert!(node.is_settled());
}

#[test]
fn a_file_that_was_empty_when_it_was_opened_is_told_of_where_it_is_truncated_unread() {
    let mut node = Node::new(StartFrom::Beginning, true);
    node.append("0.log", "");
    node.look();
    node.hold();
    node.append("0.log", lost());
    node.look();
    node.wait(1);
    node.truncate("0.log");
    node.append("0.log", at(3, "3"));
    node.look();
    node.wait(1);
    node.release();
    assert_eq!(node.run(), [format!("gap:truncated:{}", lost().len()), "stdout:3".into()]);
}

#[test]
fn a_file_that_is_truncated_before_its_first_line_is_whole_is_no_other_one() {
    let mut node = Node::new(StartFrom::Beginning, true);
    node.append("0.log", "2025-10-26T10:15:30.1Z stdout F half");
    node.look();
    node.truncate("0.log");
    node.append("0.log", "2025");
    node.look();
    node.wait(1);
    assert_eq!((node.positions.truncations(0), node.tailer.take_counts().truncated), (0, 0));
    node.truncate("0.log");
    node.append("0.log", at(1, "1"));
    assert_eq!(node.run(), ["stdout:1"]);
    node.wait(1);
    assert_eq!(node.run(), [""; 0]);
}
