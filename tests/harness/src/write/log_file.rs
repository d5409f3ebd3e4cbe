//! A container's log file, rotated as the kubelet and the runtime do it between them.
//!
//! The kubelet renames `0.log` and asks the runtime to reopen. Until the runtime does, there is no `0.log`
//! and lines go on into the renamed file. At each rotation the kubelet also thins out the older files.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write as _},
    path::{Path, PathBuf},
    sync::mpsc::{Receiver, Sender, channel},
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use flate2::{Compression, write::GzEncoder};
use jiff::Timestamp;

use crate::error::{At, Result};

#[derive(Debug, Clone, Default)]
pub struct Rotation {
    /// Rotate a file that is this old.
    pub every: Option<Duration>,
    /// Rotate a file that is this large.
    pub bytes: Option<u64>,
    /// From the renaming to the reopening.
    pub gap: Duration,
    /// Split a line over the reopening: a short P ends the old file, the rest opens the new one.
    pub cut: bool,
    /// Rotated files that are kept, at least one; None keeps all.
    pub keep: Option<usize>,
    /// Compress rotated files but the newest.
    pub gzip: bool,
}

#[derive(Debug)]
pub(crate) struct LogFile {
    path: PathBuf,
    file: File,
    bytes: u64,
    opened: Instant,
    /// Set while there is no file under `path`.
    renamed: Option<Instant>,
}

/// What a rotation asks of the writer just now.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Due {
    Nothing,
    Rename,
    Reopen,
}

impl LogFile {
    pub(crate) fn create(path: PathBuf) -> Result<Self> {
        if let Some(dir) = path.parent() {
            fs::create_dir_all(dir).at(dir)?;
        }
        let file = open(&path)?;
        Ok(Self { path, file, bytes: 0, opened: Instant::now(), renamed: None })
    }

    pub(crate) fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.bytes += bytes.len() as u64;
        self.file.write_all(bytes).at(&self.path)
    }

    pub(crate) fn due(&self, rotation: &Rotation, now: Instant) -> Due {
        if let Some(since) = self.renamed {
            return if now.duration_since(since) >= rotation.gap { Due::Reopen } else { Due::Nothing };
        }
        let old = rotation.every.is_some_and(|age| now.duration_since(self.opened) >= age);
        let large = rotation.bytes.is_some_and(|limit| self.bytes >= limit);
        if self.bytes > 0 && (old || large) { Due::Rename } else { Due::Nothing }
    }

    /// The kubelet's half. Its names tell seconds apart, and it never comes twice within one; a second
    /// rotation within the same second is put off, since it would overwrite the first.
    pub(crate) fn rename(&mut self, now: Instant, kubelet: &Kubelet, rotation: &Rotation) -> Result<()> {
        let stamp = Timestamp::now().strftime("%Y%m%d-%H%M%S").to_string();
        let rotated = self.path.with_added_extension(stamp);
        if rotated.exists() || rotated.with_added_extension("gz").exists() {
            return Ok(());
        }
        kubelet.thin_out(&self.path, rotation);
        fs::rename(&self.path, &rotated).at(&self.path)?;
        self.renamed = Some(now);
        Ok(())
    }

    pub(crate) fn is_renamed(&self) -> bool {
        self.renamed.is_some()
    }

    /// The runtime's half.
    pub(crate) fn reopen(&mut self, now: Instant) -> Result<()> {
        self.file = open(&self.path)?;
        (self.bytes, self.opened, self.renamed) = (0, now, None);
        Ok(())
    }
}

fn open(path: &Path) -> Result<File> {
    OpenOptions::new().create_new(true).append(true).open(path).at(path)
}

/// The kubelet's one worker, which removes and compresses rotated files while containers go on writing.
#[derive(Debug)]
pub(crate) struct Kubelet {
    jobs: Sender<Job>,
    worker: JoinHandle<Result<()>>,
}

#[derive(Debug)]
struct Job {
    rotated: Vec<PathBuf>,
    gzip: bool,
}

impl Kubelet {
    pub(crate) fn start() -> Self {
        let (jobs, queue) = channel();
        Self { jobs, worker: thread::spawn(move || work(&queue)) }
    }

    /// Called before a renaming, as the kubelet does it: what is rotated now stays plain until the next time.
    fn thin_out(&self, live: &Path, rotation: &Rotation) {
        let mut rotated = rotated_files(live);
        // The one that is about to be made counts, too.
        let surplus = rotation.keep.map_or(0, |keep| (rotated.len() + 1).saturating_sub(keep));
        for file in rotated.drain(..surplus) {
            // It may just have got its `.gz`, or never be there again: either way it is gone.
            let _ = fs::remove_file(file.with_added_extension("gz"));
            let _ = fs::remove_file(file);
        }
        // A worker that has failed tells so when it is joined.
        let _ = self.jobs.send(Job { rotated, gzip: rotation.gzip });
    }

    pub(crate) fn finish(self) -> Result<()> {
        drop(self.jobs);
        self.worker.join().expect("the worker does not panic")
    }
}

fn work(queue: &Receiver<Job>) -> Result<()> {
    for job in queue.iter().filter(|job| job.gzip) {
        for plain in job.rotated.iter().filter(|file| file.extension().is_none_or(|ext| ext != "gz")) {
            compress(plain)?;
        }
    }
    Ok(())
}

/// In the order of their names, which is that of their age.
fn rotated_files(live: &Path) -> Vec<PathBuf> {
    let (Some(dir), Some(name)) = (live.parent(), live.file_name().and_then(|name| name.to_str())) else {
        return Vec::new();
    };
    let prefix = format!("{name}.");
    let mut files: Vec<_> = fs::read_dir(dir)
        .into_iter()
        .flatten()
        .flatten()
        .filter(|entry| entry.file_name().to_str().is_some_and(|name| name.starts_with(&prefix)))
        .map(|entry| entry.path())
        .filter(|path| path.extension().is_none_or(|ext| ext != "tmp"))
        .collect();
    files.sort();
    files
}

/// Under another name until it is whole, then the plain file goes: a new inode, as the kubelet makes it.
fn compress(plain: &Path) -> Result<()> {
    let mut from = match File::open(plain) {
        Ok(file) => file,
        // Thinned out, or compressed for an earlier job that named it, too.
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error).at(plain),
    };
    let unfinished = plain.with_added_extension("tmp");
    let mut to = GzEncoder::new(File::create(&unfinished).at(&unfinished)?, Compression::default());
    io::copy(&mut from, &mut to).at(plain)?;
    to.finish().at(&unfinished)?;
    let packed = plain.with_added_extension("gz");
    fs::rename(&unfinished, &packed).at(&packed)?;
    match fs::remove_file(plain) {
        // Thinned out meanwhile.
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        removed => removed.at(plain),
    }
}
