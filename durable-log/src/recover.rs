//! Opening a log: what its files hold, what of it counts, where writing goes on. The rules and
//! their reasons are in `docs/durable-log.md`, "Opening"; the numbers here are those there.

use std::{
    collections::VecDeque,
    io,
    ops::Range,
    path::{Path, PathBuf},
    sync::{Arc, atomic::Ordering},
};

use crate::{
    Log, OpenError, Options, Reason, SyncMode, Writer,
    format::{self, HeaderFault, Identity, RECORD_HEADER, SEGMENT_HEADER, SegmentHeader},
    io::{Access, Files},
    reclaim,
    scan::{Found, Scanner, Step, is_media_error},
    segment::Segment,
    shared::Shared,
};

/// How many damaged ranges a [`Recovery`] lists.
const MAX_LISTED: usize = 1024;

/// A file that is shorter holds no record.
const NO_RECORD: u64 = (SEGMENT_HEADER + RECORD_HEADER) as u64;

/// What opening found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Recovery {
    /// The log has a new id: there was none, or none of its segments could be recognised. In the
    /// second case `set_aside` is not 0.
    pub created: bool,
    /// The lowest index that is still there.
    pub oldest: u64,
    /// The index of the next record.
    pub next: u64,
    /// Damage that opening saw, at most 1,024 ranges. It judges the end of the log; readers find
    /// the rest when they come to it.
    pub damage: Vec<Damage>,
    /// Where an unfinished write was cut off, if there was one.
    pub torn: Option<TornTail>,
    /// Segment files of which nothing counts, taken out of the log.
    pub set_aside: usize,
}

/// Records that were stored and are lost.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Damage {
    /// First index lost.
    pub first: u64,
    /// One past the last.
    pub next: u64,
    /// The segment file.
    pub file: PathBuf,
    /// Where in it, in bytes.
    pub offset: u64,
    /// Why.
    pub reason: Reason,
}

/// Bytes at the end of the log that nobody was told are stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TornTail {
    /// The index at which the log was cut; the next record gets it.
    pub index: u64,
    /// The segment file.
    pub file: PathBuf,
    /// Where in it, in bytes.
    pub offset: u64,
}

/// Opens the log in `options.dir`, making it if it is not there.
///
/// Reads the end of the log (with [`SyncMode::Data`] one segment, with [`SyncMode::Never`] all),
/// so it takes the time of reading that.
///
/// # Errors
/// See [`OpenError`]; damaged records are none.
pub fn open(files: Arc<dyn Files>, options: Options) -> Result<(Writer, Log, Recovery), OpenError> {
    options.check()?;
    let dir = options.dir.clone();
    files.create_dir(&dir).map_err(failed("create", &dir))?;
    let lock = files.lock(&dir.join("lock")).map_err(|e| match e.kind() {
        io::ErrorKind::WouldBlock => OpenError::Locked { dir: dir.clone(), holder: e.to_string() },
        _ => failed("lock", &dir)(e),
    })?;

    let mut kept = list_segments(&*files, &dir)?;
    let identity = kept.iter().find_map(|kept| Some(kept.header?.identity));
    let created = identity.is_none();
    let identity = match identity {
        Some(identity) => identity,
        None => new_identity().map_err(failed("draw an id for", &dir))?,
    };
    for kept in &mut kept {
        kept.foreign = kept.header.is_some_and(|header| header.identity != identity);
        if kept.foreign || kept.header.is_none() {
            kept.header = None;
            kept.segment.suspect();
            tracing::warn!(file = %kept.segment.path.display(), foreign = kept.foreign, "log segment header is unreadable");
        }
    }

    let scan = Scan::run(&*files, &kept, identity.salt, options.at_least)?;
    let mut damage = missing(&kept[..kept.len().min(scan.from + 1)]);
    damage.extend(vouched_but_gone(&kept[..scan.from]));
    let (lost, next, tail) = scan.judge(options.at_least);
    damage.extend(lost);

    let set_aside = drop_above(&*files, &options, &mut kept, next)?;
    if options.sync == SyncMode::Data {
        for (kept, &end) in kept.iter().skip(scan.from).zip(&scan.ends) {
            store_again(&*files, &kept.segment, identity.salt, scan.proved..next, end)
                .map_err(failed("write", &kept.segment.path))?;
        }
    }
    let mut torn = None;
    if let Some(tail) = tail.filter(|tail| tail.first == next) {
        if tail.reason.is_some() {
            let file = tail.segment.path.clone();
            tracing::warn!(file = %file.display(), offset = tail.offset, index = next, "log cut after its last whole record");
            torn = Some(TornTail { index: next, file, offset: tail.offset });
        }
        cut(&*files, &tail.segment, tail.offset);
    }

    let segments: VecDeque<_> = kept.into_iter().map(|kept| kept.segment).collect();
    let shared = Arc::new(Shared::new(files, dir.clone(), identity, next, segments));
    shared.quarantined.fetch_add(set_aside.kept, Ordering::Relaxed);
    for gap in &damage {
        shared.damaged(&gap.segment, gap.first, gap.next, gap.offset, gap.reason());
    }
    let mut writer = Writer::new(Arc::clone(&shared), options, lock);
    match writer.start_segment() {
        Ok(()) => {}
        // Nothing to read and nowhere to write: no use to anybody, and its id is written nowhere.
        Err(source) if created => return Err(failed("create a segment in", &dir)(source)),
        Err(error) => {
            tracing::error!(dir = %dir.display(), %error, "cannot create a log segment; appends are refused until one can be made");
        }
    }
    let recovery = Recovery {
        created,
        oldest: shared.oldest(),
        next,
        damage: damage.iter().take(MAX_LISTED).map(Gap::report).collect(),
        torn,
        set_aside: set_aside.files,
    };
    Ok((writer, Log { shared }, recovery))
}

fn failed(action: &'static str, file: &Path) -> impl FnOnce(io::Error) -> OpenError {
    move |source| OpenError::Io { action, file: file.to_owned(), source }
}

fn new_identity() -> io::Result<Identity> {
    let (mut id, mut salt) = ([0; 16], [0; 4]);
    // The kernel gives requests of up to 256 bytes in full.
    rustix::rand::getrandom(&mut id, rustix::rand::GetRandomFlags::empty())?;
    rustix::rand::getrandom(&mut salt, rustix::rand::GetRandomFlags::empty())?;
    Ok(Identity { id, salt: u32::from_le_bytes(salt) })
}

/// A segment file that was found.
struct Kept {
    segment: Arc<Segment>,
    /// `None` if it is unreadable or another log's.
    header: Option<SegmentHeader>,
    foreign: bool,
}

/// The segments in `dir`, lowest first. Removes what was left unfinished.
fn list_segments(files: &dyn Files, dir: &Path) -> Result<Vec<Kept>, OpenError> {
    let names = files.list(dir).map_err(failed("list", dir))?;
    for name in names.iter().filter(|name| format::is_unfinished(name)) {
        files.unlink(&dir.join(name)).map_err(failed("remove unfinished files in", dir))?;
    }
    let mut bases: Vec<u64> = names.iter().filter_map(|name| format::segment_base(name)).collect();
    bases.sort_unstable();
    let mut kept: Vec<Kept> = Vec::with_capacity(bases.len());
    for base in bases {
        let path = dir.join(format::segment_name(base));
        let (size, bytes) = read_header(files, &path).map_err(failed("read", &path))?;
        let header = match SegmentHeader::decode(&bytes) {
            Err(HeaderFault::LaterVersion(version)) => {
                return Err(OpenError::Version { file: path, version, known: format::VERSION });
            }
            decoded => decoded.ok().filter(|header| header.base == base),
        };
        if let Some(last) = kept.last() {
            last.segment.end_at(base);
        }
        let segment = Arc::new(Segment::new(base, path, size, size));
        kept.push(Kept { segment, header, foreign: false });
    }
    Ok(kept)
}

/// A file's size and the bytes where its header is; zeros for what is not there.
fn read_header(files: &dyn Files, path: &Path) -> io::Result<(u64, [u8; SEGMENT_HEADER])> {
    let file = files.open(path, Access::Read)?;
    let mut bytes = [0; SEGMENT_HEADER];
    match file.read_full_at(&mut bytes, 0) {
        Err(e) if !is_media_error(&e) => return Err(e),
        _ => {}
    }
    Ok((file.size()?, bytes))
}

/// Indexes that cannot be read.
#[derive(Clone, Debug)]
struct Gap {
    segment: Arc<Segment>,
    first: u64,
    /// `u64::MAX` at the end of the log.
    next: u64,
    offset: u64,
    /// `None`: nothing but zeros up to the end of the last file.
    reason: Option<Reason>,
}

impl Gap {
    fn reason(&self) -> Reason {
        self.reason.unwrap_or(Reason::Missing)
    }

    fn report(&self) -> Damage {
        Damage {
            first: self.first,
            next: self.next,
            file: self.segment.path.clone(),
            offset: self.offset,
            reason: self.reason(),
        }
    }
}

/// What the records at the end of the log say.
struct Scan {
    /// The first segment that was scanned. Those before are vouched for by a header's mark.
    from: usize,
    /// Rising, the last one open-ended, if there is any segment.
    gaps: Vec<Gap>,
    /// For each scanned segment, the offset behind its last whole record.
    ends: Vec<u64>,
    /// The highest `synced` that was seen: records below were durable.
    proved: u64,
    /// Below this, what is unreadable is damage; from here on it is a torn tail.
    mark: u64,
}

impl Scan {
    fn run(files: &dyn Files, kept: &[Kept], salt: u32, at_least: u64) -> Result<Self, OpenError> {
        let proved = kept.iter().filter_map(|kept| Some(kept.header?.synced)).max().unwrap_or(0);
        let from = kept.partition_point(|kept| kept.segment.base <= proved).saturating_sub(1);
        let mut scan = Self { from, gaps: Vec::new(), ends: Vec::new(), proved, mark: at_least };
        let mut payload = Vec::new();
        for kept in &kept[from..] {
            scan.segment(files, kept, salt, &mut payload).map_err(failed("read", &kept.segment.path))?;
        }
        scan.mark = scan.mark.max(scan.proved);
        Ok(scan)
    }

    fn segment(&mut self, files: &dyn Files, kept: &Kept, salt: u32, payload: &mut Vec<u8>) -> io::Result<()> {
        let limit = kept.segment.end();
        let gap = |first, next, offset, reason: Option<Reason>| {
            // Zeros are a clean end only at the end of the log.
            let reason = reason.or((limit != u64::MAX).then_some(Reason::Missing));
            let reason = if kept.foreign { Some(Reason::Foreign) } else { reason };
            Gap { segment: Arc::clone(&kept.segment), first, next, offset, reason }
        };
        let mut end = SEGMENT_HEADER as u64;
        let mut scanner = Scanner::open(files, Arc::clone(&kept.segment), salt)?;
        while scanner.next() < limit {
            match scanner.step(limit)? {
                Step::Record(header) => {
                    let (index, offset) = (header.index, scanner.offset());
                    self.proved = self.proved.max(header.synced);
                    let checked = scanner.payload(&header, payload)?;
                    scanner.skip(&header);
                    match checked {
                        Ok(()) => end = scanner.offset(),
                        Err(reason) => self.push(gap(index, index + 1, offset, Some(reason))),
                    }
                }
                Step::Damaged { first, next, offset, reason } => {
                    self.push(gap(first, next, offset, Some(reason)));
                }
                Step::End { offset, reason } => {
                    self.push(gap(scanner.next(), limit, offset, reason));
                    break;
                }
            }
        }
        self.ends.push(end);
        Ok(())
    }

    fn push(&mut self, gap: Gap) {
        if gap.reason == Some(Reason::Io) {
            // Unreadable is not unwritten: what may have been acknowledged is never cut, and its
            // indexes are never used again.
            let readable = gap.segment.readable();
            let above = format::highest_index(gap.segment.base, readable) + 1;
            self.mark = self.mark.max(gap.next.min(above));
        }
        match self.gaps.last_mut() {
            Some(last) if last.next == gap.first && Arc::ptr_eq(&last.segment, &gap.segment) => {
                last.next = gap.next;
            }
            _ => self.gaps.push(gap),
        }
    }

    /// The damage below the mark, the next index, and the gap in which that lies.
    fn judge(&self, at_least: u64) -> (Vec<Gap>, u64, Option<&Gap>) {
        let mut damage = Vec::new();
        for gap in &self.gaps {
            let cut = gap.first.max(self.mark);
            if gap.first < self.mark {
                damage.push(Gap { next: gap.next.min(cut), ..gap.clone() });
            }
            if gap.next > self.mark {
                return (damage, cut, Some(gap));
            }
        }
        (damage, at_least, None)
    }
}

/// Segment files that the next one names as its predecessor, and that are not there.
fn missing(kept: &[Kept]) -> Vec<Gap> {
    let pairs = kept.iter().zip(kept.iter().skip(1));
    let gaps = pairs.filter_map(|(before, after)| {
        let first = after.header?.previous;
        (first > before.segment.base && first < after.segment.base).then(|| Gap {
            segment: Arc::clone(&before.segment),
            first,
            next: after.segment.base,
            offset: before.segment.readable(),
            reason: Some(Reason::Missing),
        })
    });
    gaps.collect()
}

/// Segments that held records for sure, and of which none can be left.
fn vouched_but_gone(kept: &[Kept]) -> Vec<Gap> {
    let gone = kept.iter().filter_map(|kept| {
        let reason = match kept.segment.readable() {
            _ if kept.foreign => Reason::Foreign,
            bytes if bytes < NO_RECORD => Reason::Missing,
            _ => return None,
        };
        Some(Gap {
            segment: Arc::clone(&kept.segment),
            first: kept.segment.base,
            next: kept.segment.end(),
            offset: 0,
            reason: Some(reason),
        })
    });
    gone.collect()
}

/// Segment files taken out of the log.
struct SetAside {
    files: usize,
    /// Those that are in quarantine now.
    kept: u64,
}

/// Takes out the segments of which nothing counts. The one that begins at `next` is left to be
/// replaced, unless its header tells that it was not only cut short.
fn drop_above(files: &dyn Files, options: &Options, kept: &mut Vec<Kept>, next: u64) -> Result<SetAside, OpenError> {
    let mut set_aside = SetAside { files: 0, kept: 0 };
    // The highest first: a crash in between leaves a log that opens the same way.
    while let Some(last) =
        kept.pop_if(|last| last.segment.base > next || last.segment.base == next && last.header.is_none())
    {
        let max_bytes = options.quarantine_max_bytes;
        let moved = reclaim::set_aside(files, &options.dir, &last.segment, max_bytes)
            .map_err(failed("set aside", &last.segment.path))?;
        set_aside.files += 1;
        set_aside.kept += u64::from(moved);
    }
    if set_aside.files > 0 && options.sync == SyncMode::Data {
        files.sync_dir(&options.dir).map_err(failed("sync", &options.dir))?;
    }
    Ok(set_aside)
}

/// Writes a segment's records of these indexes over themselves, up to the offset `end`, and syncs
/// them: what was read may be a page that an fdatasync failed to store, and only a page that is
/// written again is stored by the next one.
fn store_again(files: &dyn Files, segment: &Arc<Segment>, salt: u32, indexes: Range<u64>, end: u64) -> io::Result<()> {
    let limit = segment.end().min(indexes.end);
    let mut first = indexes.start.max(segment.base);
    let mut scanner = Scanner::open(files, Arc::clone(segment), salt)?;
    let mut offset = loop {
        if first >= limit {
            return Ok(());
        }
        match scanner.find(first, limit)? {
            Found::Record(_) => break scanner.offset(),
            Found::Lost { next, .. } => first = next,
        }
    };
    let file = files.open(&segment.path, Access::Write)?;
    let mut chunk = vec![0; 256 << 10];
    while offset < end {
        let most = chunk.len().min(usize::try_from(end - offset).unwrap_or(usize::MAX));
        let read = match file.read_full_at(&mut chunk[..most], offset) {
            // Reported as damage already; there is nothing to write again.
            Err(e) if is_media_error(&e) => most,
            Ok(0) => break,
            read => {
                let read = read?;
                file.write_all_at(&chunk[..read], offset)?;
                read
            }
        };
        offset += read as u64;
    }
    file.sync_data()
}

/// Ends a segment at `offset`. What is behind it does not count in any case; cutting the file
/// gives back the space, unless somebody may want to look at it.
fn cut(files: &dyn Files, segment: &Segment, offset: u64) {
    if !segment.is_suspect() && segment.size() > offset {
        match files.open(&segment.path, Access::Write).and_then(|file| file.truncate(offset)) {
            Ok(()) => segment.set_size(offset),
            Err(error) => {
                tracing::warn!(file = %segment.path.display(), %error, "cannot cut log segment; its space stays taken");
            }
        }
    }
    segment.set_readable(offset.min(segment.readable()));
}
