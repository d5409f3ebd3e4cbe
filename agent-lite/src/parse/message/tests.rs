use super::*;
use proptest::prelude::*;
use sluice_wire::time;

/// A Friday in January, in UTC.
fn context() -> TimeContext {
    TimeContext { now: time::parse(b"2026-01-02T03:04:05Z").unwrap(), zone: TimeZone::UTC }
}

/// Time, message and fields as one line: `TIME | MESSAGE | name=value, name=#number`.
fn shown(parser: &Parser, text: &str) -> Option<String> {
    let mut parsed = Parsed::default();
    if !parser.parse(text, &context(), &mut parsed) {
        assert_eq!((parsed.time(), parsed.message(text), parsed.fields(text).count()), (None, None, 0), "{text}");
        return None;
    }
    let mut time = Vec::new();
    if let Some(nanos) = parsed.time() {
        time::write(nanos, &mut time);
    }
    let time = String::from_utf8(time).unwrap();
    let fields: Vec<String> = parsed
        .fields(text)
        .map(|(name, value)| match value {
            Value::Text(value) => format!("{name}={value}"),
            Value::Number(value) => format!("{name}=#{value}"),
        })
        .collect();
    let message = parsed.message(text).unwrap_or("(whole)");
    Some(format!("{} | {message} | {}", time.trim_end_matches("000Z"), fields.join(", ")))
}

fn check(parser: &str, text: &str, expected: &str) {
    assert_eq!(shown(&Parser::named(parser).unwrap(), text).as_deref(), Some(expected), "{text}");
}

fn check_none(parser: &str, texts: &[&str]) {
    for text in texts {
        assert_eq!(shown(&Parser::named(parser).unwrap(), text), None, "{text}");
    }
}

#[test]
fn parsers_have_the_names_that_are_listed() {
    for name in Parser::NAMES {
        assert!(Parser::named(name).is_some(), "{name}");
    }
    assert!(["", "regex", "JSON", "nginx "].iter().all(|name| Parser::named(name).is_none()));
    // Objects are merged by the record.
    check_none("json", &[r#"{"msg":"x"}"#, "x"]);
}

#[test]
fn logfmt_is_pairs_from_beginning_to_end() {
    let check = |text: &str, expected: &str| check("logfmt", text, expected);
    check("level=info msg=\"server is up\" port=8080", " | server is up | level=info, port=8080");
    check(
        "time=2025-12-24T18:30:00.25+01:00 level=WARN msg=slow path=/a?b=c took=1.5s",
        "2025-12-24T17:30:00.250000 | slow | level=WARN, path=/a?b=c, took=1.5s",
    );
    check(
        "ts=2025-12-24T18:30:00Z caller=main.go:7 err=\"a \\\"b\\\"\\n\\tc\"",
        "2025-12-24T18:30:00.000000 | (whole) | caller=main.go:7, err=a \"b\"\n\tc",
    );
    // Not RFC 3339: stays a field.
    check("time=18:30 ts=2025-12-24T18:30:00Z a=b", "2025-12-24T18:30:00.000000 | (whole) | time=18:30, a=b");
    check("ts=1761473730 msg=m", " | m | ts=1761473730");
    check("a= b=\"\" c=x", " | (whole) | a=, b=, c=x");
    check("  a=1\tb=2  ", " | (whole) | a=1, b=2");
    check("msg=first a=1 msg=last", " | last | a=1");
    check("message=one msg=two", " | one | msg=two");
    check("größe=groß é=\"\\u00e9\\xff\"", " | (whole) | größe=groß, é=é\u{fffd}");
    check_none(
        "logfmt",
        &[
            "",
            "   ",
            "hello world",
            "a=1 and then prose",
            "level=info bare",
            "=1",
            "a=\"open",
            "a=\"x\"y",
            "a=x\"y\"",
            "\"a\"=1",
            r#"{"a":"b=c"}"#,
            "a=1\nb=2",
        ],
    );
}

#[test]
fn klog_as_kubernetes_components_write_it() {
    let check = |text: &str, expected: &str| check("klog", text, expected);
    check(
        "I1026 10:15:30.123456   12345 server.go:42] Listening on port 8080, \"all\" addresses",
        "2025-10-26T10:15:30.123456 | Listening on port 8080, \"all\" addresses | severity=info, thread=12345, source=server.go:42",
    );
    check(
        "E0102 03:00:00.000001       1 pod_workers.go:1301] \"Error syncing pod, skipping\" err=\"failed to \\\"StartContainer\\\"\" pod=\"shop/cart-0\" attempt=3",
        "2026-01-02T03:00:00.000001 | Error syncing pod, skipping | severity=error, thread=1, source=pod_workers.go:1301, err=failed to \"StartContainer\", pod=shop/cart-0, attempt=3",
    );
    check(
        "W1231 23:59:59.999999       7 a.go:1] message \"k\"=\"v w\" \"n\"=1 \"o\"={\"a\":\"b c\",\"d\":[1, 2]}",
        "2025-12-31T23:59:59.999999 | message | severity=warning, thread=7, source=a.go:1, k=v w, n=1, o={\"a\":\"b c\",\"d\":[1, 2]}",
    );
    check(
        "I1231 23:59:59.999999       7 a.go:1] setup/controller \"level\"=0 \"msg\"=\"starting\" \"k\"=\"v\"",
        "2025-12-31T23:59:59.999999 | starting | severity=info, thread=7, source=a.go:1, level=0, k=v, logger=setup/controller",
    );
    check(
        "I1231 23:59:59.999999 7 a.go:1] \"msg\"=\"starting\" \"k\"=\"v\"",
        "2025-12-31T23:59:59.999999 | starting | severity=info, thread=7, source=a.go:1, k=v",
    );
    check(
        "F1231 23:59:59.999999       7 a.go:1] \"quoted\" but then prose a=b",
        "2025-12-31T23:59:59.999999 | \"quoted\" but then prose a=b | severity=fatal, thread=7, source=a.go:1",
    );
    check("I1231 23:59:59.999999 7 a.go:1] ", "2025-12-31T23:59:59.999999 |  | severity=info, thread=7, source=a.go:1");
    check(
        "I1231 23:59:59.999999 7 a.go:1] he said \"x\" and \"y\"=1 more",
        "2025-12-31T23:59:59.999999 | he said \"x\" and \"y\"=1 more | severity=info, thread=7, source=a.go:1",
    );
    check_none(
        "klog",
        &[
            "",
            "I",
            "Information about it",
            "D1026 10:15:30.123456 1 a.go:1] x",
            "I1326 10:15:30.123456 1 a.go:1] x",
            "I0230 10:15:30.123456 1 a.go:1] x",
            "I1026 24:15:30.123456 1 a.go:1] x",
            "I1026 10:15:30.123456 x a.go:1] x",
            "I1026 10:15:30.123456 1 no source here] x",
            "I1026 10:15:30.123456 1 a.go:1 x",
        ],
    );
}

#[test]
fn access_logs_of_nginx_and_apache() {
    let check = |text: &str, expected: &str| ["nginx", "apache"].map(|name| check(name, text, expected));
    check(
        r#"192.0.2.7 - - [26/Oct/2025:12:15:30 +0200] "GET /cart?id=7 HTTP/1.1" 200 5316 "https://shop.example/" "Mozilla/5.0 (X11; \"Linux\")""#,
        r#"2025-10-26T10:15:30.000000 | (whole) | remote_addr=192.0.2.7, method=GET, path=/cart?id=7, protocol=HTTP/1.1, status=#200, bytes=#5316, referer=https://shop.example/, user_agent=Mozilla/5.0 (X11; "Linux")"#,
    );
    check(
        r#"2001:db8::1 - anna [26/Oct/2025:10:15:30 +0000] "POST /pay HTTP/2.0" 503 0 "-" "curl/8.9.1" "203.0.113.9""#,
        "2025-10-26T10:15:30.000000 | (whole) | remote_addr=2001:db8::1, user=anna, method=POST, path=/pay, protocol=HTTP/2.0, status=#503, bytes=#0, user_agent=curl/8.9.1, http_x_forwarded_for=203.0.113.9",
    );
    check(
        r#"host.example 501 jo doe [26/Oct/2025:10:15:30 -0500] "HEAD / HTTP/1.0" 304 -"#,
        "2025-10-26T15:15:30.000000 | (whole) | remote_addr=host.example, ident=501, user=jo doe, method=HEAD, path=/, protocol=HTTP/1.0, status=#304",
    );
    // Somebody speaks TLS to a port without it; nginx writes bytes of UTF-8 as \xHH.
    check(
        r#"192.0.2.7 - - [26/Oct/2025:10:15:30 +0000] "\x16\x03\x01\xff" 400 157 "-" "\xD0\xBC""#,
        "2025-10-26T10:15:30.000000 | (whole) | remote_addr=192.0.2.7, request=\u{16}\u{3}\u{1}\u{fffd}, status=#400, bytes=#157, user_agent=м",
    );
    check(
        r#"192.0.2.7 - - [26/Oct/2025:10:15:30 +0000] "" 408 007 "-" "-" 12 0.003 [default-cart-80] [] 10.0.0.1:80"#,
        "2025-10-26T10:15:30.000000 | (whole) | remote_addr=192.0.2.7, status=#408, bytes=007",
    );
    check(
        r#"192.0.2.7 - - [26/Oct/2025:10:15:30 +0000] "GET /a b/\x22c HTTP/1.1" 200 1"#,
        "2025-10-26T10:15:30.000000 | (whole) | remote_addr=192.0.2.7, method=GET, path=/a b/\"c, protocol=HTTP/1.1, status=#200, bytes=#1",
    );
    check_none(
        "nginx",
        &[
            "",
            "2025/10/26 10:15:30 [error] 7#7: *1 open() failed",
            r#"192.0.2.7 - - [31/Sep/2025:10:15:30 +0000] "GET / HTTP/1.1" 200 1"#,
            r#"192.0.2.7 - - [26/Oct/2025:10:15:30] "GET / HTTP/1.1" 200 1"#,
            r#"192.0.2.7 - - [26/Oct/2025:10:15:30 +0000] "GET / HTTP/1.1 200 1"#,
            r#"192.0.2.7 - - [26/Oct/2025:10:15:30 +0000] "GET / HTTP/1.1" 2000 1"#,
            r#"192.0.2.7 - - [26/Oct/2025:10:15:30 +0000] "GET / HTTP/1.1" 200 1x"#,
            r#"192.0.2.7 - - [26/Oct/2025:10:15:30 +0000] "GET / HTTP/1.1" 200"#,
        ],
    );
}

#[test]
fn syslog_as_it_is_sent() {
    let check = |text: &str, expected: &str| check("syslog", text, expected);
    check(
        "<34>Oct 11 22:14:15 mymachine su: 'su root' failed on /dev/pts/8",
        "2025-10-11T22:14:15.000000 | 'su root' failed on /dev/pts/8 | facility=auth, severity=crit, hostname=mymachine, appname=su",
    );
    check(
        "<13>Jan  2 03:04:05 backup[812]: done: 7 files",
        "2026-01-02T03:04:05.000000 | done: 7 files | facility=user, severity=notice, appname=backup, procid=812",
    );
    check(
        "<0>1990 Oct 22 10:52:01 TZ-6 scapegoat.example.org sched[0]: That is all",
        "1990-10-22T16:52:01.000000 | That is all | facility=kern, severity=emerg, hostname=scapegoat.example.org, appname=sched, procid=0",
    );
    check(
        "<189>Oct 26 2025 10:15:30.250 CET: %SYS-5-CONFIG_I: Configured from console",
        "2025-10-26T09:15:30.250000 | Configured from console | facility=local7, severity=notice, appname=%SYS-5-CONFIG_I",
    );
    check(
        "<191>2025-10-26T10:15:30.123456+02:00 web-1 nginx: x",
        "2025-10-26T08:15:30.123456 | x | facility=local7, severity=debug, hostname=web-1, appname=nginx",
    );
}

#[test]
fn syslog_as_it_stands_in_files() {
    let check = |text: &str, expected: &str| check("syslog", text, expected);
    check(
        "Dec 31 23:59:59 node-7 systemd[1]: Started Session 4 of User core.",
        "2025-12-31T23:59:59.000000 | Started Session 4 of User core. | hostname=node-7, appname=systemd, procid=1",
    );
    check(
        "2026-01-01T08:00:00.000001+08:00 node-7 kernel: [    0.000000] Linux version 6.12",
        "2026-01-01T00:00:00.000001 | [    0.000000] Linux version 6.12 | hostname=node-7, appname=kernel",
    );
    check(
        "Jan  1 00:00:00 node-7 CRON[77]: (root) CMD (run-parts /etc/cron.hourly)",
        "2026-01-01T00:00:00.000000 | (root) CMD (run-parts /etc/cron.hourly) | hostname=node-7, appname=CRON, procid=77",
    );
    check(
        "Jan  1 00:00:00 node-7 last message repeated 2 times",
        "2026-01-01T00:00:00.000000 | last message repeated 2 times | hostname=node-7",
    );
    check("Jan  1 00:00:00 node-7 -- MARK --", "2026-01-01T00:00:00.000000 | -- MARK -- | hostname=node-7");
    check("Jan 01 00:00:00 node-7 http://x is down", "2026-01-01T00:00:00.000000 | http://x is down | hostname=node-7");
    check(
        "Jan  1 00:00:00 +0130 h app[7] no colon",
        "2025-12-31T22:30:00.000000 | no colon | hostname=h, appname=app, procid=7",
    );
    check("Jan  1 00:00:00 alone", "2026-01-01T00:00:00.000000 | alone | ");
    check("Jan  1 00:00:00", "2026-01-01T00:00:00.000000 |  | ");
    // A host whose name begins like a zone.
    check("Jan  1 00:00:00 UTCLOCK app: x", "2026-01-01T00:00:00.000000 | x | hostname=UTCLOCK, appname=app");
    check("Jan  1 00:00:00 Z app: x", "2026-01-01T00:00:00.000000 | x | appname=app");
    check_none(
        "syslog",
        &[
            "",
            "hello",
            "<34>hello",
            "<34>",
            "<192>Oct 11 22:14:15 h a: x",
            "<034>Oct 11 22:14:15 h a: x",
            "<>Oct 11 22:14:15 h a: x",
            "<99999999999999999999999>Oct 11 22:14:15 h a: x",
            "Okt 11 22:14:15 h a: x",
            "Oct 32 22:14:15 h a: x",
            "Feb 30 22:14:15 h a: x",
            "Oct 11 22:14 h a: x",
            "Oct 11 22:14:15h a: x",
            "2025-02-29T10:15:30Z h a: x",
            "Month of October",
        ],
    );
}

#[test]
fn syslog_with_structured_data() {
    let check = |text: &str, expected: &str| check("syslog", text, expected);
    check(
        r#"<165>1 2025-10-11T22:14:15.003Z web.example evnt - ID47 [shop@32473 a="3" b="x \"y\" \\ \] \n"][other n="é"] An event"#,
        r#"2025-10-11T22:14:15.003000 | An event | facility=local4, severity=notice, hostname=web.example, appname=evnt, msgid=ID47, shop@32473.a=3, shop@32473.b=x "y" \ ] \n, other.n=é"#,
    );
    check(
        "<34>1 2025-10-11T22:14:15+02:00 h su 99 - - \u{feff}'su root' failed",
        "2025-10-11T20:14:15.000000 | 'su root' failed | facility=auth, severity=crit, hostname=h, appname=su, procid=99",
    );
    check("<0>1 - - - - - -", " |  | facility=kern, severity=emerg");
    check("<0>1 - - - - - [a]", " |  | facility=kern, severity=emerg");
    check("<0>1 - - - - - [a b=\"\" ] m", " | m | facility=kern, severity=emerg, a.b=");
    check_none(
        "syslog",
        &[
            "<34>1 ",
            "<34>1 2025-10-11T22:14:15Z h su 99 -",
            "<34>1 2025-13-11T22:14:15Z h su 99 - - x",
            "<34>1 - - - - - x",
            "<34>1 - - - - - [] x",
            "<34>1 - - - - - [a b] x",
            "<34>1 - - - - - [a b=c] x",
            "<34>1 - - - - - [a b=\"c] x",
            "<34>1 - - - - - [a b=\"c\"]x",
            "<34>1 -  - - - - x",
        ],
    );
}

#[test]
fn an_operators_pattern_gives_its_groups() {
    let parser = Parser::regex(
        r"^(?<time>\S+ \S+) +(?P<level>[A-Z]+) \[(?<thread_name>[^\]]*)\](?: (?<id>\d+):)? (?<message>.*)$",
        Some("%Y-%m-%d %H:%M:%S,%f"),
    )
    .unwrap();
    assert_eq!(
        shown(&parser, "2025-10-26 10:15:30,250 WARN [main-1] 77: pool is empty").unwrap(),
        "2025-10-26T10:15:30.250000 | pool is empty | level=WARN, thread_name=main-1, id=77"
    );
    assert_eq!(
        shown(&parser, "2025-10-26 10:15:30,250 INFO [] up").unwrap(),
        "2025-10-26T10:15:30.250000 | up | level=INFO, thread_name="
    );
    for text in ["2025-02-30 10:15:30,250 INFO [] up", "at com.example.Main(Main.java:7)", ""] {
        assert_eq!(shown(&parser, text), None, "{text}");
    }
    let time = |pattern: &str, format: Option<&str>, text: &str| {
        shown(&Parser::regex(pattern, format).unwrap(), text).map(|shown| shown.split(" |").next().unwrap().to_owned())
    };
    let bracketed = r"\[(?<time>[^\]]+)\]";
    let expect = |time: Option<String>, expected: &str| assert_eq!(time.as_deref(), Some(expected));
    expect(time(bracketed, None, "[2025-10-26T10:15:30.5+02:00] x"), "2025-10-26T08:15:30.500000");
    expect(time(bracketed, None, "[2025-10-26 10:15:30] x"), "2025-10-26T10:15:30.000000");
    expect(time(bracketed, Some("%s"), "[1761473730] x"), "2025-10-26T10:15:30.000000");
    expect(time(bracketed, Some("%b %e %H:%M:%S%.f"), "[Dec 31 23:00:00.5] x"), "2025-12-31T23:00:00.500000");
    expect(time(bracketed, Some("%d/%m %I:%M:%S %p %z"), "[31/12 11:00:00 PM +0200] x"), "2025-12-31T21:00:00.000000");
    assert_eq!(time(bracketed, Some("%b %e %H:%M:%S"), "[Feb 30 23:00:00] x"), None);
    assert_eq!(time(bracketed, Some("%s"), "[99999999999999] x"), None);
    assert_eq!(time(bracketed, None, "[now] x"), None);
}

#[test]
fn a_pattern_that_cannot_be_one_is_refused_with_the_reason() {
    let refused = |pattern: &str, format: Option<&str>, reason: &str| {
        let error = Parser::regex(pattern, format).unwrap_err().to_string();
        assert!(error.contains(reason), "{error}");
    };
    refused("(?<a>", None, "cannot be compiled");
    refused(r"(?<a>x)(?=y)", None, "look-around");
    refused(r"(?<a>\w{1000}){1000}", None, "cannot be compiled");
    refused("x(y)", None, "no named group");
    refused(&"x".repeat(5000), None, "5000 bytes");
    refused(&(0..101).map(|n| format!("(?<a{n}>)")).collect::<String>(), None, "101 named groups");
    refused(&format!("(x)(?<{}>y)", "a".repeat(129)), None, "group 2");
    refused("(?<a>x)", Some("%s"), "no group time");
    refused("(?<time>x)", Some("%!"), "\"%!\" is none");
    refused("(?<time>x)", Some("%H:%M"), "says no moment");
    refused("(?<time>x)", Some(""), "says no moment");
}

#[test]
fn a_pattern_takes_linear_time() {
    let parser = Parser::regex("(?<a>(a+)+)$", None).unwrap();
    let text = format!("{}!", "a".repeat(100_000));
    let started = std::time::Instant::now();
    assert_eq!(shown(&parser, &text[..10_000]).map(|shown| shown.len()), Some(10_000 + " | (whole) | a=".len()));
    assert_eq!(shown(&parser, &text), None);
    assert!(started.elapsed() < std::time::Duration::from_secs(10));
}

#[test]
fn past_the_bounds_a_text_stays_as_it_is() {
    let pairs = |count: usize| (0..count).map(|n| format!("k{n}=v ")).collect::<String>();
    let logfmt = Parser::named("logfmt").unwrap();
    assert!(shown(&logfmt, &pairs(MAX_FIELDS)).is_some());
    assert_eq!(shown(&logfmt, &pairs(MAX_FIELDS + 1)), None);
    assert!(shown(&logfmt, &format!("{}=v", "n".repeat(MAX_NAME))).is_some());
    assert_eq!(shown(&logfmt, &format!("{}=v", "n".repeat(MAX_NAME + 1))), None);
    let sent = |name: usize| format!("<0>1 - - - - - [id {}=\"v\"]", "n".repeat(name));
    let syslog = Parser::named("syslog").unwrap();
    assert!(shown(&syslog, &sent(MAX_NAME - 3)).is_some());
    assert_eq!(shown(&syslog, &sent(MAX_NAME - 2)), None);
    // klog keeps its header's.
    let klog = format!("I1026 10:15:30.123456 1 a.go:1] \"m\" {}", pairs(MAX_FIELDS));
    assert!(shown(&Parser::named("klog").unwrap(), &klog).unwrap().ends_with("source=a.go:1"));
}

#[test]
fn what_is_no_utf8_is_read_as_the_record_shows_it() {
    let mut parsed = Parsed::default();
    let content = b"a=x\xffy b=\"\xc3\\n\"";
    assert!(Parser::Logfmt.parse_bytes(content, &context(), &mut parsed));
    let text = String::from_utf8_lossy(content);
    let fields: Vec<_> = parsed.fields(&text).collect();
    assert_eq!(fields, [("a", Value::Text("x\u{fffd}y")), ("b", Value::Text("\u{fffd}\n"))]);
    // With another text there is no panic.
    for other in ["", "é", "a=x", "ééééééééé"] {
        let _ = (parsed.message(other), parsed.fields(other).count());
    }
}

#[test]
fn space_is_used_again() {
    let mut parsed = Parsed::default();
    assert!(Parser::Logfmt.parse("a=\"long\\nvalue\" b=2 msg=m", &context(), &mut parsed));
    assert!(Parser::Logfmt.parse("c=\"x\\ty\"", &context(), &mut parsed));
    assert_eq!(parsed.message("c=\"x\\ty\""), None);
    assert_eq!(parsed.fields("c=\"x\\ty\"").collect::<Vec<_>>(), [("c", Value::Text("x\ty"))]);
    assert!(!Parser::Logfmt.parse("d=1 not", &context(), &mut parsed));
    assert_eq!(parsed.fields("d=1 not").count(), 0);
}

fn all() -> Vec<Parser> {
    let mut parsers: Vec<_> = Parser::NAMES.iter().filter_map(|name| Parser::named(name)).collect();
    parsers.push(Parser::regex(r"(?<time>\S+)? ?(?<a>\w*)=(?<message>.*)", None).unwrap());
    parsers.push(Parser::regex(r"(?<time>\w+ +\d+ \S+) (?<a>.)", Some("%b %e %H:%M:%S")).unwrap());
    parsers
}

/// As Go's `strconv.Quote` writes it.
fn go_quoted(text: &str) -> String {
    let escaped: String = text
        .chars()
        .map(|c| match c {
            '"' | '\\' => format!("\\{c}"),
            '\x07' => "\\a".into(),
            '\x08' => "\\b".into(),
            '\x0c' => "\\f".into(),
            '\n' => "\\n".into(),
            '\r' => "\\r".into(),
            '\t' => "\\t".into(),
            '\x0b' => "\\v".into(),
            c if c.is_ascii_control() => format!("\\x{:02x}", u32::from(c)),
            c if c.is_control() => format!("\\u{:04x}", u32::from(c)),
            c => c.into(),
        })
        .collect();
    format!("\"{escaped}\"")
}

proptest! {
    #[test]
    fn any_text_is_looked_at_without_a_panic(
        words in prop::collection::vec(prop_oneof![
            "\\PC{0,5}",
            prop::sample::select(vec![
                "I1026 10:15:30.123456   1 a.go:42] ", "\"m\" ", "k=v ", "\"k\"=\"v\" ", "k=\"\\u00", "={\"a\":", "\\", "\"",
                "192.0.2.7 - - ", "[26/Oct/2025:10:15:30 +0000] ", "\"GET / HTTP/1.1\" ", "200 1", " \"-\"",
                "<34>", "<34>1 ", "Oct 26 10:15:30 ", "2025-10-26T10:15:30Z ", "2025 ", "UTC ", "TZ-", "+02:00", "host ",
                "app[1]: ", "- ", "[id n=\"v\" ", "] ", "=", " ", "é", "\0", "\n",
            ]).prop_map(str::to_owned),
        ], 0..12),
        now in any::<i64>(),
    ) {
        let text = words.concat();
        let context = TimeContext { now, zone: TimeZone::UTC };
        let mut parsed = Parsed::default();
        for parser in all() {
            if parser.parse(&text, &context, &mut parsed) {
                prop_assert!(parsed.fields(&text).count() <= MAX_FIELDS);
                prop_assert!(parsed.fields(&text).all(|(name, _)| name.len() <= MAX_NAME));
                for (_, value) in parsed.fields(&text) {
                    if let Value::Number(number) = value {
                        prop_assert!(serde_json::from_str::<u64>(number).is_ok());
                    }
                }
            }
        }
    }

    #[test]
    fn pairs_are_read_back(pairs in prop::collection::vec(("[a-z_.é]{1,12}", any::<String>()), 1..20), message in any::<String>()) {
        let body: String = pairs.iter().map(|(key, value)| format!(" {key}={}", go_quoted(value))).collect();
        let mut parsed = Parsed::default();
        let fields = |parsed: &Parsed, text: &str, skip: usize| -> Vec<(String, String)> {
            parsed.fields(text).skip(skip).map(|(name, value)| match value {
                Value::Text(value) | Value::Number(value) => (name.to_owned(), value.to_owned()),
            }).collect()
        };
        let ours = ["msg", "message", "log", "_msg", "time", "ts"];
        let pairs: Vec<_> = pairs.into_iter().collect();
        let text = format!("I1026 10:15:30.123456   12345 file.go:42] {}{body}", go_quoted(&message));
        prop_assert!(Parser::Klog.parse(&text, &context(), &mut parsed));
        prop_assert_eq!(parsed.message(&text), Some(message.as_str()));
        prop_assert_eq!(&fields(&parsed, &text, 3), &pairs);
        if pairs.iter().all(|(key, _)| !ours.contains(&key.as_str())) {
            let text = format!("msg={}{body}", go_quoted(&message));
            prop_assert!(Parser::Logfmt.parse(&text, &context(), &mut parsed));
            prop_assert_eq!(parsed.message(&text), Some(message.as_str()));
            prop_assert_eq!(&fields(&parsed, &text, 0), &pairs);
        }
    }

    #[test]
    fn syslog_is_read_back(
        priority in 0_usize..192,
        nanos in -9_000_000_000_000_000_000_i64..9_000_000_000_000_000_000,
        [host, app, id] in ["[!-~]{1,20}", "[a-zA-Z0-9/_.-]{1,20}", "[!-~]{1,10}"],
        values in prop::collection::vec(any::<String>(), 0..5),
        message in any::<String>(),
    ) {
        let mut time = Vec::new();
        time::write(nanos, &mut time);
        let time = String::from_utf8(time).unwrap();
        let data: String = values.iter().map(|value| {
            let escaped = value.replace('\\', "\\\\").replace('"', "\\\"").replace(']', "\\]");
            format!("[x@1 v=\"{escaped}\"]")
        }).collect();
        let data = if data.is_empty() { "-".to_owned() } else { data };
        let text = format!("<{priority}>1 {time} {host} {app} - {id} {data} \u{feff}{message}");
        let mut parsed = Parsed::default();
        prop_assert!(Parser::Syslog.parse(&text, &context(), &mut parsed), "{}", text);
        prop_assert_eq!((parsed.time(), parsed.message(&text)), (Some(nanos), Some(message.as_str())));
        let found: Vec<_> = parsed.fields(&text).filter(|(name, _)| *name == "x@1.v").map(|(_, value)| value).collect();
        let expected: Vec<_> = values.iter().map(|value| Value::Text(value)).collect();
        prop_assert_eq!(found, expected);
        // The same in a file.
        let text = format!("{time} h {app}[77]: {message}");
        prop_assert!(Parser::Syslog.parse(&text, &context(), &mut parsed), "{}", text);
        prop_assert_eq!((parsed.time(), parsed.message(&text)), (Some(nanos), Some(message.as_str())));
        let found: Vec<_> = parsed.fields(&text).collect();
        prop_assert_eq!(found, [("hostname", Value::Text("h")), ("appname", Value::Text(&app)), ("procid", Value::Text("77"))]);
    }

    #[test]
    fn an_access_log_is_read_back(
        seconds in 0_i64..4_000_000_000,
        hours in -12_i8..13,
        status in 100_u32..1000,
        bytes in any::<u32>(),
        texts in prop::collection::vec(any::<String>(), 3),
    ) {
        // As nginx escapes.
        let escaped = |text: &str| -> String {
            text.bytes().map(|byte| match byte {
                b'"' | b'\\' | 0..0x20 | 0x7f.. => format!("\\x{byte:02X}"),
                byte => char::from(byte).to_string(),
            }).collect()
        };
        let shown = jiff::Timestamp::from_second(seconds).unwrap().to_zoned(TimeZone::fixed(jiff::tz::offset(hours)));
        let time = shown.strftime("%d/%b/%Y:%H:%M:%S %z");
        let [path, referer, agent] = [&texts[0], &texts[1], &texts[2]].map(|text| escaped(text));
        let text = format!(r#"192.0.2.7 - - [{time}] "PUT /{path} HTTP/1.1" {status} {bytes} "{referer}" "{agent}""#);
        let mut parsed = Parsed::default();
        prop_assert!(Parser::Access.parse(&text, &context(), &mut parsed), "{}", text);
        prop_assert_eq!(parsed.time(), Some(seconds * time::SECOND));
        let found = |name: &str| parsed.fields(&text).find(|(field, _)| *field == name).map(|(_, value)| value);
        let (path, status, bytes) = (format!("/{}", texts[0]), status.to_string(), bytes.to_string());
        prop_assert_eq!(found("path"), Some(Value::Text(&path)));
        prop_assert_eq!(found("status"), Some(Value::Number(&status)));
        prop_assert_eq!(found("bytes"), Some(Value::Number(&bytes)));
        for (name, text) in [("referer", &texts[1]), ("user_agent", &texts[2])] {
            let expected = (!["", "-"].contains(&text.as_str())).then_some(Value::Text(text));
            prop_assert_eq!(found(name), expected);
        }
    }
}
