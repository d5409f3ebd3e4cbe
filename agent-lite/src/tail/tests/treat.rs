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
    let allowed = Allowed {
        parsers: vec!["klog".into()],
        multiline: vec!["java".into()],
        exclude: true,
        sample: true,
        fluentbit: true,
    };
    PodInfo::of_json(
        &format!(
            r#"{{"metadata":{{"name":"pod","namespace":"ns","uid":"uid","labels":{{"app":"shop"}},"annotations":{{{annotations}}}}},
                "spec":{{"nodeName":"n","containers":[{{"name":"app","image":"shop:1"}}]}},
                "status":{{"containerStatuses":[{{"name":"app","restartCount":0,"containerID":"containerd://abc"}}]}}}}"#
        ),
        &allowed,
    )
}

pub(super) fn describe(node: &mut Node, annotations: &str) {
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
    let counts: Vec<_> = node.tailer.redactions().collect();
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

pub(super) fn docker(second: u32, stream: &str, log: &str) -> String {
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

#[test]
fn a_pod_that_wants_a_sample_gets_one_message_in_so_many() {
    let mut node = node(Workshop::new(None, tools(), jiff::tz::TimeZone::UTC));
    let numbers = |lines: std::ops::Range<u32>| lines.map(|n| out(&n.to_string())).collect::<String>();
    node.append("0.log", numbers(10..31) + &lines("stderr", &["all", "of", "these"]));
    describe(&mut node, r#""sluice.dev/sample.stdout":"10""#);
    node.read();
    let sent = ["stdout:10", "stdout:20", "stdout:30", "stderr:all", "stderr:of", "stderr:these"];
    assert_eq!(node.deliver(), sent);
    node.append("0.log", numbers(31..40));
    assert_eq!(node.run(), [""; 0]);
    assert_eq!(node.tailer.take_counts().dropped, 27);
    node.wait(10);
    let left_out = 27 * out("10").len() as u64;
    assert_eq!(node.deliver(), [format!("gap:sampled:{left_out}")]);
    assert!(node.is_settled());
    assert_eq!(node.check_books()[0].abandoned[&Abandoned::Sampled], left_out);
    // A later wish counts from then on.
    describe(&mut node, "");
    node.append("0.log", numbers(50..52));
    assert_eq!(node.run(), ["stdout:50", "stdout:51"]);
}

#[test]
fn a_sampled_message_goes_whole_or_not_at_all() {
    let mut node = node(Workshop::new(None, tools(), jiff::tz::TimeZone::UTC));
    let trace = |n: u32| lines("stdout", &[&format!("java.lang.Error: {n}"), TRACE[1]]);
    let cut = |n: u32| line("stdout", "P", &format!("begun {n} ")) + &line("stdout", "F", "ended");
    let long = |n: u32| {
        let text = format!("{n}").repeat(90_000);
        line("stdout", "P", &text).repeat(2) + &line("stdout", "F", &text)
    };
    node.append("0.log", (1..4).map(trace).chain((1..4).map(cut)).chain((1..4).map(long)).collect::<String>());
    node.append("0.log", out("last"));
    describe(&mut node, r#""sluice.dev/sample":"2""#);
    node.read();
    let mut sent = node.deliver();
    let parts: Vec<String> = sent.split_off(3);
    let trace = |n: u32| format!("stdout:java.lang.Error: {n}\n{}", TRACE[1]);
    assert_eq!(sent, [trace(1), trace(3), "stdout:begun 2 ended".to_owned()]);
    let text: String = parts.iter().map(|part| part.strip_prefix("stdout:").unwrap()).collect();
    assert_eq!((parts.len() > 1, text), (true, "1".repeat(270_000) + &"3".repeat(270_000)));
    node.wait(10);
    node.deliver();
    assert!(node.is_settled());
    let page = node.check_books().remove(0);
    assert_eq!(page.written, page.acknowledged + page.abandoned[&Abandoned::Sampled]);
}

fn audit_event(user: &str, more: &str) -> String {
    format!(
        "{{\"stageTimestamp\":\"2025-10-26T10:15:30.5Z\",\"verb\":\"get\",\"requestURI\":\"/api/v1/pods\",\
         \"user\":{{\"username\":\"{user}\"}}{more}}}\n"
    )
}

fn audit_records(node: &mut Node, text: &str) -> Vec<serde_json::Value> {
    let (path, unit) = (node.host_path(), Arc::from("audit"));
    let mut file = OpenOptions::new().create(true).append(true).open(&path).unwrap();
    file.write_all(text.as_bytes()).unwrap();
    node.tailer.look_at_host_file(&path, &unit, (Category::Audit, "plain"), &mut node.lanes, &mut node.positions);
    node.read();
    node.lanes.cut_all();
    let mut records = Vec::new();
    for lane in node.lanes.sendable().collect::<Vec<_>>() {
        while let Some(block) = node.lanes.remove(lane, 0) {
            let mut checker = Checker::default();
            let raw = checker.check(&block.header, &block.payload, Depth::Json).unwrap();
            let lines = raw.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
            records.extend(lines.map(|line| serde_json::from_slice::<serde_json::Value>(line).unwrap()));
            node.positions.acknowledge(block.shares());
        }
    }
    records
}

#[test]
fn an_event_of_the_audit_log_stays_one_without_its_secrets() {
    let mut node = node(redacting("[email, {name: card, regex: '4111\\d*'}]"));
    let more =
        r#","requestObject":{"spec":{"mail":"to \u0022a@b.co\u0022","n":41112222,"inner":"{\"k\":\"a@b.co\"}"}}"#;
    let records = audit_records(&mut node, &(audit_event("jane@b.co", more) + &audit_event("bob", "")));
    assert_eq!(records[0]["_msg"], "get /api/v1/pods by [redacted:email]");
    assert_eq!(records[0]["_time"], "2025-10-26T10:15:30.5Z");
    let event = &records[0]["audit_event"];
    assert_eq!(event["user"]["username"], "[redacted:email]");
    let spec = &event["requestObject"]["spec"];
    assert_eq!((&spec["mail"], &spec["n"]), (&"to \"[redacted:email]\"".into(), &"[redacted:card]".into()));
    assert_eq!(spec["inner"], r#"{"k":"[redacted:email]"}"#);
    assert_eq!((&records[1]["_msg"], records[1]["audit_event"].is_object()), (&"get /api/v1/pods by bob".into(), true));
}

#[test]
fn an_event_that_a_rule_drops_is_booked() {
    let mut node = node(redacting("[{name: user, regex: '^jane$', action: drop}]"));
    let dropped = audit_event("jane", "");
    let records = audit_records(&mut node, &(dropped.clone() + &audit_event("bob", "") + &dropped));
    assert_eq!(records.len(), 1);
    node.wait(10);
    assert!(node.is_settled());
    assert_eq!(node.check_books()[0].abandoned[&Abandoned::Redacted], 2 * dropped.len() as u64);
    assert_eq!(node.tailer.take_counts().no_events, 0);
}
