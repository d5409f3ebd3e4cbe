//! The command line.

use std::path::PathBuf;

use clap::{Parser, Subcommand, ValueEnum};

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
pub(crate) struct Arguments {
    #[command(subcommand)]
    pub(crate) command: Command,
    /// What to log, as in `info` or `info,sluice_gateway::deliver=debug`.
    #[arg(long, env = "RUST_LOG", default_value = "info", global = true)]
    pub(crate) log_level: String,
    /// How to log.
    #[arg(long, value_enum, default_value_t = LogFormat::Text, global = true)]
    pub(crate) log_format: LogFormat,
}

#[derive(Subcommand)]
pub(crate) enum Command {
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
pub(crate) enum LogFormat {
    Text,
    Json,
}
