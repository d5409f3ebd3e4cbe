use super::*;

const IDENTITY: Identity = Identity { id: *b"0123456789abcdef", salt: 0x0403_0201 };

#[test]
fn a_segment_header_is_laid_out_as_specified() {
    let header = SegmentHeader { identity: IDENTITY, base: 0x0A, synced: 0x09, previous: 0x08 };
    let bytes = header.encode();
    assert_eq!(&bytes[..16], b"SLUICLOG\x01\0\0\0\x01\x02\x03\x04");
    assert_eq!(&bytes[16..32], b"0123456789abcdef");
    assert_eq!((bytes[32], bytes[40], bytes[48]), (0x0A, 0x09, 0x08));
    assert_eq!(bytes[56..60], [0; 4]);
    assert_eq!(bytes[60..], crc32c::crc32c(&bytes[..60]).to_le_bytes());
    assert_eq!(SegmentHeader::decode(&bytes), Ok(header));
}

#[test]
fn a_record_header_is_laid_out_as_specified() {
    let header = RecordHeader { length: 5, index: 7, synced: 6, payload_crc: 0x0D0C_0B0A };
    let bytes = header.encode(IDENTITY.salt);
    let body = b"SLR1\x05\0\0\0\x07\0\0\0\0\0\0\0\x06\0\0\0\0\0\0\0\x0A\x0B\x0C\x0D";
    assert_eq!(&bytes[..28], body);
    let salted = [&[1, 2, 3, 4][..], body].concat();
    assert_eq!(bytes[28..], crc32c::crc32c(&salted).to_le_bytes());
    assert_eq!(RecordHeader::decode(&bytes, IDENTITY.salt, 7, 64), Some(header));
}

#[test]
fn a_header_that_cannot_stand_there_is_none() {
    let header = RecordHeader { length: 0, index: 7, synced: 6, payload_crc: 0 };
    let decode = |header: RecordHeader, base, offset| RecordHeader::decode(&header.encode(1), 1, base, offset);
    assert_eq!(decode(header, 7, 64), Some(header));
    assert_eq!(decode(header, 8, 64), None, "below the base");
    assert_eq!(decode(header, 6, 64), None, "a record must be before it");
    assert_eq!(decode(header, 6, 96), Some(header));
    assert_eq!(decode(RecordHeader { synced: 8, ..header }, 7, 64), None, "from the future");
    assert_eq!(RecordHeader::decode(&header.encode(2), 1, 7, 64), None, "another log's");
    assert_eq!(RecordHeader::decode(&header.encode(1)[..31], 1, 7, 64), None, "cut off");
}

#[test]
fn only_whole_names_are_segments() {
    assert_eq!(segment_base(&segment_name(42)), Some(42));
    assert!(is_unfinished(&unfinished_name(42)));
    for name in ["42.log", "+0000000000000000042.log", "99999999999999999999.log", "lock", ".log"] {
        assert_eq!(segment_base(name), None, "{name}");
    }
}
