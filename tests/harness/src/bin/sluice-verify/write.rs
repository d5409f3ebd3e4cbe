//! `sluice-verify write`.

use std::{
    path::PathBuf,
    process::ExitCode,
    time::{Duration, Instant},
};

use sluice_harness::{
    process::cpu_seconds_of,
    shape::Mix,
    write::{Config, Rotation, spawn},
};

use crate::units;

/// Writes the log files of a node's containers.
///
/// Under --root appears what a node has in /var/log/pods: `<ns>_<pod>_<uid>/<container>/0.log`, in the CRI
/// format of containerd. Every line's text begins `sv1 src=<run>.<source> str=<o|e> seq=<n> wt=<ns> len=<n>
/// crc=<hex>`. The manifest is replaced about every second and at the end; SIGINT and SIGTERM end the run in
/// order.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Directory that stands for /var/log/pods
    #[arg(long, value_name = "DIR")]
    root: PathBuf,
    /// Where to count what was written
    #[arg(long, value_name = "FILE")]
    manifest: PathBuf,
    /// Namespaces, dealt out to the pods in turn
    #[arg(long, value_delimiter = ',', default_value = "default", value_name = "NS,…")]
    namespaces: Vec<String>,
    /// Containers in all
    #[arg(long, default_value_t = 1)]
    containers: u32,
    #[arg(long, default_value_t = 1)]
    containers_per_pod: u32,
    /// What the agent is to put on every record as `cluster`
    #[arg(long, default_value = "test")]
    cluster: String,
    /// What the agent is to put on every record as `environment`
    #[arg(long, default_value = "test")]
    environment: String,
    /// End after so many lines, over all containers
    #[arg(long, value_name = "N")]
    lines: Option<u64>,
    /// End after so long
    #[arg(long, value_parser = units::duration)]
    duration: Option<Duration>,
    /// Lines a second over all containers; 0: as fast as possible
    #[arg(long, default_value_t = 0, value_name = "N")]
    rate: u64,
    /// Mean bytes of a line's text, which varies from half to one and a half of it; past 16 KiB lines are
    /// split as containerd does it
    #[arg(long, default_value = "200", value_parser = units::bytes, value_name = "BYTES")]
    line_size: u64,
    /// Share of lines that are JSON objects
    #[arg(long, default_value_t = 0.5, value_name = "SHARE")]
    json: f64,
    /// Share of the JSON lines with reserved or repeated keys
    #[arg(long, default_value_t = 0.1, value_name = "SHARE")]
    odd: f64,
    /// Share of lines split into P…P F, pieces of stdout and stderr between each other
    #[arg(long, default_value_t = 0.02, value_name = "SHARE")]
    partial: f64,
    /// Share of lines on stderr
    #[arg(long, default_value_t = 0.1, value_name = "SHARE")]
    stderr: f64,
    /// Share of lines whose time has a zone instead of Z
    #[arg(long, default_value_t = 0.1, value_name = "SHARE")]
    zoned: f64,
    /// The same seed gives the same lines, but for run, time and checksum
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Rotate files of this age
    #[arg(long, value_parser = units::duration, value_name = "DURATION")]
    rotate_every: Option<Duration>,
    /// Rotate files of this size (never twice within a second: the kubelet's names tell no more apart)
    #[arg(long, value_parser = units::bytes, value_name = "BYTES")]
    rotate_bytes: Option<u64>,
    /// Time from the renaming of 0.log to the new one; lines go on into the renamed file
    #[arg(long, value_parser = units::duration, default_value = "0", value_name = "DURATION")]
    rotate_gap: Duration,
    /// Cut a line by each rotation: a short P ends the old file, the rest opens the new one
    #[arg(long)]
    cut: bool,
    /// Keep so many rotated files; without it all
    #[arg(long, value_name = "N")]
    keep: Option<usize>,
    /// Compress rotated files but the newest
    #[arg(long)]
    gzip: bool,
}

pub(crate) async fn run(args: Args) -> anyhow::Result<ExitCode> {
    let start = Instant::now();
    let running = spawn(Config::try_from(args)?);
    let ended = async {
        while !running.is_finished() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::select! {
        () = ended => {}
        signal = crate::interrupted() => signal?,
    }
    let manifest = running.stop()?;
    let seconds = start.elapsed().as_secs_f64();
    println!(
        "{} lines, {} bytes in {seconds:.2} s ({:.0} lines/s), {:.2} CPU s",
        manifest.lines(),
        manifest.cri_bytes,
        manifest.lines() as f64 / seconds,
        cpu_seconds_of(std::process::id()).unwrap_or_default(),
    );
    Ok(ExitCode::SUCCESS)
}

impl TryFrom<Args> for Config {
    type Error = anyhow::Error;

    fn try_from(args: Args) -> anyhow::Result<Self> {
        Ok(Self {
            root: args.root,
            manifest: Some(args.manifest),
            namespaces: args.namespaces,
            pods: Vec::new(),
            containers: args.containers,
            containers_per_pod: args.containers_per_pod,
            cluster: args.cluster,
            environment: args.environment,
            lines: args.lines,
            duration: args.duration,
            rate: args.rate,
            mix: Mix {
                seed: args.seed,
                line_size: usize::try_from(args.line_size)?,
                json: args.json,
                odd: args.odd,
                partial: args.partial,
                stderr: args.stderr,
                zoned: args.zoned,
                ..Mix::default()
            },
            rotation: Rotation {
                every: args.rotate_every,
                bytes: args.rotate_bytes,
                gap: args.rotate_gap,
                cut: args.cut,
                keep: args.keep,
                gzip: args.gzip,
            },
        })
    }
}
