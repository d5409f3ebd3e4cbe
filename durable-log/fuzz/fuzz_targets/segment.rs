//! Any bytes as a log's segments: opening and reading end, without a panic, and see each index
//! once. The first byte says where the second segment begins.

#![no_main]

use std::{path::Path, sync::Arc};

use libfuzzer_sys::fuzz_target;
use sluice_durable_log::{Item, Options, SyncMode, io::FaultyFiles, open};

fuzz_target!(|input: &[u8]| {
    let Some((&split, input)) = input.split_first() else { return };
    let at = input.len() * usize::from(split) / 255;
    let (first, second) = input.split_at(at);
    let files = FaultyFiles::new();
    files.replace(Path::new("/log/00000000000000000000.log"), first);
    if !second.is_empty() {
        files.replace(Path::new("/log/00000000000000000002.log"), second);
    }
    for sync in [SyncMode::Data, SyncMode::Never] {
        let options =
            Options { segment_bytes: 1 << 20, max_bytes: 1 << 30, max_record: 64 << 10, sync, ..Options::new("/log") };
        let Ok((mut writer, log, recovery)) = open(Arc::new(files.clone()), options) else {
            return;
        };
        let mut reader = log.reader(0);
        let mut buf = Vec::new();
        let mut position = 0;
        while let Some(item) = reader.next(&mut buf).expect("this disk does not fail") {
            match item {
                Item::Record { index } => assert_eq!(index, position),
                Item::Damaged { first, next, .. } | Item::Released { first, next } => {
                    assert!(first == position && next > first);
                }
            }
            position = item.next();
            assert!(buf.capacity() <= 2 * input.len() + 64);
        }
        assert_eq!(position, recovery.next);
        assert_eq!(writer.append(&[b"more"]).expect("there is room"), recovery.next);
        writer.sync().expect("this disk does not fail");
    }
});
