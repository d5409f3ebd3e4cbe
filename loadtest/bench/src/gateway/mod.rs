//! The gateway: blocks in, every one decoded, journalled with fsync, delivered.

mod cases;
mod load;
mod records;
mod settings;
mod store;
mod template;

use std::{collections::BTreeMap, net::SocketAddr, path::Path, time::Duration};

use sluice_harness::{
    dirs::TestDir,
    latency::now_ns,
    ports,
    process::Program,
    sink::{self, Sink},
};
use tokio::{task::JoinSet, time::Instant};

use crate::{
    cores::Cores,
    error::{Error, Result},
    measure::{Used, Watch},
    outcome::Outcome,
    programs,
    progress::Progress,
};

use cases::{CASES, Case};
use load::{Producer, Sent};
use store::{Seen, Store};

const PROGRAM: &str = "sluice-gateway";
/// Agents, each with a connection: enough that the disk's fsync, which all under way wait for together, does
/// not decide the figure.
const PRODUCERS: u32 = 128;
/// Of each, and so the blocks of a request.
const LANES: usize = 8;
const SECONDS: u64 = 20;
const QUICK_SECONDS: u64 = 5;

/// Without a delivered line for so long it is over, and what is not there is lost.
const SILENCE: Duration = Duration::from_secs(15);
const DRAIN_AT_MOST: Duration = Duration::from_secs(120);
const STOP: Duration = Duration::from_secs(60);
const POLL_EVERY: Duration = Duration::from_millis(20);

#[derive(Debug, Clone, Copy)]
pub(crate) struct Plan {
    pub(crate) cores: Cores,
    pub(crate) quick: bool,
}

/// Adds one outcome for each case.
pub(crate) async fn run(plan: Plan, outcomes: &mut Vec<Outcome>) -> Result<()> {
    for case in CASES {
        outcomes.push(measure(plan, case).await?);
    }
    Ok(())
}

async fn measure(plan: Plan, case: Case) -> Result<Outcome> {
    let mut progress = Progress::of(format!("{PROGRAM} {}", case.name));
    let templates = case.templates()?;
    let dir = TestDir::new("bench")?;
    let sink = Sink::default();
    let store = Store::new(sink.clone()).map_err(|source| Error::System { what: "no zstd", source })?;
    let address = sink::serve(([127, 0, 0, 1], 0).into(), store.router()).await?;
    let (mut program, gateway) = start(plan.cores, dir.path(), address).await?;

    let run = u32::try_from(now_ns() >> 20 & 0xffff_ffff).unwrap_or(0);
    let mut producers = Vec::new();
    for index in 0..PRODUCERS {
        let from = index as usize * LANES;
        let lanes = (from..from + LANES).map(|lane| templates[lane % templates.len()].clone());
        producers.push(Producer::connect(gateway, run, index, lanes).await?);
    }

    let mut watch = Watch::start(&mut program);
    let started = Instant::now();
    let end = started + Duration::from_secs(if plan.quick { QUICK_SECONDS } else { SECONDS });
    let mut tasks: JoinSet<_> = producers.into_iter().map(|producer| producer.run(end)).collect();
    let mut sent = Sent::default();
    let mut last = started;
    let mut delivered = 0;
    loop {
        tokio::select! {
            Some(one) = tasks.join_next() => sent.add(one.map_err(|error| Error::Setup(error.to_string()))??),
            () = tokio::time::sleep(POLL_EVERY) => {}
        }
        watch.look(&program);
        let now = Instant::now();
        let seen = store.seen().records;
        if seen > delivered {
            (delivered, last) = (seen, now);
        }
        progress.say(|| format!("{delivered} lines delivered"));
        let all = tasks.is_empty() && delivered >= sent.records;
        if all || now > last + SILENCE || now > end + DRAIN_AT_MOST || !program.is_running() {
            break;
        }
    }
    let used = watch.end(&mut program);
    program.stop(STOP).await?;
    progress.done(&format!("{delivered} of {} lines delivered", sent.records));
    Ok(outcome(case, &sent, store.seen(), &sink, used, last - started))
}

async fn start(cores: Cores, dir: &Path, store: SocketAddr) -> Result<(Program, SocketAddr)> {
    let loopback = |port| SocketAddr::from(([127, 0, 0, 1], port));
    let (push, admin) = (loopback(ports::free()?), loopback(ports::free()?));
    let settings = settings::settings(push, admin, dir, store);
    Ok((programs::start_ours(cores, PROGRAM, dir, &settings, admin.port()).await?, push))
}

fn outcome(case: Case, sent: &Sent, seen: Seen, sink: &Sink, used: Used, time: Duration) -> Outcome {
    let report = sink.report();
    let acknowledged = sent.latencies().summary();
    let (seconds, gb) = (time.as_secs_f64(), sent.raw_bytes as f64 / 1e9);
    // Each block has one line that is told from all others; the rest of its lines share its fate.
    let (lost_blocks, doubled_blocks) = (sent.blocks.saturating_sub(report.distinct), report.duplicates);
    let blocks = sent.blocks.max(1) as f64;
    let more = BTreeMap::from([
        ("seconds", seconds),
        ("lines", sent.records as f64),
        ("raw_bytes", sent.raw_bytes as f64),
        ("raw_gb_per_cpu_s", gb / used.cpu_seconds),
        ("blocks", sent.blocks as f64),
        ("blocks_per_s", blocks / seconds),
        ("raw_bytes_per_block", sent.raw_bytes as f64 / blocks),
        ("payload_bytes_per_block", seen.wire_bytes as f64 / blocks),
        ("compression_ratio", sent.raw_bytes as f64 / seen.wire_bytes.max(1) as f64),
        ("received_bytes", sent.wire_bytes as f64),
        ("requests", sent.requests as f64),
        ("blocks_put_off", sent.put_off as f64),
        ("cpu_seconds", used.cpu_seconds),
        ("cpu_cores", used.cpu_seconds / used.time.as_secs_f64()),
        ("peak_anonymous_mib", used.peak_anonymous_kib as f64 / 1024.0),
        ("delivered_p50_ms", report.latency.p50_ms),
        ("delivered_p99_ms", report.latency.p99_ms),
        ("inserts", seen.inserts as f64),
        ("inserts_refused", seen.refused as f64),
        ("counts", seen.queries as f64),
        ("lost_blocks", lost_blocks as f64),
        ("duplicated_blocks", doubled_blocks as f64),
        ("sink_and_load_cpu_seconds", used.our_cpu_seconds),
    ]);
    Outcome {
        program: PROGRAM,
        case: case.name,
        lines_per_s: sent.records as f64 / seconds,
        mb_per_s: gb * 1000.0 / seconds,
        cpu_s_per_gb: used.cpu_seconds / gb,
        peak_rss_mib: used.peak_rss_kib as f64 / 1024.0,
        wire_bytes: seen.wire_bytes,
        p50_ms: Some(acknowledged.p50_ms),
        p99_ms: Some(acknowledged.p99_ms),
        lost: sent.records.saturating_sub(seen.records).max(lost_blocks),
        duplicated: seen.records.saturating_sub(sent.records).max(doubled_blocks),
        more,
    }
}
