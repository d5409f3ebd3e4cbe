//! Log files of the node: where they are, and the files that they were before their rotations.

use std::collections::{BTreeSet, HashSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use sluice_wire::Category;

use super::content::Content;
use super::file::LogFile;
use super::log::{Format, Log, Names};
use super::losses::container_of;
use super::{Key, Known, StartFrom, Tailer};
use crate::block::Lanes;
use crate::discover::layout::Age;
use crate::discover::{HostFiles, HostPath, Listings, is_rotation, rotated};

/// Times that a directory is listed whose files are just being renamed.
const LISTINGS: usize = 5;

impl Tailer {
    /// Looks at the node's log files: opens what is new or was replaced, notes what is gone.
    pub fn look_at_host(&mut self, files: &[HostFiles], lanes: &mut Lanes, known: &mut dyn Known) {
        self.logs.iter_mut().filter(|log| matches!(log.key, Key::Host(_))).for_each(|log| log.is_listed = false);
        let before = if self.passes == 0 { followed_before(known) } else { BTreeSet::new() };
        for files in files {
            for path in files.files(&mut self.listings) {
                let path = match files.path {
                    HostPath::One(_) => path,
                    HostPath::Named { .. } => self.live_one_of(path, &before, known),
                };
                self.look_at_host_file(&path, &files.unit_of(&path), (files.category, files.format), lanes, known);
            }
        }
        let looks = self.looks;
        self.logs.iter_mut().filter(|log| !log.is_listed).for_each(|log| log.supersede(None, looks, known));
    }

    /// What is followed where a pattern matches `path`: the log of which it is a rotated file, also while nobody has
    /// made its live one anew (logrotate's `nocreate` leaves that to the daemon). `before`: what an earlier run has
    /// followed.
    fn live_one_of(&self, path: PathBuf, before: &BTreeSet<PathBuf>, known: &dyn Known) -> PathBuf {
        if self.by_key.contains_key(&Key::Host(path.clone())) || before.contains(&path) {
            return path;
        }
        // Of one that is long gone nothing is known any more: then this is another one's.
        let is_known = |log: &Log| log.has_files() || !known.sources_of(&log.names.log).is_empty();
        let followed = self.logs.iter().find_map(|log| match &log.key {
            Key::Host(live) if is_rotation(live, &path) && is_known(log) => Some(live),
            _ => None,
        });
        followed.or_else(|| before.iter().find(|live| is_rotation(live, &path))).cloned().unwrap_or(path)
    }

    /// From now on directories of the node's log files are listed anew, whatever their times say.
    pub fn list_anew(&mut self) {
        self.listings = Listings::default();
    }

    pub(super) fn look_at_host_file(
        &mut self,
        path: &Path,
        unit: &Arc<str>,
        (category, format): (Category, &'static str),
        lanes: &mut Lanes,
        known: &mut dyn Known,
    ) {
        self.looks += 1;
        let at = match self.by_key.get(&Key::Host(path.to_owned())) {
            Some(at) => *at,
            None => {
                let at = self.host_log(path, unit, (category, format), lanes);
                // Later on renamed files are followed by what is open.
                if self.passes == 0 {
                    self.take_up_rotated(at, path, known);
                }
                at
            }
        };
        self.logs[at].is_listed = true;
        match path.try_exists() {
            Ok(true) => {}
            Ok(false) => return self.logs[at].supersede(None, self.looks, known),
            // Opening it says why.
            Err(_) => {}
        }
        if let Some(present) = self.take_up(at, path, &Age::Live, known) {
            self.logs[at].supersede(Some(present.identity()), self.looks, known);
        }
    }

    fn host_log(
        &mut self,
        path: &Path,
        unit: &Arc<str>,
        (category, format): (Category, &'static str),
        lanes: &mut Lanes,
    ) -> usize {
        let lane = lanes.lane(category, unit);
        let books = format!("{}/{unit}", category.word()).into();
        let common = [self.labels.of_unit(unit, category), Vec::new(), Vec::new()];
        let lines = if category == Category::Audit { Format::Audit } else { Format::Plain };
        let names = Names { log: path.to_string_lossy().into(), books };
        let treatment = self.workshop.treatment_of_host(unit, format);
        let share = self.shares.of_log(unit, None, self.first_look, Instant::now());
        self.add(Log::new(Key::Host(path.to_owned()), names, lane, lines, common, treatment, share), lanes)
    }

    /// The log of a file of the node's that no pattern matches any more, for what is told of it.
    pub(super) fn host_log_that_was(&mut self, name: &str, lanes: &mut Lanes, known: &dyn Known) -> Option<usize> {
        // Entries have logs, too, which are called otherwise.
        let path = Path::new(name).is_absolute().then(|| Path::new(name))?;
        let category = known.category_of_log(name)?;
        let unit = known.unit_of_log(name)?;
        let at = self.host_log(path, &unit, (category, "plain"), lanes);
        // Where it comes back its settings make another one.
        self.logs[at].is_listed = false;
        Some(at)
    }

    /// Takes up what `live` was before rotations that no agent saw: files that an earlier run has not read to
    /// their end, and those that were written since it looked last.
    fn take_up_rotated(&mut self, at: usize, live: &Path, known: &mut dyn Known) {
        let key = self.logs[at].key.clone();
        let mut files = self.open_rotated(live, &key, known);
        // What cannot be opened is said when its turn comes.
        let live = open(live, 0, &key, known).ok().flatten();
        let is_copy = |file: &LogFile| file.content.as_ref().is_some_and(Content::is_compressed);
        // What is there as it was has no copy.
        let mut claimed: HashSet<u64> =
            files.iter().filter(|(file, _)| !is_copy(file)).map(|(file, _)| file.source).collect();
        claimed.extend(live.as_ref().map(|live| live.source));
        // Two files may well begin with the same line: the newest copy has the first choice, and each is of one. Those
        // of `cp` come before the compressed ones: `sort_by_key` is stable.
        let mut copies: Vec<&mut LogFile> = files.iter_mut().rev().map(|(file, _)| file).collect();
        copies.sort_by_key(|file| is_copy(file));
        for file in copies {
            for original in originals_of(file, live.as_ref(), &key, &*known) {
                if claimed.contains(&original) {
                    continue;
                }
                match file.take_over(original, &key, known) {
                    Ok(true) => _ = claimed.insert(original),
                    Ok(false) => continue,
                    Err(error) => self.say_unreadable(&file.path, &error),
                }
                break;
            }
        }
        for (file, changed) in files {
            let written_since = self.last_look.is_some_and(|last| changed > last);
            // A daemon may have written to it after all, behind what was known to be its end.
            let has_grown = |file: &LogFile| !is_copy(file) && file.size > known.accounted(file.source);
            let is_wanted = known.is_unfinished(file.source).map(|more| more || has_grown(&file));
            if file.source != 0 && is_wanted.unwrap_or(written_since) {
                self.logs[at].add_rotated(file);
            }
        }
    }

    /// The files that `live` was, opened, the oldest first, each with the time of its last change. What is
    /// compressed between its listing and its opening has another name by now: it is listed again.
    fn open_rotated(&mut self, live: &Path, key: &Key, known: &mut dyn Known) -> Vec<(LogFile, i64)> {
        let mut files = Vec::new();
        for _ in 0..LISTINGS {
            files.clear();
            let mut missed = false;
            for (order, (path, changed)) in rotated(live).into_iter().enumerate() {
                match open(&path, order, key, known) {
                    Ok(Some(file)) => files.push((file, changed)),
                    Ok(None) => missed = true,
                    Err(error) => self.say_unreadable(&path, &error),
                }
            }
            if !missed {
                break;
            }
        }
        files
    }
}

/// What a rotated file may be a copy of, the most likely first: of a compressed one what began alike; of one that
/// nobody knows what the live file held before, for `cp` and `truncate` leave it so.
fn originals_of(file: &LogFile, live: Option<&LogFile>, key: &Key, known: &dyn Known) -> Vec<u64> {
    if file.content.as_ref().is_some_and(Content::is_compressed) {
        return known.begun_with(&key.text(), file.fingerprint, file.size);
    }
    let is_known = |source: u64| known.is_unfinished(source).is_some();
    if file.source == 0 || is_known(file.source) {
        return Vec::new();
    }
    let before = live.and_then(|live| live.called_with(file.fingerprint, key, known));
    before.into_iter().filter(|original| is_known(*original)).collect()
}

/// The files of the node that an earlier run has followed.
fn followed_before(known: &dyn Known) -> BTreeSet<PathBuf> {
    let logs = known.left_behind().into_iter().map(|left| left.log);
    logs.filter(|log| container_of(log).is_none()).map(|log| PathBuf::from(&*log)).collect()
}

fn open(path: &Path, order: usize, key: &Key, known: &mut dyn Known) -> io::Result<Option<LogFile>> {
    let Some(mut file) = LogFile::open(path, &Age::Rotated(format!("{order:08}").into()))? else { return Ok(None) };
    file.identify(key, StartFrom::Beginning, known)?;
    Ok(Some(file))
}
