//! The bytes of a log file: as they lie on the disk, or inflated.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::sync::Arc;

use flate2::read::MultiGzDecoder;

/// Steps over what was read before a restart, this much at a time.
const SKIP: usize = 64 * 1024;
/// Deflate makes at most so many bytes of one (zlib's technical details: 258 of two bits).
const MAX_RATIO: u64 = 1032;

/// An open log file.
#[derive(Debug)]
pub enum Content {
    /// As it lies on the disk.
    Plain(File),
    /// Inflated.
    Gzip(Box<Inflated>),
}

/// A gzip file, read forwards; to go back is to begin again.
#[derive(Debug)]
pub struct Inflated {
    file: Arc<File>,
    /// `None` until something is wanted of it, and once it is at its end.
    decoder: Option<MultiGzDecoder<Positioned>>,
    /// Inflated bytes, from `offset` on.
    bytes: Vec<u8>,
    offset: u64,
    end: End,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    /// More may come.
    Ahead,
    /// The decoder has given its last byte.
    Reached,
    /// It cannot be inflated any further.
    Damaged,
}

/// An open file, read from its beginning, whatever its name is by now.
#[derive(Debug)]
struct Positioned {
    file: Arc<File>,
    at: u64,
}

impl Read for Positioned {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.file.read_at(buffer, self.at)?;
        self.at += count as u64;
        Ok(count)
    }
}

impl Content {
    /// `path` tells by its name whether it is compressed.
    #[must_use]
    pub fn open(file: File, path: &Path) -> Self {
        if path.extension().is_some_and(|extension| extension == "gz") {
            let file = Arc::new(file);
            Self::Gzip(Box::new(Inflated { file, decoder: None, bytes: Vec::new(), offset: 0, end: End::Ahead }))
        } else {
            Self::Plain(file)
        }
    }

    pub(super) fn file(&self) -> &File {
        match self {
            Self::Plain(file) => file,
            Self::Gzip(inflated) => &inflated.file,
        }
    }

    pub(super) fn is_compressed(&self) -> bool {
        matches!(self, Self::Gzip(_))
    }

    /// How much it holds: of a compressed file what its trailer says (RFC 1952 §2.3.1, modulo 2³²; a file
    /// of several members tells only its last one's), which reading puts right; never more than so few bytes can
    /// have been.
    ///
    /// # Errors
    /// The file cannot be looked at.
    pub fn size(&self) -> io::Result<u64> {
        let length = self.file().metadata()?.len();
        match self {
            Self::Plain(_) => Ok(length),
            Self::Gzip(inflated) if inflated.end != End::Ahead => Ok(inflated.offset + inflated.bytes.len() as u64),
            Self::Gzip(inflated) => inflated.promised(length),
        }
    }

    /// Fills `buffer` with what begins at `offset`; less than that only at the end, or where a compressed file
    /// is damaged.
    ///
    /// # Errors
    /// Of the disk.
    pub fn fill(&mut self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        self.fill_past(buffer, offset, u64::MAX)
    }

    /// The same of a file that is `size` long at least: what has that is not asked for more. A log that is read as
    /// it grows costs one call of the system then, not two.
    pub(super) fn fill_past(&mut self, buffer: &mut [u8], offset: u64, size: u64) -> io::Result<usize> {
        match self {
            Self::Plain(file) => read_past(file, buffer, offset, size),
            Self::Gzip(inflated) => inflated.fill(buffer, offset),
        }
    }

    /// Whether it may hold more than [`Content::size`] says: a compressed file that was not read to its end.
    pub(super) fn may_hold_more(&self) -> bool {
        matches!(self, Self::Gzip(inflated) if inflated.end == End::Ahead)
    }

    /// Of a compressed file that cannot be read to its end: how much more it should have held.
    pub(super) fn missing(&self) -> Option<u64> {
        match self {
            Self::Gzip(inflated) if inflated.end == End::Damaged => {
                let promised = self.file().metadata().and_then(|metadata| inflated.promised(metadata.len()));
                Some(promised.unwrap_or(0).saturating_sub(inflated.offset + inflated.bytes.len() as u64))
            }
            _ => None,
        }
    }

    /// Whether it takes memory to go on where reading stands.
    pub(super) fn is_inflating(&self) -> bool {
        matches!(self, Self::Gzip(inflated) if inflated.decoder.is_some())
    }

    /// Lets go of that memory; it is inflated from its beginning when something is wanted again.
    pub(super) fn stop_inflating(&mut self) {
        if let Self::Gzip(inflated) = self
            && inflated.decoder.take().is_some()
        {
            inflated.bytes = Vec::new();
            inflated.offset = 0;
        }
    }
}

impl Inflated {
    /// Where it was cut off anything may stand in the place of its trailer.
    fn promised(&self, length: u64) -> io::Result<u64> {
        let Some(trailer) = length.checked_sub(4) else { return Ok(0) };
        let mut size = [0; 4];
        self.file.read_exact_at(&mut size, trailer)?;
        Ok(u64::from(u32::from_le_bytes(size)).min(length.saturating_mul(MAX_RATIO)))
    }

    fn fill(&mut self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        if offset < self.offset || (self.decoder.is_none() && self.end == End::Ahead) {
            self.decoder = Some(MultiGzDecoder::new(Positioned { file: self.file.clone(), at: 0 }));
            self.bytes.clear();
            self.offset = 0;
            self.end = End::Ahead;
        }
        while self.offset + (self.bytes.len() as u64) < offset && self.end == End::Ahead {
            self.offset += self.bytes.len() as u64;
            self.bytes.clear();
            self.inflate(SKIP)?;
        }
        let taken = usize::try_from(offset - self.offset).unwrap_or(usize::MAX).min(self.bytes.len());
        self.bytes.drain(..taken);
        self.offset += taken as u64;
        if self.bytes.len() < buffer.len() {
            self.inflate(buffer.len() - self.bytes.len())?;
        }
        let length = self.bytes.len().min(buffer.len());
        buffer[..length].copy_from_slice(&self.bytes[..length]);
        Ok(length)
    }

    /// Adds up to `count` bytes; fewer only at the end, or where it is damaged.
    fn inflate(&mut self, count: usize) -> io::Result<()> {
        let Some(decoder) = &mut self.decoder else { return Ok(()) };
        let before = self.bytes.len();
        let end = match decoder.take(count as u64).read_to_end(&mut self.bytes) {
            Ok(_) if self.bytes.len() - before == count => return Ok(()),
            Ok(_) => End::Reached,
            Err(error) if is_damage(&error) => End::Damaged,
            Err(error) => return Err(error),
        };
        self.end = end;
        self.decoder = None;
        Ok(())
    }
}

/// Whether the bytes are wrong, rather than the disk.
fn is_damage(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::InvalidData | io::ErrorKind::InvalidInput | io::ErrorKind::UnexpectedEof)
}

pub(super) fn read_up_to(file: &File, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
    read_past(file, buffer, offset, u64::MAX)
}

fn read_past(file: &File, buffer: &mut [u8], offset: u64, size: u64) -> io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() && (filled == 0 || offset + (filled as u64) < size) {
        match file.read_at(&mut buffer[filled..], offset + filled as u64) {
            Ok(0) => break,
            Ok(count) => filled += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}
