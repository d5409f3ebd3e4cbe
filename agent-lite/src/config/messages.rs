//! `parsers` and `multiline`: what can be done to messages, by name.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use sluice_settings::{Map, Node};

use crate::enrich::Allowed;
use crate::parse::message::Parser;
use crate::parse::multiline::{self, Limits, Rule};
use crate::tail::Tools;

const KIB: u64 = 1024;

/// The built-in ones and the operator's own.
pub(super) fn messages(map: &Map<'_>) -> Option<Tools> {
    let mut parsers: HashMap<Arc<str>, Arc<Parser>> =
        Parser::NAMES.iter().filter_map(|name| Some(((*name).into(), Arc::new(Parser::named(name)?)))).collect();
    let own: Vec<_> = map.optional("parsers").list().map(|node| node.map(parser)).collect();
    parsers.extend(own.into_iter().collect::<Option<Vec<_>>>()?);
    let mut rules: HashMap<Arc<str>, Arc<Rule>> =
        multiline::NAMES.iter().filter_map(|name| Some(((*name).into(), Arc::new(Rule::named(name).ok()?)))).collect();
    let node = map.optional("multiline");
    let read = if node.is_present() { node.map(|map| multiline(map, &mut rules)) } else { Some(Default::default()) };
    let (default_multiline, limits) = read?;
    Some(Tools { parsers, multiline: rules, default_multiline, limits })
}

/// Names that annotations may use have to be those of something.
pub(super) fn check(allowed: &Allowed, messages: &Tools, map: &Map<'_>) {
    for name in &allowed.parsers {
        if !messages.parsers.contains_key(name) {
            let known = Parser::NAMES.join(", ");
            map.node().fault(format!(
                "annotations.parsers: there is no parser {name:?}; there are {known}, and those of `parsers`"
            ));
        }
    }
    for name in allowed.multiline.iter().filter(|name| !messages.multiline.contains_key(*name)) {
        let known = multiline::NAMES.join(", ");
        map.node().fault(format!(
            "annotations.multiline: there is no rule {name:?}; there are {known}, and those of `multiline.rules`"
        ));
    }
}

fn parser(map: &Map<'_>) -> Option<(Arc<str>, Arc<Parser>)> {
    let name = name(&map.required("name"));
    let regex = map.required("regex");
    let time_format = map.optional("time_format").text();
    let parser = Parser::regex(regex.text()?, time_format);
    let parser = parser.map_err(|error| regex.fault(error.to_string())).ok()?;
    Some((name?, Arc::new(parser)))
}

fn multiline(map: &Map<'_>, rules: &mut HashMap<Arc<str>, Arc<Rule>>) -> Option<(Option<Arc<Rule>>, Limits)> {
    let own: Vec<_> = map.optional("rules").list().map(|node| node.map(rule)).collect();
    let lines = map.optional("lines").integer(2..=100_000_usize);
    let bytes = map.optional("bytes").bytes(KIB..=128 * KIB);
    let age = map.optional("age").duration(Duration::from_millis(50)..=Duration::from_secs(60));
    rules.extend(own.into_iter().collect::<Option<Vec<_>>>()?);
    let default = map.optional("default");
    let rule = if default.is_present() {
        default.read("`none`, or the name of a rule", |name| match name {
            "none" => Some(None),
            name => rules.get(name).cloned().map(Some),
        })?
    } else {
        None
    };
    let usual = Limits::default();
    let limits = Limits {
        lines: lines.unwrap_or(usual.lines),
        bytes: bytes.and_then(|bytes| usize::try_from(bytes).ok()).unwrap_or(usual.bytes),
        age: age.unwrap_or(usual.age),
    };
    Some((rule, limits))
}

fn rule(map: &Map<'_>) -> Option<(Arc<str>, Arc<Rule>)> {
    let name = name(&map.required("name"));
    let start = map.required("start");
    let rule = Rule::starting(start.text()?).map_err(|error| start.fault(error.to_string())).ok()?;
    Some((name?, Arc::new(rule)))
}

fn name(node: &Node<'_>) -> Option<Arc<str>> {
    let is_name = |text: &str| !text.is_empty() && text.len() <= 63 && text != "none";
    node.read("a name of at most 63 characters", |text| is_name(text).then(|| text.into()))
}
