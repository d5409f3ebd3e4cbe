//! A disk in memory that fails on demand, and crashes.
//!
//! It is crueller than most: what was not synced survives a crash page by page at random, names
//! as a random part of what was done to them (in order), and after a failed fdatasync the pages
//! count as clean though they never arrived, so that syncing again does not help.

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    ops::Range,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard},
};

use rustix::io::Errno;

use super::{Access, File, Files, Lock};

const PAGE: usize = 4096;

/// What can be made to fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Op {
    /// Opening an existing file.
    Open,
    /// Opening a new file.
    Create,
    /// Reading a file.
    Read,
    /// Writing a file.
    Write,
    /// fdatasync.
    SyncData,
    /// fsync of a directory.
    SyncDir,
    /// fallocate.
    Allocate,
    /// Cutting a file.
    Truncate,
    /// Renaming.
    Rename,
    /// Unlinking.
    Unlink,
}

/// How it fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// EIO; a write has stored half of its bytes by then.
    Io,
    /// ENOSPC; a write has stored half of its bytes by then.
    NoSpace,
    /// EMFILE.
    TooManyFiles,
    /// EOPNOTSUPP.
    Unsupported,
    /// A write stores half of its bytes and says so. For other operations the same as `Io`.
    Short,
}

impl Fault {
    fn error(self) -> io::Error {
        match self {
            Self::Io | Self::Short => Errno::IO.into(),
            Self::NoSpace => Errno::NOSPC.into(),
            Self::TooManyFiles => Errno::MFILE.into(),
            Self::Unsupported => Errno::OPNOTSUPP.into(),
        }
    }
}

/// The disk; clones are the same one.
#[derive(Clone, Debug, Default)]
pub struct FaultyFiles {
    disk: Arc<Mutex<Disk>>,
}

#[derive(Debug, Default)]
struct Disk {
    names: BTreeMap<PathBuf, Inode>,
    /// The names as the last `sync_dir` left them, and what was done since.
    synced_names: BTreeMap<PathBuf, Inode>,
    changes: Vec<Change>,
    dirs: BTreeSet<PathBuf>,
    locked: BTreeSet<PathBuf>,
    plan: Vec<(Op, u64, Fault)>,
    capacity: Option<u64>,
    /// Counts crashes: what was opened before the last one is dead.
    life: u64,
}

type Inode = Arc<Mutex<Content>>;

#[derive(Clone, Debug)]
enum Change {
    Put(PathBuf, Inode),
    Remove(PathBuf),
    Rename(PathBuf, PathBuf),
}

#[derive(Debug, Default)]
struct Content {
    now: Pages,
    synced: Pages,
    dirty: BTreeSet<u64>,
    /// Pages that a failed fdatasync took for stored.
    lost: BTreeSet<u64>,
    reserved: u64,
    unreadable: Vec<Range<u64>>,
}

#[derive(Clone, Debug, Default)]
struct Pages {
    pages: BTreeMap<u64, Box<[u8; PAGE]>>,
    size: u64,
}

impl FaultyFiles {
    /// An empty disk without limits.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Lets the `op` after the next `skip` ones fail, once.
    pub fn fail(&self, op: Op, skip: u64, fault: Fault) {
        self.disk().plan.push((op, skip, fault));
    }

    /// Forgets failures that have not happened yet.
    pub fn heal(&self) {
        self.disk().plan.clear();
    }

    /// Limits the bytes on the disk, in pages of 4 KiB; `None` lifts the limit.
    pub fn set_capacity(&self, bytes: Option<u64>) {
        self.disk().capacity = bytes;
    }

    /// Cuts the power. Open files and locks are dead from here on; what survives of the un-synced
    /// is drawn from `seed`.
    pub fn crash(&self, seed: u64) {
        let mut draw = Draw(seed);
        let mut disk = self.disk();
        let keep = draw.below(disk.changes.len() as u64 + 1);
        let mut names = std::mem::take(&mut disk.synced_names);
        let changes = std::mem::take(&mut disk.changes);
        for change in changes.into_iter().take(usize::try_from(keep).unwrap_or(0)) {
            change.apply(&mut names);
        }
        for inode in names.values() {
            content(inode).crash(&mut draw);
        }
        disk.synced_names = names.clone();
        disk.names = names;
        disk.locked.clear();
        disk.plan.clear();
        disk.life += 1;
    }

    /// Every file's path.
    #[must_use]
    pub fn paths(&self) -> Vec<PathBuf> {
        self.disk().names.keys().cloned().collect()
    }

    /// A file's bytes.
    #[must_use]
    pub fn contents(&self, path: &Path) -> Option<Vec<u8>> {
        let inode = self.disk().names.get(path).cloned()?;
        let content = content(&inode);
        let mut bytes = vec![0; usize::try_from(content.now.size).ok()?];
        content.now.read(&mut bytes, 0);
        Some(bytes)
    }

    /// Puts a file there, durably, behind the back of whoever uses the disk.
    pub fn replace(&self, path: &Path, bytes: &[u8]) {
        let mut pages = Pages::default();
        pages.write(bytes, 0);
        let content = Content { now: pages.clone(), synced: pages, ..Content::default() };
        let inode = Arc::new(Mutex::new(content));
        let mut disk = self.disk();
        disk.names.insert(path.to_owned(), Arc::clone(&inode));
        disk.synced_names.insert(path.to_owned(), inode);
    }

    /// Removes a file, durably, behind the back of whoever uses the disk.
    pub fn remove(&self, path: &Path) {
        let mut disk = self.disk();
        disk.names.remove(path);
        disk.synced_names.remove(path);
        disk.changes.retain(|change| !matches!(change, Change::Put(put, _) if put == path));
    }

    /// Makes these bytes of a file fail with EIO on reading, from now on.
    pub fn make_unreadable(&self, path: &Path, bytes: Range<u64>) {
        if let Some(inode) = self.disk().names.get(path) {
            content(inode).unreadable.push(bytes);
        }
    }

    fn disk(&self) -> MutexGuard<'_, Disk> {
        self.disk.lock().expect("no code panics while it holds the disk")
    }

    /// Counts an operation; the fault that it is to meet.
    fn meet(&self, op: Op) -> Option<Fault> {
        let mut disk = self.disk();
        let mut met = None;
        disk.plan.retain_mut(|(planned, skip, fault)| {
            if *planned != op {
                return true;
            }
            let due = *skip == 0 && met.is_none();
            if due {
                met = Some(*fault);
            } else {
                *skip = skip.saturating_sub(1);
            }
            !due
        });
        met
    }

    fn pass(&self, op: Op) -> io::Result<()> {
        self.meet(op).map_or(Ok(()), |fault| Err(fault.error()))
    }
}

impl Files for FaultyFiles {
    fn create_dir(&self, dir: &Path) -> io::Result<()> {
        self.disk().dirs.insert(dir.to_owned());
        Ok(())
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        let disk = self.disk();
        if !disk.dirs.contains(dir) {
            return Err(io::ErrorKind::NotFound.into());
        }
        let inside = disk.names.keys().filter(|path| path.parent() == Some(dir));
        Ok(inside.filter_map(|path| Some(path.file_name()?.to_str()?.to_owned())).collect())
    }

    fn open(&self, path: &Path, access: Access) -> io::Result<Box<dyn File>> {
        self.pass(if access == Access::Create { Op::Create } else { Op::Open })?;
        let mut disk = self.disk();
        let inode = match disk.names.get(path) {
            Some(inode) => Arc::clone(inode),
            None if access == Access::Create => {
                let inode = Inode::default();
                disk.change(Change::Put(path.to_owned(), Arc::clone(&inode)));
                inode
            }
            None => return Err(io::ErrorKind::NotFound.into()),
        };
        if access == Access::Create {
            content(&inode).truncate(0);
        }
        Ok(Box::new(Handle { files: self.clone(), inode, life: disk.life }))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.pass(Op::Rename)?;
        let mut disk = self.disk();
        if !disk.names.contains_key(from) {
            return Err(io::ErrorKind::NotFound.into());
        }
        disk.change(Change::Rename(from.to_owned(), to.to_owned()));
        Ok(())
    }

    fn unlink(&self, path: &Path) -> io::Result<()> {
        self.pass(Op::Unlink)?;
        let mut disk = self.disk();
        if !disk.names.contains_key(path) {
            return Err(io::ErrorKind::NotFound.into());
        }
        disk.change(Change::Remove(path.to_owned()));
        Ok(())
    }

    fn sync_dir(&self, _dir: &Path) -> io::Result<()> {
        self.pass(Op::SyncDir)?;
        let mut disk = self.disk();
        // All directories at once, as a journal would.
        disk.changes.clear();
        disk.synced_names = disk.names.clone();
        Ok(())
    }

    fn lock(&self, path: &Path) -> io::Result<Box<dyn Lock>> {
        let mut disk = self.disk();
        if !disk.locked.insert(path.to_owned()) {
            return Err(io::Error::new(io::ErrorKind::WouldBlock, "another writer"));
        }
        Ok(Box::new(Guard { files: self.clone(), path: path.to_owned(), life: disk.life }))
    }
}

#[derive(Debug)]
struct Guard {
    files: FaultyFiles,
    path: PathBuf,
    life: u64,
}

impl Lock for Guard {}

impl Drop for Guard {
    fn drop(&mut self) {
        let mut disk = self.files.disk();
        if disk.life == self.life {
            disk.locked.remove(&self.path);
        }
    }
}

#[derive(Debug)]
struct Handle {
    files: FaultyFiles,
    inode: Inode,
    life: u64,
}

impl Handle {
    fn alive(&self) -> io::Result<MutexGuard<'_, Content>> {
        if self.files.disk().life != self.life {
            return Err(io::Error::other("opened before the crash"));
        }
        Ok(content(&self.inode))
    }

    /// Reserves pages up to `end`, as many as the disk has.
    fn reserve(&self, end: u64) -> io::Result<u64> {
        let end = end.next_multiple_of(PAGE as u64);
        let disk = self.files.disk();
        let others = disk.names.values().filter(|inode| !Arc::ptr_eq(inode, &self.inode));
        let taken: u64 = others.map(|inode| content(inode).reserved).sum();
        let room = disk.capacity.map_or(end, |capacity| capacity.saturating_sub(taken).min(end));
        let mut content = content(&self.inode);
        content.reserved = content.reserved.max(room / PAGE as u64 * PAGE as u64);
        Ok(content.reserved)
    }

    fn write(&self, buf: &[u8], offset: u64) -> io::Result<usize> {
        let room = self.reserve(offset + buf.len() as u64)?.saturating_sub(offset);
        let len = buf.len().min(usize::try_from(room).unwrap_or(usize::MAX));
        if len == 0 && !buf.is_empty() {
            return Err(Fault::NoSpace.error());
        }
        let mut content = self.alive()?;
        content.now.write(&buf[..len], offset);
        for page in offset / PAGE as u64..=(offset + len as u64).saturating_sub(1) / PAGE as u64 {
            content.dirty.insert(page);
            content.lost.remove(&page);
        }
        Ok(len)
    }
}

impl File for Handle {
    fn size(&self) -> io::Result<u64> {
        Ok(self.alive()?.now.size)
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        self.files.pass(Op::Read)?;
        let content = self.alive()?;
        let end = offset + buf.len() as u64;
        if content.unreadable.iter().any(|bad| bad.start < end && offset < bad.end) {
            return Err(Fault::Io.error());
        }
        Ok(content.now.read(buf, offset))
    }

    fn write_at(&self, buf: &[u8], offset: u64) -> io::Result<usize> {
        drop(self.alive()?);
        match self.files.meet(Op::Write) {
            None => self.write(buf, offset),
            Some(fault) => {
                let half = &buf[..buf.len().div_ceil(2)];
                let written = self.write(half, offset)?;
                if fault == Fault::Short { Ok(written) } else { Err(fault.error()) }
            }
        }
    }

    fn sync_data(&self) -> io::Result<()> {
        drop(self.alive()?);
        let fault = self.files.meet(Op::SyncData);
        let content = &mut *self.alive()?;
        let dirty = std::mem::take(&mut content.dirty);
        if let Some(fault) = fault {
            content.lost.extend(dirty);
            return Err(fault.error());
        }
        for page in dirty {
            content.synced.copy_page(&content.now, page);
        }
        content.synced.size = content.now.size;
        Ok(())
    }

    fn allocate(&self, size: u64) -> io::Result<()> {
        self.files.pass(Op::Allocate)?;
        if self.reserve(size)? < size {
            return Err(Fault::NoSpace.error());
        }
        let mut content = self.alive()?;
        content.now.size = content.now.size.max(size);
        Ok(())
    }

    fn truncate(&self, size: u64) -> io::Result<()> {
        self.files.pass(Op::Truncate)?;
        self.alive()?.truncate(size);
        Ok(())
    }
}

impl Disk {
    fn change(&mut self, change: Change) {
        change.apply(&mut self.names);
        self.changes.push(change);
    }
}

impl Change {
    fn apply(&self, names: &mut BTreeMap<PathBuf, Inode>) {
        match self {
            Self::Put(path, inode) => {
                names.insert(path.clone(), Arc::clone(inode));
            }
            Self::Remove(path) => {
                names.remove(path);
            }
            Self::Rename(from, to) => {
                if let Some(inode) = names.remove(from) {
                    names.insert(to.clone(), inode);
                }
            }
        }
    }
}

fn content(inode: &Inode) -> MutexGuard<'_, Content> {
    inode.lock().expect("no code panics while it holds a file")
}

impl Content {
    fn truncate(&mut self, size: u64) {
        self.now.truncate(size);
        self.reserved = size.next_multiple_of(PAGE as u64);
    }

    fn crash(&mut self, draw: &mut Draw) {
        for page in self.dirty.iter().chain(&self.lost) {
            if draw.below(2) == 0 {
                self.synced.copy_page(&self.now, *page);
            }
        }
        if draw.below(2) == 0 {
            self.synced.size = self.now.size;
        }
        let size = self.synced.size;
        self.synced.truncate(size);
        self.dirty.clear();
        self.lost.clear();
        self.now = self.synced.clone();
        self.reserved = size.next_multiple_of(PAGE as u64);
    }
}

impl Pages {
    fn read(&self, buf: &mut [u8], offset: u64) -> usize {
        let end = self.size.min(offset + buf.len() as u64);
        let mut at = offset;
        while at < end {
            let (page, from) = split(at);
            let len = (PAGE - from).min(usize::try_from(end - at).unwrap_or(PAGE));
            let into = usize::try_from(at - offset).unwrap_or(usize::MAX);
            match self.pages.get(&page) {
                Some(bytes) => buf[into..into + len].copy_from_slice(&bytes[from..from + len]),
                None => buf[into..into + len].fill(0),
            }
            at += len as u64;
        }
        usize::try_from(end.saturating_sub(offset)).unwrap_or(usize::MAX)
    }

    fn write(&mut self, mut buf: &[u8], offset: u64) {
        let mut at = offset;
        while !buf.is_empty() {
            let (page, from) = split(at);
            let (now, rest) = buf.split_at(buf.len().min(PAGE - from));
            let bytes = self.pages.entry(page).or_insert_with(|| Box::new([0; PAGE]));
            bytes[from..from + now.len()].copy_from_slice(now);
            at += now.len() as u64;
            buf = rest;
        }
        self.size = self.size.max(at);
    }

    fn truncate(&mut self, size: u64) {
        let (page, from) = split(size);
        self.pages.retain(|&at, _| at <= page);
        if let Some(bytes) = self.pages.get_mut(&page) {
            bytes[from..].fill(0);
        }
        self.size = size;
    }

    fn copy_page(&mut self, from: &Self, page: u64) {
        match from.pages.get(&page) {
            Some(bytes) => self.pages.insert(page, bytes.clone()),
            None => self.pages.remove(&page),
        };
    }
}

fn split(offset: u64) -> (u64, usize) {
    let from = usize::try_from(offset % PAGE as u64).unwrap_or(0);
    (offset / PAGE as u64, from)
}

/// splitmix64: the same seed, the same crash.
#[derive(Debug)]
struct Draw(u64);

impl Draw {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (z ^ (z >> 31)) % bound
    }
}
