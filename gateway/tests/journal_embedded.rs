//! The embedded journal against a disk that fails, and the rules of "once" that it upholds.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking, in its helpers too")]

mod journal_support;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use journal_support::{Disk, entry, entry_for, indexes, metrics, next};
use sluice_durable_log::io::{Fault, FaultyFiles, Op};
use sluice_gateway::journal::{Appended, Embedded, Event, Journal as _, Outcome, PARKED, Position, Subscription as _};

/// The first of them was stored, and where.
fn stored(answers: &[Appended]) -> Vec<u64> {
    let stored = answers.iter().filter_map(|answer| match answer {
        Appended::Stored(position) => Some(position.index),
        _ => None,
    });
    stored.collect()
}

#[tokio::test]
async fn entries_come_out_as_they_went_in() {
    let disk = Disk::new();
    let journal = disk.open();
    let mut subscription = journal.subscribe("logs").unwrap();
    let entries: Vec<_> = (1..=3).map(|number| entry("a", number)).collect();
    assert_eq!(stored(&journal.append(entries.clone()).await), [0, 1, 2]);
    for (index, entry) in (0..).zip(entries) {
        let position = Position { partition: 0, index };
        assert_eq!(next(&mut subscription).await, Event::Entry(position, entry.clone()));
        assert_eq!(subscription.read(position).unwrap(), entry);
    }
}

#[tokio::test]
async fn rule_5_a_number_that_is_not_above_its_lanes_highest_is_a_duplicate() {
    let disk = Disk::new();
    let journal = disk.open();
    let answers = journal.append(vec![entry("a", 5), entry("b", 1), entry("a", 5), entry("a", 4), entry("a", 6)]).await;
    assert_eq!(answers[2..4], [Appended::Duplicate, Appended::Duplicate]);
    assert_eq!(stored(&answers), [0, 1, 2]);
    drop(journal);
    let journal = disk.open();
    assert_eq!(journal.append(vec![entry("a", 6)]).await, [Appended::Duplicate]);
}

#[tokio::test]
async fn rule_5_a_lane_is_forgotten_by_the_logs_time_alone() {
    let disk = Disk::new();
    let journal = disk.open();
    let hour = 3_600_000_000_000;
    let at = |scope: &str, number, hours: i64| {
        let mut entry = entry(scope, number);
        entry.received = hours * hour;
        entry
    };
    journal.append(vec![at("a", 5, 0)]).await;
    // `lane_retention` of the disk is 10 hours.
    assert_eq!(journal.append(vec![at("a", 5, 10)]).await, [Appended::Duplicate]);
    journal.append(vec![at("b", 1, 11)]).await;
    assert_eq!(
        stored(&journal.append(vec![at("a", 5, 0)]).await),
        [2],
        "11 hours of the log have passed, whatever this one says"
    );
}

/// The fsync that a duplicate's original waits for fails: the answer must not be "accepted".
#[tokio::test]
async fn rule_5_a_duplicate_is_answered_only_when_its_original_is_durable() {
    let disk = Disk::new();
    let journal = disk.open();
    journal.append(vec![entry("z", 1)]).await;
    disk.files.fail(Op::SyncData, 0, Fault::Io);
    assert_eq!(journal.append(vec![entry("a", 1), entry("a", 1)]).await, [Appended::Unknown, Appended::Unknown]);
}

#[tokio::test]
async fn rule_4_after_an_entry_that_is_not_stored_none_of_its_lane_is() {
    let disk = Disk::with(|config| config.max_bytes = 2 * config.segment_bytes);
    let journal = disk.open();
    let mut number = 0;
    while stored(&journal.append(vec![entry("big", number)]).await).len() == 1 {
        number += 1;
    }
    while stored(&journal.append(vec![entry("small", number)]).await).len() == 1 {
        number += 1;
    }
    let answers = journal.append(vec![entry("a", 1), entry("a", 2), entry("b", 1)]).await;
    assert_eq!(answers, [Appended::Full, Appended::Behind, Appended::Full]);
}

/// With the roll-back of the lanes taken out, the second attempt is a duplicate of an entry that the
/// log does not have: lost.
#[tokio::test]
async fn a_block_in_doubt_after_a_failed_fsync_is_stored_when_it_comes_again() {
    let disk = Disk::new();
    let journal = disk.open();
    let mut subscription = journal.subscribe("logs").unwrap();
    assert_eq!(stored(&journal.append(vec![entry("a", 1)]).await), [0]);
    disk.files.fail(Op::SyncData, 0, Fault::Io);
    let answers = journal.append(vec![entry("a", 2), entry("b", 1)]).await;
    assert_eq!(answers, [Appended::Unknown, Appended::Unknown]);
    assert_eq!(stored(&journal.append(vec![entry("a", 2), entry("b", 1)]).await), [1, 2]);
    assert_eq!(indexes(&mut subscription, 3).await, [0, 1, 2]);
}

/// A group of which a new segment has begun in the middle: what lies before it is durable although the
/// group's own fsync fails.
#[tokio::test]
async fn of_a_group_that_fails_after_a_rotation_the_part_before_it_is_stored_once() {
    for skip in 1..4 {
        let disk = Disk::new();
        let journal = disk.open();
        let mut subscription = journal.subscribe("logs").unwrap();
        let group = || (1..=10).map(|number| entry("big", number)).collect::<Vec<_>>();
        disk.files.fail(Op::SyncData, skip, Fault::Io);
        let first = journal.append(group()).await;
        disk.files.heal();
        let again = journal.append(group()).await;
        let before = again.iter().take_while(|answer| **answer == Appended::Duplicate).count();
        if skip == 2 {
            assert!((1..10).contains(&before), "the fsync at the group's end: {first:?}, {again:?}");
        }
        for (at, answer) in first.iter().enumerate() {
            assert!(at < before || !matches!(answer, Appended::Stored(_)), "skip {skip}: {first:?}, {again:?}");
        }
        assert_eq!(stored(&again).len(), 10 - before, "skip {skip}: {again:?}");
        assert_eq!(indexes(&mut subscription, 10).await, (0..10).collect::<Vec<_>>(), "skip {skip}");
    }
}

#[tokio::test]
async fn what_was_acknowledged_survives_a_loss_of_power_and_is_a_duplicate_afterwards() {
    for seed in 0..20 {
        let disk = Disk::new();
        let journal = disk.open();
        let answers = journal.append((1..=10).map(|number| entry("a", number)).collect()).await;
        assert_eq!(stored(&answers).len(), 10);
        disk.files.crash(seed);
        drop(journal);
        let journal = disk.open();
        assert_eq!(journal.append(vec![entry("a", 10)]).await, [Appended::Duplicate], "seed {seed}");
        let mut subscription = journal.subscribe("logs").unwrap();
        assert_eq!(indexes(&mut subscription, 10).await, (0..10).collect::<Vec<_>>(), "seed {seed}");
    }
}

#[tokio::test]
async fn a_full_disk_is_a_definite_refusal_and_goes_away() {
    let disk = Disk::with(|config| config.max_bytes = 1 << 30);
    disk.files.set_capacity(Some(600 << 10));
    let journal = disk.open();
    let mut number = 0;
    let refusal = loop {
        number += 1;
        match journal.append(vec![entry("big", number)]).await[0] {
            Appended::Stored(_) => {}
            other => break other,
        }
    };
    assert_eq!(refusal, Appended::Full);
    disk.files.set_capacity(None);
    assert_eq!(stored(&journal.append(vec![entry("big", number)]).await).len(), 1);
}

#[tokio::test]
async fn rule_6_a_snapshot_never_speaks_of_more_than_is_durable() {
    // Snapshots are taken all the time here; after every loss of power the lanes must agree with the log.
    for seed in 0..30 {
        let disk = Disk::new();
        let journal = disk.open();
        let mut acknowledged = 0;
        for number in 1..=40 {
            if seed % 3 == 0 && number % 7 == 0 {
                disk.files.fail(Op::SyncData, 0, Fault::Io);
            }
            if let [Appended::Stored(_)] = journal.append(vec![entry("big", number)]).await[..] {
                acknowledged = number;
            }
        }
        disk.files.crash(seed);
        disk.files.heal();
        drop(journal);
        let journal = disk.open();
        let mut subscription = journal.subscribe("logs").unwrap();
        let answer = journal.append(vec![entry("big", 41)]).await;
        let last = stored(&answer)[0];
        let mut highest = 0;
        for _ in 0..=last {
            match next(&mut subscription).await {
                Event::Entry(position, entry) if position.index < last => highest = entry.block.header.number,
                _ => {}
            }
        }
        assert!(highest >= acknowledged, "seed {seed}");
        assert_eq!(journal.append(vec![entry("big", highest)]).await, [Appended::Duplicate], "seed {seed}");
    }
}

#[tokio::test]
async fn a_damaged_snapshot_is_set_aside_and_the_lanes_are_whole() {
    for damaged in 1..=2 {
        let disk = Disk::new();
        let journal = disk.open();
        journal.append(vec![entry("early", 9)]).await;
        for number in 1..=40 {
            journal.append(vec![entry("big", number)]).await;
        }
        drop(journal);
        let snapshots = disk.paths_with(".lanes");
        assert_eq!(snapshots.len(), 2, "the newest two are kept");
        for path in snapshots.iter().rev().take(damaged) {
            disk.flip_a_byte(path, 40);
        }
        let journal = disk.open();
        assert_eq!(journal.append(vec![entry("early", 9)]).await, [Appended::Duplicate]);
        assert_eq!(journal.append(vec![entry("big", 40)]).await, [Appended::Duplicate]);
        let aside = disk.paths_with(".lanes").into_iter().filter(|path| path.starts_with("/journal/lanes/quarantine"));
        assert_eq!(aside.count(), damaged);
    }
}

/// With segments released up to the newer snapshot, numbers between the two would be forgotten.
/// What a snapshot's name says.
fn position_of(snapshot: &Path) -> u64 {
    snapshot.file_stem().unwrap().to_str().unwrap().parse().unwrap()
}

#[tokio::test]
async fn with_the_newer_snapshot_damaged_the_log_still_tells_what_came_after_the_older() {
    let disk = Disk::new();
    let journal = disk.open();
    let mut subscription = journal.subscribe("logs").unwrap();
    journal.keep_only(&["logs"]).unwrap();
    // A table of this size is written every few segments only.
    for lane in 0..300 {
        journal.append(vec![entry(&format!("lane {lane}"), 1)]).await;
        subscription.decide(Position { partition: 0, index: lane }, Outcome::Delivered);
    }
    let newest = || disk.paths_with(".lanes").last().map_or(0_u64, |path| position_of(path));
    let (mut marks, mut end) = (0, 0_u64);
    // The last snapshot is taken at the end: the one before it is to lie some segments below.
    while marks < 52 || end.saturating_sub(newest()) <= 20 {
        marks += 1;
        journal.append(vec![entry("big", marks), entry(&format!("mark {marks}"), 1)]).await;
        for _ in 0..2 {
            let Event::Entry(position, _) = next(&mut subscription).await else { panic!("nothing is damaged") };
            subscription.decide(position, Outcome::Delivered);
            end = position.index;
        }
        subscription.save(b"").await.unwrap();
        if marks >= 52 {
            disk.settle(&journal).await;
        }
    }
    assert!(!disk.segments().contains(&"/journal/log/00000000000000000000.log".into()), "nothing was released");
    drop((subscription, journal));
    let snapshots = disk.paths_with(".lanes");
    assert!(position_of(&snapshots[1]) - position_of(&snapshots[0]) > 20, "some segments lie between the two");
    disk.flip_a_byte(snapshots.last().unwrap(), 40);
    let journal = disk.open();
    for number in 1..=marks {
        assert_eq!(journal.append(vec![entry(&format!("mark {number}"), 1)]).await, [Appended::Duplicate], "{number}");
    }
}

#[tokio::test]
async fn segments_are_released_only_below_every_cursor_and_the_older_snapshot() {
    let disk = Disk::new();
    let journal = disk.open();
    let mut fast = journal.subscribe("logs").unwrap();
    let mut slow = journal.subscribe("files").unwrap();
    journal.keep_only(&["logs", "files"]).unwrap();
    let first_segment = disk.segments()[0].clone();
    for number in 1..=60 {
        journal.append(vec![entry("big", number)]).await;
        next(&mut fast).await;
        fast.decide(Position { partition: 0, index: number - 1 }, Outcome::Delivered);
    }
    fast.save(b"").await.unwrap();
    disk.settle(&journal).await;
    assert!(disk.segments().contains(&first_segment), "the slow one still needs it");
    for index in 0..60 {
        slow.decide(Position { partition: 0, index }, Outcome::Delivered);
    }
    disk.settle(&journal).await;
    assert!(disk.segments().contains(&first_segment), "decided is not saved");
    slow.save(b"").await.unwrap();
    disk.settle(&journal).await;
    assert!(!disk.segments().contains(&first_segment));
}

#[tokio::test]
async fn a_journal_that_was_full_takes_entries_again_once_they_are_decided() {
    let disk = Disk::with(|config| config.max_bytes = 2 * config.segment_bytes);
    let journal = disk.open();
    let mut subscription = journal.subscribe("logs").unwrap();
    journal.keep_only(&["logs"]).unwrap();
    // With so many lanes a snapshot is not due before the journal is full: it has to be taken then.
    for lane in 0..300 {
        assert_eq!(stored(&journal.append(vec![entry(&format!("lane {lane}"), 1)]).await).len(), 1);
    }
    let mut number = 300;
    for _ in 0..4 {
        while stored(&journal.append(vec![entry("big", number)]).await).len() == 1 {
            number += 1;
        }
        for index in 0..number {
            subscription.decide(Position { partition: 0, index }, Outcome::Delivered);
        }
        subscription.save(b"").await.unwrap();
        let mut tries = 0;
        while stored(&journal.append(vec![entry("big", number)]).await).is_empty() {
            tries += 1;
            assert!(tries < 100, "it stays full");
            disk.settle(&journal).await;
        }
        number += 1;
    }
}

#[tokio::test]
async fn a_cursor_is_found_again_with_decisions_above_it_and_state() {
    let disk = Disk::new();
    let journal = disk.open();
    let mut subscription = journal.subscribe("logs").unwrap();
    journal.append((1..=6).map(|number| entry("a", number)).collect()).await;
    for index in [0, 1, 3, 5] {
        subscription.decide(Position { partition: 0, index }, Outcome::Delivered);
    }
    subscription.save(b"where I was").await.unwrap();
    subscription.decide(Position { partition: 0, index: 2 }, Outcome::Delivered);
    drop((subscription, journal));
    disk.files.crash(1);
    let journal = disk.open();
    let mut subscription = journal.subscribe("logs").unwrap();
    assert_eq!(subscription.state(), Some(&b"where I was"[..]));
    assert_eq!(subscription.totals().delivered, 4);
    assert_eq!(subscription.lag().entries, 2);
    assert_eq!(indexes(&mut subscription, 2).await, [2, 4]);
}

#[tokio::test]
async fn a_damaged_cursor_costs_repetition_and_no_loss() {
    let disk = Disk::new();
    let journal = disk.open();
    let mut subscription = journal.subscribe("logs").unwrap();
    journal.append((1..=3).map(|number| entry("a", number)).collect()).await;
    subscription.decide(Position { partition: 0, index: 0 }, Outcome::Delivered);
    subscription.save(b"state").await.unwrap();
    drop((subscription, journal));
    disk.flip_a_byte(Path::new("/journal/cursors/logs.cursor"), 50);
    let journal = disk.open();
    let mut subscription = journal.subscribe("logs").unwrap();
    assert_eq!(subscription.state(), None);
    assert_eq!(indexes(&mut subscription, 3).await, [0, 1, 2]);
    assert!(disk.files.contents(Path::new("/journal/cursors/quarantine/logs.cursor")).is_some());
}

#[tokio::test]
async fn rule_8_an_entry_goes_where_it_was_routed_when_it_was_stored() {
    let disk = Disk::new();
    let journal = disk.open();
    journal
        .append(vec![
            entry_for("a", 1, &["files"]),
            entry_for("a", 2, &["logs"]),
            entry_for("a", 3, &["files", "logs"]),
        ])
        .await;
    drop(journal);
    let journal = disk.open();
    assert_eq!(indexes(&mut journal.subscribe("files").unwrap(), 2).await, [0, 2]);
    let mut logs = journal.subscribe("logs").unwrap();
    assert_eq!(indexes(&mut logs, 2).await, [1, 2]);
    assert_eq!(logs.lag().entries, 2, "what is not for it is decided");
    assert_eq!(journal.subscribe("logs").unwrap().lag().entries, 3, "and is known as such with the next save");
}

#[tokio::test]
async fn a_destination_that_was_removed_pins_nothing_and_its_cursor_is_kept_aside() {
    let disk = Disk::new();
    let journal = disk.open();
    drop(journal.subscribe("old").unwrap());
    drop(journal);
    let journal = disk.open();
    journal.keep_only(&[]).unwrap();
    let first = disk.segments()[0].clone();
    for number in 1..=60 {
        journal.append(vec![entry("big", number)]).await;
    }
    disk.settle(&journal).await;
    assert!(!disk.segments().contains(&first));
    assert!(disk.files.contents(Path::new("/journal/cursors/quarantine/old.cursor")).is_some());
}

#[tokio::test]
async fn damage_is_booked_with_its_range_and_the_rest_comes() {
    let disk = Disk::new();
    let journal = disk.open();
    journal.append((1..=5).map(|number| entry("a", number)).collect()).await;
    drop(journal);
    let segment = disk.segments()[0].clone();
    // In the payload of the third record: header of the segment, two records, header and some bytes.
    let length = disk.record_length();
    disk.flip_a_byte(&segment, 64 + 2 * length + 32 + 200);
    let (metrics, registry) = metrics();
    let journal = disk.open_with(metrics);
    let mut subscription = journal.subscribe("logs").unwrap();
    assert_eq!(indexes(&mut subscription, 2).await, [0, 1]);
    let Event::Lost { first, next: end, .. } = next(&mut subscription).await else { panic!("it is damaged") };
    assert_eq!((first.index, end), (2, 3));
    assert_eq!(indexes(&mut subscription, 2).await, [3, 4]);
    assert_eq!(subscription.totals().lost, 1);
    let text = prometheus::TextEncoder::new().encode_to_string(&registry.gather()).unwrap();
    assert!(text.contains(r#"sluice_gateway_journal_lost_entries_total{destination="logs"} 1"#), "{text}");
}

#[tokio::test]
async fn a_parked_entry_comes_out_of_the_parking_log_once() {
    for seed in 0..20 {
        let disk = Disk::new();
        let journal = disk.open();
        let mut subscription = journal.subscribe("logs").unwrap();
        journal.append((1..=4).map(|number| entry("a", number)).collect()).await;
        let positions = [1, 2].map(|index| Position { partition: 0, index });
        let parked = subscription.park(&positions).unwrap();
        assert_eq!(parked.moved.len(), 2);
        if seed % 2 == 0 {
            subscription.save(b"").await.unwrap();
        }
        // Copied, and perhaps not saved: the copies must be found by their positions.
        disk.files.crash(seed);
        drop((subscription, journal));
        let journal = disk.open();
        let mut subscription = journal.subscribe("logs").unwrap();
        assert_eq!(indexes(&mut subscription, 2).await, [0, 3], "seed {seed}");
        if seed % 2 == 1 {
            assert_eq!(subscription.moved(positions[1]), Some(Position { partition: PARKED, index: 1 }));
        }
        for (index, number) in [(0, 2), (1, 3)] {
            let Some(Event::Entry(position, entry)) = subscription.next_parked().unwrap() else {
                panic!("it is parked")
            };
            assert_eq!((position, entry.block.header.number), (Position { partition: PARKED, index }, number));
            assert_eq!(subscription.read(position).unwrap(), entry);
            subscription.decide(position, Outcome::Delivered);
        }
        assert_eq!(subscription.next_parked().unwrap(), None);
        assert_eq!(subscription.parked().entries, 0);
    }
}

#[tokio::test]
async fn parking_is_bounded_and_says_when_it_is_full() {
    let disk = Disk::with(|config| config.park_above = 0.01);
    let journal = disk.open();
    let mut subscription = journal.subscribe("logs").unwrap();
    for number in 1..=60 {
        journal.append(vec![entry("big", number)]).await;
    }
    let positions: Vec<_> = (0..60).map(|index| Position { partition: 0, index }).collect();
    let parked = subscription.park(&positions).unwrap();
    assert!(parked.full);
    assert!(!parked.moved.is_empty() && parked.moved.len() < 60);
    assert!(subscription.parked().bytes <= subscription.parked_limit());
    let first_left = positions[parked.moved.len()];
    assert!(!subscription.is_decided(first_left), "what found no room is not decided");
}

#[tokio::test]
async fn waiting_for_an_entry_can_be_given_up_without_losing_one() {
    let disk = Disk::new();
    let journal = Arc::new(disk.open());
    let mut subscription = journal.subscribe("logs").unwrap();
    let writer = Arc::clone(&journal);
    let task = tokio::spawn(async move {
        for number in 1..=200 {
            writer.append(vec![entry("a", number)]).await;
        }
    });
    let mut seen = 0;
    while seen < 200 {
        if let Ok(event) = tokio::time::timeout(Duration::from_micros(50), subscription.next()).await {
            let Event::Entry(position, _) = event.unwrap() else { panic!("nothing is damaged") };
            assert_eq!(position.index, seen);
            seen += 1;
        }
    }
    task.await.unwrap();
}

#[tokio::test]
async fn a_journal_on_another_disk_is_another_journal() {
    let (one, other) = (Disk::new(), Disk::new());
    let id = one.open().id();
    assert_ne!(id, other.open().id());
    assert_eq!(id, one.open().id());
    // The cursor of one, brought to the other, means nothing there.
    let journal = one.open();
    let mut subscription = journal.subscribe("logs").unwrap();
    subscription.save(b"of one").await.unwrap();
    let cursor = one.files.contents(Path::new("/journal/cursors/logs.cursor")).unwrap();
    other.files.replace(Path::new("/journal/cursors/logs.cursor"), &cursor);
    assert_eq!(other.open().subscribe("logs").unwrap().state(), None);
}

#[test]
fn two_at_once_are_refused() {
    let disk = Disk::new();
    let _first = disk.open();
    let files = Arc::clone(&disk.files) as Arc<FaultyFiles>;
    let error = Embedded::open_on(files, &disk.config, metrics().0).unwrap_err();
    assert!(error.to_string().contains("in use"), "{error}");
}
