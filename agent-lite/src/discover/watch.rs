//! inotify on directories (never on files: a write is no event here).

use std::collections::{HashMap, HashSet};
use std::io;
use std::path::{Path, PathBuf};

use futures_util::StreamExt as _;
use inotify::{EventMask, EventStream, Inotify, WatchDescriptor, WatchMask, Watches};

/// What an event says.
#[derive(Debug, PartialEq, Eq)]
pub enum Hint {
    /// Something changed in this directory.
    Changed(PathBuf),
    /// Events were lost: look everywhere.
    Overflow,
}

#[derive(Debug)]
pub(super) struct Watcher {
    inotify: Option<Handle>,
    paths: HashMap<WatchDescriptor, PathBuf>,
    watched: HashMap<PathBuf, WatchDescriptor>,
    /// Directories seen by the scan under way.
    swept: HashSet<PathBuf>,
    /// A watch was refused in the last sweep.
    refused: bool,
}

#[derive(Debug)]
struct Handle {
    watches: Watches,
    events: EventStream<Vec<u8>>,
}

impl Watcher {
    pub(super) fn new(root: &Path) -> Self {
        let inotify = Inotify::init().and_then(|inotify| {
            let watches = inotify.watches();
            Ok(Handle { watches, events: inotify.into_event_stream(vec![0; 16 * 1024])? })
        });
        let inotify = inotify
            .inspect_err(|error| {
                tracing::warn!(
                    root = %root.display(), %error,
                    "inotify is not available, looking for files by scan alone; raise fs.inotify.max_user_instances"
                );
            })
            .ok();
        Self { inotify, paths: HashMap::new(), watched: HashMap::new(), swept: HashSet::new(), refused: false }
    }

    pub(super) fn is_complete(&self) -> bool {
        self.inotify.is_some() && !self.refused
    }

    pub(super) fn count(&self) -> usize {
        self.watched.len()
    }

    pub(super) fn is_watched(&self, path: &Path) -> bool {
        self.watched.contains_key(path)
    }

    pub(super) fn begin_sweep(&mut self) {
        self.swept.clear();
        self.refused = false;
    }

    /// Forgets the directories that the sweep did not meet.
    pub(super) fn end_sweep(&mut self) {
        let swept = std::mem::take(&mut self.swept);
        let gone: Vec<PathBuf> = self.watched.keys().filter(|path| !swept.contains(*path)).cloned().collect();
        for path in gone {
            self.forget(&path);
        }
    }

    pub(super) fn watch(&mut self, path: &Path) {
        self.swept.insert(path.to_owned());
        let Some(handle) = &mut self.inotify else { return };
        if self.watched.contains_key(path) {
            return;
        }
        let mask =
            WatchMask::CREATE | WatchMask::MOVED_TO | WatchMask::MOVED_FROM | WatchMask::DELETE | WatchMask::ONLYDIR;
        match handle.watches.add(path, mask) {
            Ok(descriptor) => {
                // The kernel gives one descriptor for one directory: an older path of it is stale.
                if let Some(stale) = self.paths.insert(descriptor.clone(), path.to_owned()) {
                    self.watched.remove(&stale);
                }
                self.watched.insert(path.to_owned(), descriptor);
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => {
                if !self.refused {
                    tracing::warn!(
                        path = %path.display(), %error,
                        "no inotify watch to be had, scanning more often; raise fs.inotify.max_user_watches"
                    );
                }
                self.refused = true;
            }
        }
    }

    fn forget(&mut self, path: &Path) {
        if let Some(descriptor) = self.watched.remove(path) {
            self.paths.remove(&descriptor);
            if let Some(handle) = &mut self.inotify {
                // Fails for a directory that is gone: the kernel has dropped its watch already.
                let _ = handle.watches.remove(descriptor);
            }
        }
    }

    pub(super) async fn hint(&mut self) -> Hint {
        loop {
            let Some(handle) = &mut self.inotify else {
                return std::future::pending().await;
            };
            match handle.events.next().await {
                Some(Ok(event)) if event.mask.contains(EventMask::Q_OVERFLOW) => return Hint::Overflow,
                Some(Ok(event)) if event.mask.contains(EventMask::IGNORED) => {
                    if let Some(path) = self.paths.remove(&event.wd) {
                        self.watched.remove(&path);
                    }
                }
                Some(Ok(event)) => {
                    if let Some(path) = self.paths.get(&event.wd) {
                        return Hint::Changed(path.clone());
                    }
                }
                Some(Err(error)) => {
                    tracing::warn!(%error, "inotify failed, looking for files by scan alone");
                    self.inotify = None;
                }
                None => self.inotify = None,
            }
        }
    }
}
