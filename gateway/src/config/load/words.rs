//! Names, globs, secrets: what occurs in several places of the file.

use std::sync::Arc;

use globset::{Glob, GlobSetBuilder};
use sluice_settings::{Map, Node};
use sluice_wire::Category;

use super::Sources;
use crate::config::checked::{Globs, Secret, Tenant};

/// The name of a destination: it becomes a directory, a label, a thread.
pub(super) fn destination_name(node: &Node<'_>) -> Option<Arc<str>> {
    node.read("a name of 1 to 63 letters a-z, digits and -", |text| {
        let of = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
        (is_word(text, 63, of) && !text.starts_with('-')).then(|| text.into())
    })
}

/// The name of an identity.
pub(super) fn identity_name(node: &Node<'_>) -> Option<Arc<str>> {
    node.read("a name of 1 to 63 letters, digits and _ . -", |text| {
        is_word(text, 63, is_name_byte).then(|| text.into())
    })
}

/// A tenant.
pub(super) fn tenant(node: &Node<'_>) -> Option<Tenant> {
    node.read(TENANT, |text| is_tenant(text).then(|| text.into()))
}

pub(super) const TENANT: &str = "a tenant of 1 to 150 letters, digits and _ . - (and not . or ..)";

pub(super) fn is_tenant(text: &str) -> bool {
    is_word(text, 150, is_name_byte) && text != "." && text != ".."
}

fn is_name_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b'-')
}

fn is_word(text: &str, most: usize, of: impl Fn(u8) -> bool) -> bool {
    (1..=most).contains(&text.len()) && text.bytes().all(of)
}

/// A list that, left out, stands for any. An empty one reads as if it stood for none: whoever wrote it,
/// or whatever template, has to say which.
fn any_or_some(node: &Node<'_>) {
    if node.is_present() && node.list().next().is_none() {
        node.fault("the list is empty: leave the key out for any, or name some");
    }
}

/// A list of texts; where nothing is written, any.
pub(super) fn texts(node: &Node<'_>) -> Vec<Arc<str>> {
    any_or_some(node);
    node.list().filter_map(|item| item.text().map(Into::into)).collect()
}

/// A list of names, each one of `known`; `what` they are, for the message.
pub(super) fn references(node: &Node<'_>, what: &str, known: &[Arc<str>]) -> Vec<Arc<str>> {
    let one = |item: Node<'_>| {
        let found = item.text().and_then(|text| known.iter().find(|name| ***name == *text));
        if let (None, Some(text)) = (found, item.text()) {
            item.fault(format!("there is no {what} {text:?}; there are: {}", known.join(", ")));
        }
        found.cloned()
    };
    node.list().filter_map(one).collect()
}

/// As [`references`]; where nothing is written, any.
pub(super) fn any_or_references(node: &Node<'_>, what: &str, known: &[Arc<str>]) -> Vec<Arc<str>> {
    any_or_some(node);
    references(node, what, known)
}

/// A list of categories; all of them where nothing is written.
pub(super) fn categories(node: &Node<'_>) -> Vec<Category> {
    any_or_some(node);
    let words = Category::ALL.map(|category| (category.word(), category));
    if node.is_present() {
        node.list().filter_map(|item| item.one_of(&words)).collect()
    } else {
        Category::ALL.to_vec()
    }
}

/// A list of globs; where nothing is written, any.
pub(super) fn globs(node: &Node<'_>) -> Globs {
    any_or_some(node);
    let mut patterns = Vec::new();
    let mut set = GlobSetBuilder::new();
    for item in node.list() {
        let Some(text) = item.text() else { continue };
        match Glob::new(text) {
            Ok(glob) => {
                set.add(glob);
                patterns.push(text.to_owned());
            }
            Err(error) => item.fault(format!("expected a name or a glob such as team-*: {error}")),
        }
    }
    let set = set.build().unwrap_or_else(|error| {
        node.fault(format!("these globs are too many: {error}"));
        globset::GlobSet::empty()
    });
    Globs { patterns, set }
}

/// A secret out of `token_file` or else `token_env`; absent where neither is written.
pub(super) fn token(map: &Map<'_>, sources: Sources<'_>) -> Option<Secret> {
    map.optional("token")
        .refuse("a token is not written into this file, which many may read: put it into a file and name that as token_file, or into the environment and name that as token_env");
    let (file, env) = (map.optional("token_file"), map.optional("token_env"));
    let from_file = file.file().and_then(|path| match (sources.file)(&path) {
        Ok(text) => secret(&file, &text),
        Err(error) => {
            file.fault(error.to_string());
            None
        }
    });
    let from_env = env.text().and_then(|name| match (sources.env)(name) {
        Some(text) => secret(&env, &text),
        None => {
            env.fault(format!("the environment has no variable {name}: set it"));
            None
        }
    });
    from_file.or(from_env)
}

/// What a header can carry, without the newline that editors and `echo` add.
fn secret(node: &Node<'_>, text: &str) -> Option<Secret> {
    let text = text.trim();
    if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_graphic()) {
        node.fault(
            "the token there is empty or holds spaces, line ends or characters that are not ASCII: write one token",
        );
        return None;
    }
    Some(Secret::new(text))
}
