//! Blocks and a journal in memory, for the tests of the rooms about `receive`.

use std::sync::{Mutex, PoisonError};

use bytes::Bytes;
use sluice_wire::{Block, Category, Encoding, Header, JournalId, Lane, ProducerId};

use crate::journal::{Appended, EmbeddedSubscription, Entry, Error, Journal, Position};

/// Two lines of a usual block.
pub(crate) const LINES: &str = concat!(
    r#"{"_time":"2025-10-26T10:15:30.5Z","_msg":"one"}"#,
    "\n",
    r#"{"_time":"2025-10-26T10:15:31Z","_msg":"two"}"#,
    "\n",
);

fn length(text: &str) -> u32 {
    u32::try_from(text.len()).expect("a short text")
}

/// The header of [`LINES`], not compressed.
pub(crate) fn header(cluster: &str, category: Category, scope: &str) -> Header {
    Header {
        lane: Lane { producer: ProducerId([7; 16]), category, scope: scope.into(), split: "".into() },
        number: 1,
        cluster: cluster.into(),
        node: "node-1".into(),
        encoding: Encoding::None,
        payload_crc: crc32c::crc32c(LINES.as_bytes()),
        raw_len: length(LINES),
        records: 2,
        longest: LINES.lines().map(length).max().unwrap_or(0),
        first_time: 1_761_473_730_500_000_000,
        last_time: 1_761_473_731_000_000_000,
        positions: Vec::new(),
    }
}

/// A sound block of namespace `scope`.
pub(crate) fn block(scope: &str, number: u64) -> Block {
    let header = Header { number, ..header("apps", Category::Application, scope) };
    Block { header, payload: Bytes::from_static(LINES.as_bytes()) }
}

pub(crate) fn frame(block: &Block) -> Vec<u8> {
    let mut bytes = Vec::new();
    block.write(&mut bytes).expect("within its limits");
    bytes
}

/// Keeps what is appended, and answers as it is told to.
#[derive(Default)]
pub(crate) struct MemoryJournal {
    pub(crate) entries: Mutex<Vec<Entry>>,
    pub(crate) calls: Mutex<usize>,
    /// Answers to the next entries; `Stored` when there are none left.
    pub(crate) answers: Mutex<Vec<Appended>>,
}

impl MemoryJournal {
    pub(crate) const ID: JournalId = JournalId([0xab; 16]);

    /// Namespace and number of what was appended.
    pub(crate) fn stored(&self) -> Vec<(String, u64)> {
        let entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        entries.iter().map(|entry| (entry.block.header.lane.scope.to_string(), entry.block.header.number)).collect()
    }
}

impl Journal for MemoryJournal {
    /// Never made.
    type Subscription = EmbeddedSubscription;

    fn id(&self) -> JournalId {
        Self::ID
    }

    async fn append(&self, entries: Vec<Entry>) -> Vec<Appended> {
        *self.calls.lock().unwrap_or_else(PoisonError::into_inner) += 1;
        let mut answers = self.answers.lock().unwrap_or_else(PoisonError::into_inner);
        let mut stored = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        let mut store = |entry| {
            let index = stored.len() as u64;
            let answer =
                if answers.is_empty() { Appended::Stored(Position { partition: 0, index }) } else { answers.remove(0) };
            if matches!(answer, Appended::Stored(_)) {
                stored.push(entry);
            }
            answer
        };
        entries.into_iter().map(&mut store).collect()
    }

    fn subscribe(&self, _: &str) -> Result<EmbeddedSubscription, Error> {
        Err(Error::Closed)
    }
}
