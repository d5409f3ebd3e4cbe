//! A payload under a header that lies about anything: the checksums of a frame keep a fuzzer from getting
//! this far by itself.
#![no_main]

use libfuzzer_sys::fuzz_target;
use sluice_wire::payload::{Checker, Depth};
use sluice_wire::{Category, Encoding, Header, Lane, ProducerId, limits};

fuzz_target!(|input: (u8, u32, u32, u32, &[u8])| {
    let (encoding, raw_len, records, longest, payload) = input;
    let header = Header {
        lane: Lane { producer: ProducerId([0; 16]), category: Category::Application, scope: "".into(), split: "".into() },
        number: 0,
        cluster: "".into(),
        node: "".into(),
        encoding: Encoding::ALL[usize::from(encoding) % 3],
        payload_crc: 0,
        raw_len: if raw_len == 0 { u32::try_from(payload.len()).unwrap_or(0) } else { raw_len },
        records,
        longest,
        first_time: i64::MIN,
        last_time: i64::MAX,
        positions: Vec::new(),
    };
    let mut checker = Checker::default();
    if let Ok(raw) = checker.check(&header, payload, Depth::Json) {
        assert!(raw.len() <= limits::BLOCK_RAW);
        assert_eq!(raw.last(), Some(&b'\n'));
    }
});
