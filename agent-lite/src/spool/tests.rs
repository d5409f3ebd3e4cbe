use std::time::Instant;

use sluice_wire::Stream;

use super::*;
use crate::block::{Lanes, Portion, Progress, Settings};
use crate::record::Line;

const SOURCE: u64 = 7;
const ROOM: u64 = 16 << 20;

/// Blocks of one line each, `length` bytes long, of one source.
fn blocks(count: u64, length: usize) -> Vec<Queued> {
    let mut lanes = Lanes::new(Settings { target_bytes: 1, open_bytes: 1 << 20, ..Settings::for_tests() });
    let lane = lanes.lane(Category::Application, &"ns".into());
    let mut progress = Progress::default();
    for n in 1..=count {
        let content: String = (0..length.max(1)).map(|_| char::from(rand::random_range(b'!'..=b'~'))).collect();
        let line = Line {
            time_text: b"2025-10-26T10:15:30Z",
            time: 0,
            content: content.as_bytes(),
            common: b"",
            part: None,
            parsed: None,
        };
        lanes.push(lane, &line, Instant::now());
        lanes.cover(lane, SOURCE, Stream::Stdout, &mut progress, 10 * n, Portion::of(10));
        lanes.cut_if_full(lane);
    }
    lanes.queue(lane).drain(..).collect()
}

fn keep(spool: &mut Spool, blocks: &[Queued]) -> Vec<u64> {
    blocks.iter().map(|block| spool.keep(&[block]).unwrap().unwrap()).collect()
}

fn ends(left: &Left) -> Vec<u64> {
    left.blocks.iter().map(|found| found.shares[0].0.end).collect()
}

#[test]
fn what_was_kept_comes_back_after_a_restart_without_a_number() {
    let dir = tempfile::tempdir().unwrap();
    let mut cut = blocks(3, 1);
    cut[1].give_number(sluice_wire::BlockId { producer: ProducerId([1; 16]), number: 5 }).unwrap();
    cut[1].renumber();
    let records = keep(&mut Spool::open(dir.path(), ROOM).unwrap().0, &cut);
    let (mut spool, left) = Spool::open(dir.path(), ROOM).unwrap();
    assert_eq!((ends(&left), left.damaged, spool.len()), (vec![10, 20, 30], 0, 3));
    for (found, (block, record)) in left.blocks.iter().zip(cut.iter().zip(records)) {
        assert_eq!((found.record, &*found.scope, found.records), (record, "ns", 1));
        assert_eq!(found.shares, block.shares().map(|(position, bytes)| (*position, bytes)).collect::<Vec<_>>());
        let Unspooled::Blocks(loaded) = spool.load(record) else { panic!("{record} is there") };
        assert_eq!((loaded[0].id(), loaded[0].header.number, loaded[0].record()), (None, 0, Some(record)));
        assert_eq!(loaded[0].header.lane.producer, ProducerId([0; 16]));
        assert_eq!(loaded[0].payload, block.payload);
    }
}

#[test]
fn what_is_let_go_stays_gone_also_where_its_segment_stays() {
    let dir = tempfile::tempdir().unwrap();
    let (mut spool, _) = Spool::open(dir.path(), ROOM).unwrap();
    let records = keep(&mut spool, &blocks(3, 1));
    spool.release([records[1]]);
    assert!(spool.bytes() > 0);
    drop(spool);
    let (mut spool, left) = Spool::open(dir.path(), ROOM).unwrap();
    assert_eq!(ends(&left), [10, 30]);
    spool.release([records[0], records[2]]);
    assert_eq!((spool.len(), spool.bytes()), (0, 0));
    drop(spool);
    assert_eq!(ends(&Spool::open(dir.path(), ROOM).unwrap().1), [0; 0]);
}

#[test]
fn blocks_come_in_the_order_in_which_they_were_cut() {
    let dir = tempfile::tempdir().unwrap();
    let cut = blocks(3, 1);
    let (mut spool, _) = Spool::open(dir.path(), ROOM).unwrap();
    keep(&mut spool, &cut[1..]);
    // Refused, and so put here late.
    keep(&mut spool, &cut[..1]);
    drop(spool);
    assert_eq!(ends(&Spool::open(dir.path(), ROOM).unwrap().1), [10, 20, 30]);
}

#[test]
fn a_full_spool_says_so_and_has_room_again_once_blocks_go() {
    let dir = tempfile::tempdir().unwrap();
    let (mut spool, _) = Spool::open(dir.path(), 8 << 20).unwrap();
    let mut records = Vec::new();
    for block in blocks(120, 150_000) {
        match spool.keep(&[&block]) {
            Ok(record) => records.extend(record),
            Err(error) => {
                assert!(matches!(error, KeepError::Append(AppendError::Full { .. })), "{error}");
                break;
            }
        }
    }
    assert!(records.len() > 20 && records.len() < 120 && !spool.has_room());
    spool.release(records);
    assert!(spool.has_room());
    assert!(spool.log.size_bytes() <= SEGMENT);
}

#[test]
fn a_record_that_cannot_be_made_out_costs_itself_only() {
    let dir = tempfile::tempdir().unwrap();
    let cut = blocks(2, 1);
    let (mut spool, _) = Spool::open(dir.path(), ROOM).unwrap();
    keep(&mut spool, &cut[..1]);
    for foreign in [&b""[..], b"\x01", b"\x01\x01", b"\x02nonsense", b"\x01\x02odd", &[1; 40]] {
        spool.writer.append(&[foreign]).unwrap();
    }
    keep(&mut spool, &cut[1..]);
    assert!(matches!(spool.load(1), Unspooled::Lost));
    drop(spool);
    let left = Spool::open(dir.path(), ROOM).unwrap().1;
    assert_eq!((ends(&left), left.damaged), (vec![10, 20], 6));
}

#[test]
fn two_agents_do_not_share_a_spool() {
    let dir = tempfile::tempdir().unwrap();
    let _spool = Spool::open(dir.path(), ROOM).unwrap();
    assert!(matches!(Spool::open(dir.path(), ROOM), Err(OpenError::Locked { .. })));
}
