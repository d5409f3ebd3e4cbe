//! `key=value key="other value"` to the end of a text.

use super::super::unescape::Escapes;
use super::Parsed;
use super::cursor::Cursor;
use super::parsed::Span;

/// What a dialect allows beside plain pairs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Dialect {
    /// As Go's logfmt libraries and `slog`'s text handler write it: strings are quoted where need be.
    Logfmt,
    /// klog quotes keys in its older form, and may write objects as JSON.
    Klog,
}

/// Adds a field for each pair. `None`: something of the rest is no pair, and fields may have been added.
pub(super) fn take(cursor: &mut Cursor<'_>, dialect: Dialect, parsed: &mut Parsed) -> Option<()> {
    loop {
        cursor.eat_blanks();
        if cursor.is_at_end() {
            return Some(());
        }
        let key = key(cursor, dialect, parsed)?;
        let value = value(cursor, dialect, parsed)?;
        // A value ends where a blank is.
        matches!(cursor.peek(), None | Some(b' ' | b'\t')).then_some(())?;
        parsed.push(key, value)?;
    }
}

/// A key and its `=`.
fn key(cursor: &mut Cursor<'_>, dialect: Dialect, parsed: &mut Parsed) -> Option<Span> {
    let key = if dialect == Dialect::Klog && cursor.peek() == Some(b'"') {
        let key = cursor.quoted()?;
        parsed.unescaped(cursor.text(), key, Escapes::Go)
    } else {
        let key = cursor.run(|byte| byte > b' ' && byte != 0x7f && !b"=\"".contains(&byte));
        (!key.is_empty()).then_some(())?;
        key.into()
    };
    cursor.eat("=")?;
    Some(key)
}

fn value(cursor: &mut Cursor<'_>, dialect: Dialect, parsed: &mut Parsed) -> Option<Span> {
    match cursor.peek() {
        Some(b'"') => {
            let value = cursor.quoted()?;
            return Some(parsed.unescaped(cursor.text(), value, Escapes::Go));
        }
        Some(b'{' | b'[') if dialect == Dialect::Klog => {
            let start = cursor.at();
            if let Some(length) = json_length(&cursor.text()[start..]) {
                cursor.go_to(start + length);
                return Some((start..start + length).into());
            }
        }
        _ => {}
    }
    let value = cursor.run(|byte| byte > b' ' && byte != b'"');
    Some(value.into())
}

/// How long the JSON value is that `text` begins with.
fn json_length(text: &str) -> Option<usize> {
    let mut values = serde_json::Deserializer::from_str(text).into_iter::<serde::de::IgnoredAny>();
    values.next()?.ok()?;
    Some(values.byte_offset())
}
