//! The files themselves: which grows for whom, how long it is, when the next one begins.

use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use sluice_durable_log::io::{Access, File, Files, Lock};
use sluice_wire::{Category, time};

use super::state::{Growing, State, VERSION};

/// Files that are held open.
const MAX_HANDLES: usize = 64;
/// Files that may grow: beyond it the one that rested longest is taken for finished.
const MAX_GROWING: usize = 1024;
const DAY_SECONDS: i64 = 86_400;
/// Says which tree a directory holds. No tenant can have a name with a `+` in it.
const MARKER: &str = ".sluice+tree";
/// Held by whoever writes into the directory.
const LOCK: &str = ".sluice+lock";

/// Why the directory cannot be brought to what the state says.
#[derive(Debug, thiserror::Error)]
pub(in crate::deliver) enum OpenError {
    #[error("cannot {action} {file}", file = file.display())]
    File { action: &'static str, file: PathBuf, source: io::Error },
    #[error("somebody else writes into {directory}: give each destination a directory of its own", directory = directory.display())]
    InUse { directory: PathBuf, source: io::Error },
    #[error(
        "the file destination's saved state cannot be read (version {VERSION} is known); start the newer program, or remove its cursor to deliver what the journal holds again"
    )]
    State(#[source] serde_json::Error),
    #[error(
        "the file destination's saved state has version {0}, this program knows {VERSION}; start the newer program"
    )]
    Version(u32),
}

/// Why a batch was not appended; nothing of it counts.
#[derive(Debug, thiserror::Error)]
pub(super) enum AppendError {
    #[error("cannot {action} {file}: {source}", file = file.display())]
    File { action: &'static str, file: PathBuf, source: io::Error },
    #[error("tenant {0:?} is no name of a directory")]
    Tenant(Arc<str>),
}

fn failed(action: &'static str, file: &Path) -> impl FnOnce(io::Error) -> AppendError {
    move |source| AppendError::File { action, file: file.into(), source }
}

type Key = (Arc<str>, Category);

/// See the module.
pub(super) struct Tree {
    files: Arc<dyn Files>,
    directory: PathBuf,
    max_file_bytes: u64,
    /// What the directory's marker says. Random, and another one whenever the directory is begun anew: so a
    /// saved state is never taken for that of files which somebody else wrote since.
    id: String,
    next: u64,
    growing: HashMap<Key, Current>,
    /// Counts appends, to tell what rested longest.
    clock: u64,
    _lock: Box<dyn Lock>,
}

struct Current {
    name: String,
    path: PathBuf,
    length: u64,
    day: i64,
    /// Open, and exactly `length` long.
    handle: Option<Box<dyn File>>,
    used: u64,
}

/// A file that is being appended to.
pub(super) struct Appending<'a> {
    file: &'a dyn File,
    length: u64,
}

impl Appending<'_> {
    pub(super) fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.file.write_all_at(bytes, self.length)?;
        self.length += bytes.len() as u64;
        Ok(())
    }
}

impl Tree {
    pub(super) fn open(
        files: Arc<dyn Files>,
        directory: &Path,
        max_file_bytes: u64,
        state: Option<&[u8]>,
    ) -> Result<Self, OpenError> {
        let failed = |action, file: &Path| {
            let file = file.to_path_buf();
            move |source| OpenError::File { action, file, source }
        };
        files.create_dir(directory).map_err(failed("create", directory))?;
        let lock_file = directory.join(LOCK);
        let lock = files.lock(&lock_file).map_err(|source| match source.kind() {
            io::ErrorKind::WouldBlock => OpenError::InUse { directory: directory.into(), source },
            _ => failed("lock", &lock_file)(source),
        })?;
        let mut this = Self {
            files,
            directory: directory.into(),
            max_file_bytes,
            id: String::new(),
            next: 0,
            growing: HashMap::new(),
            clock: 0,
            _lock: lock,
        };
        let state = state.filter(|state| !state.is_empty());
        let state: Option<State> = state.map(serde_json::from_slice).transpose().map_err(OpenError::State)?;
        if let Some(state) = state.as_ref().filter(|state| !(1..=VERSION).contains(&state.version)) {
            return Err(OpenError::Version(state.version));
        }
        let marker = directory.join(MARKER);
        let marked = this.read_marker(&marker).map_err(failed("read", &marker))?;
        let found = this.numbered()?;
        let state = match state {
            Some(state) if !state.tree.is_empty() && marked.as_ref() == Some(&state.tree) => state,
            other => {
                // Whatever is here is not ours to cut or remove.
                if other.is_some() {
                    tracing::warn!(directory = %directory.display(), "the saved state is about another directory, or what was in it was exchanged; nothing here is cut or removed");
                }
                this.id = format!("{:032x}", rand::random::<u128>());
                this.write_marker(&marker).map_err(failed("write", &marker))?;
                this.next = found.iter().map(|(number, _)| number.saturating_add(1)).max().unwrap_or(0);
                return Ok(this);
            }
        };
        this.id = state.tree;
        this.next = state.next;
        for (_, path) in found.iter().filter(|(number, _)| *number >= state.next) {
            tracing::info!(file = %path.display(), "removed a file that is newer than the saved state; its entries come again");
            this.files.unlink(path).map_err(failed("remove", path))?;
            // Its number is given out again: were it to come back after a crash, it would pass for older.
            let dir = path.parent().unwrap_or(directory);
            this.files.sync_dir(dir).map_err(failed("sync", dir))?;
        }
        for growing in state.files {
            let path = this.directory.join(&growing.tenant).join(&growing.category).join(&growing.name);
            let Some(category) = Category::ALL.into_iter().find(|category| category.word() == growing.category) else {
                continue;
            };
            match this.cut(&path, growing.length) {
                Ok(true) => {
                    let Growing { name, length, day, .. } = growing;
                    let current = Current { name, path, length, day, handle: None, used: 0 };
                    this.growing.insert((growing.tenant.into(), category), current);
                }
                Ok(false) => {
                    tracing::error!(file = %path.display(), saved = growing.length, "a delivered file is shorter than it was, or gone; the next lines go to a new one");
                }
                Err(error) => return Err(failed("cut", &path)(error)),
            }
        }
        Ok(this)
    }

    /// Cuts a file to `length`; false if it is not that long.
    fn cut(&self, path: &Path, length: u64) -> io::Result<bool> {
        let file = match self.files.open(path, Access::Write) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
            Err(error) => return Err(error),
        };
        let size = file.size()?;
        if size > length {
            file.truncate(length)?;
            file.sync_data()?;
        }
        Ok(size >= length)
    }

    /// The id of the tree that the directory says it holds.
    fn read_marker(&self, path: &Path) -> io::Result<Option<String>> {
        let file = match self.files.open(path, Access::Read) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        let mut bytes = [0; 64];
        let read = file.read_full_at(&mut bytes, 0)?;
        Ok(Some(String::from_utf8_lossy(&bytes[..read]).trim().to_owned()))
    }

    /// Marks the directory, durably.
    fn write_marker(&self, path: &Path) -> io::Result<()> {
        let new = self.directory.join(format!("{MARKER}.new"));
        let file = self.files.open(&new, Access::Create)?;
        file.write_all_at(format!("{}\n", self.id).as_bytes(), 0)?;
        file.sync_data()?;
        self.files.rename(&new, path)?;
        self.files.sync_dir(&self.directory)
    }

    /// Every file of ours below the directory with its number.
    fn numbered(&self) -> Result<Vec<(u64, PathBuf)>, OpenError> {
        let list = |dir: &Path| match self.files.list(dir) {
            Ok(names) => Ok(names),
            // Nothing of ours. Any other error could hide files that are to be removed or cut.
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
                Ok(Vec::new())
            }
            Err(source) => Err(OpenError::File { action: "list", file: dir.into(), source }),
        };
        let mut found = Vec::new();
        for tenant in list(&self.directory)? {
            for category in Category::ALL {
                let dir = self.directory.join(&tenant).join(category.word());
                let names = list(&dir)?;
                found.extend(names.iter().filter_map(|name| Some((number_of(name)?, dir.join(name)))));
            }
        }
        Ok(found)
    }

    /// Appends what `write` writes, and syncs it. `now` in seconds since the epoch.
    pub(super) fn append(
        &mut self,
        tenant: &Arc<str>,
        category: Category,
        now: i64,
        write: impl FnOnce(&mut Appending<'_>) -> io::Result<()>,
    ) -> Result<(), AppendError> {
        if !is_directory_name(tenant) {
            return Err(AppendError::Tenant(Arc::clone(tenant)));
        }
        self.clock += 1;
        let key = (Arc::clone(tenant), category);
        let day = now.div_euclid(DAY_SECONDS);
        let finished = |current: &Current| current.length >= self.max_file_bytes || current.day != day;
        if self.growing.get(&key).is_none_or(finished) {
            let current = self.begin(&key, now)?;
            self.growing.insert(key.clone(), current);
        }
        self.bound();
        let clock = self.clock;
        let current = self.growing.get_mut(&key).expect("begun above, and used last");
        current.used = clock;
        let path = current.path.clone();
        // Without a handle until all is well: what fails is cut off when the file is opened next.
        let file = match current.handle.take() {
            Some(file) => file,
            None => {
                let file = self.files.open(&path, Access::Write).map_err(failed("open", &path))?;
                file.truncate(current.length).map_err(failed("cut", &path))?;
                file
            }
        };
        let mut appending = Appending { file: &*file, length: current.length };
        write(&mut appending).map_err(failed("write", &path))?;
        let length = appending.length;
        file.sync_data().map_err(failed("sync", &path))?;
        current.length = length;
        current.handle = Some(file);
        Ok(())
    }

    /// Makes the next file of a tenant's category.
    fn begin(&mut self, (tenant, category): &Key, now: i64) -> Result<Current, AppendError> {
        let parent = self.directory.join(&**tenant);
        let dir = parent.join(category.word());
        self.files.create_dir(&dir).map_err(failed("create", &dir))?;
        let (name, path) = loop {
            let name = file_name(now, self.next);
            let path = dir.join(&name);
            // A file that has something in it is somebody's: never emptied.
            if !self.holds_something(&path).map_err(failed("look at", &path))? {
                break (name, path);
            }
            self.next += 1;
        };
        let file = self.files.open(&path, Access::Create).map_err(failed("create", &path))?;
        for dir in [&dir, &parent, &self.directory] {
            self.files.sync_dir(dir).map_err(failed("sync", dir))?;
        }
        self.next += 1;
        let day = now.div_euclid(DAY_SECONDS);
        Ok(Current { name, path, length: 0, day, handle: Some(file), used: self.clock })
    }

    fn holds_something(&self, path: &Path) -> io::Result<bool> {
        match self.files.open(path, Access::Read) {
            Ok(file) => Ok(file.size()? > 0),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Closes handles, and lets files go, above their bounds: those that rested longest.
    fn bound(&mut self) {
        if self.growing.len() > MAX_GROWING
            && let Some(key) = self.growing.iter().min_by_key(|(_, current)| current.used).map(|(key, _)| key.clone())
        {
            self.growing.remove(&key);
        }
        let open = self.growing.values().filter(|current| current.handle.is_some()).count();
        if open >= MAX_HANDLES {
            let open = self.growing.values_mut().filter(|current| current.handle.is_some());
            if let Some(rested) = open.min_by_key(|current| current.used) {
                rested.handle = None;
            }
        }
    }

    /// See [`State`].
    pub(super) fn state(&self) -> Vec<u8> {
        let files = self.growing.iter().map(|((tenant, category), current)| Growing {
            tenant: tenant.to_string(),
            category: category.word().to_owned(),
            name: current.name.clone(),
            length: current.length,
            day: current.day,
        });
        let state = State { version: VERSION, tree: self.id.clone(), next: self.next, files: files.collect() };
        // Numbers and texts: nothing in it can fail.
        serde_json::to_vec(&state).unwrap_or_default()
    }
}

/// Tenants are checked where the configuration is read; a path is too dear to rely on that alone.
fn is_directory_name(tenant: &str) -> bool {
    !tenant.is_empty() && tenant != "." && tenant != ".." && !tenant.contains(['/', '\\', '\0'])
}

/// `20251026T101530Z-0000000007.jsonl`.
fn file_name(now: i64, number: u64) -> String {
    let mut moment = Vec::new();
    time::write(now.saturating_mul(time::SECOND), &mut moment);
    let digits: String =
        moment.iter().take(19).filter(|byte| !b"-:".contains(byte)).map(|&byte| char::from(byte)).collect();
    format!("{digits}Z-{number:010}.jsonl")
}

fn number_of(name: &str) -> Option<u64> {
    let (start, number) = name.strip_suffix(".jsonl")?.split_once('-')?;
    let is_ours = start.len() == 16 && start.ends_with('Z') && number.len() >= 10;
    number.parse().ok().filter(|_| is_ours)
}

#[cfg(test)]
mod tests {
    use super::*;
    use sluice_durable_log::io::FaultyFiles;

    /// A file that was removed at start, and comes back with the next loss of power, would pass for an older
    /// one: its number has gone to a file of another tenant.
    #[test]
    fn a_file_that_was_removed_does_not_come_back() {
        for seed in 0..40 {
            let files = Arc::new(FaultyFiles::new());
            for dir in ["/logs", "/logs/a/application", "/logs/b/application"] {
                files.create_dir(Path::new(dir)).unwrap();
            }
            let directories: Arc<dyn Files> = Arc::new(crate::deliver::tests::WithDirectories::new(&files));
            let open =
                |state: Option<&[u8]>| Tree::open(Arc::clone(&directories), Path::new("/logs"), 1000, state).unwrap();
            let append = |tree: &mut Tree, tenant: &str| {
                tree.append(&tenant.into(), Category::Application, 1000, |file| file.write(b"line\n")).unwrap();
            };
            let mut tree = open(None);
            let state = tree.state();
            append(&mut tree, "b");
            drop(tree);
            let mut tree = open(Some(&state));
            append(&mut tree, "a");
            let state = tree.state();
            files.crash(seed);
            drop(tree);
            drop(open(Some(&state)));
            let left: Vec<_> = files.paths().into_iter().filter(|path| !path.ends_with(MARKER)).collect();
            assert!(left.len() == 1 && left[0].starts_with("/logs/a"), "seed {seed}: {left:?}");
        }
    }
}
