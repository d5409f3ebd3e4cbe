//! What is left out by a decision: in the middle of long lines, at truncations, between two tellings.

use super::fairness::{LINE, kept, node, text, with_budget};
use super::treat::describe;
use super::*;

const EXCLUDE: &str = r#""sluice.dev/exclude":"true""#;
const EXCLUDE_STDERR: &str = r#""fluentbit.io/exclude_stderr":"true""#;

/// Longer than the buffer.
fn long(stream: &str, tag: &str) -> String {
    line(stream, tag, &"x".repeat(3 * BUFFER))
}

#[test]
fn an_annotation_in_the_middle_of_a_long_line_loses_no_byte_of_the_books() {
    let mut node = Node::new(StartFrom::Beginning, true);
    node.append("0.log", long("stdout", "F").trim_end());
    node.run();
    describe(&mut node, EXCLUDE);
    node.read();
    node.append("0.log", "\n".to_owned() + &out("kept out"));
    node.run();
    node.wait(10);
    assert!(node.is_settled());
    let page = node.check_books().remove(0);
    assert_eq!(page.written, (long("stdout", "F").len() + out("kept out").len()) as u64);
    assert!(page.abandoned[&Abandoned::Excluded] > 0 && page.acknowledged > 0, "{page:?}");
}

#[test]
fn a_long_line_of_a_stream_that_is_kept_out_is_not_sent() {
    let mut node = Node::new(StartFrom::Beginning, true);
    node.append("0.log", out("a") + &long("stderr", "F") + &out("b"));
    describe(&mut node, EXCLUDE_STDERR);
    node.read();
    node.check_books();
    assert_eq!(node.deliver(), ["stdout:a", "stdout:b"]);
    node.wait(10);
    assert!(node.is_settled());
    assert_eq!(node.check_books()[0].abandoned[&Abandoned::Excluded], long("stderr", "F").len() as u64);
}

#[test]
fn a_long_line_beyond_a_pods_budget_is_dropped_with_its_end() {
    let mut node = node(with_budget(Policy::Drop));
    let dropped = long("stdout", "P") + &line("stdout", "F", "its end");
    node.append("0.log", text(0..20) + &dropped);
    assert_eq!(kept(&node.run()).len(), 20);
    node.wait(10);
    assert_eq!(node.deliver(), [format!("gap:over-budget:{}", dropped.len())]);
    assert!(node.is_settled());
}

#[test]
fn what_is_read_of_a_long_line_is_owed() {
    let mut node = node(with_budget(Policy::Drop));
    node.append("0.log", long("stdout", "F") + &out("dropped"));
    let sent = node.run();
    assert!(sent.iter().all(|part| part.starts_with("stdout:xxx")), "{:?}", sent.last());
    // A second's room would do for a short one.
    node.wait(2);
    node.append("0.log", out("dropped too"));
    assert!(!node.run().contains(&"stdout:dropped too".to_owned()));
}

#[test]
fn the_pieces_of_a_line_are_owed_by_its_pod() {
    let mut node = node(with_budget(Policy::Drop));
    let piece = line("stdout", "P", &"y".repeat(900));
    node.append("0.log", piece.repeat(5) + &line("stdout", "F", "end") + &out("dropped"));
    assert_eq!(node.run().len(), 1);
}

#[test]
fn a_truncation_books_what_was_left_out_before_it() {
    let mut node = node(with_budget(Policy::Drop));
    node.append("0.log", text(0..30));
    assert_eq!(kept(&node.run()).len(), 20);
    fs::write(node.path("0.log"), at(59, "short")).unwrap();
    node.wait(5);
    node.look();
    node.check_books();
    node.wait(10);
    assert_eq!(node.run(), [format!("gap:over-budget:{}", 10 * LINE), "stdout:short".to_owned()]);
    assert!(node.is_settled());
}

#[test]
fn a_telling_in_the_middle_of_a_dropped_line_does_not_make_a_line_of_its_rest() {
    let mut node = node(with_budget(Policy::Drop));
    node.append("0.log", text(0..20) + &line("stdout", "P", "dropped "));
    assert_eq!(kept(&node.run()).len(), 20);
    node.wait(11);
    assert_eq!(node.deliver(), [""; 0], "its end is not here yet");
    // Killed, and the next one has a full bucket: the line is whole, or not there.
    node.append("0.log", line("stdout", "F", "or not"));
    let mut node = node.restart();
    assert_eq!(node.run(), ["stdout:dropped or not"]);
    assert!(node.is_settled());
}

#[test]
fn a_dropped_line_whose_end_never_comes_holds_nothing_for_ever() {
    let mut node = node(with_budget(Policy::Drop));
    node.append("0.log", text(0..20) + &line("stdout", "P", "dropped "));
    node.append("1.log", at(50, "next attempt"));
    node.run();
    node.read();
    node.wait(11);
    node.wait(11);
    node.deliver();
    node.wait(11);
    assert!(node.is_settled());
    assert_eq!(node.tailer.totals().1, 1, "the ended attempt's file is closed");
}
