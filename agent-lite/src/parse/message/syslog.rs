//! syslog, as it is sent and as daemons write it to files.
//!
//! Facts: RFC 3164 §4.1 `<PRI>Mmm dd hh:mm:ss HOST TAG[PID]: text`, of which only the time is sure: files
//! have no PRI (rsyslog's `RSYSLOG_TraditionalFileFormat`), local senders no host, routers a year and a
//! zone (§5.4 has both in its examples); rsyslog's `RSYSLOG_FileFormat` has an RFC 3339 time; RFC 5424 §6
//! begins `<PRI>1 `. Keywords of facilities and severities are those of syslog.conf(5).

use std::ops::Range;

use jiff::tz::{self, Offset};

use super::cursor::Cursor;
use super::when::{self, Wall};
use super::{Parsed, TimeContext, structured};

const FACILITIES: [&str; 24] = [
    "kern", "user", "mail", "daemon", "auth", "syslog", "lpr", "news", "uucp", "cron", "authpriv", "ftp", "ntp",
    "audit", "alert", "clock", "local0", "local1", "local2", "local3", "local4", "local5", "local6", "local7",
];
const SEVERITIES: [&str; 8] = ["emerg", "alert", "crit", "err", "warning", "notice", "info", "debug"];

/// Zones that RFC 5322 §4.3 defines, and Europe's; others would be guesses. Hours from UTC.
const ZONES: [(&str, i8); 18] = [
    ("UTC", 0),
    ("GMT", 0),
    ("UT", 0),
    ("EST", -5),
    ("EDT", -4),
    ("CST", -6),
    ("CDT", -5),
    ("MST", -7),
    ("MDT", -6),
    ("PST", -8),
    ("PDT", -7),
    ("WET", 0),
    ("WEST", 1),
    ("CET", 1),
    ("CEST", 2),
    ("EET", 2),
    ("EEST", 3),
    ("MSK", 3),
];

pub(super) fn parse(text: &str, context: &TimeContext, parsed: &mut Parsed) -> Option<()> {
    let cursor = &mut Cursor::new(text);
    if cursor.peek() == Some(b'<') {
        let (facility, severity) = priority(cursor)?;
        parsed.push_known("facility", facility)?;
        parsed.push_known("severity", severity)?;
        if cursor.eat("1 ").is_some() {
            return structured::parse(cursor, context, parsed);
        }
    }
    let time = time(cursor, context)?;
    parsed.set_time(time);
    // Some write the time as a tag.
    let _ = cursor.eat(":");
    if cursor.is_at_end() {
        parsed.set_message(cursor.rest_range());
        return Some(());
    }
    cursor.eat(" ")?;
    cursor.eat_blanks();
    take_origin(cursor, parsed)?;
    parsed.set_message(cursor.rest_range());
    Some(())
}

/// `<PRI>`: 0 to 191, facility times eight and severity (RFC 3164 §4.1.1).
fn priority(cursor: &mut Cursor<'_>) -> Option<(&'static str, &'static str)> {
    cursor.eat("<")?;
    let digits = cursor.run(|byte| byte.is_ascii_digit());
    let text = &cursor.text()[digits];
    cursor.eat(">")?;
    let no_leading_zero = text == "0" || !text.starts_with('0');
    let priority: usize = if no_leading_zero { text.parse().ok()? } else { return None };
    Some((FACILITIES.get(priority / 8)?, SEVERITIES[priority % 8]))
}

fn time(cursor: &mut Cursor<'_>, context: &TimeContext) -> Option<i64> {
    if cursor.rest().get(4) == Some(&b'-') {
        return when::date_time(cursor, context);
    }
    let mut year = None;
    if cursor.peek()?.is_ascii_digit() {
        year = Some(cursor.digits(4)?);
        cursor.eat(" ")?;
    }
    let mut wall = Wall { month: when::month(cursor)?, ..Wall::default() };
    cursor.eat(" ")?;
    // Padded with a space, by some with a zero.
    wall.day = if cursor.eat(" ").is_some() { cursor.digits(1)? } else { cursor.digits(2)? };
    cursor.eat(" ")?;
    if cursor.rest().get(4) == Some(&b' ') {
        year = Some(cursor.digits(4)?);
        cursor.eat(" ")?;
    }
    wall.clock(cursor)?;
    let zone = zone(cursor);
    wall.at(year, zone, context)
}

/// A zone where there is one; else nothing is stepped over.
fn zone(cursor: &mut Cursor<'_>) -> Option<Offset> {
    let mut ahead = *cursor;
    // `10:15:30Z` and `10:15:30 CET`.
    let _ = ahead.eat(" ");
    let named = ZONES.iter().find(|(name, _)| {
        let after = ahead.rest().strip_prefix(name.as_bytes());
        after.is_some_and(|after| matches!(after.first(), None | Some(b' ' | b':')))
    });
    let offset = match named {
        Some((name, hours)) => {
            ahead.eat(name)?;
            tz::offset(*hours)
        }
        // RFC 3164 §5.4: `TZ-6`.
        None if ahead.eat("TZ").is_some() => {
            let sign = if ahead.eat("-").is_some() { -1 } else { ahead.eat("+").map(|()| 1)? };
            let hours = ahead.run(|byte| byte.is_ascii_digit());
            let hours: i8 = cursor.text()[hours].parse().ok()?;
            (hours < 24).then(|| tz::offset(sign * hours))?
        }
        None => when::offset(&mut ahead)?,
    };
    matches!(ahead.peek(), None | Some(b' ' | b':')).then(|| *cursor = ahead)?;
    Some(offset)
}

/// A program's name, and its process id in brackets.
struct Tag {
    name: Range<usize>,
    process: Option<Range<usize>>,
}

/// Host, program and process before the message, as far as they are there.
fn take_origin(cursor: &mut Cursor<'_>, parsed: &mut Parsed) -> Option<()> {
    let mut tag = take_tag(cursor);
    if tag.is_none() {
        // What is no tag is the host, unless it is all there is.
        let mut ahead = *cursor;
        let Some(host) = ahead.word() else { return Some(()) };
        if ahead.is_at_end() {
            return Some(());
        }
        parsed.push("hostname", host)?;
        ahead.eat_blanks();
        *cursor = ahead;
        tag = take_tag(cursor);
    }
    let Some(tag) = tag else { return Some(()) };
    parsed.push("appname", tag.name)?;
    tag.process.map_or(Some(()), |process| parsed.push("procid", process))
}

/// `app: `, `app[1]: ` or `app[1] `; else nothing is stepped over.
fn take_tag(cursor: &mut Cursor<'_>) -> Option<Tag> {
    let mut ahead = *cursor;
    let name = ahead.run(|byte| byte > b' ' && byte != 0x7f && !b"[:".contains(&byte));
    (!name.is_empty()).then_some(())?;
    let mut process = None;
    if ahead.eat("[").is_some() {
        let inner = ahead.run(|byte| byte > b' ' && byte != 0x7f && byte != b']');
        ahead.eat("]")?;
        process = Some(inner).filter(|inner| !inner.is_empty());
        let _ = ahead.eat(":");
    } else {
        ahead.eat(":")?;
    }
    (ahead.is_at_end() || ahead.eat(" ").is_some()).then_some(())?;
    *cursor = ahead;
    Some(Tag { name, process })
}
