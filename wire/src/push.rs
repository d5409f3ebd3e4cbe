//! The HTTP side of a push: names, the greeting, and the reply's lines.

use serde::{Deserialize, Serialize};

use crate::verdict::{InvalidVerdict, Verdict};
use crate::{JournalId, limits};

/// `GET` greets ([`Hello`]), `POST` pushes.
pub const PATH: &str = "/v1/push";
/// The request's media type: frames one after the other.
pub const CONTENT_TYPE: &str = "application/vnd.sluice.push";
/// The reply's media type: one verdict a line.
pub const VERDICTS_TYPE: &str = "application/vnd.sluice.verdicts";
/// In a request: the journal that it is meant for. In a reply: the journal that answers.
pub const JOURNAL_HEADER: &str = "sluice-journal";
/// In a reply whose status is not 200: the one verdict that stands for every block of the request.
/// A reply without it did not come from the gateway itself, and decides nothing.
pub const VERDICT_HEADER: &str = "sluice-verdict";

/// The version of frames that this build writes.
pub const VERSION: u8 = 1;
/// The oldest version that this build reads. A gateway reads N and N−1, so that agents and gateways
/// may be upgraded in either order; version 1 is the first.
pub const OLDEST_VERSION: u8 = 1;

/// What a connection learns before its first block.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hello {
    /// [`JournalId`] in hexadecimal.
    pub journal: String,
    /// The oldest and newest wire version that the gateway reads.
    pub wire: Versions,
    /// The gateway's limits; never above those in [`limits`].
    pub limits: Limits,
}

/// The range of versions that one side reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Versions {
    /// Oldest.
    pub min: u8,
    /// Newest.
    pub max: u8,
}

impl Versions {
    /// What this build reads.
    pub const OURS: Self = Self { min: OLDEST_VERSION, max: VERSION };

    /// The newest version that both sides speak.
    #[must_use]
    pub fn common(self, other: Self) -> Option<u8> {
        let newest = self.max.min(other.max);
        (newest >= self.min.max(other.min)).then_some(newest)
    }
}

/// The limits that a gateway tells, in bytes (`blocks`: a number).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limits {
    /// Raw bytes of a block.
    pub block_raw: usize,
    /// Compressed bytes of a block.
    pub block_payload: usize,
    /// One record.
    pub line: usize,
    /// One request's body.
    pub request: usize,
    /// Blocks in one request.
    pub blocks: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            block_raw: limits::BLOCK_RAW,
            block_payload: limits::BLOCK_PAYLOAD,
            line: limits::LINE,
            request: limits::REQUEST,
            blocks: limits::REQUEST_BLOCKS,
        }
    }
}

impl Hello {
    /// The greeting of a gateway whose journal is `journal`.
    #[must_use]
    pub fn new(journal: JournalId) -> Self {
        Self { journal: journal.to_string(), wire: Versions::OURS, limits: Limits::default() }
    }
}

/// The body of a reply.
#[must_use]
pub fn write_verdicts(verdicts: &[Verdict]) -> String {
    use std::fmt::Write as _;
    verdicts.iter().fold(String::with_capacity(verdicts.len() * 10), |mut body, verdict| {
        // Writing to a String cannot fail.
        let _ = writeln!(body, "{verdict}");
        body
    })
}

/// Reads a reply to a request of `blocks` blocks.
///
/// # Errors
/// A line that is no verdict, or another number of lines than blocks: all of them stay in doubt.
pub fn read_verdicts(body: &str, blocks: usize) -> Result<Vec<Verdict>, InvalidVerdict> {
    let verdicts: Vec<Verdict> = body.lines().take(blocks + 1).map(str::parse).collect::<Result<_, _>>()?;
    if verdicts.len() == blocks { Ok(verdicts) } else { Err(InvalidVerdict) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Reason;

    #[test]
    fn a_reply_has_one_verdict_for_each_block() {
        let verdicts = [Verdict::Accepted, Verdict::Rejected(Reason::Json)];
        let body = write_verdicts(&verdicts);
        assert_eq!(read_verdicts(&body, 2), Ok(verdicts.to_vec()));
        assert!(read_verdicts(&body, 1).is_err());
        assert!(read_verdicts(&body, 3).is_err());
    }

    #[test]
    fn the_newest_common_version_is_spoken() {
        let v = |min, max| Versions { min, max };
        assert_eq!(v(1, 2).common(v(2, 3)), Some(2));
        assert_eq!(v(1, 1).common(v(1, 2)), Some(1));
        assert_eq!(v(1, 1).common(v(2, 3)), None);
    }
}
