//! A container's program: writes numbered lines to standard output and standard error.

use std::fs;
use std::io::{self, Write as _};
use std::path::PathBuf;
use std::process::ExitCode;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use clap::Parser;
use sluice_harness::latency::now_ns;
use sluice_harness::line::{LineId, Stream};
use sluice_harness::shape::{Mix, filler_pool};
use sluice_harness::write::push_content;

/// How often a rate is caught up with.
const TICK: Duration = Duration::from_millis(10);

/// Writes the lines of one attempt of a container, then ends with an exit status, or waits for its end.
#[derive(Debug, Parser)]
struct Arguments {
    /// The run, as in every line
    #[arg(long)]
    run: u32,
    /// Number of the container's first attempt among all sources; the next attempts count up from it
    #[arg(long)]
    source: u32,
    /// Directory that outlives the container: holds its number of attempts, and a file `stop` when nobody may write
    #[arg(long)]
    shared: PathBuf,
    /// Lines of an attempt; 0: without end
    #[arg(long, default_value_t = 0)]
    lines: u64,
    /// Lines a second; 0: as fast as they are taken
    #[arg(long, default_value_t = 0)]
    rate: u64,
    /// Mean bytes of a line
    #[arg(long, default_value_t = 200)]
    line_size: usize,
    /// Share of lines that are JSON objects
    #[arg(long, default_value_t = 0.3)]
    json: f64,
    /// Share of lines that go to standard error
    #[arg(long, default_value_t = 0.2)]
    stderr: f64,
    /// Seed of the lines' shapes
    #[arg(long)]
    seed: u64,
    /// Writes each line in two halves, this many milliseconds apart
    #[arg(long, default_value_t = 0)]
    stutter: u64,
    /// Exit status after the last line; without it the program stays until it is ended
    #[arg(long)]
    exit: Option<u8>,
}

fn main() -> Result<ExitCode> {
    let arguments = Arguments::parse();
    if !is_stopped(&arguments) {
        let source = arguments.source + attempt(&arguments)?;
        write_lines(&arguments, source)?;
    }
    match arguments.exit {
        Some(status) if !is_stopped(&arguments) => Ok(ExitCode::from(status)),
        _ => loop {
            thread::park();
        },
    }
}

/// Nobody writes any more: the test looks at what there is.
fn is_stopped(arguments: &Arguments) -> bool {
    arguments.shared.join("stop").exists()
}

/// Counts this attempt, durably enough for the next one.
fn attempt(arguments: &Arguments) -> Result<u32> {
    let path = arguments.shared.join(format!("attempts-{}", arguments.source));
    let before = fs::read_to_string(&path).ok().and_then(|text| text.parse().ok()).unwrap_or(0_u32);
    fs::write(&path, (before + 1).to_string()).with_context(|| path.display().to_string())?;
    Ok(before)
}

fn write_lines(arguments: &Arguments, source: u32) -> Result<()> {
    let mix = Mix {
        seed: arguments.seed,
        line_size: arguments.line_size,
        json: arguments.json,
        odd: 0.0,
        stderr: arguments.stderr,
        ..Mix::default()
    };
    let pool = filler_pool(&mix);
    let mut numbers = [0_u64; 2];
    let mut line = Vec::new();
    let start = Instant::now();
    let mut nth = 0;
    while arguments.lines == 0 || nth < arguments.lines {
        if nth.is_multiple_of(64) && is_stopped(arguments) {
            break;
        }
        if arguments.rate > 0 && nth >= due(start, arguments.rate) {
            thread::sleep(TICK);
            // A slow writer must hear of the end, too.
            if is_stopped(arguments) {
                break;
            }
            continue;
        }
        let stream = mix.stream(source, nth);
        let seq = numbers[stream.index()];
        let id = LineId { run: arguments.run, source, stream, seq };
        line.clear();
        push_content(&mut line, &pool, &mix.shape(source, stream, seq), id, now_ns());
        line.push(b'\n');
        let mut output: Box<dyn io::Write> = match stream {
            Stream::Stdout => Box::new(io::stdout()),
            Stream::Stderr => Box::new(io::stderr()),
        };
        let (first, rest) = line.split_at(if arguments.stutter > 0 { line.len() / 2 } else { 0 });
        if !first.is_empty() {
            output.write_all(first)?;
            output.flush()?;
            thread::sleep(Duration::from_millis(arguments.stutter));
        }
        output.write_all(rest)?;
        numbers[stream.index()] += 1;
        nth += 1;
    }
    io::stdout().flush()?;
    Ok(())
}

/// Lines that should be there by now.
fn due(start: Instant, rate: u64) -> u64 {
    u64::try_from(start.elapsed().as_micros()).unwrap_or(u64::MAX).saturating_mul(rate) / 1_000_000 + 1
}
