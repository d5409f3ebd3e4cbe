//! The kubelet's names: `/var/log/pods/<namespace>_<pod>_<uid>/<container>/<attempt>.log[.<time>]`
//! (kubernetes `pkg/kubelet/kuberuntime/helpers.go`). These directories are the truth; the links in
//! `/var/log/containers` are cut to 255 bytes and are not used for names.

use std::cmp::Reverse;
use std::path::Path;
use std::sync::Arc;

/// A pod, as its directory names it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Pod {
    /// Namespace.
    pub namespace: Arc<str>,
    /// Name.
    pub name: Arc<str>,
    /// UID; of a static pod the hash of its configuration.
    pub uid: Arc<str>,
}

/// A container of a pod, over all its attempts.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Container {
    /// Its pod.
    pub pod: Pod,
    /// Its name.
    pub name: Arc<str>,
}

/// A log file's own name. Ordered by attempt, then rotated files by their time, then the live one; a plain
/// file before its own compressed copy.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct FileName {
    /// The container's restart count.
    pub attempt: u32,
    /// Rotated or live.
    pub age: Age,
    /// `.gz`: the kubelet compresses a rotated file at the next rotation.
    pub compressed: bool,
}

/// Whether the runtime still writes to it.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Age {
    /// `N.log.<time>`; the time is `YYYYMMDD-HHMMSS`, so text order is time order.
    Rotated(Box<str>),
    /// Docker's `<id>-json.log.<n>`, beside where `N.log` leads to: the n-th before the live one. The number of
    /// a file rises with each rotation.
    Numbered(Reverse<u32>),
    /// `N.log`.
    Live,
}

impl Pod {
    /// Takes the directory's name apart. No part holds an underscore: namespace and pod are DNS names.
    #[must_use]
    pub fn of(directory: &Path) -> Option<Self> {
        let name = directory.file_name()?.to_str()?;
        let (namespace, rest) = name.split_once('_')?;
        let (pod, uid) = rest.split_once('_')?;
        let valid = ![namespace, pod, uid].iter().any(|part| part.is_empty() || part.contains('_') || part.len() > 253);
        valid.then(|| Self { namespace: namespace.into(), name: pod.into(), uid: uid.into() })
    }

    /// The container whose directory this is.
    #[must_use]
    pub fn container(&self, directory: &Path) -> Option<Container> {
        let name = directory.file_name()?.to_str()?;
        (name.len() <= 253).then(|| Container { pod: self.clone(), name: name.into() })
    }
}

impl FileName {
    /// `None` for what is no log file: the runtime's and the kubelet's `.tmp`, anything else.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        let (attempt, rest) = name.split_once(".log")?;
        if attempt.is_empty() || !attempt.bytes().all(|byte| byte.is_ascii_digit()) {
            return None;
        }
        let attempt = attempt.parse().ok()?;
        if rest.is_empty() {
            return Some(Self { attempt, age: Age::Live, compressed: false });
        }
        let time = rest.strip_prefix('.')?;
        let (time, compressed) = time.strip_suffix(".gz").map_or((time, false), |time| (time, true));
        let is_time =
            time.len() >= 15 && time.bytes().all(|byte| byte.is_ascii_digit() || byte == b'-' || byte == b'.');
        is_time.then(|| Self { attempt, age: Age::Rotated(time.into()), compressed })
    }

    /// What docker's json-file driver makes of `live`, the file that an attempt's link leads to: `live.1`,
    /// `live.2`, each `.gz` with option `compress` (moby `daemon/logger/loggerutils/logfile.go`, `rotate`).
    #[must_use]
    pub fn of_sibling(live: &str, name: &str, attempt: u32) -> Option<Self> {
        let number = name.strip_prefix(live)?.strip_prefix('.')?;
        let (number, compressed) = number.strip_suffix(".gz").map_or((number, false), |number| (number, true));
        let is_number = !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit());
        let number = number.parse().ok().filter(|_| is_number)?;
        Some(Self { attempt, age: Age::Numbered(Reverse(number)), compressed })
    }
}
