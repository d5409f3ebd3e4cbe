//! What came and went while nobody looked, so far as what is here says so.
//!
//! A container's attempts have numbers without holes. So the highest that was met, which is kept in the
//! checkpoint, and those that are here now say which ones were never seen. They are told of as gaps of no known
//! bytes: from the last line of the container that is known to be stored, to its first one that is here. A
//! container of which nothing is here any more may have had later attempts: the gap of its last one lasts until now.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use sluice_wire::Stream;

use super::books::{Abandoned, Gap, LeftBehind};
use super::log::{Log, Output};
use super::{Key, Known, Tailer};
use crate::block::Lanes;
use crate::discover::{FileName, Listing, Look};

/// Attempts of a container that are told of one by one. Where more were missed, the first of the last ones stands
/// for all before it.
const TOLD: u32 = 8;
/// Rotated files of an attempt beside which older ones may have been: the kubelet keeps five files unless told
/// otherwise.
const FULL_SET: usize = 4;

/// Directories of containers, and the highest attempt that a look has found there.
pub type Attempts = BTreeMap<Arc<str>, Option<u32>>;

/// The containers that were met.
#[derive(Debug, Default)]
pub(super) struct Containers {
    /// `None`: nothing is known of what was here before.
    met: Option<BTreeMap<Arc<str>, Met>>,
    missed: Vec<Missed>,
    /// Logs of which nothing is here any more that was, while this run looked, and the time of the last line that
    /// was read of each.
    cut: Vec<(Arc<str>, i64)>,
    /// An earlier run has kept what it met.
    after_a_run: bool,
}

#[derive(Debug, Clone, Copy)]
struct Met {
    attempt: Option<u32>,
    /// Not only by an earlier run.
    by_this_run: bool,
}

/// Attempts of a container that nobody has seen.
#[derive(Debug)]
struct Missed {
    directory: Arc<str>,
    attempts: Range<u32>,
}

impl Containers {
    /// Compares a listing with what was met, and meets it.
    fn meet(&mut self, listing: &Listing, known: &dyn Known) {
        let Some(met) = &mut self.met else { return };
        let directory: Arc<str> = listing.directory.to_string_lossy().into();
        let before = met.get(&directory).copied();
        let mut next = before.map_or(0, |before| first_unseen(&directory, before, known));
        let mut attempt = before.and_then(|before| before.attempt);
        for here in listing.files.iter().map(|found| found.name.attempt) {
            self.missed.extend(missed(&directory, next..here));
            next = next.max(here.saturating_add(1));
            attempt = attempt.max(Some(here));
        }
        met.insert(directory, Met { attempt, by_this_run: true });
    }

    /// After a look at everything: what was not in it is gone. Where nothing at all is to be seen, a mount is
    /// missing rather than everything gone.
    fn keep_only(&mut self, look: &Look, known: &dyn Known) {
        let here: HashSet<_> = look.containers.iter().map(|listing| listing.directory.as_path()).collect();
        let hidden = |path: &Path| {
            look.unreadable.iter().any(|unreadable| path.starts_with(&unreadable.path)) || here.is_empty()
        };
        let Some(met) = &mut self.met else { return };
        let missed_by = &mut self.missed;
        met.retain(|directory, met| {
            let keep = here.contains(Path::new(&**directory)) || hidden(Path::new(&**directory));
            if !keep && !met.by_this_run {
                // Of what it was known to have written another gap tells.
                let last = met.attempt.unwrap_or(0);
                let has_written = !known.sources_of(&name_of(directory, last)).is_empty();
                missed_by.extend(missed(directory, last..last.saturating_add(u32::from(!has_written))));
            }
            keep
        });
    }
}

/// The first attempt that may have been missed, of a container that was met.
fn first_unseen(directory: &str, met: Met, known: &dyn Known) -> u32 {
    let Some(attempt) = met.attempt else { return 0 };
    // Of one that had written nothing by then no source is known: if it is not here, it is missed, too.
    let is_known = met.by_this_run || !known.sources_of(&name_of(directory, attempt)).is_empty();
    attempt.saturating_add(u32::from(is_known))
}

fn missed(directory: &Arc<str>, attempts: Range<u32>) -> Option<Missed> {
    let start = attempts.start.max(attempts.end.saturating_sub(TOLD));
    (!attempts.is_empty()).then(|| Missed { directory: directory.clone(), attempts: start..attempts.end })
}

fn name_of(directory: &str, attempt: u32) -> Arc<str> {
    format!("{directory}/{attempt}.log").into()
}

fn name_in(path: &Path) -> Option<FileName> {
    FileName::parse(path.file_name()?.to_str()?)
}

fn directory_of(log: &str) -> &str {
    log.rsplit_once('/').map_or("", |(directory, _)| directory)
}

/// Marks files that were put aside, and read so far as was known, as finished where a younger one was known: then
/// nobody wrote to them any more.
pub(super) fn finished(mut left: Vec<LeftBehind>, known: &dyn Known) -> Vec<LeftBehind> {
    let mut youngest: HashMap<Arc<str>, Arc<Path>> = HashMap::new();
    let is_live = |left: &LeftBehind| *left.path == *Path::new(&*left.log);
    for of_log in &left {
        let path = youngest.entry(of_log.log.clone()).or_insert_with(|| of_log.path.clone());
        if is_live(of_log) || (*of_log.path > **path && **path != *Path::new(&*of_log.log)) {
            *path = of_log.path.clone();
        }
    }
    let of_container = |left: &&mut LeftBehind| name_in(&left.path).is_some();
    for of_log in left.iter_mut().filter(of_container) {
        of_log.is_finished |=
            *youngest[&of_log.log] != *of_log.path && of_log.written <= known.accounted(of_log.source);
    }
    left
}

/// The gap of lines of a log that nobody has seen: no file is known that held them. `read`: what was.
fn unseen(log: Arc<str>, until: i64, read: &[LeftBehind]) -> Gap {
    let of_container = read.iter().filter(|left| directory_of(&left.log) == directory_of(&log));
    let since = of_container.map(|left| left.since).filter(|since| *since < until).max().unwrap_or(0);
    let path = Path::new(&*log).into();
    Gap { log, path, source: 0, from: 0, to: 0, bytes: 0, why: Abandoned::Vanished, since, until, number: 0 }
}

impl Tailer {
    /// The containers that an earlier run has met; `None`: nothing is known of them.
    #[must_use]
    pub fn having_met(mut self, attempts: Option<Attempts>) -> Self {
        self.containers.after_a_run = attempts.is_some();
        let of_earlier = |attempt| Met { attempt, by_this_run: false };
        self.containers.met = attempts.map(|attempts| {
            attempts.into_iter().map(|(directory, attempt)| (directory, of_earlier(attempt))).collect()
        });
        self
    }

    /// The containers that were met so far: what [`Tailer::having_met`] wants at the next start. `None`: there was
    /// no look yet that found any.
    pub fn met(&self) -> Option<impl Iterator<Item = (&Arc<str>, Option<u32>)>> {
        self.containers.met.as_ref().map(|met| met.iter().map(|(directory, met)| (directory, met.attempt)))
    }

    /// Notes what a look found that nobody has seen coming.
    pub(super) fn meet(&mut self, look: &Look, known: &dyn Known) {
        // Where nothing is known of what was before, nothing is missing from what is here. (And where nothing is
        // here, there may be a mount to come.)
        let is_first = self.containers.met.is_none();
        if is_first && look.containers.is_empty() {
            return;
        }
        self.containers.met.get_or_insert_default();
        let chosen = |listing: &&Listing| !self.left_out.contains(&listing.container);
        for listing in look.containers.iter().filter(chosen) {
            self.containers.meet(listing, known);
        }
        if is_first {
            self.containers.missed.clear();
        }
        if look.whole {
            self.containers.keep_only(look, known);
        }
    }

    /// Notes that all files of a log are others than at the look before. Where some of them were put aside, others
    /// may have been that are gone: the agent had no time to look over all rotations that are kept.
    pub(super) fn note_unseen_rotations(&mut self, at: usize) {
        let log = &self.logs[at];
        if log.rotated() > 0 {
            self.containers.cut.push((log.names.log.clone(), log.last_time()));
        }
    }

    /// Tells of attempts, and of rotations while this run looked, that nobody has seen.
    pub(super) fn tell_missed(&mut self, lanes: &mut Lanes, known: &mut dyn Known, now: Instant, wall_ns: i64) {
        for (log, since) in std::mem::take(&mut self.containers.cut) {
            let until = self.first_line_behind(&log, since).unwrap_or(wall_ns);
            self.open_unseen(Gap { since, ..unseen(log, until, &[]) }, lanes, known, now);
        }
        let missed = std::mem::take(&mut self.containers.missed);
        if missed.is_empty() {
            return;
        }
        let read = known.left_behind();
        for Missed { directory, attempts } in missed {
            for attempt in attempts {
                let until = self.first_line_of(&directory, attempt, 0).unwrap_or(wall_ns);
                let gap = unseen(name_of(&directory, attempt), until, &read);
                self.tell_unseen(gap, lanes, known, now);
            }
        }
    }

    /// Tells of rotated files that may have gone before those that are here, of attempts of which an earlier run
    /// has read nothing.
    pub(super) fn tell_missed_rotations(&mut self, lanes: &mut Lanes, known: &mut dyn Known, now: Instant) {
        if !self.containers.after_a_run {
            return;
        }
        let full = self.logs.iter().map(Log::rotated).max().unwrap_or(0).max(FULL_SET);
        let read = known.left_behind();
        let logs: HashSet<&str> = read.iter().map(|left| &*left.log).collect();
        let cut = self.logs.iter().filter(|log| log.rotated() >= full && !logs.contains(&*log.names.log));
        let cut: Vec<Gap> =
            cut.filter_map(|log| Some(unseen(log.names.log.clone(), log.first_line_after(0)?, &read))).collect();
        for gap in cut {
            self.tell_unseen(gap, lanes, known, now);
        }
    }

    fn tell_unseen(&mut self, gap: Gap, lanes: &mut Lanes, known: &mut dyn Known, now: Instant) {
        // A run that was killed may have told it before the checkpoint knew.
        if known.covered(gap.mark(), Stream::Whole) == 0 {
            self.open_unseen(gap, lanes, known, now);
        }
    }

    fn open_unseen(&mut self, gap: Gap, lanes: &mut Lanes, known: &mut dyn Known, now: Instant) {
        let Some(gap) = known.open_gap(gap) else { return };
        tracing::error!(
            log = %gap.log, since = gap.since, until = gap.until,
            "lines of a container may have come and gone unseen"
        );
        if let Some(at) = self.log_named(&gap.log, lanes, known) {
            let mut output = Output { lanes, counts: &mut self.counts, workshop: &mut self.workshop, now };
            self.logs[at].tell(&gap, &mut output);
        }
    }

    /// The time of the first line behind `since` that is here, of that attempt of a container's or of a later one,
    /// nanoseconds of the epoch.
    pub(super) fn first_line_of(&self, directory: &str, attempt: u32, since: i64) -> Option<i64> {
        let follows = |log: &&Log| {
            matches!(&log.key, Key::Container(_, other) if *other >= attempt)
                && directory_of(&log.names.log) == directory
        };
        self.logs.iter().filter(follows).filter_map(|log| log.first_line_after(since)).min()
    }

    /// The same of what follows on a file of `log`'s that is gone.
    pub(super) fn first_line_behind(&self, log: &str, since: i64) -> Option<i64> {
        let (directory, file) = log.rsplit_once('/')?;
        let attempt = FileName::parse(file)?.attempt;
        self.first_line_of(directory, attempt, since)
    }
}
