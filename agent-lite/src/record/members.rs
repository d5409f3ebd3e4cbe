//! The top-level members of a JSON message: found, named apart from ours, each name once.

use std::borrow::Cow;
use std::collections::HashMap;
use std::fmt;
use std::ops::Range;

use serde::de::{Deserializer as _, Error as _, MapAccess, Visitor};
use serde_json::value::RawValue;
use sluice_wire::{limits, record};

use super::escape;

/// The members of the message that was scanned last, as ranges of its text.
#[derive(Debug, Default)]
pub(super) struct Members {
    members: Vec<Member>,
    message: Option<usize>,
}

#[derive(Debug)]
struct Member {
    /// Bytes of the name between its quotes, where it has no escapes; else see `unescaped`.
    name: Range<usize>,
    /// The name of a member that was written with escapes.
    unescaped: Option<Box<str>>,
    value: Range<usize>,
    renamed: bool,
    /// A later member has the same name.
    replaced: bool,
}

impl Member {
    fn name<'a>(&'a self, text: &'a str) -> &'a str {
        self.unescaped.as_deref().unwrap_or_else(|| &text[self.name.clone()])
    }

    /// Whether both have the same name in the record.
    fn is_called_like(&self, other: &Self, text: &str) -> bool {
        let (own, others) = (self.name(text), other.name(text));
        match (self.renamed, other.renamed) {
            (true, false) => others.strip_prefix(record::RENAMED) == Some(own),
            (false, true) => own.strip_prefix(record::RENAMED) == Some(others),
            _ => own == others,
        }
    }
}

/// Below this length no JSON can have more leaves than [`limits::FIELDS`]: a member takes `"":0,`.
const FIELDS_POSSIBLE: usize = limits::FIELDS * 5;
/// VictoriaLogs' parser gives up at 300 levels, and answers 200.
const MAX_DEPTH: usize = 128;
/// Above this many members a table finds repeated names faster than comparing each with each.
const COMPARE_EACH: usize = 24;

impl Members {
    /// Whether `text` is a JSON object that can be merged into a record; if so its members are kept.
    /// Members called like one of `ours` are renamed as those with reserved names are.
    pub(super) fn scan(&mut self, text: &str, ours: &'static [&'static str]) -> bool {
        self.members.clear();
        self.message = None;
        let trimmed = text.trim_matches([' ', '\t', '\r']);
        if !trimmed.starts_with('{') || !trimmed.ends_with('}') {
            return false;
        }
        let mut deserializer = serde_json::Deserializer::from_str(trimmed);
        let collected = deserializer.deserialize_map(Collect { text, ours, into: self });
        if collected.is_err() || deserializer.end().is_err() || !is_within_bounds(trimmed) {
            return false;
        }
        self.keep_last_of_each_name(text);
        self.choose_message(text);
        true
    }

    /// The JSON string that becomes `_msg`, with its quotes.
    pub(super) fn message<'a>(&self, text: &'a str) -> Option<&'a str> {
        self.message.map(|at| &text[self.members[at].value.clone()])
    }

    /// Appends `,"name":value` for every member that is not the message.
    pub(super) fn write_rest(&self, text: &str, out: &mut Vec<u8>) {
        for (at, member) in self.members.iter().enumerate() {
            if member.replaced || self.message == Some(at) {
                continue;
            }
            out.extend_from_slice(b",\"");
            if member.renamed {
                out.extend_from_slice(record::RENAMED.as_bytes());
            }
            match &member.unescaped {
                None => out.extend_from_slice(&text.as_bytes()[member.name.clone()]),
                Some(name) => escape::unquoted(name, out),
            }
            out.extend_from_slice(b"\":");
            push_value(&text.as_bytes()[member.value.clone()], out);
        }
    }

    fn keep_last_of_each_name(&mut self, text: &str) {
        if self.members.len() <= COMPARE_EACH {
            for at in 1..self.members.len() {
                let (earlier, later) = self.members.split_at_mut(at);
                for member in earlier.iter_mut().filter(|member| !member.replaced) {
                    member.replaced = member.is_called_like(&later[0], text);
                }
            }
            return;
        }
        let mut last: HashMap<Cow<'_, str>, usize> = HashMap::with_capacity(self.members.len());
        let mut replaced = Vec::new();
        for (at, member) in self.members.iter().enumerate() {
            let name = member.name(text);
            let name =
                if member.renamed { Cow::Owned(format!("{}{name}", record::RENAMED)) } else { Cow::Borrowed(name) };
            replaced.extend(last.insert(name, at));
        }
        replaced.into_iter().for_each(|at| self.members[at].replaced = true);
    }

    /// The first string of the names in [`record::MESSAGE_KEYS`].
    fn choose_message(&mut self, text: &str) {
        self.message = record::MESSAGE_KEYS.iter().find_map(|key| {
            self.members.iter().position(|member| {
                !member.replaced && member.name(text) == *key && text.as_bytes()[member.value.start] == b'"'
            })
        });
    }
}

/// Appends a value. One over several lines, which JSON may break between its tokens only, comes to stand on one.
fn push_value(value: &[u8], out: &mut Vec<u8>) {
    let start = out.len();
    out.extend_from_slice(value);
    if matches!(value.first(), Some(b'{' | b'[')) && memchr::memchr2(b'\n', b'\r', value).is_some() {
        out[start..].iter_mut().filter(|byte| matches!(byte, b'\n' | b'\r')).for_each(|byte| *byte = b' ');
    }
}

/// Whether stores take an object like this: not too deep, not too many leaves.
pub(super) fn is_within_bounds(text: &str) -> bool {
    if text.len() < 2 * MAX_DEPTH {
        return true;
    }
    let bytes = text.as_bytes();
    let openers = bytes.iter().filter(|byte| matches!(byte, b'{' | b'[')).count();
    let colons = if text.len() < FIELDS_POSSIBLE { 0 } else { bytes.iter().filter(|byte| **byte == b':').count() };
    if openers <= MAX_DEPTH && colons <= limits::FIELDS {
        return true;
    }
    // Text may be full of brackets and colons: only now is it worth telling them apart.
    let (mut depth, mut deepest, mut fields) = (0_usize, 0, 0);
    let (mut in_string, mut escaped) = (false, false);
    for byte in bytes {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_string => escaped = true,
            b'"' => in_string = !in_string,
            _ if in_string => {}
            b'{' | b'[' => {
                depth += 1;
                deepest = deepest.max(depth);
            }
            b'}' | b']' => depth = depth.saturating_sub(1),
            b':' => fields += 1,
            _ => {}
        }
    }
    deepest <= MAX_DEPTH && fields <= limits::FIELDS
}

/// Fills [`Members`] from a JSON object: names unescaped, values as they stand.
struct Collect<'a, 'm> {
    text: &'a str,
    ours: &'static [&'static str],
    into: &'m mut Members,
}

impl<'de> Visitor<'de> for Collect<'de, '_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(name) = map.next_key::<Name<'de>>()? {
            let value: &'de RawValue = map.next_value()?;
            let value = range_of(self.text, value.get()).ok_or_else(|| A::Error::custom("not borrowed"))?;
            let renamed = record::is_reserved(&name.0) || self.ours.contains(&&*name.0);
            let (name, unescaped) = match name.0 {
                Cow::Borrowed(name) => (range_of(self.text, name).unwrap_or_default(), None),
                Cow::Owned(name) => (0..0, Some(name.into_boxed_str())),
            };
            self.into.members.push(Member { name, unescaped, value, renamed, replaced: false });
        }
        Ok(())
    }
}

/// A name, borrowed unless it has escapes. (`Cow`'s own implementation always allocates.)
struct Name<'a>(Cow<'a, str>);

impl<'de: 'a, 'a> serde::Deserialize<'de> for Name<'a> {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct NameVisitor;
        impl<'de> Visitor<'de> for NameVisitor {
            type Value = Name<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a name")
            }

            fn visit_borrowed_str<E>(self, name: &'de str) -> Result<Name<'de>, E> {
                Ok(Name(Cow::Borrowed(name)))
            }

            fn visit_str<E>(self, name: &str) -> Result<Name<'de>, E> {
                Ok(Name(Cow::Owned(name.to_owned())))
            }
        }
        deserializer.deserialize_str(NameVisitor)
    }
}

/// Where `part`, a slice of `whole`, lies in it.
fn range_of(whole: &str, part: &str) -> Option<Range<usize>> {
    let start = (part.as_ptr() as usize).checked_sub(whole.as_ptr() as usize)?;
    let end = start + part.len();
    (end <= whole.len()).then_some(start..end)
}
