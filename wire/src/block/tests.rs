use super::*;
use proptest::prelude::*;

fn text() -> impl Strategy<Value = Box<str>> {
    "[a-zé0-9.-]{0,60}".prop_map(Into::into)
}

fn position() -> impl Strategy<Value = Position> {
    (
        any::<u64>(),
        prop::sample::select(vec![Stream::Whole, Stream::Stdout, Stream::Stderr]),
        any::<u64>(),
        any::<u64>(),
    )
        .prop_map(|(source, stream, a, b)| Position { source, stream, start: a.min(b), end: a.max(b) })
}

prop_compose! {
    fn block()(
        producer in any::<[u8; 16]>(),
        category in prop::sample::select(Category::ALL.to_vec()),
        encoding in prop::sample::select(Encoding::ALL.to_vec()),
        texts in (text(), text(), text(), text()),
        number in any::<u64>(),
        raw_len in 2_u32..1_000_000,
        times in (any::<i64>(), any::<i64>()),
        positions in prop::collection::vec(position(), 0..40),
        payload in prop::collection::vec(any::<u8>(), 0..400),
    ) -> Block {
        Block {
            header: Header {
                lane: Lane { producer: ProducerId(producer), category, scope: texts.0, split: texts.1 },
                number,
                cluster: texts.2,
                node: texts.3,
                encoding,
                payload_crc: crc32c::crc32c(&payload),
                raw_len,
                records: raw_len / 2,
                longest: raw_len - 1,
                first_time: times.0.min(times.1),
                last_time: times.0.max(times.1),
                positions,
            },
            payload: payload.into(),
        }
    }
}

fn bytes_of(block: &Block) -> Vec<u8> {
    let mut out = Vec::new();
    block.write(&mut out).unwrap();
    out
}

proptest! {
    #[test]
    fn a_block_reads_back_as_it_was_written(block in block()) {
        prop_assert_eq!(Block::read(&bytes_of(&block).into()), Ok(block));
    }

    #[test]
    fn blocks_stand_one_after_the_other(blocks in prop::collection::vec(block(), 1..5)) {
        let body: Vec<u8> = blocks.iter().flat_map(bytes_of).collect();
        let read: Vec<Block> = Frames::new(body.into()).map(|frame| frame.unwrap().open().unwrap()).collect();
        prop_assert_eq!(read, blocks);
    }

    #[test]
    fn any_flipped_bit_is_noticed(block in block(), at in any::<prop::sample::Index>(), bit in 0_u8..8) {
        let mut bytes = bytes_of(&block);
        let at = at.index(bytes.len());
        bytes[at] ^= 1 << bit;
        prop_assert!(Block::read(&bytes.into()).is_err());
    }

    #[test]
    fn a_cut_frame_is_noticed(block in block(), at in any::<prop::sample::Index>()) {
        let bytes = bytes_of(&block);
        let at = at.index(bytes.len());
        prop_assert_eq!(Block::read(&Bytes::copy_from_slice(&bytes[..at])), Err(Reason::Framing));
    }

    #[test]
    fn any_bytes_are_looked_at_without_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        for frame in Frames::new(bytes.into()).flatten() {
            let _ = frame.open();
        }
    }

    #[test]
    fn keys_are_equal_only_for_equal_lanes(a in block(), b in block()) {
        prop_assert_eq!(a.header.lane.key() == b.header.lane.key(), a.header.lane == b.header.lane);
    }
}

fn sample() -> Block {
    let payload = Bytes::from_static(b"{\"_time\":\"2025-10-26T10:15:30Z\",\"_msg\":\"x\"}\n");
    Block {
        header: Header {
            lane: Lane {
                producer: ProducerId([7; 16]),
                category: Category::Application,
                scope: "default".into(),
                split: "".into(),
            },
            number: 42,
            cluster: "infra".into(),
            node: "node-a".into(),
            encoding: Encoding::None,
            payload_crc: crc32c::crc32c(&payload),
            raw_len: 45,
            records: 1,
            longest: 44,
            first_time: 1_761_473_730_000_000_000,
            last_time: 1_761_473_730_000_000_000,
            positions: vec![Position { source: 0xfeed, stream: Stream::Stdout, start: 10, end: 90 }],
        },
        payload,
    }
}

/// Frames `block` with its header changed after the checks of `write` have passed.
fn forged(change: impl FnOnce(&mut Header)) -> Result<Block, Reason> {
    let mut block = sample();
    change(&mut block.header);
    Block::read(&bytes_of(&block).into())
}

#[test]
fn a_lying_header_is_refused() {
    assert_eq!(forged(|_| ()), Ok(sample()));
    assert_eq!(forged(|h| h.records = 0), Err(Reason::Header));
    assert_eq!(forged(|h| h.records = h.raw_len + 1), Err(Reason::Header));
    assert_eq!(forged(|h| h.longest = h.raw_len), Err(Reason::Header));
    assert_eq!(forged(|h| h.first_time = h.last_time + 1), Err(Reason::Header));
    assert_eq!(forged(|h| h.positions[0].start = 91), Err(Reason::Header));
    assert_eq!(forged(|h| h.raw_len = u32::MAX), Err(Reason::BlockSize));
    assert_eq!(forged(|h| h.payload_crc += 1), Err(Reason::Checksum));
}

#[test]
fn a_future_version_is_stepped_over_and_named() {
    let mut body = bytes_of(&sample());
    body[4] = push::VERSION + 1;
    let crc = crc32c::crc32c(&body[..20]).to_le_bytes();
    body[20..24].copy_from_slice(&crc);
    body.extend(bytes_of(&sample()));

    let mut frames = Frames::new(body.into());
    assert_eq!(frames.next().unwrap().unwrap().open(), Err(Reason::Version));
    assert_eq!(frames.next().unwrap().unwrap().open(), Ok(sample()));
}

#[test]
fn what_is_over_its_bound_is_not_written() {
    let too_long = |change: fn(&mut Header)| {
        let mut block = sample();
        change(&mut block.header);
        block.write(&mut Vec::new()).unwrap_err().field
    };
    assert_eq!(too_long(|h| h.cluster = "c".repeat(256).into()), "cluster");
    assert_eq!(too_long(|h| h.lane.scope = "n".repeat(256).into()), "namespace");
    assert_eq!(too_long(|h| h.positions = vec![h.positions[0]; limits::POSITIONS + 1]), "positions");
}

/// Version 1 as it was first written. These bytes may never change: old agents and old journals hold
/// them. To add a case, add a file.
#[test]
fn the_golden_frames_of_version_1_still_read() {
    for (name, expected) in [("v1-plain", sample()), ("v1-zstd", compressed_sample())] {
        let path = format!("{}/tests/golden/{name}.frame", env!("CARGO_MANIFEST_DIR"));
        let bytes = std::fs::read(&path).unwrap_or_else(|error| panic!("{path}: {error}"));
        assert_eq!(Block::read(&bytes.into()), Ok(expected), "{name}");
    }
}

fn compressed_sample() -> Block {
    // A zstd frame of `sample`'s payload, written out so that a newer compressor changes nothing.
    let payload = Bytes::from_static(GOLDEN_ZSTD);
    let mut block = sample();
    block.header.encoding = Encoding::Zstd;
    block.header.payload_crc = crc32c::crc32c(&payload);
    block.header.positions.clear();
    block.payload = payload;
    block
}

const GOLDEN_ZSTD: &[u8] = include_bytes!("../../tests/golden/v1-zstd.payload");
