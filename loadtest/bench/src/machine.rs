//! What the figures were measured on, so that nobody compares them with another machine's.

use std::{fmt, fs};

use serde::Serialize;

#[derive(Debug, Clone, Serialize)]
pub(crate) struct Machine {
    cpu: String,
    cores: usize,
    memory_mib: u64,
    kernel: String,
    /// Over the last minute, before the first case: anything much above 0 was somebody else's.
    load_average: String,
    /// When the run began.
    unix_seconds: u64,
}

impl Machine {
    /// What cannot be read is called unknown: a benchmark does not fail for its label.
    pub(crate) fn describe() -> Self {
        let field = |path: &str, name: &str| {
            let text = fs::read_to_string(path).ok()?;
            let line = text.lines().find(|line| line.starts_with(name))?.to_owned();
            line.split_once(':').map(|(_, value)| value.trim().to_owned())
        };
        let unknown = || "unknown".to_owned();
        let memory = field("/proc/meminfo", "MemTotal").and_then(|text| text.split(' ').next()?.parse::<u64>().ok());
        let load = fs::read_to_string("/proc/loadavg").ok();
        let uname = rustix::system::uname();
        Self {
            cpu: field("/proc/cpuinfo", "model name").unwrap_or_else(unknown),
            cores: std::thread::available_parallelism().map_or(1, usize::from),
            memory_mib: memory.unwrap_or(0) / 1024,
            kernel: format!("{} {}", uname.sysname().to_string_lossy(), uname.release().to_string_lossy()),
            load_average: load.and_then(|text| text.split(' ').next().map(str::to_owned)).unwrap_or_else(unknown),
            unix_seconds: sluice_harness::latency::now_ns() / 1_000_000_000,
        }
    }
}

impl fmt::Display for Machine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { cpu, cores, memory_mib, kernel, load_average, .. } = self;
        write!(f, "{cpu}, {cores} cores, {memory_mib} MiB, {kernel}, load average {load_average}")
    }
}
