//! What reached the disk: every line of the run, read from what the witness linked.

use std::collections::{BTreeMap, HashMap};
use std::fs;

use anyhow::{Context as _, Result};
use sluice_harness::line::{self, LineId, Stream};

use crate::pods::is_writer;
use crate::witness::{Seen, Testimony};

/// An attempt of a container.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Log {
    /// Its namespace.
    pub namespace: String,
    /// Its pod.
    pub pod: String,
    /// The pod's UID.
    pub uid: String,
    /// The container.
    pub container: String,
    /// Its restart count.
    pub attempt: u32,
}

impl Log {
    /// Whether it is another attempt of the same container, or the same.
    #[must_use]
    pub fn is_of_container(&self, other: &Self) -> bool {
        (&self.uid, &self.container) == (&other.uid, &other.container)
            && (&self.namespace, &self.pod) == (&other.namespace, &other.pod)
    }
}

/// A line as it is on the disk.
#[derive(Debug, Clone, Copy)]
pub struct Line {
    /// Index in [`Disk::logs`].
    pub log: usize,
    /// Index in [`Disk::files`] of the file with its end.
    pub file: usize,
    /// When the runtime took its first piece, in Unix nanoseconds.
    pub first_ns: i64,
    /// And its last piece.
    pub last_ns: i64,
    /// Bytes of its text.
    pub bytes: usize,
}

/// All that reached the disk.
#[derive(Debug, Default)]
pub struct Disk {
    /// Attempts.
    pub logs: Vec<Log>,
    /// Files, as the witness saw them.
    pub files: Vec<Seen>,
    /// Lines of the run.
    pub lines: HashMap<LineId, Line>,
    /// Ends of streams without the end of a line: what a program was writing when it was killed. Log and text.
    pub fragments: Vec<(usize, Vec<u8>)>,
    /// Lines that a rotation cut, with the text before the cut and the text behind it.
    pub cut: Vec<(LineId, Vec<u8>, Vec<u8>)>,
    /// What is no record of a runtime's, and records of a writer's that are no whole line; with the file's name.
    pub broken: Vec<String>,
    /// Records of others.
    pub foreign: u64,
    /// Lines that are on the disk twice.
    pub repeated: u64,
    /// Bytes of all files.
    pub bytes: u64,
}

impl Disk {
    /// Reads every file of a testimony that belongs to a pod.
    ///
    /// # Errors
    /// A link cannot be read.
    pub fn read(run: u32, testimony: &Testimony) -> Result<Self> {
        let mut disk = Self { files: testimony.files.clone(), ..Self::default() };
        let mut by_log: BTreeMap<Log, Vec<(String, usize)>> = BTreeMap::new();
        for (index, seen) in testimony.files.iter().enumerate() {
            if let Some((log, age)) = place(seen) {
                by_log.entry(log).or_default().push((age, index));
            }
        }
        for (log, mut files) in by_log {
            files.sort();
            disk.read_log(run, log, &files)?;
        }
        Ok(disk)
    }

    fn read_log(&mut self, run: u32, log: Log, files: &[(String, usize)]) -> Result<()> {
        let at = self.logs.len();
        self.logs.push(log);
        let mut partials: [Option<Partial>; 2] = [None, None];
        for (_, file) in files {
            let path = &self.files[*file].link;
            let bytes = fs::read(path).with_context(|| path.display().to_string())?;
            self.bytes += bytes.len() as u64;
            for record in bytes.split_inclusive(|byte| *byte == b'\n') {
                self.take(run, at, *file, record, &mut partials);
            }
        }
        for partial in partials.into_iter().flatten() {
            // The runtime marks the last text of a stream that has no newline as a piece. It may be whole.
            match whole(&partial.text) {
                Some(id) if id.run == run => self.book(id, at, &partial),
                None if is_writer(&self.logs[at].container) => self.fragments.push((at, partial.text)),
                _ => self.foreign += 1,
            }
        }
        Ok(())
    }

    fn take(&mut self, run: u32, log: usize, file: usize, record: &[u8], partials: &mut [Option<Partial>; 2]) {
        let Some(piece) = Piece::parse(record) else {
            self.broken.push(format!("{}: no CRI line: {}", self.describe(file), excerpt(record)));
            return;
        };
        let slot = &mut partials[piece.stream.index()];
        let partial = slot.get_or_insert_with(|| Partial::new(&piece, file));
        if partial.file != file {
            partial.cut = Some(partial.text.len());
        }
        partial.text.extend_from_slice(piece.text);
        (partial.last, partial.file) = (piece.time, file);
        if piece.continues {
            return;
        }
        let Some(line) = slot.take() else { return };
        match whole(&line.text) {
            Some(id) if id.run == run => {
                self.book(id, log, &line);
                self.book_cut(id, &line);
            }
            None if is_writer(&self.logs[log].container) => {
                self.broken.push(format!("{}: {}", self.describe(file), excerpt(&line.text)));
            }
            _ => self.foreign += 1,
        }
    }

    fn book(&mut self, id: LineId, log: usize, line: &Partial) {
        let (first_ns, last_ns) = (line.first, line.last);
        let line = Line { log, file: line.file, first_ns, last_ns, bytes: line.text.len() };
        self.repeated += u64::from(self.lines.insert(id, line).is_some());
    }

    fn book_cut(&mut self, id: LineId, line: &Partial) {
        if let Some((before, behind)) = line.cut.and_then(|at| line.text.split_at_checked(at)) {
            self.cut.push((id, before.to_vec(), behind.to_vec()));
        }
    }

    fn describe(&self, file: usize) -> String {
        let Seen { pod, container, name, .. } = &self.files[file];
        format!("{pod}/{container}/{name}")
    }

    /// Numbers that no file has though a later one of their source has reached the disk, by source and stream: lost
    /// before the disk, or missed by the witness.
    #[must_use]
    pub fn holes(&self) -> Vec<(u32, Stream, u64)> {
        let mut streams: HashMap<(u32, Stream), (u64, u64)> = HashMap::new();
        for id in self.lines.keys() {
            let (count, end) = streams.entry((id.source, id.stream)).or_default();
            *count += 1;
            *end = (*end).max(id.seq + 1);
        }
        let missing = streams.into_iter().filter(|(_, (count, end))| count < end);
        let mut holes: Vec<_> = missing.map(|((source, stream), (count, end))| (source, stream, end - count)).collect();
        holes.sort();
        holes
    }
}

struct Partial {
    text: Vec<u8>,
    first: i64,
    last: i64,
    file: usize,
    /// Where a rotation cut it last.
    cut: Option<usize>,
}

impl Partial {
    fn new(first: &Piece<'_>, file: usize) -> Self {
        Self { text: Vec::new(), first: first.time, last: first.time, file, cut: None }
    }
}

/// A record of a container runtime's.
struct Piece<'a> {
    time: i64,
    stream: Stream,
    continues: bool,
    text: &'a [u8],
}

impl<'a> Piece<'a> {
    fn parse(record: &'a [u8]) -> Option<Self> {
        let mut words = record.strip_suffix(b"\n")?.splitn(4, |byte| *byte == b' ');
        let time: jiff::Timestamp = std::str::from_utf8(words.next()?).ok()?.parse().ok()?;
        let stream = match words.next()? {
            b"stdout" => Stream::Stdout,
            b"stderr" => Stream::Stderr,
            _ => return None,
        };
        let continues = match words.next()? {
            b"P" => true,
            b"F" => false,
            _ => return None,
        };
        Some(Self { time: i64::try_from(time.as_nanosecond()).ok()?, stream, continues, text: words.next()? })
    }
}

/// Which log a file belongs to, and its place in it.
fn place(seen: &Seen) -> Option<(Log, String)> {
    let mut parts = seen.pod.splitn(3, '_').map(str::to_owned);
    let (namespace, pod, uid) = (parts.next()?, parts.next()?, parts.next()?);
    let (attempt, rest) = seen.name.split_once(".log")?;
    // Behind every time of a rotation.
    let age = if rest.is_empty() { "~" } else { rest };
    let log = Log { namespace, pod, uid, container: seen.container.clone(), attempt: attempt.parse().ok()? };
    Some((log, age.to_owned()))
}

/// Which line it is, if the content is all of it: its text, or a JSON object that has the text as a member.
fn whole(content: &[u8]) -> Option<LineId> {
    if content.first() != Some(&b'{') {
        return line::verify(content).ok().map(|header| header.id);
    }
    let object: BTreeMap<String, serde_json::Value> = serde_json::from_slice(content).ok()?;
    let texts = object.values().filter_map(|value| value.as_str());
    texts.filter_map(|text| line::verify(text.as_bytes()).ok()).map(|header| header.id).next()
}

/// The beginning of something for a report.
pub(crate) fn excerpt(bytes: &[u8]) -> String {
    String::from_utf8_lossy(&bytes[..bytes.len().min(300)]).into_owned()
}

#[cfg(test)]
mod tests;
