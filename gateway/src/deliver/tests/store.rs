//! A destination that does as it is told, asked about by batch id as VictoriaLogs is.

use std::collections::VecDeque;

use tokio::time::Instant;

use super::*;
use crate::journal::Position;

mod ground;

/// What the store does with the next request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Do {
    Store,
    /// Answers 200 and stores half of it.
    StoreHalf,
    /// 503.
    Retry,
    /// 401.
    Hold,
    /// Stores it, and the answer is lost.
    StoreUnknown,
    /// Stores nothing, and the answer is lost.
    Unknown,
}

#[derive(Default)]
struct Shelf {
    /// Texts by tenant and batch.
    rows: BTreeMap<(String, BatchId), Vec<String>>,
    script: VecDeque<Do>,
    /// What a tenant's requests meet, whatever the script says.
    tenants: BTreeMap<String, Do>,
    /// Texts that are answered for and dropped.
    dropped: Vec<String>,
    /// Texts that are refused, with all that comes in the same request (a 400).
    poison: Option<String>,
    cannot_count: bool,
    requests: Vec<(String, BatchId, Mode, Vec<String>)>,
    /// Counts under way, and the most of them that there were.
    counting: (usize, usize),
}

impl Shelf {
    fn texts(&self, tenant: &str) -> Vec<String> {
        let mut texts: Vec<String> =
            self.rows.iter().filter(|((of, _), _)| of == tenant).flat_map(|(_, rows)| rows.clone()).collect();
        texts.sort();
        texts
    }
}

#[derive(Clone, Default)]
struct Store(Rc<RefCell<Shelf>>);

const DURABLE_AFTER: Duration = Duration::from_secs(30);

impl Destination for Store {
    fn terms(&self) -> Terms {
        Terms {
            batch_bytes: 1 << 20,
            batch_raw_bytes: 1 << 20,
            batch_age: Duration::from_millis(500),
            concurrency: 4,
            ordered: false,
            mixes_encodings: false,
            trailing: Trailing::Count(DURABLE_AFTER),
        }
    }

    async fn send(&self, batch: &Batch, mode: Mode) -> Outcome {
        tokio::time::sleep(Duration::from_millis(10)).await;
        let mut texts = texts_of(batch);
        let shelf = &mut *self.0.borrow_mut();
        shelf.requests.push((batch.tenant.to_string(), batch.id, mode, texts.clone()));
        let mut rejected = Vec::new();
        if let Some(poison) = &shelf.poison
            && texts.contains(poison)
        {
            if mode != Mode::Lines {
                return Outcome::Split(Refusal::new("400"));
            }
            let line = Bytes::from(format!("{{\"_msg\":\"{poison}\"}}"));
            let reason = crate::deliver::destination::RejectReason::Refused;
            rejected.push(crate::deliver::destination::Rejected { position: batch.members[0], reason, line });
            texts.retain(|text| text != poison);
        }
        let mut what = shelf.tenants.get(&*batch.tenant).copied();
        if what.is_none() {
            what = shelf.script.pop_front();
        }
        let what = what.unwrap_or(Do::Store);
        let rows = shelf.rows.entry((batch.tenant.to_string(), batch.id)).or_default();
        if mode == Mode::GiveUp {
            texts.retain(|text| !rows.contains(text));
            let reason = crate::deliver::destination::RejectReason::NotKept;
            let reject = |text: &String| {
                let line = Bytes::from(format!("{{\"_msg\":\"{text}\"}}"));
                crate::deliver::destination::Rejected { position: batch.members[0], reason, line }
            };
            let rejected: Vec<_> = texts.iter().map(reject).collect();
            return Outcome::Delivered(Receipt { stored: rows.len() as u64, rejected });
        }
        if mode == Mode::Missing {
            for row in rows.iter() {
                texts.remove(texts.iter().position(|text| text == row).expect("it was sent"));
            }
        }
        if what == Do::StoreHalf {
            texts.truncate(texts.len() / 2);
        }
        if matches!(what, Do::Store | Do::StoreHalf | Do::StoreUnknown) {
            rows.extend(texts.into_iter().filter(|text| !shelf.dropped.contains(text)));
        }
        match what {
            Do::Store | Do::StoreHalf => {
                Outcome::Delivered(Receipt { stored: batch.records - rejected.len() as u64, rejected })
            }
            Do::Retry => Outcome::Retry(Refusal::new("503")),
            Do::Hold => Outcome::Hold(Refusal::new("401")),
            Do::StoreUnknown | Do::Unknown => Outcome::Unknown(Refusal::new("reset")),
        }
    }

    async fn count(&self, tenant: &str, asked: &[Asked]) -> Result<Vec<u64>, Refusal> {
        {
            let shelf = &mut *self.0.borrow_mut();
            shelf.counting.0 += 1;
            shelf.counting.1 = shelf.counting.1.max(shelf.counting.0);
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
        self.0.borrow_mut().counting.0 -= 1;
        let shelf = self.0.borrow();
        if shelf.cannot_count {
            return Err(Refusal::new("no such route"));
        }
        let count = |asked: &Asked| shelf.rows.get(&(tenant.to_owned(), asked.id)).map_or(0, |rows| rows.len() as u64);
        Ok(asked.iter().map(count).collect())
    }

    fn state(&self) -> Vec<u8> {
        Vec::new()
    }
}

fn texts_of(batch: &Batch) -> Vec<String> {
    let mut checker = sluice_wire::payload::Checker::default();
    let mut texts = Vec::new();
    for entry in &batch.entries {
        let header = &entry.block.header;
        let raw = checker.decode(header.encoding, header.raw_len as usize, &entry.block.payload).unwrap();
        for line in std::str::from_utf8(raw).unwrap().lines() {
            let record: serde_json::Value = serde_json::from_str(line).unwrap();
            texts.push(record["_msg"].as_str().unwrap().to_owned());
        }
    }
    texts
}

fn expected(tenant: &str, numbers: std::ops::RangeInclusive<u64>) -> Vec<String> {
    let mut texts: Vec<String> = numbers.map(|number| format!("{tenant} {number}")).collect();
    texts.sort();
    texts
}

/// Until every entry of the journal is decided and saved.
async fn all_decided(rig: &Rig) {
    until("all is decided", || {
        let undecided = rig.metric("undecided_entries{destination=\"logs\"}");
        undecided == 0
            && rig.metric("lag_entries{destination=\"logs\"}") == 0
            && rig.metric("saves_total{destination=\"logs\",result=\"saved\"}") > 1
    })
    .await;
    tokio::time::sleep(Duration::from_secs(5)).await;
}

#[tokio::test(start_paused = true)]
async fn entries_go_out_together_and_the_cursor_trails_the_answer() {
    let (rig, store) = (Rig::new(), Store::default());
    let journal = rig.open();
    append(&journal, (1..=10).map(|number| entry("a", number)).collect()).await;
    rig.run(&journal, |_| store.clone(), async {
        until("it is stored", || store.0.borrow().texts("a").len() == 10).await;
        tokio::time::sleep(DURABLE_AFTER / 2).await;
        assert_eq!(rig.metric("lag_entries{destination=\"logs\"}"), 10, "a 200 is not durable yet");
        all_decided(&rig).await;
    })
    .await;
    assert_eq!(store.0.borrow().requests.len(), 1);
    assert_eq!(store.0.borrow().texts("a"), expected("a", 1..=10));
    rig.books_balance();
}

#[tokio::test(start_paused = true)]
async fn many_entries_that_wait_are_all_taken_in() {
    let (rig, store) = (Rig::new(), Store::default());
    let journal = rig.open();
    append(&journal, (1..=2000).map(|number| entry("a", number)).collect()).await;
    rig.run(&journal, |_| store.clone(), all_decided(&rig)).await;
    assert_eq!(store.0.borrow().texts("a"), expected("a", 1..=2000));
}

/// Without a save of what was passed over, a destination without routes would fill the journal.
#[tokio::test(start_paused = true)]
async fn entries_for_somebody_else_do_not_pin_the_journal() {
    let (rig, store) = (Rig::new(), Store::default());
    let journal = rig.open();
    let mut number = 0;
    rig.run(&journal, |_| store.clone(), async {
        // Twice of what the journal takes.
        for _ in 0..800 {
            number += 1;
            let mut entry = big(number);
            entry.destinations = vec!["somebody else".into()];
            append_at_last(&journal, entry).await;
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    })
    .await;
    assert!(store.0.borrow().requests.is_empty());
}

#[tokio::test(start_paused = true)]
async fn one_batch_is_of_one_tenant() {
    let (rig, store) = (Rig::new(), Store::default());
    let journal = rig.open();
    append(&journal, vec![entry("a", 1), entry("b", 1), entry("a", 2)]).await;
    rig.run(&journal, |_| store.clone(), all_decided(&rig)).await;
    assert_eq!(store.0.borrow().texts("a"), expected("a", 1..=2));
    assert_eq!(store.0.borrow().texts("b"), expected("b", 1..=1));
    assert_eq!(store.0.borrow().requests.len(), 2);
}

/// The store answered, was killed, and has lost it: nobody would know without counting.
#[tokio::test(start_paused = true)]
async fn what_the_store_has_lost_after_its_answer_is_sent_again_under_the_same_id() {
    let (rig, store) = (Rig::new(), Store::default());
    let journal = rig.open();
    append(&journal, (1..=10).map(|number| entry("a", number)).collect()).await;
    rig.run(&journal, |_| store.clone(), async {
        until("it is stored", || !store.0.borrow().rows.is_empty()).await;
        store.0.borrow_mut().rows.clear();
        all_decided(&rig).await;
    })
    .await;
    let shelf = store.0.borrow();
    assert_eq!(shelf.texts("a"), expected("a", 1..=10));
    assert_eq!(shelf.requests.len(), 2);
    assert_eq!(shelf.requests[0].1, shelf.requests[1].1);
    assert_eq!(rig.metric("resent_batches_total{destination=\"logs\"}"), 1);
}

#[tokio::test(start_paused = true)]
async fn of_a_batch_that_is_there_in_part_the_rest_is_sent() {
    let (rig, store) = (Rig::new(), Store::default());
    store.0.borrow_mut().script = [Do::StoreHalf].into();
    let journal = rig.open();
    append(&journal, (1..=10).map(|number| entry("a", number)).collect()).await;
    rig.run(&journal, |_| store.clone(), all_decided(&rig)).await;
    assert_eq!(store.0.borrow().texts("a"), expected("a", 1..=10));
    assert_eq!(rig.metric("completed_batches_total{destination=\"logs\"}"), 1);
}

#[tokio::test(start_paused = true)]
async fn an_attempt_in_doubt_is_counted_before_anything_is_sent_again() {
    for (what, requests) in [(Do::StoreUnknown, 1), (Do::Unknown, 2)] {
        let (rig, store) = (Rig::new(), Store::default());
        store.0.borrow_mut().script = [what].into();
        let journal = rig.open();
        append(&journal, (1..=10).map(|number| entry("a", number)).collect()).await;
        rig.run(&journal, |_| store.clone(), all_decided(&rig)).await;
        assert_eq!(store.0.borrow().texts("a"), expected("a", 1..=10), "{what:?}");
        assert_eq!(store.0.borrow().requests.len(), requests, "{what:?}");
    }
}

/// That it can be seen does not make it durable: what was in doubt trails as well.
#[tokio::test(start_paused = true)]
async fn what_was_in_doubt_and_is_there_is_counted_once_more_before_it_is_decided() {
    let (rig, store) = (Rig::new(), Store::default());
    store.0.borrow_mut().script = [Do::StoreUnknown].into();
    let journal = rig.open();
    append(&journal, vec![entry("a", 1)]).await;
    rig.run(&journal, |_| store.clone(), async {
        tokio::time::sleep(DURABLE_AFTER / 2).await;
        assert_eq!(store.0.borrow().requests.len(), 1, "it was seen");
        store.0.borrow_mut().rows.clear();
        all_decided(&rig).await;
    })
    .await;
    assert_eq!(store.0.borrow().texts("a"), expected("a", 1..=1));
}

#[tokio::test(start_paused = true)]
async fn after_a_restart_a_batch_under_way_is_the_same_batch() {
    for what in [Do::Store, Do::StoreHalf, Do::StoreUnknown, Do::Unknown, Do::Retry] {
        let (rig, store) = (Rig::new(), Store::default());
        store.0.borrow_mut().script = [what].into();
        let journal = rig.open();
        append(&journal, (1..=10).map(|number| entry("a", number)).collect()).await;
        rig.run(&journal, |_| store.clone(), until("it was sent", || !store.0.borrow().requests.is_empty())).await;
        // More comes in before the restart: it must not be mixed into the batch.
        append(&journal, (11..=12).map(|number| entry("a", number)).collect()).await;
        drop(journal);
        rig.files.crash(7);
        let journal = rig.open();
        rig.run(&journal, |_| store.clone(), all_decided(&rig)).await;
        let shelf = store.0.borrow();
        assert_eq!(shelf.texts("a"), expected("a", 1..=12), "{what:?}");
        let first = shelf.requests[0].1;
        let again = shelf.requests.iter().filter(|request| request.1 == first);
        assert!(again.clone().all(|request| request.3.len() == 10), "{what:?}");
        assert_eq!(rig.metric("duplicated_records_total{destination=\"logs\"}"), 0, "{what:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_restart_at_any_moment_neither_loses_nor_repeats() {
    for step in 0..25 {
        let (rig, store) = (Rig::new(), Store::default());
        store.0.borrow_mut().script = [Do::Store, Do::Retry, Do::StoreUnknown, Do::StoreHalf].into();
        let mut number = 0;
        for life in 0..4 {
            let journal = rig.open();
            let mut more = || {
                number += 1;
                vec![entry("a", number), entry("b", number)]
            };
            append(&journal, more()).await;
            let pause = Duration::from_millis(1 + step * 613 + life * 7_001);
            rig.run(&journal, |_| store.clone(), async {
                append(&journal, more()).await;
                tokio::time::sleep(pause).await;
            })
            .await;
            rig.files.crash(step * 4 + life);
            drop(journal);
        }
        let journal = rig.open();
        rig.run(&journal, |_| store.clone(), async {
            tokio::time::sleep(Duration::from_secs(120)).await;
        })
        .await;
        assert_eq!(journal.subscribe("logs").unwrap().lag().entries, 0, "step {step}");
        for tenant in ["a", "b"] {
            assert_eq!(store.0.borrow().texts(tenant), expected(tenant, 1..=number), "step {step}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_record_that_is_refused_becomes_a_dead_letter_alone() {
    let (rig, store) = (Rig::new(), Store::default());
    store.0.borrow_mut().poison = Some("bad".into());
    let journal = rig.open();
    let mut entries: Vec<_> = (1..=8).map(|number| entry("a", number)).collect();
    entries.push(entry_of("a", 9, &["a 9", "bad", "a 10"]));
    entries.push(entry_of("a", 11, &["bad"]));
    append(&journal, entries).await;
    rig.run(&journal, |_| store.clone(), all_decided(&rig)).await;
    assert_eq!(store.0.borrow().texts("a"), expected("a", 1..=10));
    let letters = rig.files.contents("/journal/dead-letters/logs/00000000.jsonl".as_ref()).unwrap();
    let letters = std::str::from_utf8(&letters).unwrap();
    assert_eq!(letters.lines().count(), 2);
    for letter in letters.lines() {
        let letter: serde_json::Value = serde_json::from_str(letter).unwrap();
        assert_eq!(
            (&letter["reason"], &letter["tenant"], &letter["identity"]),
            (&"refused".into(), &"a".into(), &"node-7".into())
        );
        assert_eq!(letter["record"]["_msg"], "bad");
    }
    assert_eq!(
        rig.metric("entries_total{destination=\"logs\",outcome=\"rejected\"}"),
        1,
        "the entry of which nothing was taken"
    );
    rig.books_balance();
}

#[tokio::test(start_paused = true)]
async fn a_held_tenant_is_parked_the_others_go_on_and_nothing_is_lost() {
    let (rig, store) = (Rig::new(), Store::default());
    store.0.borrow_mut().tenants.insert("held".into(), Do::Hold);
    let journal = rig.open();
    rig.run(&journal, |_| store.clone(), async {
        for number in 1..=20 {
            append(&journal, vec![entry("held", number), entry("free", number)]).await;
            tokio::time::sleep(Duration::from_secs(2)).await;
        }
        tokio::time::sleep(DURABLE_AFTER * 2).await;
        assert_eq!(store.0.borrow().texts("free"), expected("free", 1..=20));
        assert_eq!(rig.metric("held{destination=\"logs\",tenant=\"held\"}"), 1);
        assert_eq!(rig.metric("lag_entries{destination=\"logs\"}"), 0, "the held tenant pins nothing in the journal");
        assert_eq!(rig.metric("parked_entries{destination=\"logs\"}"), 20);
        // Only the batch that it is probed with is under way.
        assert!(rig.metric("undecided_entries{destination=\"logs\"}") <= 5);
        rig.books_balance();
        store.0.borrow_mut().tenants.clear();
        until("nothing is parked", || rig.metric("parked_entries{destination=\"logs\"}") == 0).await;
    })
    .await;
    assert_eq!(store.0.borrow().texts("held"), expected("held", 1..=20));
    assert_eq!(rig.metric("held{destination=\"logs\",tenant=\"held\"}"), 0);
    rig.books_balance();
}

#[tokio::test(start_paused = true)]
async fn what_is_parked_survives_restarts_and_is_delivered_once() {
    for seed in 0..10 {
        let (rig, store) = (Rig::new(), Store::default());
        store.0.borrow_mut().tenants.insert("held".into(), Do::Hold);
        for life in 0..3 {
            let journal = rig.open();
            append(&journal, vec![entry("held", life + 1), entry("free", life + 1)]).await;
            rig.run(&journal, |_| store.clone(), tokio::time::sleep(Duration::from_millis(900 + seed * 700))).await;
            rig.files.crash(seed);
            drop(journal);
        }
        store.0.borrow_mut().tenants.clear();
        let journal = rig.open();
        rig.run(&journal, |_| store.clone(), tokio::time::sleep(Duration::from_secs(120))).await;
        assert_eq!(store.0.borrow().texts("held"), expected("held", 1..=3), "seed {seed}");
        assert_eq!(store.0.borrow().texts("free"), expected("free", 1..=3), "seed {seed}");
        let subscription = journal.subscribe("logs").unwrap();
        assert_eq!((subscription.lag().entries, subscription.parked().entries), (0, 0), "seed {seed}");
    }
}

#[tokio::test(start_paused = true)]
async fn while_nothing_can_be_counted_the_cursor_waits() {
    let (rig, store) = (Rig::new(), Store::default());
    store.0.borrow_mut().cannot_count = true;
    let journal = rig.open();
    append(&journal, vec![entry("a", 1)]).await;
    rig.run(&journal, |_| store.clone(), async {
        tokio::time::sleep(DURABLE_AFTER * 10).await;
        assert_eq!(rig.metric("lag_entries{destination=\"logs\"}"), 1);
        assert!(rig.metric("count_failures_total{destination=\"logs\"}") > 0);
        store.0.borrow_mut().cannot_count = false;
        all_decided(&rig).await;
    })
    .await;
    assert_eq!(store.0.borrow().requests.len(), 1);
}

/// Nothing is wrong with the tenant, but its batches cannot be decided: they must not fill the journal.
#[tokio::test(start_paused = true)]
async fn what_pins_too_much_of_the_journal_is_moved_out_of_it() {
    let (rig, store) = (Rig::new(), Store::default());
    store.0.borrow_mut().cannot_count = true;
    let journal = rig.open();
    let mut number = 0;
    rig.run(&journal, |_| store.clone(), async {
        // The journal alone takes 4 MiB, 400 of these.
        for _ in 0..550 {
            number += 1;
            append_at_last(&journal, big(number)).await;
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        assert!(rig.metric("parked_entries{destination=\"logs\"}") > 100);
        rig.books_balance();
    })
    .await;
    // Batches under way are found again where they are now.
    drop(journal);
    rig.files.crash(3);
    store.0.borrow_mut().cannot_count = false;
    let journal = rig.open();
    rig.run(&journal, |_| store.clone(), tokio::time::sleep(Duration::from_secs(300))).await;
    let subscription = journal.subscribe("logs").unwrap();
    assert_eq!((subscription.lag().entries, subscription.parked().entries), (0, 0));
    assert_eq!(store.0.borrow().texts("a"), expected("a", 1..=number));
}

#[tokio::test(start_paused = true)]
async fn no_more_counts_are_under_way_than_requests_may_be() {
    let (rig, store) = (Rig::new(), Store::default());
    let journal = rig.open();
    append(&journal, (1..=20).map(|tenant| entry(&format!("t{tenant}"), 1)).collect()).await;
    rig.run(&journal, |_| store.clone(), all_decided(&rig)).await;
    assert_eq!(store.0.borrow().counting.1, 4);
}

/// As VictoriaLogs does with what is older than its retention, where the configuration says otherwise.
#[tokio::test(start_paused = true)]
async fn what_the_store_answers_for_and_drops_becomes_dead_letters() {
    for all in [false, true] {
        let (rig, store) = (Rig::new(), Store::default());
        let dropped = if all { expected("a", 1..=10) } else { vec!["a 3".into(), "a 7".into()] };
        store.0.borrow_mut().dropped.clone_from(&dropped);
        let journal = rig.open();
        append(&journal, (1..=10).map(|number| entry("a", number)).collect()).await;
        rig.run(&journal, |_| store.clone(), all_decided(&rig)).await;
        let mut kept = expected("a", 1..=10);
        kept.retain(|text| !dropped.contains(text));
        assert_eq!(store.0.borrow().texts("a"), kept);
        let not_kept = rig.metric("dead_letters_total{destination=\"logs\",reason=\"not-kept\"}");
        assert_eq!(not_kept, dropped.len() as u64);
        assert!(store.0.borrow().requests.len() <= 4);
    }
}

/// Losing it again and again is not dropping it, as long as something changes in between.
#[tokio::test(start_paused = true)]
async fn what_the_store_loses_twice_is_sent_a_third_time() {
    let (rig, store) = (Rig::new(), Store::default());
    let journal = rig.open();
    append(&journal, (1..=10).map(|number| entry("a", number)).collect()).await;
    rig.run(&journal, |_| store.clone(), async {
        for requests in 1..=2 {
            until("it is sent", || store.0.borrow().requests.len() == requests).await;
            tokio::time::sleep(Duration::from_secs(1)).await;
            store.0.borrow_mut().rows.clear();
        }
        all_decided(&rig).await;
    })
    .await;
    assert_eq!(store.0.borrow().texts("a"), expected("a", 1..=10));
    assert_eq!(rig.metric("dead_letters_total{destination=\"logs\",reason=\"not-kept\"}"), 0);
}

/// There is no room for the letters of one tenant: the others go on.
#[tokio::test(start_paused = true)]
async fn letters_that_cannot_be_kept_stop_their_own_tenant_only() {
    let (rig, store) = (Rig::new(), Store::default());
    store.0.borrow_mut().poison = Some("bad".into());
    // As much as there may be.
    rig.files.create_dir("/journal/dead-letters/logs".as_ref()).unwrap();
    rig.files.replace("/journal/dead-letters/logs/00000000.jsonl".as_ref(), &vec![b'x'; 1 << 20]);
    let journal = rig.open();
    rig.run(&journal, |_| store.clone(), async {
        append(&journal, vec![entry_of("rejected", 1, &["bad"])]).await;
        until("it is held", || rig.metric("held{destination=\"logs\",tenant=\"rejected\"}") == 1).await;
        // Its time is over: now its letters are tried again every few seconds.
        tokio::time::sleep(DURABLE_AFTER + Duration::from_secs(10)).await;
        append(&journal, vec![entry("free", 1), entry("rejected", 2)]).await;
        tokio::time::sleep(Duration::from_secs(20)).await;
        assert_eq!(store.0.borrow().texts("free").len(), 1, "the others go on");
        rig.files.remove("/journal/dead-letters/logs/00000000.jsonl".as_ref());
        all_decided(&rig).await;
        until("nothing is parked", || rig.metric("parked_entries{destination=\"logs\"}") == 0).await;
    })
    .await;
    assert_eq!(store.0.borrow().texts("rejected"), ["rejected 2"]);
    assert_eq!(rig.metric("dead_letters_total{destination=\"logs\",reason=\"refused\"}"), 1);
    rig.books_balance();
}
