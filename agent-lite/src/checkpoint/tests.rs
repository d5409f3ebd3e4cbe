use std::collections::HashMap;

use sluice_wire::{Position, Stream};

use super::positions::{FORGET_AFTER, MAX_MISSED};
use super::*;
use crate::block::Portion;
use crate::tail::{Known as _, LeftBehind, Missed, Reached, Sighting};

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
        assert!(positions.forget_unseen(std::iter::empty(), |_| false).is_empty());
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

/// What is known of a file that was met, `written` bytes long.
fn meet(positions: &mut Positions, source: u64, log: &Arc<str>, written: u64) {
    let (books, path) = ("application/ns".into(), Path::new(&**log));
    let (fingerprint, reached) = (0, Reached::default());
    let sighting = Sighting { source, log, books: &books, path, size: written, complete: false, fingerprint, reached };
    positions.sight([sighting].into_iter());
}

fn looks(positions: &mut Positions, times: u32, may_come: impl Fn(&Missed<'_>) -> bool) -> Vec<LeftBehind> {
    (0..times).flat_map(|_| positions.forget_unseen(std::iter::empty(), &may_come)).collect()
}

#[test]
fn what_cannot_be_looked_at_keeps_its_position_until_it_was_looked_for_in_vain() {
    let mut positions = Positions::default();
    let logs: [Arc<str>; 2] = ["/hidden/0.log".into(), "/gone/0.log".into()];
    for (source, log) in [1, 2].into_iter().zip(&logs) {
        meet(&mut positions, source, log, 100);
        positions.acknowledge(shares(&[stored(source, 100)]));
    }
    looks(&mut positions, 3 * FORGET_AFTER, |missed| missed.path == Path::new("/hidden/0.log"));
    assert_eq!([1, 2].map(|source| positions.acknowledged(source, Stream::Stdout)), [100, 0]);
    let mut nothing = looks(&mut positions, FORGET_AFTER, |_| false);
    assert_eq!((positions.acknowledged(1, Stream::Stdout), nothing.pop().is_none()), (0, true));
}

#[test]
fn of_too_many_that_cannot_be_looked_at_the_oldest_are_forgotten_first() {
    let mut positions = Positions::default();
    let log: Arc<str> = "/hidden/0.log".into();
    let last = MAX_MISSED as u64;
    for source in 1..=last {
        meet(&mut positions, source, &log, 0);
        positions.settle(source, Stream::Stdout, 7);
        if source == 3 {
            looks(&mut positions, 1, |_| true);
        }
    }
    // The first three are a look older than the rest.
    let kept =
        |positions: &Positions| (1..=last + 2).filter(|id| positions.acknowledged(*id, Stream::Stdout) > 0).count();
    looks(&mut positions, 2 * FORGET_AFTER, |_| true);
    assert_eq!(kept(&positions), MAX_MISSED);
    for source in [last + 1, last + 2] {
        meet(&mut positions, source, &log, 0);
        positions.settle(source, Stream::Stdout, 7);
    }
    looks(&mut positions, 2 * FORGET_AFTER, |_| true);
    assert_eq!(kept(&positions), MAX_MISSED);
    let young = (4..=last + 2).all(|id| positions.acknowledged(id, Stream::Stdout) > 0);
    assert!(young, "two of the three oldest are forgotten");
}

#[test]
fn what_was_not_read_to_its_end_and_is_gone_is_given_once_and_leaves_books_that_balance() {
    let mut positions = Positions::default();
    let log: Arc<str> = "/var/log/x".into();
    meet(&mut positions, 1, &log, 100);
    positions.acknowledge(shares(&[stored(1, 60)]));
    // The next run does not meet it.
    let mut positions = positions.without_ring();
    let unread = |positions: &Positions| {
        let pages = crate::books::close(positions, std::iter::empty(), std::iter::empty());
        (pages[0].unread, pages[0].imbalance)
    };
    assert_eq!(unread(&positions), (40, 0));
    let gone = looks(&mut positions, FORGET_AFTER + 1, |_| false);
    assert_eq!(gone.iter().map(|lost| (lost.source, lost.written)).collect::<Vec<_>>(), [(1, 100)]);
    assert_eq!(unread(&positions), (40, 0));
    // Nobody could tell of it.
    assert!(looks(&mut positions, 100, |_| false).is_empty());
    assert_eq!((unread(&positions), positions.acknowledged(1, Stream::Stdout)), ((0, 0), 0));
    let (_, account) = &positions.accounts()[&log];
    assert_eq!(account.abandoned[&crate::tail::Abandoned::Vanished], 40);
}
