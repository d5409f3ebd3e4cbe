//! What the tests of this crate share.
#![allow(dead_code, reason = "each test program uses a part")]

use std::{path::Path, sync::Arc};

use sluice_durable_log::{Item, Log, Options, Recovery, Writer, io::Files, open};

pub(crate) const SEGMENT: u64 = 64 << 10;

/// Small segments, so that tests see many.
pub(crate) fn options(dir: &Path) -> Options {
    Options {
        segment_bytes: SEGMENT,
        max_bytes: 64 * SEGMENT,
        max_record: 32 << 10,
        quarantine_max_bytes: 4 * SEGMENT,
        ..Options::new(dir)
    }
}

pub(crate) fn opened(files: &(impl Files + Clone + 'static), options: &Options) -> (Writer, Log, Recovery) {
    open(Arc::new(files.clone()), options.clone()).expect("the log opens")
}

/// A payload that tells its number and how long it is.
pub(crate) fn payload(number: u64, len: usize) -> Vec<u8> {
    let mut bytes = number.to_le_bytes().to_vec();
    let filler = (0_u8..=255).cycle().skip(usize::try_from(number % 256).expect("small"));
    bytes.extend(filler.take(len.saturating_sub(8)));
    bytes
}

/// Every item from `from` on, with its payload.
pub(crate) fn read_from(log: &Log, from: u64) -> Vec<(Item, Vec<u8>)> {
    let mut reader = log.reader(from);
    let mut items = Vec::new();
    let mut buf = Vec::new();
    while let Some(item) = reader.next(&mut buf).expect("reading can be tried") {
        let payload = if matches!(item, Item::Record { .. }) { buf.clone() } else { Vec::new() };
        items.push((item, payload));
    }
    items
}
