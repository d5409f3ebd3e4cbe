//! Which log files exist and whose they are.
//!
//! inotify says at once where to look; a scan at an interval is the truth. Events are hints: a lost
//! one costs an interval, never a file. Out of watches, the scan goes on alone, more often.

use std::collections::{HashMap, HashSet};
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

mod choose;
mod host;
pub mod layout;
mod missing;
mod watch;

pub use choose::{Choice, OwnLogs, PodRule, Treatment};
pub use host::{HostFiles, HostPath, Listings, is_rotation, rotated};
use layout::Age;
pub use layout::{Container, FileName};
pub use missing::may_be_there;
pub use watch::Hint;
use watch::Watcher;

/// Links that one after the other may lead to a log file.
const MAX_LINKS: usize = 8;

/// A container's directory as one look found it.
#[derive(Debug)]
pub struct Listing {
    /// Whose files they are.
    pub container: Container,
    /// Where they are.
    pub directory: PathBuf,
    /// Log files by attempt, rotated ones before the live one, oldest first.
    pub files: Vec<Found>,
}

/// One log file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// Attempt, and the suffix of a rotated file.
    pub name: FileName,
    /// Where it is at this moment.
    pub path: PathBuf,
}

/// Something that could not be looked at; the rest could.
#[derive(Debug)]
pub struct Unreadable {
    /// What.
    pub path: PathBuf,
    /// Why.
    pub error: io::Error,
}

/// What one look found.
#[derive(Debug, Default)]
pub struct Look {
    /// Containers looked at.
    pub containers: Vec<Listing>,
    /// What could not be looked at; what lies in it is not gone.
    pub unreadable: Vec<Unreadable>,
    /// Whether everything else was looked at: what is not in `containers` is gone.
    pub whole: bool,
}

/// Finds the log files of pods below one directory.
#[derive(Debug)]
pub struct Discovery {
    root: PathBuf,
    watcher: Watcher,
    /// Directories that links lead into, and whose container's that is: docker keeps its files elsewhere.
    links: HashMap<PathBuf, PathBuf>,
    /// The root in which pods were seen.
    mounted: Option<(u64, u64)>,
}

impl Discovery {
    /// Looks below `root`, the kubelet's `/var/log/pods`.
    #[must_use]
    pub fn new(root: &Path) -> Self {
        Self { root: root.to_owned(), watcher: Watcher::new(root), links: HashMap::new(), mounted: None }
    }

    /// How long to wait between scans: longer where inotify tells of changes. A root that is not there yet
    /// cannot be watched.
    #[must_use]
    pub fn interval(&self, configured: Duration) -> Duration {
        if self.watcher.is_complete() && self.watcher.is_watched(&self.root) {
            configured
        } else {
            configured.min(Duration::from_secs(1))
        }
    }

    /// Directories watched, and whether all could be.
    #[must_use]
    pub fn watches(&self) -> (usize, bool) {
        (self.watcher.count(), self.watcher.is_complete())
    }

    /// Waits for a hint. Cancel safe.
    pub async fn hint(&mut self) -> Hint {
        self.watcher.hint().await
    }

    /// Looks everywhere.
    pub fn scan(&mut self) -> Look {
        let mut look = Look { whole: true, ..Look::default() };
        self.watcher.begin_sweep();
        self.links.clear();
        self.watcher.watch(&self.root);
        let pods = directories(&self.root, &mut look);
        if !pods.is_empty() {
            self.mounted = identity(&self.root);
        }
        for pod in pods {
            self.look_at_pod(&pod, &mut look);
        }
        self.watcher.end_sweep();
        look
    }

    /// Whether the root is the directory in which a scan has seen pods: if it is empty, the last one is gone.
    #[must_use]
    pub fn is_mounted(&self) -> bool {
        self.mounted.is_some() && identity(&self.root) == self.mounted
    }

    /// Looks where hints point.
    pub fn look_at(&mut self, hints: &HashSet<PathBuf>) -> Look {
        let mut look = Look::default();
        let hints: HashSet<PathBuf> = hints.iter().map(|path| self.links.get(path).unwrap_or(path).clone()).collect();
        for path in &hints {
            match path.strip_prefix(&self.root).map(|rest| rest.components().count()) {
                Ok(0) => {
                    for pod in directories(&self.root, &mut look) {
                        if !self.watcher.is_watched(&pod) {
                            self.look_at_pod(&pod, &mut look);
                        }
                    }
                }
                Ok(1) => self.look_at_pod(path, &mut look),
                Ok(2) => {
                    if let Some(pod) = path.parent().and_then(layout::Pod::of) {
                        self.look_at_container(&pod, path, &mut look);
                    }
                }
                _ => {}
            }
        }
        look
    }

    fn look_at_pod(&mut self, path: &Path, look: &mut Look) {
        let Some(pod) = layout::Pod::of(path) else { return };
        // Watched before it is listed, so that what comes in between is hinted at.
        self.watcher.watch(path);
        for container in directories(path, look) {
            self.look_at_container(&pod, &container, look);
        }
    }

    fn look_at_container(&mut self, pod: &layout::Pod, path: &Path, look: &mut Look) {
        let Some(container) = pod.container(path) else { return };
        self.watcher.watch(path);
        let Some(entries) = entries(path, look) else { return };
        let mut files = Vec::new();
        for entry in entries {
            if let Some(name) = entry.file_name().to_str().and_then(FileName::parse) {
                if name.age == Age::Live && entry.file_type().is_ok_and(|kind| kind.is_symlink()) {
                    self.look_beside_target(&entry.path(), name.attempt, &mut files, look);
                }
                files.push(Found { name, path: entry.path() });
            }
        }
        files.sort_by(|a, b| a.name.cmp(&b.name));
        look.containers.push(Listing { container, directory: path.to_owned(), files });
    }

    /// Finds what the file was that a link leads to. A compressed one beside the one it is made of may be half
    /// written: that one is what there is.
    fn look_beside_target(&mut self, link: &Path, attempt: u32, files: &mut Vec<Found>, look: &mut Look) {
        let Some(target) = target_of(link) else { return };
        let (Some(directory), Some(live)) = (target.parent(), target.file_name().and_then(|name| name.to_str())) else {
            return;
        };
        if let Some(container) = link.parent() {
            self.watcher.watch(directory);
            self.links.insert(directory.to_owned(), container.to_owned());
        }
        let sibling = |entry: fs::DirEntry| {
            let name = FileName::of_sibling(live, entry.file_name().to_str()?, attempt)?;
            Some(Found { name, path: entry.path() })
        };
        let found: Vec<Found> = entries(directory, look).into_iter().flatten().filter_map(sibling).collect();
        let is_plain = |name: &FileName| found.iter().any(|other| other.name.age == name.age && !other.name.compressed);
        files.extend(found.iter().filter(|file| !file.name.compressed || !is_plain(&file.name)).cloned());
    }
}

/// What tells a directory from another one at its path.
fn identity(path: &Path) -> Option<(u64, u64)> {
    path.metadata().ok().map(|metadata| (metadata.dev(), metadata.ino()))
}

/// Where a link leads to in the end, whether anything is there or not: while a file is rotated there is none.
fn target_of(link: &Path) -> Option<PathBuf> {
    let mut path = link.to_owned();
    for _ in 0..MAX_LINKS {
        match fs::read_link(&path) {
            Ok(next) => path = path.parent()?.join(next),
            Err(_) => return Some(path),
        }
    }
    None
}

/// What is in `path`; `None`, noted: it cannot be listed.
fn entries(path: &Path, look: &mut Look) -> Option<Vec<fs::DirEntry>> {
    match fs::read_dir(path).and_then(Iterator::collect) {
        Ok(entries) => Some(entries),
        // Gone since its parent was listed: an everyday race.
        Err(error) if error.kind() == io::ErrorKind::NotFound => Some(Vec::new()),
        Err(error) => {
            look.unreadable.push(Unreadable { path: path.to_owned(), error });
            None
        }
    }
}

/// Directories in `path`; a symlink to one counts (docker keeps its files elsewhere).
fn directories(path: &Path, look: &mut Look) -> Vec<PathBuf> {
    let mut directories = Vec::new();
    for path in entries(path, look).into_iter().flatten().map(|entry| entry.path()) {
        match fs::metadata(&path) {
            Ok(metadata) if metadata.is_dir() => directories.push(path),
            Err(error) if error.kind() != io::ErrorKind::NotFound => look.unreadable.push(Unreadable { path, error }),
            _ => {}
        }
    }
    directories
}

#[cfg(test)]
mod tests;
