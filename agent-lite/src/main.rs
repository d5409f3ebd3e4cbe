//! `sluice-agent`: tails a node's logs and pushes them to a Sluice gateway.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Parser, Subcommand, ValueEnum};
use sluice_agent::config::Config;
use sluice_agent::pipeline::{self, Origin};
use sluice_agent::verify;
use tokio::signal::unix::{SignalKind, signal};
use tracing_subscriber::EnvFilter;

/// Tails the logs of a Kubernetes node and pushes them to a Sluice gateway, losing none.
///
/// A first try on a node, with a gateway on the same machine:
///
///   sluice-agent run --config agent.yaml
///
///   # agent.yaml
///   cluster: infra
///   environment: production
///   gateway: {urls: ["http://127.0.0.1:7070"]}
///   admin: 127.0.0.1:2020
///
/// What is read and stored is told at http://127.0.0.1:2020/metrics. Without a gateway, straight to
/// VictoriaLogs: `direct: {url: "http://127.0.0.1:9428"}` in place of `gateway`.
#[derive(Parser)]
#[command(version, verbatim_doc_comment)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
    /// What to log, as in `info` or `info,sluice_agent::ship=debug`; `info` where nothing is said, and `error` of
    /// verify.
    #[arg(long, env = "RUST_LOG", global = true)]
    log_level: Option<String>,
    /// How to log.
    #[arg(long, value_enum, default_value_t = LogFormat::Text, global = true)]
    log_format: LogFormat,
}

#[derive(Subcommand)]
enum Command {
    /// Ship logs until SIGTERM or Ctrl-C, then drain.
    Run {
        /// The settings, in YAML; ${VAR} and ${VAR:-default} are replaced from the environment.
        #[arg(long, env = "SLUICE_CONFIG")]
        config: PathBuf,
    },
    /// Try the way from a log file on this node to the gateway's acknowledgement, beside the agent that runs.
    ///
    /// Writes numbered lines into a log file of a pod that does not exist, has them read and sent with the settings,
    /// certificates and credentials of the agent, and tells how many were acknowledged and how soon. Ends with 0
    /// where all were, else with 1 and what to mend:
    ///
    ///   sluice-agent verify --config agent.yaml
    ///   sluice-agent verify --config agent.yaml --namespace shop   # whose tenant and limits are tried
    ///   sluice-agent verify --config agent.yaml --output json | jq '.passed, .troubles'
    ///   kubectl exec -n logging ds/sluice-agent -- sluice-agent verify --config /etc/sluice/agent.yaml
    ///
    /// Its files are below the state directory and go with it; the agent's own are not touched. Its lines are real:
    /// they are stored, and count against the tenant's limit. It does not look behind the gateway; the report has a
    /// query that does.
    #[command(verbatim_doc_comment)]
    Verify {
        /// The settings of the agent, in YAML.
        #[arg(long, env = "SLUICE_CONFIG")]
        config: PathBuf,
        /// Lines to write, at most a million. In the middle the file is rotated.
        #[arg(long, default_value_t = 1000, value_parser = clap::value_parser!(u64).range(1..=verify::MAX_LINES))]
        lines: u64,
        /// Lines a second.
        #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u64).range(1..=1_000_000))]
        rate: u64,
        /// How long to wait, after the last line, for what is not acknowledged.
        #[arg(long, default_value = "60s", value_parser = duration)]
        timeout: Duration,
        /// The namespace that the lines are of: it decides their tenant, limits and routes.
        #[arg(long, default_value = verify::NAMESPACE)]
        namespace: String,
        /// How to report.
        #[arg(long, value_enum, default_value_t = Output::Text)]
        output: Output,
    },
    /// Say every fault in a settings file, by its path, and start nothing.
    Check {
        /// The file.
        file: PathBuf,
    },
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Output {
    Text,
    Json,
}

#[derive(Clone, Copy, ValueEnum)]
enum LogFormat {
    Text,
    Json,
}

fn main() -> ExitCode {
    let Arguments { command, log_level, log_format } = Arguments::parse();
    let path = match &command {
        Command::Run { config } | Command::Verify { config, .. } | Command::Check { file: config } => config.clone(),
    };
    let config = match Config::load(&path, &sluice_settings::environment) {
        Ok(config) => config,
        Err(error) => {
            eprintln!("{error}");
            return ExitCode::FAILURE;
        }
    };
    let usual = if matches!(command, Command::Verify { .. }) { "error" } else { "info" };
    let filter = EnvFilter::new(log_level.as_deref().unwrap_or(usual));
    let logs = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    match log_format {
        LogFormat::Text => logs.init(),
        LogFormat::Json => logs.json().init(),
    }
    let result = match command {
        Command::Check { .. } => {
            let (destinations, node) = (config.destination.endpoints.len(), &config.node);
            println!("{}: ok, {destinations} destination(s), node {node}", path.display());
            Ok(true)
        }
        Command::Run { .. } => on_one_thread(async {
            let origin = Origin { path, env: &sluice_settings::environment };
            pipeline::run(config, origin, stop()?).await.map(|_| true)
        }),
        Command::Verify { lines, rate, timeout, namespace, output, .. } => on_one_thread(async {
            let plan = verify::Plan { config, lines, rate, timeout, namespace };
            let report = verify::run(plan, stop()?).await?;
            match output {
                Output::Text => println!("{report}"),
                Output::Json => println!("{}", serde_json::to_string(&report)?),
            }
            Ok(report.passed)
        }),
    };
    match result {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            tracing::error!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

/// One thread for the data; disks' fsync waits on others.
fn on_one_thread<T>(work: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().max_blocking_threads(2).build()?;
    let result = runtime.block_on(work);
    // A lookup of a name that hangs holds nobody up: all that had to be written is.
    runtime.shutdown_timeout(Duration::from_millis(100));
    result
}

/// Resolves with SIGTERM or Ctrl-C.
fn stop() -> std::io::Result<impl Future<Output = ()>> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    })
}

fn duration(text: &str) -> Result<Duration, String> {
    let span: Result<sluice_settings::units::Span, _> = text.parse();
    span.map(|span| span.0).map_err(|_| "expected a time like 60s or 5m".to_owned())
}
