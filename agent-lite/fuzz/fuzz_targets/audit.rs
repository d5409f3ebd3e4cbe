//! A line of an audit log: what passes for an event makes a record that a gateway takes.
#![no_main]

use libfuzzer_sys::fuzz_target;
use serde_json::value::RawValue;
use sluice_agent::parse::audit::Event;
use sluice_agent::record::{Encoder, Line, can_be_nested};

fuzz_target!(|line: &str| {
    let line = line.trim();
    if line.contains('\n') || line.len() > 64 * 1024 {
        return;
    }
    let Some(event) = Event::parse(line).filter(|_| can_be_nested(line)) else { return };
    let mut sentence = String::new();
    event.write_sentence(&mut sentence);
    let common = format!(",\"unit\":\"audit\",\"audit_event\":{line}");
    let line = Line {
        time_text: &[],
        time: 0,
        content: sentence.as_bytes(),
        common: common.as_bytes(),
        part: None,
        parsed: None,
    };
    let mut out = Vec::new();
    assert_eq!(Encoder::default().encode(&line, &mut out), 1);
    assert_eq!(out.iter().filter(|byte| **byte == b'\n').count(), 1);
    let fields: std::collections::BTreeMap<String, &RawValue> = serde_json::from_slice(&out).expect("a record is JSON");
    assert!(fields["audit_event"].get().starts_with('{'));
});
