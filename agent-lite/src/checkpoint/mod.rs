//! What outlives the process: who we are, which numbers may be used, how far each source is stored.
//!
//! One small file, `checkpoint.json`, replaced as a whole (write, fsync, rename, fsync of the
//! directory) and closed by a CRC32C. It never speaks of more than a gateway has accepted.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::sync::Arc;
use std::time::SystemTime;

use serde::{Deserialize, Serialize};
use sluice_wire::ProducerId;

use crate::tail::{Attempts, Gap};

mod chosen;
mod numbers;
mod positions;

pub use numbers::Numbers;
pub use positions::{Account, Positions};
use positions::{Closed, Source};

const FILE: &str = "checkpoint.json";
const VERSION: u32 = 2;
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
    /// When it was written, nanoseconds of the epoch; `None`: nothing was there, or the disk does not tell.
    pub written_ns: Option<i64>,
}

/// Why a producer is a new one (rule 1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Renewed {
    /// The checkpoint was damaged; it is kept beside as `checkpoint.json.damaged`.
    Damaged,
    /// The machine went down without a clean end of the agent: the ring may lack what was sent.
    Rebooted,
}

/// A checkpoint to be written, or as it was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Snapshot {
    producer: ProducerId,
    reserved: u64,
    clean: bool,
    since: Option<i64>,
    sources: Vec<Source>,
    closed: Vec<Closed>,
    gaps: Vec<Gap>,
    containers: Option<Attempts>,
}

impl Snapshot {
    /// What is true now. `clean`: the agent ends here, and every block is decided.
    #[must_use]
    pub fn take(numbers: Numbers, positions: &Positions, since: Option<i64>, clean: bool) -> Self {
        let (sources, closed, gaps) = positions.to_keep();
        let reserved = if clean { numbers.next } else { numbers.to_reserve() };
        let containers = positions.containers().cloned();
        Self { producer: numbers.producer, reserved, clean, since, sources, closed, gaps, containers }
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
    sources: Vec<Source>,
    closed: Vec<Closed>,
    gaps: Vec<Gap>,
    /// By an agent that did not keep them, none are known.
    #[serde(default)]
    containers: Option<Attempts>,
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
    pub(crate) fn on_boot(dir: &Path, boot_id: &str) -> Self {
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
            written_ns: None,
        };
        let written_ns = fs::metadata(&path)
            .ok()
            .map(|file| file.mtime().saturating_mul(1_000_000_000).saturating_add(file.mtime_nsec()));
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
        let positions = Positions::restore(text.sources, text.closed, text.gaps, text.containers);
        let rebooted = !text.clean && *text.boot_id != *self.boot_id;
        let numbers =
            if rebooted { Numbers::draw() } else { Numbers { producer, next: text.reserved, reserved: text.reserved } };
        Loaded {
            first_run: false,
            renewed: rebooted.then_some(Renewed::Rebooted),
            positions,
            numbers,
            since: text.since,
            written_ns,
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
            closed: snapshot.closed.clone(),
            gaps: snapshot.gaps.clone(),
            containers: snapshot.containers.clone(),
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

    /// Notes that nothing has changed since it was written: its time says until when an agent is known to have run.
    ///
    /// # Errors
    /// The file system's.
    pub fn touch(&self) -> io::Result<()> {
        File::options().append(true).open(self.dir.join(FILE))?.set_modified(SystemTime::now())
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
