//! A line of an application to a record of the schema (MISSION A6; rules in `docs/wire.md`).
//!
//! ```text
//! {"_time":"…","_msg":"…"  ,"cluster":"…","k8s_pod_name":"…",…,"stream":"stdout"  ,"level":"info"  }\n
//!  └ of the line ───────┘  └ common: rendered once for each source and stream ─┘  └ spliced in ─┘
//! ```
//!
//! A JSON message's members are copied as they stand, never built into a tree; where a parser took the
//! message apart, its time, message and fields take their places.

use std::borrow::Cow;

use sluice_wire::{limits, record, time};

use crate::parse::message::Parsed;
use members::Members;

pub mod escape;
mod fields;
mod members;

/// How far a parsed time may lie before the line's own, and after it, to be the record's: 30 days and an
/// hour. What is outside is a wrong clock or zone, or another time altogether.
const OLDEST: i64 = 30 * 86_400 * time::SECOND;
const NEWEST: i64 = 3_600 * time::SECOND;

/// The most that is kept of one value of what is said of a source, bytes.
pub const MAX_VALUE: usize = 4 * 1024;
/// What a record has beside its message and [`Line::common`], bytes at most.
const OVERHEAD: usize = 160;
/// What is said of a source leaves each record so much for its message, bytes once escaped, where that is too long
/// for one record: else there were no end of them.
const ROOM: usize = 32 * 1024;
/// Says that something of the record was too long to be kept whole.
const CUT: (&str, &str) = ("sluice_cut", "true");

/// Renders records; keeps its scratch space from one to the next.
#[derive(Debug, Default)]
pub struct Encoder {
    members: Members,
}

/// What a line looks like to the encoder.
#[derive(Debug, Clone, Copy)]
pub struct Line<'a> {
    /// As the runtime wrote it.
    pub time_text: &'a [u8],
    /// In nanoseconds since the epoch.
    pub time: i64,
    /// What the application wrote, joined.
    pub content: &'a [u8],
    /// What all records of this source and stream have in common: `,"cluster":…` as
    /// [`common`] renders it.
    pub common: &'a [u8],
    /// `Some(n)`: this is the nth part (from 1) of a line too long for one record.
    pub part: Option<u32>,
    /// What a parser made of `content` (of its text, U+FFFD for what is not UTF-8). Not of a part.
    pub parsed: Option<&'a Parsed>,
}

impl<'a> Line<'a> {
    /// The `_time` of the line's records, in nanoseconds since the epoch: the parsed one if it is near
    /// enough to the line's own.
    #[must_use]
    pub fn record_time(&self) -> i64 {
        self.parsed_time().unwrap_or(self.time)
    }

    fn parsed(&self) -> Option<&'a Parsed> {
        if self.part.is_none() { self.parsed } else { None }
    }

    fn parsed_time(&self) -> Option<i64> {
        let time = self.parsed()?.time()?;
        let near = self.time.saturating_sub(OLDEST)..=self.time.saturating_add(NEWEST);
        near.contains(&time).then_some(time)
    }

    /// The parsed time if it is not the record's.
    fn far_time(&self) -> Option<i64> {
        if self.parsed_time().is_none() { self.parsed()?.time() } else { None }
    }
}

impl Encoder {
    /// Appends the record, with its newline. One that does not fit [`limits::LINE`] is appended as
    /// several, each with its `log_part`. Gives the number of records, at least one; each is one line.
    pub fn encode(&mut self, line: &Line<'_>, out: &mut Vec<u8>) -> u32 {
        let text = match simdutf8::basic::from_utf8(line.content) {
            Ok(text) => Cow::Borrowed(text),
            Err(_) => String::from_utf8_lossy(line.content),
        };
        let start = out.len();
        let merged = if let Some(parsed) = line.parsed() {
            write_parsed(line, parsed, &text, out);
            true
        } else if line.part.is_none() && self.members.scan(&text, names_beside(line.common)) {
            self.write_merged(line, &text, out);
            true
        } else {
            false
        };
        if merged {
            if out.len() - start <= limits::LINE + 1 {
                return 1;
            }
            out.truncate(start);
        }
        // Six bytes at most for one of content.
        if text.len() * 6 + OVERHEAD + line.common.len() <= limits::LINE {
            write_text(line, &text, line.part, out);
            return 1;
        }
        let common = with_room(line.common);
        let room = limits::LINE.saturating_sub(OVERHEAD + common.len());
        write_parts(&Line { common: &common, ..*line }, &text, room, out)
    }

    fn write_merged(&self, line: &Line<'_>, text: &str, out: &mut Vec<u8>) {
        write_time(line, out);
        match self.members.message(text) {
            Some(string) => out.extend_from_slice(string.as_bytes()),
            None => escape::quoted(text, out),
        }
        out.extend_from_slice(line.common);
        self.members.write_rest(text, out);
        out.extend_from_slice(b"}\n");
    }
}

fn write_time(line: &Line<'_>, out: &mut Vec<u8>) {
    out.extend_from_slice(record::LINE_START);
    if let Some(parsed) = line.parsed_time() {
        time::write(parsed, out);
    } else if line.time_text.last() == Some(&b'Z') {
        out.extend_from_slice(line.time_text);
    } else {
        time::write(line.time, out);
    }
    out.extend_from_slice(b"\",\"_msg\":");
}

fn write_parsed(line: &Line<'_>, parsed: &Parsed, text: &str, out: &mut Vec<u8>) {
    write_time(line, out);
    escape::quoted(parsed.message(text).unwrap_or(text), out);
    out.extend_from_slice(line.common);
    fields::write(parsed, text, line.far_time(), is_of_node(line.common), out);
    out.extend_from_slice(b"}\n");
}

fn write_text(line: &Line<'_>, text: &str, part: Option<u32>, out: &mut Vec<u8>) {
    use std::io::Write as _;
    write_time(line, out);
    escape::quoted(text, out);
    out.extend_from_slice(line.common);
    if let Some(part) = part {
        // Writing to a Vec cannot fail.
        let _ = write!(out, ",\"log_part\":{part}");
    }
    out.extend_from_slice(b"}\n");
}

/// What is said of a source, without the last of its members where a message would have less than [`ROOM`].
fn with_room(common: &[u8]) -> Cow<'_, [u8]> {
    const MOST: usize = limits::LINE - OVERHEAD - ROOM;
    if common.len() <= MOST {
        return Cow::Borrowed(common);
    }
    // As much as what says so is short of.
    let mut kept = common[..members_within(common, MOST - 32)].to_vec();
    append_cut(&mut kept);
    Cow::Owned(kept)
}

/// Bytes of those of the first members of `common`, which is longer, that end within `limit`.
fn members_within(common: &[u8], limit: usize) -> usize {
    let (mut end, mut depth) = (0, 0_usize);
    let (mut in_string, mut escaped) = (false, false);
    for (at, byte) in common.iter().enumerate().take(limit + 1) {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_string => escaped = true,
            b'"' => in_string = !in_string,
            _ if in_string => {}
            b'{' | b'[' => depth += 1,
            b'}' | b']' => depth = depth.saturating_sub(1),
            b',' if depth == 0 => end = at,
            _ => {}
        }
    }
    end
}

/// Cuts `text` into parts of at most `room` escaped bytes; at least one, also of nothing.
fn write_parts(line: &Line<'_>, text: &str, room: usize, out: &mut Vec<u8>) -> u32 {
    let first = line.part.unwrap_or(1);
    let mut parts = 0;
    let mut rest = text;
    loop {
        let (head, tail) = rest.split_at(escape::fitting(rest, room));
        let whole = parts == 0 && tail.is_empty() && line.part.is_none();
        write_text(line, head, (!whole).then_some(first + parts), out);
        rest = tail;
        parts += 1;
        if rest.is_empty() {
            return parts;
        }
    }
}

/// Renders what all records of a source have in common, in the order given; names are ours and need no
/// escaping.
pub fn common<'a>(fields: impl IntoIterator<Item = (&'a str, &'a str)>) -> Vec<u8> {
    let mut out = Vec::new();
    for (name, value) in fields {
        append(name, value, &mut out);
    }
    out
}

/// Appends one field to what [`common`] has rendered, of its value at most [`MAX_VALUE`]. Gives whether it was cut.
pub fn append(name: &str, value: &str, out: &mut Vec<u8>) -> bool {
    let kept = &value[..value.floor_char_boundary(MAX_VALUE)];
    out.extend_from_slice(b",\"");
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(b"\":");
    escape::quoted(kept, out);
    kept.len() < value.len()
}

/// Says in what [`common`] has rendered that something was cut.
pub fn append_cut(out: &mut Vec<u8>) {
    append(CUT.0, CUT.1, out);
}

/// What records of the node's own logs say of their source, beside the reserved names. Such a record begins
/// with `unit`, by which it is known.
pub const NODE_NAMES: &[&str] =
    &["unit", "identifier", "pid", "severity", "facility", "hostname", "boot_id", "transport", "subsystem", "device"];

fn is_of_node(common: &[u8]) -> bool {
    common.starts_with(b",\"unit\":")
}

/// Names that a message's members may not have beside `common`: a store would keep both.
fn names_beside(common: &[u8]) -> &'static [&'static str] {
    if is_of_node(common) { NODE_NAMES } else { &[] }
}

/// Whether `text`, known to be a JSON object, can stand in a record as one member: stores take it, neither
/// too deep nor of too many leaves.
#[must_use]
pub fn can_be_nested(text: &str) -> bool {
    members::is_within_bounds(text)
}

#[cfg(test)]
mod tests;
