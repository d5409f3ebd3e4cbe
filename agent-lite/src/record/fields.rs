//! The fields that a parser found: named apart from ours, each name once.

use sluice_wire::{record, time};

use super::escape;
use crate::parse::message::{Parsed, Value};

/// Names of a parser's fields that are renamed beside `common`, as those of a message's members are. Not all that
/// may be said of the node's own logs: of a file only this is, and formats have names of their own (`severity`).
const UNIT: &[&str] = &["unit"];
/// The name of a parsed time that is not the record's.
const FAR_TIME: &str = "app_time";

/// Appends `,"app_time":"…"` where `far_time` is there, and `,"name":value` for each field. `of_node`: the record
/// is one of the node's own logs.
pub(super) fn write(parsed: &Parsed, text: &str, far_time: Option<i64>, of_node: bool, out: &mut Vec<u8>) {
    let ours = if of_node { UNIT } else { &[] };
    if let Some(far_time) = far_time
        && !parsed.fields(text).any(|(name, _)| is_same(name, FAR_TIME, ours))
    {
        push_name(FAR_TIME, ours, out);
        out.push(b'"');
        time::write(far_time, out);
        out.push(b'"');
    }
    let mut fields = parsed.fields(text);
    // Few enough that comparing each with each is faster than a table.
    while let Some((name, value)) = fields.next() {
        if fields.clone().any(|(later, _)| is_same(name, later, ours)) {
            continue;
        }
        push_name(name, ours, out);
        match value {
            Value::Text(value) => escape::quoted(value, out),
            Value::Number(value) => out.extend_from_slice(value.as_bytes()),
        }
    }
}

fn is_renamed(name: &str, ours: &[&str]) -> bool {
    record::is_reserved(name) || ours.contains(&name)
}

fn push_name(name: &str, ours: &[&str], out: &mut Vec<u8>) {
    out.extend_from_slice(b",\"");
    if is_renamed(name, ours) {
        out.extend_from_slice(record::RENAMED.as_bytes());
    }
    escape::unquoted(name, out);
    out.extend_from_slice(b"\":");
}

/// Whether two names are one in the record: `cluster` becomes `app_cluster`.
fn is_same(one: &str, other: &str, ours: &[&str]) -> bool {
    let becomes =
        |name: &str, renamed: &str| renamed.strip_prefix(record::RENAMED) == Some(name) && is_renamed(name, ours);
    one == other || becomes(one, other) || becomes(other, one)
}
