//! The agents: Sluice's own and a peer, on the same files, the same core, the same API server and the same sink.

mod case;
mod catch_up;
mod cluster;
mod contender;
mod job;
mod noisy_pod;
mod otelcol;
pub(crate) mod sluice;
mod steady;

use std::{collections::BTreeMap, net::SocketAddr, path::Path, time::Duration};

use sluice_harness::{
    dirs::TestDir,
    manifest::Manifest,
    process::Program,
    sink::{self, Report, Sink, Tls},
};

use crate::{
    cores::Cores,
    error::{Error, Result},
    goals::Judgement,
    measure::{Used, Watch},
    outcome::{Outcome, mib},
    programs,
    progress::Progress,
    push::PushSink,
};

use case::Case;
use cluster::Cluster;
use contender::Contender;

pub(crate) use job::Job;
pub(crate) use noisy_pod::run as noisy_pod;

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
    cluster: Cluster,
    dir: TestDir,
    sink: Sink,
    push: PushSink,
    plain: SocketAddr,
    tls: Tls,
    secured: SocketAddr,
}

/// Adds one outcome for each case and contender; judges those of ours.
pub(crate) async fn run(plan: Plan, outcomes: &mut Vec<Outcome>) -> Result<Vec<Judgement>> {
    if plan.peer {
        Contender::Otelcol.prepare()?;
    }
    let bench = Bench::start(plan).await?;
    let mut judgements = catch_up::run(&bench, outcomes).await?;
    judgements.extend(steady::run(&bench, outcomes).await?);
    Ok(judgements)
}

impl Bench {
    async fn start(plan: Plan) -> Result<Self> {
        let dir = TestDir::new("bench")?;
        let sink = Sink::default();
        let push = PushSink::new(sink.clone());
        let router = sink.router().merge(push.router());
        let plain = sink::serve(([127, 0, 0, 1], 0).into(), router.clone()).await?;
        let tls = Tls::new(dir.join("ca.pem"))?;
        let secured = sink::serve_tls(([127, 0, 0, 1], 0).into(), router, &tls).await?;
        let cluster = Cluster::start().await?;
        Ok(Self { plan, cluster, dir, sink, push, plain, tls, secured })
    }

    fn contenders(&self, case: &Case) -> impl Iterator<Item = Contender> + use<> {
        let peer = self.plan.peer;
        case.contenders.iter().copied().filter(move |contender| peer || *contender == Contender::Sluice)
    }

    /// Starts a contender over `pods` with a new state of its own and an empty sink.
    fn start_one(&self, contender: Contender, case: &Case, pods: &Path) -> Result<Attempt<'_>> {
        self.sink.reset();
        self.push.reset();
        let state = tempfile::Builder::new().prefix("state-").tempdir_in(self.dir.path());
        let state = state.map_err(|source| Error::System { what: "no directory", source })?;
        let kubeconfig = self.cluster.server.kubeconfig();
        let mut job = Job { multiline: case.multiline, redaction: case.redaction, ..Job::plain(pods, self.plain) };
        if case.cluster {
            job = Job { sink: self.secured, ca: Some(&self.tls.ca_file), kubeconfig: Some(&kubeconfig), ..job };
        }
        let program = contender.start(self.plan.cores, &job, state.path())?;
        Ok(Attempt { bench: self, contender, case: *case, program, _state: state })
    }
}

/// A contender at work on a case.
#[derive(Debug)]
struct Attempt<'a> {
    bench: &'a Bench,
    contender: Contender,
    case: Case,
    program: Program,
    // After the program: it is gone when its files are.
    _state: tempfile::TempDir,
}

impl Attempt<'_> {
    fn progress(&self) -> Progress {
        Progress::of(format!("{} {}", self.contender.name(), self.case.name))
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
            ("records", report.records as f64),
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
                // The sink's own count is of batches of lines: each block is one.
                ("requests", blocks.requests as f64),
                ("blocks", blocks.count as f64),
                ("blocks_refused", blocks.refused as f64),
                ("lines_per_block", blocks.records_per_block()),
                ("metadata_bytes_per_record", blocks.metadata_per_record()),
                ("raw_bytes_per_record", blocks.raw_bytes as f64 / blocks.records.max(1) as f64),
                ("compression_ratio", blocks.ratio()),
            ]);
        }
        if self.case.cluster {
            let undescribed = blocks.undescribed + report.resources - report.described;
            more.insert("undescribed", undescribed as f64);
        }
        Outcome {
            lines_per_s: report.distinct as f64 / seconds,
            mb_per_s: arrived_bytes / 1e6 / seconds,
            cpu_s_per_gb: used.cpu_seconds / (arrived_bytes / 1e9),
            peak_rss_mib: mib(used.peak_rss_kib),
            wire_bytes: report.wire_bytes,
            lost: written.saturating_sub(report.distinct),
            duplicated: report.duplicates,
            more,
            ..Outcome::empty(self.contender.name(), self.case.name)
        }
    }
}
