//! Whatever bytes a journal holds: they decode without a panic, and what decodes is written as it was.
//!
//! `cargo +nightly fuzz run journal_entry`
#![no_main]

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use sluice_gateway::journal::entry;

fuzz_target!(|bytes: &[u8]| {
    let bytes = Bytes::copy_from_slice(bytes);
    if let Ok(decoded) = entry::decode(&bytes) {
        let again = entry::encode(&decoded).expect("what was read is within its bounds");
        assert_eq!(again, bytes, "one entry has one form");
    }
});
