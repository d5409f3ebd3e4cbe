use std::collections::HashMap;

use sluice_wire::{Position, Stream};

use super::positions::FORGET_AFTER;
use super::*;
use crate::block::Portion;
use crate::tail::{Known as _, Reached, Sighting};

fn stored(source: u64, end: u64) -> Position {
    Position { source, stream: Stream::Stdout, start: 0, end }
}

/// As many bytes as it covers.
fn shares(positions: &[Position]) -> impl Iterator<Item = (&Position, Portion)> + Clone {
    positions.iter().map(|position| (position, Portion::of(position.end - position.start)))
}

fn after_a_run(dir: &Path, clean: bool) -> Numbers {
    let store = Store::on_boot(dir, "boot-1");
    let mut loaded = store.load();
    let first = Snapshot::take(loaded.numbers, &loaded.positions, Some(5), false);
    store.write(&first).unwrap();
    loaded.numbers.reserved(&first);
    loaded.positions.acknowledge(shares(&[stored(7, 100)]));
    for _ in 0..10 {
        loaded.numbers.take();
    }
    store.write(&Snapshot::take(loaded.numbers, &loaded.positions, Some(5), clean)).unwrap();
    loaded.numbers
}

#[test]
fn a_node_that_was_never_seen_is_a_first_run() {
    let dir = tempfile::tempdir().unwrap();
    let loaded = Store::on_boot(dir.path(), "boot-1").load();
    assert!(loaded.first_run && loaded.renewed.is_none());
}

#[test]
fn what_was_written_is_read_again() {
    let dir = tempfile::tempdir().unwrap();
    let before = after_a_run(dir.path(), false);
    let loaded = Store::on_boot(dir.path(), "boot-1").load();
    assert!(!loaded.first_run);
    assert_eq!(loaded.renewed, None);
    assert_eq!(loaded.numbers.producer, before.producer);
    assert_eq!(loaded.positions.acknowledged(7, Stream::Stdout), 100);
    assert_eq!(loaded.positions.acknowledged(7, Stream::Stderr), 0);
    assert_eq!(loaded.since, Some(5));
}

#[test]
fn rule_1_a_reboot_without_a_clean_end_makes_a_new_producer() {
    let dir = tempfile::tempdir().unwrap();
    let before = after_a_run(dir.path(), false);
    let loaded = Store::on_boot(dir.path(), "boot-2").load();
    assert_eq!(loaded.renewed, Some(Renewed::Rebooted));
    assert_ne!(loaded.numbers.producer, before.producer);
    // What is stored is stored.
    assert_eq!(loaded.positions.acknowledged(7, Stream::Stdout), 100);
}

#[test]
fn a_reboot_after_a_clean_end_keeps_the_producer() {
    let dir = tempfile::tempdir().unwrap();
    let before = after_a_run(dir.path(), true);
    let loaded = Store::on_boot(dir.path(), "boot-2").load();
    assert_eq!((loaded.renewed, loaded.numbers.producer), (None, before.producer));
}

#[test]
fn rule_1_a_damaged_checkpoint_is_said_and_makes_a_new_producer_that_reads_everything() {
    let dir = tempfile::tempdir().unwrap();
    let before = after_a_run(dir.path(), false);
    let path = dir.path().join(FILE);
    let bytes = fs::read(&path).unwrap();
    for at in 0..bytes.len() {
        for damage in [Some(bytes[at] ^ 1), None] {
            let mut damaged = bytes.clone();
            match damage {
                Some(byte) => damaged[at] = byte,
                None => damaged.truncate(at),
            }
            fs::write(&path, &damaged).unwrap();
            let loaded = Store::on_boot(dir.path(), "boot-1").load();
            assert_eq!(loaded.renewed, Some(Renewed::Damaged), "byte {at}, {damage:?}");
            assert!(!loaded.first_run, "first_start is for nodes never seen");
            assert_ne!(loaded.numbers.producer, before.producer);
            assert_eq!(loaded.positions.acknowledged(7, Stream::Stdout), 0);
            assert_eq!(fs::read(dir.path().join("checkpoint.json.damaged")).unwrap(), damaged);
        }
    }
}

#[test]
fn rule_2_no_number_is_used_twice_over_restarts() {
    let dir = tempfile::tempdir().unwrap();
    let mut used = HashMap::new();
    for run in 0..5 {
        let store = Store::on_boot(dir.path(), "boot-1");
        let mut loaded = store.load();
        let snapshot = Snapshot::take(loaded.numbers, &loaded.positions, None, false);
        store.write(&snapshot).unwrap();
        loaded.numbers.reserved(&snapshot);
        // Then it is killed: none of these uses is written down.
        for _ in 0..1000 {
            let name = loaded.numbers.take();
            assert_eq!(used.insert(name, run), None, "{name:?} was used in an earlier run");
        }
    }
    assert_eq!(used.keys().map(|id| id.producer).collect::<std::collections::HashSet<_>>().len(), 1);
}

#[test]
fn rule_2_without_a_durable_reservation_the_producer_is_one_that_nobody_comes_back_as() {
    let dir = tempfile::tempdir().unwrap();
    let written = after_a_run(dir.path(), false);
    let mut unreserved = Store::on_boot(dir.path(), "boot-1").load().numbers;
    let producer = unreserved.take().producer;
    assert_ne!(producer, written.producer);
    // A checkpoint of the written producer that completes late reserves nothing for the new one.
    let late = Snapshot::take(written, &Positions::default(), None, false);
    let before = unreserved;
    unreserved.reserved(&late);
    assert_eq!(unreserved, before);
}

#[test]
fn the_ring_extends_only_what_it_follows_on() {
    let mut positions = Positions::default();
    positions.acknowledge(shares(&[stored(1, 100)]));
    let block = |start, end| [Position { source: 1, stream: Stream::Stdout, start, end }];
    assert!(positions.extend_by_ring(shares(&block(100, 200))));
    assert!(!positions.extend_by_ring(shares(&block(250, 300))), "200..250 would be lost");
    assert_eq!(positions.covered(1, Stream::Stdout), 200);
    assert_eq!(positions.acknowledged(1, Stream::Stdout), 100);
    assert!(
        positions.are_stored(&block(0, 100)) && !positions.are_stored(&block(0, 101)) && !positions.are_stored(&[])
    );
}

#[test]
fn a_source_that_is_long_gone_is_forgotten() {
    let mut positions = Positions::default();
    positions.acknowledge(shares(&[stored(1, 100), stored(2, 100)]));
    let (log, books) = ("/var/log/pods/a/0.log".into(), "application/ns".into());
    let path = Path::new("/var/log/pods/a/0.log");
    for _ in 0..=FORGET_AFTER {
        let (fingerprint, reached) = (0, Reached::default());
        let sighting =
            Sighting { source: 2, log: &log, books: &books, path, size: 100, complete: false, fingerprint, reached };
        positions.sight([sighting].into_iter());
        positions.forget_unseen(std::iter::empty());
    }
    assert_eq!(positions.acknowledged(1, Stream::Stdout), 0);
    assert_eq!(positions.acknowledged(2, Stream::Stdout), 100);
}

#[test]
fn two_positions_of_one_stream_in_one_block_follow_on_one_another() {
    let mut positions = Positions::default();
    let position = |start, end| Position { source: 1, stream: Stream::Whole, start, end };
    assert!(positions.extend_by_ring(shares(&[position(0, 1), position(1, 2)])));
    assert!(!positions.extend_by_ring(shares(&[position(2, 3), position(4, 5)])), "3 to 4 would be missing");
    assert_eq!(positions.covered(1, Stream::Whole), 2);
}
