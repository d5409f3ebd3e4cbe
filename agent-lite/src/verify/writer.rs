//! The container that does not exist: numbered lines in the form of a container runtime's, and a rotation in the
//! middle as the kubelet does it.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use jiff::Timestamp;
use tokio::sync::mpsc;

use super::MAX_LINES;

/// Bytes of a line in its file, with its newline: all have as many.
pub(super) const LINE: usize = 147;
/// Lines are written together that are due within so long.
const TICK: Duration = Duration::from_millis(5);

/// Lines that are in the file by now.
#[derive(Debug, Clone, Copy)]
pub(super) struct Written {
    pub(super) lines: u64,
    pub(super) at: Instant,
}

#[derive(Debug)]
pub(super) struct Writer {
    path: PathBuf,
    file: File,
    id: String,
    lines: u64,
    rate: u64,
}

impl Writer {
    /// Makes the pod's directory and its first file, still empty.
    pub(super) fn new(pods: &Path, namespace: &str, id: &str, lines: u64, rate: u64) -> anyhow::Result<Self> {
        ensure!(
            is_namespace(namespace),
            "--namespace {namespace:?}: a namespace has 1 to 63 letters a-z, digits and `-`, such as sluice-verify"
        );
        ensure!((1..=MAX_LINES).contains(&lines) && rate > 0, "1 to {MAX_LINES} lines, and at least one a second");
        let directory = super::log_directory(pods, namespace, id);
        fs::create_dir_all(&directory).with_context(|| directory.display().to_string())?;
        let path = directory.join("0.log");
        Ok(Self { file: open(&path)?, path, id: id.to_owned(), lines, rate })
    }

    /// Writes all lines at their rate, and says each time when; ends where nobody listens any more.
    pub(super) fn write(mut self, told: &mpsc::Sender<Written>) -> io::Result<()> {
        let started = Instant::now();
        let (mut written, mut text) = (0, Vec::new());
        while written < self.lines {
            let elapsed = started.elapsed() + TICK;
            let due = u64::try_from(elapsed.as_micros() * u128::from(self.rate) / 1_000_000).unwrap_or(u64::MAX);
            // The rotation comes between two writes.
            let until = if written < self.lines / 2 { self.lines / 2 } else { self.lines };
            let due = due.min(until);
            if due > written {
                text.clear();
                (written..due).for_each(|number| self.line(number + 1, &mut text));
                self.file.write_all(&text)?;
                let batch = Written { lines: due - written, at: Instant::now() };
                written = due;
                if told.blocking_send(batch).is_err() {
                    return Ok(());
                }
                if written == self.lines / 2 {
                    self.rotate()?;
                }
            } else if told.is_closed() {
                return Ok(());
            }
            std::thread::sleep(TICK);
        }
        Ok(())
    }

    /// As the kubelet does it: the file gets another name, the runtime opens a new one under the old.
    fn rotate(&mut self) -> io::Result<()> {
        let name = format!("0.log.{}", Timestamp::now().strftime("%Y%m%d-%H%M%S"));
        fs::rename(&self.path, self.path.with_file_name(name))?;
        self.file = open(&self.path)?;
        Ok(())
    }

    fn line(&self, number: u64, out: &mut Vec<u8>) {
        let time = Timestamp::now().strftime("%Y-%m-%dT%H:%M:%S.%9fZ");
        let (id, lines) = (&self.id, self.lines);
        // (Names that begin with `sluice_` are reserved.) Writing to a vector does not fail.
        let _ = writeln!(
            out,
            "{time} stdout F {{\"message\":\"sluice verify, line {number:>7} of {lines:>7}\",\"verify_run\":\"{id}\",\"verify_line\":{number:>7}}}"
        );
    }
}

fn open(path: &Path) -> io::Result<File> {
    OpenOptions::new().create_new(true).append(true).open(path)
}

/// As Kubernetes has them (RFC 1123 labels); nothing that could leave the directory.
fn is_namespace(text: &str) -> bool {
    let is_inner = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    (1..=63).contains(&text.len()) && text.bytes().all(is_inner) && !text.starts_with('-') && !text.ends_with('-')
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::parse::cri;

    #[test]
    fn lines_are_those_of_a_runtime_and_of_one_length() {
        let dir = tempfile::tempdir().unwrap();
        let writer = Writer::new(dir.path(), "shop", "abcdefghijklmnop", 1000, 1).unwrap();
        for number in [1, 1000, MAX_LINES] {
            let mut line = Vec::new();
            writer.line(number, &mut line);
            assert_eq!(line.len(), LINE);
            let piece = cri::parse(&line[..LINE - 1], &mut sluice_wire::time::Parser::default()).unwrap();
            let message: serde_json::Value = serde_json::from_slice(piece.content).unwrap();
            assert_eq!((piece.partial, message["verify_line"].as_u64()), (false, Some(number)));
            assert_eq!(message["verify_run"], "abcdefghijklmnop");
        }
    }

    #[test]
    fn half_of_them_are_in_a_rotated_file() {
        let dir = tempfile::tempdir().unwrap();
        let writer = Writer::new(dir.path(), "shop", "abcdefghijklmnop", 101, 1_000_000).unwrap();
        let directory = super::super::log_directory(dir.path(), "shop", "abcdefghijklmnop");
        let (told, mut heard) = mpsc::channel(64);
        writer.write(&told).unwrap();
        drop(told);
        let mut lines = 0;
        while let Some(written) = heard.blocking_recv() {
            lines += written.lines;
        }
        let mut sizes: Vec<_> = fs::read_dir(directory)
            .unwrap()
            .map(|entry| entry.unwrap())
            .map(|entry| (entry.file_name().len(), entry.metadata().unwrap().len()))
            .collect();
        sizes.sort_unstable();
        let line = LINE as u64;
        assert_eq!((lines, sizes), (101, vec![("0.log".len(), 51 * line), ("0.log.20261026-101530".len(), 50 * line)]));
    }

    #[test]
    fn a_writer_that_nobody_listens_to_ends() {
        let dir = tempfile::tempdir().unwrap();
        let writer = Writer::new(dir.path(), "shop", "abcdefghijklmnop", MAX_LINES, 1).unwrap();
        let (told, heard) = mpsc::channel(64);
        drop(heard);
        writer.write(&told).unwrap();
    }

    #[test]
    fn what_is_no_namespace_is_refused_with_the_fix() {
        let dir = tempfile::tempdir().unwrap();
        for namespace in ["", "Shop", "a_b", "../x", "-a", "a-"] {
            let error = Writer::new(dir.path(), namespace, "id", 1, 1).unwrap_err().to_string();
            assert!(error.contains("--namespace") && error.contains("sluice-verify"), "{error}");
        }
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
    }
}
