//! Whether a file that no look has found is gone, or only cannot be looked at.

use std::fs::{self, File};
use std::io::ErrorKind;
use std::path::Path;

/// Directories above a container's log: its own, its pod's, the root.
const POD_LEVELS: usize = 3;

/// Whether a file that was not met for long may be there all the same: it cannot be opened, what it lies in
/// cannot be listed, or where it was mounted nothing is. `pods` is where the pods' directories are, and whether
/// it [is mounted](super::Discovery::is_mounted) for certain.
#[must_use]
pub fn may_be_there(path: &Path, pods: Option<(&Path, bool)>) -> bool {
    if !path.is_absolute() {
        return false;
    }
    let root = pods.filter(|(root, _)| path.starts_with(root));
    let levels = if root.is_some() { POD_LEVELS } else { 1 };
    if path.ancestors().skip(1).take(levels).any(cannot_be_listed) {
        return true;
    }
    match path.metadata() {
        // One that can be opened was looked at: it is another file, or nobody wants it.
        Ok(metadata) => metadata.is_file() && File::open(path).is_err_and(|error| error.kind() != ErrorKind::NotFound),
        Err(error) if error.kind() != ErrorKind::NotFound => true,
        // A link whose end is not mounted.
        Err(_) if path.is_symlink() => true,
        Err(_) => match root {
            // Pods go with their directories. A root without any may be a mount that is missing.
            Some((root, is_mounted)) => {
                !is_mounted && !fs::read_dir(root).is_ok_and(|mut entries| entries.next().is_some())
            }
            // The node's own files are rotated; their directory stays.
            None => !path.parent().is_some_and(Path::is_dir),
        },
    }
}

fn cannot_be_listed(directory: &Path) -> bool {
    fs::read_dir(directory).is_err_and(|error| error.kind() != ErrorKind::NotFound)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn what_cannot_be_looked_at_is_not_gone() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("pods");
        let log = root.join("ns_pod_uid/app/0.log");
        let may = |path: &Path| may_be_there(path, Some((&root, false)));
        assert!(may(&log), "the root is not mounted");
        fs::create_dir(&root).unwrap();
        assert!(may(&log), "nothing is mounted on the root");
        assert!(!may_be_there(&log, Some((&root, true))), "the last pod is gone");
        fs::create_dir(root.join("ns_other_uid")).unwrap();
        assert!(!may(&log), "its pod is gone");
        fs::create_dir_all(log.parent().unwrap()).unwrap();
        assert!(!may(&log), "it is gone");
        symlink(dir.path().join("docker/0-json.log"), &log).unwrap();
        assert!(may(&log), "where its link leads is not mounted");
        fs::remove_file(&log).unwrap();
        symlink(&log, &log).unwrap();
        assert!(may(&log), "it cannot be opened");
        fs::remove_file(&log).unwrap();
        fs::write(&log, "another one").unwrap();
        assert!(!may(&log), "it was looked at");
        fs::remove_dir_all(root.join("ns_pod_uid")).unwrap();
        fs::write(root.join("ns_pod_uid"), "no directory").unwrap();
        assert!(may(&log), "its directory cannot be listed");
    }

    #[test]
    fn a_file_of_the_node_is_gone_where_its_directory_is_there() {
        let dir = tempfile::tempdir().unwrap();
        let log = dir.path().join("app/app.log.1");
        assert!(may_be_there(&log, Some((Path::new("/var/log/pods"), false))));
        fs::create_dir(dir.path().join("app")).unwrap();
        assert!(!may_be_there(&log, Some((Path::new("/var/log/pods"), false))));
        for path in ["", "journal/s=1"] {
            assert!(!may_be_there(Path::new(path), None), "it never was a file");
        }
    }
}
