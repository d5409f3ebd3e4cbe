//! The texts of the protocol: verdicts, times, ids.
#![no_main]

use libfuzzer_sys::fuzz_target;
use sluice_wire::{ProducerId, Verdict, push, time};

fuzz_target!(|bytes: &[u8]| {
    if let Some(nanos) = time::parse(bytes) {
        let mut text = Vec::new();
        time::write(nanos, &mut text);
        // Years before 1678 by an offset are the only ones that do not fit what is written.
        if let Some(again) = time::parse(&text) {
            assert_eq!(again, nanos);
        }
    }
    if let Ok(text) = std::str::from_utf8(bytes) {
        if let Ok(verdict) = text.parse::<Verdict>() {
            assert_eq!(verdict.to_string().parse::<Verdict>(), Ok(verdict));
        }
        let _ = text.parse::<ProducerId>();
        let _ = push::read_verdicts(text, 3);
    }
});
