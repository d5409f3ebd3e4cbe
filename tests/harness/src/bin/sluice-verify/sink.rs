//! `sluice-verify sink`.

use std::{net::SocketAddr, process::ExitCode};

use sluice_harness::sink::{Sink, serve};

/// Takes what collectors send and counts it, for benchmarks.
///
/// Speaks VictoriaLogs' POST /insert/jsonline (identity, gzip, zstd) and OTLP's POST /v1/logs (protobuf).
/// GET /report tells counts, throughput and latency as JSON, POST /reset begins anew. Prints its address on
/// the first line, and the report when it is ended by SIGINT or SIGTERM.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[arg(long, default_value = "127.0.0.1:0", value_name = "ADDRESS")]
    listen: SocketAddr,
}

pub(crate) async fn run(args: Args) -> anyhow::Result<ExitCode> {
    let sink = Sink::default();
    let address = serve(args.listen, sink.router()).await?;
    println!("listening on {address}");
    crate::interrupted().await?;
    println!("{}", serde_json::to_string_pretty(&sink.report())?);
    Ok(ExitCode::SUCCESS)
}
