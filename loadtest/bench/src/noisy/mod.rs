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
mod verdict;

use sluice_harness::dirs::TestDir;

use crate::{cores::Cores, error::Result, node, outcome::Outcome};

use run::Shape;
use verdict::Pair;

pub(crate) use verdict::Verdict;

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
    let text_bytes = node::text_bytes(scratch.path(), seconds * tenants::QUIET_RATE)?;
    let shape = Shape { cores, seconds, text_bytes };
    let mut measured = Vec::new();
    for nth in 0..pairs {
        // The order changes from pair to pair: what drifts meanwhile falls on both sides alike.
        let with_first = nth % 2 == 1;
        let first = run::run(shape, with_first).await?;
        outcomes.push(first.outcome.clone());
        let second = run::run(shape, !with_first).await?;
        outcomes.push(second.outcome.clone());
        let (without, with) = if with_first { (second, first) } else { (first, second) };
        measured.push(Pair { without, with });
    }
    Ok(Verdict::of(measured))
}
