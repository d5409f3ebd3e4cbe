//! Every metric of the agent, by name.

use std::collections::BTreeSet;
use std::fmt::Display;
use std::sync::{Arc, Mutex, PoisonError};

use prometheus::{Gauge, Histogram, HistogramOpts, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Registry};
use sluice_wire::{Block, Reason, Verdict};

mod books;
mod kubernetes;
mod register;
mod reload;
mod runtime;
mod troubles;

pub use books::{BookMetrics, Volume};
pub use kubernetes::KubernetesMetrics;
use register::Register;
pub use reload::ReloadMetrics;
pub use runtime::RuntimeMetrics;
pub use troubles::{Step, Trouble, Troubles};

/// Addresses with a count of their own; those that come later share one.
const ADDRESSES: usize = 64;

/// Handles; cheap to clone.
#[derive(Debug, Clone)]
pub struct Metrics {
    registry: Registry,
    /// The equation of the books.
    pub books: BookMetrics,
    /// Bytes of log files read.
    pub read_bytes: IntCounter,
    /// Logical lines put into blocks.
    pub read_lines: IntCounter,
    /// Physical lines that were none of a runtime's.
    pub torn_lines: IntCounter,
    /// Their bytes.
    pub torn_bytes: IntCounter,
    /// Lines sent in parts.
    pub long_lines: IntCounter,
    /// Lines older than the first start wanted.
    pub too_old_lines: IntCounter,
    /// Looks at files and directories that failed.
    pub unreadable: IntCounter,
    /// Files that became shorter.
    pub truncated: IntCounter,
    /// Ranges of logs that were lost.
    pub gaps: IntCounter,
    /// How long no agent ran before this one started, as far as is known.
    pub absence_seconds: Gauge,
    /// Lines dropped for a pod's budget, or because its pod wants a sample.
    pub dropped_lines: IntCounter,
    /// Logs that went on without labels.
    pub undescribed_logs: IntCounter,
    /// Logs that wait for labels.
    pub waiting_logs: IntGauge,
    redactions: IntCounterVec,
    /// Lines of an audit log that went as text.
    pub audit_text_lines: IntCounter,
    /// Entries of a journal, or records of the kernel's, that were lost.
    pub missing_entries: IntCounter,
    /// Times that the journal's reader ended.
    pub journal_reader_ends: IntCounter,
    /// The agent's own containers that are not read.
    pub own_left_out: IntGauge,
    /// Blocks cut.
    pub blocks: IntCounter,
    /// Raw bytes in them.
    pub raw_bytes: IntCounter,
    /// Compressed bytes in them.
    pub payload_bytes: IntCounter,
    /// Push requests.
    pub requests: IntCounter,
    verdicts: IntCounterVec,
    /// Records stored by a gateway.
    pub acknowledged_records: IntCounter,
    acknowledgement_delay: Histogram,
    /// Blocks whose request had no verdict.
    pub in_doubt: IntCounter,
    /// Records that may have been delivered twice.
    pub possible_duplicates: IntCounter,
    /// Blocks sent without being in the ring.
    pub unringed_blocks: IntCounter,
    /// Records kept as dead letters.
    pub dead_letters: IntCounter,
    /// Connections that failed.
    pub connect_errors: IntCounter,
    /// Names that could not be looked up.
    pub lookup_errors: IntCounter,
    address_failures: IntCounterVec,
    counted_addresses: Arc<Mutex<BTreeSet<String>>>,
    connections: IntGaugeVec,
    /// Addresses of all destinations, as DNS says.
    pub addresses: IntGauge,
    /// Bytes of push requests' bodies.
    pub sent_bytes: IntCounter,
    /// 1 where a store refuses everything until somebody mends a setting.
    pub held: IntGauge,
    /// Checkpoints that could not be written.
    pub checkpoint_errors: IntCounter,
    /// Checkpoints written.
    pub checkpoints: IntCounter,
    /// Blocks in the ring.
    pub ring_blocks: IntGauge,
    /// Blocks in the spool.
    pub spool_blocks: IntGauge,
    /// Their bytes.
    pub spool_bytes: IntGauge,
    /// Blocks put into the spool.
    pub spooled_blocks: IntCounter,
    /// Blocks that the spool could not take, or has lost.
    pub spool_errors: IntCounter,
    /// Logical logs.
    pub logs: IntGauge,
    /// Files held open.
    pub open_files: IntGauge,
    /// Bytes on disk that are not read yet.
    pub unread_bytes: IntGauge,
    /// Raw bytes in open blocks.
    pub open_block_bytes: IntGauge,
    /// Compressed bytes in cut blocks.
    pub queued_bytes: IntGauge,
    /// Records in open and cut blocks.
    pub held_records: IntGauge,
    /// Lanes that are used.
    pub lanes: IntGauge,
    /// Lanes held back by a gateway.
    pub paused_lanes: IntGauge,
    /// Directories watched by inotify.
    pub watches: IntGauge,
    /// 1 where not every directory could be watched.
    pub scan_only: IntGauge,
    /// Asking the Kubernetes API.
    pub kubernetes: KubernetesMetrics,
    /// Of settings that change.
    pub reload: ReloadMetrics,
    /// What keeps lines from their destination, in words.
    pub troubles: Troubles,
    /// The container runtime's own count.
    pub runtime: RuntimeMetrics,
}

impl Metrics {
    /// Registers them all.
    ///
    /// # Errors
    /// Two of one name: a mistake in this file.
    pub fn new() -> prometheus::Result<Self> {
        let registry = Registry::new();
        let register = Register(&registry);
        let counter = |name, help| register.counter(name, help);
        let gauge = |name, help| register.gauge(name, help);
        let acknowledgement_delay = Histogram::with_opts(
            HistogramOpts::new(
                "sluice_agent_acknowledgement_delay_seconds",
                "From the time of a block's oldest record to the gateway's verdict that it is stored.",
            )
            .buckets(vec![0.05, 0.1, 0.25, 0.5, 0.75, 1.0, 1.5, 2.5, 5.0, 10.0, 30.0, 120.0, 600.0, 3600.0]),
        )?;
        registry.register(Box::new(acknowledgement_delay.clone()))?;
        Ok(Self {
            books: BookMetrics::new(register)?,
            read_bytes: counter("read_bytes", "Bytes of log files read.")?,
            read_lines: counter("read_lines", "Logical lines put into blocks.")?,
            torn_lines: counter("torn_lines", "Physical lines stepped over: not a line of a container runtime.")?,
            torn_bytes: counter("torn_bytes", "Bytes of torn lines.")?,
            long_lines: counter("long_lines", "Lines longer than a record, sent in numbered parts.")?,
            too_old_lines: counter("too_old_lines", "Lines older than first_start wanted.")?,
            unreadable: counter("unreadable", "Looks at files and directories that failed.")?,
            truncated: counter("truncated_files", "Files that became shorter while they were read.")?,
            gaps: counter("gaps", "Ranges of logs that were lost; a record in the stream tells of each.")?,
            absence_seconds: register.seconds(
                "absence",
                "For how long no agent ran on the node before this one started; a record in the stream tells of it.",
            )?,
            dropped_lines: counter(
                "dropped_lines",
                "Lines dropped because their pod is over its budget, or asks for a sample.",
            )?,
            undescribed_logs: counter(
                "undescribed_logs",
                "Container logs that went on without labels: Kubernetes did not tell of their pods in time.",
            )?,
            waiting_logs: gauge("waiting_logs", "Container logs that wait for the labels of their pods.")?,
            redactions: register.counters("redactions", "Matches of redaction rules, by rule.", &["rule"])?,
            audit_text_lines: counter(
                "audit_text_lines",
                "Lines of an audit log sent as text: no events, or too large for a record.",
            )?,
            missing_entries: counter(
                "missing_entries",
                "Entries of the journal, or records of the kernel's log, that were gone before they were read.",
            )?,
            journal_reader_ends: counter(
                "journal_reader_ends",
                "Times that the journal's reader ended; it is started again.",
            )?,
            own_left_out: gauge("own_containers_left_out", "The agent's own containers, whose logs are not read.")?,
            blocks: counter("blocks", "Blocks cut.")?,
            raw_bytes: counter("block_raw_bytes", "Bytes of blocks before compression.")?,
            payload_bytes: counter("block_payload_bytes", "Bytes of blocks after compression.")?,
            requests: counter("requests", "Push requests sent.")?,
            verdicts: register.counters(
                "verdicts",
                "Verdicts of gateways on blocks, by verdict and reason.",
                &["verdict", "reason"],
            )?,
            acknowledged_records: counter("acknowledged_records", "Records that a gateway, or the store, has taken.")?,
            acknowledgement_delay,
            in_doubt: counter("in_doubt_blocks", "Blocks whose request had no verdict; sent again as they are.")?,
            possible_duplicates: counter("possible_duplicate_records", "Records that may have been delivered twice.")?,
            unringed_blocks: counter("unringed_blocks", "Blocks sent without the ring: at least once.")?,
            dead_letters: counter("dead_letter_records", "Records that no gateway takes, kept in dead-letters.jsonl.")?,
            connect_errors: counter("connect_errors", "Connections to gateways that failed.")?,
            lookup_errors: counter("lookup_errors", "Lookups of gateways' names that failed.")?,
            address_failures: register.counters(
                "address_failures",
                "Connections and requests that failed, by address.",
                &["address"],
            )?,
            counted_addresses: Arc::default(),
            connections: register.gauges(
                "connections",
                "Connections to gateways, or to the store, by state.",
                &["state"],
            )?,
            addresses: gauge("resolved_addresses", "Addresses of all gateways' names.")?,
            sent_bytes: counter("sent_bytes", "Bytes of push requests' bodies.")?,
            held: gauge("held", "1 where the store refuses everything until a setting is mended: nothing is dropped.")?,
            checkpoint_errors: counter("checkpoint_errors", "Checkpoints that could not be written.")?,
            checkpoints: counter("checkpoints", "Checkpoints written.")?,
            ring_blocks: gauge("ring_blocks", "Blocks in the in-flight ring.")?,
            spool_blocks: gauge("spool_blocks", "Blocks of deleted files that wait on disk.")?,
            spool_bytes: gauge("spool_bytes", "Compressed bytes of deleted files that wait on disk.")?,
            spooled_blocks: counter("spooled_blocks", "Blocks of deleted files put on disk.")?,
            spool_errors: counter("spool_errors", "Times the spool took no more, and blocks of it that were lost.")?,
            logs: gauge("logs", "Logs followed: container attempts and host files.")?,
            open_files: gauge("open_files", "Log files held open.")?,
            unread_bytes: gauge("unread_bytes", "Bytes of log files that are not read yet.")?,
            open_block_bytes: gauge("open_block_bytes", "Bytes in blocks that still grow.")?,
            queued_bytes: gauge("queued_bytes", "Compressed bytes in blocks that are not decided yet.")?,
            held_records: gauge("held_records", "Records in blocks that are not decided yet.")?,
            lanes: gauge("lanes", "Lanes of which a log is followed, or something is held.")?,
            paused_lanes: gauge("paused_lanes", "Lanes that a gateway holds back.")?,
            watches: gauge("inotify_watches", "Directories watched.")?,
            scan_only: gauge("scan_only", "1 where inotify cannot watch every directory.")?,
            kubernetes: KubernetesMetrics::new(register)?,
            reload: ReloadMetrics::new(register)?,
            troubles: Troubles::default(),
            runtime: RuntimeMetrics::new(register)?,
            registry,
        })
    }

    /// Counts a verdict.
    pub fn verdict(&self, verdict: Verdict) {
        let word = match verdict {
            Verdict::Accepted => "accepted",
            Verdict::RetryAfter(..) => "retry-after",
            Verdict::TooLarge(..) => "too-large",
            Verdict::Rejected(_) => "rejected",
            Verdict::Unknown(_) => "unknown",
        };
        self.verdicts.with_label_values(&[word, verdict.reason().map_or("", Reason::word)]).inc();
        self.troubles.refused(verdict);
    }

    /// Shows how often a redaction rule has matched so far.
    pub fn redacted(&self, rule: &str, matches: u64) {
        let counter = self.redactions.with_label_values(&[rule]);
        counter.inc_by(matches.saturating_sub(counter.get()));
    }

    /// Counts a failure of an address.
    pub fn address_failed(&self, address: &impl Display) {
        let address = address.to_string();
        let mut counted = self.counted_addresses.lock().unwrap_or_else(PoisonError::into_inner);
        let is_counted = counted.contains(&address) || (counted.len() < ADDRESSES && counted.insert(address.clone()));
        self.address_failures.with_label_values(&[if is_counted { &*address } else { "other" }]).inc();
    }

    /// Says how many connections are in a state.
    pub fn connections(&self, state: &'static str, connections: usize) {
        self.connections.with_label_values(&[state]).set(i64::try_from(connections).unwrap_or(i64::MAX));
    }

    /// Counts a block that a gateway has stored.
    pub fn acknowledged(&self, block: &Block, wall_ns: i64) {
        self.acknowledged_records.inc_by(block.header.records.into());
        let delay = wall_ns.saturating_sub(block.header.first_time).max(0);
        self.acknowledgement_delay.observe(delay as f64 / 1e9);
    }

    /// In Prometheus' text format.
    ///
    /// # Errors
    /// An inconsistent metric: a mistake in this file.
    pub fn render(&self) -> prometheus::Result<String> {
        prometheus::TextEncoder::new().encode_to_string(&self.registry.gather())
    }
}
