//! Kubernetes' own components: `I1026 10:15:30.123456   12345 file.go:42] "Message" key="value"`.
//!
//! Facts (klog's `klog.go`, `formatHeader`: `Lmmdd hh:mm:ss.uuuuuu threadid file:line] msg`; severities
//! `I`, `W`, `E`, `F`; the clock is the process's own): a structured message is quoted and pairs follow; the
//! older `klogr` quotes the keys too and writes values as JSON, the message among them as `"msg"` behind the logger's name.

use std::ops::Range;

use memchr::memmem;

use super::super::unescape::Escapes;
use super::cursor::Cursor;
use super::pairs::{self, Dialect};
use super::when::Wall;
use super::{Parsed, TimeContext};

/// Places at which pairs with quoted keys are looked for behind a plain message.
const MAX_TRIES: usize = 16;

pub(super) fn parse(text: &str, context: &TimeContext, parsed: &mut Parsed) -> Option<()> {
    let cursor = &mut Cursor::new(text);
    let severity = match cursor.peek()? {
        b'I' => "info",
        b'W' => "warning",
        b'E' => "error",
        b'F' => "fatal",
        _ => return None,
    };
    cursor.go_to(1);
    let mut wall = Wall { month: cursor.digits(2)?, day: cursor.digits(2)?, ..Wall::default() };
    cursor.eat(" ")?;
    wall.clock(cursor)?;
    cursor.eat(" ")?;
    cursor.eat_blanks();
    let thread = cursor.run(|byte| byte.is_ascii_digit());
    cursor.eat(" ")?;
    let source = cursor.until(b']')?;
    let is_source = !thread.is_empty() && text[source.clone()].contains(':') && !text[source.clone()].contains(' ');
    is_source.then_some(())?;
    parsed.set_time(wall.at(None, None, context)?);
    parsed.push_known("severity", severity)?;
    parsed.push("thread", thread)?;
    parsed.push("source", source)?;
    let _ = cursor.eat(" ");
    take_message(*cursor, parsed);
    Some(())
}

/// Where what follows cannot be told apart, all of it is the message.
fn take_message(cursor: Cursor<'_>, parsed: &mut Parsed) {
    let taken = if cursor.peek() == Some(b'"') {
        attempt(parsed, |parsed| after_quoted(cursor, parsed))
    } else {
        after_plain(cursor, parsed)
    };
    if !taken {
        parsed.set_message(cursor.rest_range());
    }
}

/// `"Message" key="value"` or `"msg"="Message" "key"="value"`.
fn after_quoted(mut cursor: Cursor<'_>, parsed: &mut Parsed) -> Option<()> {
    let start = cursor;
    let message = cursor.quoted()?;
    if cursor.peek() == Some(b'=') {
        cursor = start;
        pairs::take(&mut cursor, Dialect::Klog, parsed)?;
        let message = parsed.take_field("msg", cursor.text());
        parsed.set_message(message.unwrap_or_else(|| start.rest_range().into()));
        return Some(());
    }
    matches!(cursor.peek(), None | Some(b' ')).then_some(())?;
    pairs::take(&mut cursor, Dialect::Klog, parsed)?;
    let message = parsed.unescaped(cursor.text(), message, Escapes::Go);
    parsed.set_message(message);
    Some(())
}

/// `Message "key"="value"`; pairs whose keys are not quoted may be prose.
fn after_plain(cursor: Cursor<'_>, parsed: &mut Parsed) -> bool {
    let start = cursor.at();
    memmem::find_iter(cursor.rest(), " \"").take(MAX_TRIES).any(|length| {
        let mut pairs = cursor;
        pairs.go_to(start + length);
        let is_key = {
            let mut key = pairs;
            key.eat_blanks();
            key.quoted().is_some() && key.peek() == Some(b'=')
        };
        let taken = is_key && attempt(parsed, |parsed| pairs::take(&mut pairs, Dialect::Klog, parsed));
        if taken {
            set_plain(start..start + length, cursor.text(), parsed);
        }
        taken
    })
}

/// The older form writes its logger's name before the pairs, and the message among them.
fn set_plain(plain: Range<usize>, text: &str, parsed: &mut Parsed) {
    if parsed.push("logger", plain.clone()).is_some() {
        if let Some(message) = parsed.take_field("msg", text) {
            return parsed.set_message(message);
        }
        parsed.truncate_fields(parsed.field_count() - 1);
    }
    parsed.set_message(plain);
}

/// Takes back what was added where it comes to nothing.
fn attempt(parsed: &mut Parsed, add: impl FnOnce(&mut Parsed) -> Option<()>) -> bool {
    let fields = parsed.field_count();
    let found = add(parsed).is_some();
    if !found {
        parsed.truncate_fields(fields);
    }
    found
}
