//! A stream in the journal's export format: however it is cut into pieces, the same entries come out.
#![no_main]

use libfuzzer_sys::fuzz_target;
use sluice_agent::parse::journal::{Cursor, Decoder, MAX_ENTRY, Malformed};

const WANTED: &[&str] = &["MESSAGE", "__CURSOR", "_PID"];

type Found = Vec<(u64, bool, Vec<Option<Vec<u8>>>)>;

fn read(stream: &[u8], at_once: usize) -> (Found, Option<Malformed>) {
    let mut decoder = Decoder::new(WANTED);
    let mut found = Vec::new();
    for mut piece in stream.chunks(at_once) {
        loop {
            match decoder.next(&mut piece) {
                Ok(true) => {}
                Ok(false) => break,
                Err(error) => return (found, Some(error)),
            }
            let entry = decoder.entry();
            let values: Vec<_> = WANTED.iter().map(|name| entry.get(name).map(<[u8]>::to_vec)).collect();
            assert!(values.iter().flatten().map(Vec::len).sum::<usize>() <= MAX_ENTRY);
            let _ = entry.get("__CURSOR").and_then(Cursor::parse);
            found.push((entry.size, entry.is_cut, values));
        }
    }
    (found, None)
}

fuzz_target!(|input: (u8, &[u8])| {
    let (at_once, stream) = input;
    let whole = read(stream, stream.len().max(1));
    assert_eq!(whole, read(stream, usize::from(at_once) + 1));
    assert!(whole.0.iter().map(|entry| entry.0).sum::<u64>() <= stream.len() as u64);
});
