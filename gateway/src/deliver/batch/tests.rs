use super::*;
use crate::deliver::destination::Trailing;
use crate::deliver::tests::entry;

fn terms() -> Terms {
    Terms {
        batch_bytes: 1 << 20,
        batch_raw_bytes: 200,
        batch_age: Duration::from_millis(500),
        concurrency: 1,
        ordered: false,
        mixes_encodings: false,
        trailing: Trailing::Final,
    }
}

fn position(index: u64) -> Position {
    Position { partition: 0, index }
}

#[test]
fn a_batch_is_closed_before_it_gets_too_large() {
    let (mut gather, now) = (Gather::new(terms()), Instant::now());
    let closed: Vec<Batch> = (0..10).filter_map(|index| gather.add(position(index), entry("a", index), now)).collect();
    assert!(!closed.is_empty());
    let raw = |batch: &Batch| batch.entries.iter().map(|entry| entry.block.header.raw_len).sum::<u32>();
    assert!(closed.iter().all(|batch| raw(batch) <= 200 && batch.members.len() == batch.entries.len()));
    let rest = gather.of_tenants(|_| true);
    let members: Vec<u64> =
        closed.iter().chain(&rest).flat_map(|batch| &batch.members).map(|member| member.index).collect();
    assert_eq!(members, (0..10).collect::<Vec<_>>());
}

#[test]
fn a_batch_is_due_at_its_age() {
    let (mut gather, now) = (Gather::new(terms()), Instant::now());
    gather.add(position(0), entry("a", 1), now);
    gather.add(position(1), entry("a", 2), now + Duration::from_millis(400));
    assert_eq!(gather.next_due(), Some(now + Duration::from_millis(500)));
    assert!(gather.due(now + Duration::from_millis(499)).is_empty());
    assert_eq!(gather.due(now + Duration::from_millis(500)).len(), 1);
    assert_eq!(gather.next_due(), None);
}

#[test]
fn tenants_and_encodings_do_not_mix() {
    let (mut gather, now) = (Gather::new(terms()), Instant::now());
    let mut gzip = entry("a", 2);
    gzip.block.header.encoding = Encoding::Gzip;
    for (index, entry) in (0..).zip([entry("a", 1), gzip.clone(), entry("b", 1)]) {
        gather.add(position(index), entry, now);
    }
    assert_eq!(gather.of_tenants(|_| true).len(), 3);
    let mut gather = Gather::new(Terms { mixes_encodings: true, ..terms() });
    gather.add(position(0), entry("a", 1), now);
    gather.add(position(1), gzip, now);
    assert_eq!(gather.of_tenants(|_| true).len(), 1);
}

#[test]
fn halves_have_ids_of_their_own_and_all_members() {
    let whole = Batch::new((0..5).map(position).collect(), (0..5).map(|number| entry("a", number)).collect());
    let id = whole.id;
    let (first, second) = whole.halves();
    assert_eq!((first.members.len(), second.members.len()), (2, 3));
    assert_eq!((first.records, second.records), (2, 3));
    assert!(first.id != id && second.id != id && first.id != second.id);
}

#[test]
fn waits_are_random_below_a_rising_bound() {
    let waits = |failures| (0..200).map(move |_| backoff::after(failures, Duration::ZERO));
    assert!(waits(0).all(|wait| wait <= Duration::from_millis(500)));
    assert!(waits(3).any(|wait| wait > Duration::from_millis(500)));
    assert!(waits(1000).all(|wait| wait <= Duration::from_secs(30)));
    assert!(waits(6).any(|wait| wait < Duration::from_secs(8)), "full jitter");
    assert!(backoff::after(0, Duration::from_secs(7)) >= Duration::from_secs(7));
}
