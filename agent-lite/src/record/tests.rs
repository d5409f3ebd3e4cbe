use super::*;
use crate::parse::message::{Parser, TimeContext};
use proptest::prelude::*;
use serde_json::{Map, Value};

const COMMON: &[u8] = br#","cluster":"infra","k8s_namespace_name":"default","stream":"stdout""#;

fn encode(content: &[u8]) -> Vec<String> {
    let line = Line {
        time_text: b"2025-10-26T10:15:30.5Z",
        time: time::parse(b"2025-10-26T10:15:30.5Z").unwrap(),
        content,
        common: COMMON,
        part: None,
        parsed: None,
    };
    let mut out = Vec::new();
    let records = Encoder::default().encode(&line, &mut out);
    let text = String::from_utf8(out).unwrap();
    assert!(text.ends_with('\n'));
    let lines: Vec<String> = text.lines().map(str::to_owned).collect();
    assert_eq!(lines.len(), records as usize);
    lines
}

fn one(content: &str) -> String {
    let mut lines = encode(content.as_bytes());
    assert_eq!(lines.len(), 1, "{content}");
    lines.remove(0)
}

/// The record without what every record has.
fn check(content: &str, expected: &str) {
    let record = one(content);
    let rest = record.strip_prefix(r#"{"_time":"2025-10-26T10:15:30.5Z","#).unwrap();
    let common = std::str::from_utf8(COMMON).unwrap();
    assert!(rest.contains(common), "{record}");
    assert_eq!(rest.replacen(common, "", 1), format!("{expected}}}"), "{content}");
}

#[test]
fn text_becomes_the_message() {
    check("hello", r#""_msg":"hello""#);
    check("", r#""_msg":"""#);
    check("a \"quoted\" \\ tab\t nul\0", r#""_msg":"a \"quoted\" \\ tab\t nul\u0000""#);
    check("not {json}", r#""_msg":"not {json}""#);
    check("[1,2]", r#""_msg":"[1,2]""#);
    check("{\"a\":1", r#""_msg":"{\"a\":1""#);
    check("{\"a\":1}}", r#""_msg":"{\"a\":1}}""#);
    check("{\"a\":1} {\"b\":2}", r#""_msg":"{\"a\":1} {\"b\":2}""#);
    check("{\"a\":01}", r#""_msg":"{\"a\":01}""#);
    check("{a:1}", r#""_msg":"{a:1}""#);
}

#[test]
fn members_of_a_json_message_are_spliced_in() {
    check(
        r#"{"message":"hi","level":"info","n":1.50,"o":{"a":[1,2]}}"#,
        r#""_msg":"hi","level":"info","n":1.50,"o":{"a":[1,2]}"#,
    );
    check(r#" { "msg" : "hi" , "a" : null } "#, r#""_msg":"hi","a":null"#);
    check(r#"{"log":"l","msg":"m","message":"M"}"#, r#""_msg":"M","log":"l","msg":"m""#);
    check(r#"{"message":7,"msg":"m"}"#, r#""_msg":"m","message":7"#);
    check(r#"{"a":1}"#, r#""_msg":"{\"a\":1}","a":1"#);
    check("{}", r#""_msg":"{}""#);
    check(r#"{"message":"a\nb\"c"}"#, r#""_msg":"a\nb\"c""#);
}

#[test]
fn a_json_message_of_several_lines_is_a_record_of_one() {
    check(
        "{\"msg\":\"x\",\r\n\"a\":{\n \"b\":1,\r\n \"c\":\"\\n\"},\"d\":[1,\n2],\n\"e\":\n3\n}",
        "\"_msg\":\"x\",\"a\":{  \"b\":1,   \"c\":\"\\n\"},\"d\":[1, 2],\"e\":3",
    );
    // In a string it is no JSON.
    check("{\"a\":{\"b\":\"c\nd\"}}", r#""_msg":"{\"a\":{\"b\":\"c\nd\"}}""#);
}

#[test]
fn names_that_are_ours_are_renamed() {
    check(r#"{"msg":"m","k8s_namespace_name":"bank"}"#, r#""_msg":"m","app_k8s_namespace_name":"bank""#);
    check(
        r#"{"msg":"m","k8s_labels.app":"x","cluster":{"a":1}}"#,
        r#""_msg":"m","app_k8s_labels.app":"x","app_cluster":{"a":1}"#,
    );
    check(r#"{"_msg":"m","_time":"never","stream":"x"}"#, r#""_msg":"m","app__time":"never","app_stream":"x""#);
    check(r#"{"_msg":1,"msg":"m"}"#, r#""_msg":"m","app__msg":1"#);
    // Unescaped it is ours.
    check(r#"{"msg":"m","\u005ftime":"never"}"#, r#""_msg":"m","app__time":"never""#);
    check(r#"{"msg":"m","":"empty"}"#, r#""_msg":"m","app_":"empty""#);
    check(r#"{"msg":"m","a\"b":1}"#, r#""_msg":"m","a\"b":1"#);
    check(r#"{"\u006dsg":"m"}"#, r#""_msg":"m""#);
}

#[test]
fn of_repeated_names_the_last_counts() {
    check(r#"{"msg":"m","a":1,"b":2,"a":3}"#, r#""_msg":"m","b":2,"a":3"#);
    check(r#"{"msg":"first","a":1,"msg":"last"}"#, r#""_msg":"last","a":1"#);
    check(r#"{"msg":"m","cluster":1,"app_cluster":2}"#, r#""_msg":"m","app_cluster":2"#);
    check(r#"{"msg":"m","app_cluster":2,"cluster":1}"#, r#""_msg":"m","app_cluster":1"#);
    check(r#"{"msg":"m","\u0061":1,"a":2}"#, r#""_msg":"m","a":2"#);
    let many = (0..60).map(|n| format!(r#""k{}":{n}"#, n % 30)).collect::<Vec<_>>().join(",");
    let kept = (30..60).map(|n| format!(r#","k{}":{n}"#, n % 30)).collect::<String>();
    check(&format!(r#"{{"msg":"m",{many}}}"#), &format!(r#""_msg":"m"{kept}"#));
}

#[test]
fn what_a_store_would_drop_stays_text() {
    let deep = format!("{}1{}", r#"{"a":"#.repeat(200), "}".repeat(200));
    assert!(!one(&deep).contains(r#""stream":"stdout","a""#));
    let wide = format!("{{{}}}", (0..1000).map(|n| format!(r#""k{n}":1"#)).collect::<Vec<_>>().join(","));
    assert!(!one(&wide).contains(r#""stream":"stdout","k0""#));
    // Brackets in text are no depth.
    let brackets = format!(r#"{{"msg":"{}"}}"#, "[{".repeat(400));
    assert!(one(&brackets).contains(r#""_msg":"[{[{"#));
}

#[test]
fn what_is_not_utf8_is_replaced() {
    assert!(encode(b"a\xffb")[0].contains("a\u{fffd}b"));
}

#[test]
fn an_offset_becomes_utc() {
    let text = b"2025-10-26T10:15:30.5+02:00";
    let line = Line {
        time_text: text,
        time: time::parse(text).unwrap(),
        content: b"x",
        common: COMMON,
        part: None,
        parsed: None,
    };
    let mut out = Vec::new();
    Encoder::default().encode(&line, &mut out);
    assert!(out.starts_with(br#"{"_time":"2025-10-26T08:15:30.500000000Z","#));
}

#[test]
fn a_line_over_the_limit_is_cut_into_numbered_parts() {
    for character in ["x", "\u{1}", "é", "\""] {
        let content = character.repeat(300 * 1024);
        let lines = encode(content.as_bytes());
        assert!(lines.len() > 1);
        let mut joined = String::new();
        for (at, line) in lines.iter().enumerate() {
            assert!(line.len() <= limits::LINE, "{}", line.len());
            let record: Map<String, Value> = serde_json::from_str(line).unwrap();
            assert_eq!(record["log_part"], at + 1);
            joined.push_str(record["_msg"].as_str().unwrap());
        }
        assert_eq!(joined, content);
    }
}

fn encode_beside(common: &[u8], content: &str) -> Vec<String> {
    let time_text = b"2025-10-26T10:15:30.5Z";
    let time = time::parse(time_text).unwrap();
    let line = Line { time_text, time, content: content.as_bytes(), common, part: None, parsed: None };
    let mut out = Vec::new();
    let records = Encoder::default().encode(&line, &mut out);
    let lines: Vec<String> = String::from_utf8(out).unwrap().lines().map(str::to_owned).collect();
    assert_eq!(lines.len(), records as usize);
    lines
}

#[test]
fn what_is_said_of_a_source_leaves_room_for_what_it_says() {
    let labels: Vec<(String, String)> = (0..80).map(|n| (format!("k8s_{n}"), "\",\\{[".repeat(500))).collect();
    let common = common(labels.iter().map(|(name, value)| (name.as_str(), value.as_str())));
    assert!(common.len() > limits::LINE);
    for content in ["", "short", "{\"msg\":\"short\"}", &"x".repeat(160 * 1024), &"é".repeat(80 * 1024)] {
        let lines = encode_beside(&common, content);
        assert!((1..10).contains(&lines.len()), "{}", lines.len());
        let mut joined = String::new();
        for line in &lines {
            assert!(line.len() <= limits::LINE, "{}", line.len());
            let record: Map<String, Value> = serde_json::from_str(line).unwrap();
            joined.push_str(record["_msg"].as_str().unwrap());
            assert_eq!((&record["k8s_0"], &record["sluice_cut"]), (&labels[0].1.as_str().into(), &"true".into()));
        }
        assert_eq!(joined, content);
    }
}

#[test]
fn what_is_left_of_what_is_said_of_a_source_is_whole_members() {
    let unit = r#","unit":"a,\"b\",""#;
    let labels = r#","k8s_labels":{"a":"}","b":[1,{"c":2}]}"#;
    let common = format!(r#"{unit}{labels},"stream":"stdout""#);
    for limit in 0..common.len() {
        let expected = [0, unit.len(), unit.len() + labels.len()].into_iter().filter(|end| *end <= limit).max();
        assert_eq!(Some(members_within(common.as_bytes(), limit)), expected, "{limit}");
    }
}

#[test]
fn a_value_that_is_said_of_a_source_is_bounded() {
    let mut out = Vec::new();
    append("identifier", &format!("x{}", "é".repeat(100_000)), &mut out);
    assert!(out == format!(",\"identifier\":\"x{}\"", "é".repeat(2047)).into_bytes());
}

#[test]
fn a_text_just_under_the_limit_is_one_record() {
    let lines = encode("x".repeat(180 * 1024).as_bytes());
    assert_eq!(lines.len(), 1);
    assert!(!lines[0].contains("log_part"));
}

/// The record of a content that a parser took apart, without what every record has.
fn parsed(parser: &Parser, content: &str, part: Option<u32>) -> Vec<String> {
    let time = time::parse(b"2025-10-26T10:15:30.5Z").unwrap();
    let mut parsed = Parsed::default();
    assert!(parser.parse(content, &TimeContext { now: time, zone: jiff::tz::TimeZone::UTC }, &mut parsed), "{content}");
    let time_text = b"2025-10-26T12:15:30.5+02:00";
    let line = Line { time_text, time, content: content.as_bytes(), common: COMMON, part, parsed: Some(&parsed) };
    let mut out = Vec::new();
    let records = Encoder::default().encode(&line, &mut out);
    let lines: Vec<String> = String::from_utf8(out).unwrap().lines().map(str::to_owned).collect();
    assert_eq!(lines.len(), records as usize);
    for line in &lines {
        let record: Map<String, Value> = serde_json::from_str(line).unwrap();
        let shown = record["_time"].as_str().unwrap();
        let expected = Line { part, ..self::line(content, &parsed) }.record_time();
        assert_eq!(time::parse(shown.as_bytes()), Some(expected), "{line}");
    }
    lines
}

fn line<'a>(content: &'a str, parsed: &'a Parsed) -> Line<'a> {
    let time_text = b"2025-10-26T10:15:30.5Z";
    let time = time::parse(time_text).unwrap();
    Line { time_text, time, content: content.as_bytes(), common: COMMON, part: None, parsed: Some(parsed) }
}

fn check_parsed(content: &str, time: &str, expected: &str) {
    let record = parsed(&Parser::Logfmt, content, None).remove(0);
    let common = std::str::from_utf8(COMMON).unwrap();
    assert_eq!(record.replacen(common, "", 1), format!(r#"{{"_time":"{time}",{expected}}}"#), "{content}");
}

/// The line's own time.
const OWN: &str = "2025-10-26T10:15:30.500000000Z";

#[test]
fn what_a_parser_found_takes_its_places() {
    check_parsed(
        r#"msg="a \"b\"\n\u00e9\x01" level=info path="C:\\x" n=07"#,
        OWN,
        r#""_msg":"a \"b\"\né\u0001","level":"info","path":"C:\\x","n":"07""#,
    );
    check_parsed("a=1 b=\"\"", OWN, r#""_msg":"a=1 b=\"\"","a":"1","b":"""#);
    check_parsed(r#"msg=m a\b=1"#, OWN, r#""_msg":"m","a\\b":"1""#);
    let access = r#"192.0.2.7 - - [26/Oct/2025:10:15:30 +0000] "GET /\x22 HTTP/1.1" 200 5316"#;
    let record: Map<String, Value> = serde_json::from_str(&parsed(&Parser::Access, access, None)[0]).unwrap();
    assert_eq!((&record["status"], &record["bytes"]), (&Value::from(200), &Value::from(5316)));
    assert_eq!((&record["path"], &record["_msg"]), (&Value::from("/\""), &Value::from(access)));
}

#[test]
fn a_parsed_name_that_is_ours_is_renamed_and_of_repeated_ones_the_last_counts() {
    check_parsed(
        "msg=m cluster=x k8s_pod_name=y _time=z",
        OWN,
        r#""_msg":"m","app_cluster":"x","app_k8s_pod_name":"y","app__time":"z""#,
    );
    check_parsed("a=1 b=2 a=3 msg=m", OWN, r#""_msg":"m","b":"2","a":"3""#);
    check_parsed("msg=m cluster=1 app_cluster=2", OWN, r#""_msg":"m","app_cluster":"2""#);
    check_parsed("msg=m app_cluster=2 cluster=1", OWN, r#""_msg":"m","app_cluster":"1""#);
    check_parsed("msg=m a=1 app_a=2", OWN, r#""_msg":"m","a":"1","app_a":"2""#);
}

#[test]
fn a_parsed_name_that_the_nodes_own_logs_begin_with_is_renamed() {
    let beside_unit = |parser: &Parser, content: &str| {
        let mut parsed = Parsed::default();
        let context = TimeContext { now: 0, zone: jiff::tz::TimeZone::UTC };
        assert!(parser.parse(content, &context, &mut parsed), "{content}");
        let mut out = Vec::new();
        Encoder::default().encode(&Line { common: b",\"unit\":\"u\"", ..line(content, &parsed) }, &mut out);
        String::from_utf8(out).unwrap().split_once("\"unit\":\"u\"").unwrap().1.to_owned()
    };
    assert_eq!(beside_unit(&Parser::Logfmt, "unit=ssh.service msg=hi"), ",\"app_unit\":\"ssh.service\"}\n");
    assert_eq!(beside_unit(&Parser::Logfmt, "msg=m unit=1 app_unit=2"), ",\"app_unit\":\"2\"}\n");
    assert_eq!(beside_unit(&Parser::Logfmt, "msg=m app_unit=2 unit=1"), ",\"app_unit\":\"1\"}\n");
    // What a format itself has keeps its name: nothing of a file is called so.
    assert_eq!(beside_unit(&Parser::Logfmt, "msg=m severity=err"), ",\"severity\":\"err\"}\n");
    // Of a container it is a name like any other.
    check_parsed("unit=ssh.service msg=hi", OWN, r#""_msg":"hi","unit":"ssh.service""#);
}

#[test]
fn a_parsed_time_near_the_lines_own_is_the_records() {
    for near in ["2025-10-26T10:15:29Z", "2025-10-26T11:15:30.5Z", "2025-09-26T10:15:30.5Z"] {
        let expected = format!("{}.{}00000000Z", &near[..19], if near.contains('.') { 5 } else { 0 });
        check_parsed(&format!("time={near} msg=m"), &expected, r#""_msg":"m""#);
    }
    for far in ["2025-10-26T11:15:30.500000001Z", "2025-09-26T10:15:30.499999999Z", "1970-01-01T00:00:00.000000000Z"] {
        check_parsed(&format!("time={far} msg=m a=1"), OWN, &format!(r#""_msg":"m","app_time":"{far}","a":"1""#));
    }
    // A field of that name is the application's, and comes later.
    check_parsed("time=1970-01-01T00:00:00Z msg=m app_time=x", OWN, r#""_msg":"m","app_time":"x""#);
}

#[test]
fn a_parsed_line_over_the_limit_falls_back_to_its_text_in_parts() {
    let content = format!("time=2025-10-26T10:15:29Z big=\"{}\"", "\\u0001".repeat(30_000));
    let lines = parsed(&Parser::Logfmt, &content, None);
    assert!(lines.len() > 1);
    let mut joined = String::new();
    for (at, line) in lines.iter().enumerate() {
        assert!(line.len() <= limits::LINE);
        // All of a line's records have one time, which a block's header counts on.
        assert!(line.starts_with(r#"{"_time":"2025-10-26T10:15:29.000000000Z","#));
        let record: Map<String, Value> = serde_json::from_str(line).unwrap();
        assert_eq!(record["log_part"], at + 1);
        assert_eq!(record.get("big"), None);
        joined.push_str(record["_msg"].as_str().unwrap());
    }
    assert_eq!(joined, content);
}

#[test]
fn a_part_of_a_line_is_not_what_was_parsed() {
    let record = parsed(&Parser::Logfmt, "time=2025-10-26T10:15:29Z a=1", Some(2)).remove(0);
    assert!(record.starts_with(&format!(r#"{{"_time":"{OWN}","_msg":"time="#)), "{record}");
    assert!(record.ends_with(r#","log_part":2}"#), "{record}");
}

fn json() -> impl Strategy<Value = String> {
    let name = prop::sample::select(vec![
        "a",
        "b",
        "msg",
        "message",
        "_msg",
        "_time",
        "cluster",
        "app_cluster",
        "k8s_x",
        "",
        "\\u0061",
        "q\\\"",
    ]);
    let value = prop::sample::select(vec![
        "1",
        "\"s\"",
        "null",
        "{\"x\":[1,{}]}",
        "{~\"x\":[1,~{~}]~}",
        "\"\\u00e9\\n\"",
        "-1.5e3",
        "true",
    ]);
    let space = prop::sample::select(vec!["", " ", "\n", "\r\n\t", "\r"]);
    (prop::collection::vec((name, value), 0..30), space).prop_map(|(members, space)| {
        let members: Vec<_> = members.iter().map(|(name, value)| format!("\"{name}\":~{value}")).collect();
        format!("{{{}}}", members.join("~,~")).replace('~', space)
    })
}

/// Names in the text, as a store counts them.
struct Names(Vec<String>);

impl<'de> serde::Deserialize<'de> for Names {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Collect;
        impl<'de> serde::de::Visitor<'de> for Collect {
            type Value = Names;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: serde::de::MapAccess<'de>>(self, mut map: A) -> Result<Names, A::Error> {
                let mut names = Vec::new();
                while let Some((name, _)) = map.next_entry::<String, serde::de::IgnoredAny>()? {
                    names.push(name);
                }
                Ok(Names(names))
            }
        }
        deserializer.deserialize_map(Collect)
    }
}

proptest! {
    #[test]
    fn any_content_gives_records_a_gateway_takes(content in prop::collection::vec(any::<u8>(), 0..600)) {
        for line in encode(&content) {
            let record: Map<String, Value> = serde_json::from_str(&line).unwrap();
            prop_assert_eq!(record["_msg"].as_str().unwrap(), String::from_utf8_lossy(&content));
        }
    }

    /// Whatever breaks its lines, and wherever.
    #[test]
    fn any_content_is_a_record_of_one_line(
        mut content in json(),
        breaks in prop::collection::vec((any::<prop::sample::Index>(), prop::sample::select(vec!['\n', '\r'])), 1..4),
    ) {
        breaks.iter().for_each(|(at, character)| content.insert(at.index(content.len()), *character));
        serde_json::from_str::<Map<String, Value>>(&one(&content)).unwrap();
    }

    /// The splice is compared with what a tree would make of it.
    #[test]
    fn a_merged_record_has_each_name_once_and_ours_as_we_set_them(content in json()) {
        let line = one(&content);
        let record: Map<String, Value> = serde_json::from_str(&line).unwrap();
        let source: Map<String, Value> = serde_json::from_str(&content).unwrap();
        prop_assert_eq!(&record["cluster"], "infra");
        prop_assert_eq!(&record["_time"], "2025-10-26T10:15:30.5Z");
        let mut names = serde_json::from_str::<Names>(&line).unwrap().0;
        let count = names.len();
        names.sort();
        names.dedup();
        prop_assert_eq!(names.len(), count, "{}", line);
        for (name, value) in &source {
            if !record::is_reserved(name) && !record::MESSAGE_KEYS.contains(&name.as_str()) && !name.starts_with("app_") {
                prop_assert_eq!(record.get(name), Some(value), "{} in {}", name, line);
            }
        }
    }

    /// Whatever a parser finds, and whatever the text was that it is told of.
    #[test]
    fn any_parsed_text_gives_records_a_gateway_takes(
        pairs in prop::collection::vec((prop::sample::select(vec!["a", "b", "cluster", "app_cluster", "k8s_x", "_msg", "msg", "time", "app_time", "\\", "é"]), any::<String>()), 1..12),
        other in any::<String>(),
    ) {
        let content: String = pairs.iter().map(|(name, value)| format!("{name}={} ", serde_json::to_string(value).unwrap())).collect();
        let context = TimeContext { now: 0, zone: jiff::tz::TimeZone::UTC };
        let mut parsed = Parsed::default();
        prop_assume!(Parser::Logfmt.parse(&content, &context, &mut parsed));
        for text in [&content, &other] {
            let mut out = Vec::new();
            Encoder::default().encode(&line(text, &parsed), &mut out);
            let record: Names = serde_json::from_slice(&out).unwrap();
            let mut names = record.0.clone();
            names.sort();
            names.dedup();
            prop_assert_eq!(names.len(), record.0.len(), "{:?}", record.0);
            let ours = ["_time", "_msg", "cluster", "k8s_namespace_name", "stream"];
            prop_assert!(names.iter().all(|name| !record::is_reserved(name) || ours.contains(&name.as_str())));
        }
        let mut out = Vec::new();
        Encoder::default().encode(&line(&content, &parsed), &mut out);
        let record: Map<String, Value> = serde_json::from_slice(&out).unwrap();
        for name in ["a", "b", "é"] {
            let last = pairs.iter().rev().find(|(field, _)| *field == name).map(|(_, value)| value.as_str());
            prop_assert_eq!(record.get(name).map(|value| value.as_str().unwrap()), last);
        }
    }
}
