//! The values of a JSON text that is known to be one, and their strings without escapes.

use std::borrow::Cow;
use std::ops::Range;

use memchr::{memchr2, memmem};

/// A text that starts like an object or an array, and is one.
pub(super) fn is_json(text: &str) -> bool {
    let text = text.trim_matches([' ', '\t', '\r', '\n']);
    let is_like = text.starts_with('{') && text.ends_with('}') || text.starts_with('[') && text.ends_with(']');
    // Read to its end without a tree, and without recursion.
    is_like && serde_json::from_str::<serde::de::IgnoredAny>(text).is_ok()
}

/// Whether a character is written as `\u` that a built-in rule looks for: printable ASCII, but for `&`, `<` and
/// `>`, which some writers always escape and no secret has. (The simple escapes are of none either.)
pub(super) fn escapes_what_secrets_have(bytes: &[u8]) -> bool {
    memmem::find_iter(bytes, b"\\u").any(|at| {
        let code = bytes.get(at + 2..at + 6).and_then(|digits| std::str::from_utf8(digits).ok());
        let code = code.and_then(|digits| u32::from_str_radix(digits, 16).ok());
        matches!(code, Some(0x20..0x7f)) && !matches!(code, Some(0x26 | 0x3c | 0x3e))
    })
}

/// A string or a number.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Value<'a> {
    /// The name nearest before it, with its escapes.
    pub(super) key: Option<&'a str>,
    /// Where it stands, its quotes included.
    pub(super) range: Range<usize>,
    /// What stands there, without the quotes, with its escapes.
    pub(super) content: &'a str,
    pub(super) is_string: bool,
}

/// All strings that are no names, and all numbers, in the order of the text.
pub(super) fn values(text: &str) -> impl Iterator<Item = Value<'_>> {
    let bytes = text.as_bytes();
    let (mut at, mut key) = (0, None);
    std::iter::from_fn(move || {
        while let Some(byte) = bytes.get(at) {
            let start = at;
            match byte {
                b'"' => {
                    let end = string_end(bytes, start + 1);
                    let content = &text[start + 1..end];
                    at = (end + 1).min(bytes.len());
                    let next = bytes[at..].iter().position(|byte| !byte.is_ascii_whitespace());
                    if next.is_some_and(|next| bytes[at + next] == b':') {
                        key = Some(content);
                        continue;
                    }
                    return Some(Value { key, range: start..at, content, is_string: true });
                }
                b'-' | b'0'..=b'9' => {
                    let is_of_number = |byte: &u8| matches!(byte, b'0'..=b'9' | b'-' | b'+' | b'.' | b'e' | b'E');
                    at += bytes[at..].iter().take_while(|byte| is_of_number(byte)).count();
                    return Some(Value { key, range: start..at, content: &text[start..at], is_string: false });
                }
                _ => at += 1,
            }
        }
        None
    })
}

/// Where the closing quote stands.
fn string_end(bytes: &[u8], mut at: usize) -> usize {
    while let Some(found) = bytes.get(at..).and_then(|rest| memchr2(b'"', b'\\', rest)) {
        if bytes[at + found] == b'"' {
            return at + found;
        }
        at += found + 2;
    }
    bytes.len()
}

/// The string itself. Half a surrogate pair, which some writers leave, becomes U+FFFD.
pub(super) fn unescape(content: &str) -> Cow<'_, str> {
    if memchr::memchr(b'\\', content.as_bytes()).is_none() {
        return Cow::Borrowed(content);
    }
    let mut out = String::with_capacity(content.len());
    let mut rest = content;
    while let Some(at) = memchr::memchr(b'\\', rest.as_bytes()) {
        out.push_str(&rest[..at]);
        rest = &rest[at + 1..];
        let Some(letter) = rest.chars().next() else { break };
        rest = &rest[letter.len_utf8()..];
        match letter {
            'n' => out.push('\n'),
            't' => out.push('\t'),
            'r' => out.push('\r'),
            'b' => out.push('\u{8}'),
            'f' => out.push('\u{c}'),
            'u' => {
                let (character, length) = unicode(rest);
                out.push(character);
                rest = rest.get(length..).unwrap_or_default();
            }
            other => out.push(other),
        }
    }
    out.push_str(rest);
    Cow::Owned(out)
}

/// The character whose digits follow `\u`, and the length of what wrote it.
fn unicode(rest: &str) -> (char, usize) {
    let unit = |from: usize| rest.get(from..from + 4).and_then(|digits| u32::from_str_radix(digits, 16).ok());
    match unit(0) {
        Some(high @ 0xd800..=0xdbff) if rest.get(4..6) == Some("\\u") => match unit(6) {
            Some(low @ 0xdc00..=0xdfff) => {
                let code = 0x1_0000 + ((high - 0xd800) << 10) + (low - 0xdc00);
                (char::from_u32(code).unwrap_or(char::REPLACEMENT_CHARACTER), 10)
            }
            _ => (char::REPLACEMENT_CHARACTER, 4),
        },
        Some(code) => (char::from_u32(code).unwrap_or(char::REPLACEMENT_CHARACTER), 4),
        None => (char::REPLACEMENT_CHARACTER, 0),
    }
}

/// Appends `text` as a JSON string with its quotes.
pub(super) fn quote(text: &str, out: &mut String) {
    use std::fmt::Write as _;
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\0'..' ' => {
                // Writing to a String cannot fail.
                let _ = write!(out, "\\u{:04x}", u32::from(c));
            }
            _ => out.push(c),
        }
    }
    out.push('"');
}
