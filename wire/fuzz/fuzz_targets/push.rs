//! A push request's body, as a stranger may send it: frames, headers, payloads.
#![no_main]

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use sluice_wire::block::Frames;
use sluice_wire::payload::{Checker, Depth};

fuzz_target!(|body: &[u8]| {
    let mut checker = Checker::default();
    for frame in Frames::new(Bytes::copy_from_slice(body)).flatten() {
        if let Ok(block) = frame.open() {
            let mut again = Vec::new();
            block.write(&mut again).expect("what was read can be written");
            assert_eq!(sluice_wire::Block::read(&again.into()).expect("and read"), block);
            let _ = checker.check(&block.header, &block.payload, Depth::Json);
        }
    }
});
