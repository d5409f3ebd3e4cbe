//! JSON lines under a directory: `{directory}/{tenant}/{category}/<utc-start>-<n>.jsonl`.
//!
//! Exactly once, over SIGKILL and a loss of power at any moment: a batch is appended and synced, and
//! the length that the file then has is saved in one piece with the decisions on the batch's entries.
//! At start every file is cut to its saved length, and files that are newer than the state are removed;
//! what was in them is not decided and comes again.
//!
//! A marker in the directory and the saved state name the same tree, or the state counts for nothing: a
//! directory that was exchanged, or written to by somebody else, keeps all that is in it. A lock keeps a
//! second writer out.
//!
//! Readers should expect a file that is being written to become shorter after a crash.

mod state;
mod tree;

use std::cell::RefCell;
use std::sync::Arc;
use std::time::SystemTime;

use sluice_durable_log::io::Files;
use sluice_wire::payload::Checker;

pub(in crate::deliver) use self::tree::OpenError;
use self::tree::Tree;
use super::{Asked, Destination, Mode, Outcome, Receipt, Refusal, RejectReason, Rejected, Terms, Trailing};
use crate::config::checked;
use crate::deliver::batch::Batch;

/// Compressed and raw bytes of a batch: enough for one fdatasync to cost little beside it.
const BATCH_BYTES: usize = 4 << 20;
const BATCH_RAW_BYTES: usize = 32 << 20;

/// The files of one destination.
pub(in crate::deliver) struct FileTree {
    config: checked::FileDestination,
    inner: RefCell<Inner>,
}

struct Inner {
    tree: Tree,
    checker: Checker,
}

impl FileTree {
    /// Brings the directory to what `state` says.
    pub(in crate::deliver) fn open(
        files: Arc<dyn Files>,
        config: &checked::FileDestination,
        state: Option<&[u8]>,
    ) -> Result<Self, OpenError> {
        let tree = Tree::open(files, &config.directory, config.max_file_bytes, state)?;
        Ok(Self { config: config.clone(), inner: RefCell::new(Inner { tree, checker: Checker::default() }) })
    }

    fn append(&self, batch: &Batch) -> Outcome {
        let Inner { tree, checker } = &mut *self.inner.borrow_mut();
        let mut receipt = Receipt::default();
        let result = tree.append(&batch.tenant, batch.category, now_seconds(), |file| {
            for (position, entry) in batch.members.iter().zip(&batch.entries) {
                let (header, payload) = (&entry.block.header, &entry.block.payload);
                match checker.decode(header.encoding, header.raw_len as usize, payload) {
                    Ok(raw) => {
                        file.write(raw)?;
                        receipt.stored += u64::from(header.records);
                    }
                    Err(_) => {
                        tracing::error!(position.index, "a block of the journal cannot be decompressed");
                        let (position, line) = (*position, payload.clone());
                        receipt.rejected.push(Rejected { position, reason: RejectReason::Undecodable, line });
                    }
                }
            }
            Ok(())
        });
        match result {
            Ok(()) => Outcome::Delivered(receipt),
            // A full or broken disk: somebody has to look at it. What was written of the batch is cut off
            // before anything else is written.
            Err(error) => Outcome::Hold(Refusal::new(error.to_string())),
        }
    }
}

impl Destination for FileTree {
    fn terms(&self) -> Terms {
        Terms {
            batch_bytes: BATCH_BYTES,
            batch_raw_bytes: BATCH_RAW_BYTES,
            batch_age: self.config.batch_age,
            concurrency: 1,
            ordered: true,
            mixes_encodings: true,
            trailing: Trailing::Final,
        }
    }

    async fn send(&self, batch: &Batch, _: Mode) -> Outcome {
        self.append(batch)
    }

    /// A file that was synced holds what was written to it.
    async fn count(&self, _: &str, asked: &[Asked]) -> Result<Vec<u64>, Refusal> {
        Ok(vec![u64::MAX; asked.len()])
    }

    fn state(&self) -> Vec<u8> {
        self.inner.borrow().tree.state()
    }
}

fn now_seconds() -> i64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
}
