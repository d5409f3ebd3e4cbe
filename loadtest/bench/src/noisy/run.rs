//! One run: both programs fresh, the quiet tenants' lines followed into the destination's files.

use std::{collections::BTreeMap, time::Duration};

use sluice_harness::{
    check::{Follower, Report},
    metrics::Metrics,
};
use tokio::time::{Instant, sleep};

use super::{
    stack::{Stack, UsedByBoth, Watches},
    tenants::{self, LIMIT, NOISY, TIMES, Writing},
};
use crate::{
    cores::Cores,
    error::Result,
    outcome::{Outcome, mib},
    pairs::Run,
    progress::Progress,
};

const PROGRAM: &str = "agent+gateway";
const WITH: &str = "noisy-with";
const WITHOUT: &str = "noisy-without";

/// The precision of a line's latency.
const LOOK_EVERY: Duration = Duration::from_millis(10);
/// For the quiet tenants' last lines, once they are written. What comes later counts, but after the window.
const LAST_LINES: Duration = Duration::from_secs(30);
/// Without a new record for so long what is not there is lost.
const SILENCE: Duration = Duration::from_secs(30);
/// For the noisy tenant's backlog, without its limit.
const DRAIN_AT_MOST: Duration = Duration::from_secs(300);

/// What every run is made of.
#[derive(Debug, Clone, Copy)]
pub(super) struct Shape {
    pub(super) cores: Cores,
    pub(super) seconds: u64,
    pub(super) text_bytes: usize,
}

/// The part of a run that is measured.
struct Window {
    used: UsedByBoth,
    /// Bytes of the destination's files, by tenant.
    bytes: BTreeMap<String, u64>,
    records: u64,
    metrics: Metrics,
}

/// How the noisy tenant ended.
struct Backlog {
    report: Report,
    /// Until all of it was there, since the limit was lifted.
    drain: Duration,
    /// What it wrote, as records, by the time in which it did so.
    bytes_per_s: f64,
}

pub(super) async fn run(shape: Shape, with: bool) -> Result<Run> {
    let case = if with { WITH } else { WITHOUT };
    let mut progress = Progress::of(case);
    let mut stack = Stack::start(shape.cores).await?;
    let mut watches = Watches::start(&mut stack);
    let (pods, length) = (stack.pods(), Duration::from_secs(shape.seconds));
    let began = Instant::now();
    // To the end of the window, whose length is not known.
    let noisy = if with { Some(tenants::noisy(&pods, shape.text_bytes, length + LAST_LINES).await?) } else { None };
    let quiet = tenants::quiet(&pods, shape.text_bytes, length).await?;
    let mut follower = Follower::new(quiet.manifest.clone(), &stack.delivered(), tenants::by_namespace())?;

    follow(&mut follower, quiet, &mut stack, &mut watches, &mut progress).await?;
    let used = watches.end(&mut stack);
    let window =
        Window { used, bytes: follower.bytes(), records: follower.records(), metrics: stack.gateway_metrics().await? };
    let backlog = match noisy {
        Some(writing) => Some(drain(&mut stack, writing, began, &mut progress).await?),
        None => None,
    };
    if backlog.is_none() {
        stack.stop().await?;
    }
    // Both have ended: a line that would come twice has done so by now.
    follower.look()?;
    let run = finish(case, &window, &follower.into_report()?, backlog.as_ref());
    if !run.faults.is_empty() {
        stack.say_last_words();
    }
    progress.done(&summary(&run));
    Ok(run)
}

/// Until the quiet tenants' last line is there.
async fn follow(
    follower: &mut Follower,
    writing: Writing,
    stack: &mut Stack,
    watches: &mut Watches,
    progress: &mut Progress,
) -> Result<()> {
    while !writing.running.is_finished() {
        follower.look()?;
        watches.look(stack);
        stack.check_running()?;
        progress.say(|| format!("{} lines written", writing.running.lines()));
        sleep(LOOK_EVERY).await;
    }
    follower.update(writing.running.wait()?);
    let written = Instant::now();
    while !follower.is_complete() && written.elapsed() < LAST_LINES {
        stack.check_running()?;
        sleep(LOOK_EVERY).await;
        follower.look()?;
        watches.look(stack);
    }
    Ok(())
}

/// Ends the noisy tenant's writing, lifts its limit, waits for all that it wrote, and ends both programs.
async fn drain(stack: &mut Stack, writing: Writing, began: Instant, progress: &mut Progress) -> Result<Backlog> {
    let manifest = writing.running.stop()?;
    let wrote_for = began.elapsed();
    let mut follower = Follower::new(manifest, &stack.delivered(), tenants::by_namespace())?;
    stack.lift_limit().await?;
    let lifted = Instant::now();
    let mut last = lifted;
    while !follower.is_complete() && last.elapsed() < SILENCE && lifted.elapsed() < DRAIN_AT_MOST {
        if follower.look()? > 0 {
            last = Instant::now();
        }
        stack.check_running()?;
        progress.say(|| format!("{} records delivered, with the limit lifted", follower.records()));
        sleep(LOOK_EVERY).await;
    }
    let drain = lifted.elapsed();
    stack.stop().await?;
    follower.look()?;
    let bytes = follower.bytes().get(NOISY).copied().unwrap_or(0);
    let bytes_per_s = bytes as f64 / wrote_for.as_secs_f64();
    Ok(Backlog { report: follower.into_report()?, drain, bytes_per_s })
}

fn finish(case: &'static str, window: &Window, quiet: &Report, backlog: Option<&Backlog>) -> Run {
    let mut faults: Vec<_> = quiet.failures(0).into_iter().map(|fault| format!("quiet tenants: {fault}")).collect();
    if let Some(backlog) = backlog {
        faults.extend(backlog.report.failures(0).into_iter().map(|fault| format!("{NOISY}: {fault}")));
        faults.extend(too_quiet(window, backlog));
    }
    Run { outcome: outcome(case, window, quiet, backlog), faults }
}

/// Says if the noisy tenant was none: such a run shows nothing.
fn too_quiet(window: &Window, backlog: &Backlog) -> Option<String> {
    let times = backlog.bytes_per_s / LIMIT as f64;
    if refused_blocks(window, "limit-bytes") == 0.0 {
        return Some(format!("{NOISY}: never met its limit"));
    }
    (times < TIMES as f64).then(|| format!("{NOISY}: wrote only {times:.1} times its limit"))
}

/// Only the noisy tenant's are refused. Those that stand behind another have no tenant: nobody looks that far.
fn refused_blocks(window: &Window, reason: &str) -> f64 {
    window.metrics.get("sluice_gateway_receive_refused_blocks_total", &[("reason", reason)]).unwrap_or(0.0)
}

#[allow(clippy::cast_possible_truncation)] // a counter of bytes is a whole number far below 2^53
fn outcome(case: &'static str, window: &Window, quiet: &Report, backlog: Option<&Backlog>) -> Outcome {
    let UsedByBoth { agent, gateway } = window.used;
    let (seconds, cpu_seconds) = (agent.time.as_secs_f64(), agent.cpu_seconds + gateway.cpu_seconds);
    let bytes = window.bytes.values().sum::<u64>() as f64;
    let received = window.metrics.get("sluice_gateway_receive_body_bytes_total", &[]).unwrap_or(0.0);
    let reports = || std::iter::once(quiet).chain(backlog.map(|backlog| &backlog.report));
    let sum = |count: fn(&Report) -> u64| reports().map(count).sum::<u64>();
    let latency = quiet.latency;
    let worst = quiet.latency_by_namespace.values().map(|latency| latency.p50_ms).fold(0.0, f64::max);
    let mut more = BTreeMap::from([
        ("seconds", seconds),
        ("lines", sum(|report| report.expected) as f64),
        ("raw_bytes", bytes),
        ("cpu_seconds", cpu_seconds),
        ("agent_cpu_seconds", agent.cpu_seconds),
        ("gateway_cpu_seconds", gateway.cpu_seconds),
        ("writer_and_check_cpu_seconds", agent.our_cpu_seconds),
        ("max_ms", latency.map_or(0.0, |latency| latency.max_ms)),
        ("slowest_tenant_p50_ms", worst),
        ("agent_peak_rss_mib", mib(agent.peak_rss_kib)),
        ("gateway_peak_rss_mib", mib(gateway.peak_rss_kib)),
        ("broken", sum(|report| report.broken) as f64),
        ("wrong_tenant", sum(|report| report.wrong_tenant) as f64),
        ("out_of_order", sum(|report| report.out_of_order.unwrap_or(0)) as f64),
    ]);
    if let Some(backlog) = backlog {
        let delivered = window.bytes.get(NOISY).copied().unwrap_or(0) as f64;
        more.extend([
            ("noisy_lines", backlog.report.expected as f64),
            ("noisy_times_limit", backlog.bytes_per_s / LIMIT as f64),
            ("noisy_delivered_times_limit", delivered / seconds / LIMIT as f64),
            ("noisy_limited_blocks", refused_blocks(window, "limit-bytes")),
            ("noisy_behind_blocks", refused_blocks(window, "behind")),
            ("noisy_drain_seconds", backlog.drain.as_secs_f64()),
        ]);
    }
    Outcome {
        program: PROGRAM,
        case,
        lines_per_s: window.records as f64 / seconds,
        mb_per_s: bytes / 1e6 / seconds,
        cpu_s_per_gb: cpu_seconds / (bytes / 1e9),
        peak_rss_mib: mib(agent.peak_rss_kib + gateway.peak_rss_kib),
        wire_bytes: received as u64,
        p50_ms: latency.map(|latency| latency.p50_ms),
        p99_ms: latency.map(|latency| latency.p99_ms),
        lost: sum(|report| report.lost),
        duplicated: sum(|report| report.duplicated),
        more,
    }
}

fn summary(run: &Run) -> String {
    let Outcome { p50_ms, p99_ms, cpu_s_per_gb, lost, duplicated, .. } = &run.outcome;
    let ms = |value: &Option<f64>| value.unwrap_or(0.0);
    format!(
        "p50 {:.1} ms, p99 {:.1} ms, {cpu_s_per_gb:.2} CPU s/GB, {lost} lost, {duplicated} duplicated",
        ms(p50_ms),
        ms(p99_ms)
    )
}
