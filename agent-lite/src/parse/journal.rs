//! The journal's export format (`systemd.io/JOURNAL_EXPORT_FORMATS`), piece by piece as it comes out of a
//! pipe.
//!
//! ```text
//! __CURSOR=s=b180…;i=1f;b=1acb…\n          a text field
//! MESSAGE\n<u64, little-endian><data>\n    any field, as bytes
//! \n                                       the end of an entry
//! ```
//!
//! Only fields that are asked for are kept. A field and an entry have a bound; what is longer is cut, and
//! said to be.

use std::ops::Range;

use memchr::memchr;

/// The most that is kept of one field, bytes.
pub const MAX_FIELD: usize = 1024 * 1024;
/// The most that is kept of one entry, bytes.
pub const MAX_ENTRY: usize = 4 * 1024 * 1024;
/// Bytes of memory that are kept from one entry to the next.
const KEPT: usize = 64 * 1024;
/// journald takes names of at most 64 bytes; journalctl's own begin with two underscores more.
const MAX_NAME: usize = 256;
/// More than journald stores of a field (768 MiB, `DATA_SIZE_MAX`): a length above it is none.
const MAX_LENGTH: u64 = 1 << 30;

/// The stream is not in the export format: there is no telling where the next entry begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// A name that is too long to be one.
    #[error("a field's name of more than {MAX_NAME} bytes")]
    Name,
    /// A length that no field has.
    #[error("a field of {0} bytes")]
    Length(u64),
    /// A field of bytes that does not end where it should.
    #[error("no newline behind a field of bytes")]
    End,
}

/// Takes a stream apart, entry by entry.
#[derive(Debug)]
pub struct Decoder {
    wanted: &'static [&'static str],
    state: State,
    /// What was read of a name, or of a length.
    head: Vec<u8>,
    entry: Entry,
    is_complete: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// In a field's name, or at the end of the entry.
    Name,
    /// In the value of a text field.
    Text,
    /// In the length of a field of bytes.
    Length,
    /// In its data, with so many bytes to come.
    Data(u64),
    /// At the newline behind it.
    End,
}

/// One entry of the journal.
#[derive(Debug, Default)]
pub struct Entry {
    bytes: Vec<u8>,
    /// Which of the wanted fields, and where its value is. A field may be there several times.
    fields: Vec<(usize, Range<usize>)>,
    wanted: &'static [&'static str],
    /// The field that is being read, where it is kept.
    open: Option<(usize, usize)>,
    has_begun: bool,
    /// Bytes of the stream that it took, all its fields and its end included.
    pub size: u64,
    /// Whether something of it was too long to be kept whole.
    pub is_cut: bool,
}

impl Entry {
    /// The first value of a field that was asked for.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&[u8]> {
        let found = self.fields.iter().find(|(which, _)| self.wanted[*which] == name);
        found.map(|(_, value)| &self.bytes[value.clone()])
    }

    /// The same, where it is UTF-8.
    #[must_use]
    pub fn text(&self, name: &str) -> Option<&str> {
        self.get(name).and_then(|value| std::str::from_utf8(value).ok())
    }

    fn clear(&mut self) {
        self.bytes.clear();
        // A rare large entry does not keep its memory.
        self.bytes.shrink_to(KEPT);
        self.fields.clear();
        self.open = None;
        self.has_begun = false;
        self.size = 0;
        self.is_cut = false;
    }

    fn begin(&mut self, name: &[u8]) {
        let which = self.wanted.iter().position(|wanted| wanted.as_bytes() == name);
        self.open = which.map(|which| (which, self.bytes.len()));
        self.has_begun = true;
    }

    fn add(&mut self, value: &[u8]) {
        let Some((_, start)) = self.open else { return };
        let room = (MAX_FIELD - (self.bytes.len() - start)).min(MAX_ENTRY - self.bytes.len());
        self.is_cut |= value.len() > room;
        self.bytes.extend_from_slice(&value[..value.len().min(room)]);
    }

    fn end(&mut self) {
        if let Some((which, start)) = self.open.take() {
            self.fields.push((which, start..self.bytes.len()));
        }
    }
}

impl Decoder {
    /// Keeps the fields of these names.
    #[must_use]
    pub fn new(wanted: &'static [&'static str]) -> Self {
        let entry = Entry { wanted, ..Entry::default() };
        Self { wanted, state: State::Name, head: Vec::new(), entry, is_complete: false }
    }

    /// Takes bytes from the front of `input` until an entry is whole, or there are no more. Gives `true`
    /// where one is: [`Decoder::entry`] is it until the next call.
    ///
    /// # Errors
    /// These bytes are no export stream. Nothing can be had of this decoder any more.
    pub fn next(&mut self, input: &mut &[u8]) -> Result<bool, Malformed> {
        if std::mem::take(&mut self.is_complete) {
            self.entry.clear();
        }
        while !input.is_empty() {
            let before = input.len();
            let is_whole = self.step(input);
            self.entry.size += (before - input.len()) as u64;
            if is_whole? {
                self.is_complete = true;
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// The entry that became whole last.
    #[must_use]
    pub fn entry(&self) -> &Entry {
        &self.entry
    }

    /// Forgets what was begun: another stream begins.
    pub fn reset(&mut self) {
        *self = Self::new(self.wanted);
    }

    fn step(&mut self, input: &mut &[u8]) -> Result<bool, Malformed> {
        match self.state {
            State::Name => return self.name(input),
            State::Text => {
                let end = memchr(b'\n', input);
                self.entry.add(take(input, end.unwrap_or(input.len())));
                if end.is_some() {
                    take(input, 1);
                    self.end_field();
                }
            }
            State::Length => {
                let missing = 8 - self.head.len();
                self.head.extend_from_slice(take(input, missing.min(input.len())));
                if let Ok(bytes) = <[u8; 8]>::try_from(&*self.head) {
                    let length = u64::from_le_bytes(bytes);
                    if length > MAX_LENGTH {
                        return Err(Malformed::Length(length));
                    }
                    self.head.clear();
                    self.state = if length == 0 { State::End } else { State::Data(length) };
                }
            }
            State::Data(missing) => {
                let length = usize::try_from(missing).unwrap_or(usize::MAX).min(input.len());
                self.entry.add(take(input, length));
                let missing = missing - length as u64;
                self.state = if missing == 0 { State::End } else { State::Data(missing) };
            }
            State::End => {
                if take(input, 1) != b"\n" {
                    return Err(Malformed::End);
                }
                self.end_field();
            }
        }
        Ok(false)
    }

    /// Reads a name up to its `=` or newline; gives `true` at the end of an entry.
    fn name(&mut self, input: &mut &[u8]) -> Result<bool, Malformed> {
        let end = input.iter().take(MAX_NAME + 1).position(|byte| matches!(byte, b'=' | b'\n'));
        let length = end.unwrap_or(input.len());
        if self.head.len() + length > MAX_NAME {
            return Err(Malformed::Name);
        }
        self.head.extend_from_slice(take(input, length));
        let Some(end) = end.map(|_| take(input, 1)) else { return Ok(false) };
        if end == b"\n" && self.head.is_empty() {
            // Several newlines in a row end one entry.
            return Ok(self.entry.has_begun);
        }
        self.entry.begin(&self.head);
        self.head.clear();
        self.state = if end == b"=" { State::Text } else { State::Length };
        Ok(false)
    }

    fn end_field(&mut self) {
        self.entry.end();
        self.state = State::Name;
    }
}

/// The first `length` bytes of `input`, which loses them.
fn take<'a>(input: &mut &'a [u8], length: usize) -> &'a [u8] {
    let (head, rest) = input.split_at(length);
    *input = rest;
    head
}

/// Where an entry stands in its journal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cursor {
    /// Which sequence of numbers (`s`): one journald's, until it has to begin a journal anew.
    pub sequence: u128,
    /// Its number in it (`i`), from 1.
    pub number: u64,
}

impl Cursor {
    /// Takes `s=<hex>;i=<hex>;…` apart. The rest of a cursor is not needed to find an entry again
    /// (systemd `sd_journal_seek_cursor`: a part of the fields is enough).
    #[must_use]
    pub fn parse(text: &[u8]) -> Option<Self> {
        let text = std::str::from_utf8(text).ok()?;
        let part = |name: &str| text.split(';').find_map(|part| part.strip_prefix(name)?.strip_prefix('='));
        let sequence = u128::from_str_radix(part("s").filter(|hex| hex.len() == 32)?, 16).ok()?;
        let number = u64::from_str_radix(part("i")?, 16).ok()?;
        (number < u64::MAX).then_some(Self { sequence, number })
    }

    /// As journalctl's `--cursor` takes it.
    #[must_use]
    pub fn to_text(self) -> String {
        format!("s={:032x};i={:x}", self.sequence, self.number)
    }
}

/// The word of a syslog priority, `PRIORITY=` or a kernel record's.
#[must_use]
pub fn severity(priority: &[u8]) -> Option<&'static str> {
    const WORDS: [&str; 8] = ["emerg", "alert", "crit", "err", "warning", "notice", "info", "debug"];
    match priority {
        [digit @ b'0'..=b'7'] => Some(WORDS[usize::from(digit - b'0')]),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const WANTED: &[&str] = &["MESSAGE", "__CURSOR", "_PID"];

    type Fields = Vec<(String, Vec<u8>)>;
    /// Values of the wanted fields, the entry's size, and whether it was cut.
    type Found = (Vec<Option<Vec<u8>>>, u64, bool);

    /// As journalctl writes it: what is no plain text goes as bytes.
    fn write(fields: &Fields, out: &mut Vec<u8>) {
        for (name, value) in fields {
            out.extend_from_slice(name.as_bytes());
            if value.iter().all(|byte| *byte >= b' ' || *byte == b'\t') {
                out.push(b'=');
            } else {
                out.push(b'\n');
                out.extend_from_slice(&(value.len() as u64).to_le_bytes());
            }
            out.extend_from_slice(value);
            out.push(b'\n');
        }
        out.push(b'\n');
    }

    /// Everything that a stream holds, given in pieces of `at_once` bytes: values in the order of [`WANTED`].
    fn read(stream: &[u8], at_once: usize) -> Result<Vec<Found>, Malformed> {
        let mut decoder = Decoder::new(WANTED);
        let mut entries = Vec::new();
        for mut piece in stream.chunks(at_once.max(1)) {
            while decoder.next(&mut piece)? {
                let entry = decoder.entry();
                let values = WANTED.iter().map(|name| entry.get(name).map(<[u8]>::to_vec)).collect();
                entries.push((values, entry.size, entry.is_cut));
            }
        }
        Ok(entries)
    }

    #[test]
    fn entries_as_journalctl_writes_them() {
        let stream = b"__CURSOR=s=1;i=2\nMESSAGE=a=b\n_PID=7\nOTHER=x\n\n\n\nMESSAGE\n\x03\0\0\0\0\0\0\0a\nb\n\nMESSAGE=\n\n_PID=1\n";
        for at_once in [1, 2, 3, 1000] {
            let entries = read(stream, at_once).unwrap();
            let value = |text: &str| Some(text.as_bytes().to_vec());
            assert_eq!(entries[0].0, [value("a=b"), value("s=1;i=2"), value("7")]);
            assert_eq!(entries[1].0, [value("a\nb"), None, None]);
            assert_eq!(entries[2].0, [value(""), None, None]);
            assert_eq!((entries.len(), entries[0].1, entries[1].1), (3, 45, 23));
        }
    }

    #[test]
    fn what_is_too_long_is_cut_and_said_to_be() {
        let mut stream = Vec::new();
        write(&vec![("MESSAGE".into(), vec![b'x'; MAX_FIELD + 5]), ("_PID".into(), b"1".to_vec())], &mut stream);
        write(&vec![("MESSAGE".into(), vec![b'\n'; MAX_FIELD])], &mut stream);
        write(&(0..6).map(|_| ("_PID".to_owned(), vec![b'y'; MAX_FIELD])).collect(), &mut stream);
        let entries = read(&stream, 64 * 1024).unwrap();
        assert_eq!(entries[0].0[0].as_ref().map(Vec::len), Some(MAX_FIELD));
        assert_eq!(entries[0].0[2].as_deref(), Some(&b"1"[..]));
        assert_eq!(entries.iter().map(|entry| entry.2).collect::<Vec<_>>(), [true, false, true]);
        assert_eq!(entries.iter().map(|entry| entry.1).sum::<u64>(), stream.len() as u64);
    }

    #[test]
    fn what_is_no_export_stream_is_refused() {
        assert_eq!(read(&[b'a'; 300], 7), Err(Malformed::Name));
        assert_eq!(read(b"MESSAGE\n\xff\xff\xff\xff\xff\xff\xff\xff", 3), Err(Malformed::Length(u64::MAX)));
        assert_eq!(read(b"MESSAGE\n\x01\0\0\0\0\0\0\0ab", 3), Err(Malformed::End));
    }

    #[test]
    fn cursors() {
        let text = b"s=b180333166f445599ec032fb1d452f34;i=1f;b=1acbe82d027647d79dc5149979f6bf63;m=3e8;t=6;x=5";
        let cursor = Cursor::parse(text).unwrap();
        assert_eq!((cursor.number, cursor.to_text()), (31, "s=b180333166f445599ec032fb1d452f34;i=1f".to_owned()));
        for text in ["", "s=12;i=1", "s=b180333166f445599ec032fb1d452f34", "s=b180333166f445599ec032fb1d452f34;i=x"] {
            assert_eq!(Cursor::parse(text.as_bytes()), None, "{text}");
        }
        assert_eq!((severity(b"3"), severity(b"8"), severity(b"")), (Some("err"), None, None));
    }

    proptest! {
        #[test]
        fn what_was_written_is_read_however_it_is_cut(
            entries in prop::collection::vec(
                prop::collection::vec(
                    (prop::sample::select(vec!["MESSAGE", "_PID", "ELSE"]), prop::collection::vec(any::<u8>(), 0..40)), 1..6),
                0..6),
            at_once in 1_usize..50,
        ) {
            let mut stream = Vec::new();
            for entry in &entries {
                write(&entry.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect(), &mut stream);
            }
            let read = read(&stream, at_once).unwrap();
            prop_assert_eq!(read.len(), entries.len());
            prop_assert_eq!(read.iter().map(|entry| entry.1).sum::<u64>(), stream.len() as u64);
            for (read, written) in read.iter().zip(&entries) {
                let first = written.iter().find(|(name, _)| *name == "MESSAGE").map(|(_, value)| value.clone());
                prop_assert_eq!(&read.0[0], &first);
            }
        }

        #[test]
        fn any_bytes_are_taken_apart_without_a_panic(stream in prop::collection::vec(any::<u8>(), 0..400), at_once in 1_usize..60) {
            let _ = read(&stream, at_once);
            let _ = Cursor::parse(&stream);
        }
    }
}
