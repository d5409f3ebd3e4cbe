//! What a program used from one moment to another.

use std::{
    fs,
    time::{Duration, Instant},
};

use sluice_harness::process::{Program, cpu_seconds_of};

/// A watch over a running program, begun with [`Watch::start`] and to be looked at often: memory is known only
/// as far as it was looked at, but for the kernel's own high-water mark.
#[derive(Debug)]
pub(crate) struct Watch {
    since: Instant,
    cpu_before: f64,
    ours_before: f64,
    peak_anonymous_kib: u64,
}

/// What came of it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Used {
    pub(crate) time: Duration,
    /// User and system time of the program.
    pub(crate) cpu_seconds: f64,
    /// The same of this process: sink, and writer or load generator.
    pub(crate) our_cpu_seconds: f64,
    pub(crate) peak_rss_kib: u64,
    /// Without what is mapped of files, such as the program's own text.
    pub(crate) peak_anonymous_kib: u64,
}

impl Watch {
    pub(crate) fn start(program: &mut Program) -> Self {
        let cpu_before = program.cpu_seconds();
        Self { since: Instant::now(), cpu_before, ours_before: our_cpu_seconds(), peak_anonymous_kib: 0 }
    }

    pub(crate) fn look(&mut self, program: &Program) {
        self.peak_anonymous_kib = self.peak_anonymous_kib.max(anonymous_kib(program.pid()).unwrap_or(0));
    }

    pub(crate) fn elapsed(&self) -> Duration {
        self.since.elapsed()
    }

    pub(crate) fn end(mut self, program: &mut Program) -> Used {
        self.look(program);
        let usage = program.usage();
        Used {
            time: self.since.elapsed(),
            cpu_seconds: usage.cpu_seconds - self.cpu_before,
            our_cpu_seconds: our_cpu_seconds() - self.ours_before,
            peak_rss_kib: usage.peak_rss_kib,
            peak_anonymous_kib: self.peak_anonymous_kib,
        }
    }
}

fn our_cpu_seconds() -> f64 {
    cpu_seconds_of(std::process::id()).unwrap_or(0.0)
}

fn anonymous_kib(pid: u32) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:"))?;
    line.trim().strip_suffix(" kB")?.trim().parse().ok()
}
