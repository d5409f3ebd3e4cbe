//! Secrets out of log lines before they leave the node: pure, no I/O, no clock.
//!
//! ```text
//! text ─► prefilter: can any rule match? ─ no, by far the most ─► Unchanged
//!              │ yes, or an escape hides the text
//!              ├─ JSON: each string (unescaped) and number ─┐
//!              └─ text ─────────────────────────────────────┴─► matches ─► merged ─► Changed, Drop
//! ```
//!
//! - A JSON text stays one, of the same structure: strings are replaced by strings, and so are numbers. Names
//!   stay as they are. A string that is JSON itself is treated so too, four levels deep.
//! - Where matches overlap, all that they cover goes, as one: by the rule whose match began first.
//! - Counted are matches, and each text that went because of one.

use std::borrow::Cow;
use std::cmp::Reverse;
use std::ops::Range;
use std::sync::Arc;

use globset::GlobSet;
use memchr::memchr;
use regex::Regex;

pub use builtin::BuiltIn;
pub use config::Config;
pub use key::{Key, KeyError};
use prefilter::Prefilter;

mod builtin;
mod config;
mod json;
mod key;
mod numbers;
mod prefilter;

/// Rules of one configuration.
pub const MAX_RULES: usize = 64;
/// JSON within strings of JSON is looked into so deep.
const MAX_NESTING: usize = 4;
/// What a text leaves of scratch space for the next one, in bytes.
const SCRATCH: usize = 1024 * 1024;

/// What is looked for, where, and what becomes of it.
#[derive(Debug, Clone)]
pub(crate) struct Rule {
    name: Arc<str>,
    matcher: Matcher,
    action: Action,
    /// `None`: all.
    namespaces: Option<GlobSet>,
}

#[derive(Debug, Clone)]
enum Matcher {
    BuiltIn(BuiltIn),
    Pattern(Pattern),
}

/// A rule of the user's own.
#[derive(Debug, Clone)]
struct Pattern {
    regex: Regex,
    /// The group that is replaced, rather than the whole match.
    secret: Option<usize>,
    /// It asks where the text begins or ends: of JSON, only the value can tell.
    is_anchored: bool,
}

/// What becomes of a match.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Action {
    /// `[redacted:email]`
    Mask,
    /// `[email:1f3a…]`, the same for the same secret.
    Hash,
    /// The whole text goes.
    Drop,
}

/// The rules that hold for a namespace; a set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Scope(u64);

impl Scope {
    /// Whether no rule holds, so that texts need not be looked at.
    #[must_use]
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }
}

/// What came of a text.
#[derive(Debug, PartialEq, Eq)]
pub enum Outcome<'a> {
    /// It may go as it is.
    Unchanged,
    /// This goes instead of it.
    Changed(&'a str),
    /// Nothing goes, because of the rule of this name.
    Drop(&'a str),
}

/// Applies all rules; keeps its scratch space from one text to the next.
#[derive(Debug)]
pub struct Redactor {
    rules: Vec<Rule>,
    prefilter: Prefilter,
    key: Option<Key>,
    /// Rules that ask where a text begins or ends, as bits.
    anchored: u64,
    /// Rules of the user's own, as bits.
    patterns: u64,
    counts: Vec<u64>,
    scratch: Scratch,
}

#[derive(Debug, Default)]
struct Scratch {
    /// The text that goes instead.
    out: String,
    /// A value that goes into it, before it is escaped.
    value: String,
    spans: Vec<Span>,
}

/// A match, or several that overlap.
#[derive(Debug, Clone, Copy)]
struct Span {
    start: usize,
    end: usize,
    rule: usize,
}

enum Found {
    Nothing,
    Replaced,
    Drop(usize),
}

impl Redactor {
    /// All rules of `config`, and the key for those that hash; a rule that hashes without one masks.
    #[must_use]
    pub fn new(config: &Config, key: Option<Key>) -> Self {
        let rules = config.rules.clone();
        let bits = |is: &dyn Fn(&Pattern) -> bool| {
            let of = |(index, rule): (usize, &Rule)| match &rule.matcher {
                Matcher::Pattern(pattern) if is(pattern) => 1_u64 << index,
                _ => 0,
            };
            rules.iter().enumerate().map(of).fold(0, |all, bit| all | bit)
        };
        Self {
            prefilter: Prefilter::new(&rules),
            key,
            anchored: bits(&|pattern| pattern.is_anchored),
            patterns: bits(&|_| true),
            counts: vec![0; rules.len()],
            scratch: Scratch::default(),
            rules,
        }
    }

    /// The rules that hold for a namespace. Asked once for each source, not for each text.
    #[must_use]
    pub fn scope(&self, namespace: &str) -> Scope {
        let holds = |rule: &Rule| rule.namespaces.as_ref().is_none_or(|globs| globs.is_match(namespace));
        Scope((self.rules.iter().enumerate()).fold(0, |all, (index, rule)| all | u64::from(holds(rule)) << index))
    }

    /// What may go of a text.
    pub fn apply(&mut self, text: &str, scope: Scope) -> Outcome<'_> {
        let hits = if scope.is_empty() { 0 } else { self.prefilter.hits(&self.rules, text, scope.0) };
        let is_like_json = matches!(text.trim_start().as_bytes().first(), Some(b'{' | b'['));
        let hides = is_like_json && self.may_hide(text, scope.0);
        if hits == 0 && !hides {
            return Outcome::Unchanged;
        }
        let mut out = std::mem::take(&mut self.scratch.out);
        if out.capacity() > SCRATCH {
            out = String::new();
        }
        out.clear();
        let found = if is_like_json && json::is_json(text) {
            self.json(text, if hides { scope.0 } else { hits }, 0, &mut out)
        } else {
            self.text(text, None, hits, &mut out)
        };
        self.scratch.out = out;
        match found {
            Found::Nothing => Outcome::Unchanged,
            Found::Replaced => Outcome::Changed(&self.scratch.out),
            Found::Drop(rule) => Outcome::Drop(&self.rules[rule].name),
        }
    }

    /// For each rule its name, and how many matches it had.
    pub fn counts(&self) -> impl Iterator<Item = (&str, u64)> {
        self.rules.iter().zip(&self.counts).map(|(rule, count)| (&*rule.name, *count))
    }

    /// Whether a JSON text can have what the prefilter does not see: behind an escape, or at the beginning or
    /// end of a value.
    fn may_hide(&self, text: &str, wanted: u64) -> bool {
        let bytes = text.as_bytes();
        wanted & self.anchored != 0
            || wanted & self.patterns != 0 && memchr(b'\\', bytes).is_some()
            || wanted != 0 && json::escapes_what_secrets_have(bytes)
    }

    /// Appends the JSON text to `out` if anything in it is replaced.
    fn json(&mut self, text: &str, wanted: u64, depth: usize, out: &mut String) -> Found {
        let mut copied = 0;
        let mut value = std::mem::take(&mut self.scratch.value);
        let mut dropped = None;
        for found in json::values(text) {
            let content = if found.is_string { json::unescape(found.content) } else { Cow::Borrowed(found.content) };
            value.clear();
            match self.value(&content, found.key, wanted, depth, &mut value) {
                Found::Nothing => {}
                Found::Replaced => {
                    out.push_str(&text[copied..found.range.start]);
                    json::quote(&value, out);
                    copied = found.range.end;
                }
                Found::Drop(rule) => {
                    dropped = Some(rule);
                    break;
                }
            }
        }
        self.scratch.value = value;
        if let Some(rule) = dropped {
            return Found::Drop(rule);
        }
        if copied == 0 {
            return Found::Nothing;
        }
        out.push_str(&text[copied..]);
        Found::Replaced
    }

    fn value(&mut self, content: &str, key: Option<&str>, wanted: u64, depth: usize, out: &mut String) -> Found {
        let is_like_json = matches!(content.trim_start().as_bytes().first(), Some(b'{' | b'['));
        if is_like_json && depth < MAX_NESTING && json::is_json(content) {
            return self.json(content, wanted, depth + 1, out);
        }
        // A name can tell of a secret that says nothing itself.
        let hits = match key {
            Some(key) if builtin::names_a_secret(key) => wanted,
            _ => self.prefilter.hits(&self.rules, content, wanted),
        };
        if hits == 0 { Found::Nothing } else { self.text(content, key, hits, out) }
    }

    /// Appends the text to `out` if anything in it is replaced.
    fn text(&mut self, text: &str, key: Option<&str>, wanted: u64, out: &mut String) -> Found {
        let spans = &mut self.scratch.spans;
        spans.clear();
        for (index, rule) in prefilter::each(&self.rules, wanted) {
            rule.find(text, key, &mut |found| {
                spans.push(Span { start: found.start, end: found.end, rule: index });
                self.counts[index] += 1;
            });
        }
        if let Some(span) = spans.iter().find(|span| self.rules[span.rule].action == Action::Drop) {
            return Found::Drop(span.rule);
        }
        if spans.is_empty() {
            return Found::Nothing;
        }
        merge(spans);
        let mut copied = 0;
        for span in &*spans {
            out.push_str(&text[copied..span.start]);
            self.rules[span.rule].write_instead(&text[span.start..span.end], self.key.as_ref(), out);
            copied = span.end;
        }
        out.push_str(&text[copied..]);
        Found::Replaced
    }
}

/// Makes one of those that overlap, and of those of one rule that touch.
fn merge(spans: &mut Vec<Span>) {
    spans.sort_unstable_by_key(|span| (span.start, Reverse(span.end), span.rule));
    spans.dedup_by(|next, last| {
        let is_one = next.start < last.end || next.start == last.end && next.rule == last.rule;
        if is_one {
            last.end = last.end.max(next.end);
        }
        is_one
    });
}

impl Rule {
    fn find(&self, text: &str, key: Option<&str>, each: &mut dyn FnMut(Range<usize>)) {
        match &self.matcher {
            Matcher::BuiltIn(rule) => rule.find(text, key, each),
            Matcher::Pattern(pattern) => pattern.find(text, each),
        }
    }

    fn write_instead(&self, secret: &str, key: Option<&Key>, out: &mut String) {
        use std::fmt::Write as _;
        // Writing to a String cannot fail.
        let _ = match (self.action, key) {
            (Action::Hash, Some(key)) => write!(out, "[{}:{:016x}]", self.name, key.hash(secret, self.is_of_numbers())),
            _ => write!(out, "[redacted:{}]", self.name),
        };
    }

    fn is_of_numbers(&self) -> bool {
        matches!(self.matcher, Matcher::BuiltIn(BuiltIn::CardNumber | BuiltIn::Iban))
    }
}

impl Pattern {
    fn find(&self, text: &str, each: &mut dyn FnMut(Range<usize>)) {
        let Some(group) = self.secret else {
            self.regex.find_iter(text).map(|found| found.range()).filter(|found| !found.is_empty()).for_each(each);
            return;
        };
        if !self.regex.is_match(text) {
            return;
        }
        let secrets = self.regex.captures_iter(text).filter_map(|found| Some(found.get(group)?.range()));
        secrets.filter(|secret| !secret.is_empty()).for_each(each);
    }
}

#[cfg(test)]
mod tests;
