//! What opening makes of files that are not as they were left, case by case.

mod common;

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use common::{SEGMENT, opened, options, payload, read_from};
use sluice_durable_log::{
    AppendError, Item, Log, OpenError, Options, Reason, SyncMode, Writer,
    io::{Fault, FaultyFiles, Op, RealFiles},
    open,
};

const HEADER: usize = 64;
const RECORD: usize = 32;

fn segment(base: u64) -> PathBuf {
    Path::new("/log").join(format!("{base:020}.log"))
}

fn in_memory() -> Options {
    options(Path::new("/log"))
}

fn append(writer: &mut Writer, number: u64, len: usize) {
    assert_eq!(writer.append(&[&payload(number, len)]).expect("there is room"), number);
}

/// A log of one-record groups, each of `len` bytes, closed.
fn written(options: &Options, records: u64, len: usize) -> FaultyFiles {
    let files = FaultyFiles::new();
    let (mut writer, _, _) = opened(&files, options);
    for number in 0..records {
        append(&mut writer, number, len);
        writer.sync().expect("the disk is well");
    }
    files
}

fn change(files: &FaultyFiles, path: &Path, change: impl FnOnce(&mut Vec<u8>)) {
    let mut bytes = files.contents(path).expect("the file is there");
    change(&mut bytes);
    files.replace(path, &bytes);
}

/// Every item, the records' payloads checked to be those that were written.
fn items(log: &Log, len: usize) -> Vec<Item> {
    let all = read_from(log, 0);
    for (item, bytes) in &all {
        if let Item::Record { index } = item {
            assert_eq!(*bytes, payload(*index, len), "record {index}");
        }
    }
    all.into_iter().map(|(item, _)| item).collect()
}

fn records(range: std::ops::Range<u64>) -> Vec<Item> {
    range.map(|index| Item::Record { index }).collect()
}

fn damaged(first: u64, next: u64, reason: Reason) -> Item {
    Item::Damaged { first, next, reason }
}

/// The log goes on: one more record can be written and read.
fn goes_on(mut writer: Writer, log: &Log) {
    let index = writer.append(&[b"more"]).expect("there is room");
    assert_eq!(writer.sync().expect("the disk is well"), index + 1);
    let last = read_from(log, index);
    assert_eq!(last, [(Item::Record { index }, b"more".to_vec())]);
}

#[test]
fn a_tail_torn_at_any_byte_is_cut() {
    let len = 40;
    let options = Options { preallocate: false, ..in_memory() };
    let whole = HEADER + 3 * (RECORD + len);
    for cut in whole - RECORD - len..whole {
        for zeros in [0, 100] {
            let files = written(&options, 3, len);
            change(&files, &segment(0), |bytes| {
                bytes.truncate(cut);
                bytes.resize(cut + zeros, 0);
            });
            let (writer, log, recovery) = opened(&files, &options);
            assert_eq!((recovery.next, &recovery.damage[..]), (2, &[][..]), "cut at {cut}");
            let clean = cut == whole - RECORD - len;
            assert_eq!(recovery.torn.is_some(), !clean, "cut at {cut}, {zeros} zeros");
            assert_eq!(items(&log, len), records(0..2));
            goes_on(writer, &log);
        }
    }
}

#[test]
fn what_follows_a_torn_record_is_cut_too() {
    // One group, so that no record tells that another was durable.
    let files = FaultyFiles::new();
    let (mut writer, _, _) = opened(&files, &in_memory());
    (0..5).for_each(|number| append(&mut writer, number, 100));
    writer.sync().expect("the disk is well");
    drop(writer);
    change(&files, &segment(0), |bytes| bytes[HEADER + 2 * 132 + 50] ^= 1);
    let (writer, log, recovery) = opened(&files, &in_memory());
    assert_eq!((recovery.next, recovery.torn.map(|torn| torn.index)), (2, Some(2)));
    assert_eq!(items(&log, 100), records(0..2));
    let left = files.contents(&segment(0)).expect("there").len();
    assert_eq!((left, log.size_bytes()), (HEADER + 2 * 132, left as u64 + SEGMENT), "the space is given back");
    goes_on(writer, &log);
    // The whole record behind the torn one does not come back.
    let (_, log, _) = opened(&files, &in_memory());
    assert_eq!(read_from(&log, 0).len(), 3);
}

#[test]
fn a_flipped_byte_costs_one_record() {
    let len = 24;
    let size = RECORD + len;
    for at in HEADER..HEADER + 3 * size {
        let files = written(&in_memory(), 3, len);
        change(&files, &segment(0), |bytes| bytes[at] ^= 0x10);
        let (writer, log, recovery) = opened(&files, &in_memory());
        let (hit, inside) = (((at - HEADER) / size) as u64, (at - HEADER) % size);
        if hit == 2 {
            // Nothing tells that the last group was durable.
            assert_eq!((recovery.next, recovery.torn.map(|torn| torn.index)), (2, Some(2)));
            assert_eq!(items(&log, len), records(0..2), "byte {at}");
        } else {
            let reason = if inside < RECORD { Reason::Header } else { Reason::Payload };
            let mut expected = records(0..3);
            expected[usize::try_from(hit).expect("small")] = damaged(hit, hit + 1, reason);
            assert_eq!(items(&log, len), expected, "byte {at}");
            assert_eq!(recovery.damage.len(), 1);
            assert_eq!((recovery.damage[0].first, recovery.damage[0].next), (hit, hit + 1));
            assert_eq!(log.stats().damaged_records, 1, "opening and reader count it once");
        }
        goes_on(writer, &log);
    }
}

#[test]
fn at_least_makes_a_lost_end_damage() {
    let files = written(&in_memory(), 3, 24);
    change(&files, &segment(0), |bytes| bytes.truncate(HEADER + 2 * 56 + 10));
    let options = Options { at_least: 7, ..in_memory() };
    let (writer, log, recovery) = opened(&files, &options);
    assert_eq!((recovery.next, recovery.torn), (7, None));
    assert_eq!(read_from(&log, 2)[0].0, damaged(2, 7, Reason::Header));
    goes_on(writer, &log);
}

#[test]
fn a_flipped_byte_in_a_segment_header_costs_nothing_if_another_is_whole() {
    let records_in_first = read_from(&opened(&written(&in_memory(), 9, 20_000), &in_memory()).1, 0);
    assert_eq!(records_in_first.len(), 9);
    for at in 0..HEADER {
        let files = written(&in_memory(), 9, 20_000);
        change(&files, &segment(3), |bytes| bytes[at] ^= 0x10);
        let (writer, log, recovery) = opened(&files, &in_memory());
        assert_eq!((recovery.next, recovery.created), (9, false), "byte {at}");
        assert_eq!(items(&log, 20_000), records(0..9), "byte {at}");
        goes_on(writer, &log);
    }
}

#[test]
fn a_log_without_any_header_is_set_aside() {
    for at in 0..HEADER {
        let files = written(&in_memory(), 2, 24);
        let before = opened(&files, &in_memory()).1.log_id();
        for base in [0, 2] {
            change(&files, &segment(base), |bytes| bytes[at] ^= 0x10);
        }
        let (writer, log, recovery) = opened(&files, &in_memory());
        assert!(recovery.created && recovery.set_aside == 2, "byte {at}: {recovery:?}");
        assert_ne!(log.log_id(), before);
        assert!(files.paths().contains(&PathBuf::from("/log/quarantine/00000000000000000000.0.log")));
        goes_on(writer, &log);
    }
}

#[test]
fn a_truncated_middle_segment_is_damage_up_to_the_next() {
    let files = written(&in_memory(), 9, 20_000);
    change(&files, &segment(3), |bytes| bytes.truncate(HEADER + 20_032 + 500));
    let (writer, log, _) = opened(&files, &in_memory());
    let mut expected = records(0..4);
    expected.push(damaged(4, 5, Reason::Payload));
    expected.push(damaged(5, 6, Reason::Missing));
    expected.extend(records(6..9));
    assert_eq!(items(&log, 20_000), expected);
    goes_on(writer, &log);
}

#[test]
fn a_missing_or_empty_middle_segment_is_damage_between_its_neighbours() {
    for empty in [false, true] {
        let files = written(&in_memory(), 9, 20_000);
        if empty {
            files.replace(&segment(3), b"");
        } else {
            files.remove(&segment(3));
        }
        let (writer, log, recovery) = opened(&files, &in_memory());
        let found = &recovery.damage[0];
        assert_eq!((found.first, found.next, found.reason), (3, 6, Reason::Missing));
        let mut expected = records(0..3);
        expected.push(damaged(3, 6, Reason::Missing));
        expected.extend(records(6..9));
        assert_eq!(items(&log, 20_000), expected, "empty: {empty}");
        assert_eq!(log.stats().damaged_ranges, 1);
        goes_on(writer, &log);
    }
}

#[test]
fn an_empty_last_segment_is_replaced() {
    for bytes in [&b""[..], &[0; 4096], b"SLUIC"] {
        let files = written(&in_memory(), 4, 20_000);
        files.replace(&segment(3), bytes);
        let (writer, log, recovery) = opened(&files, &in_memory());
        assert_eq!((recovery.next, recovery.set_aside), (3, 1));
        assert_eq!(items(&log, 20_000), records(0..3));
        goes_on(writer, &log);
    }
}

#[test]
fn unfinished_files_are_removed_and_strange_ones_left() {
    let files = written(&in_memory(), 1, 24);
    let unfinished = Path::new("/log/00000000000000000007.new");
    let strange = Path::new("/log/00000000000000000007.log.bak");
    files.replace(unfinished, b"half");
    files.replace(strange, b"mine");
    let (writer, log, _) = opened(&files, &in_memory());
    assert_eq!(files.contents(unfinished), None);
    assert_eq!(files.contents(strange).as_deref(), Some(&b"mine"[..]));
    goes_on(writer, &log);
}

#[test]
fn a_segment_of_another_log_is_not_read() {
    let files = written(&in_memory(), 9, 20_000);
    let other = written(&in_memory(), 9, 20_000).contents(&segment(3)).expect("there");
    files.replace(&segment(3), &other);
    let (writer, log, recovery) = opened(&files, &in_memory());
    assert_eq!(recovery.damage[0].reason, Reason::Foreign);
    let found = items(&log, 20_000);
    assert_eq!((found[3].next(), found[4]), (6, Item::Record { index: 6 }));
    goes_on(writer, &log);
}

#[test]
fn a_later_version_is_refused_and_named() {
    let files = written(&in_memory(), 1, 24);
    change(&files, &segment(0), |bytes| {
        bytes[8] = 2;
        let crc = crc32c::crc32c(&bytes[..60]);
        bytes[60..64].copy_from_slice(&crc.to_le_bytes());
    });
    let error = open(Arc::new(files), in_memory()).expect_err("version 2 is unknown");
    assert!(matches!(error, OpenError::Version { version: 2, known: 1, .. }));
    assert!(error.to_string().contains("00000000000000000000.log"), "{error}");
}

#[test]
fn an_unreadable_end_is_not_taken_for_a_torn_one() {
    let files = written(&in_memory(), 4, 100);
    files.make_unreadable(&segment(0), (HEADER + 2 * 132) as u64..SEGMENT);
    let (writer, log, recovery) = opened(&files, &in_memory());
    assert_eq!(recovery.torn, None);
    assert!(recovery.next >= 4);
    let found = read_from(&log, 0);
    assert_eq!(found[2].0, damaged(2, recovery.next, Reason::Io));
    goes_on(writer, &log);
}

#[test]
fn a_second_writer_is_refused() {
    let dir = tempfile::tempdir().expect("a directory");
    let options = options(dir.path());
    let first = opened(&RealFiles, &options);
    let error = open(Arc::new(RealFiles), options.clone()).expect_err("it is locked");
    let text = error.to_string();
    assert!(matches!(error, OpenError::Locked { .. }), "{text}");
    assert!(text.contains(&format!("process {}", std::process::id())), "{text}");
    drop(first);
    opened(&RealFiles, &options);
}

#[test]
fn settings_that_cannot_be_are_named() {
    let wrong = [
        Options { segment_bytes: 1000, ..in_memory() },
        Options { max_bytes: SEGMENT + 1, ..in_memory() },
        Options { max_record: 1 << 20, ..in_memory() },
        Options { at_least: u64::MAX, ..in_memory() },
    ];
    for (options, name) in wrong.into_iter().zip(["segment_bytes", "max_bytes", "max_record", "at_least"]) {
        let error = open(Arc::new(FaultyFiles::new()), options).expect_err(name).to_string();
        assert!(error.contains(name), "{error}");
    }
}

#[test]
fn a_full_disk_refuses_definitely_and_heals() {
    let files = FaultyFiles::new();
    let (mut writer, log, _) = opened(&files, &in_memory());
    files.set_capacity(Some(SEGMENT));
    for number in 0..3 {
        append(&mut writer, number, 20_000);
    }
    let error = writer.append(&[&payload(99, 20_000)]).expect_err("no room for a segment");
    assert!(matches!(error, AppendError::NoSpace { .. }) && error.is_definite());
    assert_eq!(writer.sync().expect("what was taken is stored"), 3);
    files.set_capacity(None);
    append(&mut writer, 3, 20_000);
    writer.sync().expect("the disk has room");
    assert_eq!(items(&log, 20_000), records(0..4));
}

#[test]
fn a_full_log_refuses_until_released() {
    let options = Options { max_bytes: 2 * SEGMENT, ..in_memory() };
    let files = FaultyFiles::new();
    let (mut writer, log, _) = opened(&files, &options);
    let mut number = 0;
    let error = loop {
        match writer.append(&[&payload(number, 20_000)]) {
            Ok(_) => number += 1,
            Err(error) => break error,
        }
    };
    assert!(matches!(error, AppendError::Full { .. }), "{error}");
    assert_eq!((number, log.size_bytes()), (6, 2 * SEGMENT));
    writer.sync().expect("the disk is well");
    writer.release(number);
    assert_eq!(log.oldest(), 3);
    append(&mut writer, 6, 20_000);
    writer.sync().expect("the disk is well");
    let found = read_from(&log, 1);
    assert_eq!(found[0].0, Item::Released { first: 1, next: 3 });
    assert_eq!(found.len(), 5);
    drop(writer);
    assert_eq!(files.contents(&segment(0)), None, "unlinked at the latest when the writer goes");
}

#[test]
fn a_failed_sync_leaves_nothing_behind() {
    for (op, fault) in [(Op::SyncData, Fault::Io), (Op::Write, Fault::Io), (Op::Write, Fault::NoSpace)] {
        let files = FaultyFiles::new();
        let (mut writer, log, _) = opened(&files, &in_memory());
        append(&mut writer, 0, 100);
        writer.sync().expect("the disk is well");
        append(&mut writer, 1, 100);
        append(&mut writer, 2, 100);
        files.fail(op, 0, fault);
        let doubt = writer.sync().expect_err("it fails once");
        assert_eq!((doubt.first, doubt.next, log.durable()), (1, 3, 1));
        // The same indexes, another payload.
        for (index, len) in [(1, 50), (2, 60)] {
            assert_eq!(writer.append(&[&payload(index, len)]).expect("there is room"), index);
        }
        writer.sync().expect("the disk is well again");
        drop(writer);
        files.crash(1);
        let (writer, log, recovery) = opened(&files, &in_memory());
        assert_eq!((recovery.next, recovery.torn), (3, None));
        let found: Vec<_> = read_from(&log, 0).into_iter().map(|(_, bytes)| bytes).collect();
        assert_eq!(found, [payload(0, 100), payload(1, 50), payload(2, 60)]);
        goes_on(writer, &log);
    }
}

#[test]
fn damage_does_not_reach_into_void_records() {
    let files = FaultyFiles::new();
    let (mut writer, _, _) = opened(&files, &in_memory());
    for number in 0..2 {
        append(&mut writer, number, 100);
        writer.sync().expect("the disk is well");
    }
    append(&mut writer, 2, 100);
    append(&mut writer, 3, 100);
    files.fail(Op::SyncData, 0, Fault::Io);
    writer.sync().expect_err("it fails once");
    append(&mut writer, 2, 100);
    writer.sync().expect("the disk is well");
    drop(writer);
    // The void record 3 is the next that can be found.
    change(&files, &segment(0), |bytes| {
        bytes[HEADER + 132] ^= 1;
        bytes[HEADER + 2 * 132] ^= 1;
    });
    let (writer, log, _) = opened(&files, &in_memory());
    let mut expected = records(0..3);
    expected[1] = damaged(1, 2, Reason::Header);
    assert_eq!(items(&log, 100), expected);
    goes_on(writer, &log);
}

#[test]
fn a_write_ahead_that_fails_is_told_by_sync() {
    let options = Options { segment_bytes: 8 << 20, max_bytes: 64 << 20, max_record: 1 << 20, ..in_memory() };
    let files = FaultyFiles::new();
    let (mut writer, log, _) = opened(&files, &options);
    append(&mut writer, 0, 700_000);
    append(&mut writer, 1, 700_000);
    files.fail(Op::Write, 0, Fault::Io);
    for _ in 0..2 {
        let error = writer.append(&[b"x"]).expect_err("those before it failed");
        assert!(matches!(error, AppendError::InDoubt { first: 0, next: 2 }), "{error}");
    }
    let doubt = writer.sync().expect_err("the two are in doubt");
    assert_eq!((doubt.first, doubt.next), (0, 2));
    for number in 0..4 {
        append(&mut writer, number, 700_000);
    }
    assert_eq!(writer.sync().expect("the disk is well"), 4);
    assert_eq!(items(&log, 700_000), records(0..4));
}

#[test]
fn a_record_seen_after_a_failed_sync_is_stored_before_it_counts() {
    // The page cache still shows it to the next process; only that one's power is cut.
    for seed in 0..16 {
        let files = FaultyFiles::new();
        let (mut writer, _, _) = opened(&files, &in_memory());
        append(&mut writer, 0, 10_000);
        files.fail(Op::SyncData, 0, Fault::Io);
        writer.sync().expect_err("it fails once");
        drop(writer);
        let (writer, _, recovery) = opened(&files, &in_memory());
        assert_eq!(recovery.next, 1);
        drop(writer);
        files.crash(seed);
        let (_, log, _) = opened(&files, &in_memory());
        assert_eq!(items(&log, 10_000), records(0..1), "seed {seed}");
    }
}

#[test]
fn a_ring_cuts_at_the_first_hole() {
    let options = Options { sync: SyncMode::Never, preallocate: false, ..in_memory() };
    let files = written(&options, 9, 20_000);
    change(&files, &segment(3), |bytes| bytes[HEADER + 20_032 + 100] ^= 1);
    let (writer, log, recovery) = opened(&files, &options);
    assert_eq!((recovery.next, recovery.set_aside), (4, 1));
    assert_eq!(items(&log, 20_000), records(0..4));
    goes_on(writer, &log);
}

#[test]
fn damaged_segments_go_to_a_bounded_quarantine() {
    let options = Options { quarantine_max_bytes: 2 * SEGMENT, ..in_memory() };
    let files = written(&options, 15, 20_000);
    for base in [0, 3, 6] {
        change(&files, &segment(base), |bytes| bytes[HEADER + 100] ^= 1);
    }
    let (mut writer, log, _) = opened(&files, &options);
    assert_eq!(items(&log, 20_000).len(), 15);
    writer.release(15);
    drop(writer);
    assert_eq!(log.stats().quarantined, 3);
    let mut paths = files.paths();
    paths.retain(|path| path.starts_with("/log/quarantine"));
    assert_eq!(paths.len(), 2, "{paths:?}");
    assert!(paths[0].ends_with("00000000000000000003.0.log"), "{paths:?}");
}

#[test]
fn reads_by_index_and_after_seek() {
    // Segments that are long enough to have places remembered.
    let options = Options { segment_bytes: 2 << 20, max_bytes: 64 << 20, ..in_memory() };
    let files = written(&options, 1_000, 3_000);
    let (_, log, _) = opened(&files, &options);
    let mut reader = log.reader(5);
    let mut buf = Vec::new();
    for index in [999, 0, 690, 691, 300, 850, 301] {
        let item = reader.read_at(index, &mut buf).expect("readable");
        assert_eq!((item, &buf), (Some(Item::Record { index }), &payload(index, 3_000)));
    }
    assert_eq!(reader.read_at(1_000, &mut buf).expect("readable"), None);
    assert_eq!(reader.position(), 5);
    reader.seek(42);
    assert_eq!(reader.next(&mut buf).expect("readable"), Some(Item::Record { index: 42 }));
}

#[test]
fn a_segment_that_cannot_be_synced_is_not_there() {
    let files = written(&in_memory(), 3, 20_000);
    let (mut writer, log, _) = opened(&files, &in_memory());
    for number in 3..6 {
        append(&mut writer, number, 20_000);
    }
    writer.sync().expect("the disk is well");
    let before = files.paths();
    files.fail(Op::SyncData, 0, Fault::Io);
    let error = writer.append(&[&payload(99, 20_000)]).expect_err("no new segment");
    assert!(matches!(error, AppendError::Failed { .. }), "{error}");
    assert_eq!(files.paths(), before);
    append(&mut writer, 6, 20_000);
    writer.sync().expect("the disk is well again");
    assert_eq!(items(&log, 20_000), records(0..7));
}

#[test]
fn a_reader_that_cannot_open_its_file_stays_where_it_is() {
    let files = written(&in_memory(), 2, 24);
    let (_, log, _) = opened(&files, &in_memory());
    let mut reader = log.reader(0);
    let mut buf = Vec::new();
    files.fail(Op::Open, 0, Fault::TooManyFiles);
    let error = reader.next(&mut buf).expect_err("no file handle");
    assert!(error.to_string().contains("00000000000000000000.log"));
    assert_eq!(reader.next(&mut buf).expect("readable"), Some(Item::Record { index: 0 }));
}

#[test]
fn real_files_keep_a_log() {
    let dir = tempfile::tempdir().expect("a directory");
    let options = options(dir.path());
    let id = {
        let (mut writer, log, recovery) = opened(&RealFiles, &options);
        assert!(recovery.created);
        for number in 0..50 {
            append(&mut writer, number, 5_000);
        }
        writer.sync().expect("the disk is well");
        writer.release(20);
        log.log_id()
    };
    let (mut writer, log, recovery) = opened(&RealFiles, &options);
    assert_eq!((log.log_id(), recovery.next, recovery.created), (id, 50, false));
    assert!(recovery.oldest > 0 && recovery.oldest <= 20);
    for (item, bytes) in read_from(&log, recovery.oldest) {
        assert_eq!(bytes, payload(item.next() - 1, 5_000));
    }
    append(&mut writer, 50, 100);
    writer.sync().expect("the disk is well");
    assert_eq!(log.durable(), 51);
}

#[test]
fn a_reader_in_another_thread_sees_all_in_order() {
    const COUNT: u64 = 2_000;
    let dir = tempfile::tempdir().expect("a directory");
    let options = Options { sync: SyncMode::Never, max_bytes: 1 << 30, ..options(dir.path()) };
    let (mut writer, log, _) = opened(&RealFiles, &options);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut reader = log.reader(0);
            let mut buf = Vec::new();
            while reader.position() < COUNT {
                let index = reader.position();
                match reader.next(&mut buf).expect("readable") {
                    Some(item) => {
                        assert_eq!((item, &buf), (Item::Record { index }, &payload(index, 700)));
                    }
                    None => std::thread::yield_now(),
                }
            }
        });
        for number in 0..COUNT {
            append(&mut writer, number, 700);
            if number % 3 == 0 || number + 1 == COUNT {
                writer.sync().expect("the disk is well");
            }
        }
    });
}
