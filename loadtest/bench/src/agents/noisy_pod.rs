//! A noisy pod: what one that writes a hundred times as much as each of fifty others costs these.
//!
//! One agent with labels and TLS. Every pod has a namespace of its own, but for the noisy one, which shares that of
//! the first: with that pod's lines it travels together.

use std::{fs, time::Duration};

use sluice_harness::write::{self, Config};
use tokio::time::{Instant, sleep};

use super::{Bench, Contender, Plan, case::Case};
use crate::{
    error::{At as _, Error, Result},
    measure::Watch,
    node,
    outcome::Outcome,
    pairs::{self, Limit, Run, Verdict},
    progress::Progress,
};

/// Lines a second of each quiet pod.
const RATE: u64 = 100;
const TIMES: u64 = 100;
const QUIET: usize = 50;

/// For the agent to start.
const SETTLE: Duration = Duration::from_secs(2);
/// For the last lines, once they are written.
const LAST_LINES: Duration = Duration::from_secs(15);
const POLL_EVERY: Duration = Duration::from_millis(50);

const LIMITS: &[Limit] = &[
    Limit { figure: "p50_ms", times: 1.25, more: Some(50.0) },
    Limit { figure: "p99_ms", times: 1.25, more: Some(50.0) },
];

/// Adds one outcome for each run.
pub(crate) async fn run(plan: Plan, pairs: u32, seconds: u64, outcomes: &mut Vec<Outcome>) -> Result<Verdict> {
    let bench = Bench::start(plan).await?;
    let text_bytes = node::text_bytes(bench.dir.path(), seconds * RATE * QUIET as u64, true)?;
    let pairs = pairs::measure(pairs, outcomes, async |with| one(&bench, with, seconds, text_bytes).await).await?;
    Ok(Verdict::of("noisy pod", LIMITS, pairs))
}

async fn one(bench: &Bench, with: bool, seconds: u64, text_bytes: usize) -> Result<Run> {
    let name = if with { "noisy-pod-with" } else { "noisy-pod-without" };
    let case = Case { name, ..Case::CLUSTER };
    let pods = bench.dir.join(name);
    // A node has the directory before its first pod.
    fs::create_dir_all(&pods).at(&pods)?;
    let mut attempt = bench.start_one(Contender::Sluice, &case, &pods)?;
    let mut progress = Progress::of(name);
    sleep(SETTLE).await;

    let mut watch = Watch::start(&mut attempt.program);
    let (of_quiet, of_noisy) = (&bench.cluster.pods[..QUIET], &bench.cluster.pods[QUIET..=QUIET]);
    let writer = |of: &[_], rate| {
        let containers = u32::try_from(of.len()).unwrap_or(u32::MAX);
        let duration = Some(Duration::from_secs(seconds));
        write::spawn(Config { rate, duration, containers, ..node::agents_writer(&pods, of, text_bytes) })
    };
    let quiet = writer(of_quiet, RATE * QUIET as u64);
    let noisy = with.then(|| writer(of_noisy, RATE * TIMES));
    while !quiet.is_finished() || noisy.as_ref().is_some_and(|noisy| !noisy.is_finished()) {
        watch.look(&attempt.program);
        progress.say(|| format!("{} quiet lines written", quiet.lines()));
        sleep(POLL_EVERY).await;
    }
    let mut manifest = quiet.wait()?;
    let quiet_run = manifest.run;
    let mut noisy_lines = 0;
    if let Some(noisy) = noisy {
        let of_noisy = noisy.wait()?;
        noisy_lines = of_noisy.lines();
        manifest.cri_bytes += of_noisy.cri_bytes;
        manifest.sources.extend(of_noisy.sources);
    }
    let lines = manifest.lines();
    let written = Instant::now();
    while bench.sink.report().distinct < lines && written.elapsed() < LAST_LINES && attempt.program.is_running() {
        sleep(POLL_EVERY).await;
    }
    let report = bench.sink.report();
    let latency = report.latency_by_run.get(&quiet_run);
    let latency = *latency.ok_or_else(|| Error::Setup("not one line of the quiet pods arrived".to_owned()))?;
    progress.done(&format!("{} of {lines} lines; quiet pods: {latency}", report.distinct));
    let mut outcome = attempt.end(watch, &manifest, &report, None).await?;
    fs::remove_dir_all(&pods).at(&pods)?;
    outcome.more.insert("quiet_max_ms", latency.max_ms);
    outcome.more.insert("noisy_lines", noisy_lines as f64);
    let outcome = Outcome { p50_ms: Some(latency.p50_ms), p99_ms: Some(latency.p99_ms), ..outcome };
    let faults = faults(&outcome, with, seconds);
    Ok(Run { outcome, faults })
}

/// What makes a run void: lines that are missing, or a noisy pod that was none.
fn faults(outcome: &Outcome, with: bool, seconds: u64) -> Vec<String> {
    let counts = [("lost", outcome.lost as f64), ("duplicated", outcome.duplicated as f64)];
    let undescribed = ("undescribed", outcome.figure("undescribed"));
    let mut faults: Vec<_> = (counts.into_iter().chain([undescribed]))
        .filter(|(_, count)| *count != 0.0)
        .map(|(what, count)| format!("{}: {count} {what}", outcome.case))
        .collect();
    let noisy = outcome.figure("noisy_lines");
    let meant = (RATE * TIMES * seconds) as f64;
    if with && noisy < 0.98 * meant {
        faults.push(format!("{}: the noisy pod wrote {noisy} lines of {meant}", outcome.case));
    }
    faults
}
