//! `sluice-verify`: writes numbered log lines as the kubelet does, and asks the destination for each of them.

mod check;
mod sink;
mod units;
mod write;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Writes numbered log lines as the kubelet does, and asks the destination for every one of them.
///
/// A test of a log pipeline in two steps. `write` makes the files of a node's containers: CRI records, split
/// lines, JSON with awkward keys, rotation. Each line carries its number, its time and a checksum, and the
/// manifest counts them. `check` reads what arrived and says which lines are lost, repeated, broken, in the
/// wrong tenant or out of order. `sink` stands in for a destination where only speed is measured.
#[derive(Debug, Parser)]
#[command(name = "sluice-verify", version, after_long_help = EXAMPLES)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Write(Box<write::Args>),
    Check(check::Args),
    Sink(sink::Args),
}

const EXAMPLES: &str = "\
Examples:
  Ten containers in two namespaces, 5,000 lines a second for a minute, rotated every 10 MiB as the kubelet does:
    sluice-verify write --root /tmp/pods --manifest /tmp/m.json --namespaces shop,bank --containers 10 \\
        --rate 5000 --duration 60s --rotate-bytes 10Mi --keep 4 --gzip --cut

  Did all of them arrive, each in its tenant? Waits until nothing has come for 10 seconds:
    sluice-verify check --manifest /tmp/m.json --victorialogs http://127.0.0.1:8427 \\
        --tenant shop=red --tenant bank=blue --wait 10s

  How long do lines take? Run beside the writer:
    sluice-verify check --manifest /tmp/m.json --files /tmp/out --default-tenant red --follow";

#[tokio::main]
async fn main() -> ExitCode {
    let result = match Cli::parse().command {
        Command::Write(args) => write::run(*args).await,
        Command::Check(args) => check::run(args).await,
        Command::Sink(args) => sink::run(args).await,
    };
    result.unwrap_or_else(|error| {
        // Our errors hold their causes in their text.
        eprintln!("sluice-verify: {error}");
        ExitCode::from(2)
    })
}

/// SIGINT or SIGTERM.
async fn interrupted() -> anyhow::Result<()> {
    use tokio::signal::unix::{SignalKind, signal};
    let (mut interrupt, mut terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
    Ok(())
}
