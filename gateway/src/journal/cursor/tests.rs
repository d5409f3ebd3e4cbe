use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;

fn any_track() -> impl Strategy<Value = Track> {
    prop::collection::vec((0_u64..60, 1_u64..6), 0..30).prop_map(|ranges| {
        let mut track = Track::starting_at(3);
        for (first, length) in ranges {
            track.decide(first, first + length);
        }
        track
    })
}

proptest! {
    #[test]
    fn a_track_agrees_with_a_set(ranges in prop::collection::vec((0_u64..60, 0_u64..6), 0..40)) {
        let mut track = Track::starting_at(3);
        let mut set: BTreeSet<u64> = (0..3).collect();
        for (first, length) in ranges {
            let fresh = (first..first + length).filter(|index| set.insert(*index)).count() as u64;
            prop_assert_eq!(track.decide(first, first + length), fresh);
            let next = (0..).find(|index| !set.contains(index)).unwrap();
            prop_assert_eq!(track.next(), next, "the prefix is contiguous");
            prop_assert_eq!(track.undecided(70), (0..70).filter(|index| !set.contains(index)).count() as u64);
            for index in 0..70 {
                let open = (index..).find(|index| !set.contains(index)).unwrap();
                prop_assert_eq!(track.open_from(index), open);
            }
        }
    }

    #[test]
    fn a_cursor_reads_back_as_it_was(
        journal in any_track(), parked in any_track(), seen in any::<u64>(),
        totals in any::<[u64; 4]>(), state in prop::option::of(prop::collection::vec(any::<u8>(), 0..50)),
    ) {
        let [delivered, rejected, lost, copied] = totals;
        let totals = Totals { delivered, rejected, parked: copied, lost };
        let cursor = Cursor { log_id: [7; 16], journal, parked, parked_seen: seen, totals, state };
        prop_assert_eq!(Cursor::decode(&cursor.encode()), Some(cursor));
    }

    #[test]
    fn any_bytes_are_looked_at_without_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        let _ = Cursor::decode(&bytes);
    }
}
