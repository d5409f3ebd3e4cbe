//! Settings that change while logs are read.

use super::*;
use crate::config::{Config, for_tests};
use crate::discover::OwnLogs;

fn node(config: &Config) -> Node {
    let mut node = Node::new(StartFrom::Beginning, true);
    let workshop = Workshop::new(config.redactor().unwrap(), config.messages.clone(), jiff::tz::TimeZone::UTC);
    node.tailer = node.tailer.with_workshop(workshop);
    node
}

fn retool(node: &mut Node, settings: &str) {
    let config = for_tests(settings);
    node.tailer.retool(Some(config.redactor().unwrap()), config.messages);
}

#[test]
fn another_rule_holds_for_the_next_line_and_counts_go_on() {
    let mut node = node(&for_tests("redact: {rules: [email]}"));
    node.append("0.log", line("stdout", "F", "bob@example.com 4111 1111 1111 1111"));
    assert_eq!(node.run(), ["stdout:[redacted:email] 4111 1111 1111 1111"]);
    retool(&mut node, "redact: {rules: [card-number]}");
    node.append("0.log", line("stdout", "F", "bob@example.com 4111 1111 1111 1111"));
    assert_eq!(node.run(), ["stdout:bob@example.com [redacted:card-number]"]);
    retool(&mut node, "redact: {rules: [email]}");
    node.append("0.log", line("stdout", "F", "bob@example.com"));
    assert_eq!(node.run(), ["stdout:[redacted:email]"]);
    let counts: Vec<_> = node.tailer.redactions().collect();
    assert_eq!(counts, [("card-number".to_owned(), 1), ("email".to_owned(), 2)]);
    retool(&mut node, "");
    node.append("0.log", line("stdout", "F", "bob@example.com"));
    assert_eq!(node.run(), ["stdout:bob@example.com"]);
    assert!(node.is_settled());
}

#[test]
fn what_was_begun_under_one_rule_ends_under_another_and_nothing_is_lost() {
    let mut node = node(&for_tests("multiline: {default: auto}"));
    let trace = ["java.lang.IllegalStateException: of bob@example.com", "\tat shop.Pay.charge(Pay.java:41)"];
    // A trace that may go on, and a line of which half is there.
    node.append("0.log", line("stdout", "F", trace[0]) + &line("stdout", "F", trace[1]));
    node.append("0.log", line("stderr", "P", "ali"));
    assert_eq!(node.run(), [""; 0]);
    retool(&mut node, "multiline: {rules: [{name: dated, start: '^2'}], default: dated}\nredact: {rules: [email]}");
    node.append("0.log", line("stdout", "F", "not dated") + &line("stdout", "F", "goes on"));
    node.append("0.log", line("stderr", "F", "ce@example.com"));
    node.append("0.log", line("stdout", "F", "2026 dated"));
    let first = trace.join("\n").replace("bob@example.com", "[redacted:email]");
    let expected =
        [format!("stdout:{first}"), "stderr:[redacted:email]".to_owned(), "stdout:not dated\ngoes on".to_owned()];
    assert_eq!(node.run(), expected);
    retool(&mut node, "");
    node.append("0.log", line("stdout", "F", "last"));
    node.append("0.log", line("stderr", "F", "last"));
    assert_eq!(node.run(), ["stdout:2026 dated", "stdout:last", "stderr:last"]);
    assert!(node.is_settled(), "each byte is in a block");
}

#[test]
fn own_logs_that_are_followed_already_are_followed_on() {
    let mut node = node(&for_tests(""));
    let choice = |own_logs| Choice { own_logs, own_pod: Some(("ns".into(), "pod".into())), ..Choice::none() };
    node.tailer.choose(choice(OwnLogs::RateLimit));
    node.append("0.log", line("stdout", "F", "one"));
    assert_eq!(node.run(), ["stdout:one"]);
    node.tailer.choose(choice(OwnLogs::Drop));
    node.append("0.log", line("stdout", "F", "two"));
    assert_eq!(node.run(), ["stdout:two"]);
    assert_eq!((node.tailer.left_out(), node.tailer.logs[0].is_urgent()), (0, false), "it is not gone");
}
