//! `sluice-agent`: tails a node's logs and pushes them to a Sluice gateway.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Parser, Subcommand, ValueEnum};
use sluice_agent::config::Config;
use sluice_agent::pipeline;
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
    /// What to log, as in `info` or `info,sluice_agent::ship=debug`.
    #[arg(long, env = "RUST_LOG", default_value = "info", global = true)]
    log_level: String,
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
    /// Say every fault in a settings file, by its path, and start nothing.
    Check {
        /// The file.
        file: PathBuf,
    },
}

#[derive(Clone, Copy, ValueEnum)]
enum LogFormat {
    Text,
    Json,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let (path, run) = match arguments.command {
        Command::Run { config } => (config, true),
        Command::Check { file } => (file, false),
    };
    let config = match Config::load(&path, &sluice_settings::environment) {
        Ok(config) => config,
        Err(error) => {
            eprintln!("{error}");
            return ExitCode::FAILURE;
        }
    };
    if !run {
        println!("{}: ok, {} destination(s), node {}", path.display(), config.destination.endpoints.len(), config.node);
        return ExitCode::SUCCESS;
    }
    let filter = EnvFilter::new(&arguments.log_level);
    let logs = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    match arguments.log_format {
        LogFormat::Text => logs.init(),
        LogFormat::Json => logs.json().init(),
    }
    // One thread for the data; disks' fsync waits on others.
    let result = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .max_blocking_threads(2)
        .build()
        .map_err(anyhow::Error::from)
        .and_then(|runtime| {
            let result = runtime.block_on(run_until_signal(config));
            // A lookup of a name that hangs holds nobody up: all that had to be written is.
            runtime.shutdown_timeout(Duration::from_millis(100));
            result
        });
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn run_until_signal(config: Config) -> anyhow::Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let stop = async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    };
    pipeline::run(config, stop).await.map(|_| ())
}
