//! RFC 5424 behind its `<PRI>1 `: `TIMESTAMP HOST APP PROCID MSGID SD [MSG]`, where `-` says that there is
//! none.

use super::super::unescape::Escapes;
use super::cursor::Cursor;
use super::{Parsed, TimeContext, when};

pub(super) fn parse(cursor: &mut Cursor<'_>, context: &TimeContext, parsed: &mut Parsed) -> Option<()> {
    if cursor.eat("- ").is_none() {
        let time = when::date_time(cursor, context)?;
        cursor.eat(" ")?;
        parsed.set_time(time);
    }
    for name in ["hostname", "appname", "procid", "msgid"] {
        let value = cursor.until(b' ')?;
        (!value.is_empty()).then_some(())?;
        if cursor.text()[value.clone()] != *"-" {
            parsed.push(name, value)?;
        }
    }
    if cursor.eat("-").is_none() {
        take_elements(cursor, parsed)?;
    }
    if !cursor.is_at_end() {
        cursor.eat(" ")?;
        // §6.4: begins so where it is UTF-8.
        let _ = cursor.eat("\u{feff}");
    }
    parsed.set_message(cursor.rest_range());
    Some(())
}

/// `[id name="value" …][id …]`, at least one.
fn take_elements(cursor: &mut Cursor<'_>, parsed: &mut Parsed) -> Option<()> {
    let is_part = |byte: u8| byte.is_ascii_graphic() && !b"=]\"".contains(&byte);
    cursor.eat("[")?;
    loop {
        let id = cursor.run(is_part);
        (!id.is_empty()).then_some(())?;
        while cursor.eat(" ").is_some() {
            // Some leave a blank before the bracket.
            if cursor.peek() == Some(b']') {
                break;
            }
            let name = cursor.run(is_part);
            (!name.is_empty()).then_some(())?;
            cursor.eat("=")?;
            let value = cursor.quoted()?;
            let text = cursor.text();
            let name = parsed.composed(&[&text[id.clone()], ".", &text[name]]);
            let value = parsed.unescaped(text, value, Escapes::StructuredData);
            parsed.push(name, value)?;
        }
        cursor.eat("]")?;
        if cursor.eat("[").is_none() {
            return Some(());
        }
    }
}
