//! The agents: Sluice's own and a peer, on the same files, the same core and the same sink.

mod catch_up;
mod contender;
mod otelcol;
mod sluice;
mod steady;

use std::{collections::BTreeMap, net::SocketAddr};

use sluice_harness::{
    dirs::TestDir,
    process::Program,
    sink::{self, Report, Sink},
};

use crate::{cores::Cores, error::Result, measure::Used, outcome::Outcome, push::PushSink};

use contender::Contender;

/// How much is measured.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Plan {
    pub(crate) cores: Cores,
    pub(crate) quick: bool,
    pub(crate) peer: bool,
}

/// What every case of this module works with.
#[derive(Debug)]
struct Bench {
    plan: Plan,
    dir: TestDir,
    sink: Sink,
    push: PushSink,
    address: SocketAddr,
}

/// Adds one outcome for each case and contender.
pub(crate) async fn run(plan: Plan, outcomes: &mut Vec<Outcome>) -> Result<()> {
    let dir = TestDir::new("bench")?;
    let sink = Sink::default();
    let push = PushSink::new(sink.clone());
    let router = sink.router().merge(push.router());
    let address = sink::serve(([127, 0, 0, 1], 0).into(), router).await?;
    let bench = Bench { plan, dir, sink, push, address };
    catch_up::run(&bench, outcomes).await?;
    steady::run(&bench, outcomes).await
}

impl Bench {
    fn contenders(&self) -> &'static [Contender] {
        if self.plan.peer { &[Contender::Sluice, Contender::Otelcol] } else { &[Contender::Sluice] }
    }

    fn reset(&self) {
        self.sink.reset();
        self.push.reset();
    }

    /// What is said in every case. `written` lines of `log_bytes` took `seconds`.
    fn outcome(&self, contender: Contender, case: &'static str, run: &Run<'_>) -> Outcome {
        let Run { report, used, written, log_bytes, seconds } = *run;
        // What did not arrive is no achievement.
        let arrived_bytes = log_bytes as f64 * (report.distinct as f64 / written.max(1) as f64);
        let mut more = BTreeMap::from([
            ("seconds", seconds),
            ("lines", written as f64),
            ("log_bytes", log_bytes as f64),
            ("cpu_seconds", used.cpu_seconds),
            ("cpu_cores", used.cpu_seconds / used.time.as_secs_f64()),
            ("peak_anonymous_mib", mib(used.peak_anonymous_kib)),
            ("requests", report.requests as f64),
            ("sent_bytes_decompressed", report.body_bytes as f64),
            ("sink_cpu_seconds", used.our_cpu_seconds),
        ]);
        let blocks = self.push.blocks();
        if blocks.count > 0 {
            more.extend([
                ("blocks", blocks.count as f64),
                ("blocks_refused", blocks.refused as f64),
                ("lines_per_block", blocks.records_per_block()),
                ("metadata_bytes_per_record", blocks.metadata_per_record()),
                ("raw_bytes_per_record", blocks.raw_bytes as f64 / blocks.records.max(1) as f64),
                ("compression_ratio", blocks.ratio()),
            ]);
        }
        Outcome {
            program: contender.name(),
            case,
            lines_per_s: report.distinct as f64 / seconds,
            mb_per_s: arrived_bytes / 1e6 / seconds,
            cpu_s_per_gb: used.cpu_seconds / (arrived_bytes / 1e9),
            peak_rss_mib: mib(used.peak_rss_kib),
            wire_bytes: report.wire_bytes,
            p50_ms: None,
            p99_ms: None,
            lost: written.saturating_sub(report.distinct),
            duplicated: report.duplicates,
            more,
        }
    }
}

/// One contender's run of a case.
struct Run<'a> {
    report: &'a Report,
    used: Used,
    written: u64,
    log_bytes: u64,
    seconds: f64,
}

/// Lines are missing: what the program says of it goes to standard error, since its files will be gone.
fn say_last_words(contender: Contender, program: &Program) {
    const LINES: usize = 20;
    let log = program.log();
    let from = log.lines().count().saturating_sub(LINES);
    eprintln!("{}: lines are missing; its log ends:", contender.name());
    log.lines().skip(from).for_each(|line| eprintln!("  {line}"));
}

fn mib(kib: u64) -> f64 {
    kib as f64 / 1024.0
}
