//! What was wrong when, so that a loss can be told by what went on.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

use sluice_harness::latency::now_ns;

/// What can be wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fault {
    /// The agent was killed and is not back.
    AgentDown,
    /// The gateway was stopped and is not back.
    GatewayAway,
    /// The API server restarts.
    ApiAway,
}

impl Fault {
    /// All there are.
    pub const ALL: [Self; 3] = [Self::AgentDown, Self::GatewayAway, Self::ApiAway];
}

/// `agent`, `gateway`, `api`.
impl FromStr for Fault {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        match name {
            "agent" => Ok(Self::AgentDown),
            "gateway" => Ok(Self::GatewayAway),
            "api" => Ok(Self::ApiAway),
            _ => Err(format!("no fault is called {name:?}: use agent, gateway, api")),
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::AgentDown => "agent down",
            Self::GatewayAway => "gateway away",
            Self::ApiAway => "API server away",
        })
    }
}

/// All faults of a run, from when to when in Unix nanoseconds.
#[derive(Debug, Clone, Default)]
pub struct Faults(Vec<(Fault, i64, i64)>);

impl Faults {
    pub(super) fn begin(&mut self, fault: Fault) -> usize {
        self.0.push((fault, now(), i64::MAX));
        self.0.len() - 1
    }

    pub(super) fn end(&mut self, ongoing: usize) {
        self.0[ongoing].2 = now();
    }

    #[cfg(test)]
    pub(crate) fn of<const N: usize>(faults: [(Fault, i64, i64); N]) -> Self {
        Self(faults.to_vec())
    }

    /// Whether a container that was there from one time to the other was never there while an agent was that
    /// could keep what it met: it came at most `kept_after` before an end of the agent, and went before the next
    /// one had looked.
    #[must_use]
    pub fn agent_missed(&self, born_ns: i64, gone_ns: i64, kept_after: i64) -> bool {
        let spans = |(fault, from, to): &(Fault, i64, i64)| {
            *fault == Fault::AgentDown && from.saturating_sub(kept_after) <= born_ns && gone_ns <= *to
        };
        self.0.iter().any(spans)
    }

    /// How often something was wrong between two moments, and for how long in all, in seconds.
    #[must_use]
    pub fn share(&self, fault: Fault, from_ns: i64, to_ns: i64) -> (usize, f64) {
        let within = |(_, from, to): &(Fault, i64, i64)| ((*to).min(to_ns) - (*from).max(from_ns)).max(0) as f64 / 1e9;
        let of_it: Vec<f64> = self.0.iter().filter(|(other, ..)| *other == fault).map(within).collect();
        (of_it.len(), of_it.iter().sum())
    }

    /// How long what went at `gone_ns` could only be held open: until the gateway was back, if it was away.
    #[must_use]
    pub fn held_until(&self, gone_ns: i64) -> i64 {
        let away =
            |(fault, from, to): &&(Fault, i64, i64)| *fault == Fault::GatewayAway && (*from..=*to).contains(&gone_ns);
        self.0.iter().find(away).map_or(gone_ns, |(.., to)| *to)
    }

    /// Whether the agent was killed within so long after `gone_ns`: what it held open until then, it lost.
    #[must_use]
    pub fn killed_within(&self, gone_ns: i64, nanos: i64) -> bool {
        let since = gone_ns..=gone_ns.saturating_add(nanos);
        self.0.iter().any(|(fault, from, _)| *fault == Fault::AgentDown && since.contains(from))
    }

    /// What was wrong at some moment from the first time to the last.
    #[must_use]
    pub fn between(&self, from_ns: i64, to_ns: i64) -> BTreeSet<Fault> {
        let overlaps = |(_, from, to): &&(Fault, i64, i64)| *from <= to_ns && *to >= from_ns;
        self.0.iter().filter(overlaps).map(|(fault, ..)| *fault).collect()
    }
}

pub(super) fn now() -> i64 {
    i64::try_from(now_ns()).unwrap_or(i64::MAX)
}
