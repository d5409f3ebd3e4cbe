//! Log files of the node: those that a setting names, and the files that one was before its rotations.

use std::collections::{HashMap, HashSet};
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use globset::{GlobBuilder, GlobMatcher};
use sluice_wire::Category;

/// Files that one pattern may match; those that come later by name are left out.
const MAX_FILES: usize = 500;
/// Entries of a directory that are looked at.
const MAX_ENTRIES: usize = 20_000;
/// What a compressed file's name ends in. Of these `.gz` is read, as what a file was that is known.
const COMPRESSED: [&str; 6] = ["gz", "xz", "bz2", "zst", "Z", "lz4"];

/// A change of a directory may have the same time as one up to so long before it.
const TICK: Duration = Duration::from_secs(1);

/// What patterns matched when their directories were listed last: it holds as long as nothing was created,
/// renamed or removed there.
#[derive(Debug, Default)]
pub struct Listings(HashMap<PathBuf, (SystemTime, Vec<PathBuf>)>);

/// One or many log files of the node.
#[derive(Debug, Clone)]
pub struct HostFiles {
    /// A path, or a pattern of paths.
    pub path: HostPath,
    /// What it is called in records and lanes; `None`: by its file's name.
    pub unit: Option<Arc<str>>,
    /// Host, dataplane or audit.
    pub category: Category,
    /// Which parser its messages are for.
    pub format: &'static str,
}

/// Which files.
#[derive(Debug, Clone)]
pub enum HostPath {
    /// This one.
    One(PathBuf),
    /// Those of a directory whose names match.
    Named {
        /// Where.
        directory: PathBuf,
        /// Their names.
        name: GlobMatcher,
    },
}

impl PartialEq for HostPath {
    /// As they are written.
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::One(one), Self::One(other)) => one == other,
            (Self::Named { directory, name }, Self::Named { directory: in_directory, name: named }) => {
                directory == in_directory && name.glob() == named.glob()
            }
            _ => false,
        }
    }
}

impl HostPath {
    /// Takes a setting: its last part may be a pattern.
    ///
    /// # Errors
    /// Why it is none.
    pub fn parse(text: &str) -> Result<Self, String> {
        let is_pattern = |part: &str| part.contains(['*', '?', '[', '{']);
        let path = Path::new(text);
        if !path.is_absolute() {
            return Err("the path must begin with `/`".into());
        }
        let (Some(directory), Some(name)) = (path.parent(), path.file_name().and_then(|name| name.to_str())) else {
            return Err("the path must lead to a file".into());
        };
        if is_pattern(&directory.to_string_lossy()) {
            return Err("only the last part of the path may be a pattern".into());
        }
        if !is_pattern(name) {
            return Ok(Self::One(path.to_owned()));
        }
        let glob = GlobBuilder::new(name).literal_separator(true).build().map_err(|error| error.to_string())?;
        Ok(Self::Named { directory: directory.to_owned(), name: glob.compile_matcher() })
    }
}

impl HostFiles {
    /// The files that there are now, by name. A pattern leaves out what is compressed, and what is a
    /// rotated file of another that it matches: that is read as what the other one was.
    #[must_use]
    pub fn files(&self, listings: &mut Listings) -> Vec<PathBuf> {
        match &self.path {
            HostPath::One(path) => vec![path.clone()],
            HostPath::Named { directory, name } => listings.files(directory, name),
        }
    }

    /// What a file is called in records and lanes.
    #[must_use]
    pub fn unit_of(&self, path: &Path) -> Arc<str> {
        let by_name = || path.file_name().map_or_else(|| "file".into(), |name| name.to_string_lossy().into());
        self.unit.clone().unwrap_or_else(by_name)
    }
}

impl Listings {
    /// The live files of a directory whose names match, by name.
    fn files(&mut self, directory: &Path, pattern: &GlobMatcher) -> Vec<PathBuf> {
        let key = directory.join(pattern.glob().glob());
        // Asked for before it is listed: what changes meanwhile is seen the next time.
        let changed = fs::metadata(directory).and_then(|metadata| metadata.modified()).ok();
        if let (Some(changed), Some((then, files))) = (changed, self.0.get(&key))
            && changed == *then
        {
            return files.clone();
        }
        let files = live_files(directory, pattern);
        self.0.remove(&key);
        if let Some(changed) = changed.filter(|at| at.elapsed().is_ok_and(|age| age > TICK)) {
            self.0.insert(key, (changed, files.clone()));
        }
        files
    }
}

fn live_files(directory: &Path, pattern: &GlobMatcher) -> Vec<PathBuf> {
    let mut names = names_in(directory);
    names.retain(|name| pattern.is_match(name) && !is_compressed(name));
    names.sort_unstable();
    let is_live = |name: &&String| !names.iter().any(|other| other != *name && is_rotated(other, name));
    let live = names.iter().filter(is_live).map(|name| directory.join(name)).filter(|path| path.is_file());
    live.take(MAX_FILES).collect()
}

/// The files that `live` was before its rotations, the oldest first, each with the time of its last change
/// in nanoseconds of the epoch: logrotate's `messages.1`, `messages-20251026` and `messages.2.gz`, and what
/// the API server makes of `audit.log`: `audit-2025-10-26T10-15-30.123.log`
/// (gopkg.in/natefinch/lumberjack.v2 `backupName`). A compressed file beside the one it is made of may be
/// half written: that one is what there is.
#[must_use]
pub fn rotated(live: &Path) -> Vec<(PathBuf, i64)> {
    let (Some(directory), Some(name)) = (live.parent(), live.file_name().and_then(|name| name.to_str())) else {
        return Vec::new();
    };
    let names: HashSet<String> = names_in(directory).into_iter().filter(|other| is_rotated(name, other)).collect();
    let is_whole = |other: &&String| other.strip_suffix(".gz").is_none_or(|plain| !names.contains(plain));
    let mut found: Vec<_> = names
        .iter()
        .filter(|other| !is_compressed(other) || other.ends_with(".gz"))
        .filter(is_whole)
        .filter_map(|other| {
            let path = directory.join(other);
            let metadata = fs::metadata(&path).ok().filter(fs::Metadata::is_file)?;
            let changed = metadata.mtime().saturating_mul(1_000_000_000).saturating_add(metadata.mtime_nsec());
            Some((path, changed))
        })
        .collect();
    found.sort_by(|a, b| (a.1, &a.0).cmp(&(b.1, &b.0)));
    found
}

/// Whether `path` is what a rotation may have made of `live`, beside it and not compressed.
#[must_use]
pub fn is_rotation(live: &Path, path: &Path) -> bool {
    let name = |path: &Path| path.file_name().and_then(|name| name.to_str()).map(str::to_owned);
    let names = name(live).zip(name(path));
    live.parent() == path.parent()
        && names.is_some_and(|(live, name)| is_rotated(&live, &name) && !is_compressed(&name))
}

/// Whether `name` is what a rotation may have made of `live`.
fn is_rotated(live: &str, name: &str) -> bool {
    let name = COMPRESSED.iter().find_map(|end| name.strip_suffix(end)?.strip_suffix('.')).unwrap_or(name);
    // `.1` is a rotation's; behind a `-` it takes a date: `app-2.log` is not what `app.log` was.
    let is_stamp = |text: &str| {
        let digits = text.bytes().filter(u8::is_ascii_digit).count();
        let is_one = |byte: u8| byte.is_ascii_digit() || matches!(byte, b'-' | b'T' | b'.' | b'_' | b':');
        text[1..].starts_with(|first: char| first.is_ascii_digit())
            && text.bytes().all(is_one)
            && (text.starts_with('.') || (text.starts_with('-') && digits >= 8))
    };
    // `name-STAMP.ext`, as lumberjack and logrotate's `extension` have it.
    let within = live
        .rsplit_once('.')
        .and_then(|(stem, extension)| name.strip_prefix(stem)?.strip_suffix(extension)?.strip_suffix('.'));
    [name.strip_prefix(live), within]
        .into_iter()
        .flatten()
        .any(|text| text.len() > 1 && text.is_ascii() && is_stamp(text))
}

fn is_compressed(name: &str) -> bool {
    name.rsplit_once('.').is_some_and(|(_, end)| COMPRESSED.contains(&end))
}

/// Names in a directory; none where it cannot be listed, which opening a file in it says.
fn names_in(directory: &Path) -> Vec<String> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten().take(MAX_ENTRIES);
    entries.filter_map(|entry| entry.file_name().into_string().ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_rotations_make() {
        for (live, name, expected) in [
            ("messages", "messages.1", true),
            ("messages", "messages-20251026", true),
            ("messages", "messages-20251026-1761473730.gz", true),
            ("messages", "messages.2.gz", true),
            ("messages", "messages", false),
            ("messages", "messages.log", false),
            ("messages", "messages2.1", false),
            ("audit.log", "audit-2025-10-26T10-15-30.123.log", true),
            ("audit.log", "audit-2025-10-26T10-15-30.123.log.gz", true),
            ("audit.log", "audit.log.1", true),
            ("audit.log", "audit-policy.log", false),
            ("audit.log", "audit.log", false),
            ("app.log", "app-2.log", false),
            ("app.log", "app.2.log", true),
            ("app.log", "app-é.log", false),
            ("app.log", "app.log.é", false),
        ] {
            assert_eq!(is_rotated(live, name), expected, "{live} {name}");
        }
    }

    #[test]
    fn a_pattern_matches_live_files_only() {
        let dir = tempfile::tempdir().unwrap();
        for name in ["auth.log", "auth.log.1", "auth.log.2.gz", "cron.log", "notes.txt", "x.log.xz"] {
            fs::write(dir.path().join(name), "x\n").unwrap();
        }
        fs::create_dir(dir.path().join("dir.log")).unwrap();
        let files = |pattern: &str| {
            let path = HostPath::parse(&format!("{}/{pattern}", dir.path().display())).unwrap();
            let files = HostFiles { path, unit: None, category: Category::Host, format: "plain" };
            let found = files.files(&mut Listings::default());
            found.iter().map(|path| files.unit_of(path).to_string()).collect::<Vec<_>>()
        };
        assert_eq!(files("*.log*"), ["auth.log", "cron.log"]);
        assert_eq!(files("{cron,none}.log"), ["cron.log"]);
        // No pattern: it may come later.
        assert_eq!(files("missing"), ["missing"]);
        let before: Vec<_> = rotated(&dir.path().join("auth.log")).into_iter().map(|(path, _)| path).collect();
        assert_eq!(before.len(), 2, "{before:?}");
    }

    #[test]
    fn what_is_no_path_of_log_files_is_refused() {
        for text in ["relative/*.log", "/var/*/x.log", "/", "/var/log/[", ""] {
            assert!(HostPath::parse(text).is_err(), "{text}");
        }
    }
}
