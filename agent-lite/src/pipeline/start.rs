//! How the agent begins: its state is opened, and what an earlier run left under way goes first.

use std::collections::{HashMap, HashSet};
use std::fs::{self, DirBuilder, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
use std::path::Path;
use std::time::Instant;

use anyhow::bail;
use jiff::tz::TimeZone;
use sluice_durable_log::OpenError;
use sluice_wire::Lane;
use tokio::task::JoinSet;

use super::spooling::Spooling;
use super::{Agent, shipping, wall_ns};
use crate::block::{self, Lanes, Queued};
use crate::books::Ledger;
use crate::checkpoint::{Positions, Store};
use crate::config::{Config, FirstStart};
use crate::discover::Discovery;
use crate::enrich::Pods;
use crate::entries::Entries;
use crate::metrics::Metrics;
use crate::redact;
use crate::ring::{self, Ring};
use crate::ship::Dispatch;
use crate::tail::{Labels, StartFrom, Tailer, Workshop};

/// Access to the state directory.
const OWN: u32 = 0o700;
/// Looks at a start until two in a row find the same.
const LOOKS: usize = 5;

impl Agent {
    pub(super) fn start(config: Config, metrics: Metrics, pods: Option<Pods>) -> anyhow::Result<Self> {
        let mut agent = Self::open(config, metrics, pods)?;
        agent.tell_absences();
        agent.write_down();
        Ok(agent)
    }

    /// Opens the state, and takes up what an earlier run left.
    pub(super) fn open(config: Config, metrics: Metrics, pods: Option<Pods>) -> anyhow::Result<Self> {
        if let Err(error) = own_directory(&config.state) {
            tracing::error!(path = %config.state.display(), %error, "no state directory: logs are shipped at least once");
        }
        let store = Store::new(&config.state);
        let loaded = store.load();
        let ring_directory = ring::directory(&config.state);
        if loaded.first_run || loaded.renewed.is_some() {
            discard_ring(&ring_directory, config.ring_bytes, &loaded.positions, &metrics)?;
        }
        if let Some(why) = loaded.renewed {
            tracing::warn!(?why, "a new producer id: what was sent since the last checkpoint may be sent again");
        }
        let (ring, kept) = open_ring(&ring_directory, config.ring_bytes)?;
        let (spooling, left) = Spooling::open(&config.state, config.spool_bytes)?;
        let start = match config.first_start {
            FirstStart::Beginning => StartFrom::Beginning,
            FirstStart::End => StartFrom::End,
            FirstStart::Since(age) => {
                StartFrom::Since(wall_ns().saturating_sub(i64::try_from(age.as_nanos()).unwrap_or(i64::MAX)))
            }
        };
        let since = match start {
            StartFrom::Since(since) if loaded.first_run => Some(since),
            _ => loaded.since,
        };
        let start = if loaded.first_run { start } else { since.map_or(StartFrom::Beginning, StartFrom::Since) };
        let labels = labels(&config);
        let mut lanes = Lanes::new(block::Settings {
            cluster: config.cluster.as_str().into(),
            node: config.node.as_str().into(),
            target_bytes: config.block_bytes,
            max_age: config.block_age,
            open_bytes: config.open_bytes,
            queued_bytes: config.queued_bytes,
            lane_queued_bytes: config.queued_bytes / 4,
            compression: config.destination.compression,
        });
        let places = left.blocks.first().zip(left.blocks.last()).map(|(first, last)| (first.place, last.place));
        lanes.begin_places(places, kept.len());
        if pods.is_none() && !config.sources.pods.label_names().is_empty() {
            tracing::warn!("dataplane rules with labels match nothing: kubernetes.source is none");
        }
        warn_of_split_keys(&config);
        let mut positions = loaded.positions;
        // One sighting a second.
        positions.forget_after(u32::try_from(config.forget_after.as_secs()).unwrap_or(u32::MAX));
        let entries = entries(&config, &labels, start, &mut positions);
        let workshop = Workshop::new(config.redactor()?, config.messages.clone(), node_zone());
        let tailer = Tailer::new(labels, start, config.deleted, config.sharing.clone(), loaded.first_run)
            .choosing(config.sources.pods.clone())
            .following(loaded.written_ns)
            .having_met(positions.containers().cloned())
            .with_workshop(workshop)
            .with_pods(pods);
        let mut agent = Self {
            discovery: config.pods.as_deref().map(Discovery::new),
            tailer,
            entries,
            dispatch: Dispatch::new(shipping(&config), &config.state, ring, metrics.clone()),
            spooling,
            lanes,
            ledger: Ledger::new(&positions),
            positions,
            numbers: loaded.numbers,
            since,
            store,
            metrics,
            config,
            comparison: None,
            writing: JoinSet::new(),
            written: None,
        };
        agent.take_up_ring(kept);
        agent.take_up_spool(left, Self::scan);
        agent.look_again();
        agent.tailer.tell_losses(&mut agent.lanes, &mut agent.positions, Instant::now(), wall_ns());
        agent.entries.tell_losses(&mut agent.lanes, &mut agent.positions, Instant::now(), wall_ns());
        // What is here now is known to the next start, too.
        agent.positions.sight(agent.tailer.sightings());
        agent.meet();
        agent.settle();
        Ok(agent)
    }

    /// A file that is renamed or compressed while its directory is listed may be in no listing under either name: what
    /// is gone has to be so at two looks in a row.
    fn look_again(&mut self) {
        let mut unmet = self.tailer.unmet(&self.positions);
        for _ in 0..LOOKS {
            if unmet.is_empty() {
                return;
            }
            self.scan();
            let again = self.tailer.unmet(&self.positions);
            if again == unmet {
                return;
            }
            unmet = again;
        }
    }

    /// Numbers are reserved before the first one is used, and where a first start begins is written down before
    /// anything is read.
    pub(super) fn write_down(&mut self) {
        let snapshot = self.snapshot(false);
        match self.store.write(&snapshot) {
            Ok(()) => self.numbers.reserved(&snapshot),
            Err(error) => self.say_checkpoint_failed(&error),
        }
    }

    /// What was under way when the last run ended goes first. A block that does not follow on what is
    /// stored (the ring was full once) is cut anew with all that come after it in its lane. Pieces of a
    /// block that was too large share the fate of the last one, which has their positions.
    fn take_up_ring(&mut self, kept: Vec<Queued>) {
        let mut broken = HashSet::new();
        let mut pieces: HashMap<Lane, Vec<Queued>> = HashMap::new();
        let (mut decided, mut cut_anew) = (Vec::new(), Vec::new());
        for block in kept {
            let lane = block.header.lane.clone();
            self.positions.note_category(lane.category, block.header.positions.iter());
            let whole = pieces.entry(lane.clone()).or_default();
            whole.push(block);
            let last = &whole[whole.len() - 1];
            if last.header.positions.is_empty() {
                continue;
            }
            if self.positions.are_stored(&last.header.positions) {
                decided.extend(whole.drain(..).filter_map(|block| block.id()));
            } else if broken.contains(&lane) || !self.positions.extend_by_ring(last.shares()) {
                cut_anew.append(whole);
                broken.insert(lane);
            } else {
                whole.drain(..).for_each(|block| self.lanes.restore(block));
            }
        }
        // Pieces whose last one never came into the ring.
        cut_anew.extend(pieces.into_values().flatten());
        let records = cut_anew.iter().map(|block| u64::from(block.header.records)).sum();
        self.metrics.possible_duplicates.inc_by(records);
        if !cut_anew.is_empty() {
            tracing::warn!(
                blocks = cut_anew.len(),
                records,
                "blocks of the ring do not follow on what is stored: their lines are read again"
            );
        }
        self.dispatch.checkpointed(decided);
        self.dispatch.take_back(&cut_anew.iter().filter_map(Queued::id).collect::<Vec<_>>());
    }
}

fn warn_of_split_keys(config: &Config) {
    let joins = config.messages.default_multiline.as_ref().is_some_and(|rule| rule.joins_keys());
    if !joins && config.redact.as_ref().is_some_and(redact::Config::wants_whole_keys) {
        tracing::warn!(
            "redact: private-key finds a key that is printed line by line only where lines are joined: set multiline.default to auto or pem"
        );
    }
}

/// What is said of every record.
pub(super) fn labels(config: &Config) -> Labels {
    Labels { cluster: config.cluster.clone(), environment: config.environment.clone(), node: config.node.clone() }
}

/// Makes the state directory, for the agent alone: logs lie in it that not everybody may read.
fn own_directory(path: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(OWN).create(path)?;
    // A node's kubelet makes directories for everybody.
    if fs::metadata(path)?.permissions().mode() & !OWN & 0o7777 != 0 {
        fs::set_permissions(path, Permissions::from_mode(OWN))?;
    }
    Ok(())
}

/// What is read that is no file.
pub(super) fn entries(config: &Config, labels: &Labels, start: StartFrom, positions: &mut Positions) -> Entries {
    let mut entries = Entries::default();
    if let Some(journal) = &config.sources.journal {
        entries = entries.with_journal(journal.clone(), labels, start, wall_ns(), positions);
    }
    if let Some(path) = &config.sources.kmsg {
        entries = entries.with_kmsg(path, labels, start, wall_ns(), positions);
    }
    entries
}

/// Removes a ring whose blocks belong to a producer that is no more. What a gateway may have of them is read
/// again, and counted.
fn discard_ring(directory: &Path, bytes: u64, positions: &Positions, metrics: &Metrics) -> anyhow::Result<()> {
    if directory.exists() {
        let (ring, kept) = open_ring(directory, bytes)?;
        drop(ring);
        let records = records_read_again(&kept, positions);
        metrics.possible_duplicates.inc_by(records);
        if records > 0 {
            tracing::warn!(records, "blocks of the ring are not known to be stored: their lines are read again");
        }
    }
    if let Err(error) = Ring::discard(directory) {
        tracing::warn!(path = %directory.display(), %error, "an old ring cannot be removed");
    }
    Ok(())
}

/// Records in blocks of the ring that no checkpoint covers. Pieces share the fate of their block's last one.
fn records_read_again(kept: &[Queued], positions: &Positions) -> u64 {
    let mut pieces: HashMap<&Lane, u64> = HashMap::new();
    let mut again = 0;
    for block in kept {
        let records = pieces.entry(&block.header.lane).or_default();
        *records += u64::from(block.header.records);
        if !block.header.positions.is_empty() {
            let records = std::mem::take(records);
            again += if positions.are_stored(&block.header.positions) { 0 } else { records };
        }
    }
    again + pieces.values().sum::<u64>()
}

/// A ring, or none where its directory cannot be used; an error where another agent uses it.
fn open_ring(directory: &Path, bytes: u64) -> anyhow::Result<(Option<Ring>, Vec<Queued>)> {
    match Ring::open(directory, bytes) {
        Ok((ring, kept)) => Ok((Some(ring), kept)),
        Err(error @ OpenError::Locked { .. }) => bail!("{error}"),
        Err(error) => {
            tracing::error!(%error, "no in-flight ring: logs are shipped at least once");
            Ok((None, Vec::new()))
        }
    }
}

/// The node's zone, as its `/etc/localtime` says; UTC where there is none.
fn node_zone() -> TimeZone {
    let read = fs::read("/etc/localtime").ok();
    read.and_then(|bytes| TimeZone::tzif("localtime", &bytes).ok()).unwrap_or(TimeZone::UTC)
}
