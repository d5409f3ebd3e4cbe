//! Parking, where the disk fails in the middle of it: every entry stays in one place.

use sluice_durable_log::io::{Fault, Op};

use super::*;
use crate::journal::{Event, Outcome, Position, Subscription as _};

/// Numbers of the blocks that come out of the parking log, and of those that do not come out of the
/// journal any more.
fn parked(subscription: &mut EmbeddedSubscription) -> Vec<u64> {
    subscription.rewind_parked();
    let mut numbers = Vec::new();
    while let Some(event) = subscription.next_parked().unwrap() {
        let Event::Entry(_, entry) = event else { panic!("{event:?}") };
        numbers.push(entry.block.header.number);
    }
    numbers
}

/// Every entry is in one place: what was copied before something failed does not come twice.
#[tokio::test]
async fn parking_that_fails_half_way_leaves_each_entry_in_one_place() {
    for (op, fault) in [
        (Op::SyncData, Fault::Io),
        (Op::Write, Fault::NoSpace),
        (Op::Create, Fault::Io),
        (Op::Read, Fault::Io),
        (Op::Open, Fault::TooManyFiles),
        (Op::Rename, Fault::Io),
    ] {
        for skip in 0..12 {
            let rig = Rig::new();
            let journal = rig.open();
            let mut text = String::new();
            let big: Vec<Entry> = (0..20)
                .map(|number| {
                    // 12 KiB that do not compress: five in a segment.
                    text.clear();
                    (0..600).for_each(|_| text.push_str(&format!("{:020}", rand::random::<u64>())));
                    entry_of("a", number + 1, &[&text])
                })
                .collect();
            append(&journal, big).await;
            let mut subscription = journal.subscribe("logs").unwrap();
            let all: Vec<_> = (0..20).map(|index| Position { partition: 0, index }).collect();
            // One of them is there already, so that the log is.
            subscription.park(&all[..1]).unwrap();
            rig.files.fail(op, skip, fault);
            let _ = subscription.park(&all[1..]);
            rig.files.heal();
            let places = |subscription: &mut EmbeddedSubscription| {
                let copied = parked(subscription).into_iter().map(|number| number - 1);
                let mut places: Vec<u64> =
                    copied.chain(all.iter().filter(|at| !subscription.is_decided(**at)).map(|at| at.index)).collect();
                places.sort_unstable();
                places
            };
            assert_eq!(places(&mut subscription), (0..20).collect::<Vec<_>>(), "{op:?} {skip}");
            // The next one goes on; or nothing more comes before the crash.
            if skip % 2 == 0 {
                let left: Vec<_> = all.iter().copied().filter(|at| !subscription.is_decided(*at)).collect();
                subscription.park(&left).unwrap();
                assert_eq!(places(&mut subscription), (0..20).collect::<Vec<_>>(), "{op:?} {skip}, once more");
            }
            drop((subscription, journal));
            rig.files.crash(skip);
            let journal = rig.open();
            let mut subscription = journal.subscribe("logs").unwrap();
            assert_eq!(places(&mut subscription), (0..20).collect::<Vec<_>>(), "{op:?} {skip}, after a crash");
        }
    }
}

/// The copy was in doubt, and its entry went another way before it was found after all.
#[tokio::test]
async fn a_copy_that_was_in_doubt_is_not_delivered_when_its_entry_was() {
    for seed in 0..20 {
        let rig = Rig::new();
        let journal = rig.open();
        append(&journal, (1..=4).map(|number| entry("a", number)).collect()).await;
        let mut subscription = journal.subscribe("logs").unwrap();
        let all: Vec<_> = (0..4).map(|index| Position { partition: 0, index }).collect();
        subscription.park(&all[..1]).unwrap();
        rig.files.fail(Op::SyncData, 0, Fault::Io);
        assert!(subscription.park(&all[1..]).is_err());
        all[1..].iter().for_each(|at| subscription.decide(*at, Outcome::Delivered));
        subscription.save(b"").await.unwrap();
        drop((subscription, journal));
        rig.files.crash(seed);
        let journal = rig.open();
        let mut subscription = journal.subscribe("logs").unwrap();
        assert_eq!(parked(&mut subscription), [1], "seed {seed}");
    }
}

/// Taken for empty, it would be delivered from the journal, and once more from there.
#[tokio::test]
async fn a_parking_log_that_cannot_be_listed_is_no_empty_one() {
    let directory = tempfile::tempdir().unwrap();
    let config = checked::Journal { directory: directory.path().into(), ..Rig::new().config };
    let journal = Embedded::open(&config, JournalMetrics::register(&Registry::new()).unwrap()).unwrap();
    std::fs::create_dir(directory.path().join("parking")).unwrap();
    // ENOTDIR stands for whatever else there may be.
    std::fs::write(directory.path().join("parking/logs"), "").unwrap();
    assert!(journal.subscribe("logs").is_err());
}

/// Of two tenants that were parked one gets through: what is decided is every other entry, for as long as the
/// second is held. The journal is read all the same.
#[tokio::test]
async fn parked_entries_that_are_decided_here_and_there_do_not_stop_the_journal() {
    let mut rig = Rig::new();
    rig.config.max_bytes = 64 << 20;
    let journal = rig.open();
    let mut subscription = journal.subscribe("logs").unwrap();
    let count = 2 * 16_500;
    for first in (0..count).step_by(1000) {
        append(&journal, (first + 1..=first + 1000).map(|number| entry("a", number)).collect()).await;
    }
    let all: Vec<_> = (0..count).map(|index| Position { partition: 0, index }).collect();
    assert_eq!(subscription.park(&all).unwrap().moved.len() as u64, count);
    let mut handed_out = 0;
    while let Some(event) = subscription.next_parked().unwrap() {
        let Event::Entry(position, _) = event else { panic!("{event:?}") };
        if position.index % 2 == 1 {
            subscription.decide(position, Outcome::Delivered);
        }
        handed_out += 1;
    }
    assert!(handed_out < count, "the cursor would grow without a bound");
    append(&journal, vec![entry("a", count + 1)]).await;
    let next = tokio::time::timeout(Duration::from_secs(10), subscription.next()).await;
    assert!(matches!(next, Ok(Ok(Event::Entry(position, _))) if position.index == count), "{next:?}");
}

/// A destination that cannot be set up yet has no cursor, and needs its entries all the same.
#[tokio::test]
async fn a_destination_that_has_not_subscribed_yet_pins_what_comes() {
    let rig = Rig::new();
    let journal = rig.open();
    let subscriber = journal.subscriber("logs");
    // Four segments; the last append lets go of what nobody needs.
    for first in [1, 11, 21] {
        append(&journal, (first..first + 10).map(big).collect()).await;
    }
    let subscription = subscriber.subscribe().unwrap();
    assert_eq!(subscription.lag().entries, 30);
}
