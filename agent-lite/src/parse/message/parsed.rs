//! What a text was taken apart into.

use std::ops::Range;

use super::super::unescape::{self, Escapes};
use super::{MAX_FIELDS, MAX_NAME};

/// The parts of one text, mostly as ranges of it. Kept from one text to the next, so that its space is
/// used again: at most one and a half times the longest text, and [`MAX_FIELDS`] ranges.
#[derive(Debug, Default)]
pub struct Parsed {
    time: Option<i64>,
    message: Option<Span>,
    fields: Vec<Field>,
    /// What does not stand in the text as it reads: unescaped values, names put together.
    own: String,
    bytes: Vec<u8>,
}

/// Where something stands.
#[derive(Debug, Clone)]
pub(super) enum Span {
    Text(Range<usize>),
    Own(Range<usize>),
}

impl From<Range<usize>> for Span {
    fn from(range: Range<usize>) -> Self {
        Self::Text(range)
    }
}

/// What a field is called.
#[derive(Debug)]
pub(super) enum Name {
    Known(&'static str),
    Span(Span),
}

impl From<&'static str> for Name {
    fn from(name: &'static str) -> Self {
        Self::Known(name)
    }
}

impl From<Span> for Name {
    fn from(span: Span) -> Self {
        Self::Span(span)
    }
}

#[derive(Debug)]
struct Field {
    name: Name,
    value: FieldValue,
}

#[derive(Debug)]
enum FieldValue {
    Text(Span),
    Number(Range<usize>),
    Known(&'static str),
}

/// A field's value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Value<'a> {
    /// To be escaped.
    Text(&'a str),
    /// A JSON number as it stands.
    Number(&'a str),
}

impl Parsed {
    /// When it happened, in nanoseconds of the epoch, if the text says so.
    #[must_use]
    pub fn time(&self) -> Option<i64> {
        self.time
    }

    /// The message, where the form has one; `text` is the one that was parsed.
    #[must_use]
    pub fn message<'a>(&'a self, text: &'a str) -> Option<&'a str> {
        self.message.as_ref().map(|span| self.get(span, text))
    }

    /// The fields in their order; names may be repeated. `text` is the one that was parsed.
    pub fn fields<'a>(&'a self, text: &'a str) -> impl Iterator<Item = (&'a str, Value<'a>)> + Clone {
        self.fields.iter().map(|field| {
            let value = match &field.value {
                FieldValue::Text(span) => Value::Text(self.get(span, text)),
                FieldValue::Number(range) => number(text.get(range.clone()).unwrap_or_default()),
                FieldValue::Known(value) => Value::Text(value),
            };
            (self.name(field, text), value)
        })
    }

    fn name<'a>(&'a self, field: &'a Field, text: &'a str) -> &'a str {
        match &field.name {
            Name::Known(name) => name,
            Name::Span(span) => self.get(span, text),
        }
    }

    /// With another text than the one that was parsed there may be nothing.
    pub(super) fn get<'a>(&'a self, span: &Span, text: &'a str) -> &'a str {
        match span {
            Span::Text(range) => text.get(range.clone()).unwrap_or_default(),
            Span::Own(range) => self.own.get(range.clone()).unwrap_or_default(),
        }
    }

    pub(super) fn clear(&mut self) {
        self.time = None;
        self.message = None;
        self.fields.clear();
        self.own.clear();
    }

    pub(super) fn set_time(&mut self, time: i64) {
        self.time = Some(time);
    }

    pub(super) fn set_message(&mut self, message: impl Into<Span>) {
        self.message = Some(message.into());
    }

    /// Adds a field; `None`: there are too many, or its name is too long.
    pub(super) fn push(&mut self, name: impl Into<Name>, value: impl Into<Span>) -> Option<()> {
        self.add(name.into(), FieldValue::Text(value.into()))
    }

    /// Adds a field whose value is one of ours.
    pub(super) fn push_known(&mut self, name: &'static str, value: &'static str) -> Option<()> {
        self.add(name.into(), FieldValue::Known(value))
    }

    /// Adds a field whose value is a number, where it reads as one in JSON; else it is text.
    pub(super) fn push_number(&mut self, name: &'static str, value: Range<usize>) -> Option<()> {
        self.add(name.into(), FieldValue::Number(value))
    }

    fn add(&mut self, name: Name, value: FieldValue) -> Option<()> {
        let length = match &name {
            Name::Known(name) => name.len(),
            Name::Span(Span::Text(range) | Span::Own(range)) => range.len(),
        };
        if self.fields.len() >= MAX_FIELDS || length > MAX_NAME {
            return None;
        }
        self.fields.push(Field { name, value });
        Some(())
    }

    pub(super) fn field_count(&self) -> usize {
        self.fields.len()
    }

    pub(super) fn truncate_fields(&mut self, count: usize) {
        self.fields.truncate(count);
    }

    /// Takes all fields called `name` out; gives the value of the last.
    pub(super) fn take_field(&mut self, name: &str, text: &str) -> Option<Span> {
        let mut value = None;
        for at in (0..self.fields.len()).rev() {
            if self.name(&self.fields[at], text) != name {
                continue;
            }
            if let (None, FieldValue::Text(span)) = (&value, self.fields.remove(at).value) {
                value = Some(span);
            }
        }
        value
    }

    /// What stands in `range` of `text`, unescaped.
    pub(super) fn unescaped(&mut self, text: &str, range: Range<usize>, escapes: Escapes) -> Span {
        let raw = &text.as_bytes()[range.clone()];
        if memchr::memchr(b'\\', raw).is_none() {
            return Span::Text(range);
        }
        self.bytes.clear();
        unescape::append(raw, escapes, &mut self.bytes);
        let start = self.own.len();
        for chunk in self.bytes.utf8_chunks() {
            self.own.push_str(chunk.valid());
            if !chunk.invalid().is_empty() {
                self.own.push(char::REPLACEMENT_CHARACTER);
            }
        }
        Span::Own(start..self.own.len())
    }

    /// Puts a name together that does not stand in the text.
    pub(super) fn composed(&mut self, parts: &[&str]) -> Span {
        let start = self.own.len();
        parts.iter().for_each(|part| self.own.push_str(part));
        Span::Own(start..self.own.len())
    }
}

/// Digits that JSON takes for a number and that a store can hold.
fn number(digits: &str) -> Value<'_> {
    let plain = !digits.is_empty() && digits.len() <= 19 && digits.bytes().all(|byte| byte.is_ascii_digit());
    if plain && (digits == "0" || !digits.starts_with('0')) { Value::Number(digits) } else { Value::Text(digits) }
}
