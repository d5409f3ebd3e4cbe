//! Catching up: the files are there, in the page cache; from the agent's start until their last line is here.

use std::{
    fs,
    path::Path,
    time::{Duration, Instant},
};

use sluice_harness::{manifest::Manifest, sink::Report};

use super::{
    Attempt, Bench, Contender,
    case::{CATCH_UP, Case},
};
use crate::{
    error::{At as _, Result},
    goals::{self, Judgement},
    measure::Watch,
    node,
    outcome::Outcome,
};

const BYTES: u64 = 1_020_000_000;
const QUICK_BYTES: u64 = 200_000_000;

/// How often ours is measured; what counts is the run in the middle by CPU.
const RUNS: usize = 3;

/// Without a new line for so long it is over, and what is not here is lost. Longer than a peer's pause between
/// two attempts.
const SILENCE: Duration = Duration::from_secs(40);
const AT_MOST: Duration = Duration::from_secs(600);
const POLL_EVERY: Duration = Duration::from_millis(20);

pub(super) async fn run(bench: &Bench, outcomes: &mut Vec<Outcome>) -> Result<Vec<Judgement>> {
    let pods = bench.dir.join("catch-up");
    let (bytes, runs) = if bench.plan.quick { (QUICK_BYTES, 1) } else { (BYTES, RUNS) };
    let manifest = node::write_files(&pods, &bench.cluster.pods, bytes)?;
    let mut of_ours = CATCH_UP.map(|_| Vec::new());
    // The cases take turns: what drifts on the machine falls on all of them alike.
    for _ in 0..runs {
        for (case, measured) in CATCH_UP.iter().zip(&mut of_ours) {
            measured.push(measure(bench, Contender::Sluice, case, &pods, &manifest).await?);
        }
    }
    let mut judgements = Vec::new();
    for (case, measured) in CATCH_UP.iter().zip(of_ours) {
        let outcome = middle(measured);
        judgements.push(goals::judge(&outcome, case.goals));
        outcomes.push(outcome);
        for contender in bench.contenders(case).filter(|contender| *contender != Contender::Sluice) {
            outcomes.push(measure(bench, contender, case, &pods, &manifest).await?);
        }
    }
    fs::remove_dir_all(&pods).at(&pods)?;
    Ok(judgements)
}

async fn measure(
    bench: &Bench,
    contender: Contender,
    case: &Case,
    pods: &Path,
    manifest: &Manifest,
) -> Result<Outcome> {
    let started = Instant::now();
    let mut attempt = bench.start_one(contender, case, pods)?;
    let mut watch = Watch::start(&mut attempt.program);
    let (report, last) = wait_for(&mut attempt, &mut watch, manifest.lines()).await;
    let seconds = last.duration_since(started).as_secs_f64();
    attempt.end(watch, manifest, &report, Some(seconds)).await
}

/// The run in the middle by CPU, with how far apart they were; what any of them lost counts.
fn middle(mut runs: Vec<Outcome>) -> Outcome {
    runs.sort_by(|one, other| one.cpu_s_per_gb.total_cmp(&other.cpu_s_per_gb));
    let (lost, duplicated) = (runs.iter().map(|run| run.lost).sum(), runs.iter().map(|run| run.duplicated).sum());
    let at = |index: usize| runs[index].cpu_s_per_gb;
    let (least, most) = (at(0), at(runs.len() - 1));
    let mut outcome = runs.swap_remove(runs.len() / 2);
    outcome.more.extend([("least_cpu_s_per_gb", least), ("most_cpu_s_per_gb", most)]);
    Outcome { lost, duplicated, ..outcome }
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
