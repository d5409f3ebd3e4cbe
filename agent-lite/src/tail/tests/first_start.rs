//! What is read on a node where no agent has run.

use super::*;

#[test]
fn first_start_at_the_end_reads_what_comes_then() {
    let mut node = Node::new(StartFrom::End, true);
    node.append("0.log", out("old") + "2025-10-26T10:15:30.1Z stdout F cut");
    assert_eq!(node.run(), [""; 0]);
    node.append("0.log", "\n".to_owned() + &out("new"));
    node.append("1.log", out("a new file"));
    assert_eq!(node.run(), ["stdout:cut", "stdout:new", "stdout:a new file"]);
}

#[test]
fn first_start_since_a_moment() {
    let since = time::parse(b"2025-10-26T10:15:30Z").unwrap();
    let mut node = Node::new(StartFrom::Since(since), true);
    node.append("0.log", "2025-10-26T10:15:29.9Z stdout F old\n".to_owned() + &out("new"));
    assert_eq!(node.run(), ["stdout:new"]);
    assert_eq!(node.tailer.take_counts().too_old, 1);
}

#[test]
fn first_start_at_the_end_holds_for_files_that_stay_silent() {
    let mut node = Node::new(StartFrom::End, true);
    node.append("0.log", out("old"));
    fs::write(node.host_path(), "old\n").unwrap();
    node.look();
    node.look_at_host();
    node.read();
    assert_eq!(node.deliver(), [""; 0]);
    node.settle();
    let mut node = node.restart();
    node.append("0.log", out("new"));
    assert_eq!((node.run(), node.run_host()), (vec!["stdout:new".to_owned()], vec![]));
}
