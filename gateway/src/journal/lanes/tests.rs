use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

const RETENTION: i64 = 100;

fn lanes() -> Lanes {
    Lanes::new(Duration::from_nanos(RETENTION.unsigned_abs()), 1 << 20)
}

/// Judges and notes as the committer does; true if it was stored.
fn offer(lanes: &mut Lanes, key: &[u8], number: u64, received: i64) -> Standing {
    let standing = lanes.judge(key, number, received);
    if standing == Standing::New {
        lanes.note(key, number, received);
    }
    standing
}

/// The rule, written down once more without the table: looks at the whole log each time.
fn by_the_log(log: &[(u8, u64, i64)], (key, number, received): (u8, u64, i64)) -> Standing {
    let mut clock = i64::MIN;
    let mut last = None;
    for &(other, number, received) in log {
        clock = clock.max(received);
        if other == key {
            last = Some((number, clock));
        }
    }
    match last {
        Some((highest, time)) if clock.max(received) - time <= RETENTION && number <= highest => Standing::Duplicate,
        _ => Standing::New,
    }
}

proptest! {
    #[test]
    fn rule_5_a_duplicate_is_a_function_of_the_log(offers in prop::collection::vec((0_u8..4, 0_u64..20, 0_i64..1000), 1..100)) {
        let mut lanes = lanes();
        let mut log = Vec::new();
        for offered in offers {
            let (key, number, received) = offered;
            let expected = by_the_log(&log, offered);
            prop_assert_eq!(offer(&mut lanes, &[key], number, received), expected);
            if expected == Standing::New {
                log.push(offered);
            }
            // Neither a sweep nor a restart from a snapshot changes an answer.
            lanes.sweep();
            lanes = tests::lanes().decode(&lanes.encode()).unwrap();
        }
    }

    #[test]
    fn a_group_that_failed_leaves_no_trace(
        before in prop::collection::vec((0_u8..4, 0_u64..20, 0_i64..1000), 0..20),
        group in prop::collection::vec((0_u8..6, 0_u64..40, 0_i64..2000), 0..20),
    ) {
        let mut lanes = lanes();
        for (key, number, received) in before {
            offer(&mut lanes, &[key], number, received);
        }
        let state = |lanes: &Lanes| (lanes.clock, lanes.bytes, lanes.table.iter().map(|(k, v)| (k.clone(), (v.number, v.time))).collect::<BTreeMap<_, _>>());
        let was = state(&lanes);
        let mut undo = Vec::new();
        for (key, number, received) in group {
            if lanes.judge(&[key], number, received) == Standing::New {
                undo.push(lanes.note(&[key], number, received));
            }
        }
        undo.into_iter().rev().for_each(|undo| lanes.undo(undo));
        prop_assert_eq!(state(&lanes), was);
    }

    #[test]
    fn any_bytes_are_looked_at_without_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = lanes().decode(&bytes);
    }
}

#[test]
fn a_lane_that_is_not_known_is_refused_when_there_is_no_room_and_taken_when_others_are_forgotten() {
    let mut lanes = Lanes::new(Duration::from_nanos(RETENTION.unsigned_abs()), 2 * (OVERHEAD + 1));
    assert_eq!(offer(&mut lanes, b"a", 1, 0), Standing::New);
    assert_eq!(offer(&mut lanes, b"b", 1, 0), Standing::New);
    assert_eq!(offer(&mut lanes, b"c", 1, 0), Standing::NoRoom);
    assert_eq!(offer(&mut lanes, b"a", 2, 90), Standing::New, "known lanes go on");
    assert_eq!(offer(&mut lanes, b"a", 3, 150), Standing::New);
    assert_eq!(offer(&mut lanes, b"c", 1, 150), Standing::New, "b is forgotten");
    assert_eq!(offer(&mut lanes, b"a", 3, 150), Standing::Duplicate);
}

#[test]
fn a_snapshot_that_is_cut_is_refused() {
    let mut table = lanes();
    offer(&mut table, b"abc", 1, 5);
    let bytes = table.encode();
    assert!((0..bytes.len()).all(|end| lanes().decode(&bytes[..end]).is_none()));
    assert!(lanes().decode(&bytes).is_some());
}
