//! `sluice-gateway`: takes logs from agents, keeps them safe, and delivers them.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context as _;
use clap::{Parser, Subcommand, ValueEnum};
use sluice_gateway::config::checked::Config;
use sluice_gateway::config::{Sources, load};
use sluice_gateway::serve::tls::Acceptor;
use sluice_gateway::pipeline;
use tokio::signal::unix::{SignalKind, signal};
use tracing_subscriber::EnvFilter;

/// Takes logs from Sluice agents, assigns each to its tenant, keeps them in a journal on disk, and
/// delivers them to their destinations.
///
/// A first try on one machine, logs into files:
///
///   sluice-gateway run --config gateway.yaml
///
///   # gateway.yaml
///   push: {address: "127.0.0.1:7070"}
///   admin: 127.0.0.1:7071
///   journal: {directory: /tmp/sluice/journal}
///   destinations:
///     - {name: local, file: {directory: /tmp/sluice/logs}}
///   policy:
///     identities: [{name: local, loopback: true}]
///     tenants: {default: mine}
///     default_destinations: [local]
///
/// How it is doing is told at http://127.0.0.1:7071/readyz?verbose and /metrics. The policy is reloaded
/// when its file changes, and on SIGHUP; SIGTERM drains.
#[derive(Parser)]
#[command(version, verbatim_doc_comment)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
    /// What to log, as in `info` or `info,sluice_gateway::deliver=debug`.
    #[arg(long, env = "RUST_LOG", default_value = "info", global = true)]
    log_level: String,
    /// How to log.
    #[arg(long, value_enum, default_value_t = LogFormat::Text, global = true)]
    log_format: LogFormat,
}

#[derive(Subcommand)]
enum Command {
    /// Take and deliver logs until SIGTERM or Ctrl-C, then drain.
    Run {
        /// The configuration, in YAML; ${VAR} and ${VAR:-default} are replaced from the environment.
        #[arg(long, env = "SLUICE_CONFIG")]
        config: PathBuf,
    },
    /// Say every fault in a configuration, by its path, and start nothing.
    Check {
        /// The file.
        file: PathBuf,
        /// Leave out the token and TLS files that it names, where they are not on this machine.
        #[arg(long)]
        without_files: bool,
    },
}

#[derive(Clone, Copy, ValueEnum)]
enum LogFormat {
    Text,
    Json,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let result = match &arguments.command {
        Command::Run { config } => run(config, &arguments),
        Command::Check { file, without_files } => check(file, *without_files),
    };
    result.map_or_else(
        |error| {
            eprintln!("{error:#}");
            ExitCode::FAILURE
        },
        |()| ExitCode::SUCCESS,
    )
}

fn check(file: &Path, without_files: bool) -> anyhow::Result<()> {
    let sources = if without_files { Sources::WITHOUT_FILES } else { Sources::SYSTEM };
    let Config { push, destinations, policy, .. } = load(file, sources)?;
    if let Some(tls) = push.tls.filter(|_| !without_files) {
        Acceptor::new(&tls).context("push.tls")?;
    }
    let mut tenants: Vec<_> = policy.tenants().collect();
    tenants.sort_unstable();
    tenants.dedup();
    let (identities, tenants) = (policy.identities.len(), tenants.len());
    println!("{}: ok, identities: {identities}, tenants: {tenants}, destinations: {}", file.display(), destinations.len());
    Ok(())
}

fn run(path: &Path, arguments: &Arguments) -> anyhow::Result<()> {
    let config = load(path, Sources::SYSTEM)?;
    let logs = tracing_subscriber::fmt().with_env_filter(EnvFilter::new(&arguments.log_level)).with_writer(std::io::stderr);
    match arguments.log_format {
        LogFormat::Text => logs.init(),
        LogFormat::Json => logs.json().init(),
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        let mut terminate = signal(SignalKind::terminate())?;
        let stop = async move {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = tokio::signal::ctrl_c() => {}
            }
        };
        Ok(pipeline::run(path.to_owned(), config, stop).await?)
    })
}
