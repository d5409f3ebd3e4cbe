//! A steady flow: 10,000 lines a second into fifty namespaces, for a minute.

use std::{
    fs,
    time::{Duration, Instant},
};

use sluice_harness::write::{self, Config};

use super::Bench;
use crate::{
    error::{At as _, Result},
    measure::Watch,
    node,
    outcome::Outcome,
};

const CASE: &str = "steady";
const NAMESPACES: u32 = 50;
const RATE: u64 = 10_000;
const SECONDS: u64 = 60;
const QUICK_SECONDS: u64 = 15;

/// For the agent to start and find the files that are there.
const SETTLE: Duration = Duration::from_secs(2);
/// For the last lines, once they are written.
const LAST_LINES: Duration = Duration::from_secs(15);
const POLL_EVERY: Duration = Duration::from_millis(50);

pub(super) async fn run(bench: &Bench, outcomes: &mut Vec<Outcome>) -> Result<()> {
    let seconds = if bench.plan.quick { QUICK_SECONDS } else { SECONDS };
    let text_bytes = node::text_bytes(bench.dir.path(), seconds * RATE)?;
    for contender in bench.contenders() {
        let pods = bench.dir.join(format!("{CASE}-{}", contender.name()));
        // A node has the directory before its first pod.
        fs::create_dir_all(&pods).at(&pods)?;
        let mut attempt = bench.start(*contender, CASE, &pods)?;
        let mut progress = attempt.progress();
        tokio::time::sleep(SETTLE).await;

        let mut watch = Watch::start(&mut attempt.program);
        let duration = Some(Duration::from_secs(seconds));
        let writer = write::spawn(Config { rate: RATE, duration, ..node::writer(&pods, NAMESPACES, text_bytes) });
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
        let (p50_ms, p99_ms) = (Some(report.latency.p50_ms), Some(report.latency.p99_ms));
        outcomes.push(Outcome { p50_ms, p99_ms, ..outcome });
    }
    Ok(())
}
