use proptest::prelude::*;
use sluice_wire::{Category, Encoding, Header, Lane, ProducerId};

use super::*;

fn any_entry() -> impl Strategy<Value = Entry> {
    let text = "[a-zé0-9.-]{0,40}";
    let payload = prop::collection::vec(any::<u8>(), 1..500);
    let places = (text, text, prop::collection::vec("[a-z0-9-]{1,63}", 0..6), any::<u64>(), any::<i64>());
    let lane = (any::<[u8; 16]>(), prop::sample::select(Category::ALL.to_vec()), text, text, any::<u64>());
    (places, lane, payload).prop_map(|(places, lane, payload)| {
        let (tenant, identity, destinations, policy, received) = places;
        let (producer, category, scope, split, number) = lane;
        let payload = Bytes::from(payload);
        let header = Header {
            lane: Lane { producer: ProducerId(producer), category, scope: scope.into(), split: split.into() },
            number,
            cluster: "c".into(),
            node: "n".into(),
            encoding: Encoding::None,
            payload_crc: crc32c::crc32c(&payload),
            raw_len: u32::try_from(payload.len()).unwrap(),
            records: 1,
            longest: 0,
            first_time: 1,
            last_time: 2,
            positions: Vec::new(),
        };
        Entry {
            tenant: tenant.into(),
            destinations: destinations.into_iter().map(Arc::from).collect(),
            policy,
            identity: identity.into(),
            received,
            block: Block { header, payload },
        }
    })
}

proptest! {
    #[test]
    fn an_entry_reads_back_as_it_was(entry in any_entry()) {
        let bytes = Bytes::from(encode(&entry).unwrap());
        prop_assert_eq!(&decode(&bytes).unwrap(), &entry);
        let head = Head::read(&bytes).unwrap();
        prop_assert!(entry.destinations.iter().all(|name| head.is_for(name)));
        prop_assert!(!head.is_for("somewhere else"));
    }

    #[test]
    fn an_entry_that_is_cut_is_refused(entry in any_entry(), at in any::<prop::sample::Index>()) {
        let bytes = encode(&entry).unwrap();
        let cut = Bytes::copy_from_slice(&bytes[..at.index(bytes.len())]);
        prop_assert!(decode(&cut).is_err());
    }

    #[test]
    fn any_bytes_are_looked_at_without_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..200), version in any::<bool>()) {
        let mut bytes = bytes;
        if version && !bytes.is_empty() {
            bytes[0] = VERSION;
        }
        let _ = decode(&Bytes::from(bytes));
    }
}

/// Bytes of version 1 as they lie in journals in the field: they have to be read for ever.
#[test]
fn an_entry_of_version_1_is_read() {
    let golden = Bytes::from_static(include_bytes!("../../../tests/golden/journal-entry-v1.bin"));
    let entry = decode(&golden).unwrap();
    assert_eq!(
        (&*entry.tenant, &*entry.identity, entry.policy, entry.received),
        ("team-a", "node-7", 42, 1_761_473_730_000_000_000)
    );
    assert_eq!(entry.destinations, ["files".into(), "logs".into()] as [Arc<str>; 2]);
    assert_eq!(
        (&*entry.block.header.cluster, &*entry.block.header.lane.scope, entry.block.header.number),
        ("infra", "default", 7)
    );
    assert_eq!(entry.block.payload, &b"{\"_time\":\"2025-10-26T10:15:30Z\",\"_msg\":\"hello\"}\n"[..]);
    assert_eq!(encode(&entry).unwrap(), golden, "what is written now is what was written then");
}

#[test]
fn a_later_version_is_named() {
    let mut bytes = include_bytes!("../../../tests/golden/journal-entry-v1.bin").to_vec();
    bytes[0] = 2;
    assert_eq!(decode(&Bytes::from(bytes)).unwrap_err(), NotAnEntry::Version(2));
}
