//! What the volume can hold, beside what the configuration says.

use std::fs;
use std::path::Path;

use sluice_settings::units::Bytes;

use super::Error;
use crate::config::checked;

/// Refuses a volume on which no segment could ever be freed: the log keeps its last one, so that there has
/// to be room for a second. Says where the volume is smaller than the journal may grow.
pub(super) fn check(config: &checked::Journal) -> Result<(), Error> {
    let directory = &config.directory;
    fs::create_dir_all(directory).map_err(Error::file("create", directory))?;
    let volume = rustix::fs::statvfs(directory).map_err(|errno| Error::file("look at", directory)(errno.into()))?;
    let needed = 2 * config.segment_bytes;
    let size = volume.f_blocks.saturating_mul(volume.f_frsize);
    if size < needed {
        return Err(Error::NoRoom { directory: directory.clone(), size, needed });
    }
    // One that is full for now is no reason not to start: delivering is what makes room.
    let free = volume.f_bavail.saturating_mul(volume.f_frsize).saturating_add(size_of_files(&directory.join("log")));
    if free < config.max_bytes {
        tracing::warn!(
            directory = %directory.display(), max_bytes = %Bytes(config.max_bytes), room = %Bytes(free),
            "the volume has less room than journal.max_bytes: the disk will be full before the journal is"
        );
    }
    Ok(())
}

fn size_of_files(directory: &Path) -> u64 {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.metadata().ok()).filter(fs::Metadata::is_file).map(|file| file.len()).sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn a_volume_without_room_for_two_segments_is_refused_with_the_fix() {
        let dir = tempfile::tempdir().unwrap();
        let config = |segment_bytes| checked::Journal {
            directory: dir.path().join("journal"),
            max_bytes: 4 * segment_bytes,
            segment_bytes,
            commit_delay: Duration::ZERO,
            lane_retention: Duration::from_secs(1),
            park_above: 0.5,
        };
        check(&config(1 << 16)).unwrap();
        let error = check(&config(1 << 60)).unwrap_err().to_string();
        assert!(error.contains("journal.segment_bytes smaller"), "{error}");
    }
}
