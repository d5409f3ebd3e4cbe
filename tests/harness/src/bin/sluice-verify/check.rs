//! `sluice-verify check`.

use std::{path::PathBuf, process::ExitCode, time::Duration};

use sluice_harness::{
    check::{self, Config, Destination, Tenants},
    manifest::Manifest,
};

use crate::units;

/// How long a check that follows waits for a line unless told otherwise.
const FOLLOW_WAIT: Duration = Duration::from_secs(30);

/// Asks the destination for every line that the manifest counts.
///
/// Reports lines that are lost (with their ranges), repeated, in the wrong tenant, out of order, and records
/// that are broken: text damaged, members missing, wrong, repeated or unexpected. Exit code 0 when all is
/// well; 1 when something is lost, broken or in the wrong tenant, or more repeated than allowed; 2 when the
/// check could not be made.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// What `sluice-verify write` left; read again while waiting
    #[arg(long, value_name = "FILE")]
    manifest: PathBuf,
    #[command(flatten)]
    at: At,
    /// The tenant of a namespace; once for each
    #[arg(long = "tenant", value_name = "NS=TENANT", value_parser = pair)]
    tenants: Vec<(String, String)>,
    /// The tenant of all other namespaces
    #[arg(long, value_name = "TENANT")]
    default_tenant: Option<String>,
    /// Wait for missing lines until nothing has come for so long
    #[arg(long, value_parser = units::duration, value_name = "DURATION")]
    wait: Option<Duration>,
    /// Look on for so long after all lines are there, for repeats
    #[arg(long, value_parser = units::duration, default_value = "0", value_name = "DURATION")]
    settle: Duration,
    /// Look every 10 ms and measure each line's way from its writing (files only; waits 30s by default)
    #[arg(long)]
    follow: bool,
    /// Repeats that are no failure
    #[arg(long, default_value_t = 0, value_name = "N")]
    allow_duplicates: u64,
    /// Print the report as JSON
    #[arg(long)]
    json: bool,
}

#[derive(Debug, clap::Args)]
#[group(required = true, multiple = false)]
struct At {
    /// JSON lines in {tenant}/{category}/**/*.jsonl
    #[arg(long, value_name = "DIR")]
    files: Option<PathBuf>,
    /// vmauth in front of VictoriaLogs, which tells tenants by X-Scope-OrgID
    #[arg(long, value_name = "URL")]
    victorialogs: Option<String>,
}

pub(crate) async fn run(args: Args) -> anyhow::Result<ExitCode> {
    let destination = match (args.at.files, args.at.victorialogs) {
        (Some(dir), _) => Destination::Files(dir),
        (None, Some(url)) => Destination::VictoriaLogs(url),
        (None, None) => anyhow::bail!("neither --files nor --victorialogs is given"),
    };
    let tenants = Tenants { by_namespace: args.tenants.into_iter().collect(), default: args.default_tenant };
    let report = check::run(Config {
        manifest_file: Some(args.manifest.clone()),
        wait: args.wait.unwrap_or(if args.follow { FOLLOW_WAIT } else { Duration::ZERO }),
        settle: args.settle,
        follow: args.follow,
        ..Config::new(Manifest::load(&args.manifest)?, destination, tenants)
    })
    .await?;
    if args.json {
        println!("{}", serde_json::to_string_pretty(&report)?);
    } else {
        print!("{report}");
    }
    let failures = report.failures(args.allow_duplicates);
    if failures.is_empty() {
        return Ok(ExitCode::SUCCESS);
    }
    eprintln!("sluice-verify: {}", failures.join(", "));
    Ok(ExitCode::FAILURE)
}

fn pair(text: &str) -> Result<(String, String), String> {
    let (namespace, tenant) = text.split_once('=').ok_or("not of the form NAMESPACE=TENANT")?;
    Ok((namespace.to_owned(), tenant.to_owned()))
}
