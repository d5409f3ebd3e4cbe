//! Log files of the node: where they are, and the files that they were before their rotations.

use std::collections::HashSet;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use sluice_wire::Category;

use super::content::Content;
use super::file::LogFile;
use super::log::{Format, Log, Names};
use super::{Key, Known, StartFrom, Tailer};
use crate::block::Lanes;
use crate::discover::layout::Age;
use crate::discover::{HostFiles, Listings, rotated};

/// Times that a directory is listed whose files are just being renamed.
const LISTINGS: usize = 5;

impl Tailer {
    /// Looks at the node's log files: opens what is new or was replaced, notes what is gone.
    pub fn look_at_host(&mut self, files: &[HostFiles], lanes: &mut Lanes, known: &mut dyn Known) {
        self.logs.iter_mut().filter(|log| matches!(log.key, Key::Host(_))).for_each(|log| log.is_listed = false);
        for files in files {
            for path in files.files(&mut self.listings) {
                self.look_at_host_file(&path, &files.unit_of(&path), (files.category, files.format), lanes, known);
            }
        }
        let looks = self.looks;
        self.logs.iter_mut().filter(|log| !log.is_listed).for_each(|log| log.supersede(None, looks));
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
        let key = Key::Host(path.to_owned());
        let at = match self.by_key.get(&key) {
            Some(at) => *at,
            None => {
                let lane = lanes.lane(category, unit);
                let books = format!("{}/{unit}", category.word()).into();
                let common = [self.labels.of_unit(unit, category), Vec::new(), Vec::new()];
                let lines = if category == Category::Audit { Format::Audit } else { Format::Plain };
                let log = path.to_string_lossy().into();
                let treatment = self.workshop.treatment_of_host(unit, format);
                let share = self.shares.of_log(unit, None, self.first_look, Instant::now());
                let at = self.add(Log::new(key, Names { log, books }, lane, lines, common, treatment, share), lanes);
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
            Ok(false) => return self.logs[at].supersede(None, self.looks),
            // Opening it says why.
            Err(_) => {}
        }
        if let Some(present) = self.take_up(at, path, &Age::Live, known) {
            self.logs[at].supersede(Some(present), self.looks);
        }
    }

    /// Takes up what `live` was before rotations that no agent saw: files that an earlier run has not read to
    /// their end, and those that were written since it looked last.
    fn take_up_rotated(&mut self, at: usize, live: &Path, known: &mut dyn Known) {
        let key = self.logs[at].key.clone();
        let mut files = self.open_rotated(live, &key, known);
        // What cannot be opened is said when its turn comes.
        let live = open(live, 0, &key, known).ok().flatten().map(|file| file.source);
        let is_copy = |file: &LogFile| file.content.as_ref().is_some_and(Content::is_compressed);
        // What is there as it was has no copy.
        let mut claimed: HashSet<u64> =
            files.iter().filter(|(file, _)| !is_copy(file)).map(|(file, _)| file.source).chain(live).collect();
        // Two files may well begin with the same line: the newest copy has the first choice, and each is of one.
        for (file, _) in files.iter_mut().rev().filter(|(file, _)| is_copy(file)) {
            for original in known.begun_with(&key.text(), file.fingerprint, file.size) {
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
            if file.source != 0 && known.is_unfinished(file.source).unwrap_or(written_since) {
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

fn open(path: &Path, order: usize, key: &Key, known: &mut dyn Known) -> io::Result<Option<LogFile>> {
    let Some(mut file) = LogFile::open(path, &Age::Rotated(format!("{order:08}").into()))? else { return Ok(None) };
    file.identify(key, StartFrom::Beginning, known)?;
    Ok(Some(file))
}
