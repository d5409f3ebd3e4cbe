//! A line of a log file: taken apart, resynchronised, and made a record that a gateway takes.
#![no_main]

use std::collections::BTreeMap;

use libfuzzer_sys::fuzz_target;
use serde_json::value::RawValue;
use sluice_agent::parse::{Runtime, cri};
use sluice_agent::record::{Encoder, Line};
use sluice_wire::{record, time};

fuzz_target!(|line: &[u8]| {
    let mut times = time::Parser::default();
    let _ = Runtime::of_line(line);
    let _ = cri::resynchronise(line, &mut times);
    let (time, content) = match cri::parse(line, &mut times) {
        Some(piece) => (piece.time, piece.content),
        None => (0, line),
    };
    // With newlines: lines may have been joined.
    if content.len() > 160 * 1024 {
        return;
    }
    let mut out = Vec::new();
    let line = Line {
        time_text: b"2025-10-26T10:15:30Z",
        time,
        content,
        common: b",\"cluster\":\"c\"",
        part: None,
        parsed: None,
    };
    let records = Encoder::default().encode(&line, &mut out);
    let lines: Vec<&[u8]> = out.split_inclusive(|byte| *byte == b'\n').collect();
    assert_eq!(lines.len(), records as usize);
    for line in lines {
        assert!(line.len() <= sluice_wire::limits::LINE + 1);
        // Values as they stand: a number that no machine can hold is JSON all the same.
        let fields: BTreeMap<String, &RawValue> = serde_json::from_slice(line).expect("a record is JSON");
        assert_eq!(fields["cluster"].get(), "\"c\"");
        assert!(fields.keys().all(
            |name| !record::is_reserved(name) || ["_time", "_msg", "cluster", "log_part"].contains(&name.as_str())
        ));
    }
});
