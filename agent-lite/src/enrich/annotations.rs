//! What a pod's annotations ask for, within what the operator of the cluster allows.
//!
//! ```text
//! sluice.dev/WHAT[.CONTAINER][.STREAM]: VALUE     WHAT: parser, multiline, exclude, sample
//! fluentbit.io/WHAT[_STREAM][-CONTAINER]: VALUE   WHAT: parser, exclude; where the operator reads them
//! ```
//!
//! STREAM is `stdout` or `stderr`; no container has a dot in its name. A lone word after WHAT is a stream
//! where it is one of the two, else a container: a container that is called `stdout` is reached with its
//! stream (`parser.stdout.stdout`). The most specific annotation counts: container and stream, container,
//! stream, the whole pod; each of `sluice.dev` before any of `fluentbit.io`. `none` takes back what a less
//! specific one has chosen. What is wrong counts as not written, and is told.
//!
//! Fluent Bit's spellings are those of its Kubernetes filter: `fluentbit.io/parser[_stream][-container]`
//! and `fluentbit.io/exclude[_stream][-container]`.

use std::fmt;
use std::sync::Arc;

use sluice_wire::Stream;

/// Problems told of one pod.
const MAX_PROBLEMS: usize = 8;
/// The most messages of which one is sent.
const MAX_SAMPLE: u32 = 1_000_000;
/// Characters of a key or value in a message.
const SHOWN: usize = 80;

/// What pods may ask for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Allowed {
    /// Parsers by name.
    pub parsers: Vec<Arc<str>>,
    /// Multi-line rules by name.
    pub multiline: Vec<Arc<str>>,
    /// Whether pods may keep their logs out.
    pub exclude: bool,
    /// Whether pods may have only a sample of their logs shipped.
    pub sample: bool,
    /// Whether `fluentbit.io/…` is read as well.
    pub fluentbit: bool,
}

/// What was chosen for a stream of a container.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Choice {
    /// One of [`Allowed::parsers`].
    pub parser: Option<Arc<str>>,
    /// One of [`Allowed::multiline`].
    pub multiline: Option<Arc<str>>,
    /// Its lines are not to be shipped.
    pub exclude: bool,
    /// Of so many messages one is to be shipped.
    pub sample: Option<u32>,
}

/// What was chosen for a pod.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Choices {
    /// By container: standard output, standard error.
    containers: Box<[(Box<str>, [Choice; 2])]>,
    /// For containers that the pod did not name (yet).
    others: [Choice; 2],
}

impl Choices {
    /// What counts for a container's stream.
    #[must_use]
    pub fn of(&self, container: &str, stream: Stream) -> &Choice {
        let named = self.containers.iter().find(|(name, _)| **name == *container);
        &named.map_or(&self.others, |(_, choices)| choices)[usize::from(stream == Stream::Stderr)]
    }
}

/// An annotation that changes nothing, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// Its key, cut.
    pub annotation: String,
    /// What is wrong with it, and what would be right; without the key.
    pub message: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "annotation {}: {}; it is ignored", self.annotation, self.message)
    }
}

/// Reads a pod's annotations.
pub(super) fn read<'a>(
    annotations: impl IntoIterator<Item = (&'a str, &'a str)>,
    containers: &[&str],
    allowed: &Allowed,
) -> (Choices, Vec<Problem>) {
    let mut wishes = Vec::new();
    let mut problems = Vec::new();
    for (key, value) in annotations {
        match wish(key, value.trim(), containers, allowed) {
            Some(Ok(wish)) => wishes.push(wish),
            Some(Err(message)) if problems.len() < MAX_PROBLEMS => {
                problems.push(Problem { annotation: cut(key), message });
            }
            _ => {}
        }
    }
    if wishes.is_empty() {
        return (Choices::default(), problems);
    }
    let of =
        |container: Option<&str>| [Stream::Stdout, Stream::Stderr].map(|stream| choose(&wishes, container, stream));
    let containers = containers.iter().map(|name| (Box::from(*name), of(Some(name)))).collect();
    (Choices { containers, others: of(None) }, problems)
}

/// A valid annotation.
struct Wish<'a> {
    target: Target<'a>,
    asks: Asks,
}

/// What an annotation's key is about.
struct Target<'a> {
    what: What,
    is_ours: bool,
    container: Option<&'a str>,
    stream: Option<Stream>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum What {
    Parser,
    Multiline,
    Exclude,
    Sample,
}

enum Asks {
    /// One of the operator's names; `None`: none of them.
    Name(Option<Arc<str>>),
    Exclude(bool),
    Sample(u32),
}

impl Target<'_> {
    fn covers(&self, what: What, container: Option<&str>, stream: Stream) -> bool {
        self.what == what
            && (self.container.is_none() || self.container == container)
            && self.stream.is_none_or(|own| own == stream)
    }

    fn rank(&self) -> u8 {
        u8::from(self.is_ours) * 4 + u8::from(self.container.is_some()) * 2 + u8::from(self.stream.is_some())
    }
}

fn choose(wishes: &[Wish<'_>], container: Option<&str>, stream: Stream) -> Choice {
    let best = |what| {
        let covering = wishes.iter().filter(|wish| wish.target.covers(what, container, stream));
        covering.max_by_key(|wish| wish.target.rank()).map(|wish| &wish.asks)
    };
    let name = |what| match best(what) {
        Some(Asks::Name(name)) => name.clone(),
        _ => None,
    };
    Choice {
        parser: name(What::Parser),
        multiline: name(What::Multiline),
        exclude: matches!(best(What::Exclude), Some(Asks::Exclude(true))),
        sample: match best(What::Sample) {
            Some(Asks::Sample(one_in)) => Some(*one_in),
            _ => None,
        },
    }
}

/// `None`: not for us.
fn wish<'a>(key: &'a str, value: &str, containers: &[&str], allowed: &Allowed) -> Option<Result<Wish<'a>, String>> {
    let target = if let Some(rest) = key.strip_prefix("sluice.dev/") {
        own_target(rest)
    } else {
        Ok(fluentbit_target(key.strip_prefix("fluentbit.io/").filter(|_| allowed.fluentbit)?)?)
    };
    Some(target.and_then(|target| {
        if let Some(container) = target.container.filter(|name| !containers.contains(name)) {
            return Err(format!("the pod has no container {}; it has: {}", shown(container), containers.join(", ")));
        }
        let asks = asks(&target, value, allowed)?;
        Ok(Wish { target, asks })
    }))
}

/// `WHAT[.CONTAINER][.STREAM]`.
fn own_target(rest: &str) -> Result<Target<'_>, String> {
    let mut parts = rest.split('.');
    let what = match parts.next() {
        Some("parser") => What::Parser,
        Some("multiline") => What::Multiline,
        Some("exclude") => What::Exclude,
        Some("sample") => What::Sample,
        _ => return Err("there is no such annotation; there are: parser, multiline, exclude, sample".to_owned()),
    };
    let (container, stream) = match (parts.next(), parts.next(), parts.next()) {
        (None, ..) => (None, None),
        (Some(word), None, _) => match stream(word) {
            Some(stream) => (None, Some(stream)),
            None => (Some(word), None),
        },
        (Some(container), Some(word), None) => match stream(word) {
            Some(stream) => (Some(container), Some(stream)),
            None => return Err(format!("a stream is stdout or stderr, not {}", shown(word))),
        },
        _ => return Err("its key has more parts than container and stream".to_owned()),
    };
    Ok(Target { what, is_ours: true, container, stream })
}

/// `WHAT[_STREAM][-CONTAINER]`; `None`: another annotation of Fluent Bit's.
fn fluentbit_target(rest: &str) -> Option<Target<'_>> {
    let (word, container) = match rest.split_once('-') {
        Some((word, container)) => (word, Some(container)),
        None => (rest, None),
    };
    let (word, stream) = match word.split_once('_') {
        Some((word, name)) => (word, Some(stream(name)?)),
        None => (word, None),
    };
    let what = match word {
        "parser" => What::Parser,
        "exclude" => What::Exclude,
        _ => return None,
    };
    Some(Target { what, is_ours: false, container, stream })
}

fn stream(word: &str) -> Option<Stream> {
    match word {
        "stdout" => Some(Stream::Stdout),
        "stderr" => Some(Stream::Stderr),
        _ => None,
    }
}

fn asks(target: &Target<'_>, value: &str, allowed: &Allowed) -> Result<Asks, String> {
    let (names, kind) = match target.what {
        What::Parser => (&allowed.parsers, "parser"),
        What::Multiline => (&allowed.multiline, "multi-line rule"),
        What::Exclude if !allowed.exclude => {
            return Err("in this cluster pods may not keep their logs out".to_owned());
        }
        What::Exclude => {
            let value = boolean(value, target.is_ours);
            return value.map(Asks::Exclude).ok_or_else(|| "its value is `true` or `false`".to_owned());
        }
        What::Sample if !allowed.sample => {
            return Err("in this cluster pods may not have their logs sampled".to_owned());
        }
        What::Sample => {
            let one_in = value.parse().ok().filter(|one_in| (1..=MAX_SAMPLE).contains(one_in));
            let fix = || format!("its value is a whole number N from 1 to {MAX_SAMPLE}: one message in N is sent");
            return one_in.map(Asks::Sample).ok_or_else(fix);
        }
    };
    if value == "none" && target.is_ours {
        return Ok(Asks::Name(None));
    }
    match names.iter().find(|name| ***name == *value) {
        Some(name) => Ok(Asks::Name(Some(name.clone()))),
        None if names.is_empty() => Err(format!("in this cluster pods may not choose a {kind}")),
        None => Err(format!("there is no {kind} {}; there are: {}", shown(value), cut(&names.join(", ")))),
    }
}

/// Fluent Bit takes more words for it.
fn boolean(value: &str, is_ours: bool) -> Option<bool> {
    match value {
        "true" => Some(true),
        "false" => Some(false),
        _ if is_ours => None,
        _ if ["true", "on", "yes"].iter().any(|word| value.eq_ignore_ascii_case(word)) => Some(true),
        _ if ["false", "off", "no"].iter().any(|word| value.eq_ignore_ascii_case(word)) => Some(false),
        _ => None,
    }
}

fn shown(text: &str) -> String {
    format!("{:?}", cut(text))
}

fn cut(text: &str) -> String {
    match text.char_indices().nth(SHOWN) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests;
