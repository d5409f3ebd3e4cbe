//! A record of the kernel's log.
#![no_main]

use libfuzzer_sys::fuzz_target;
use sluice_agent::parse::kmsg::Record;

fuzz_target!(|bytes: &[u8]| {
    if let Some(record) = Record::parse(bytes) {
        assert!(record.severity < 8 && record.text.len() <= bytes.len());
        let details: usize = record.details().map(|(name, value)| name.len() + value.len()).sum();
        assert!(details <= bytes.len());
    }
});
