//! A message of an application: whatever a parser finds in it becomes records that a gateway takes. The
//! first byte chooses the parser.
#![no_main]

use std::collections::BTreeMap;
use std::sync::LazyLock;

use jiff::tz::TimeZone;
use libfuzzer_sys::fuzz_target;
use serde_json::value::RawValue;
use sluice_agent::parse::message::{MAX_FIELDS, MAX_NAME, Parsed, Parser, TimeContext};
use sluice_agent::record::{Encoder, Line};
use sluice_wire::{limits, record, time};

const TIME: &[u8] = b"2025-10-26T10:15:30Z";

static PARSERS: LazyLock<Vec<Parser>> = LazyLock::new(|| {
    let mut parsers: Vec<_> = Parser::NAMES.iter().filter_map(|name| Parser::named(name)).collect();
    let pattern = r"^(?<time>\S+ \S+) (?<level>\w+)(?: \[(?<cluster>[^\]]*)\])? (?<message>.*)$";
    parsers.push(Parser::regex(pattern, Some("%Y-%m-%d %H:%M:%S%.f")).expect("a pattern"));
    parsers.push(Parser::regex(pattern, None).expect("a pattern"));
    parsers
});

fuzz_target!(|input: &[u8]| {
    let Some((choice, content)) = input.split_first() else { return };
    if content.len() > 160 * 1024 {
        return;
    }
    let own = time::parse(TIME).expect("a time");
    let context = TimeContext { now: own, zone: TimeZone::UTC };
    let mut parsed = Parsed::default();
    let found = PARSERS[usize::from(*choice) % PARSERS.len()].parse_bytes(content, &context, &mut parsed);
    let text = String::from_utf8_lossy(content);
    assert!(parsed.fields(&text).count() <= MAX_FIELDS);
    assert!(parsed.fields(&text).all(|(name, _)| name.len() <= MAX_NAME));
    let line = Line {
        time_text: TIME,
        time: own,
        content,
        common: b",\"cluster\":\"c\"",
        part: None,
        parsed: found.then_some(&parsed),
    };
    let mut out = Vec::new();
    let records = Encoder::default().encode(&line, &mut out);
    let lines: Vec<&[u8]> = out.split_inclusive(|byte| *byte == b'\n').collect();
    assert_eq!(lines.len(), records as usize);
    for record in lines {
        assert!(record.len() <= limits::LINE + 1);
        let fields: BTreeMap<String, &RawValue> = serde_json::from_slice(record).expect("a record is JSON");
        assert_eq!(fields["cluster"].get(), "\"c\"");
        let written: String = serde_json::from_str(fields["_time"].get()).expect("a time is a string");
        assert_eq!(time::parse(written.as_bytes()), Some(line.record_time()));
        let ours = ["_time", "_msg", "cluster", "log_part"];
        assert!(fields.keys().all(|name| !record::is_reserved(name) || ours.contains(&name.as_str())));
    }
});
