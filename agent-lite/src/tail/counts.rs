//! What reading counts.

/// What reading came to, over all logs since last asked.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Bytes of files, as they are on disk.
    pub bytes: u64,
    /// Logical lines put into blocks.
    pub lines: u64,
    /// Physical lines that could not be taken apart, and their bytes.
    pub torn: u64,
    /// Their bytes.
    pub torn_bytes: u64,
    /// Lines of an audit log that go as text: no events, or too large for a record.
    pub no_events: u64,
    /// Lines older than `since` on a first start.
    pub too_old: u64,
    /// Lines longer than a record, sent in parts.
    pub long: u64,
    /// Logs that went on without what is to be known of their pods.
    pub undescribed: u64,
    /// Lines that a pod's budget has cost it.
    pub dropped: u64,
    /// Ranges of logs that were lost.
    pub gaps: u64,
    /// Files that became shorter under us.
    pub truncated: u64,
    /// Entries of a journal, or records of the kernel's, that were lost.
    pub missing_entries: u64,
    /// Times that the reader of the journal ended.
    pub reader_ends: u64,
    /// Files and directories that could not be read.
    pub unreadable: u64,
}
