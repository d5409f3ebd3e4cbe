//! `sluice-bench`: what the agent and the gateway cost, each on a core of its own, and both on one beside a noisy
//! tenant. `docs/benchmarks.md` says how to read the figures.
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
mod goals;
mod machine;
mod measure;
mod node;
mod noisy;
mod outcome;
mod pairs;
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
use goals::Judgement;
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
    /// `noisy`, `noisy-pod`: pairs of runs, with what is noisy and without; one where it is to be quick
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=100))]
    pairs: u32,
    /// `noisy`, `noisy-pod`: for how long each run writes; a third of it where it is to be quick
    #[arg(long, default_value_t = 15, value_parser = clap::value_parser!(u64).range(3..=600))]
    seconds: u64,
    /// Where the results go; `machine.json` is written beside it
    #[arg(long, default_value = "target/bench/latest.json")]
    out: PathBuf,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum What {
    Agent,
    Gateway,
    /// Agent and gateway together, beside a tenant at ten times its limit; fails if the others feel it
    Noisy,
    /// The agent beside a pod that writes a hundred times as much as each of fifty others; fails if these feel it
    NoisyPod,
    All,
}

fn main() -> ExitCode {
    match run(&Arguments::parse()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Whether what is promised holds.
fn run(arguments: &Arguments) -> anyhow::Result<bool> {
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
    let judgements = ended?;
    println!();
    judgements.iter().for_each(|judgement| print!("{}", judgement.text));
    Ok(judgements.iter().all(|judgement| judgement.passed))
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

async fn measure(arguments: &Arguments, cores: Cores, outcomes: &mut Vec<Outcome>) -> Result<Vec<Judgement>> {
    let mut judgements = Vec::new();
    let of_agents = agents::Plan { cores, quick: arguments.quick, peer: !arguments.without_peer };
    if matches!(arguments.what, What::Agent | What::All) {
        judgements.extend(agents::run(of_agents, outcomes).await?);
    }
    if matches!(arguments.what, What::Gateway | What::All) {
        let plan = gateway::Plan { cores, quick: arguments.quick };
        gateway::run(plan, outcomes).await?;
    }
    let Arguments { pairs, seconds, .. } = *arguments;
    let (pairs, seconds) = if arguments.quick { (1, seconds / 3) } else { (pairs, seconds) };
    if matches!(arguments.what, What::NoisyPod | What::All) {
        judgements.push(agents::noisy_pod(of_agents, pairs, seconds, outcomes).await?.into());
    }
    if matches!(arguments.what, What::Noisy | What::All) {
        judgements.push(noisy::run(noisy::Plan { cores, pairs, seconds }, outcomes).await?.into());
    }
    Ok(judgements)
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
