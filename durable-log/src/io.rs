//! The few things that the log asks of a filesystem, as traits, so that tests can put one
//! underneath that fails and crashes on demand (`FaultyFiles`, feature `faults`).

use std::{
    fmt, fs,
    io::{self, Read as _, Write as _},
    os::unix::fs::FileExt as _,
    path::Path,
};

#[cfg(feature = "faults")]
mod faulty;

#[cfg(feature = "faults")]
pub use faulty::{Fault, FaultyFiles, Op};

/// How to open a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// An existing file, to read.
    Read,
    /// An existing file, to read and write.
    Write,
    /// An empty file, to read and write; an existing one is emptied.
    Create,
}

/// A filesystem.
pub trait Files: fmt::Debug + Send + Sync {
    /// Makes `dir` and what is missing above it.
    fn create_dir(&self, dir: &Path) -> io::Result<()>;

    /// Names of what is in `dir`, in no order. Names that are not UTF-8 are none of ours and left
    /// out.
    fn list(&self, dir: &Path) -> io::Result<Vec<String>>;

    /// Opens a file.
    fn open(&self, path: &Path, access: Access) -> io::Result<Box<dyn File>>;

    /// Renames a file, atomically taking the place of `to` if that exists.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;

    /// Removes a file's name; who has it open keeps reading.
    fn unlink(&self, path: &Path) -> io::Result<()>;

    /// Makes the names in `dir` durable.
    fn sync_dir(&self, dir: &Path) -> io::Result<()>;

    /// Takes the lock file at `path`, for as long as the returned guard lives. If somebody else
    /// has it: [`io::ErrorKind::WouldBlock`], whose text says who.
    fn lock(&self, path: &Path) -> io::Result<Box<dyn Lock>>;
}

/// An open file. Offsets and lengths are in bytes.
pub trait File: fmt::Debug + Send + Sync {
    /// The length now.
    fn size(&self) -> io::Result<u64>;

    /// Reads at most `buf.len()` bytes; 0 is the end.
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize>;

    /// Writes at most `buf.len()` bytes.
    fn write_at(&self, buf: &[u8], offset: u64) -> io::Result<usize>;

    /// Makes content and length durable.
    fn sync_data(&self) -> io::Result<()>;

    /// Reserves blocks for the first `size` bytes and makes the file that long, zeros at the end.
    /// [`io::ErrorKind::Unsupported`] if the filesystem cannot.
    fn allocate(&self, size: u64) -> io::Result<()>;

    /// Cuts the file.
    fn truncate(&self, size: u64) -> io::Result<()>;

    /// Reads until `buf` is full or the file ends; returns how much.
    fn read_full_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        let mut done = 0;
        while done < buf.len() {
            match self.read_at(&mut buf[done..], offset + done as u64) {
                Ok(0) => break,
                Ok(n) => done += n,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
        Ok(done)
    }

    /// Writes all of `buf`.
    fn write_all_at(&self, buf: &[u8], offset: u64) -> io::Result<()> {
        let mut done = 0;
        while done < buf.len() {
            match self.write_at(&buf[done..], offset + done as u64) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(n) => done += n,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
        Ok(())
    }
}

/// A lock that is held until this is dropped.
pub trait Lock: fmt::Debug + Send {}

/// The operating system's files.
#[derive(Clone, Copy, Debug, Default)]
pub struct RealFiles;

impl Files for RealFiles {
    fn create_dir(&self, dir: &Path) -> io::Result<()> {
        fs::create_dir_all(dir)
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in fs::read_dir(dir)? {
            names.extend(entry?.file_name().into_string().ok());
        }
        Ok(names)
    }

    fn open(&self, path: &Path, access: Access) -> io::Result<Box<dyn File>> {
        let write = access != Access::Read;
        let create = access == Access::Create;
        let file = fs::OpenOptions::new().read(true).write(write).create(create).truncate(create).open(path)?;
        Ok(Box::new(RealFile(file)))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    fn unlink(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        fs::File::open(dir)?.sync_all()
    }

    fn lock(&self, path: &Path) -> io::Result<Box<dyn Lock>> {
        let mut file = fs::OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(fs::TryLockError::WouldBlock) => {
                let mut pid = String::new();
                // The number is a courtesy: without it the refusal stands all the same.
                let _ = file.take(20).read_to_string(&mut pid);
                let holder = match pid.trim() {
                    "" => "another writer".to_owned(),
                    pid => format!("process {pid}"),
                };
                return Err(io::Error::new(io::ErrorKind::WouldBlock, holder));
            }
            Err(fs::TryLockError::Error(e)) => return Err(e),
        }
        file.set_len(0)?;
        // On a full disk the lock holds without its text.
        let _ = file.write_all(std::process::id().to_string().as_bytes());
        Ok(Box::new(RealLock { _file: file }))
    }
}

#[derive(Debug)]
struct RealFile(fs::File);

impl File for RealFile {
    fn size(&self) -> io::Result<u64> {
        Ok(self.0.metadata()?.len())
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        self.0.read_at(buf, offset)
    }

    fn write_at(&self, buf: &[u8], offset: u64) -> io::Result<usize> {
        self.0.write_at(buf, offset)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.0.sync_data()
    }

    fn allocate(&self, size: u64) -> io::Result<()> {
        // Not KEEP_SIZE: the zero tail belongs to the format, and a file of full length spares
        // each fdatasync the update of the inode's size.
        Ok(rustix::fs::fallocate(&self.0, rustix::fs::FallocateFlags::empty(), 0, size)?)
    }

    fn truncate(&self, size: u64) -> io::Result<()> {
        self.0.set_len(size)
    }
}

/// flock goes with the open file.
#[derive(Debug)]
struct RealLock {
    _file: fs::File,
}

impl Lock for RealLock {}

#[cfg(test)]
mod tests;
