//! A steady flow: 10,000 lines a second into fifty namespaces, for a minute.

use std::{
    fs,
    time::{Duration, Instant},
};

use sluice_harness::write::{self, Config};

use super::{Bench, Run, say_last_words};
use crate::{
    error::{At as _, Result},
    measure::Watch,
    node,
    outcome::Outcome,
    progress::Progress,
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
const STOP: Duration = Duration::from_secs(30);
const POLL_EVERY: Duration = Duration::from_millis(50);

pub(super) async fn run(bench: &Bench, outcomes: &mut Vec<Outcome>) -> Result<()> {
    let seconds = if bench.plan.quick { QUICK_SECONDS } else { SECONDS };
    let text_bytes = node::text_bytes(bench.dir.path(), seconds * RATE)?;
    for contender in bench.contenders() {
        contender.prepare()?;
        bench.reset();
        let pods = bench.dir.join(format!("steady-{}", contender.name()));
        let state = bench.dir.join(format!("steady-{}-state", contender.name()));
        // A node has the directory before its first pod.
        fs::create_dir_all(&pods).at(&pods)?;
        let mut progress = Progress::of(format!("{} {CASE}", contender.name()));
        let mut program = contender.start(bench.plan.cores, &pods, &state, bench.address)?;
        tokio::time::sleep(SETTLE).await;

        let mut watch = Watch::start(&mut program);
        let duration = Some(Duration::from_secs(seconds));
        let writer = write::spawn(Config { rate: RATE, duration, ..node::writer(&pods, NAMESPACES, text_bytes) });
        while !writer.is_finished() {
            watch.look(&program);
            progress.say(|| format!("{} lines written", writer.lines()));
            tokio::time::sleep(POLL_EVERY).await;
        }
        let manifest = writer.wait()?;
        let (lines, log_bytes) = (manifest.lines(), manifest.cri_bytes);
        let written = Instant::now();
        while bench.sink.report().distinct < lines && written.elapsed() < LAST_LINES && program.is_running() {
            tokio::time::sleep(POLL_EVERY).await;
        }
        let report = bench.sink.report();
        let used = watch.end(&mut program);
        program.stop(STOP).await?;
        if report.distinct < lines {
            say_last_words(*contender, &program);
        }
        progress.done(&format!("{} of {lines} lines; {}", report.distinct, report.latency));

        let run = Run { report: &report, used, written: lines, log_bytes, seconds: used.time.as_secs_f64() };
        let outcome = bench.outcome(*contender, CASE, &run);
        let (p50_ms, p99_ms) = (Some(report.latency.p50_ms), Some(report.latency.p99_ms));
        outcomes.push(Outcome { p50_ms, p99_ms, ..outcome });
    }
    Ok(())
}
