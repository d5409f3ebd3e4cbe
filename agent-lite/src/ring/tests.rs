use std::time::Instant;

use sluice_wire::Category;

use super::*;
use crate::block::{LaneId, Lanes, Settings};
use crate::record::Line;

const PRODUCER: ProducerId = ProducerId([1; 16]);
const DOUBT: Doubt = Doubt { journal: JournalId([9; 16]), since_ms: 77 };

fn lanes() -> (Lanes, LaneId) {
    let mut lanes = Lanes::new(Settings { target_bytes: 1, open_bytes: 1 << 20, ..Settings::for_tests() });
    let lane = lanes.lane(Category::Application, &"ns".into());
    (lanes, lane)
}

/// Blocks of one record each, numbered from 1.
fn blocks(count: u64) -> Vec<Queued> {
    let (mut lanes, lane) = lanes();
    for n in 1..=count {
        let content = format!("line {n}");
        let line = Line {
            time_text: b"2025-10-26T10:15:30Z",
            time: 0,
            content: content.as_bytes(),
            common: b"",
            part: None,
            parsed: None,
        };
        lanes.push(lane, &line, Instant::now());
        lanes.cut_if_full(lane);
    }
    let mut blocks: Vec<Queued> = lanes.queue(lane).drain(..).collect();
    for (block, number) in blocks.iter_mut().zip(1..) {
        block.give_number(BlockId { producer: PRODUCER, number }).unwrap();
    }
    blocks
}

fn numbers(blocks: &[Queued]) -> Vec<u64> {
    blocks.iter().map(|block| block.header.number).collect()
}

fn open(dir: &Path) -> (Ring, Vec<Queued>) {
    Ring::open(dir, 64 << 20).unwrap()
}

#[test]
fn rule_3_what_was_sent_comes_back_byte_for_byte_and_in_doubt() {
    let dir = tempfile::tempdir().unwrap();
    let sent = blocks(3);
    let (mut ring, _) = open(dir.path());
    ring.keep(sent[..2].iter(), &[], DOUBT).unwrap();
    ring.keep(sent[2..].iter(), &[], DOUBT).unwrap();
    drop(ring);

    let (ring, kept) = open(dir.path());
    assert_eq!(ring.len(), 3);
    for (sent, kept) in sent.iter().zip(&kept) {
        assert_eq!((sent.head(), &sent.payload, kept.doubt()), (kept.head(), &kept.payload, Some(DOUBT)));
    }
}

#[test]
fn rule_3_a_number_that_was_refused_is_not_sent_again_beside_its_successor() {
    let dir = tempfile::tempdir().unwrap();
    let sent = blocks(2);
    let (mut ring, _) = open(dir.path());
    ring.keep(sent[..1].iter(), &[], DOUBT).unwrap();
    ring.take_back(&[BlockId { producer: PRODUCER, number: 1 }]).unwrap();
    ring.keep(sent[1..].iter(), &[], DOUBT).unwrap();
    drop(ring);
    assert_eq!(numbers(&open(dir.path()).1), [2]);
}

#[test]
fn what_a_checkpoint_covers_leaves_and_its_room_is_used_again() {
    let dir = tempfile::tempdir().unwrap();
    let sent = blocks(400);
    let (mut ring, _) = Ring::open(dir.path(), 8 << 20).unwrap();
    let large = Bytes::from(vec![7; 100_000]);
    for block in &sent {
        // Far more than fits at once.
        let frame = Block { header: block.header.clone(), payload: large.clone() };
        let frame = Queued::in_doubt(frame, Vec::new(), DOUBT).unwrap();
        ring.keep([&frame].into_iter(), &[], DOUBT).unwrap();
        ring.forget(frame.id());
    }
    assert!(ring.is_empty());
}

#[test]
fn a_full_ring_says_so_and_keeps_what_it_has() {
    let dir = tempfile::tempdir().unwrap();
    let (mut ring, _) = Ring::open(dir.path(), 8 << 20).unwrap();
    let payload = Bytes::from(vec![7; 800_000]);
    let mut kept = 0;
    for block in blocks(40) {
        let frame =
            Queued::in_doubt(Block { header: block.header.clone(), payload: payload.clone() }, Vec::new(), DOUBT)
                .unwrap();
        match ring.keep([&frame].into_iter(), &[], DOUBT) {
            Ok(()) => kept += 1,
            Err(error) => assert!(matches!(error, KeepError::Append(_)), "{error}"),
        }
    }
    assert!(kept > 5 && kept < 40);
    assert_eq!(ring.len(), kept);
}

#[test]
fn a_torn_or_foreign_record_costs_itself_only() {
    let dir = tempfile::tempdir().unwrap();
    let sent = blocks(2);
    let (mut ring, _) = open(dir.path());
    ring.keep(sent[..1].iter(), &[], DOUBT).unwrap();
    for foreign in [&b""[..], b"\x01", b"\x02nonsense", b"\x01\xff\xff", &[1; 40]] {
        ring.writer.append(&[foreign]).unwrap();
    }
    ring.keep(sent[1..].iter(), &[], DOUBT).unwrap();
    drop(ring);
    assert_eq!(numbers(&open(dir.path()).1), [1, 2]);
}

#[test]
fn two_agents_do_not_share_a_ring() {
    let dir = tempfile::tempdir().unwrap();
    let _ring = open(dir.path());
    assert!(matches!(Ring::open(dir.path(), 64 << 20), Err(OpenError::Locked { .. })));
}

#[test]
fn what_is_taken_back_is_written_down_also_where_the_ring_is_full() {
    let dir = tempfile::tempdir().unwrap();
    let (mut ring, _) = Ring::open(dir.path(), 8 << 20).unwrap();
    let mut left = blocks(200).into_iter();
    let mut kept = Vec::new();
    // To the brim: when a large block finds no room, smaller ones do.
    for size in [800_000, 100_000, 10_000, 1_000, 1] {
        let payload = Bytes::from(vec![7; size]);
        let full = |block: Queued| {
            let header = sluice_wire::Header { payload_crc: crc32c::crc32c(&payload), ..block.header.clone() };
            Queued::in_doubt(Block { header, payload: payload.clone() }, Vec::new(), DOUBT).unwrap()
        };
        let blocks = left.by_ref().map(full).take_while(|block| ring.keep([block].into_iter(), &[], DOUBT).is_ok());
        kept.extend(blocks.filter_map(|block| block.id()));
    }
    let last = kept.pop().unwrap();
    ring.take_back(&kept).unwrap();
    drop(ring);
    let left: Vec<_> = Ring::open(dir.path(), 8 << 20).unwrap().1.iter().filter_map(Queued::id).collect();
    assert_eq!(left, [last]);
}

#[test]
fn what_could_not_be_written_down_is_with_the_next_record() {
    let dir = tempfile::tempdir().unwrap();
    let sent = blocks(2);
    let (mut ring, _) = open(dir.path());
    ring.keep(sent[..1].iter(), &[], DOUBT).unwrap();
    ring.owed.extend(sent[0].id());
    ring.keep(sent[1..].iter(), &[], DOUBT).unwrap();
    assert_eq!(ring.len(), 1);
    drop(ring);
    assert_eq!(numbers(&open(dir.path()).1), [2]);
}

#[test]
fn equal_numbers_of_two_producers_are_two_blocks_in_the_order_of_the_log() {
    let dir = tempfile::tempdir().unwrap();
    let older = blocks(2);
    let mut newer = blocks(2);
    for block in &mut newer {
        let number = block.header.number;
        block.renumber();
        block.give_number(BlockId { producer: ProducerId([2; 16]), number }).unwrap();
    }
    let (mut ring, _) = open(dir.path());
    ring.keep(older[1..].iter(), &[], DOUBT).unwrap();
    ring.keep(newer.iter(), &[], DOUBT).unwrap();
    ring.take_back(&[newer[1].id().unwrap()]).unwrap();
    drop(ring);
    let kept: Vec<_> = open(dir.path()).1.iter().filter_map(Queued::id).collect();
    assert_eq!(kept, [older[1].id().unwrap(), newer[0].id().unwrap()]);
}
