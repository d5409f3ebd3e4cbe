//! `redact` of the settings.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use globset::{GlobBuilder, GlobSet, GlobSetBuilder};
use regex::RegexBuilder;
use sluice_settings::{Environment, Map, Node, nearest};

use super::{Action, BuiltIn, Key, MAX_RULES, Matcher, Pattern, Rule};

/// A pattern's compiled size, and as much again for what it finds out as it runs; in bytes.
const PATTERN_BYTES: usize = 512 * 1024;
/// Bytes of a pattern as it is written.
const PATTERN: usize = 4096;

/// What is redacted, and how.
#[derive(Debug, Clone)]
pub struct Config {
    pub(super) rules: Vec<Rule>,
    key: KeySource,
}

#[derive(Debug, Clone)]
enum KeySource {
    /// No rule hashes.
    None,
    Known(Key),
    File(PathBuf),
}

impl Config {
    /// Reads what `redact` says. Nothing is asked of the key's file.
    pub fn read(node: &Node<'_>, env: &Environment<'_>) -> Option<Self> {
        node.map(|map| {
            let rules = rules(&map.required("rules"));
            let key = key(map, env);
            let (rules, key) = (rules?, key?);
            if matches!(key, KeySource::None) && rules.iter().any(|rule| rule.action == Action::Hash) {
                map.node().fault(
                    "a rule with `action: hash` needs a key, without which anyone could try out what a hash is of: name a file as hash_key_file, or a variable as hash_key_env",
                );
                return None;
            }
            Some(Self { rules, key })
        })
    }

    /// The file that holds the key for hashes, where there is one. [`Key::new`] makes a key of what it says.
    #[must_use]
    pub fn key_file(&self) -> Option<&Path> {
        match &self.key {
            KeySource::File(path) => Some(path),
            KeySource::None | KeySource::Known(_) => None,
        }
    }

    /// Whether private keys are looked for: in pieces they are not found.
    #[must_use]
    pub fn wants_whole_keys(&self) -> bool {
        self.rules.iter().any(|rule| matches!(rule.matcher, Matcher::BuiltIn(BuiltIn::PrivateKey)))
    }

    /// The key, where it came out of the environment.
    #[must_use]
    pub fn key(&self) -> Option<Key> {
        match &self.key {
            KeySource::Known(key) => Some(key.clone()),
            KeySource::None | KeySource::File(_) => None,
        }
    }
}

fn key(map: &Map<'_>, env: &Environment<'_>) -> Option<KeySource> {
    map.optional("hash_key").refuse(
        "a key is not written into this file, which many may read: put it into a file and name that as hash_key_file, or into the environment and name that as hash_key_env",
    );
    let (file, variable) = (map.optional("hash_key_file"), map.optional("hash_key_env"));
    if file.is_present() && variable.is_present() {
        variable.fault("only one of hash_key_file, hash_key_env may be there: keep one");
        return None;
    }
    if file.is_present() {
        return file.file().map(KeySource::File);
    }
    if !variable.is_present() {
        return Some(KeySource::None);
    }
    let name = variable.text()?;
    let Some(text) = env(name) else {
        variable.fault(format!("the environment has no variable {name}: set it"));
        return None;
    };
    Key::new(&text).map(KeySource::Known).map_err(|error| variable.fault(error.to_string())).ok()
}

fn rules(node: &Node<'_>) -> Option<Vec<Rule>> {
    let mut rules: Vec<Rule> = Vec::new();
    let mut is_sound = true;
    let items: Vec<Node<'_>> = node.list().collect();
    if node.is_present() && items.is_empty() {
        node.fault(format!("at least one rule is needed, such as one of {}", names().join(", ")));
        return None;
    }
    if items.len() > MAX_RULES {
        node.fault(format!("there are {} rules, and {MAX_RULES} at most are possible", items.len()));
        return None;
    }
    for item in items {
        let Some(rule) = rule(&item) else {
            is_sound = false;
            continue;
        };
        if rules.iter().any(|other| other.name == rule.name) {
            item.fault(format!("there is a rule {} already: name this one differently, or leave it out", rule.name));
        }
        rules.push(rule);
    }
    is_sound.then_some(rules)
}

fn rule(node: &Node<'_>) -> Option<Rule> {
    if node.is_text() {
        let rule = built_in(node)?;
        return Some(Rule {
            name: rule.name().into(),
            matcher: Matcher::BuiltIn(rule),
            action: Action::Mask,
            namespaces: None,
        });
    }
    node.map(|map| {
        let (name, regex) = (map.required("name"), map.optional("regex"));
        let action = map.optional("action");
        let words = [("mask", Action::Mask), ("hash", Action::Hash), ("drop", Action::Drop)];
        let read_action = if action.is_present() { action.one_of(&words) } else { Some(Action::Mask) };
        let namespaces = namespaces(&map.optional("namespaces"));
        let (name, matcher) = if regex.is_present() {
            let (name, pattern) = (own_name(&name), pattern(&regex));
            (name?, Matcher::Pattern(pattern?))
        } else {
            let rule = built_in(&name)?;
            (rule.name().into(), Matcher::BuiltIn(rule))
        };
        Some(Rule { name, matcher, action: read_action?, namespaces: namespaces? })
    })
}

fn names() -> [&'static str; 7] {
    BuiltIn::ALL.map(BuiltIn::name)
}

fn built_in(node: &Node<'_>) -> Option<BuiltIn> {
    let text = node.text()?;
    let found = BuiltIn::ALL.into_iter().find(|rule| rule.name() == text);
    if found.is_none() {
        let meant = match nearest(text, &names()) {
            Some(meant) => format!("did you mean `{meant}`?"),
            None => format!("there are: {}", names().join(", ")),
        };
        node.fault(format!("there is no built-in rule of this name; {meant} A rule of your own needs a regex"));
    }
    found
}

/// It stands in marks and labels.
fn own_name(node: &Node<'_>) -> Option<Arc<str>> {
    let expected = "a name of 1 to 32 letters a-z, digits and -";
    let name: Arc<str> = node.read(expected, |text| {
        let is_name = text.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-');
        (is_name && (1..=32).contains(&text.len())).then(|| text.into())
    })?;
    if names().contains(&&*name) {
        node.fault(format!("{name} is a built-in rule: name yours differently, or leave out its regex"));
        return None;
    }
    Some(name)
}

fn pattern(node: &Node<'_>) -> Option<Pattern> {
    let text = node.read(format!("a regular expression of at most {PATTERN} bytes"), |text| {
        (!text.is_empty() && text.len() <= PATTERN).then_some(text)
    })?;
    let built = RegexBuilder::new(text).size_limit(PATTERN_BYTES).dfa_size_limit(PATTERN_BYTES).build();
    let regex = match built {
        Ok(regex) => regex,
        Err(error) => {
            node.fault(format!("expected a regular expression: {}", Reason(&error)));
            return None;
        }
    };
    if regex.is_match("") {
        node.fault("it matches the empty text, and so everywhere: write what the secret has at least");
        return None;
    }
    let secret = regex.capture_names().position(|name| name == Some("secret"));
    Some(Pattern { is_anchored: is_anchored(text), secret, regex })
}

/// Whether it asks where a text or line begins or ends, so that a value matches where the text around it does
/// not. (A word ends at a quote as it does at the value's end.)
fn is_anchored(pattern: &str) -> bool {
    regex_syntax::parse(pattern).is_ok_and(|parsed| parsed.properties().look_set().contains_anchor())
}

/// Why a pattern is none, on one line: the library draws it on several.
struct Reason<'a>(&'a regex::Error);

impl fmt::Display for Reason<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = self.0.to_string();
        let last = text.lines().last().unwrap_or_default();
        f.write_str(last.strip_prefix("error: ").unwrap_or(last))
    }
}

/// `Some(None)`: all.
fn namespaces(node: &Node<'_>) -> Option<Option<GlobSet>> {
    if !node.is_present() {
        return Some(None);
    }
    let mut set = GlobSetBuilder::new();
    let mut count = 0;
    for item in node.list() {
        match GlobBuilder::new(item.text()?).build() {
            Ok(glob) => {
                set.add(glob);
                count += 1;
            }
            Err(error) => item.fault(format!("expected a name or a glob such as team-*: {error}")),
        }
    }
    if count == 0 {
        node.fault("an empty list would be no namespace at all: name one, or leave `namespaces` out for all");
        return None;
    }
    set.build().map(Some).map_err(|error| node.fault(format!("these globs are too many: {error}"))).ok()
}
