//! Which blocks go in which request, and what a verdict means for them: the agent's half of "once".
//!
//! ```text
//! lane queue ─► number ─► ring ─► request ─► verdict ─┬ accepted: position advances
//!      ▲                                              ├ refused for certain: a new number, later or smaller
//!      └──────────────────────────────────────────────┴ in doubt: the same bytes, first of its lane
//! ```

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use sluice_wire::{BlockId, JournalId, Reason, Verdict};
use tokio::task::JoinSet;

use super::body::Chunks;
use super::connection::{ConnectError, Connection, Endpoint, Reply};
use super::dead_letters::DeadLetters;
use crate::backoff::Backoff;
use crate::block::{Doubt, LaneId, Lanes, Queued};
use crate::checkpoint::{Numbers, Positions};
use crate::metrics::Metrics;
use crate::ring::Ring;

/// Compressed bytes after which a request is sent off: about 14 MiB of records.
const REQUEST_BYTES: usize = 1024 * 1024;
/// Blocks in one request at most.
const REQUEST_BLOCKS: usize = 256;
/// A frame's prelude and header without positions: it is rendered only once the block has a number.
const HEADER_ABOUT: usize = 24 + 64 + 4 * 256;
/// A position in it.
const POSITION: usize = 25;
/// Between connections beyond the first.
const ANOTHER: Duration = Duration::from_millis(500);
/// How long a lane waits where its block can neither be sent nor be kept as a dead letter.
const STUCK: Duration = Duration::from_secs(60);

/// How to reach gateways.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Tried in turn.
    pub endpoints: Vec<Arc<Endpoint>>,
    /// Connections, each with one request under way.
    pub connections: usize,
    /// How long a block in doubt waits for the journal that may hold it.
    pub in_doubt_max: Duration,
    /// Bytes of dead letters.
    pub dead_letter_bytes: u64,
}

/// Sends what is cut and acts on what comes back.
#[derive(Debug)]
pub struct Dispatch {
    settings: Settings,
    idle: Vec<Connection>,
    connecting: JoinSet<Result<Connection, ConnectError>>,
    pushes: JoinSet<Pushed>,
    backoff: Backoff,
    /// No connection is tried before.
    not_before: Option<Instant>,
    next_endpoint: usize,
    /// Compressed bytes of a request; less once a gateway, or a proxy before it, has said `too-large`.
    request_bytes: usize,
    turn: usize,
    dead_letters: DeadLetters,
    ring: Option<Ring>,
    /// Stored since the last checkpoint.
    stored: Vec<BlockId>,
    metrics: Metrics,
}

/// A request that came back.
#[derive(Debug)]
struct Pushed {
    connection: Connection,
    lanes: Vec<(LaneId, usize)>,
    reply: Reply,
}

/// Something happened that [`Dispatch::handle`] is to be told of.
#[derive(Debug)]
pub struct Happening(Kind);

#[derive(Debug)]
enum Kind {
    Connected(Result<Connection, ConnectError>),
    Pushed(Box<Pushed>),
    MayConnect,
}

/// What sending and verdicts work on.
#[derive(Debug)]
pub struct Desk<'a> {
    /// Where blocks wait.
    pub lanes: &'a mut Lanes,
    /// What is stored.
    pub positions: &'a mut Positions,
    /// What blocks are called.
    pub numbers: &'a mut Numbers,
    /// Now.
    pub now: Instant,
    /// Now, nanoseconds of the epoch.
    pub wall_ns: i64,
}

impl Desk<'_> {
    /// From now on `journal` may hold a block.
    fn doubt(&self, journal: JournalId) -> Doubt {
        Doubt { journal, since_ms: u64::try_from(self.wall_ns / 1_000_000).unwrap_or(0) }
    }
}

impl Dispatch {
    /// `ring` is `None` where none can be had: everything is at least once then.
    #[must_use]
    pub fn new(settings: Settings, state: &Path, ring: Option<Ring>, metrics: Metrics) -> Self {
        Self {
            dead_letters: DeadLetters::new(state, settings.dead_letter_bytes),
            settings,
            idle: Vec::new(),
            connecting: JoinSet::new(),
            pushes: JoinSet::new(),
            backoff: Backoff::new(Duration::from_millis(200), Duration::from_secs(10)),
            not_before: None,
            next_endpoint: 0,
            request_bytes: REQUEST_BYTES,
            turn: 0,
            ring,
            stored: Vec::new(),
            metrics,
        }
    }

    /// Blocks that were decided since this was last asked: once a checkpoint that covers them is durable,
    /// [`Dispatch::checkpointed`] is to be told.
    pub fn take_stored(&mut self) -> Vec<BlockId> {
        std::mem::take(&mut self.stored)
    }

    /// The checkpoint that should have covered these blocks was not written; the next one will.
    pub fn give_back_stored(&mut self, blocks: Vec<BlockId>) {
        self.stored.extend(blocks);
    }

    /// A durable checkpoint covers these blocks.
    pub fn checkpointed(&mut self, blocks: Vec<BlockId>) {
        if let Some(ring) = &mut self.ring {
            ring.forget(blocks);
            self.metrics.ring_blocks.set(ring.len() as i64);
        }
    }

    /// Blocks in the ring, which a gateway may hold.
    #[must_use]
    pub fn in_ring(&self) -> usize {
        self.ring.as_ref().map_or(0, Ring::len)
    }

    /// Whether there is a connection, idle or at work.
    #[must_use]
    pub fn is_connected(&self) -> bool {
        !self.idle.is_empty() || !self.pushes.is_empty()
    }

    /// Sends whatever can be sent now.
    pub fn send(&mut self, desk: &mut Desk<'_>) {
        for connection in std::mem::take(&mut self.idle) {
            if !connection.is_open() {
                continue;
            }
            let lanes = self.choose(&connection, desk);
            if lanes.is_empty() {
                self.idle.push(connection);
            } else {
                self.launch(connection, lanes, desk);
            }
        }
        self.connect_if_wanted(desk);
    }

    /// Connects where there is no connection, or where what waits can go to none that is idle: all are
    /// at work, or what waits is in doubt at another gateway.
    fn connect_if_wanted(&mut self, desk: &Desk<'_>) {
        let connections = self.idle.len() + self.pushes.len();
        let wanted = connections == 0 || desk.lanes.sendable().next().is_some();
        if !wanted || !self.connecting.is_empty() || self.not_before.is_some_and(|at| at > desk.now) {
            return;
        }
        if connections >= self.settings.connections && self.idle.pop().is_none() {
            return;
        }
        // More than one is a convenience: no hurry, whatever the first ones lead to.
        self.not_before = (connections > 0).then(|| desk.now + ANOTHER);
        let endpoint = self.settings.endpoints[self.next_endpoint % self.settings.endpoints.len()].clone();
        self.next_endpoint += 1;
        self.connecting.spawn(Connection::open(endpoint));
    }

    /// Waits for something to happen. Cancel safe.
    pub async fn happening(&mut self) -> Happening {
        let not_before = self.not_before;
        let kind = tokio::select! {
            Some(Ok(connected)) = self.connecting.join_next() => Kind::Connected(connected),
            Some(Ok(pushed)) = self.pushes.join_next() => Kind::Pushed(Box::new(pushed)),
            () = async { tokio::time::sleep_until(not_before.unwrap_or_else(Instant::now).into()).await },
                if not_before.is_some() && self.connecting.is_empty() => Kind::MayConnect,
            else => std::future::pending().await,
        };
        Happening(kind)
    }

    /// Acts on what happened.
    pub fn handle(&mut self, happening: Happening, desk: &mut Desk<'_>) {
        match happening.0 {
            Kind::MayConnect => self.not_before = None,
            Kind::Connected(Ok(connection)) => {
                tracing::info!(journal = %connection.journal(), "connected to a gateway");
                self.request_bytes = REQUEST_BYTES;
                self.idle.push(connection);
            }
            Kind::Connected(Err(error)) => {
                let wait = self.fail(desk.now);
                tracing::warn!(%error, retry_in = ?wait, "no gateway to be reached, holding logs in their files");
                self.metrics.connect_errors.inc();
            }
            Kind::Pushed(pushed) => self.take_reply(*pushed, desk),
        }
    }

    fn fail(&mut self, now: Instant) -> Duration {
        let wait = self.backoff.failed();
        self.not_before = Some(now + wait);
        wait
    }

    /// Chooses what the next request carries: lanes, and how many of their first blocks.
    fn choose(&mut self, connection: &Connection, desk: &mut Desk<'_>) -> Vec<(LaneId, usize)> {
        let most_bytes = self.request_bytes.min(connection.limits().request);
        let mut most_blocks = REQUEST_BLOCKS.min(connection.limits().blocks);
        let sendable: Vec<LaneId> = desk.lanes.sendable().collect();
        let (mut bytes, mut blocks) = (0, 0);
        let mut lanes = Vec::new();
        for turn in 0..sendable.len() {
            let id = sendable[(self.turn + turn) % sendable.len()];
            if !self.may_go_to(connection.journal(), id, desk) {
                continue;
            }
            let before = blocks;
            let (window, current) = (desk.lanes.window(id), desk.numbers.current());
            let mut producer = None;
            for queued in desk.lanes.queue(id).iter().take(window) {
                // To the gateway another producer is another lane: a block of it would be accepted although
                // the one before it was not.
                let its = queued.id().map_or(current, |id| id.producer);
                if *producer.get_or_insert(its) != its {
                    break;
                }
                let size = queued.payload.len() + HEADER_ABOUT + POSITION * queued.header.positions.len();
                if blocks >= most_blocks || (blocks > 0 && (bytes + size > most_bytes || queued.is_alone())) {
                    break;
                }
                if queued.is_alone() {
                    most_blocks = 1;
                }
                bytes += size;
                blocks += 1;
            }
            if blocks > before {
                lanes.push((id, blocks - before));
            }
        }
        self.turn = self.turn.wrapping_add(1);
        lanes
    }

    fn launch(&mut self, mut connection: Connection, lanes: Vec<(LaneId, usize)>, desk: &mut Desk<'_>) {
        self.give_numbers(&lanes, connection.journal(), desk);
        let mut frames = Chunks::default();
        let mut blocks = 0;
        for (id, taken) in &lanes {
            for block in desk.lanes.queue(*id).iter().take(*taken) {
                frames.push(block.head().clone());
                frames.push(block.payload.clone());
                blocks += 1;
            }
            desk.lanes.depart(*id, *taken);
        }
        self.metrics.requests.inc();
        self.pushes.spawn(async move {
            let reply = connection.push(frames, blocks).await;
            Pushed { connection, lanes, reply }
        });
    }

    /// A block in doubt goes back to the journal that may hold it, until that has taken too long
    /// (rule 7); then its lines are sent elsewhere, counted.
    fn may_go_to(&mut self, journal: JournalId, id: LaneId, desk: &mut Desk<'_>) -> bool {
        let elsewhere = |block: &Queued| block.doubt().is_some_and(|doubt| doubt.journal != journal);
        !desk.lanes.queue(id).iter().any(elsewhere) || self.give_up_doubts(id, desk)
    }

    /// Gives up the doubts of a lane, all together, or a new number would come before an old one. Gives
    /// `false`, and does nothing, while one of them is younger than `in_doubt_max`.
    fn give_up_doubts(&mut self, id: LaneId, desk: &mut Desk<'_>) -> bool {
        let oldest = i64::try_from(self.settings.in_doubt_max.as_millis()).unwrap_or(i64::MAX);
        let now_ms = desk.wall_ns / 1_000_000;
        let is_old = |doubt: Doubt| now_ms - i64::try_from(doubt.since_ms).unwrap_or(i64::MAX) > oldest;
        let queue = desk.lanes.queue(id);
        if !queue.iter().filter_map(Queued::doubt).all(is_old) {
            return false;
        }
        let mut given_up = 0;
        for block in queue.iter_mut() {
            if block.doubt().is_some() {
                given_up += 1;
                self.metrics.possible_duplicates.inc_by(block.header.records.into());
            }
            block.renumber();
        }
        tracing::warn!(given_up, "what became of these blocks cannot be learnt, sending them under new numbers");
        true
    }

    /// Numbers what has none yet, and puts it into the ring before it is sent. What the lanes' blocks were
    /// called before is taken back with that, all of it (a restart must send none of it behind a higher
    /// number), and not earlier: until then the ring holds what a restart would have to cut anew.
    fn give_numbers(&mut self, lanes: &[(LaneId, usize)], journal: JournalId, desk: &mut Desk<'_>) {
        let mut fresh: Vec<(LaneId, usize)> = Vec::new();
        let mut replaced = Vec::new();
        for (id, taken) in lanes {
            let mut previous_covers = true;
            let before = fresh.len();
            for (at, block) in desk.lanes.queue(*id).iter_mut().enumerate() {
                // Pieces of a block that was too large have their positions on the last one: they are
                // kept in the ring together, or a restart would send the first ones twice.
                if at >= *taken && previous_covers {
                    break;
                }
                previous_covers = !block.header.positions.is_empty();
                if block.id().is_none() {
                    match block.give_number(desk.numbers.take()) {
                        Ok(()) => fresh.push((*id, at)),
                        // Names come from directories of at most 255 bytes and checked settings. What
                        // has no header cannot be made out, and becomes a dead letter.
                        Err(error) => tracing::error!(%error, "a block's header cannot be written"),
                    }
                }
            }
            if fresh.len() > before {
                replaced.extend(desk.lanes.queue(*id).iter_mut().filter_map(Queued::take_replaced));
            }
        }
        if fresh.is_empty() {
            return;
        }
        let doubt = desk.doubt(journal);
        let queues = &*desk.lanes;
        let kept = match &mut self.ring {
            Some(ring) => {
                let fresh = fresh.iter().map(|(id, at)| queues.peek(*id, *at));
                ring.keep(fresh, &replaced, doubt).map_err(|error| error.to_string())
            }
            None => Err("there is no ring".to_owned()),
        };
        match kept {
            Ok(()) => {
                fresh.iter().for_each(|(id, at)| desk.lanes.queue(*id)[*at].enter_ring());
                self.metrics.ring_blocks.set(self.in_ring() as i64);
            }
            Err(error) => {
                // Once a request, and rare: the ring is as large as a minute of full speed.
                tracing::debug!(error, "blocks are sent without the ring: at least once");
                self.metrics.unringed_blocks.inc_by(fresh.len() as u64);
            }
        }
    }

    fn take_reply(&mut self, pushed: Pushed, desk: &mut Desk<'_>) {
        let Pushed { connection, lanes, reply } = pushed;
        let journal = connection.journal();
        let blocks: usize = lanes.iter().map(|(_, taken)| taken).sum();
        let verdicts = match reply {
            Reply::Verdicts(verdicts) => verdicts,
            Reply::ForAll(Verdict::RetryAfter(_, Reason::Framing)) if blocks == 1 => {
                vec![Verdict::Rejected(Reason::Framing)]
            }
            Reply::ForAll(Verdict::RetryAfter(wait, Reason::Framing)) => {
                for (id, taken) in &lanes {
                    desk.lanes.queue(*id).iter_mut().take(*taken).for_each(Queued::isolate);
                }
                vec![Verdict::RetryAfter(wait, Reason::Framing); blocks]
            }
            Reply::ForAll(Verdict::TooLarge(limit, Reason::Request)) if blocks > 1 => {
                self.request_bytes = (limit as usize / 2).max(1);
                vec![Verdict::RetryAfter(Duration::ZERO, Reason::Request); blocks]
            }
            Reply::ForAll(verdict) => vec![verdict; blocks],
            Reply::InDoubt(error) => {
                tracing::warn!(error, blocks, "no verdict from the gateway, the blocks will be sent again as they are");
                self.metrics.in_doubt.inc_by(blocks as u64);
                let doubt = desk.doubt(journal);
                for (id, taken) in lanes {
                    desk.lanes.queue(id).iter_mut().take(taken).for_each(|block| block.enter_doubt(doubt));
                    desk.lanes.arrive(id);
                }
                self.fail(desk.now);
                return;
            }
        };
        self.backoff.succeeded();
        let mut verdicts = verdicts.into_iter();
        for (id, taken) in lanes {
            desk.lanes.arrive(id);
            self.decide(id, verdicts.by_ref().take(taken), journal, desk);
        }
        if connection.is_open() {
            self.idle.push(connection);
        }
    }

    /// Acts on the verdicts for the first blocks of a lane, in order.
    fn decide(&mut self, id: LaneId, verdicts: impl Iterator<Item = Verdict>, journal: JournalId, desk: &mut Desk<'_>) {
        let mut refused = false;
        // Where in the queue the verdict's block stands: decided ones leave it.
        let mut at = 0;
        let doubt = desk.doubt(journal);
        let mut all_accepted = true;
        for verdict in verdicts {
            all_accepted &= verdict == Verdict::Accepted;
            self.metrics.verdict(verdict);
            let queue = desk.lanes.queue(id);
            let Some(block) = queue.get_mut(at) else { break };
            if verdict.is_definite_refusal() && block.doubt().is_none() {
                refused = true;
                block.renumber();
            }
            match verdict {
                Verdict::Accepted => self.finish(id, at, desk),
                Verdict::RetryAfter(wait, reason) => {
                    if reason != Reason::Behind {
                        desk.lanes.narrow(id);
                        // A tenth of jitter, so that a limited fleet does not come back as one.
                        desk.lanes.pause(id, desk.now + wait.mul_f64(1.0 + 0.1 * rand::random::<f64>()));
                    }
                    at += 1;
                }
                Verdict::Unknown(_) => {
                    block.enter_doubt(doubt);
                    desk.lanes.pause(id, desk.now + Duration::from_millis(500));
                    at += 1;
                }
                Verdict::TooLarge(limit, reason) => {
                    if block.doubt().is_some() && !self.give_up_doubts(id, desk) {
                        // Only the same bytes may be sent while somebody may hold them.
                        desk.lanes.pause(id, desk.now + STUCK);
                        at += 1;
                    } else {
                        match desk.lanes.split(id, at, limit as usize) {
                            1 if at == 0 => at += usize::from(!self.bury(id, at, reason, desk)),
                            pieces => at += pieces,
                        }
                    }
                }
                // Only once those before it are decided, whose positions it would carry along: it will be
                // rejected again.
                Verdict::Rejected(_) if at > 0 => at += 1,
                Verdict::Rejected(reason) => at += usize::from(!self.bury(id, at, reason, desk)),
            }
        }
        if all_accepted {
            desk.lanes.widen(id);
        }
        if refused {
            // Also all behind it, pieces that were numbered and not sent, too: their numbers would be below
            // the one that it gets, and they would be taken for duplicates (rule 4).
            desk.lanes.queue(id).iter_mut().filter(|block| block.doubt().is_none()).for_each(Queued::renumber);
        }
    }

    /// The block is stored: its positions count, and it leaves its queue.
    fn finish(&mut self, id: LaneId, at: usize, desk: &mut Desk<'_>) {
        let Some(block) = desk.lanes.remove(id, at) else { return };
        desk.positions.acknowledge(block.shares());
        self.stored.extend(block.id());
        self.metrics.acknowledged(&block, desk.wall_ns);
    }

    /// Keeps a block as a dead letter; gives `false`, and holds its lane back, where it cannot be kept.
    fn bury(&mut self, id: LaneId, at: usize, reason: Reason, desk: &mut Desk<'_>) -> bool {
        let block = desk.lanes.peek(id, at);
        tracing::error!(
            namespace = %block.header.lane.scope, records = block.header.records, %reason,
            "the gateway will never take this block, keeping it as a dead letter"
        );
        match self.dead_letters.keep(block, reason.word(), desk.wall_ns) {
            Ok(()) => {
                self.metrics.dead_letters.inc_by(block.header.records.into());
                if let Some(mut block) = desk.lanes.remove(id, at) {
                    desk.positions.acknowledge(block.shares());
                    self.stored.extend(block.id().or(block.take_replaced()));
                }
                true
            }
            Err(error) => {
                tracing::error!(%error, "a dead letter cannot be kept, holding its lane back");
                desk.lanes.pause(id, desk.now + STUCK);
                false
            }
        }
    }

    /// Writes down that these blocks will never be sent again as they are.
    pub fn take_back(&mut self, blocks: &[BlockId]) {
        if let Some(ring) = &mut self.ring
            && let Err(error) = ring.take_back(blocks)
        {
            // After a restart they would be sent beside what replaces them.
            tracing::warn!(%error, "the ring cannot be written, a restart before it can may repeat lines");
            self.metrics.unringed_blocks.inc_by(blocks.len() as u64);
        }
    }
}

#[cfg(test)]
mod tests;
