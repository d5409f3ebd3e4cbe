//! Which files a log has: opened, renamed, compressed, closed, gone.

use std::io;
use std::path::{Path, PathBuf};

use super::super::books::Abandoned;
use super::super::content::Content;
use super::super::file::{Identity, LATE_BYTES, LATE_HOST_BYTES, LogFile, LongLine, Opened};
use super::join::{LAST_WORDS, waits_in};
use super::{Format, Key, Known, Log, Output, STREAMS, StartFrom};
use crate::discover::layout::Age;
use crate::discover::{is_rotation, rotated};

impl Log {
    /// Makes the file at `path` one of the log's, in its place; `None`: nothing is there any more.
    pub(in crate::tail) fn take_up(
        &mut self,
        path: &Path,
        age: &Age,
        start: StartFrom,
        known: &mut dyn Known,
    ) -> io::Result<Option<Opened>> {
        let Some((identity, size)) = LogFile::identity_of(path)? else { return Ok(None) };
        if let Some(at) = self.files.iter().position(|file| file.identity == identity) {
            // An inode is not given to another file while it is open; once it is closed it may be.
            let file = &self.files[at];
            let has_changed = if is_gzip(path) { file.on_disk != size } else { file.size != size };
            let suspicious = file.content.is_none() && (file.path != path || has_changed);
            if !suspicious || self.is_still(at, path, age, known)? {
                let file = &mut self.files[at];
                // One that became shorter is looked at when the log is cleaned up.
                if !is_gzip(path) && size >= file.size {
                    file.size = size;
                }
                return Ok(Some(Opened::Known(self.meet_again(at, path, age, known))));
            }
            if let Some(mut file) = self.files.remove(at) {
                file.book_left_out(known);
            }
        }
        // The compressed copy of what is here already: the kubelet's has its name, docker's was looked into.
        let is_named = |file: &LogFile| file.age == *age && matches!(age, Age::Rotated(_));
        let is_copy = |file: &LogFile| is_named(file) || file.copy == Some((identity, size));
        if is_gzip(path)
            && let Some(at) = self.files.iter().position(is_copy)
        {
            return Ok(Some(Opened::Known(self.meet_again(at, path, age, known))));
        }
        let Some(mut file) = LogFile::open(path, age)? else { return Ok(None) };
        if file.identify(&self.key, start, known)?
            && file.content.as_ref().is_some_and(Content::is_compressed)
            && let Some(at) = self.renamed_and_compressed(&file, known)
        {
            self.files[at].copy = Some((identity, size));
            return Ok(Some(Opened::Known(self.meet_again(at, path, age, known))));
        }
        let identity = file.identity;
        self.files.push_back(file);
        self.put_in_order();
        Ok(Some(Opened::New(identity)))
    }

    /// Adds a file that was rotated while no agent looked.
    pub(in crate::tail) fn add_rotated(&mut self, file: LogFile) {
        let is_here =
            |other: &LogFile| other.identity == file.identity || (file.source != 0 && other.source == file.source);
        if !self.files.iter().any(is_here) {
            self.files.push_back(file);
            self.put_in_order();
        }
    }

    /// Where the file is of which `copy` is the compressed copy: renamed and compressed between two looks.
    fn renamed_and_compressed(&mut self, copy: &LogFile, known: &mut dyn Known) -> Option<usize> {
        self.files.iter_mut().position(|file| {
            // Where its first line was not whole before, it is now. What it cannot read, it is not.
            let _ = file.identify(&self.key, StartFrom::Beginning, known);
            file.source == copy.source
        })
    }

    fn meet_again(&mut self, at: usize, path: &Path, age: &Age, known: &mut dyn Known) -> Identity {
        let file = &mut self.files[at];
        if file.age != *age {
            // It was empty when it was opened: its place is that of its first line. What it cannot read, it is not.
            let _ = file.identify(&self.key, StartFrom::Beginning, known);
        }
        if file.path != path {
            path.clone_into(&mut file.path);
        }
        file.age.clone_from(age);
        if file.gone.take().is_some() {
            // It was away for a moment only.
            file.is_complete &= file.finished_at.is_some();
        }
        let identity = file.identity;
        self.put_in_order();
        identity
    }

    fn put_in_order(&mut self) {
        self.files.make_contiguous().sort_by(|a, b| a.place().cmp(&b.place()));
    }

    /// Whether a closed file is what `path` leads to; opens it again where it grew after all.
    fn is_still(&mut self, at: usize, path: &Path, age: &Age, known: &mut dyn Known) -> io::Result<bool> {
        let Some(mut candidate) = LogFile::open(path, age)? else { return Ok(false) };
        candidate.identify(&self.key, StartFrom::Beginning, known)?;
        let file = &mut self.files[at];
        if candidate.source != file.source || candidate.size < file.read {
            return Ok(false);
        }
        file.on_disk = candidate.on_disk;
        if candidate.size > file.read {
            file.content = candidate.content;
            file.size = candidate.size;
            file.finished_at = None;
            file.is_complete = false;
        }
        Ok(true)
    }

    /// Whether it has any, also of those that are gone.
    pub(in crate::tail) fn has_files(&self) -> bool {
        !self.files.is_empty()
    }

    /// Whether one of its files is at `path`.
    pub(in crate::tail) fn has_file_at(&self, path: &Path) -> bool {
        self.files.iter().any(|file| file.path == path)
    }

    /// The file that was last seen at `path`.
    pub(in crate::tail) fn identity_at(&self, path: &Path) -> Option<Identity> {
        self.files.iter().find(|file| file.path == path).map(|file| file.identity)
    }

    /// Notes which of its files are still listed.
    pub(in crate::tail) fn keep_only(&mut self, present: &[Identity], look: u64) {
        for file in &mut self.files {
            if present.contains(&file.identity) {
                file.gone = None;
            } else {
                file.gone.get_or_insert(look);
            }
        }
    }

    /// A host log's path now leads to `present`, or nowhere: the files before it were renamed or removed. What
    /// is called as a rotation calls it is there; what has another name, or none, a start would not find.
    pub(in crate::tail) fn supersede(&mut self, present: Option<Identity>, look: u64, known: &mut dyn Known) {
        let Key::Host(live) = &self.key else { return };
        let live = live.clone();
        let mut order = 0_u32;
        for at in 0..self.files.len() {
            if Some(self.files[at].identity) == present {
                continue;
            }
            let path = match self.files[at].content {
                Some(_) => self.files[at].rotated_from(&live),
                None => self.closed_one_of(at, &live, known),
            };
            let file = &mut self.files[at];
            match path {
                Some(path) => (file.path, file.gone) = (path, None),
                None => _ = file.gone.get_or_insert(look),
            }
            if present.is_some() {
                file.age = Age::Rotated(format!("{order:08}").into());
                order += 1;
            }
        }
        self.put_in_order();
    }

    /// Where a closed file of `live`'s is by now, if it is called as a rotation calls it; opens it again where it
    /// grew after all.
    fn closed_one_of(&mut self, at: usize, live: &Path, known: &mut dyn Known) -> Option<PathBuf> {
        let file = &self.files[at];
        let (identity, size, age) = (file.identity, file.size, file.age.clone());
        let look_at = |path: PathBuf| match LogFile::identity_of(&path) {
            Ok(Some((it, now))) if it == identity && is_rotation(live, &path) => Some((path, now)),
            _ => None,
        };
        // Directories are listed only where its name has moved on, and once: what is nowhere is gone.
        let elsewhere = || rotated(live).into_iter().find_map(|(path, _)| look_at(path));
        let is_gone = file.gone.is_some();
        let (path, now) = look_at(file.path.clone()).or_else(|| if is_gone { None } else { elsewhere() })?;
        // What cannot be opened is looked at again.
        (now == size || self.is_still(at, &path, &age, known).unwrap_or(true)).then_some(path)
    }

    /// Closes and forgets what needs no more looking at.
    pub(in crate::tail) fn clean_up(&mut self, known: &mut dyn Known, output: &mut Output<'_>) {
        for at in 0..self.files.len() {
            let file = &mut self.files[at];
            if file.source == 0 && file.size > 0 && !file.is_complete {
                // Its books begin when it is known, not when its turn comes. What it cannot read, it is not.
                let _ = file.identify(&self.key, StartFrom::Beginning, known);
            }
            match self.files[at].has_shrunk() {
                Ok(true) => self.begin_anew(at, known, output),
                Ok(false) => {}
                Err(error) => {
                    tracing::debug!(path = %self.files[at].path.display(), %error, "log file cannot be looked at");
                }
            }
        }
        let (late, patience) = match self.format {
            Format::Container => (LATE_BYTES, LAST_WORDS),
            Format::Plain | Format::Audit => (LATE_HOST_BYTES, LATE_HOST_BYTES),
        };
        let over = self.ended || self.files.iter().all(|file| file.gone.is_some());
        let idle = self.idle_since.is_some_and(|since| output.now.saturating_duration_since(since) > patience);
        // What has no newline is read first: it may be the end of a line that waits.
        if over && idle && self.files.iter().all(|file| file.is_read_out() || file.unreadable) {
            self.flush_last_words(output);
        }
        let last = self.files.len().saturating_sub(1);
        for (at, file) in self.files.iter_mut().enumerate() {
            file.is_complete |= match file.finished_at {
                Some(finished) => output.now.saturating_duration_since(finished) > late,
                None => at == last && over && idle,
            };
            if file.is_complete && file.is_read_out() {
                let waits = waits_in(&self.pending, file.source);
                // What is gone need not be held once the spool, or the ring, has all of it.
                let is_kept =
                    file.gone.is_some() && output.lanes.uses_spool() && output.lanes.are_kept(self.lane, file.source);
                if !waits && (is_kept || file.is_stored(known)) {
                    file.content = None;
                }
            }
        }
        // Known until it is stored: where it comes back it is not read again.
        self.files.retain(|file| {
            let is_stored = file.is_stored(known);
            let is_over = file.gone.is_some() && file.content.is_none() && (is_stored || !file.is_read_out());
            if is_over && is_stored && file.is_read_out() {
                // It is not sighted any more, and went with nothing unread.
                known.note_end(file.source, file.size);
            }
            !is_over
        });
    }

    fn begin_anew(&mut self, at: usize, known: &mut dyn Known, output: &mut Output<'_>) {
        let path = self.files[at].path.display();
        tracing::warn!(%path, "log file became shorter, reading it from its beginning");
        output.counts.truncated += 1;
        self.end_lines_of(at, known, output);
        self.give_up(at, Abandoned::Truncated, known, output);
        self.files[at].begin_anew(known);
    }

    /// What was begun in a file whose rest is gone is a line as it is.
    pub(super) fn end_lines_of(&mut self, at: usize, known: &mut dyn Known, output: &mut Output<'_>) {
        let file = &mut self.files[at];
        let (source, read) = (file.source, file.read);
        match file.long.take() {
            Some(LongLine::Taken { stream, start, .. }) => self.end_piece(at, stream, false, start..read, output),
            Some(LongLine::LeftOut { stream, why, start }) => self.leave_out(at, stream, start..read, why),
            Some(LongLine::Passed { why: Some(why), start }) => {
                known.abandon(source, read, read - start, why);
            }
            Some(LongLine::Passed { why: None, start }) => file.ahead = file.ahead.saturating_sub(read - start),
            None => {}
        }
        for stream in STREAMS {
            if self.pending[stream as usize].as_ref().is_some_and(|pending| pending.ends_in(source)) {
                self.complete(stream, output);
            }
            // The end of a line that is dropped is not there either.
            self.dropping[stream as usize] &= self.files[at].left_out[stream as usize].end == 0;
        }
    }

    /// Deleted files that are held open, not read to their end: since which look, and what each takes on the
    /// disk. Without those that are being read into a spool (what waits for its pod's metadata is not), and
    /// without what has a name elsewhere: it exists, and who rotates bounds it.
    pub(in crate::tail) fn held_deleted(&self, spool: bool) -> impl Iterator<Item = (u64, u64)> {
        let may_be_read = |file: &&LogFile| file.is_finished() || (file.gone.is_some() && !file.unreadable);
        let being_read =
            if spool && self.waits_since.is_none() { self.files.iter().take_while(may_be_read).count() } else { 0 };
        let held = |file: &LogFile| {
            let since = file.gone.filter(|_| file.content.is_some() && !file.has_name());
            since.map(|since| (since, file.size))
        };
        self.files.iter().skip(being_read).filter_map(held)
    }

    /// Whether it holds files that were deleted at or before that look.
    pub(in crate::tail) fn holds_deleted(&self, look: u64) -> bool {
        self.files.iter().any(|file| file.content.is_some() && file.gone.is_some_and(|since| since <= look))
    }

    /// Gives up what is not read of the files that were deleted at or before that look.
    pub(in crate::tail) fn give_up_deleted(&mut self, look: u64, known: &mut dyn Known, output: &mut Output<'_>) {
        let is_due =
            |file: &LogFile| file.gone.is_some_and(|since| since <= look) && file.content.is_some() && !file.has_name();
        let due: Vec<usize> = (0..self.files.len()).filter(|at| is_due(&self.files[*at])).collect();
        if due.is_empty() {
            return;
        }
        for at in &due {
            // Also where its first line is not whole.
            self.files[*at].is_complete = true;
            let _ = self.files[*at].identify(&self.key, StartFrom::Beginning, known);
            self.end_lines_of(*at, known, output);
        }
        if due.iter().any(|at| !self.files[*at].is_read_out()) {
            // The end of a line that began in one of them, or before, may be what is given up.
            STREAMS.into_iter().for_each(|stream| self.complete(stream, output));
            self.dropping = [false; 3];
        } else {
            // Nothing is closed of which a line waits.
            self.end_what_waits_in(is_due, output);
        }
        for at in due {
            if !self.files[at].is_read_out() {
                self.give_up(at, Abandoned::Deleted, known, output);
            }
            self.files[at].content = None;
        }
    }
}

fn is_gzip(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "gz")
}
