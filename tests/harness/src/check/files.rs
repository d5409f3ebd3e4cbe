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
    Config, Tenants,
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
    let mut follower = Follower::new(config.manifest.clone(), root, config.tenants.clone())?;
    let (mut progress, mut looked) = (Instant::now(), Instant::now());
    let mut complete_since = None;
    loop {
        if follower.look()? > 0 {
            progress = Instant::now();
        }
        if let Some(path) = config.manifest_file.as_ref().filter(|_| looked.elapsed() >= MANIFEST_EVERY) {
            follower.update(Manifest::load(path)?);
            looked = Instant::now();
        }
        if complete_since.is_none() && follower.is_complete() {
            complete_since = Some(Instant::now());
        }
        if complete_since.is_some_and(|since| since.elapsed() >= config.settle) || progress.elapsed() >= config.wait {
            break;
        }
        thread::sleep(if config.follow { FOLLOW_EVERY } else { WAIT_EVERY });
    }
    let report = follower.into_report()?;
    Ok(if config.follow { report } else { Report { latency: None, latency_by_namespace: BTreeMap::new(), ..report } })
}

/// A check that is taken further look by look, for who has other things to do in between. How often it looks
/// is how precisely it knows a line's way from its writing.
#[derive(Debug)]
pub struct Follower {
    ledger: Ledger,
    files: Files,
    latencies: Followed,
}

impl Follower {
    /// Of the lines that `manifest` counts, in `{tenant}/{category}/**/*.jsonl` below `root`.
    ///
    /// # Errors
    /// When a namespace has no tenant.
    pub fn new(manifest: Manifest, root: &Path, tenants: Tenants) -> Result<Self> {
        tenants.cover(&manifest)?;
        let files = Files { root: root.to_owned(), read: BTreeMap::new(), chunk: Vec::with_capacity(CHUNK) };
        Ok(Self { ledger: Ledger::new(manifest, tenants).in_order(), files, latencies: Followed::default() })
    }

    /// Books what has come since the last look; returns how many records, of whichever run.
    ///
    /// # Errors
    /// When a file cannot be read.
    pub fn look(&mut self) -> Result<u64> {
        let Self { ledger, files, latencies } = self;
        files.read_new(|tenant, line, order| {
            if let Some(arrival) = ledger.take(tenant, line, Some(order)) {
                latencies.record(ledger, arrival.source, arrival.written_ns);
            }
        })
    }

    /// Takes over the counts of a later state of the same run.
    pub fn update(&mut self, manifest: Manifest) {
        self.ledger.update(manifest);
    }

    /// Whether the writer has ended and every line of its is there.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.ledger.is_complete()
    }

    /// Records booked so far, of whichever run.
    #[must_use]
    pub fn records(&self) -> u64 {
        self.ledger.records()
    }

    /// Their bytes in the files, newlines included, by tenant.
    #[must_use]
    pub fn bytes(&self) -> BTreeMap<String, u64> {
        let mut bytes = BTreeMap::new();
        for progress in self.files.read.values() {
            *bytes.entry(progress.tenant.clone()).or_default() += progress.offset;
        }
        bytes
    }

    /// What was found, once nobody waits for more: a file that ends within a line is broken now.
    ///
    /// # Errors
    /// When a file cannot be read.
    pub fn into_report(mut self) -> Result<Report> {
        self.files.report_torn(&mut self.ledger)?;
        Ok(self.latencies.into_report(&self.ledger))
    }
}

#[derive(Debug)]
struct Files {
    root: PathBuf,
    read: BTreeMap<PathBuf, Progress>,
    chunk: Vec<u8>,
}

/// Files are opened only to read what is new, so that thousands of them can be followed.
#[derive(Debug, Default)]
struct Progress {
    tenant: String,
    /// Behind the last line that was whole.
    offset: u64,
    order: Order,
}

impl Files {
    /// Hands over every line that is new, with its tenant. Returns how many.
    fn read_new(&mut self, mut each: impl FnMut(&str, &[u8], &mut Order)) -> Result<u64> {
        let mut lines = 0;
        for Found { tenant, path, len } in jsonl_files(&self.root)? {
            let new = || Progress { tenant: tenant.clone(), ..Progress::default() };
            let progress = self.read.entry(path.clone()).or_insert_with(new);
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
#[derive(Debug, Default)]
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

    fn into_report(self, ledger: &Ledger) -> Report {
        Report {
            latency: Some(self.all.summary()),
            latency_by_namespace: self.by_namespace.into_iter().map(|(name, all)| (name, all.summary())).collect(),
            ..ledger.report()
        }
    }
}
