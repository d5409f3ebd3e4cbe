//! The node that agents are measured on: a hundred containers whose lines carry about 400 bytes of metadata
//! once they are records.

use std::{
    fs::{self, File},
    io,
    path::Path,
};

use sluice_harness::{
    manifest::Manifest,
    shape::Mix,
    write::{self, Config, Pod},
};

use crate::{
    error::{At as _, Result},
    progress::Progress,
};

pub(crate) const CONTAINERS: u32 = 100;
pub(crate) const NAMESPACES: u32 = 50;
/// Bytes of a line in its file: with the runtime's time, stream and tag, and the newline.
pub(crate) const LINE_BYTES: u64 = 211;

// As long as names are in practice; the sink tells what they come to in a record.
pub(crate) const CLUSTER: &str = "production-eu-central-1-payments-platform-blue";
pub(crate) const ENVIRONMENT: &str = "production-eu-central-1";
pub(crate) const NODE: &str = "ip-10-212-117-204.eu-central-1.compute.internal";

/// What the writer is to do, but for how much and how fast.
pub(crate) fn writer(root: &Path, namespaces: u32, text_bytes: usize) -> Config {
    Config {
        namespaces: self::namespaces(namespaces).collect(),
        containers: CONTAINERS,
        cluster: CLUSTER.to_owned(),
        environment: ENVIRONMENT.to_owned(),
        mix: Mix { json: 0.6, odd: 0.1, partial: 0.0, zoned: 0.0, line_size: text_bytes, ..Mix::default() },
        ..Config::new(root)
    }
}

pub(crate) fn namespaces(count: u32) -> impl Iterator<Item = String> {
    (0..count).map(|n| format!("team-payments-settlement-service-{n:02}"))
}

/// Pods whose lines have what agents are asked to look for: one in a hundred a secret, one in a hundred of those
/// that are not JSON an exception with twelve frames.
pub(crate) fn agents_writer(root: &Path, pods: &[Pod], text_bytes: usize) -> Config {
    let config = writer(root, NAMESPACES, text_bytes);
    Config { pods: pods.to_vec(), mix: Mix { secrets: 0.01, traces: 0.01, ..config.mix }, ..config }
}

/// Finds how long a line's text must be for a mean of [`LINE_BYTES`] over `lines`: the rest of a line is the
/// runtime's and the JSON around it, and of `traces`. Tries it with one container of the hundred, since numbers in
/// lines grow.
pub(crate) fn text_bytes(scratch: &Path, lines: u64, traces: bool) -> Result<usize> {
    const FIRST_GUESS: u64 = 120;
    /// So many that the mean is not the chance of one trace more or less.
    const LEAST: u64 = 10_000;
    let root = scratch.join("trial");
    let lines = Some(lines.div_ceil(CONTAINERS.into()).max(LEAST));
    let of =
        if traces { agents_writer(&root, &[], to_usize(FIRST_GUESS)) } else { writer(&root, 1, to_usize(FIRST_GUESS)) };
    let trial = Config { lines, containers: 1, ..of };
    let manifest = write::run(&trial)?;
    fs::remove_dir_all(&root).at(&root)?;
    let mean = (manifest.cri_bytes + manifest.lines() / 2) / manifest.lines();
    Ok(to_usize((FIRST_GUESS + LINE_BYTES).saturating_sub(mean)))
}

/// Writes about `bytes` as fast as it goes, and reads them once, so that they are in the page cache.
pub(crate) fn write_files(root: &Path, pods: &[Pod], bytes: u64) -> Result<Manifest> {
    let progress = Progress::of(format!("writing {} MB of log files", bytes / 1_000_000));
    let lines = bytes / LINE_BYTES;
    let text_bytes = text_bytes(root, lines, true)?;
    let manifest = write::run(&Config { lines: Some(lines), ..agents_writer(root, pods, text_bytes) })?;
    warm(root)?;
    let mean = manifest.cri_bytes as f64 / manifest.lines() as f64;
    progress.done(&format!("{} lines, {} bytes, {mean:.1} bytes a line", manifest.lines(), manifest.cri_bytes));
    Ok(manifest)
}

fn warm(dir: &Path) -> Result<()> {
    for entry in fs::read_dir(dir).at(dir)? {
        let path = entry.at(dir)?.path();
        if path.is_dir() {
            warm(&path)?;
        } else {
            let mut file = File::open(&path).at(&path)?;
            io::copy(&mut file, &mut io::sink()).at(&path)?;
        }
    }
    Ok(())
}

fn to_usize(n: u64) -> usize {
    usize::try_from(n).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_have_the_size_that_is_asked_for() {
        let dir = tempfile::tempdir().unwrap();
        let manifest = write_files(dir.path(), &[], 4_220_000).unwrap();
        assert_eq!(manifest.lines(), 20_000);
        assert!((209..=213).contains(&(manifest.cri_bytes / manifest.lines())), "{}", manifest.cri_bytes);
        assert_eq!(manifest.sources.len(), 100);
    }
}
