//! Blocks that no gateway will ever take, kept on the node with their reason.

use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use serde::Serialize;
use sluice_wire::payload::Checker;
use sluice_wire::{Block, time};

const FILE: &str = "dead-letters.jsonl";
/// Read at once, bytes.
const CHUNK: usize = 64 * 1024;

/// A file of JSON lines, one for each block.
#[derive(Debug)]
pub(super) struct DeadLetters {
    path: PathBuf,
    max_bytes: u64,
    checker: Checker,
}

#[derive(Serialize)]
struct Letter<'a> {
    at: String,
    reason: String,
    category: &'static str,
    namespace: &'a str,
    producer: String,
    number: u64,
    lines: Vec<std::borrow::Cow<'a, str>>,
}

impl DeadLetters {
    /// In `state`, at most `max_bytes` large: past that a lane waits rather than lose a line.
    #[must_use]
    pub(super) fn new(state: &Path, max_bytes: u64) -> Self {
        Self { path: state.join(FILE), max_bytes, checker: Checker::default() }
    }

    /// Keeps a block; durable when it returns.
    ///
    /// # Errors
    /// The file is full, or the file system's.
    pub(super) fn keep(&mut self, block: &Block, reason: &str, wall_ns: i64) -> io::Result<()> {
        let header = &block.header;
        let raw = self
            .checker
            .decode(header.encoding, header.raw_len as usize, &block.payload)
            .map_err(|reason| io::Error::new(io::ErrorKind::InvalidData, reason.word()))?;
        let mut at = Vec::new();
        time::write(wall_ns, &mut at);
        let letter = Letter {
            at: String::from_utf8_lossy(&at).into_owned(),
            reason: reason.to_owned(),
            category: header.lane.category.word(),
            namespace: &header.lane.scope,
            producer: header.lane.producer.to_string(),
            number: header.number,
            lines: raw
                .split(|byte| *byte == b'\n')
                .filter(|line| !line.is_empty())
                .map(String::from_utf8_lossy)
                .collect(),
        };
        let mut line = serde_json::to_vec(&letter)?;
        line.push(b'\n');
        let mut file: File = OpenOptions::new().create(true).read(true).append(true).open(&self.path)?;
        let end = self.cut_off_torn(&file)?;
        if end + line.len() as u64 > self.max_bytes {
            let full =
                format!("{} is full ({} bytes): look at it, then move it away", self.path.display(), self.max_bytes);
            return Err(io::Error::new(io::ErrorKind::StorageFull, full));
        }
        append(&mut file, end, |file| file.write_all(&line))
    }

    /// Cuts off what a crash has left of a letter: its block was not kept, and is sent and refused again. Gives
    /// the length of what stays.
    fn cut_off_torn(&self, file: &File) -> io::Result<u64> {
        let length = file.metadata()?.len();
        let end = end_of_lines(file, length)?;
        if end < length {
            let (path, bytes) = (self.path.display(), length - end);
            tracing::warn!(%path, bytes, "the last dead letter was not written to its end, cutting it off");
            file.set_len(end)?;
        }
        Ok(end)
    }
}

/// Where the last newline of a file of this length ends.
fn end_of_lines(file: &File, length: u64) -> io::Result<u64> {
    let mut buffer = vec![0; CHUNK];
    let mut end = length;
    while end > 0 {
        // The last byte tells, but after a crash.
        let most = if end == length { 1 } else { CHUNK };
        let size = usize::try_from(end).unwrap_or(usize::MAX).min(most);
        let piece = &mut buffer[..size];
        let start = end - size as u64;
        file.read_exact_at(piece, start)?;
        if let Some(at) = memchr::memrchr(b'\n', piece) {
            return Ok(start + at as u64 + 1);
        }
        end = start;
    }
    Ok(0)
}

/// Appends to a file of length `end` what `write` writes, durably; where that fails nothing of it stays.
fn append(file: &mut File, end: u64, write: impl FnOnce(&mut File) -> io::Result<()>) -> io::Result<()> {
    write(file).and_then(|()| file.sync_data()).inspect_err(|_| {
        // Where that fails too, it is done before the next letter.
        let _ = file.set_len(end);
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use sluice_wire::block::{Category, Header, Lane};
    use sluice_wire::{Encoding, ProducerId};

    fn block(number: u64) -> Block {
        let line = format!("{{\"n\":{number}}}\n").repeat(20_000);
        let lane = Lane {
            producer: ProducerId([7; 16]),
            category: Category::Application,
            scope: "shop".into(),
            split: "".into(),
        };
        let header = Header {
            lane,
            number,
            cluster: "c".into(),
            node: "n".into(),
            encoding: Encoding::None,
            payload_crc: 0,
            raw_len: u32::try_from(line.len()).unwrap(),
            records: 20_000,
            longest: 7,
            first_time: 0,
            last_time: 0,
            positions: Vec::new(),
        };
        Block { header, payload: line.into() }
    }

    /// The numbers of the blocks that are kept.
    fn kept(letters: &DeadLetters) -> Vec<u64> {
        let text = std::fs::read_to_string(&letters.path).unwrap();
        assert!(text.ends_with('\n'));
        let number = |line| serde_json::from_str::<serde_json::Value>(line).unwrap()["number"].as_u64().unwrap();
        text.lines().map(number).collect()
    }

    #[test]
    fn a_letter_that_a_crash_has_torn_is_cut_off_and_harms_no_other() {
        let state = tempfile::tempdir().unwrap();
        let mut letters = DeadLetters::new(state.path(), 1 << 20);
        letters.keep(&block(1), "json", 0).unwrap();
        let one = std::fs::metadata(&letters.path).unwrap().len();
        letters.keep(&block(2), "json", 0).unwrap();
        let file = OpenOptions::new().write(true).open(&letters.path).unwrap();
        // Within the first line, and at its end without the newline, and nothing of the second; in the middle.
        for (length, expected) in
            [(one * 2 - 1, vec![1, 3]), (one + 1, vec![1, 3]), (one, vec![1, 3]), (one - 1, vec![3])]
        {
            file.set_len(length).unwrap();
            letters.keep(&block(3), "json", 0).unwrap();
            assert_eq!(kept(&letters), expected, "{length}");
        }
    }

    #[test]
    fn of_a_letter_that_cannot_be_written_nothing_stays() {
        let state = tempfile::tempdir().unwrap();
        let mut letters = DeadLetters::new(state.path(), 1 << 20);
        letters.keep(&block(1), "json", 0).unwrap();
        let mut file = OpenOptions::new().append(true).open(&letters.path).unwrap();
        let end = file.metadata().unwrap().len();
        let full = |file: &mut File| {
            file.write_all(b"{\"number\":2,")?;
            Err(io::ErrorKind::StorageFull.into())
        };
        assert_eq!(append(&mut file, end, full).unwrap_err().kind(), io::ErrorKind::StorageFull);
        assert_eq!(kept(&letters), [1]);
        letters.keep(&block(3), "json", 0).unwrap();
        assert_eq!(kept(&letters), [1, 3]);
    }
}
