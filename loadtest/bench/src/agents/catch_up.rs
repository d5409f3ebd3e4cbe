//! Catching up: the files are there, in the page cache; from the agent's start until their last line is here.

use std::{
    fs,
    time::{Duration, Instant},
};

use sluice_harness::sink::Report;

use super::{Attempt, Bench};
use crate::{
    error::{At as _, Result},
    measure::Watch,
    node,
    outcome::Outcome,
};

const CASE: &str = "catch-up";
const NAMESPACES: u32 = 20;
const BYTES: u64 = 1_020_000_000;
const QUICK_BYTES: u64 = 200_000_000;

/// Without a new line for so long it is over, and what is not here is lost. Longer than a peer's pause between
/// two attempts.
const SILENCE: Duration = Duration::from_secs(40);
const AT_MOST: Duration = Duration::from_secs(600);
const POLL_EVERY: Duration = Duration::from_millis(20);

pub(super) async fn run(bench: &Bench, outcomes: &mut Vec<Outcome>) -> Result<()> {
    let pods = bench.dir.join("catch-up");
    let bytes = if bench.plan.quick { QUICK_BYTES } else { BYTES };
    let manifest = node::write_files(&pods, NAMESPACES, bytes)?;
    for contender in bench.contenders() {
        let started = Instant::now();
        let mut attempt = bench.start(*contender, CASE, &pods)?;
        let mut watch = Watch::start(&mut attempt.program);
        let (report, last) = wait_for(&mut attempt, &mut watch, manifest.lines()).await;
        let seconds = last.duration_since(started).as_secs_f64();
        outcomes.push(attempt.end(watch, &manifest, &report, Some(seconds)).await?);
    }
    fs::remove_dir_all(&pods).at(&pods)?;
    Ok(())
}

/// Until all `lines` are here, or no more come. Also gives the moment at which the last one was seen.
async fn wait_for(attempt: &mut Attempt<'_>, watch: &mut Watch, lines: u64) -> (Report, Instant) {
    let mut progress = attempt.progress();
    let program = &mut attempt.program;
    let mut last = Instant::now();
    let mut seen = 0;
    loop {
        let report = attempt.bench.sink.report();
        watch.look(program);
        let now = Instant::now();
        if report.distinct > seen {
            (seen, last) = (report.distinct, now);
        }
        let given_up = now - last > SILENCE || watch.elapsed() > AT_MOST || !program.is_running();
        if seen >= lines || given_up {
            progress.done(&format!("{seen} of {lines} lines in {:.2} s", watch.elapsed().as_secs_f64()));
            return (report, last);
        }
        progress.say(|| format!("{seen} of {lines} lines"));
        tokio::time::sleep(POLL_EVERY).await;
    }
}
