//! What outlives the process: who we are, which numbers may be used, how far each source is stored.
//!
//! One small file, `checkpoint.json`, replaced as a whole (write, fsync, rename, fsync of the
//! directory) and closed by a CRC32C. It never speaks of more than a gateway has accepted.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use sluice_wire::{BlockId, Position, ProducerId, Stream};

use crate::tail::Known;

const FILE: &str = "checkpoint.json";
const VERSION: u32 = 1;
/// Numbers reserved ahead of their use: enough for hours without a checkpoint.
const RESERVE: u64 = 1 << 20;
/// Numbers that one request may need: more than its blocks and their pieces.
const REQUEST: u64 = 1 << 14;
/// The largest checkpoint that is read, bytes: a hundred thousand sources.
const MAX_FILE: u64 = 64 * 1024 * 1024;

/// The state directory and what it says.
#[derive(Debug)]
pub struct Loaded {
    /// Nothing was there: this node has never been seen.
    pub first_run: bool,
    /// Why a new producer id was drawn, if one was: what was sent since the last checkpoint may be
    /// sent again.
    pub renewed: Option<Renewed>,
    /// How far sources are stored.
    pub positions: Positions,
    /// What the next block is called.
    pub numbers: Numbers,
    /// Lines older than this were not wanted on the first start, nanoseconds of the epoch.
    pub since: Option<i64>,
}

/// Why a producer is a new one (rule 1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Renewed {
    /// The checkpoint was damaged; it is kept beside as `checkpoint.json.damaged`.
    Damaged,
    /// The machine went down without a clean end of the agent: the ring may lack what was sent.
    Rebooted,
}

/// Numbers of blocks: rising, reserved durably ahead, never used twice (rule 2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Numbers {
    /// Whose they are.
    pub producer: ProducerId,
    next: u64,
    reserved: u64,
}

impl Numbers {
    /// A new producer, with no number reserved.
    #[must_use]
    pub fn draw() -> Self {
        Self { producer: ProducerId(rand::random()), next: 1, reserved: 1 }
    }

    /// The next number. Where none is reserved a new producer is drawn, because a number that is not
    /// reserved durably would be used again after a crash: nobody can come back under an id that no
    /// checkpoint has named. The next checkpoint names it, and reserves for it.
    pub fn take(&mut self) -> BlockId {
        if self.next >= self.reserved {
            self.renew();
        }
        self.next += 1;
        BlockId { producer: self.producer, number: self.next - 1 }
    }

    /// Whose number [`Numbers::take`] gives next, and for as many blocks as a request has.
    pub fn current(&mut self) -> ProducerId {
        if self.next.saturating_add(REQUEST) > self.reserved {
            self.renew();
        }
        self.producer
    }

    fn renew(&mut self) {
        *self = Self { reserved: u64::MAX, ..Self::draw() };
    }

    /// Up to where a checkpoint written now reserves.
    fn to_reserve(self) -> u64 {
        self.next.saturating_add(RESERVE)
    }

    /// Notes that a checkpoint with these numbers is durable.
    pub fn reserved(&mut self, by: &Snapshot) {
        if by.producer == self.producer {
            // Also downwards: what was drawn without a reservation has one from now on.
            self.reserved = by.reserved;
        }
    }
}

/// How far every source is stored, by source and stream.
#[derive(Debug, Default)]
pub struct Positions {
    acknowledged: HashMap<u64, Source>,
    /// Beyond that, in blocks of the ring.
    in_ring: HashMap<(u64, Stream), u64>,
}

#[derive(Debug, Default, Clone)]
struct Source {
    ends: [u64; 3],
    path: PathBuf,
    /// How often the file was truncated that had this id first.
    truncations: u32,
    /// Looks in a row that did not find it; after [`FORGET_AFTER`] it is forgotten.
    unseen: u32,
}

/// Sightings missed before a source is forgotten: about a quarter of an hour of checkpoints.
const FORGET_AFTER: u32 = 900;

impl Positions {
    /// Notes that a block with these positions is stored.
    pub fn acknowledge(&mut self, positions: &[Position]) {
        for position in positions {
            let end = &mut self.acknowledged.entry(position.source).or_default().ends[position.stream as usize];
            *end = (*end).max(position.end);
        }
    }

    /// Notes that a stream has nothing to be read again before `end`: what it wrote is stored, and what
    /// lies beyond is the other stream's.
    pub fn settle(&mut self, source: u64, stream: Stream, end: u64) {
        let stored = &mut self.acknowledged.entry(source).or_default().ends[stream as usize];
        *stored = (*stored).max(end);
    }

    /// Adds a block of the ring to what need not be read again. Gives `false`, and adds nothing, where
    /// it does not follow on what is stored or in the ring: between them lines would be missing.
    pub fn extend_by_ring(&mut self, positions: &[Position]) -> bool {
        let follows = positions.iter().all(|position| position.start <= self.covered(position.source, position.stream));
        if follows {
            for position in positions {
                let end = self.in_ring.entry((position.source, position.stream)).or_default();
                *end = (*end).max(position.end);
            }
        }
        follows
    }

    /// Whether all of `positions` is stored; never of none.
    #[must_use]
    pub fn are_stored(&self, positions: &[Position]) -> bool {
        let stored = |position: &Position| self.acknowledged(position.source, position.stream) >= position.end;
        !positions.is_empty() && positions.iter().all(stored)
    }

    /// Notes which sources exist, and forgets those that have long been gone.
    pub fn sight<'a>(&mut self, sources: impl Iterator<Item = (u64, &'a Path)>) {
        self.acknowledged.values_mut().for_each(|source| source.unseen += 1);
        for (id, path) in sources {
            let source = self.acknowledged.entry(id).or_default();
            source.unseen = 0;
            if source.path != path {
                path.clone_into(&mut source.path);
            }
        }
        self.acknowledged.retain(|_, source| source.unseen < FORGET_AFTER);
    }
}

impl Known for Positions {
    fn covered(&self, source: u64, stream: Stream) -> u64 {
        let in_ring = self.in_ring.get(&(source, stream)).copied().unwrap_or(0);
        self.acknowledged(source, stream).max(in_ring)
    }

    fn acknowledged(&self, source: u64, stream: Stream) -> u64 {
        self.acknowledged.get(&source).map_or(0, |known| known.ends[stream as usize])
    }

    fn truncations(&self, source: u64) -> u32 {
        self.acknowledged.get(&source).map_or(0, |known| known.truncations)
    }

    fn note_truncation(&mut self, source: u64) {
        self.acknowledged.entry(source).or_default().truncations += 1;
    }
}

/// A checkpoint to be written, or as it was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Snapshot {
    producer: ProducerId,
    reserved: u64,
    clean: bool,
    since: Option<i64>,
    sources: Vec<SourceText>,
}

impl Snapshot {
    /// What is true now. `clean`: the agent ends here, and every block is decided.
    #[must_use]
    pub fn take(numbers: Numbers, positions: &Positions, since: Option<i64>, clean: bool) -> Self {
        let text = |(id, source): (&u64, &Source)| SourceText {
            id: *id,
            path: source.path.clone(),
            stored: source.ends,
            truncations: source.truncations,
        };
        let sources = positions.acknowledged.iter().map(text).collect();
        let reserved = if clean { numbers.next } else { numbers.to_reserve() };
        Self { producer: numbers.producer, reserved, clean, since, sources }
    }
}

#[derive(Serialize, Deserialize)]
struct Text {
    version: u32,
    producer: String,
    reserved: u64,
    boot_id: String,
    clean: bool,
    since: Option<i64>,
    sources: Vec<SourceText>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct SourceText {
    id: u64,
    path: PathBuf,
    /// Whole, stdout, stderr.
    stored: [u64; 3],
    #[serde(default, skip_serializing_if = "is_zero")]
    truncations: u32,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde calls it so")]
fn is_zero(count: &u32) -> bool {
    *count == 0
}

/// Where checkpoints are kept.
#[derive(Debug, Clone)]
pub struct Store {
    dir: Arc<Path>,
    boot_id: Arc<str>,
}

impl Store {
    /// In `dir`, on the machine's present boot.
    #[must_use]
    pub fn new(dir: &Path) -> Self {
        // Where the kernel does not tell, every start counts as a reboot: that repeats, and loses nothing.
        let boot_id = fs::read_to_string("/proc/sys/kernel/random/boot_id")
            .unwrap_or_else(|_| format!("{:032x}", rand::random::<u128>()));
        Self { dir: dir.into(), boot_id: boot_id.trim().into() }
    }

    #[cfg(test)]
    fn on_boot(dir: &Path, boot_id: &str) -> Self {
        Self { dir: dir.into(), boot_id: boot_id.into() }
    }

    /// Reads what an earlier run left. Nothing that is there keeps the agent from starting.
    #[must_use]
    pub fn load(&self) -> Loaded {
        let path = self.dir.join(FILE);
        let nothing = |first_run, renewed| Loaded {
            first_run,
            renewed,
            positions: Positions::default(),
            numbers: Numbers::draw(),
            since: None,
        };
        let (text, producer) = match read(&path) {
            Ok(Some(read)) => read,
            Ok(None) => return nothing(true, None),
            Err(error) => {
                tracing::error!(path = %path.display(), %error, "checkpoint damaged, reading every file from its beginning");
                // If it cannot be set aside it will be replaced: the copy is only for people to look at.
                let _ = fs::rename(&path, self.dir.join("checkpoint.json.damaged"));
                return nothing(false, Some(Renewed::Damaged));
            }
        };
        let acknowledged = text
            .sources
            .into_iter()
            .map(|SourceText { id, path, stored, truncations }| {
                (id, Source { ends: stored, path, truncations, unseen: 0 })
            })
            .collect();
        let positions = Positions { acknowledged, in_ring: HashMap::new() };
        let rebooted = !text.clean && *text.boot_id != *self.boot_id;
        let numbers =
            if rebooted { Numbers::draw() } else { Numbers { producer, next: text.reserved, reserved: text.reserved } };
        Loaded {
            first_run: false,
            renewed: rebooted.then_some(Renewed::Rebooted),
            positions,
            numbers,
            since: text.since,
        }
    }

    /// Replaces the checkpoint; durable when it returns.
    ///
    /// # Errors
    /// The file system's; the old checkpoint is still in force then.
    pub fn write(&self, snapshot: &Snapshot) -> io::Result<()> {
        let text = Text {
            version: VERSION,
            producer: snapshot.producer.to_string(),
            reserved: snapshot.reserved,
            boot_id: self.boot_id.to_string(),
            clean: snapshot.clean,
            since: snapshot.since,
            sources: snapshot.sources.clone(),
        };
        let mut bytes = serde_json::to_vec(&text)?;
        let crc = crc32c::crc32c(&bytes);
        writeln!(bytes, "\ncrc32c {crc:08x}")?;
        let temporary = self.dir.join("checkpoint.json.new");
        let mut file = File::create(&temporary)?;
        file.write_all(&bytes)?;
        file.sync_data()?;
        fs::rename(&temporary, self.dir.join(FILE))?;
        File::open(&self.dir)?.sync_all()
    }
}

fn read(path: &Path) -> io::Result<Option<(Text, ProducerId)>> {
    let invalid = |what: &str| io::Error::new(io::ErrorKind::InvalidData, what);
    match fs::metadata(path) {
        Ok(metadata) if metadata.len() > MAX_FILE => return Err(invalid("over its size limit")),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        _ => {}
    }
    let bytes = fs::read(path)?;
    let end = bytes.iter().position(|byte| *byte == b'\n').ok_or_else(|| invalid("cut short"))?;
    let (text, crc) = bytes.split_at(end);
    if crc != format!("\ncrc32c {:08x}\n", crc32c::crc32c(text)).as_bytes() {
        return Err(invalid("checksum does not match"));
    }
    let text: Text = serde_json::from_slice(text)?;
    if text.version != VERSION {
        return Err(invalid("a version that this agent does not know"));
    }
    let producer = text.producer.parse().map_err(|_| invalid("no producer id"))?;
    Ok(Some((text, producer)))
}

#[cfg(test)]
mod tests;
