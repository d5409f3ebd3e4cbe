//! `sluice-gateway`: takes logs from agents, keeps them safe, and delivers them.

mod arguments;

use std::path::Path;
use std::process::ExitCode;

use anyhow::Context as _;
use clap::Parser as _;
use sluice_gateway::config::checked::Config;
use sluice_gateway::config::{Sources, load};
use sluice_gateway::pipeline;
use sluice_gateway::serve::tls::Acceptor;
use tokio::signal::unix::{SignalKind, signal};
use tracing_subscriber::EnvFilter;

use crate::arguments::{Arguments, Command, LogFormat};

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
    println!(
        "{}: ok, identities: {identities}, tenants: {tenants}, destinations: {}",
        file.display(),
        destinations.len()
    );
    Ok(())
}

fn run(path: &Path, arguments: &Arguments) -> anyhow::Result<()> {
    let config = load(path, Sources::SYSTEM)?;
    let logs =
        tracing_subscriber::fmt().with_env_filter(EnvFilter::new(&arguments.log_level)).with_writer(std::io::stderr);
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
