//! Lines whose end nobody will write.

use super::*;

#[test]
fn attempts_are_never_joined_and_last_words_are_a_line() {
    let mut node = Node::new(StartFrom::Beginning, true);
    node.append("0.log", line("stdout", "P", "last words"));
    assert_eq!(node.run(), [""; 0]);
    node.append("1.log", line("stdout", "F", "new life"));
    assert_eq!(node.run(), ["stdout:new life"]);
    node.wait(20);
    assert_eq!(node.deliver(), ["stdout:last words"]);
}

#[test]
fn a_line_that_its_writer_never_ended_is_sent_once_nobody_can_end_it() {
    let mut node = Node::new(StartFrom::Beginning, true);
    node.append("0.log", out("1") + &line("stderr", "P", "last ") + out("died here").trim_end());
    assert_eq!(node.run(), ["stdout:1"]);
    node.wait(20);
    assert_eq!(node.run(), [""; 0], "the container lives");
    node.append("1.log", out("2"));
    assert_eq!(node.run(), ["stdout:2"]);
    node.wait(20);
    assert_eq!(node.run(), ["stdout:died here"]);
    node.read();
    node.wait(20);
    assert_eq!(node.deliver(), ["stderr:last "]);
    node.wait(20);
    assert_eq!(node.tailer.totals().1, 1, "the ended attempt's file is closed");
    assert_eq!(node.restart().run(), [""; 0]);
}

#[test]
fn last_words_without_a_newline_end_the_line_that_waits_for_them() {
    let mut node = Node::new(StartFrom::Beginning, true);
    node.append("0.log", line("stdout", "P", "begun ") + out("ended").trim_end());
    node.append("1.log", out("new life"));
    assert_eq!(node.run(), ["stdout:new life"]);
    node.read();
    node.wait(20);
    assert_eq!(node.run(), ["stdout:begun ended"]);
}

#[test]
fn a_rotated_file_without_a_final_newline_is_sent_whole_and_closed_for_good() {
    let mut node = Node::new(StartFrom::Beginning, true);
    node.append("0.log", out("1") + "torn");
    node.rename("0.log", "0.log.20251026-101530");
    node.append("0.log", out("2") + out("last").trim_end());
    node.rename("0.log", "0.log.20251026-101531");
    node.append("0.log", out("3"));
    assert_eq!(node.run(), ["stdout:1", "stdout:2", "stdout:3"]);
    node.wait(20);
    assert_eq!(node.run(), ["stdout:last"]);
    for _ in 0..3 {
        node.wait(20);
        assert_eq!(node.run(), [""; 0]);
    }
    assert_eq!((node.tailer.totals().1, node.tailer.take_counts().torn), (1, 1));
}
