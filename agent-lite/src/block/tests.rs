use super::lane::WIDEN_AFTER;
use super::*;
use crate::parse::message::{Parsed, Parser, TimeContext};
use proptest::prelude::*;
use sluice_wire::payload::{Checker, Depth};
use sluice_wire::{BlockId, Category};

const TIME: &[u8] = b"2025-10-26T10:15:30Z";

fn settings() -> Settings {
    Settings {
        target_bytes: 10_000,
        open_bytes: 40_000,
        queued_bytes: 1_000_000,
        lane_queued_bytes: 100_000,
        ..Settings::for_tests()
    }
}

fn line(content: &[u8]) -> Line<'_> {
    Line {
        time_text: TIME,
        time: sluice_wire::time::parse(TIME).unwrap(),
        content,
        common: b",\"cluster\":\"c\"",
        part: None,
        parsed: None,
    }
}

fn lines_of(block: &Queued) -> Vec<String> {
    let mut checker = Checker::default();
    let raw = checker.check(&block.header, &block.payload, Depth::Json).unwrap();
    String::from_utf8(raw.to_vec()).unwrap().lines().map(str::to_owned).collect()
}

struct Source {
    progress: Progress,
    offset: u64,
}

impl Source {
    fn new() -> Self {
        Self { progress: Progress::default(), offset: 0 }
    }

    fn push(&mut self, lanes: &mut Lanes, lane: LaneId, content: &[u8], now: Instant) {
        self.offset += content.len() as u64 + 1;
        lanes.push(lane, &line(content), now);
        lanes.cover(lane, 7, Stream::Stdout, &mut self.progress, self.offset, Portion::of(1));
        lanes.cut_if_full(lane);
    }
}

#[test]
fn a_block_is_cut_at_its_size_and_covers_what_it_holds() {
    let (mut lanes, now) = (Lanes::new(settings()), Instant::now());
    let lane = lanes.lane(Category::Application, &"ns".into());
    let mut source = Source::new();
    for _ in 0..300 {
        source.push(&mut lanes, lane, &[b'x'; 100], now);
    }
    lanes.cut_all();
    let blocks = lanes.queue(lane).clone();
    assert!(blocks.len() > 3);
    assert_eq!(blocks.iter().map(|block| lines_of(block).len()).sum::<usize>(), 300);
    let mut covered = 0;
    for block in &blocks {
        assert_eq!(block.header.positions.len(), 1);
        assert_eq!(block.header.positions[0].start, covered);
        covered = block.header.positions[0].end;
    }
    assert_eq!(covered, source.offset);
}

#[test]
fn a_block_of_parsed_times_says_those_of_its_records() {
    let (mut lanes, now) = (Lanes::new(settings()), Instant::now());
    let lane = lanes.lane(Category::Host, &"unit".into());
    let own = sluice_wire::time::parse(TIME).unwrap();
    let context = TimeContext { now: own, zone: jiff::tz::TimeZone::UTC };
    let mut parsed = Parsed::default();
    // The first and the last are neither first nor last to come, and one is too far ahead.
    for time in ["10:16:00Z", "10:00:00Z", "10:20:00Z", "12:00:00Z", "10:18:00Z"] {
        let content = format!("time=2025-10-26T{time} msg=m");
        assert!(Parser::Logfmt.parse(&content, &context, &mut parsed));
        lanes.push(lane, &Line { parsed: Some(&parsed), ..line(content.as_bytes()) }, now);
    }
    lanes.cut_all();
    let block = lanes.queue(lane)[0].clone();
    let text = |nanos| {
        let mut text = Vec::new();
        sluice_wire::time::write(nanos, &mut text);
        String::from_utf8(text).unwrap()
    };
    let header = &block.header;
    assert_eq!(text(header.first_time), "2025-10-26T10:00:00.000000000Z");
    assert_eq!(text(header.last_time), "2025-10-26T10:20:00.000000000Z");
    // The gateway looks whether that is so.
    assert_eq!(lines_of(&block).len(), 5);
}

#[test]
fn a_lane_that_is_due_takes_those_past_half_their_age_along() {
    let (mut lanes, start) = (Lanes::new(settings()), Instant::now());
    let ids = ["old", "half", "young"].map(|scope| lanes.lane(Category::Application, &scope.into()));
    for (id, ms) in ids.into_iter().zip([0, 400, 700]) {
        lanes.push(id, &line(b"x"), start + Duration::from_millis(ms));
    }
    lanes.cut_due(start + Duration::from_millis(999));
    assert!(lanes.sendable().next().is_none());
    lanes.cut_due(start + Duration::from_millis(1000));
    assert_eq!(lanes.sendable().collect::<Vec<_>>(), ids[..2]);
    assert_eq!(lanes.next_due(), Some(start + Duration::from_millis(1700)));
}

#[test]
fn past_the_shared_budget_the_largest_is_cut() {
    let (mut lanes, now) = (Lanes::new(Settings { target_bytes: 100_000, ..settings() }), Instant::now());
    let small = lanes.lane(Category::Application, &"small".into());
    let large = lanes.lane(Category::Application, &"large".into());
    lanes.push(small, &line(b"x"), now);
    while lanes.queue(large).is_empty() {
        lanes.push(large, &line(&[b'x'; 500]), now);
        lanes.cut_if_full(large);
    }
    assert!(lanes.queue(small).is_empty());
    assert!(lanes.held_bytes().0 < 1_000);
}

#[test]
fn a_paused_lane_takes_no_records_and_its_neighbours_do() {
    let (mut lanes, now) = (Lanes::new(settings()), Instant::now());
    let [a, b] = ["a", "b"].map(|scope| lanes.lane(Category::Application, &scope.into()));
    lanes.pause(a, now + Duration::from_secs(1));
    assert!(!lanes.takes_records(a) && lanes.takes_records(b));
    lanes.resume(now);
    assert!(!lanes.takes_records(a));
    lanes.resume(now + Duration::from_secs(1));
    assert!(lanes.takes_records(a));
}

#[test]
fn lanes_that_hold_all_there_is_room_for_leave_a_silent_one_its_block() {
    let (mut lanes, now) = (Lanes::new(Settings { queued_bytes: 2_000, ..settings() }), Instant::now());
    let [held, free] = ["held", "free"].map(|scope| lanes.lane(Category::Application, &scope.into()));
    let mut source = Source::new();
    while lanes.held_bytes().1 < 2_000 {
        let content: Vec<u8> = (0..900_u64).map(|n| b'a' + ((n * source.offset.max(7)) % 23) as u8).collect();
        source.push(&mut lanes, held, &content, now);
    }
    assert!(!lanes.takes_records(held) && lanes.takes_records(free));
    lanes.push(free, &line(b"x"), now);
    lanes.cut_all();
    assert!(!lanes.takes_records(free));
}

#[test]
fn a_lane_at_its_limit_holds_no_more_than_it_can_soon_send() {
    let (mut lanes, now) = (Lanes::new(settings()), Instant::now());
    let lane = lanes.lane(Category::Application, &"a".into());
    lanes.narrow(lane);
    let mut source = Source::new();
    while lanes.takes_records(lane) {
        source.push(&mut lanes, lane, &[b'x'; 5_000], now);
    }
    assert_eq!(lanes.queue(lane).len(), 2);
    for _ in 0..WIDEN_AFTER {
        lanes.widen(lane);
    }
    assert!(lanes.takes_records(lane));
}

#[test]
fn a_split_keeps_every_line_and_covers_with_its_last_piece() {
    let (mut lanes, now) = (Lanes::new(settings()), Instant::now());
    let lane = lanes.lane(Category::Application, &"ns".into());
    let mut source = Source::new();
    (0..50).for_each(|n| source.push(&mut lanes, lane, format!("line {n}").as_bytes(), now));
    lanes.cut_all();
    let whole = lines_of(&lanes.queue(lane)[0]);
    let positions = lanes.queue(lane)[0].header.positions.clone();

    let pieces = lanes.split(lane, 0, 500);
    assert!(pieces > 1);
    let queue = lanes.queue(lane).clone();
    assert_eq!(queue.iter().flat_map(lines_of).collect::<Vec<_>>(), whole);
    assert!(queue.iter().all(|piece| piece.header.raw_len <= 500));
    assert!(queue.iter().take(pieces - 1).all(|piece| piece.header.positions.is_empty()));
    assert_eq!(queue[pieces - 1].header.positions, positions);
    // From now on blocks are formed below the limit.
    source.push(&mut lanes, lane, &[b'x'; 600], now);
    assert_eq!(lanes.queue(lane).len(), pieces + 1);
    // One record cannot be cut.
    assert_eq!(lanes.split(lane, pieces, 10), 1);
}

#[test]
fn lanes_that_come_and_go_leave_nothing() {
    let (mut lanes, now) = (Lanes::new(settings()), Instant::now());
    let kept = lanes.lane(Category::Application, &"kept".into());
    lanes.hold(kept);
    let mut seen = std::collections::HashSet::new();
    for n in 0..10_000 {
        let lane = lanes.lane(Category::Application, &format!("ns-{n}").into());
        assert!(seen.insert(lane), "an id is one lane's");
        lanes.hold(lane);
        Source::new().push(&mut lanes, lane, b"x", now);
        lanes.let_go(lane);
        lanes.cut_all();
        if n % 10 == 9 {
            let sendable: Vec<LaneId> = lanes.sendable().collect();
            assert_eq!(sendable.len(), 10, "what is not decided stays");
            for lane in sendable {
                lanes.remove(lane, 0);
            }
        }
        lanes.forget_unused();
    }
    assert_eq!((lanes.count(), lanes.lanes.iter().count()), (1, 11));
    assert_eq!(lanes.lane(Category::Application, &"kept".into()), kept);
}

#[test]
fn a_lane_is_not_forgotten_while_it_is_used() {
    let (mut lanes, now) = (Lanes::new(settings()), Instant::now());
    let lane = lanes.lane(Category::Host, &"unit".into());
    Source::new().push(&mut lanes, lane, b"x", now);
    let is_there = |lanes: &mut Lanes| {
        lanes.forget_unused();
        lanes.count() == 1
    };
    assert!(is_there(&mut lanes), "open");
    lanes.cut_all();
    assert!(is_there(&mut lanes), "queued");
    lanes.depart(lane, 1);
    lanes.remove(lane, 0);
    assert!(is_there(&mut lanes), "under way");
    lanes.arrive(lane);
    lanes.pause(lane, now);
    assert!(is_there(&mut lanes), "paused");
    lanes.resume(now);
    lanes.hold(lane);
    lanes.hold(lane);
    lanes.let_go(lane);
    assert!(is_there(&mut lanes), "followed");
    let stub = Stub { record: 1, records: 1, without: Box::default() };
    lanes.restore_stub((Category::Host, &"unit".into()), stub, std::iter::empty());
    lanes.let_go(lane);
    assert!(is_there(&mut lanes), "spooled");
    assert_eq!(lanes.unspool(|_| Unspooled::Lost), 1);
    assert!(!is_there(&mut lanes));
}

proptest! {
    /// Whatever is pushed, blocks keep within the wire's limits and a gateway's check passes.
    #[test]
    fn every_block_passes_the_gateways_check(contents in prop::collection::vec((any::<u8>(), 0_usize..MAX_CONTENT), 1..12)) {
        let (mut lanes, now) = (Lanes::new(Settings { target_bytes: 192 * 1024, open_bytes: 6 << 20, ..settings() }), Instant::now());
        let lane = lanes.lane(Category::Application, &"ns".into());
        let mut source = Source::new();
        for (byte, length) in contents {
            source.push(&mut lanes, lane, &vec![byte; length], now);
        }
        lanes.cut_all();
        for block in lanes.queue(lane).iter() {
            let mut out = Vec::new();
            block.write(&mut out).unwrap();
            prop_assert!(Block::read(&out.into()).is_ok());
            lines_of(block);
        }
    }
}

use sluice_wire::Block;

#[test]
fn a_block_with_a_number_that_no_ring_has_goes_to_the_spool_as_well() {
    let (mut lanes, now) = (Lanes::new(settings()), Instant::now());
    let lane = lanes.lane(Category::Application, &"ns".into());
    let mut source = Source::new();
    for number in 1..=3 {
        source.push(&mut lanes, lane, b"gone", now);
        lanes.cut_all();
        let block = lanes.queue(lane).back_mut().unwrap();
        if number < 3 {
            block.give_number(BlockId { producer: ProducerId([1; 16]), number }).unwrap();
        }
        if number == 1 {
            block.enter_ring();
        }
    }
    lanes.note_gone(&std::collections::HashSet::new());
    let mut kept = Vec::new();
    let written = lanes.spool(|blocks| {
        kept.extend(blocks.iter().map(|block| block.header.positions[0].end));
        Ok::<_, ()>(Some(kept.len() as u64))
    });
    assert_eq!((written, kept), (Ok(2), vec![10, 15]), "the full ring has the first one only");
}
