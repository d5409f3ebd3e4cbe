//! What the file destination finds again after a restart, as JSON in its cursor.

use serde::{Deserialize, Serialize};

/// The version that this program writes. It reads version 1 as well, which names no tree.
pub(super) const VERSION: u32 = 2;

/// All files that may still grow, and the number that the next one gets.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct State {
    pub(super) version: u32,
    /// The tree that this is about, as the marker in its directory has it.
    #[serde(default)]
    pub(super) tree: String,
    /// Files with this number or a higher one are newer than this state.
    pub(super) next: u64,
    pub(super) files: Vec<Growing>,
}

/// One file that may still grow.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Growing {
    pub(super) tenant: String,
    pub(super) category: String,
    pub(super) name: String,
    /// Bytes that belong to decided entries.
    pub(super) length: u64,
    /// Day of its start, since the epoch (UTC).
    pub(super) day: i64,
}
