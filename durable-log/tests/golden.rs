//! Files of format version 1, as they were written when that was new. They stay readable.
//!
//! `golden/v1` holds records 0 and 1, a void record 2 of a group whose sync failed, and in the
//! next segment records 2 (empty) and 3, and half of 4. Made with a file system that failed one fsync,
//! its last file cut by 40 bytes.

mod common;

use std::{fs, path::Path};

use common::{opened, options, payload, read_from};
use sluice_durable_log::{Item, io::RealFiles};

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
