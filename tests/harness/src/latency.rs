//! How long lines took from the writer to where they were first seen.

use std::fmt;

use hdrhistogram::Histogram;
use serde::Serialize;

/// Up to an hour, to three digits: more than a test ever waits.
const LONGEST_US: u64 = 3_600_000_000;

#[derive(Debug, Clone)]
pub struct Latencies(Histogram<u64>);

#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Summary {
    pub lines: u64,
    pub p50_ms: f64,
    pub p90_ms: f64,
    pub p99_ms: f64,
    pub p999_ms: f64,
    pub max_ms: f64,
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { lines, p50_ms, p90_ms, p99_ms, p999_ms, max_ms } = self;
        write!(
            f,
            "p50 {p50_ms:.1} ms, p90 {p90_ms:.1} ms, p99 {p99_ms:.1} ms, p99.9 {p999_ms:.1} ms, max {max_ms:.1} ms \
             ({lines} lines)"
        )
    }
}

impl Default for Latencies {
    fn default() -> Self {
        Self(Histogram::new_with_bounds(1, LONGEST_US, 3).expect("constant, valid bounds"))
    }
}

impl Latencies {
    /// A clock that was set back counts as no delay at all.
    pub fn record(&mut self, written_ns: u64, seen_ns: u64) {
        self.0.saturating_record(seen_ns.saturating_sub(written_ns) / 1000);
    }

    /// Takes those of another, too.
    pub fn add(&mut self, other: &Self) {
        self.0 += &other.0;
    }

    #[must_use]
    pub fn summary(&self) -> Summary {
        let ms = |quantile| millis(self.0.value_at_quantile(quantile));
        Summary {
            lines: self.0.len(),
            p50_ms: ms(0.5),
            p90_ms: ms(0.9),
            p99_ms: ms(0.99),
            p999_ms: ms(0.999),
            max_ms: millis(self.0.max()),
        }
    }
}

#[allow(clippy::cast_precision_loss)] // an hour of microseconds is far below 2^52
fn millis(micros: u64) -> f64 {
    micros as f64 / 1000.0
}

/// Unix time in nanoseconds, as the writer puts it into each line.
#[must_use]
pub fn now_ns() -> u64 {
    u64::try_from(jiff::Timestamp::now().as_nanosecond()).expect("the clock is past 1970")
}
