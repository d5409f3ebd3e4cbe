use super::*;
use proptest::prelude::*;

const TAIL: &str = r#","stream":"stdout","time":"2025-10-26T10:15:30.123456789Z"}"#;

/// Stream, partial, content.
fn taken(line: &[u8]) -> Option<(Stream, bool, Vec<u8>)> {
    let mut scratch = b"what was there before".to_vec();
    let piece = parse(line, &mut scratch, &mut time::Parser::default())?;
    Some((piece.stream, piece.partial, piece.content.to_vec()))
}

/// `log` is the string between its quotes.
fn check(log: &str, partial: bool, content: &str) {
    let found = taken(format!("{{\"log\":\"{log}\"{TAIL}").as_bytes());
    assert_eq!(found, Some((Stream::Stdout, partial, content.into())), "{log}");
}

#[test]
fn lines_as_docker_writes_them() {
    check(r"hello world\n", false, "hello world");
    check(r"half", true, "half");
    check(r"\n", false, "");
    check("", true, "");
    check(r"windows\r\n", false, "windows");
    check(r"a\rb\r\r\n", false, "a\rb\r");
    check(r"ends in a backslash\\n", true, r"ends in a backslash\n");
    check(r"ends in a backslash\\\n", false, r"ends in a backslash\");
    check(r"x\\r\n", false, r"x\r");
    check(r"x\r", true, "x\r");
    check(r#"{\"level\":\"info\"}\n"#, false, r#"{"level":"info"}"#);
    check(r"tab\there \u003chtml\u003e\u0026\u2028\n", false, "tab\there <html>&\u{2028}");
    check(r"\ud83d\ude00\ud83d \u12\n", false, "😀\u{fffd} \u{fffd}");
    check(r"other newline\u000d\u000a", false, "other newline");
    check("plain é\\n", false, "plain é");
}

#[test]
fn members_come_in_any_order_and_others_are_stepped_over() {
    let expect = |line: &str| {
        let found = taken(line.as_bytes());
        assert_eq!(found, Some((Stream::Stderr, false, b"m".to_vec())), "{line}");
    };
    let (log, stream, time) = (r#""log":"m\n""#, r#""stream":"stderr""#, r#""time":"2025-10-26T10:15:30Z""#);
    expect(&format!("{{{time},{stream},{log}}}"));
    expect(&format!("{{{stream},{log},{time}}}"));
    expect(&format!(" {{ {log} , {stream} , {time} }} "));
    expect(&format!(r#"{{{log},{stream},"attrs":{{"env":"a}}\"]","n":[1,-2.5e+3,{{}},null]}},{time}}}"#));
    expect(&format!(r#"{{"a":true,"b":1.5,"c":null,"d":"\\",{log},{stream},{time}}}"#));
    // Of repeated ones the last counts.
    expect(&format!(r#"{{"log":"n",{log},{stream},{time}}}"#));
}

#[test]
fn a_content_without_escapes_is_borrowed() {
    let line = format!(r#"{{"log":"not copied\r\n"{TAIL}"#);
    let mut scratch = Vec::new();
    let piece = parse(line.as_bytes(), &mut scratch, &mut time::Parser::default()).unwrap();
    assert_eq!(piece.content, b"not copied");
    assert!(line.as_bytes().as_ptr_range().contains(&piece.content.as_ptr()));
    assert_eq!(scratch.capacity(), 0);
}

#[test]
fn torn_lines_are_none() {
    let whole = format!(r#"{{"log":"a\n"{TAIL}"#);
    for length in 0..whole.len() {
        assert_eq!(taken(&whole.as_bytes()[..length]), None, "{}", &whole[..length]);
    }
    for line in [
        &format!("{whole}x"),
        &format!("x{whole}"),
        &format!("{whole}{whole}"),
        &format!("\0{whole}"),
        "{}",
        r#"{"log":"x","stream":"stdin","time":"2025-10-26T10:15:30Z"}"#,
        r#"{"log":"x","stream":"stdout","time":"2025-02-30T10:15:30Z"}"#,
        r#"{"log":7,"stream":"stdout","time":"2025-10-26T10:15:30Z"}"#,
        r#"{"log":"x","stream":"stdout"}"#,
        r#"{"log":"x","time":"2025-10-26T10:15:30Z"}"#,
        r#"{"stream":"stdout","time":"2025-10-26T10:15:30Z"}"#,
    ] {
        assert_eq!(taken(line.as_bytes()), None, "{line}");
    }
}

fn found(line: &[u8]) -> Option<(usize, Vec<u8>)> {
    let mut scratch = Vec::new();
    let (at, piece) = resynchronise(line, &mut scratch, &mut time::Parser::default())?;
    Some((at, piece.content.to_vec()))
}

#[test]
fn nuls_before_a_line_are_stepped_over_and_told() {
    for nuls in [1, 7, 4096] {
        for whole in [
            format!(r#"{{"log":"a\"b\n"{TAIL}"#),
            r#"{"time":"2025-10-26T10:15:30Z","stream":"stdout","log":"a\"b\n"}"#.to_owned(),
        ] {
            let mut line = vec![0; nuls];
            line.extend_from_slice(whole.as_bytes());
            assert_eq!(taken(&line), None);
            assert_eq!(found(&line), Some((nuls, b"a\"b".to_vec())));
        }
    }
    assert_eq!(found(&[0; 100]), None);
}

#[test]
fn a_line_glued_to_a_torn_one_is_found() {
    let whole = format!(r#"{{"log":"the next\n"{TAIL}"#);
    for torn in [
        r#"{"log":"hal"#,
        r#"{"log":"half\"#,
        r#"{"log":"half\n","str"#,
        r#"{"log":"half\n","stream":"stdout","time":"2025-10-26T10:15:30.1"#,
        r#"{"log":"half\n","stream":"stdout","attrs":{"a":"#,
        r#"{"log":"a{"log":"b"#,
        "\0\0{\"log\":\"a\0\0\0",
    ] {
        let line = format!("{torn}{whole}");
        assert_eq!(taken(line.as_bytes()), None, "{line}");
        assert_eq!(found(line.as_bytes()), Some((torn.len(), b"the next".to_vec())), "{line}");
    }
    // A start that an application writes has its quotes escaped.
    let quoting = r#"{"log":"{\"log\":\"x\\n\",\"stream\":\"stdout\",\"time\":\"2025-10-26T10:15:30Z\"}"#;
    assert_eq!(found(quoting.as_bytes()), None);
}

#[test]
fn starts_within_starts_are_looked_at_in_linear_time() {
    let started = std::time::Instant::now();
    for nested in [r#"{"log":"a","x":["#, r#"{"log":"a","x":{"y":"#, r#"{"log":"a","x":"#, r#"{"log":""#] {
        assert_eq!(found(nested.repeat(256 * 1024 / nested.len()).as_bytes()), None);
    }
    // Looking through all of it for each start would take minutes.
    assert!(started.elapsed() < std::time::Duration::from_secs(10), "{:?}", started.elapsed());
}

/// As Go's encoder writes it, whose strings are JSON's.
fn rendered(content: &str, stream: &str) -> String {
    let log = serde_json::to_string(content).unwrap();
    format!(r#"{{"log":{log},"stream":"{stream}","time":"2025-10-26T10:15:30.5+02:00"}}"#)
}

proptest! {
    #[test]
    fn what_is_written_is_read_back(content in any::<String>(), stderr in any::<bool>(), torn in any::<Vec<u8>>()) {
        let (name, stream) = if stderr { ("stderr", Stream::Stderr) } else { ("stdout", Stream::Stdout) };
        let content = content.trim_end_matches(['\r', '\n']);
        for (end, partial) in [("", true), ("\n", false), ("\r\n", false)] {
            let line = rendered(&format!("{content}{end}"), name);
            prop_assert_eq!(taken(line.as_bytes()), Some((stream, partial, content.into())));
            let mut scratch = Vec::new();
            let piece = parse(line.as_bytes(), &mut scratch, &mut time::Parser::default()).unwrap();
            prop_assert_eq!(Some(piece.time), time::parse(b"2025-10-26T10:15:30.5+02:00"));
            prop_assert_eq!(piece.time_text, b"2025-10-26T10:15:30.5+02:00");
            let glued = [torn.as_slice(), line.as_bytes()].concat();
            prop_assert_eq!(found(&glued), Some((torn.len(), content.into())));
        }
    }

    #[test]
    fn any_bytes_are_looked_at_without_a_panic(
        words in prop::collection::vec(prop_oneof![
            prop::collection::vec(any::<u8>(), 0..6),
            prop::sample::select(vec![
                r#"{"log":""#, r#"\n""#, "\"", "\\", "{", "}", "[", "]", ",", ":", r#","stream":"stdout""#,
                r#","time":"2025-10-26T10:15:30Z"}"#, r#","attrs":{"#, "\0\0", "1e9", " ",
            ]).prop_map(|word| word.as_bytes().to_vec()),
        ], 0..30),
    ) {
        let line = words.concat();
        let _ = taken(&line);
        if let Some((at, content)) = found(&line) {
            let piece = taken(&line[at..]).unwrap();
            prop_assert_eq!(piece.2, content);
        }
    }
}
