//! `sluice-bench`: what the agent and the gateway cost, each on a core of its own. `docs/benchmarks.md` says how
//! to read the figures.
//!
//! ```text
//!   core A                 core B (this process)
//!   the program measured ◄─ log files, or pre-built blocks
//!                        ─► sink: decodes, counts lines, checks their numbers
//! ```

mod agents;
mod cores;
mod error;
mod gateway;
mod machine;
mod measure;
mod node;
mod outcome;
mod programs;
mod progress;
mod push;

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::Context as _;
use clap::{Parser, ValueEnum};
use tokio::signal::unix::{SignalKind, signal};

use cores::Cores;
use error::{Error, Result};
use machine::Machine;
use outcome::Outcome;

/// Measures Sluice's programs, each on one core, the agent beside a peer.
#[derive(Debug, Parser)]
struct Arguments {
    /// What to measure.
    what: What,
    /// A fifth of the data and a quarter of the time: for a first look, not for figures
    #[arg(long)]
    quick: bool,
    /// Without the OpenTelemetry Collector
    #[arg(long)]
    without_peer: bool,
    /// Where the results go; `machine.json` is written beside it
    #[arg(long, default_value = "target/bench/latest.json")]
    out: PathBuf,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum What {
    Agent,
    Gateway,
    All,
}

fn main() -> ExitCode {
    match run(&Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let machine = Machine::describe();
    println!("{machine}");
    let cores = Cores::take()?;
    // One thread: more would take turns on the one core that is left to us.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().context("no runtime")?;
    let mut outcomes = Vec::new();
    let ended = runtime.block_on(async {
        // Dropping the run on a signal ends what it has started and removes its files.
        tokio::select! {
            ended = measure(arguments, cores, &mut outcomes) => ended,
            () = interrupted() => Err(Error::Interrupted),
        }
    });
    // Also after a failure: what was measured by then is not measured again so soon.
    if !outcomes.is_empty() {
        report(&arguments.out, &outcomes, &machine)?;
    }
    Ok(ended?)
}

fn report(out: &Path, outcomes: &[Outcome], machine: &Machine) -> Result<()> {
    println!("\n{}", outcome::table(outcomes));
    for outcome in outcomes {
        println!("{}", outcome.details());
    }
    let machine_file = out.with_file_name("machine.json");
    outcome::write_json(out, &outcomes)?;
    outcome::write_json(&machine_file, machine)?;
    println!("\n{} and {}", out.display(), machine_file.display());
    Ok(())
}

async fn measure(arguments: &Arguments, cores: Cores, outcomes: &mut Vec<Outcome>) -> Result<()> {
    if matches!(arguments.what, What::Agent | What::All) {
        let plan = agents::Plan { cores, quick: arguments.quick, peer: !arguments.without_peer };
        agents::run(plan, outcomes).await?;
    }
    if matches!(arguments.what, What::Gateway | What::All) {
        let plan = gateway::Plan { cores, quick: arguments.quick };
        gateway::run(plan, outcomes).await?;
    }
    Ok(())
}

async fn interrupted() {
    let (Ok(mut interrupt), Ok(mut terminate)) = (signal(SignalKind::interrupt()), signal(SignalKind::terminate()))
    else {
        return std::future::pending().await;
    };
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
}
