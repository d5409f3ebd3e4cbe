//! Files of format version 1, as they were written when that was new. They stay readable.
//!
//! `golden/v1` holds records 0 and 1, a void record 2 of a group whose sync failed, and in the
//! next segment records 2 (empty) and 3, and half of 4.

mod common;

use std::{fs, path::Path};

use common::{opened, options, payload, read_from};
use sluice_durable_log::{
    Item, Options,
    io::{Fault, FaultyFiles, Op, RealFiles},
};

const GOLDEN: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/v1");
const NAMES: [&str; 2] = ["00000000000000000000.log", "00000000000000000002.log"];

#[test]
fn version_1_is_read() {
    let dir = tempfile::tempdir().expect("a directory");
    for name in NAMES {
        fs::copy(Path::new(GOLDEN).join(name), dir.path().join(name)).expect("copied");
    }
    let (_, log, recovery) = opened(&RealFiles, &options(dir.path()));
    assert_eq!(recovery.next, 4);
    assert_eq!(recovery.torn.map(|torn| torn.offset), Some(64 + 32 + 32 + 40));
    let expected = [payload(0, 100), payload(1, 30), Vec::new(), payload(3, 40)];
    let expected = (0..).zip(expected).map(|(index, bytes)| (Item::Record { index }, bytes));
    assert_eq!(read_from(&log, 0), expected.collect::<Vec<_>>());
    let header = fs::read(Path::new(GOLDEN).join(NAMES[0])).expect("there");
    assert_eq!(log.log_id(), header[16..32]);
}

/// How the files were made.
#[test]
#[ignore = "replaces the files, which are there to stay the same"]
fn write() {
    let files = FaultyFiles::new();
    let options = Options { preallocate: false, ..options(Path::new("/log")) };
    let (mut writer, _, _) = opened(&files, &options);
    for bytes in [payload(0, 100), payload(1, 30)] {
        writer.append(&[&bytes]).expect("there is room");
        writer.sync().expect("the disk is well");
    }
    writer.append(&[b"void"]).expect("there is room");
    files.fail(Op::SyncData, 0, Fault::Io);
    writer.sync().expect_err("it fails once");
    for bytes in [Vec::new(), payload(3, 40), payload(4, 50)] {
        writer.append(&[&bytes]).expect("there is room");
    }
    writer.sync().expect("the disk is well");
    fs::create_dir_all(GOLDEN).expect("made");
    for (name, cut) in NAMES.into_iter().zip([0, 40]) {
        let bytes = files.contents(&Path::new("/log").join(name)).expect("there");
        fs::write(Path::new(GOLDEN).join(name), &bytes[..bytes.len() - cut]).expect("written");
    }
}
