use sluice_harness::line::{Filler, Tail, compose};
use tempfile::TempDir;

use super::*;

const RUN: u32 = 7;

fn text(seq: u64) -> Vec<u8> {
    let id = LineId { run: RUN, source: 3, stream: Stream::Stdout, seq };
    let mut text = Vec::new();
    compose(&mut text, id, 1, Filler { plain: b"filler", tail: Tail { raw: "", json: "" } }, false);
    text
}

fn record(tag: &str, text: &[u8]) -> Vec<u8> {
    [format!("2026-01-01T00:00:00.5Z stdout {tag} ").as_bytes(), text, b"\n"].concat()
}

/// Reads one log of these files.
fn read(files: &[(&str, Vec<u8>)]) -> Disk {
    let dir = TempDir::new().expect("a directory");
    let seen = files.iter().map(|(name, bytes)| {
        let link = dir.path().join(name);
        fs::write(&link, bytes).expect("written");
        let (pod, container) = ("ns_pod_uid".to_owned(), "c0".to_owned());
        Seen {
            pod,
            container,
            name: (*name).to_owned(),
            link,
            seen_at: 0,
            gone_at: None,
            compressed: false,
            gz_gone_at: None,
        }
    });
    let testimony = Testimony { files: seen.collect(), doubts: Vec::new() };
    Disk::read(RUN, &testimony).expect("read")
}

#[test]
fn a_line_that_a_rotation_cut_is_one_line() {
    let line = text(0);
    let disk = read(&[("0.log", record("F", &line[20..])), ("0.log.20260101-000000", record("P", &line[..20]))]);
    assert_eq!((disk.lines.len(), disk.fragments.len(), disk.broken.len()), (1, 0, 0));
    assert_eq!(
        disk.cut.iter().map(|(_, before, behind)| (&before[..], &behind[..])).collect::<Vec<_>>(),
        [line.split_at(20)]
    );
    let log = Log { namespace: "ns".into(), pod: "pod".into(), uid: "uid".into(), container: "c0".into(), attempt: 0 };
    assert_eq!(disk.logs, [log]);
    assert_eq!(disk.files[disk.lines.values().next().expect("one").file].name, "0.log");
}

#[test]
fn the_end_of_a_killed_program_is_a_fragment_and_never_continues_in_the_next_attempt() {
    let line = text(0);
    let disk = read(&[("0.log", record("P", &line[..40])), ("1.log", record("F", &text(1)))]);
    assert_eq!(disk.fragments, [(0, line[..40].to_vec())]);
    assert_eq!((disk.lines.len(), disk.broken.len()), (1, 0));
}

#[test]
fn a_json_line_counts_by_its_text() {
    let json = format!("{{\"n\":1,\"message\":{}}}", serde_json::json!(String::from_utf8_lossy(&text(0))));
    let disk = read(&[("0.log", record("F", json.as_bytes()))]);
    assert_eq!((disk.lines.len(), disk.broken.len()), (1, 0));
}

#[test]
fn what_is_missing_torn_or_twice_is_told() {
    let torn = &text(5)[..60];
    let lines = [record("F", &text(0)), record("F", &text(3)), record("F", &text(3)), record("F", torn)].concat();
    let disk = read(&[("0.log", [lines, b"no record\n".to_vec()].concat())]);
    assert_eq!(disk.holes(), [(3, Stream::Stdout, 2)]);
    assert_eq!((disk.repeated, disk.broken.len()), (1, 2));
}
