//! What becomes of a message between its file and its block: lines joined, secrets taken out, taken apart.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use jiff::tz::TimeZone;
use sluice_wire::Stream;

use super::cut::whole_characters;
use crate::block::{LaneId, Lanes, MAX_CONTENT};
use crate::enrich::PodInfo;
use crate::parse::message::{Parsed, Parser, TimeContext};
use crate::parse::multiline::{Limits, Rule};
use crate::record::Line;
use crate::redact::{Outcome, Redactor, Scope};

/// Parsers and multi-line rules by name.
#[derive(Debug, Clone, Default)]
pub struct Tools {
    /// Parsers.
    pub parsers: HashMap<Arc<str>, Arc<Parser>>,
    /// Rules for messages of several lines.
    pub multiline: HashMap<Arc<str>, Arc<Rule>>,
    /// The rule of containers whose pods ask for nothing.
    pub default_multiline: Option<Arc<Rule>>,
    /// Bounds of a message of several lines.
    pub limits: Limits,
}

/// Where messages are treated.
#[derive(Debug)]
pub struct Workshop {
    pub(super) redactor: Option<Redactor>,
    pub(super) tools: Tools,
    /// How often rules of earlier redactors have matched.
    matched: BTreeMap<String, u64>,
    parsed: Parsed,
    utc: TimeContext,
    local: TimeContext,
}

impl Default for Workshop {
    /// Nothing is done to any message.
    fn default() -> Self {
        Self::new(None, Tools::default(), TimeZone::UTC)
    }
}

impl Workshop {
    /// Redacts with `redactor`, and uses `tools` where a pod asks for one; the node's own files have times of
    /// `zone`.
    #[must_use]
    pub fn new(redactor: Option<Redactor>, tools: Tools, zone: TimeZone) -> Self {
        let context = |zone| TimeContext { now: 0, zone };
        let (utc, local) = (context(TimeZone::UTC), context(zone));
        Self { redactor, tools, matched: BTreeMap::new(), parsed: Parsed::default(), utc, local }
    }

    /// Redacts with another redactor, where one is given, and uses these tools.
    pub(super) fn retool(&mut self, redactor: Option<Option<Redactor>>, tools: Tools) {
        if let Some(redactor) = redactor {
            self.matched = self.redactions().collect();
            self.redactor = redactor;
        }
        self.tools = tools;
    }

    /// Each rule that there is or was, and how often it has matched.
    pub(super) fn redactions(&self) -> impl Iterator<Item = (String, u64)> {
        let mut matched = self.matched.clone();
        for (rule, matches) in self.redactor.iter().flat_map(Redactor::counts) {
            *matched.entry(rule.to_owned()).or_default() += matches;
        }
        matched.into_iter()
    }
}

/// What is done to the messages of one log.
#[derive(Debug, Clone)]
pub(super) struct Treatment {
    streams: [OfStream; 3],
    /// The rules that hold for its namespace; `None`: none.
    redact: Option<Scope>,
    /// Of a file of the node, the form of its messages: times without a zone are the node's. Containers' are UTC.
    of_host: Option<&'static str>,
}

#[derive(Debug, Clone, Default)]
pub(super) struct OfStream {
    parser: Option<Arc<Parser>>,
    pub(super) multiline: Option<Arc<Rule>>,
    /// Its lines are not shipped.
    pub(super) exclude: bool,
    /// One message in so many is shipped; 0 and 1: each.
    pub(super) sample: u32,
}

impl Workshop {
    /// What is done to a log of a namespace (or unit) of which nothing else is known. `joined`: lines may be
    /// stack traces.
    pub(super) fn treatment(&self, namespace: &str, joined: bool) -> Treatment {
        let multiline = self.tools.default_multiline.clone().filter(|_| joined);
        let of_stream = OfStream { multiline, ..OfStream::default() };
        let redact = self.redactor.as_ref().map(|redactor| redactor.scope(namespace));
        Treatment {
            streams: std::array::from_fn(|_| of_stream.clone()),
            redact: redact.filter(|scope| !scope.is_empty()),
            of_host: None,
        }
    }

    /// What is done to a file of the node whose messages are of a form.
    pub(super) fn treatment_of_host(&self, unit: &str, format: &'static str) -> Treatment {
        let mut treatment = self.treatment(unit, false);
        treatment.of_host = Some(format);
        treatment.streams[Stream::Whole as usize].parser = self.tools.parsers.get(format).cloned();
        treatment
    }

    /// What is done to a container's log, by what its pod's annotations ask for.
    pub(super) fn treatment_of(&self, namespace: &str, container: &str, info: &PodInfo) -> Treatment {
        let mut treatment = self.treatment(namespace, true);
        for stream in [Stream::Stdout, Stream::Stderr] {
            let (choice, of_stream) = (info.choice(container, stream), &mut treatment.streams[stream as usize]);
            of_stream.exclude = choice.exclude;
            of_stream.sample = choice.sample.unwrap_or(1);
            if let Some(name) = &choice.multiline {
                of_stream.multiline = self.tools.multiline.get(name).cloned();
            }
            of_stream.parser = choice.parser.as_ref().and_then(|name| self.tools.parsers.get(name).cloned());
        }
        treatment
    }

    /// What may go of an event that is JSON, which it stays.
    pub(super) fn redact<'t>(&'t mut self, treatment: &Treatment, text: &'t str) -> Outcome<'t> {
        match (&mut self.redactor, treatment.redact) {
            (Some(redactor), Some(scope)) => redactor.apply(text, scope),
            _ => Outcome::Unchanged,
        }
    }

    /// Redacts a message, takes it apart, and puts it into its lane. Gives its records; `None`: a rule drops
    /// such messages.
    pub(super) fn send(
        &mut self,
        treatment: &Treatment,
        stream: Stream,
        lane: LaneId,
        line: Line<'_>,
        lanes: &mut Lanes,
        now: std::time::Instant,
    ) -> Option<u32> {
        let parser = treatment.streams[stream as usize].parser.as_deref();
        // By far the most lines.
        if treatment.redact.is_none() && parser.is_none() {
            return Some(lanes.push(lane, &line, now));
        }
        let mut line = line;
        let text;
        if let (Some(redactor), Some(scope)) = (&mut self.redactor, treatment.redact) {
            text = match simdutf8::basic::from_utf8(line.content) {
                Ok(text) => Cow::Borrowed(text),
                Err(_) => String::from_utf8_lossy(line.content),
            };
            match redactor.apply(&text, scope) {
                Outcome::Unchanged => {}
                Outcome::Changed(redacted) => line.content = redacted.as_bytes(),
                Outcome::Drop(_) => return None,
            }
        }
        if line.content.len() > MAX_CONTENT {
            return Some(send_parts(line, lane, lanes, now));
        }
        if let Some(parser) = parser.filter(|_| line.part.is_none()) {
            let context = if treatment.of_host.is_some() { &mut self.local } else { &mut self.utc };
            context.now = line.time;
            if parser.parse_bytes(line.content, context, &mut self.parsed) {
                line.parsed = Some(&self.parsed);
            }
        }
        Some(lanes.push(lane, &line, now))
    }
}

/// What stands for secrets may be longer than they are.
fn send_parts(line: Line<'_>, lane: LaneId, lanes: &mut Lanes, now: std::time::Instant) -> u32 {
    let (mut records, mut rest) = (0, line.content);
    let first = line.part.unwrap_or(1);
    while !rest.is_empty() {
        let length = whole_characters(rest, MAX_CONTENT);
        let part = Line { content: &rest[..length], part: Some(first + records), ..line };
        records += lanes.push(lane, &part, now);
        rest = &rest[length..];
    }
    records
}

impl Treatment {
    pub(super) fn of(&self, stream: Stream) -> &OfStream {
        &self.streams[stream as usize]
    }

    /// The form of a file of the node.
    pub(super) fn format(&self) -> &'static str {
        self.of_host.unwrap_or("plain")
    }

    /// Whether both join the lines of a stream by the same rule.
    pub(super) fn joins_alike(one: &Self, other: &Self, stream: Stream) -> bool {
        match (&one.of(stream).multiline, &other.of(stream).multiline) {
            (Some(one), Some(other)) => Arc::ptr_eq(one, other),
            (None, None) => true,
            _ => false,
        }
    }

    /// Whether nothing of the log is shipped.
    pub(super) fn excludes_all(&self) -> bool {
        self.of(Stream::Stdout).exclude && self.of(Stream::Stderr).exclude
    }
}
