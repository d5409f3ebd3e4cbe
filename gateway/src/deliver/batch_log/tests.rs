use proptest::prelude::*;
use sluice_durable_log::io::{Fault, FaultyFiles, Op};

use super::*;
use crate::deliver::tests::entry;

fn batch(first: u64, members: u64) -> Batch {
    let positions = (first..first + members).map(|index| Position { partition: 0, index }).collect();
    Batch::new(positions, (first..first + members).map(|number| entry("team-a", number)).collect())
}

fn open(files: &Arc<FaultyFiles>) -> (BatchLog, Vec<Batch>) {
    open_of(files, JournalId([7; 16]))
}

fn open_of(files: &Arc<FaultyFiles>, journal: JournalId) -> (BatchLog, Vec<Batch>) {
    BatchLog::open(Arc::clone(files) as Arc<dyn Files>, "/batches".as_ref(), journal).unwrap()
}

fn fields(batch: &Batch) -> (BatchId, &str, Encoding, u64, i64, &[Position]) {
    (batch.id, &batch.tenant, batch.encoding, batch.records, batch.first_time, &batch.members)
}

#[test]
fn batches_that_are_not_settled_come_back_as_they_were() {
    let files = Arc::new(FaultyFiles::new());
    let (mut log, _) = open(&files);
    let batches = [batch(0, 3), batch(3, 1), batch(4, 2)];
    log.record(&batches.iter().collect::<Vec<_>>()).unwrap();
    log.settle(&[batches[1].id]);
    log.sync().unwrap();
    files.crash(3);
    drop(log);
    let (_, found) = open(&files);
    assert_eq!(found.iter().map(fields).collect::<Vec<_>>(), [fields(&batches[0]), fields(&batches[2])]);
    assert!(found.iter().all(|batch| batch.recorded && batch.entries.is_empty()));
}

#[test]
fn the_last_record_of_a_batch_counts() {
    let files = Arc::new(FaultyFiles::new());
    let (mut log, _) = open(&files);
    let mut moved = batch(0, 2);
    log.record(&[&moved]).unwrap();
    moved.members[1].partition = PARKED;
    log.record(&[&moved]).unwrap();
    drop(log);
    let (_, found) = open(&files);
    assert_eq!(found.iter().map(fields).collect::<Vec<_>>(), [fields(&moved)]);
}

/// Their members' indexes are those of other entries in this one.
#[test]
fn batches_of_another_journal_are_set_aside_but_for_those_that_are_parked_as_a_whole() {
    let files = Arc::new(FaultyFiles::new());
    let (mut log, _) = open(&files);
    let in_journal = batch(0, 2);
    let mut mixed = batch(2, 2);
    mixed.members[0].partition = PARKED;
    let mut parked = batch(4, 2);
    parked.members.iter_mut().for_each(|member| member.partition = PARKED);
    log.record(&[&in_journal, &mixed, &parked]).unwrap();
    drop(log);
    let (log, found) = open_of(&files, JournalId([8; 16]));
    assert_eq!(found.iter().map(fields).collect::<Vec<_>>(), [fields(&parked)]);
    assert_eq!(log.foreign(), 2);
}

#[test]
fn the_log_does_not_grow_with_the_number_of_batches() {
    let files = Arc::new(FaultyFiles::new());
    let (mut log, _) = open(&files);
    for round in 0..400 {
        let large = Batch { members: vec![Position { partition: 0, index: round }; 10_000], ..batch(round, 1) };
        log.record(&[&large]).unwrap();
        log.settle(&[large.id]);
    }
    drop(log);
    let bytes: usize = files.paths().iter().filter_map(|path| files.contents(path)).map(|bytes| bytes.len()).sum();
    assert!(bytes < 16 << 20, "{bytes}");
}

/// The batch of a tenant that is held lives for days, while others come and go.
#[test]
fn a_batch_that_is_not_settled_does_not_keep_the_log_of_all_others() {
    let files = Arc::new(FaultyFiles::new());
    let (mut log, _) = open(&files);
    let held = [batch(0, 3), batch(3, 1)];
    log.record(&held.iter().collect::<Vec<_>>()).unwrap();
    for round in 0..800 {
        let large = Batch { members: vec![Position { partition: 0, index: round }; 10_000], ..batch(round, 1) };
        log.record(&[&large]).unwrap();
        log.settle(&[large.id]);
    }
    log.sync().unwrap();
    files.crash(3);
    drop(log);
    let bytes: usize = files.paths().iter().filter_map(|path| files.contents(path)).map(|bytes| bytes.len()).sum();
    assert!(bytes < 48 << 20, "{bytes}");
    let (_, found) = open(&files);
    assert_eq!(found.iter().map(fields).collect::<Vec<_>>(), held.iter().map(fields).collect::<Vec<_>>());
}

#[test]
fn a_record_that_failed_can_be_written_again() {
    let files = Arc::new(FaultyFiles::new());
    let (mut log, _) = open(&files);
    let batch = batch(0, 1);
    files.fail(Op::SyncData, 0, Fault::Io);
    assert!(log.record(&[&batch]).is_err());
    log.record(&[&batch]).unwrap();
    drop(log);
    assert_eq!(open(&files).1.len(), 1);
}

proptest! {
    #[test]
    fn any_bytes_are_looked_at_without_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..200), kind in 0_u8..4) {
        let mut bytes = bytes;
        bytes.splice(0..0, [VERSION, kind]);
        let _ = decode(&bytes);
    }
}
