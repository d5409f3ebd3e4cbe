//! What is told of logs that were lost: by an earlier run, or while no agent ran.

use std::cmp::Reverse;
use std::collections::{BTreeSet, HashSet};
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use super::books::LeftBehind;
use super::log::{Log, Output};
use super::{Key, Known, Tailer, missed};
use crate::block::Lanes;
use crate::discover::layout::Pod;
use crate::discover::{Container, FileName};

impl Tailer {
    /// Tells of what an earlier run lost without getting that told, and of what went while no agent looked.
    /// To be called once, when everything was looked at for the first time.
    pub fn tell_losses(&mut self, lanes: &mut Lanes, known: &mut dyn Known, now: Instant, wall_ns: i64) {
        let met = self.met_sources();
        for gap in known.untold_gaps() {
            if let Some(at) = self.log_named(&gap.log, lanes, known) {
                let mut output = Output { lanes, counts: &mut self.counts, workshop: &mut self.workshop, now };
                self.logs[at].tell(&gap, &mut output);
            }
        }
        // Where nothing at all is to be seen, a mount is missing rather than everything gone; and files of the node
        // say nothing of where the pods' are.
        if met.is_empty() {
            return;
        }
        let is_container = |log: &&Log| matches!(log.key, Key::Container(..));
        let sees_pods = self.logs.iter().filter(is_container).any(|log| log.sightings().next().is_some());
        let (known_here, mut gone): (Vec<_>, Vec<_>) =
            missed::finished(known.left_behind(), known).into_iter().partition(|left| met.contains(&left.source));
        let mut followed: HashSet<Arc<str>> = known_here.into_iter().map(|left| left.log).collect();
        gone.sort_by_key(|lost| (lost.is_finished, Reverse(lost.since)));
        for lost in gone {
            // What was read to its end leaves no gap, unless what follows on it is not here either.
            let follows = lost.is_finished
                && (followed.contains(&lost.log)
                    || !self.logs.iter().any(|log| log.names.log == lost.log && !log.is_over()));
            let is_mounted = sees_pods || container_of(&lost.log).is_none();
            if follows || !is_mounted || self.may_be_there(&lost.path) {
                continue;
            }
            followed.insert(lost.log.clone());
            let until = self.first_line_behind(&lost.log, lost.since).unwrap_or(wall_ns);
            if let Some(at) = self.log_named(&lost.log, lanes, known) {
                let mut output = Output { lanes, counts: &mut self.counts, workshop: &mut self.workshop, now };
                self.logs[at].note_vanished(&lost, known, until, &mut output);
            }
        }
        self.tell_missed_rotations(lanes, known, now);
        self.tell_missed(lanes, known, now, wall_ns);
    }

    fn met_sources(&self) -> HashSet<u64> {
        self.sightings().map(|sighting| sighting.source).collect()
    }

    /// Sources of earlier runs that no look has found.
    pub fn unmet(&self, known: &dyn Known) -> BTreeSet<u64> {
        let met = self.met_sources();
        known.left_behind().into_iter().map(|left| left.source).filter(|source| !met.contains(source)).collect()
    }

    /// Tells of files that were not read to their end, were not met since the start, and are gone by now.
    pub fn tell_vanished(
        &mut self,
        gone: &[LeftBehind],
        lanes: &mut Lanes,
        known: &mut dyn Known,
        now: Instant,
        wall_ns: i64,
    ) {
        for lost in gone {
            let until = self.first_line_behind(&lost.log, lost.since).unwrap_or(wall_ns);
            if let Some(at) = self.log_named(&lost.log, lanes, known) {
                let mut output = Output { lanes, counts: &mut self.counts, workshop: &mut self.workshop, now };
                self.logs[at].note_vanished(lost, known, until, &mut output);
            }
        }
    }

    /// What cannot be looked at is not gone. Where another file has its path by now, it is: that one was
    /// looked at.
    fn may_be_there(&self, path: &Path) -> bool {
        // The link itself: where it leads to may not be mounted.
        match path.symlink_metadata() {
            Ok(_) => !self.logs.iter().any(|log| log.has_file_at(path)),
            Err(error) => error.kind() != std::io::ErrorKind::NotFound,
        }
    }

    /// The log whose live file is or was `name`, also where none of its files is left.
    pub(super) fn log_named(&mut self, name: &str, lanes: &mut Lanes, known: &mut dyn Known) -> Option<usize> {
        if let Some(at) = self.logs.iter().position(|log| *log.names.log == *name) {
            return Some(at);
        }
        match container_of(name) {
            Some((container, attempt, directory)) => {
                Some(self.container_log(&container, attempt, directory, lanes, known))
            }
            None => self.host_log_that_was(name, lanes, known),
        }
    }
}

/// Which attempt of which container a log is, and the directory of its files; `None`: a log of the node's.
pub(super) fn container_of(log: &str) -> Option<(Container, u32, &Path)> {
    let path = Path::new(log);
    let directory = path.parent()?;
    let container = Pod::of(directory.parent()?)?.container(directory)?;
    let attempt = FileName::parse(path.file_name()?.to_str()?)?.attempt;
    Some((container, attempt, directory))
}
