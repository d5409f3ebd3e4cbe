//! logfmt: a text that is pairs from its beginning to its end.
//!
//! A bare word, which some libraries read as a pair without a value, makes a text no logfmt: prose has
//! bare words, and would become fields.

use sluice_wire::record::MESSAGE_KEYS;
use sluice_wire::time;

use super::Parsed;
use super::cursor::Cursor;
use super::pairs::{self, Dialect};

/// Where a time is looked for: `slog` and logrus write the first, go-kit the second.
const TIME_KEYS: [&str; 2] = ["time", "ts"];

pub(super) fn parse(text: &str, parsed: &mut Parsed) -> Option<()> {
    pairs::take(&mut Cursor::new(text), Dialect::Logfmt, parsed)?;
    (parsed.field_count() > 0).then_some(())?;
    take_time(text, parsed);
    let message = MESSAGE_KEYS.iter().find_map(|key| parsed.take_field(key, text));
    if let Some(message) = message {
        parsed.set_message(message);
    }
    Some(())
}

/// A field whose time is none stays a field.
fn take_time(text: &str, parsed: &mut Parsed) {
    for key in TIME_KEYS {
        let last = parsed.fields(text).filter(|(name, _)| *name == key).last();
        let Some((_, super::Value::Text(value))) = last else { continue };
        if let Some(time) = time::parse(value.as_bytes()) {
            parsed.take_field(key, text);
            return parsed.set_time(time);
        }
    }
}
