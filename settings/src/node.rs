//! Readers of the tree. Each notes what is wrong and answers `None`, and also answers `None`, without
//! a word, where nothing is written: `required` has complained already, `optional` has no cause to.

use std::cell::RefCell;
use std::fmt;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use crate::fault::Fault;
use crate::nearest::nearest;
use crate::syntax::{Kind, Value, join};
use crate::units::{Bytes, Span};

/// A place in the settings, whether something is written there or not.
#[derive(Clone)]
pub struct Node<'t> {
    value: Option<&'t Value>,
    path: String,
    line: usize,
    faults: &'t RefCell<Vec<Fault>>,
}

impl<'t> Node<'t> {
    pub(crate) fn root(value: &'t Value, faults: &'t RefCell<Vec<Fault>>) -> Self {
        Self { value: Some(value), path: String::new(), line: value.line, faults }
    }

    fn child(&self, value: Option<&'t Value>, step: &str) -> Self {
        let value = value.filter(|value| !matches!(value.kind, Kind::Null));
        let line = value.map_or(self.line, |value| value.line);
        Self { value, path: format!("{}{step}", self.path), line, faults: self.faults }
    }

    /// Where it is, as `destinations[1].url`.
    #[must_use]
    pub fn path(&self) -> &str {
        &self.path
    }

    /// Whether something is written there.
    #[must_use]
    pub fn is_present(&self) -> bool {
        self.value.is_some()
    }

    /// A number for what is written there, variables substituted: the same in this process for the same values,
    /// whatever their comments, their quotes and the order of their keys.
    #[must_use]
    pub fn digest(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        digest(self.value, &mut hasher);
        hasher.finish()
    }

    /// Whether one text is written there, neither a list nor a map.
    #[must_use]
    pub fn is_text(&self) -> bool {
        matches!(self.value.map(|value| &value.kind), Some(Kind::Text { .. }))
    }

    /// Notes that what is written there is wrong; the message says what is expected, and the fix.
    pub fn fault(&self, message: impl Into<String>) {
        self.faults.borrow_mut().push(Fault::new(&self.path, self.line, message));
    }

    /// Notes a fault where anything is written at all.
    pub fn refuse(&self, message: &str) {
        if self.is_present() {
            self.fault(message);
        }
    }

    /// A map's keys. Those that `read` does not ask for are faults.
    ///
    /// Read everything before the first `?`: what comes after it in a `read` that ends early is neither
    /// checked nor known.
    pub fn map<T>(&self, read: impl FnOnce(&Map<'t>) -> Option<T>) -> Option<T> {
        match &self.value?.kind {
            Kind::Map(entries) => {
                let map = Map { node: self.clone(), entries, asked: RefCell::default() };
                let value = read(&map);
                map.note_unknown_keys();
                value
            }
            _ => self.expected("a map of keys and values"),
        }
    }

    /// A map whose keys are names of the user's own: each with what is written under it.
    pub fn entries(&self) -> impl Iterator<Item = (&'t str, Self)> {
        let entries: &'t [(String, Value)] = match self.value.map(|value| &value.kind) {
            Some(Kind::Map(entries)) => entries,
            Some(_) => self.expected("a map of names and values").unwrap_or_default(),
            None => &[],
        };
        entries.iter().map(|(key, value)| (key.as_str(), self.child(Some(value), &join(self.path.is_empty(), key))))
    }

    /// A list's items; none where nothing is written.
    pub fn list(&self) -> impl Iterator<Item = Self> {
        let items: &'t [Value] = match self.value.map(|value| &value.kind) {
            Some(Kind::List(items)) => items,
            Some(_) => self.expected("a list").unwrap_or_default(),
            None => &[],
        };
        items.iter().enumerate().map(|(index, item)| {
            let node = self.child(Some(item), &format!("[{index}]"));
            if !node.is_present() {
                node.fault("the item is empty: write it, or leave out the `-`");
            }
            node
        })
    }

    /// Any text but the empty one.
    #[must_use]
    pub fn text(&self) -> Option<&'t str> {
        self.read("text", |text| (!text.is_empty()).then_some(text))
    }

    /// A path in the file system. Nothing is asked of the file.
    #[must_use]
    pub fn file(&self) -> Option<PathBuf> {
        self.read("a path", |text| (!text.is_empty() && !text.contains('\0')).then(|| text.into()))
    }

    /// `true` or `false`.
    #[must_use]
    pub fn bool(&self) -> Option<bool> {
        self.read("true or false", |text| text.parse().ok())
    }

    /// A whole number.
    #[must_use]
    pub fn integer<T: FromStr + PartialOrd + fmt::Display>(&self, range: RangeInclusive<T>) -> Option<T> {
        let expected = format_args!("a whole number from {} to {}", range.start(), range.end()).to_string();
        self.read(expected, |text| text.parse().ok().filter(|number| range.contains(number)))
    }

    /// A number.
    #[must_use]
    pub fn number(&self, range: RangeInclusive<f64>) -> Option<f64> {
        let expected = format!("a number from {} to {}", range.start(), range.end());
        self.read(expected, |text| text.parse().ok().filter(|number| range.contains(number)))
    }

    /// A number of bytes, as [`Bytes`].
    #[must_use]
    pub fn bytes(&self, range: RangeInclusive<u64>) -> Option<u64> {
        let expected = format!("a size from {} to {}, such as 64MiB", Bytes(*range.start()), Bytes(*range.end()));
        self.read(expected, |text| text.parse().ok().map(|Bytes(bytes)| bytes).filter(|bytes| range.contains(bytes)))
    }

    /// A duration, as [`Span`].
    #[must_use]
    pub fn duration(&self, range: RangeInclusive<Duration>) -> Option<Duration> {
        let expected =
            format!("a duration with its unit from {} to {}, such as 1m30s", Span(*range.start()), Span(*range.end()));
        self.read(expected, |text| text.parse().ok().map(|Span(span)| span).filter(|span| range.contains(span)))
    }

    /// One of a few words.
    #[must_use]
    pub fn one_of<T: Clone>(&self, words: &[(&str, T)]) -> Option<T> {
        let names: Vec<&str> = words.iter().map(|(word, _)| *word).collect();
        self.read(format!("one of {}", names.join(", ")), |text| {
            words.iter().find(|(word, _)| *word == text).map(|(_, value)| value.clone())
        })
    }

    /// Anything else that is written as one text; `expected` says what, as in "an address".
    #[must_use]
    pub fn read<T>(&self, expected: impl fmt::Display, read: impl FnOnce(&'t str) -> Option<T>) -> Option<T> {
        match &self.value?.kind {
            Kind::Text { text, .. } => read(text).or_else(|| self.expected(expected)),
            _ => self.expected(expected),
        }
    }

    fn expected<T>(&self, expected: impl fmt::Display) -> Option<T> {
        let found = match &self.value?.kind {
            Kind::Faulty => return None,
            Kind::Null => "nothing".to_owned(),
            Kind::List(_) => "a list".to_owned(),
            Kind::Map(_) => "a map".to_owned(),
            Kind::Text { written: Some(written), .. } => format!("the value of {}", shown(written)),
            Kind::Text { text, .. } => shown(text),
        };
        self.fault(format!("expected {expected}, found {found}"));
        None
    }
}

/// A text as it may stand in a message: on one line, and no longer than one.
fn shown(text: &str) -> String {
    const MOST: usize = 80;
    let cut: String = text.chars().take(MOST).collect();
    let more = if cut.len() < text.len() { "…" } else { "" };
    format!("{cut:?}{more}")
}

/// A map that is being read.
pub struct Map<'t> {
    node: Node<'t>,
    entries: &'t [(String, Value)],
    asked: RefCell<Vec<&'static str>>,
}

impl<'t> Map<'t> {
    /// What is written under `key`; a fault where nothing is.
    #[must_use]
    pub fn required(&self, key: &'static str) -> Node<'t> {
        let node = self.optional(key);
        if !node.is_present() {
            node.fault("it is missing, and there is no default: add it");
        }
        node
    }

    /// What is written under `key`, if anything.
    #[must_use]
    pub fn optional(&self, key: &'static str) -> Node<'t> {
        self.asked.borrow_mut().push(key);
        let value = self.entries.iter().find(|(name, _)| name == key).map(|(_, value)| value);
        self.node.child(value, &join(self.node.path.is_empty(), key))
    }

    /// The one of `keys` that is written; a fault where none is, or several are.
    #[must_use]
    pub fn choice(&self, keys: &[&'static str]) -> Option<(&'static str, Node<'t>)> {
        let mut present = keys.iter().map(|key| (*key, self.optional(key))).filter(|(_, node)| node.is_present());
        let (first, rest): (_, Vec<_>) = (present.next(), present.collect());
        if first.is_none() {
            self.node.fault(format!("one of {} is missing: add it", keys.join(", ")));
        }
        for (_, node) in &rest {
            node.fault(format!("only one of {} may be there: keep one", keys.join(", ")));
        }
        first
    }

    /// The map itself, for faults that concern several keys.
    #[must_use]
    pub fn node(&self) -> &Node<'t> {
        &self.node
    }

    fn note_unknown_keys(&self) {
        let asked = self.asked.borrow();
        for (key, value) in self.entries.iter().filter(|(key, _)| !asked.contains(&key.as_str())) {
            // The fault stands where the value does; that may be null, which `child` would hide.
            let mut node = self.node.child(None, &join(self.node.path.is_empty(), key));
            node.line = value.line;
            match nearest(key, &asked) {
                Some(meant) => node.fault(format!("there is no such key; did you mean `{meant}`?")),
                None => node.fault(format!("there is no such key; there are: {}", asked.join(", "))),
            }
        }
    }
}

impl fmt::Debug for Node<'_> {
    /// Not what is written there: it may be secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Node({:?}, line {})", self.path, self.line)
    }
}

impl fmt::Debug for Map<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Map({:?})", self.node)
    }
}

/// What differs has another number: each value says what it is and how long.
fn digest(value: Option<&Value>, hasher: &mut DefaultHasher) {
    match value.map(|value| &value.kind) {
        None | Some(Kind::Null | Kind::Faulty) => 0_u8.hash(hasher),
        Some(Kind::Text { text, .. }) => (1_u8, text).hash(hasher),
        Some(Kind::List(items)) => {
            (2_u8, items.len()).hash(hasher);
            items.iter().for_each(|item| digest(Some(item), hasher));
        }
        Some(Kind::Map(entries)) => {
            (3_u8, entries.len()).hash(hasher);
            let mut sorted: Vec<&(String, Value)> = entries.iter().collect();
            sorted.sort_by(|(one, _), (other, _)| one.cmp(other));
            for (key, value) in sorted {
                key.hash(hasher);
                digest(Some(value), hasher);
            }
        }
    }
}
