//! A syslog message: any bytes, and one that is written from them is read back.
#![no_main]

use jiff::tz::TimeZone;
use libfuzzer_sys::fuzz_target;
use sluice_agent::parse::message::{Parsed, Parser, TimeContext, Value};

fuzz_target!(|bytes: &[u8]| {
    let text = String::from_utf8_lossy(bytes);
    let context = TimeContext { now: 1_761_473_730_000_000_000, zone: TimeZone::UTC };
    let mut parsed = Parsed::default();
    for head in ["", "<34>", "<165>1 ", "Oct 26 10:15:30 ", "<0>1 - - - - - "] {
        let text = format!("{head}{text}");
        if Parser::Syslog.parse(&text, &context, &mut parsed) {
            let message = parsed.message(&text).expect("a message, perhaps empty");
            // A header is before the message, never within it.
            assert!(text.ends_with(message));
        }
    }
    let value = text.replace('\\', "\\\\").replace('"', "\\\"").replace(']', "\\]");
    let written = format!("<165>1 2025-10-26T10:15:30Z h a 1 - [x v=\"{value}\"] \u{feff}{text}");
    assert!(Parser::Syslog.parse(&written, &context, &mut parsed));
    assert_eq!(parsed.time(), Some(context.now));
    assert_eq!(parsed.message(&written), Some(text.as_ref()));
    assert_eq!(parsed.fields(&written).last(), Some(("x.v", Value::Text(&text))));
});
