//! A line of docker's json-file driver: any bytes, and what is read is what a JSON parser finds.
#![no_main]

use libfuzzer_sys::fuzz_target;
use serde_json::Value;
use sluice_agent::parse::docker;
use sluice_wire::{Stream, time};

fuzz_target!(|line: &[u8]| {
    let mut times = time::Parser::default();
    let (mut scratch, mut again) = (Vec::new(), Vec::new());
    let piece = docker::parse(line, &mut scratch, &mut times);
    if let Some(piece) = &piece {
        assert_eq!(time::parse(piece.time_text), Some(piece.time));
        assert!(piece.content.len() <= line.len() * 2);
    }
    if let Some((at, found)) = docker::resynchronise(line, &mut again, &mut times) {
        let mut scratch = Vec::new();
        assert_eq!(docker::parse(&line[at..], &mut scratch, &mut times), Some(found));
    }
    // A JSON parser finds the same in it (but it refuses some that we take: control characters).
    let Ok(Value::Object(members)) = serde_json::from_slice::<Value>(line) else { return };
    let text = |name: &str| members.get(name).and_then(Value::as_str);
    let (Some(log), Some(stream), Some(_)) = (text("log"), text("stream"), text("time")) else { return };
    let Some(piece) = piece else { return };
    let content = log.strip_suffix('\n').map_or(log, |log| log.strip_suffix('\r').unwrap_or(log));
    assert_eq!(String::from_utf8_lossy(piece.content), content);
    assert_eq!(piece.partial, !log.ends_with('\n'));
    assert_eq!(piece.stream == Stream::Stdout, stream == "stdout");
});
