//! Small files that are replaced as a whole and checked when they are read: cursors and snapshots.
//!
//! | Offset | Bytes | Field |
//! |---|---|---|
//! | 0 | 8 | what it is (`SLCURSOR`, `SLLANES1`) |
//! | 8 | 4 | format version |
//! | 12 | 4 | CRC-32C of the content |
//! | 16 | 8 | length of the content |
//! | 24 | … | content |

use std::io;
use std::path::{Path, PathBuf};

use sluice_durable_log::io::{Access, Files};

use super::Error;

const HEADER: usize = 24;

/// What such a file holds: its mark and the version that this program writes and reads.
#[derive(Debug, Clone, Copy)]
pub(super) struct Form {
    pub(super) mark: &'static [u8; 8],
    pub(super) version: u32,
    /// The word in metrics and logs.
    pub(super) kind: &'static str,
}

/// What reading found.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Content {
    /// No such file.
    Missing,
    /// Its content, checked.
    Sound(Vec<u8>),
    /// Cut, flipped, or of another version.
    Damaged,
}

impl Form {
    /// Reads `path`.
    ///
    /// # Errors
    /// Where the file is there and cannot be read: that is no proof of damage.
    pub(super) fn read(self, files: &dyn Files, path: &Path) -> Result<Content, Error> {
        let bytes = match read_all(files, path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Content::Missing),
            Err(error) => return Err(Error::file("read", path)(error)),
        };
        Ok(match self.check(&bytes) {
            Some(content) => Content::Sound(content.to_vec()),
            None => Content::Damaged,
        })
    }

    fn check(self, bytes: &[u8]) -> Option<&[u8]> {
        let header: &[u8; HEADER] = bytes.first_chunk()?;
        let content = &bytes[HEADER..];
        (header == &self.header(content)).then_some(content)
    }

    fn header(self, content: &[u8]) -> [u8; HEADER] {
        let mut header = [0; HEADER];
        header[..8].copy_from_slice(self.mark);
        header[8..12].copy_from_slice(&self.version.to_le_bytes());
        header[12..16].copy_from_slice(&crc32c::crc32c(content).to_le_bytes());
        header[16..].copy_from_slice(&(content.len() as u64).to_le_bytes());
        header
    }

    /// Puts `content` in the place of `dir/name`, durably: afterwards the file is either the old one or
    /// the new one, whatever happens.
    ///
    /// # Errors
    /// The old file is in force, or the new one is and may give way to the old one with the next loss of
    /// power.
    pub(super) fn replace(self, files: &dyn Files, dir: &Path, name: &str, content: &[u8]) -> Result<(), Error> {
        let path = dir.join(name);
        let new = dir.join(format!("{name}.new"));
        let write = || {
            let file = files.open(&new, Access::Create)?;
            file.write_all_at(&self.header(content), 0)?;
            file.write_all_at(content, HEADER as u64)?;
            file.sync_data()?;
            files.rename(&new, &path)?;
            files.sync_dir(dir)
        };
        write().map_err(Error::file("replace", path))
    }
}

fn read_all(files: &dyn Files, path: &Path) -> io::Result<Vec<u8>> {
    let file = files.open(path, Access::Read)?;
    let size = usize::try_from(file.size()?).map_err(io::Error::other)?;
    let mut bytes = vec![0; size];
    let read = file.read_full_at(&mut bytes, 0)?;
    bytes.truncate(read);
    Ok(bytes)
}

/// Moves `dir/name` to `dir/quarantine/`, where it is out of the way and can be looked at. Returns the
/// new place.
///
/// # Errors
/// It is where it was.
pub(super) fn quarantine(files: &dyn Files, dir: &Path, name: &str) -> Result<PathBuf, Error> {
    let shelf = dir.join("quarantine");
    let from = dir.join(name);
    let moved = || {
        files.create_dir(&shelf)?;
        let taken = files.list(&shelf)?;
        // One file of each name is kept: a cursor that is damaged at every start must not fill the disk.
        let to = shelf.join(name);
        if taken.iter().any(|other| other == name) {
            files.unlink(&to)?;
        }
        files.rename(&from, &to)?;
        files.sync_dir(dir)?;
        Ok(to)
    };
    moved().map_err(Error::file("set aside", &from))
}
