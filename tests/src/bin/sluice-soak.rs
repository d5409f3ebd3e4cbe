//! `sluice-soak`: long runs of faults, repeatable by their seed. Each round writes for a minute while
//! agent, gateway and store are killed, stopped and started at random; then every line is asked for.

use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use clap::Parser;
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use sluice_harness::check::Tenants;
use sluice_harness::dirs::TestDir;
use sluice_harness::shape::Mix;
use sluice_harness::victorialogs::VictoriaLogs;
use sluice_harness::write::{self, Rotation};
use sluice_tests::{PATIENCE, Plan, Stack, store_destination};

/// Long fault runs: lines written = lines delivered, whatever is killed.
#[derive(Parser)]
struct Arguments {
    /// The same seed makes the same faults at the same moments; printed where it is not given.
    #[arg(long)]
    seed: Option<u64>,
    /// How long to go on; the round under way is finished.
    #[arg(long, default_value_t = 10)]
    minutes: u64,
    /// Lines a second.
    #[arg(long, default_value_t = 5_000)]
    rate: u64,
}

#[derive(Debug, Clone, Copy)]
enum Fault {
    KillAgent,
    StopAgent,
    KillGateway,
    StopGateway,
    KillStore,
    StopStore,
}

const FAULTS: [Fault; 6] =
    [Fault::KillAgent, Fault::StopAgent, Fault::KillGateway, Fault::StopGateway, Fault::KillStore, Fault::StopStore];

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    let seed = arguments.seed.unwrap_or_else(rand::random);
    println!("seed {seed}");
    let deadline = Instant::now() + Duration::from_secs(60 * arguments.minutes);
    let mut dice = StdRng::seed_from_u64(seed);
    let mut round = 0;
    while round == 0 || Instant::now() < deadline {
        round += 1;
        let seconds = deadline.saturating_duration_since(Instant::now()).as_secs().clamp(20, 60);
        run_round(round, seconds, arguments.rate, &mut dice)
            .await
            .with_context(|| format!("round {round} of seed {seed}"))?;
    }
    println!("{round} rounds of seed {seed}: nothing lost");
    Ok(())
}

async fn run_round(round: u32, seconds: u64, rate: u64, dice: &mut StdRng) -> anyhow::Result<()> {
    let store_dir = TestDir::new("soak-store")?;
    let mut store = VictoriaLogs::start(store_dir.path(), &[("main", 1)]).await?;
    let plan = Plan {
        destinations: store_destination(store.url(), "15s"),
        routed_to: vec!["files".to_owned(), "store".to_owned()],
        ..Plan::default()
    };
    let mut stack = Stack::start("soak", &plan).await?;
    let writer = write::spawn(write::Config {
        namespaces: ["a", "b", "c", "d"].map(str::to_owned).to_vec(),
        containers: 12,
        duration: Some(Duration::from_secs(seconds)),
        rate,
        mix: Mix { seed: dice.random(), json: 0.5, odd: 0.1, partial: 0.1, stderr: 0.2, ..Mix::default() },
        rotation: Rotation { every: Some(Duration::from_secs(2)), cut: true, ..Rotation::default() },
        ..stack.writer()
    });
    while !writer.is_finished() {
        let wait = Duration::from_millis(dice.random_range(100..4000));
        let fault = FAULTS[dice.random_range(0..FAULTS.len())];
        let away = Duration::from_millis(dice.random_range(0..3000));
        tokio::time::sleep(wait).await;
        println!("  round {round}: {fault:?}, away for {away:?}");
        inflict(fault, away, &mut stack, &mut store).await?;
    }
    let manifest = writer.wait()?;
    let tenants = || Tenants::single("main");
    let files = stack.check_files(&manifest, tenants()).await?;
    let stored = stack.check_store(store.url(), &manifest, tenants(), 3 * PATIENCE).await?;
    println!(
        "  round {round}: {} lines; files: {} lost, {} duplicated; store: {} lost, {} duplicated in {} batches",
        manifest.lines(),
        files.lost,
        files.duplicated,
        stored.lost,
        stored.duplicated,
        stored.duplicate_batches,
    );
    let faults = [files.failures(0), stored.failures(u64::MAX)].concat();
    if !faults.is_empty() {
        bail!("{}\nfiles:\n{files}\nstore:\n{stored}", faults.join(", "));
    }
    Ok(())
}

async fn inflict(fault: Fault, away: Duration, stack: &mut Stack, store: &mut VictoriaLogs) -> anyhow::Result<()> {
    match fault {
        Fault::KillAgent => drop(stack.agent.kill()),
        Fault::StopAgent => drop(stack.agent.stop(PATIENCE).await?),
        Fault::KillGateway => drop(stack.gateway.kill()),
        Fault::StopGateway => drop(stack.gateway.stop(PATIENCE).await?),
        Fault::KillStore => drop(store.kill()),
        Fault::StopStore => drop(store.stop().await?),
    }
    tokio::time::sleep(away).await;
    match fault {
        Fault::KillAgent | Fault::StopAgent => {
            stack.agent.restart()?;
            stack.wait_for_agent().await?;
        }
        Fault::KillGateway | Fault::StopGateway => {
            stack.gateway.restart()?;
            stack.wait_for_gateway().await?;
        }
        Fault::KillStore | Fault::StopStore => store.restart().await?,
    }
    Ok(())
}
