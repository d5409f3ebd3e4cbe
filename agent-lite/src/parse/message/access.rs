//! Access logs: the common log format and the combined one, which nginx and Apache write alike.
//!
//! Facts: `HOST IDENT USER [DAY/MON/YEAR:HH:MM:SS ±HHMM] "REQUEST" STATUS BYTES`, then `"REFERER" "AGENT"`
//! (Apache, `mod_log_config`; nginx, `ngx_http_log_module`, whose shipped configuration adds
//! `"$http_x_forwarded_for"`). What a server logs behind that stays in the message only. Quotes, and bytes
//! that are not printable, are written as `\xHH`, by Apache also as `\"` and `\n`.

use std::ops::Range;

use jiff::tz::Offset;

use super::super::unescape::Escapes;
use super::cursor::Cursor;
use super::when::{self, Wall};
use super::{Parsed, TimeContext};

pub(super) fn parse(text: &str, context: &TimeContext, parsed: &mut Parsed) -> Option<()> {
    let cursor = &mut Cursor::new(text);
    let address = cursor.word()?;
    let ident = cursor.word()?;
    // Who has logged in may have a name with spaces.
    let start = cursor.at();
    let length = memchr::memmem::find(cursor.rest(), b" [")?;
    cursor.go_to(start + length + 2);
    let user = start..start + length;
    let time = time(cursor, context)?;
    cursor.eat("] ")?;
    let request = cursor.quoted()?;
    cursor.eat(" ")?;
    let status = cursor.run(|byte| byte.is_ascii_digit());
    (status.len() == 3).then_some(())?;
    cursor.eat(" ")?;
    let bytes = cursor.run(|byte| byte.is_ascii_digit());
    if bytes.is_empty() {
        cursor.eat("-")?;
    }
    (cursor.is_at_end() || cursor.peek() == Some(b' ')).then_some(())?;

    parsed.set_time(time);
    push_unless_absent("remote_addr", address, cursor, parsed)?;
    push_unless_absent("ident", ident, cursor, parsed)?;
    push_unless_absent("user", user, cursor, parsed)?;
    take_request(request, text, parsed)?;
    parsed.push_number("status", status)?;
    if !bytes.is_empty() {
        parsed.push_number("bytes", bytes)?;
    }
    for name in ["referer", "user_agent", "http_x_forwarded_for"] {
        let Some(value) = cursor.eat(" ").and_then(|()| cursor.quoted()) else { break };
        push_unless_absent(name, value, cursor, parsed)?;
    }
    Some(())
}

fn push_unless_absent(name: &'static str, value: Range<usize>, cursor: &Cursor<'_>, parsed: &mut Parsed) -> Option<()> {
    let text = cursor.text();
    if matches!(&text.as_bytes()[value.clone()], b"" | b"-") {
        return Some(());
    }
    let value = parsed.unescaped(text, value, Escapes::Go);
    parsed.push(name, value)
}

/// `METHOD PATH PROTOCOL`; what is not (garbage on the port) is one field.
fn take_request(request: Range<usize>, text: &str, parsed: &mut Parsed) -> Option<()> {
    let whole = &text[request.clone()];
    if matches!(whole, "" | "-") {
        return Some(());
    }
    let parts = whole.split_once(' ').and_then(|(method, rest)| {
        let (path, protocol) = rest.rsplit_once(' ')?;
        let is_method = !method.is_empty() && method.bytes().all(|byte| byte.is_ascii_alphabetic() || byte == b'-');
        (is_method && !path.is_empty() && protocol.starts_with("HTTP/")).then_some((method, path, protocol))
    });
    let Some((method, path, protocol)) = parts else {
        let value = parsed.unescaped(text, request, Escapes::Go);
        return parsed.push("request", value);
    };
    let start = request.start + method.len() + 1;
    parsed.push("method", request.start..request.start + method.len())?;
    let path = parsed.unescaped(text, start..start + path.len(), Escapes::Go);
    parsed.push("path", path)?;
    parsed.push("protocol", request.end - protocol.len()..request.end)
}

/// `26/Oct/2025:10:15:30 +0200`.
fn time(cursor: &mut Cursor<'_>, context: &TimeContext) -> Option<i64> {
    let mut wall = Wall { day: cursor.digits(2)?, ..Wall::default() };
    cursor.eat("/")?;
    wall.month = when::month(cursor)?;
    cursor.eat("/")?;
    let year = cursor.digits(4)?;
    cursor.eat(":")?;
    wall.clock(cursor)?;
    cursor.eat(" ")?;
    let offset: Offset = when::offset(cursor)?;
    wall.at(Some(year), Some(offset), context)
}
