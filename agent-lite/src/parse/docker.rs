//! Docker's json-file driver: `{"log":"…\n","stream":"stdout","time":"2025-10-26T10:15:30.123Z"}`.
//!
//! Facts (moby `daemon/logger/jsonfilelog`, `daemon/logger/copier.go`; kubernetes
//! `cri-client/pkg/logs/logs.go`): a `log` that does not end in a newline goes on in the next line of its
//! stream (cut at 16 KiB); `attrs` may follow where the daemon is told to log labels; a rotation under a
//! writer that keeps its offset leaves NULs before a line (moby#40584); a full disk leaves half a line,
//! glued to the next.

use memchr::{memchr2, memmem};
use sluice_wire::{Stream, time};

use super::Piece;
use super::unescape::{self, Escapes};

/// How the driver begins each line.
const START: &[u8] = b"{\"log\":\"";
/// Members that are not ours are stepped over down to this depth; the driver writes one.
const MAX_DEPTH: usize = 16;

/// Takes a line (without its newline) apart; `scratch` holds the content where it has escapes, at most one
/// and a half times the line. `None`: torn.
///
/// The content is without its newline and without a `\r` before that, as containerd has it.
pub fn parse<'a>(line: &'a [u8], scratch: &'a mut Vec<u8>, times: &mut time::Parser) -> Option<Piece<'a>> {
    whole(line, times).map(|found| piece(found, scratch))
}

/// Takes a line apart, or else the whole one inside it, see [`resynchronise`]: 0 and the piece where none of
/// it is torn.
pub fn parse_or_resynchronise<'a>(
    line: &'a [u8],
    scratch: &'a mut Vec<u8>,
    times: &mut time::Parser,
) -> Option<(usize, Piece<'a>)> {
    let found = whole(line, times).map(|found| (0, found)).or_else(|| inside(line, times));
    found.map(|(at, found)| (at, piece(found, scratch)))
}

/// Looks for a whole line inside a torn one. Gives the offset at which it begins (of it
/// [`leading_nuls`](super::leading_nuls) are NULs) and the piece.
pub fn resynchronise<'a>(
    torn: &'a [u8],
    scratch: &'a mut Vec<u8>,
    times: &mut time::Parser,
) -> Option<(usize, Piece<'a>)> {
    inside(torn, times).map(|(at, found)| (at, piece(found, scratch)))
}

/// A line's members and its time. `None`: torn.
fn whole<'a>(line: &'a [u8], times: &mut time::Parser) -> Option<(Members<'a>, i64)> {
    let members = Members::of(line)?;
    let time = times.parse(members.time)?;
    Some((members, time))
}

/// The first whole line inside a torn one, and where it begins.
fn inside<'a>(torn: &'a [u8], times: &mut time::Parser) -> Option<(usize, (Members<'a>, i64))> {
    // After NULs a line may begin in any order of its members.
    let after_nuls = Some(super::leading_nuls(torn)).filter(|nuls| *nuls > 0);
    // Within a string quotes are escaped: an application cannot write a start.
    let mut starts = after_nuls.into_iter().chain(memmem::find_iter(torn, START));
    starts.find_map(|at| Some((at, whole(&torn[at..], times)?)))
}

fn piece<'a>((members, time): (Members<'a>, i64), scratch: &'a mut Vec<u8>) -> Piece<'a> {
    let (content, ended) = content(members.log, scratch);
    Piece { time_text: members.time, time, stream: members.stream, partial: !ended, content }
}

/// What the application wrote, and whether its line ends here.
fn content<'a>(log: Text<'a>, scratch: &'a mut Vec<u8>) -> (&'a [u8], bool) {
    let (raw, ended) = match strip_escape(log.raw, b'n') {
        Some(raw) => (strip_escape(raw, b'r').unwrap_or(raw), true),
        None => (log.raw, false),
    };
    // By far the most lines have no escape but the newline's.
    if log.escape >= raw.len() {
        return (raw, ended);
    }
    scratch.clear();
    unescape::append(raw, Escapes::Json, scratch);
    let content = scratch.as_slice();
    if ended {
        return (content, true);
    }
    // `\u000a` is a newline as well.
    match content.strip_suffix(b"\n") {
        Some(content) => (content.strip_suffix(b"\r").unwrap_or(content), true),
        None => (content, false),
    }
}

/// `text` without the sequence `\letter` at its end.
fn strip_escape(text: &[u8], letter: u8) -> Option<&[u8]> {
    let rest = text.strip_suffix(&[letter])?;
    let backslashes = rest.iter().rev().take_while(|byte| **byte == b'\\').count();
    (backslashes % 2 == 1).then(|| &rest[..rest.len() - 1])
}

/// A string as it stands between its quotes.
#[derive(Debug, Clone, Copy)]
struct Text<'a> {
    raw: &'a [u8],
    /// Where its first escape is; its length: it has none.
    escape: usize,
}

/// The members of a line that count.
struct Members<'a> {
    log: Text<'a>,
    stream: Stream,
    time: &'a [u8],
}

impl<'a> Members<'a> {
    /// `None`: not an object, whole, with the three; of repeated ones the last counts.
    fn of(line: &'a [u8]) -> Option<Self> {
        let (mut log, mut stream, mut time) = (None, None, None);
        let mut reader = Reader { rest: line };
        reader.expect(b'{')?;
        loop {
            let name = reader.text()?;
            reader.expect(b':')?;
            match name.raw {
                b"log" => log = Some(reader.text()?),
                b"stream" => {
                    stream = match reader.text()?.raw {
                        b"stdout" => Some(Stream::Stdout),
                        b"stderr" => Some(Stream::Stderr),
                        _ => return None,
                    }
                }
                b"time" => time = Some(reader.text()?.raw),
                _ => reader.step_over()?,
            }
            match reader.next()? {
                b',' => {}
                b'}' => break,
                _ => return None,
            }
        }
        reader.step_over_space();
        reader.rest.is_empty().then_some(())?;
        Some(Self { log: log?, stream: stream?, time: time? })
    }
}

/// Reads JSON from the front.
struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    fn step_over_space(&mut self) {
        while let [b' ' | b'\t' | b'\r', rest @ ..] = self.rest {
            self.rest = rest;
        }
    }

    /// The next byte that is no white space.
    fn next(&mut self) -> Option<u8> {
        self.step_over_space();
        let (first, rest) = self.rest.split_first()?;
        self.rest = rest;
        Some(*first)
    }

    fn expect(&mut self, byte: u8) -> Option<()> {
        (self.next()? == byte).then_some(())
    }

    fn text(&mut self) -> Option<Text<'a>> {
        self.expect(b'"')?;
        let (mut at, mut escape) = (0, None);
        loop {
            at += memchr2(b'"', b'\\', &self.rest[at..])?;
            if self.rest[at] == b'"' {
                break;
            }
            escape.get_or_insert(at);
            at += 2;
            // An escape that nothing follows.
            (at <= self.rest.len()).then_some(())?;
        }
        let raw = &self.rest[..at];
        self.rest = &self.rest[at + 1..];
        Some(Text { raw, escape: escape.unwrap_or(at) })
    }

    /// Steps over a value of any kind. What stands between brackets is not looked at closely.
    fn step_over(&mut self) -> Option<()> {
        let mut depth = 0_usize;
        loop {
            self.step_over_space();
            match self.rest.first()? {
                b'"' => {
                    self.text()?;
                }
                b'{' | b'[' => {
                    self.rest = &self.rest[1..];
                    depth += 1;
                    (depth <= MAX_DEPTH).then_some(())?;
                }
                b'}' | b']' => {
                    self.rest = &self.rest[1..];
                    depth = depth.checked_sub(1)?;
                }
                b',' | b':' if depth > 0 => self.rest = &self.rest[1..],
                byte if byte.is_ascii_alphanumeric() || *byte == b'-' => {
                    let part = |byte: &&u8| byte.is_ascii_alphanumeric() || b"+-.".contains(byte);
                    let length = self.rest.iter().take_while(part).count();
                    self.rest = &self.rest[length..];
                }
                _ => return None,
            }
            if depth == 0 {
                return Some(());
            }
        }
    }
}

#[cfg(test)]
mod tests;
