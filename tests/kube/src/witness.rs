//! An independent witness of what reached the disk: it links every log file as soon as it exists, so that what the
//! kubelet compresses, rotates away or removes stays readable, and it notes when each file went, and how.
//!
//! Because of its links no inode is given to another file while it watches, and what it links takes room until it is
//! dropped: all that was written.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::thread::JoinHandle;

use anyhow::{Context as _, Result, ensure};
use futures_util::StreamExt as _;
use inotify::{EventMask, EventStream, Inotify, WatchDescriptor, WatchMask, Watches};
use sluice_harness::latency::now_ns;
use tempfile::TempDir;
use tokio::sync::oneshot;

use crate::disk::Log;

/// A log file that was there.
#[derive(Debug, Clone)]
pub struct Seen {
    /// `<namespace>_<pod>_<uid>`.
    pub pod: String,
    /// The container's directory.
    pub container: String,
    /// What it was called last while it was a plain file: `0.log`, `0.log.<time>`.
    pub name: String,
    /// Where it can be read now.
    pub link: PathBuf,
    /// When it was linked, in Unix nanoseconds: a moment after it was made.
    pub seen_at: u64,
    /// When its plain form went, in Unix nanoseconds; `None`: it is there still.
    pub gone_at: Option<u64>,
    /// Before that, its bytes were put into a `.gz`.
    pub compressed: bool,
    /// When the `.gz` went, too.
    pub gz_gone_at: Option<u64>,
}

impl Seen {
    /// Whether it is of that container, whichever attempt.
    #[must_use]
    pub fn is_of(&self, log: &Log) -> bool {
        self.container == log.container && self.pod == format!("{}_{}_{}", log.namespace, log.pod, log.uid)
    }
}

/// What a witness saw.
#[derive(Debug, Default)]
pub struct Testimony {
    /// Every log file.
    pub files: Vec<Seen>,
    /// What it may have missed; empty, or its word is worth nothing.
    pub doubts: Vec<String>,
}

/// A thread that watches and links.
#[derive(Debug)]
pub struct Witness {
    /// Always there but while being dropped.
    links: Option<TempDir>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<Result<Testimony>>>,
}

impl Witness {
    /// Watches `pods`, which need not be empty. The links are in a new directory beside it.
    ///
    /// # Errors
    /// It cannot be watched.
    pub fn start(pods: &Path) -> Result<Self> {
        fs::create_dir_all(pods)?;
        let beside = pods.parent().context("a directory beside the logs, for links do not cross file systems")?;
        let links = tempfile::Builder::new().prefix("sluice-witness-").tempdir_in(beside)?;
        let (stop, stopped) = oneshot::channel();
        let inotify = Inotify::init()?;
        let mut watch = Watch::new(pods, links.path().to_owned(), inotify.watches())?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let watching = async move {
            let mut events = inotify.into_event_stream(vec![0; 64 * 1024])?;
            tokio::select! {
                result = watch.run(&mut events) => result?,
                _ = stopped => {}
            }
            // What came between the last event and now.
            watch.look_everywhere();
            Ok(watch.testimony)
        };
        let thread =
            std::thread::Builder::new().name("witness".to_owned()).spawn(move || runtime.block_on(watching))?;
        Ok(Self { links: Some(links), stop: Some(stop), thread: Some(thread) })
    }

    /// What it saw. Its links stay until it is dropped.
    ///
    /// # Errors
    /// It could not watch to the end.
    ///
    /// # Panics
    /// When asked twice.
    pub fn testify(&mut self) -> Result<Testimony> {
        drop(self.stop.take());
        let thread = self.thread.take().expect("asked once");
        thread.join().map_err(|_| anyhow::anyhow!("the witness panicked"))?
    }
}

impl Drop for Witness {
    fn drop(&mut self) {
        if let Some(links) = self.links.take().filter(|_| std::thread::panicking()) {
            eprintln!("what was on the disk is kept in {}", links.keep().display());
        }
    }
}

/// A directory that is watched.
#[derive(Debug, Clone)]
struct Directory {
    path: PathBuf,
    depth: Depth,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Depth {
    Pods,
    Pod,
    Container,
}

#[derive(Debug)]
struct Watch {
    links: PathBuf,
    watches: Watches,
    directories: HashMap<WatchDescriptor, Directory>,
    /// Index in the testimony of each inode.
    inodes: HashMap<u64, usize>,
    /// Which inode was last seen where.
    paths: HashMap<PathBuf, u64>,
    /// Files between the two halves of a renaming, by its cookie.
    moving: HashMap<u32, u64>,
    /// Which plain file's bytes a `.gz` has.
    compressed: HashMap<PathBuf, usize>,
    testimony: Testimony,
}

impl Watch {
    fn new(pods: &Path, links: PathBuf, watches: Watches) -> Result<Self> {
        let mut watch = Self {
            links,
            watches,
            directories: HashMap::new(),
            inodes: HashMap::new(),
            paths: HashMap::new(),
            moving: HashMap::new(),
            compressed: HashMap::new(),
            testimony: Testimony::default(),
        };
        watch.enter(&Directory { path: pods.to_owned(), depth: Depth::Pods });
        ensure!(watch.testimony.doubts.is_empty(), "{}: {:?}", pods.display(), watch.testimony.doubts);
        Ok(watch)
    }

    async fn run(&mut self, events: &mut EventStream<Vec<u8>>) -> Result<()> {
        while let Some(event) = events.next().await {
            let event = event?;
            if event.mask.contains(EventMask::Q_OVERFLOW) {
                self.testimony.doubts.push("events were lost".to_owned());
                self.look_everywhere();
            }
            // A directory that went has no entry any more.
            let (Some(directory), Some(name)) = (self.directories.get(&event.wd).cloned(), event.name) else {
                continue;
            };
            let path = directory.path.join(&name);
            if event.mask.contains(EventMask::ISDIR) {
                if event.mask.intersects(EventMask::CREATE | EventMask::MOVED_TO) {
                    self.enter_below(&directory, path);
                }
            } else if directory.depth == Depth::Container {
                self.file_event(&path, event.mask, event.cookie);
            }
        }
        anyhow::bail!("there are no more events")
    }

    fn file_event(&mut self, path: &Path, mask: EventMask, cookie: u32) {
        if is_transient(path) && !mask.contains(EventMask::MOVED_TO) {
            return;
        }
        if mask.contains(EventMask::CREATE) {
            self.see(path, None);
        } else if mask.contains(EventMask::MOVED_FROM) {
            if let Some(inode) = self.paths.remove(path) {
                self.moving.insert(cookie, inode);
            }
        } else if mask.contains(EventMask::MOVED_TO) {
            let inode = self.moving.remove(&cookie);
            self.see(path, inode);
        } else if mask.contains(EventMask::DELETE) {
            self.gone(path);
        }
    }

    /// A file is at `path`; `moved`: this one, if it is there no more.
    fn see(&mut self, path: &Path, moved: Option<u64>) {
        if is_transient(path) {
            return;
        }
        if let Some(plain) = plain_of(path) {
            self.see_compressed(path, &plain);
            return;
        }
        let inode = match fs::symlink_metadata(path) {
            Ok(metadata) if metadata.is_file() => metadata.ino(),
            Ok(_) => return,
            Err(_) => match moved {
                Some(inode) => inode,
                // If it was renamed, it is seen under its next name; if not, its end says so.
                None => return,
            },
        };
        if !self.inodes.contains_key(&inode) && !self.link(path, inode) {
            return;
        }
        self.paths.insert(path.to_owned(), inode);
        self.testimony.files[self.inodes[&inode]].name = file_name(path);
    }

    /// False when the file was gone before.
    fn link(&mut self, path: &Path, inode: u64) -> bool {
        let link = self.links.join(inode.to_string());
        if fs::hard_link(path, &link).is_err() {
            return false;
        }
        // Renamed in between, another file may be there now.
        let linked = fs::symlink_metadata(&link).map(|metadata| metadata.ino());
        if linked.ok() != Some(inode) {
            let _ = fs::remove_file(&link);
            return false;
        }
        let container = path.parent().unwrap_or(path);
        self.inodes.insert(inode, self.testimony.files.len());
        self.testimony.files.push(Seen {
            pod: file_name(container.parent().unwrap_or(path)),
            container: file_name(container),
            name: file_name(path),
            link,
            seen_at: now_ns(),
            gone_at: None,
            compressed: false,
            gz_gone_at: None,
        });
        true
    }

    fn see_compressed(&mut self, path: &Path, plain: &Path) {
        if self.compressed.contains_key(path) {
            return;
        }
        // Seen in a directory, not by its event, the plain file may have gone already.
        let inode = self.paths.get(plain);
        let Some(index) = inode.and_then(|inode| self.inodes.get(inode)).copied() else {
            self.testimony.doubts.push(format!("{}: of no file that was seen", path.display()));
            return;
        };
        self.testimony.files[index].compressed = true;
        self.compressed.insert(path.to_owned(), index);
    }

    fn gone(&mut self, path: &Path) {
        if let Some(index) = self.compressed.remove(path) {
            self.testimony.files[index].gz_gone_at = Some(now_ns());
        } else if let Some(inode) = self.paths.remove(path) {
            self.testimony.files[self.inodes[&inode]].gone_at = Some(now_ns());
        } else {
            self.testimony.doubts.push(format!("{}: gone before it was linked", path.display()));
        }
    }

    fn enter_below(&mut self, parent: &Directory, path: PathBuf) {
        let depth = match parent.depth {
            Depth::Pods => Depth::Pod,
            Depth::Pod => Depth::Container,
            Depth::Container => return,
        };
        self.enter(&Directory { path, depth });
    }

    /// Watches a directory and looks at what is in it already.
    fn enter(&mut self, directory: &Directory) {
        let mask = WatchMask::CREATE | WatchMask::MOVED_FROM | WatchMask::MOVED_TO | WatchMask::DELETE;
        match self.watches.add(&directory.path, mask | WatchMask::ONLYDIR) {
            Ok(descriptor) => {
                self.directories.insert(descriptor, directory.clone());
                self.look_into(directory);
            }
            // One that held a log would have said so by an event of its parent's.
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => self.testimony.doubts.push(format!("{}: {error}", directory.path.display())),
        }
    }

    fn look_into(&mut self, directory: &Directory) {
        for entry in fs::read_dir(&directory.path).into_iter().flatten().flatten() {
            if directory.depth == Depth::Container {
                self.see(&entry.path(), None);
            } else if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                self.enter_below(directory, entry.path());
            }
        }
    }

    fn look_everywhere(&mut self) {
        let directories: Vec<Directory> = self.directories.values().cloned().collect();
        for directory in directories {
            self.look_into(&directory);
        }
    }
}

/// What the kubelet and runtimes write before they rename it.
fn is_transient(path: &Path) -> bool {
    path.extension() == Some(OsStr::new("tmp"))
}

/// The file whose bytes a `.gz` has.
fn plain_of(path: &Path) -> Option<PathBuf> {
    (path.extension() == Some(OsStr::new("gz"))).then(|| path.with_extension(""))
}

fn file_name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::*;

    /// Waits for the witness to have caught up: it links a file that is made last.
    fn catch_up(witness: &Witness, container: &Path) {
        let last = container.join("9.log");
        fs::write(&last, "last").expect("written");
        let start = Instant::now();
        while fs::metadata(&last).expect("there").nlink() < 2 {
            assert!(start.elapsed() < Duration::from_secs(10), "{witness:?}");
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    #[test]
    fn what_the_kubelet_does_to_files_is_seen_and_their_bytes_stay() {
        let root = TempDir::new().expect("a directory");
        let pods = root.path().join("pods");
        let mut witness = Witness::start(&pods).expect("a witness");
        let container = pods.join("ns_pod_uid/c");
        fs::create_dir_all(&container).expect("made");
        let live = container.join("0.log");
        fs::write(&live, "first").expect("written");
        catch_up(&witness, &container);
        let rotated = container.join("0.log.20260101-000000");
        fs::rename(&live, &rotated).expect("renamed");
        fs::write(&live, "second").expect("written");
        fs::write(container.join("x.tmp"), "gz").expect("written");
        fs::rename(container.join("x.tmp"), container.join("0.log.20260101-000000.gz")).expect("renamed");
        fs::remove_file(&rotated).expect("removed");
        fs::remove_file(container.join("9.log")).expect("removed");
        catch_up(&witness, &container);
        fs::remove_dir_all(&pods).expect("removed");
        let testimony = witness.testify().expect("a testimony");
        assert_eq!(testimony.doubts, [""; 0]);
        let read = |name: &str| {
            let seen = testimony.files.iter().find(|seen| seen.name == name).expect("seen");
            (fs::read_to_string(&seen.link).expect("linked"), seen.compressed, seen.gone_at.is_some())
        };
        assert_eq!(read("0.log.20260101-000000"), ("first".to_owned(), true, true));
        assert_eq!((&*read("0.log").0, read("0.log").1), ("second", false));
    }
}
