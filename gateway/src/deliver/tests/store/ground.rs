//! What lies beneath a delivery: a journal that is another one, a disk that fails, records that tell of what
//! is no more.

use sluice_durable_log::io::{Fault, Op};

use super::*;

/// The crash came after the copies were durable, and before the batch was recorded anew.
#[tokio::test(start_paused = true)]
async fn a_batch_under_way_is_known_again_when_its_entries_were_just_parked() {
    let (rig, store) = (Rig::new(), Store::default());
    let journal = rig.open();
    append(&journal, (1..=10).map(|number| entry("a", number)).collect()).await;
    rig.run(&journal, |_| store.clone(), until("it is stored", || store.0.borrow().texts("a").len() == 10)).await;
    let mut subscription = journal.subscribe("logs").unwrap();
    let positions: Vec<_> = (0..10).map(|index| Position { partition: 0, index }).collect();
    assert_eq!(subscription.park(&positions).unwrap().moved.len(), 10);
    drop((subscription, journal));
    rig.files.crash(5);
    let journal = rig.open();
    rig.run(&journal, |_| store.clone(), tokio::time::sleep(Duration::from_secs(120))).await;
    assert_eq!(store.0.borrow().texts("a"), expected("a", 1..=10));
    let subscription = journal.subscribe("logs").unwrap();
    assert_eq!((subscription.lag().entries, subscription.parked().entries), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn a_disk_that_cannot_record_a_batch_delays_it_and_no_more() {
    let (rig, store) = (Rig::new(), Store::default());
    let journal = rig.open();
    append(&journal, vec![entry("a", 1)]).await;
    rig.run(&journal, |_| store.clone(), async {
        // The first of these meets the cursor or the batch log, as it comes.
        for _ in 0..4 {
            rig.files.fail(Op::SyncData, 0, Fault::Io);
        }
        all_decided(&rig).await;
    })
    .await;
    assert_eq!(store.0.borrow().texts("a"), expected("a", 1..=1));
}

/// Removes the journal's log; and the snapshot that was written when it was closed, as a SIGKILL would
/// have kept it from being.
fn remove_log(rig: &Rig) {
    let paths = rig.files.paths();
    for path in paths.iter().filter(|path| path.starts_with("/journal/log") || path.starts_with("/journal/lanes")) {
        rig.files.remove(path);
    }
}

/// The new log gives out the indexes of batches that still trail: what is counted is not what it holds.
#[tokio::test(start_paused = true)]
async fn batches_under_way_do_not_claim_entries_of_a_new_journal() {
    for stored in [1, 2] {
        let (rig, store) = (Rig::new(), Store::default());
        let journal = rig.open();
        append(&journal, (1..=10).map(|number| entry("a", number)).collect()).await;
        rig.run(&journal, |_| store.clone(), until("it is stored", || store.0.borrow().texts("a").len() == 10)).await;
        // Nothing is missing at the store, or a part of it.
        store.0.borrow_mut().rows.values_mut().for_each(|rows| rows.truncate(10 / stored));
        drop(journal);
        remove_log(&rig);
        let journal = rig.open();
        append(&journal, (1..=10).map(|number| entry("b", number)).collect()).await;
        rig.run(&journal, |_| store.clone(), all_decided(&rig)).await;
        assert_eq!(store.0.borrow().texts("b"), expected("b", 1..=10));
        assert_eq!(store.0.borrow().texts("a").len(), 10 / stored, "nothing of b went to a");
        assert_eq!(rig.metric("set_aside_batches_total{destination=\"logs\"}"), 1);
    }
}

#[tokio::test(start_paused = true)]
async fn entries_of_a_new_journal_are_not_taken_for_those_that_were_parked() {
    let (rig, store) = (Rig::new(), Store::default());
    let journal = rig.open();
    append(&journal, (1..=10).map(|number| entry("a", number)).collect()).await;
    let mut subscription = journal.subscribe("logs").unwrap();
    let positions: Vec<_> = (0..10).map(|index| Position { partition: 0, index }).collect();
    assert_eq!(subscription.park(&positions).unwrap().moved.len(), 10);
    drop((subscription, journal));
    remove_log(&rig);
    let journal = rig.open();
    append(&journal, (1..=10).map(|number| entry("b", number)).collect()).await;
    rig.run(&journal, |_| store.clone(), all_decided(&rig)).await;
    assert_eq!(store.0.borrow().texts("b"), expected("b", 1..=10));
    assert_eq!(store.0.borrow().texts("a"), expected("a", 1..=10), "what was parked is delivered");
    // And what is parked from now on is known again after a crash.
    append(&journal, (11..=20).map(|number| entry("b", number)).collect()).await;
    let mut subscription = journal.subscribe("logs").unwrap();
    let positions: Vec<_> = (10..20).map(|index| Position { partition: 0, index }).collect();
    assert_eq!(subscription.park(&positions).unwrap().moved.len(), 10);
    drop((subscription, journal));
    rig.files.crash(1);
    let journal = rig.open();
    rig.run(&journal, |_| store.clone(), tokio::time::sleep(Duration::from_secs(120))).await;
    assert_eq!(store.0.borrow().texts("b"), expected("b", 1..=20));
}

/// Whatever a record of batches says: no tenant gets what is another's.
#[tokio::test(start_paused = true)]
async fn entries_that_cannot_be_of_a_recorded_batch_go_their_own_way() {
    let (rig, store) = (Rig::new(), Store::default());
    let journal = rig.open();
    let mut elsewhere = entry("a", 5);
    elsewhere.destinations = vec!["somebody else".into()];
    append(&journal, vec![entry("b", 1), entry("a", 2), entry("b", 3), elsewhere]).await;
    let positions = (0..4).map(|index| Position { partition: 0, index }).collect();
    let batch = Batch::new(positions, (1..=4).map(|number| entry("a", number)).collect());
    let files = Arc::clone(&rig.files) as Arc<dyn Files>;
    let (mut log, _) = BatchLog::open(files, "/journal/batches/logs".as_ref(), journal.id()).unwrap();
    log.record(&[&batch]).unwrap();
    drop(log);
    rig.run(&journal, |_| store.clone(), all_decided(&rig)).await;
    assert_eq!(store.0.borrow().texts("b"), ["b 1", "b 3"]);
    assert_eq!(store.0.borrow().texts("a"), ["a 2"]);
    rig.books_balance();
}

/// Each fault at each moment while batches under way are parked, and a crash soon after it.
#[tokio::test(start_paused = true)]
async fn a_disk_that_fails_while_batches_are_parked_repeats_nothing() {
    for skip in 0..24 {
        let (rig, store) = (Rig::new(), Store::default());
        store.0.borrow_mut().cannot_count = true;
        let journal = rig.open();
        let mut number = 0;
        rig.run(&journal, |_| store.clone(), async {
            while rig.metric("parked_entries{destination=\"logs\"}") == 0 {
                number += 1;
                // The fault may meet the journal: then the same entry once more.
                append_at_last(&journal, big(number)).await;
                tokio::time::sleep(Duration::from_millis(100)).await;
                if number == 195 {
                    // Soon more is pinned than may be.
                    (0..4).for_each(|_| rig.files.fail(Op::SyncData, skip * 2, Fault::Io));
                }
                if number > 195 {
                    tokio::time::sleep(Duration::from_millis(skip * 53)).await;
                }
                if number == 215 {
                    break;
                }
            }
        })
        .await;
        rig.files.crash(skip);
        drop(journal);
        store.0.borrow_mut().cannot_count = false;
        let journal = rig.open();
        rig.run(&journal, |_| store.clone(), tokio::time::sleep(Duration::from_secs(300))).await;
        let subscription = journal.subscribe("logs").unwrap();
        assert_eq!((subscription.lag().entries, subscription.parked().entries), (0, 0), "skip {skip}");
        assert_eq!(store.0.borrow().texts("a"), expected("a", 1..=number), "skip {skip}");
    }
}

/// Its places are those in the parking log, which the record does not have: a restart would not know it.
#[tokio::test(start_paused = true)]
async fn the_cursor_is_not_saved_before_a_parked_batch_is_recorded() {
    let mut not_recorded = 0;
    for skip in 0..8 {
        let (rig, store) = (Rig::new(), Store::default());
        let journal = rig.open();
        append(&journal, (1..=10).map(|number| entry("a", number)).collect()).await;
        rig.run(&journal, |_| store.clone(), until("it is stored", || store.0.borrow().texts("a").len() == 10)).await;
        let mut worker = rig.worker(&journal, |_| store.clone());
        worker.save().await;
        worker.over_share = true;
        // One of these makes the copies durable, a later one would have recorded where they are.
        rig.files.fail(Op::SyncData, skip, Fault::Io);
        worker.move_batches(Instant::now());
        if worker.stale.is_empty() {
            continue;
        }
        not_recorded += 1;
        worker.save().await;
        drop((worker, journal));
        rig.files.crash(skip);
        let journal = rig.open();
        rig.run(&journal, |_| store.clone(), tokio::time::sleep(Duration::from_secs(120))).await;
        assert_eq!(store.0.borrow().texts("a"), expected("a", 1..=10), "skip {skip}");
        let left = rig.worker(&journal, |_| store.clone());
        assert!(left.schedule.next_due().is_none(), "a batch is left in the record");
    }
    assert!(not_recorded > 0, "no fault came between the copies and the record");
}

/// What is lost of a batch is booked once, though the rest of it cannot be read at present.
#[tokio::test(start_paused = true)]
async fn members_that_are_gone_are_booked_once() {
    for skip in 0..4 {
        let (rig, store) = (Rig::new(), Store::default());
        store.0.borrow_mut().script = [Do::Retry; 5].into();
        let journal = rig.open();
        append(&journal, (1..=20).map(big).collect()).await;
        rig.run(&journal, |_| store.clone(), async {
            until("it was refused", || !store.0.borrow().requests.is_empty()).await;
            let segments: Vec<_> =
                rig.files.paths().into_iter().filter(|path| path.starts_with("/journal/log")).collect();
            let first = &segments[0];
            let bytes = rig.files.contents(first).unwrap();
            rig.files.make_unreadable(first, 0..bytes.len() as u64);
            rig.files.fail(Op::Open, skip, Fault::TooManyFiles);
            all_decided(&rig).await;
        })
        .await;
        let gone = 20 - store.0.borrow().texts("a").len() as u64;
        assert!(gone > 0);
        assert_eq!(rig.metric("entries_total{destination=\"logs\",outcome=\"lost\"}"), gone, "skip {skip}");
        rig.books_balance();
    }
}
