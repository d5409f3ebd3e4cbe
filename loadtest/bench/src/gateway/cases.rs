//! What the gateway is loaded with.

use std::sync::Arc;

use sluice_harness::latency::now_ns;

use super::{
    records::Records,
    template::{Size, Template},
};
use crate::error::{Error, Result};

#[derive(Debug, Clone, Copy)]
pub(super) struct Case {
    pub(super) name: &'static str,
    size: Size,
    /// Raw bytes for each byte of payload are at most this many.
    ratio: f64,
}

/// An agent's blocks when it catches up, the same with more text of their own in each line, and what comes
/// of many quiet namespaces.
pub(super) const CASES: [Case; 3] = [
    Case { name: "ingest-ratio-14", size: Size::Raw(200_000), ratio: 14.0 },
    Case { name: "ingest-ratio-8", size: Size::Raw(200_000), ratio: 8.0 },
    Case { name: "ingest-small-blocks", size: Size::Compressed(4_700), ratio: 14.0 },
];

pub(super) const NAMESPACES: usize = 20;
/// Different blocks of a namespace: together they are larger than a core's caches.
const BLOCKS: u64 = 8;

impl Case {
    /// Blocks of each namespace.
    pub(super) fn templates(&self) -> Result<Vec<(String, Arc<[Template]>)>> {
        let text_bytes = self.text_bytes()?;
        (0..NAMESPACES as u64)
            .map(|nth| {
                let namespace = namespace(nth);
                let mut records = Records::new(&namespace, text_bytes, nth, wall_ns());
                let templates = (0..BLOCKS).map(|_| Template::fill(&mut records, self.size));
                Ok((namespace, templates.collect::<Result<_>>()?))
            })
            .collect()
    }

    /// The least text of their own that lines must have for the ratio.
    fn text_bytes(&self) -> Result<usize> {
        for text_bytes in (40..2_000).step_by(4) {
            let mut records = Records::new(&namespace(0), text_bytes, 0, wall_ns());
            // A hundredth less, since the other namespaces' blocks come out a little different.
            if Template::fill(&mut records, self.size)?.ratio() <= self.ratio * 0.99 {
                return Ok(text_bytes);
            }
        }
        Err(Error::Setup(format!("{}: no text makes a ratio of {}", self.name, self.ratio)))
    }
}

fn namespace(nth: u64) -> String {
    format!("team-payments-settlement-service-{nth:02}")
}

fn wall_ns() -> i64 {
    i64::try_from(now_ns()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ratios_are_near_what_is_asked_for() {
        for case in CASES {
            let templates = case.templates().unwrap();
            let all = || templates.iter().flat_map(|(_, templates)| templates.iter());
            let mean = all().map(Template::ratio).sum::<f64>() / all().count() as f64;
            assert!(
                mean <= case.ratio && (mean > case.ratio * 0.9 || case.name.contains("small")),
                "{} {mean}",
                case.name
            );
        }
    }
}
