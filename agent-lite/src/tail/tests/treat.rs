//! Messages joined, redacted, taken apart, left out; docker's files; what is known of pods.

use super::*;
use crate::enrich::{Allowed, PodInfo};
use crate::parse::multiline::Rule;

fn tools() -> Tools {
    let rule = |name: &str| Arc::new(Rule::named(name).unwrap());
    let parser = |name: &str| Arc::new(crate::parse::message::Parser::named(name).unwrap());
    Tools {
        parsers: HashMap::from([("klog".into(), parser("klog"))]),
        multiline: HashMap::from([("java".into(), rule("java"))]),
        default_multiline: Some(rule("auto")),
        ..Tools::default()
    }
}

fn node(workshop: Workshop) -> Node {
    let mut node = Node::new(StartFrom::Beginning, true);
    node.tailer = node.tailer.with_workshop(workshop);
    node
}

fn redacting(rules: &str) -> Workshop {
    let config = crate::config::for_tests(&format!("redact: {{rules: {rules}}}"));
    Workshop::new(config.redactor().unwrap(), Tools::default(), jiff::tz::TimeZone::UTC)
}

/// What the API says of the pod that the tests' files belong to.
fn info(annotations: &str) -> Arc<PodInfo> {
    let allowed =
        Allowed { parsers: vec!["klog".into()], multiline: vec!["java".into()], exclude: true, fluentbit: true };
    PodInfo::of_json(
        &format!(
            r#"{{"metadata":{{"name":"pod","namespace":"ns","uid":"uid","labels":{{"app":"shop"}},"annotations":{{{annotations}}}}},
                "spec":{{"nodeName":"n","containers":[{{"name":"app","image":"shop:1"}}]}},
                "status":{{"containerStatuses":[{{"name":"app","restartCount":0,"containerID":"containerd://abc"}}]}}}}"#
        ),
        &allowed,
    )
}

fn describe(node: &mut Node, annotations: &str) {
    node.look();
    let (tailer, info) = (&mut node.tailer, info(annotations));
    tailer.logs.iter_mut().for_each(|log| log.describe(&info, false, &tailer.workshop));
}

const TRACE: [&str; 4] = [
    "java.lang.IllegalStateException: no card",
    "\tat shop.Pay.charge(Pay.java:41)",
    "Caused by: java.net.SocketTimeoutException: read",
    "\t... 12 more",
];

fn lines(stream: &str, texts: &[&str]) -> String {
    texts.iter().map(|text| line(stream, "F", text)).collect()
}

#[test]
fn a_stack_trace_is_one_message_once_something_else_follows() {
    let mut node = node(Workshop::new(None, tools(), jiff::tz::TimeZone::UTC));
    node.append("0.log", lines("stdout", &["before"]) + &lines("stdout", &TRACE));
    assert_eq!(node.run(), ["stdout:before"]);
    node.append("0.log", lines("stdout", &["after"]));
    assert_eq!(node.run(), [format!("stdout:{}", TRACE.join("\n")), "stdout:after".to_owned()]);
    assert!(node.is_settled());
}

#[test]
fn a_stack_trace_goes_after_a_while_where_nothing_follows() {
    let mut node = node(Workshop::new(None, tools(), jiff::tz::TimeZone::UTC));
    node.append("0.log", lines("stdout", &TRACE));
    assert_eq!(node.run(), [""; 0]);
    node.wait(1);
    assert_eq!(node.run(), [format!("stdout:{}", TRACE.join("\n"))]);
}

#[test]
fn a_trace_whose_rest_was_read_late_is_whole() {
    let mut node = node(Workshop::new(None, tools(), jiff::tz::TimeZone::UTC));
    node.append("0.log", lines("stdout", &TRACE[..2]));
    assert_eq!(node.run(), [""; 0]);
    // Its turn comes late: the lane was held back, or the others had much.
    node.append("0.log", lines("stdout", &TRACE[2..]) + &lines("stdout", &["after"]));
    node.wait(60);
    assert_eq!(node.run(), [format!("stdout:{}", TRACE.join("\n")), "stdout:after".to_owned()]);
}

#[test]
fn traces_of_both_streams_and_lines_cut_by_the_runtime() {
    let mut node = node(Workshop::new(None, tools(), jiff::tz::TimeZone::UTC));
    let text = line("stdout", "F", TRACE[0])
        + &line("stderr", "F", TRACE[0])
        + &line("stdout", "P", "\tat shop.Pay")
        + &line("stderr", "F", TRACE[1])
        + &line("stdout", "F", ".charge(Pay.java:41)")
        + &lines("stdout", &["next"])
        + &lines("stderr", &["next"]);
    node.append("0.log", text);
    let trace = TRACE[..2].join("\n");
    assert_eq!(
        node.run(),
        [format!("stdout:{trace}"), "stdout:next".to_owned(), format!("stderr:{trace}"), "stderr:next".to_owned()]
    );
    assert!(node.is_settled());
}

#[test]
fn a_trace_over_a_rotation_and_a_restart_is_whole() {
    let mut node = node(Workshop::new(None, tools(), jiff::tz::TimeZone::UTC));
    node.append("0.log", lines("stdout", &["before"]) + &lines("stdout", &TRACE[..2]));
    assert_eq!(node.run(), ["stdout:before"]);
    node.rename("0.log", "0.log.20251026-101530");
    node.append("0.log", at(40, TRACE[2]) + &at(41, TRACE[3]) + &at(42, "after"));
    let mut node = node.restart();
    node.tailer = node.tailer.with_workshop(Workshop::new(None, tools(), jiff::tz::TimeZone::UTC));
    assert_eq!(node.run(), [format!("stdout:{}", TRACE.join("\n")), "stdout:after".to_owned()]);
    assert_eq!(node.restart().run(), [""; 0]);
}

#[test]
fn a_message_of_many_lines_is_bounded() {
    let mut node = node(Workshop::new(None, tools(), jiff::tz::TimeZone::UTC));
    node.append("0.log", lines("stdout", &TRACE[..1]));
    let frame = lines("stdout", &TRACE[1..2]).repeat(5000);
    node.append("0.log", frame + &lines("stdout", &["after"]));
    let messages = node.run();
    assert_eq!(messages.len(), 4, "2,000 lines each, and what comes after");
    let count: usize = messages.iter().map(|message| message.matches("\tat ").count()).sum();
    assert_eq!(count, 5000);
}

#[test]
fn secrets_do_not_leave_the_node_also_in_joined_lines() {
    let mut node = node(redacting("[email, private-key]"));
    node.append("0.log", lines("stdout", &["mail to bob@example.com"]) + &line("stderr", "P", "ali"));
    node.append("0.log", line("stderr", "F", "ce@example.com"));
    let messages = node.run();
    assert_eq!(messages, ["stdout:mail to [redacted:email]", "stderr:[redacted:email]"]);
    let counts: Vec<_> = node.tailer.redactions().map(|(rule, count)| (rule.to_owned(), count)).collect();
    assert_eq!(counts, [("email".to_owned(), 2), ("private-key".to_owned(), 0)]);
}

#[test]
fn a_line_that_a_rule_drops_is_booked() {
    let mut node = node(redacting("[{name: email, action: drop}]"));
    node.append("0.log", lines("stdout", &["a", "bob@example.com", "b", "eve@example.com"]));
    node.append("0.log", line("stdout", "P", "ali") + &line("stdout", "F", "ce@example.com"));
    assert_eq!(node.run(), ["stdout:a", "stdout:b"]);
    node.wait(10);
    assert!(node.is_settled());
    let page = node.check_books().remove(0);
    assert_eq!(page.written, page.acknowledged + page.abandoned[&Abandoned::Redacted]);
    assert_eq!(node.run(), [""; 0], "no gap: it was wanted");
}

#[test]
fn text_that_grows_by_redaction_still_fits_its_records() {
    let mut node = node(redacting("[email]"));
    let text = "a@b.co ".repeat(22_000);
    node.append("0.log", lines("stdout", &[&text]));
    let messages = node.run();
    let redacted: String = messages.iter().map(|part| part.strip_prefix("stdout:").unwrap()).collect();
    assert_eq!(redacted, "[redacted:email] ".repeat(22_000));
}

#[test]
fn what_is_known_of_a_pod_is_in_its_records() {
    let mut node = Node::new(StartFrom::Beginning, true);
    node.append("0.log", out("x"));
    describe(&mut node, "");
    node.read();
    node.lanes.cut_all();
    let lane = node.lanes.sendable().next().unwrap();
    let block = node.lanes.remove(lane, 0).unwrap();
    let record: serde_json::Value =
        serde_json::from_slice(Checker::default().check(&block.header, &block.payload, Depth::Json).unwrap()).unwrap();
    assert_eq!(record["k8s_labels"]["app"], "shop");
    assert_eq!((&record["k8s_container_id"], &record["k8s_container_image"]), (&"abc".into(), &"shop:1".into()));
}

#[test]
fn a_pod_chooses_its_parser() {
    let mut node = node(Workshop::new(None, tools(), jiff::tz::TimeZone::UTC));
    node.append("0.log", out(r#"I1026 10:15:30.000000   12345 file.go:42] "Started" port="80""#));
    describe(&mut node, r#""sluice.dev/parser":"klog""#);
    node.read();
    assert_eq!(node.deliver(), ["stdout:Started"]);
}

#[test]
fn a_pod_keeps_a_stream_out_and_its_bytes_are_booked() {
    let mut node = node(Workshop::new(None, tools(), jiff::tz::TimeZone::UTC));
    node.append("0.log", lines("stdout", &["a"]) + &lines("stderr", &["secret"]) + &lines("stdout", &["b"]));
    describe(&mut node, r#""fluentbit.io/exclude_stderr":"true""#);
    node.read();
    assert_eq!(node.deliver(), ["stdout:a", "stdout:b"]);
    node.wait(10);
    assert!(node.is_settled());
    assert_eq!(node.check_books()[0].abandoned[&Abandoned::Excluded], lines("stderr", &["secret"]).len() as u64);
}

#[test]
fn a_pod_that_keeps_all_out_is_not_even_read() {
    let mut node = node(Workshop::new(None, tools(), jiff::tz::TimeZone::UTC));
    node.append("0.log", lines("stdout", &["a", "b"]) + &lines("stderr", &["c"]));
    describe(&mut node, r#""sluice.dev/exclude":"true""#);
    node.read();
    assert_eq!(node.deliver(), [""; 0]);
    assert_eq!(node.tailer.take_counts().bytes, 0);
    node.wait(10);
    assert!(node.is_settled());
    let page = node.check_books().remove(0);
    assert_eq!(page.abandoned[&Abandoned::Excluded], page.written);
    // It is allowed in again: what came meanwhile stays out.
    node.append("0.log", at(50, "new"));
    describe(&mut node, "");
    node.read();
    assert_eq!(node.deliver(), ["stdout:new"]);
}

#[test]
fn an_annotation_that_comes_in_the_middle_loses_no_line_before_it() {
    let mut node = node(Workshop::new(None, tools(), jiff::tz::TimeZone::UTC));
    node.append("0.log", lines("stdout", &["before"]) + &lines("stdout", &TRACE[..2]));
    node.look();
    node.read();
    node.append("0.log", lines("stdout", &["kept out"]));
    describe(&mut node, r#""sluice.dev/exclude":"true""#);
    node.read();
    assert_eq!(node.deliver(), ["stdout:before".to_owned(), format!("stdout:{}", TRACE[..2].join("\n"))]);
    node.wait(10);
    assert!(node.is_settled());
}

fn docker(second: u32, stream: &str, log: &str) -> String {
    let log = serde_json::to_string(log).unwrap();
    format!("{{\"log\":{log},\"stream\":\"{stream}\",\"time\":\"2025-10-26T10:15:{second:02}.1Z\"}}\n")
}

#[test]
fn dockers_files_are_read_like_any_other() {
    let mut node = Node::new(StartFrom::Beginning, true);
    let text = docker(1, "stdout", "plain\n")
        + &docker(2, "stderr", "begun ")
        + &docker(3, "stdout", "{\"msg\":\"json\"}\r\n")
        + &docker(4, "stderr", "ended \"quoted\"\n");
    node.append("0.log", text);
    assert_eq!(node.run(), ["stdout:plain", "stdout:json", "stderr:begun ended \"quoted\""]);
    node.append("0.log", "\0\0\0\0".to_owned() + &docker(5, "stdout", "after a crash\n"));
    node.append("0.log", "{\"log\":\"torn".to_owned() + &docker(6, "stdout", "found\n"));
    assert_eq!(node.run(), ["stdout:after a crash", "stdout:found"]);
    assert!(node.is_settled());
    assert_eq!(node.restart().run(), [""; 0]);
}

#[test]
fn a_file_of_the_node_is_taken_apart_as_its_form_says() {
    let mut node = node(Workshop::new(
        None,
        Tools {
            parsers: HashMap::from([(
                "syslog".into(),
                Arc::new(crate::parse::message::Parser::named("syslog").unwrap()),
            )]),
            ..tools()
        },
        jiff::tz::TimeZone::UTC,
    ));
    let (path, unit) = (node.host_path(), Arc::from("messages"));
    fs::write(&path, "<30>Jan  1 00:00:00 node-a sshd[42]: Accepted publickey\n").unwrap();
    node.tailer.look_at_host_file(&path, &unit, (Category::Host, "syslog"), &mut node.lanes, &mut node.positions);
    node.read();
    assert_eq!(node.deliver(), ["host:Accepted publickey"]);
}

#[test]
fn a_stream_that_leaves_lines_out_is_not_settled_past_them() {
    let mut node = node(Workshop::new(None, tools(), jiff::tz::TimeZone::UTC));
    node.append("0.log", lines("stdout", &["a"]) + &lines("stderr", &["secret"]) + &lines("stdout", &["b"]));
    describe(&mut node, r#""fluentbit.io/exclude_stderr":"true""#);
    node.read();
    assert_eq!(node.deliver(), ["stdout:a", "stdout:b"]);
    node.settle();
    // Killed before what was left out is decided: the next agent decides it.
    let mut node = node.restart();
    describe(&mut node, r#""fluentbit.io/exclude_stderr":"true""#);
    node.read();
    assert_eq!(node.deliver(), [""; 0]);
    node.wait(10);
    assert!(node.is_settled());
    let page = node.check_books().remove(0);
    assert_eq!(page.abandoned[&Abandoned::Excluded], lines("stderr", &["secret"]).len() as u64);
}
