//! Appends 128 MB in records of 100 KB, a number of them to each sync, and reads them back.
//!
//! `cargo run --release -p sluice-durable-log --example throughput -- DIR`
//! DIR has to be on the disk in question; the example makes folders in it and removes them.

use std::{fs, path::PathBuf, sync::Arc, time::Instant};

use sluice_durable_log::{Options, SyncMode, io::RealFiles, open};

const RECORD: usize = 100_000;
const TOTAL: usize = 128_000_000;

fn main() {
    let dir = PathBuf::from(std::env::args_os().nth(1).expect("usage: throughput DIR"));
    println!("{:<34} {:>8} {:>10} {:>10} {:>10}", "", "MB/s", "CPU ms/MB", "p50 ms", "p99 ms");
    for (sync, preallocate) in [(SyncMode::Data, true), (SyncMode::Data, false), (SyncMode::Never, false)] {
        for group in [1, 4, 16, 64] {
            run(
                Options { sync, preallocate, ..Options::new(dir.join(format!("throughput-{}", std::process::id()))) },
                group,
            );
        }
    }
}

fn run(options: Options, group: usize) {
    let name = format!("{:?}, preallocate {}, {group}", options.sync, options.preallocate);
    let dir = options.dir.clone();
    let (mut writer, log, _) = open(Arc::new(RealFiles), options).expect("the log opens");
    let payload: Vec<u8> = (0..=255).cycle().take(RECORD).collect();

    let mut latencies = Vec::new();
    let meter = Meter::start();
    for _ in 0..TOTAL / RECORD / group {
        let start = Instant::now();
        for _ in 0..group {
            writer.append(&[&payload]).expect("there is room");
        }
        writer.sync().expect("the disk is well");
        latencies.push(start.elapsed().as_secs_f64() * 1e3);
    }
    latencies.sort_by(f64::total_cmp);
    let at = |percent: usize| latencies[(latencies.len() - 1) * percent / 100];
    println!("write: {name:<27} {} {:>10.2} {:>10.2}", meter.stop(), at(50), at(99));

    let mut reader = log.reader(0);
    let mut buf = Vec::new();
    let meter = Meter::start();
    while reader.next(&mut buf).expect("readable").is_some() {}
    println!("read:  {name:<27} {}", meter.stop());
    drop(writer);
    fs::remove_dir_all(dir).expect("removed");
}

struct Meter {
    start: Instant,
    cpu: f64,
}

impl Meter {
    fn start() -> Self {
        Self { start: Instant::now(), cpu: cpu_ms() }
    }

    fn stop(&self) -> String {
        let mb = TOTAL as f64 / 1e6;
        let (wall, cpu) = (self.start.elapsed().as_secs_f64(), cpu_ms() - self.cpu);
        format!("{:>8.0} {:>10.3}", mb / wall, cpu / mb)
    }
}

/// What this thread has used.
fn cpu_ms() -> f64 {
    let stat = fs::read_to_string("/proc/thread-self/schedstat").expect("Linux");
    stat.split(' ').next().and_then(|ns| ns.parse::<f64>().ok()).expect("a number") / 1e6
}
