//! The agents: Sluice's own and a peer, on the same files, the same core and the same sink.

mod catch_up;
mod contender;
mod otelcol;
pub(crate) mod sluice;
mod steady;

use std::{collections::BTreeMap, net::SocketAddr, path::Path, time::Duration};

use sluice_harness::{
    dirs::TestDir,
    manifest::Manifest,
    process::Program,
    sink::{self, Report, Sink},
};

use crate::{
    cores::Cores,
    error::Result,
    measure::{Used, Watch},
    outcome::{Outcome, mib},
    programs,
    progress::Progress,
    push::PushSink,
};

use contender::Contender;

/// For a program's last words; it has nothing left to send.
const STOP: Duration = Duration::from_secs(30);

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
    for contender in bench.contenders() {
        contender.prepare()?;
    }
    catch_up::run(&bench, outcomes).await?;
    steady::run(&bench, outcomes).await
}

impl Bench {
    fn contenders(&self) -> &'static [Contender] {
        if self.plan.peer { &[Contender::Sluice, Contender::Otelcol] } else { &[Contender::Sluice] }
    }

    /// Starts a contender over `pods` with a state of its own and an empty sink.
    fn start(&self, contender: Contender, case: &'static str, pods: &Path) -> Result<Attempt<'_>> {
        self.sink.reset();
        self.push.reset();
        let state = self.dir.join(format!("{case}-{}-state", contender.name()));
        let program = contender.start(self.plan.cores, pods, &state, self.address)?;
        Ok(Attempt { bench: self, contender, case, program })
    }
}

/// A contender at work on a case.
#[derive(Debug)]
struct Attempt<'a> {
    bench: &'a Bench,
    contender: Contender,
    case: &'static str,
    program: Program,
}

impl Attempt<'_> {
    fn progress(&self) -> Progress {
        Progress::of(format!("{} {}", self.contender.name(), self.case))
    }

    /// Ends the program, of which nothing more is expected. The lines of `manifest` were to arrive and those of
    /// `report` did; `seconds` is what throughput is reckoned by, without it all the time of the watch.
    async fn end(
        mut self,
        watch: Watch,
        manifest: &Manifest,
        report: &Report,
        seconds: Option<f64>,
    ) -> Result<Outcome> {
        let used = watch.end(&mut self.program);
        self.program.stop(STOP).await?;
        if report.distinct < manifest.lines() {
            programs::say_last_words(self.contender.name(), &self.program);
        }
        let seconds = seconds.unwrap_or(used.time.as_secs_f64());
        Ok(self.outcome(used, manifest, report, seconds))
    }

    /// What is said in every case.
    fn outcome(&self, used: Used, manifest: &Manifest, report: &Report, seconds: f64) -> Outcome {
        let (written, log_bytes) = (manifest.lines(), manifest.cri_bytes);
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
        let blocks = self.bench.push.blocks();
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
            program: self.contender.name(),
            case: self.case,
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
