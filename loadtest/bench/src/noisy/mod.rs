//! A noisy neighbour: what a tenant far over its limit costs the others, and that it loses nothing itself.
//!
//! ```text
//!   core A                                      core B (this process)
//!   agent ◄── log files ───────────────────────  writers: three quiet tenants, and every second run a noisy one
//!     └──► gateway ──► the destination's files ─► follower: how long each quiet line took
//! ```

mod run;
mod settings;
mod stack;
mod tenants;

use sluice_harness::dirs::TestDir;

use crate::{
    cores::Cores,
    error::Result,
    node,
    outcome::Outcome,
    pairs::{self, Limit, Verdict},
};

use run::Shape;

/// What the noisy tenant may cost the others.
const LIMITS: &[Limit] = &[
    Limit { figure: "p50_ms", times: 1.25, more: Some(50.0) },
    Limit { figure: "cpu_s_per_gb", times: 1.10, more: None },
];

#[derive(Debug, Clone, Copy)]
pub(crate) struct Plan {
    pub(crate) cores: Cores,
    pub(crate) pairs: u32,
    /// Of writing, in each run.
    pub(crate) seconds: u64,
}

/// Adds one outcome for each run.
pub(crate) async fn run(plan: Plan, outcomes: &mut Vec<Outcome>) -> Result<Verdict> {
    let Plan { cores, pairs, seconds } = plan;
    let scratch = TestDir::new("bench")?;
    let text_bytes = node::text_bytes(scratch.path(), seconds * tenants::QUIET_RATE, false)?;
    let shape = Shape { cores, seconds, text_bytes };
    let pairs = pairs::measure(pairs, outcomes, async |with| run::run(shape, with).await).await?;
    Ok(Verdict::of("noisy tenant", LIMITS, pairs))
}
