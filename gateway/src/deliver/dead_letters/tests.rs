use bytes::Bytes;
use sluice_durable_log::io::{Fault, FaultyFiles, Op};

use super::*;
use crate::deliver::tests::entry;
use crate::journal::Position;

fn letter(line: &str) -> Letter {
    let rejected = Rejected {
        position: Position { partition: 0, index: 7 },
        reason: RejectReason::OutsideRetention,
        line: Bytes::copy_from_slice(line.as_bytes()),
    };
    Letter::new(&rejected, &entry("team-a", 1), 1_761_473_730_000_000_000)
}

fn open(files: &Arc<FaultyFiles>, max_bytes: u64) -> DeadLetters {
    DeadLetters::open(Arc::clone(files) as Arc<dyn Files>, "/letters".as_ref(), max_bytes).unwrap()
}

fn lines(files: &FaultyFiles) -> Vec<String> {
    let mut paths = files.paths();
    paths.sort();
    let texts = paths.iter().map(|path| String::from_utf8(files.contents(path).unwrap()).unwrap());
    texts.flat_map(|text| text.lines().map(str::to_owned).collect::<Vec<_>>()).collect()
}

#[test]
fn a_letter_says_whose_it_is_why_and_what() {
    let files = Arc::new(FaultyFiles::new());
    open(&files, 1 << 20).append(&[letter(r#"{"_msg":"x"}"#), letter("not json")]).1.unwrap();
    files.crash(1);
    let lines = lines(&files);
    assert_eq!(
        lines[0],
        concat!(
            r#"{"time":"2025-10-26T10:15:30.000000000Z","reason":"outside-retention","tenant":"team-a","#,
            r#""category":"application","identity":"node-7","cluster":"infra","node":"node-7","namespace":"team-a","#,
            r#""position":"0/7","record":{"_msg":"x"}}"#
        )
    );
    assert!(lines[1].ends_with(r#""record":"not json"}"#));
}

#[test]
fn letters_are_bounded_and_go_on_when_some_were_taken_away() {
    let files = Arc::new(FaultyFiles::new());
    let mut letters = open(&files, 400);
    letters.append(&[letter("{}")]).1.unwrap();
    assert!(matches!(letters.append(&[letter("{}")]), (0, Err(NotWritten::Full { .. }))));
    files.remove("/letters/00000000.jsonl".as_ref());
    letters.append(&[letter("{}")]).1.unwrap();
}

#[test]
fn after_a_failure_letters_go_to_another_file() {
    let files = Arc::new(FaultyFiles::new());
    let mut letters = open(&files, 1 << 20);
    letters.append(&[letter("1")]).1.unwrap();
    files.fail(Op::Write, 0, Fault::Io);
    assert!(letters.append(&[letter("2")]).1.is_err());
    letters.append(&[letter("3")]).1.unwrap();
    drop(letters);
    open(&files, 1 << 20).append(&[letter("4")]).1.unwrap();
    assert_eq!(files.paths().len(), 3);
    let whole = lines(&files).into_iter().filter(|line| line.ends_with('}')).count();
    assert_eq!(whole, 3);
}

/// A batch of which all is rejected may be larger than what there is room for.
#[test]
fn letters_that_do_not_fit_as_a_whole_are_written_as_far_as_they_do() {
    let files = Arc::new(FaultyFiles::new());
    let mut letters = open(&files, 1 << 20);
    let long = format!("{{\"_msg\":\"{}\"}}", "x".repeat(100_000));
    let all: Vec<Letter> = (0..30).map(|_| letter(&long)).collect();
    let mut done = 0;
    for _ in 0..4 {
        let (written, result) = letters.append(&all[done..]);
        done += written;
        if result.is_ok() {
            break;
        }
        assert!(matches!(result, Err(NotWritten::Full { .. })));
        files.paths().iter().for_each(|path| files.remove(path));
    }
    assert_eq!(done, 30);
}
