//! Text to a tree of values with their lines. What is not needed for settings is not read: anchors and
//! aliases (which make bombs), tags, several documents.

use granit_parser::{Event, Parser, ScalarStyle, ScanError, StrInput};

use crate::substitute::{Substituted, substitute};
use crate::{Environment, Fault, Faults, MAX_BYTES, MAX_DEPTH, units};

#[derive(Debug)]
pub(crate) struct Value {
    pub(crate) line: usize,
    pub(crate) kind: Kind,
}

#[derive(Debug)]
pub(crate) enum Kind {
    /// Written as nothing, `~` or `null`, or a variable that is empty: as if the key were not there.
    Null,
    /// A fault has been noted: nobody need complain again.
    Faulty,
    /// `written` is the text before substitution, where that changed it: what came out of the
    /// environment may be secret, and is not printed.
    Text {
        text: String,
        written: Option<String>,
    },
    List(Vec<Value>),
    Map(Vec<(String, Value)>),
}

/// The tree, and the faults that leave the rest of it readable.
pub(crate) fn parse(text: &str, env: &Environment<'_>) -> Result<(Value, Vec<Fault>), Faults> {
    if text.len() > MAX_BYTES {
        let limit = units::Bytes(MAX_BYTES as u64);
        return Err(Fault::new("", 1, format!("the text is over the limit of {limit} for settings")).into());
    }
    let options = granit_parser::options! {
        emit_comments: false,
        flow_nesting_limit: MAX_DEPTH,
        block_nesting_limit: MAX_DEPTH,
    };
    let mut reader = Reader {
        events: Parser::new_from_str_with_options(text, options),
        env,
        faults: Vec::new(),
        room: MAX_BYTES,
        path: String::new(),
    };
    match reader.document() {
        Ok(root) => Ok((root, reader.faults)),
        Err(error) => Err(not_yaml(text, &error).into()),
    }
}

fn not_yaml(text: &str, error: &ScanError) -> Fault {
    let line = error.marker().line();
    let variable = text.lines().nth(line.saturating_sub(1)).is_some_and(|line| line.contains("${"));
    let hint = if variable { "; inside [ ] and { }, put quotes around a `${…}`" } else { "" };
    Fault::new("", line, format!("this is not YAML: {}{hint}", error.info()))
}

struct Reader<'a> {
    events: Parser<'a, StrInput<'a>>,
    env: &'a Environment<'a>,
    faults: Vec<Fault>,
    /// Bytes that substitution may still produce.
    room: usize,
    path: String,
}

impl<'a> Reader<'a> {
    fn document(&mut self) -> Result<Value, ScanError> {
        let mut root = None;
        while let Some((event, line)) = self.next()? {
            match event {
                Event::StreamEnd => break,
                Event::StreamStart | Event::DocumentStart(..) | Event::DocumentEnd | Event::Anchor(..) => {}
                _ if root.is_some() => {
                    self.fault(line, "a second document begins here: settings are one document");
                    break;
                }
                event => root = Some(self.value(event, line)?),
            }
        }
        // An empty file is an empty map, so that every required key is named.
        Ok(match root {
            None | Some(Value { kind: Kind::Null, .. }) => Value { line: 1, kind: Kind::Map(Vec::new()) },
            Some(root) => root,
        })
    }

    fn next(&mut self) -> Result<Option<(Event<'a>, usize)>, ScanError> {
        Ok(self.events.next_event().transpose()?.map(|(event, span)| (event, span.start.line())))
    }

    /// Recursion ends at twice [`MAX_DEPTH`], where the parser stops.
    fn value(&mut self, event: Event<'a>, line: usize) -> Result<Value, ScanError> {
        if event.anchor_id().is_some() || event.alias_id().is_some() {
            self.fault(line, "anchors (`&`) and aliases (`*`) are not read: write the value out, or quote it");
        }
        if event.tag().is_some() {
            self.fault(line, "tags (`!`) are not read: leave it out, or quote the value");
        }
        let kind = match event {
            Event::Scalar(text, style, ..) => self.scalar(&text, style, line),
            Event::SequenceStart(..) => self.list()?,
            Event::MappingStart(..) => self.map()?,
            _ => Kind::Faulty,
        };
        Ok(Value { line, kind })
    }

    fn scalar(&mut self, text: &str, style: ScalarStyle, line: usize) -> Kind {
        let plain = style == ScalarStyle::Plain;
        match substitute(text, self.env) {
            Ok(Substituted::Unchanged) if plain && matches!(text, "" | "~" | "null" | "Null" | "NULL") => Kind::Null,
            Ok(Substituted::Unchanged) => Kind::Text { text: text.to_owned(), written: None },
            Ok(Substituted::Text(value)) if plain && value.is_empty() => Kind::Null,
            Ok(Substituted::Text(value)) => match self.room.checked_sub(value.len()) {
                Some(room) => {
                    self.room = room;
                    Kind::Text { text: value, written: Some(text.to_owned()) }
                }
                None => {
                    let limit = units::Bytes(MAX_BYTES as u64);
                    self.fault(line, format!("the values of the variables are over the limit of {limit} in all"));
                    Kind::Faulty
                }
            },
            Err(message) => {
                self.fault(line, message);
                Kind::Faulty
            }
        }
    }

    fn list(&mut self) -> Result<Kind, ScanError> {
        let mut items = Vec::new();
        let here = self.path.len();
        while let Some((event, line)) = self.next()? {
            match event {
                Event::SequenceEnd => break,
                Event::Anchor(..) => {}
                event => {
                    self.path.push_str(&format!("[{}]", items.len()));
                    items.push(self.value(event, line)?);
                    self.path.truncate(here);
                }
            }
        }
        Ok(Kind::List(items))
    }

    fn map(&mut self) -> Result<Kind, ScanError> {
        let mut entries: Vec<(String, Value)> = Vec::new();
        let here = self.path.len();
        while let Some((event, line)) = self.next()? {
            let key = match event {
                Event::MappingEnd => break,
                Event::Anchor(..) => continue,
                Event::Scalar(ref key, ..) => key.to_string(),
                _ => String::new(),
            };
            if !matches!(event, Event::Scalar(..)) {
                self.fault(line, "a key must be a word");
                self.value(event, line)?;
            }
            self.path.push_str(&join(here == 0, &key));
            let Some((event, line)) = self.next()? else { break };
            let value = self.value(event, line)?;
            if entries.iter().any(|(known, _)| *known == key) {
                self.fault(line, "the key stands here twice: keep one of them");
            } else {
                entries.push((key, value));
            }
            self.path.truncate(here);
        }
        Ok(Kind::Map(entries))
    }

    fn fault(&mut self, line: usize, message: impl Into<String>) {
        self.faults.push(Fault::new(&self.path, line, message));
    }
}

/// What a key adds to a path.
pub(crate) fn join(first: bool, key: &str) -> String {
    let simple = !key.is_empty() && key.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-'));
    match (simple, first) {
        (true, true) => key.to_owned(),
        (true, false) => format!(".{key}"),
        (false, _) => format!("[{key:?}]"),
    }
}
