//! A rotated file that the kubelet has compressed, whole, cut off, damaged, or anything else: however it is read, the
//! same bytes are at the same offsets, and no more is inflated than was asked for.
#![no_main]

use std::io::{Read as _, Write as _};
use std::path::Path;

use flate2::Compression;
use flate2::bufread::MultiGzDecoder;
use flate2::write::GzEncoder;
use libfuzzer_sys::arbitrary::{self, Arbitrary};
use libfuzzer_sys::fuzz_target;
use sluice_agent::tail::content::Content;

/// Of a file that holds more than can be looked at.
const AT_MOST: usize = 4 << 20;

#[derive(Debug, Arbitrary)]
enum Kind {
    Anything,
    Whole,
    CutOff(u16),
    Damaged(u16, u8),
}

#[derive(Debug, Arbitrary)]
struct Input<'a> {
    kind: Kind,
    at_once: u16,
    back_to: u32,
    bytes: &'a [u8],
}

fn file(kind: &Kind, bytes: &[u8]) -> Vec<u8> {
    let compress = || {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    };
    match kind {
        Kind::Anything => bytes.to_vec(),
        Kind::Whole => compress(),
        Kind::CutOff(end) => {
            let mut file = compress();
            file.truncate(usize::from(*end) % (file.len() + 1));
            file
        }
        Kind::Damaged(at, mask) => {
            let mut file = compress();
            let at = usize::from(*at) % file.len();
            file[at] ^= mask;
            file
        }
    }
}

/// From `offset` to the end, so much at a time.
fn read(content: &mut Content, offset: usize, at_once: usize) -> Vec<u8> {
    let (mut found, mut buffer) = (Vec::new(), vec![0; at_once]);
    while found.len() < AT_MOST {
        let count = content.fill(&mut buffer, (offset + found.len()) as u64).unwrap();
        found.extend_from_slice(&buffer[..count]);
        if count < at_once {
            break;
        }
    }
    found
}

fuzz_target!(|input: Input<'_>| {
    let file = file(&input.kind, input.bytes);
    let mut on_disk = tempfile::tempfile().unwrap();
    on_disk.write_all(&file).unwrap();
    let mut content = Content::open(on_disk, Path::new("0.log.20251026-101530.gz"));
    let _ = content.size();

    let found = read(&mut content, 0, usize::from(input.at_once) + 1);
    if let Kind::Whole = input.kind {
        assert_eq!(found, input.bytes);
        assert_eq!(content.size().unwrap(), found.len() as u64);
    }
    let mut whole = Vec::new();
    let is_intact = MultiGzDecoder::new(&*file).take(AT_MOST as u64).read_to_end(&mut whole).is_ok();
    let common = whole.len().min(found.len());
    assert_eq!(whole[..common], found[..common]);
    assert!(!is_intact || found.len() >= whole.len(), "{} of {} bytes", found.len(), whole.len());

    // Back, and on from there with another step.
    let offset = input.back_to as usize % (found.len() + 1);
    let again = read(&mut content, offset, 4096);
    let common = again.len().min(found.len() - offset);
    assert_eq!(again[..common], found[offset..offset + common]);
    assert!(!is_intact || again.len() >= whole.len().saturating_sub(offset));
});
