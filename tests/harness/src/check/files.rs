//! A destination of files: `{tenant}/{category}/**/*.jsonl`, appended to or put there whole.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::{Read as _, Seek as _, SeekFrom},
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

use super::{
    Config,
    ledger::{Ledger, Order},
    report::Report,
};
use crate::{
    error::{At, Result},
    latency::{Latencies, now_ns},
    manifest::Manifest,
};

/// How soon a followed line is seen: the precision of its latency.
const FOLLOW_EVERY: Duration = Duration::from_millis(10);
const WAIT_EVERY: Duration = Duration::from_millis(100);
const MANIFEST_EVERY: Duration = Duration::from_secs(1);

/// A whole line must fit; it is four times the largest record that the design allows.
const CHUNK: usize = 1 << 20;

pub(super) fn run(config: &Config, root: &Path) -> Result<Report> {
    let mut ledger = Ledger::new(config.manifest.clone(), config.tenants.clone()).in_order();
    let mut files = Files { root: root.to_owned(), read: BTreeMap::new(), chunk: Vec::with_capacity(CHUNK) };
    let mut latencies = Followed::default();
    let (mut progress, mut looked) = (Instant::now(), Instant::now());
    let mut complete_since = None;
    loop {
        let lines = files.read_new(|tenant, line, order| {
            if let Some(arrival) = ledger.take(tenant, line, Some(order))
                && config.follow
            {
                latencies.record(&ledger, arrival.source, arrival.written_ns);
            }
        })?;
        if lines > 0 {
            progress = Instant::now();
        }
        if let Some(path) = config.manifest_file.as_ref().filter(|_| looked.elapsed() >= MANIFEST_EVERY) {
            ledger.update(Manifest::load(path)?);
            looked = Instant::now();
        }
        if complete_since.is_none() && ledger.is_complete() {
            complete_since = Some(Instant::now());
        }
        if complete_since.is_some_and(|since| since.elapsed() >= config.settle) || progress.elapsed() >= config.wait {
            break;
        }
        thread::sleep(if config.follow { FOLLOW_EVERY } else { WAIT_EVERY });
    }
    files.report_torn(&mut ledger)?;
    Ok(latencies.into_report(&ledger, config.follow))
}

struct Files {
    root: PathBuf,
    read: BTreeMap<PathBuf, Progress>,
    chunk: Vec<u8>,
}

/// Files are opened only to read what is new, so that thousands of them can be followed.
#[derive(Default)]
struct Progress {
    /// Behind the last line that was whole.
    offset: u64,
    order: Order,
}

impl Files {
    /// Hands over every line that is new, with its tenant. Returns how many.
    fn read_new(&mut self, mut each: impl FnMut(&str, &[u8], &mut Order)) -> Result<u64> {
        let mut lines = 0;
        for Found { tenant, path, len } in jsonl_files(&self.root)? {
            let progress = self.read.entry(path.clone()).or_default();
            if len <= progress.offset {
                continue;
            }
            let mut file = File::open(&path).at(&path)?;
            file.seek(SeekFrom::Start(progress.offset)).at(&path)?;
            loop {
                self.chunk.clear();
                (&mut file).take(CHUNK as u64).read_to_end(&mut self.chunk).at(&path)?;
                let whole = memchr::memrchr(b'\n', &self.chunk).map_or(0, |newline| newline + 1);
                if whole == 0 {
                    break;
                }
                for line in self.chunk[..whole].split_inclusive(|byte| *byte == b'\n') {
                    each(&tenant, &line[..line.len() - 1], &mut progress.order);
                    lines += 1;
                }
                progress.offset += whole as u64;
                file.seek(SeekFrom::Start(progress.offset)).at(&path)?;
            }
        }
        Ok(lines)
    }

    /// What stands behind the last newline of a file when nobody waits for it any more.
    fn report_torn(&mut self, ledger: &mut Ledger) -> Result<()> {
        for (path, progress) in &self.read {
            let mut file = File::open(path).at(path)?;
            file.seek(SeekFrom::Start(progress.offset)).at(path)?;
            self.chunk.clear();
            file.take(CHUNK as u64).read_to_end(&mut self.chunk).at(path)?;
            if !self.chunk.is_empty() {
                ledger.take_torn(&self.chunk);
            }
        }
        Ok(())
    }
}

struct Found {
    tenant: String,
    path: PathBuf,
    len: u64,
}

fn jsonl_files(root: &Path) -> Result<Vec<Found>> {
    let mut found = Vec::new();
    // Before the first delivery there may be no directory yet.
    for tenant in fs::read_dir(root).into_iter().flatten() {
        let tenant = tenant.at(root)?;
        let name = tenant.file_name().to_string_lossy().into_owned();
        let mut dirs = vec![tenant.path()];
        while let Some(dir) = dirs.pop() {
            // What vanishes between listing and looking was renamed, and is found under its new name next time.
            for entry in fs::read_dir(&dir).into_iter().flatten().flatten() {
                let Ok(metadata) = entry.metadata() else { continue };
                let path = entry.path();
                if metadata.is_dir() {
                    dirs.push(path);
                } else if path.extension().is_some_and(|extension| extension == "jsonl") {
                    found.push(Found { tenant: name.clone(), path, len: metadata.len() });
                }
            }
        }
    }
    Ok(found)
}

/// Latencies over all and by namespace.
#[derive(Default)]
struct Followed {
    all: Latencies,
    by_namespace: BTreeMap<String, Latencies>,
}

impl Followed {
    fn record(&mut self, ledger: &Ledger, source: u32, written_ns: u64) {
        let now = now_ns();
        self.all.record(written_ns, now);
        let namespace = &ledger.manifest().sources[source as usize].namespace;
        match self.by_namespace.get_mut(namespace) {
            Some(latencies) => latencies.record(written_ns, now),
            None => self.by_namespace.entry(namespace.clone()).or_default().record(written_ns, now),
        }
    }

    fn into_report(self, ledger: &Ledger, followed: bool) -> Report {
        Report {
            latency: followed.then(|| self.all.summary()),
            latency_by_namespace: self.by_namespace.into_iter().map(|(name, all)| (name, all.summary())).collect(),
            ..ledger.report()
        }
    }
}
