//! A steady flow: 10,000 lines a second into fifty namespaces, for a minute.

use std::{
    fs,
    time::{Duration, Instant},
};

use sluice_harness::write::{self, Config};

use super::{
    Bench, Contender,
    case::{Case, STEADY},
};
use crate::{
    error::{At as _, Result},
    goals::{self, Judgement},
    measure::Watch,
    node,
    outcome::Outcome,
};

const RATE: u64 = 10_000;
const SECONDS: u64 = 60;
const QUICK_SECONDS: u64 = 15;

/// For the agent to start and find the files that are there.
const SETTLE: Duration = Duration::from_secs(2);
/// For the last lines, once they are written.
const LAST_LINES: Duration = Duration::from_secs(15);
const POLL_EVERY: Duration = Duration::from_millis(50);

pub(super) async fn run(bench: &Bench, outcomes: &mut Vec<Outcome>) -> Result<Vec<Judgement>> {
    let seconds = if bench.plan.quick { QUICK_SECONDS } else { SECONDS };
    let text_bytes = node::text_bytes(bench.dir.path(), seconds * RATE, true)?;
    let mut judgements = Vec::new();
    for case in &STEADY {
        for contender in bench.contenders(case) {
            let outcome = measure(bench, contender, case, seconds, text_bytes).await?;
            if contender == Contender::Sluice {
                judgements.push(goals::judge(&outcome, case.goals));
            }
            outcomes.push(outcome);
        }
    }
    Ok(judgements)
}

async fn measure(bench: &Bench, contender: Contender, case: &Case, seconds: u64, text_bytes: usize) -> Result<Outcome> {
    let pods = bench.dir.join(format!("{}-{}", case.name, contender.name()));
    // A node has the directory before its first pod.
    fs::create_dir_all(&pods).at(&pods)?;
    let mut attempt = bench.start_one(contender, case, &pods)?;
    let mut progress = attempt.progress();
    tokio::time::sleep(SETTLE).await;

    let mut watch = Watch::start(&mut attempt.program);
    let duration = Some(Duration::from_secs(seconds));
    let lines = node::agents_writer(&pods, &bench.cluster.pods, text_bytes);
    let writer = write::spawn(Config { rate: RATE, duration, ..lines });
    while !writer.is_finished() {
        watch.look(&attempt.program);
        progress.say(|| format!("{} lines written", writer.lines()));
        tokio::time::sleep(POLL_EVERY).await;
    }
    let manifest = writer.wait()?;
    let lines = manifest.lines();
    let written = Instant::now();
    while bench.sink.report().distinct < lines && written.elapsed() < LAST_LINES && attempt.program.is_running() {
        tokio::time::sleep(POLL_EVERY).await;
    }
    let report = bench.sink.report();
    progress.done(&format!("{} of {lines} lines; {}", report.distinct, report.latency));

    let outcome = attempt.end(watch, &manifest, &report, None).await?;
    fs::remove_dir_all(&pods).at(&pods)?;
    Ok(Outcome { p50_ms: Some(report.latency.p50_ms), p99_ms: Some(report.latency.p99_ms), ..outcome })
}
