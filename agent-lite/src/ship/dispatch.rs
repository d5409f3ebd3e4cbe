//! Which blocks go in which request, and what a verdict means for them: the agent's half of "once".
//!
//! ```text
//! lane queue ─► number ─► ring ─► request ─► verdict ─┬ accepted: position advances
//!      ▲                                              ├ refused for certain: a new number, later or smaller
//!      └──────────────────────────────────────────────┴ in doubt: the same bytes, first of its lane
//! ```

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use sluice_wire::{BlockId, JournalId, Reason, Verdict};
use tokio::task::JoinSet;

use super::addresses::Want;
use super::connection::{Aside, NOWHERE, Parcel, Reply};
use super::dead_letters::DeadLetters;
use super::pool::{self, Fate, Held, Pool};
use super::transport::Endpoint;
use crate::block::{Doubt, LaneId, Lanes, Queued};
use crate::checkpoint::{Numbers, Positions};
use crate::metrics::{Metrics, Step};
use crate::ring::Ring;

/// Compressed bytes after which a request is sent off: about 14 MiB of records.
const REQUEST_BYTES: usize = 1024 * 1024;
/// Blocks in one request at most.
const REQUEST_BLOCKS: usize = 256;
/// A frame's prelude and header without positions: it is rendered only once the block has a number.
const HEADER_ABOUT: usize = 24 + 64 + 4 * 256;
/// A position in it.
const POSITION: usize = 25;
/// How long a lane waits where its block can neither be sent nor be kept as a dead letter.
const STUCK: Duration = Duration::from_secs(60);

/// How to reach gateways, or the store.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Connections are spread over all their addresses.
    pub endpoints: Vec<Arc<Endpoint>>,
    /// How connections are kept.
    pub pool: pool::Settings,
    /// How long a block in doubt waits for the journal that may hold it.
    pub in_doubt_max: Duration,
    /// Bytes of dead letters.
    pub dead_letter_bytes: u64,
}

/// Sends what is cut and acts on what comes back.
#[derive(Debug)]
pub struct Dispatch {
    settings: Settings,
    pool: Pool,
    /// Of how many pools it is the last.
    pools: u64,
    pushes: JoinSet<Pushed>,
    /// Compressed bytes of a request; less once a gateway, or a proxy before it, has said `too-large`.
    request_bytes: usize,
    turn: usize,
    dead_letters: DeadLetters,
    /// Lanes of which more blocks have a number than were sent, and the journal that the ring names for them.
    ahead: HashMap<LaneId, JournalId>,
    ring: Option<Ring>,
    /// Stored since the last checkpoint.
    stored: Vec<BlockId>,
    metrics: Metrics,
}

/// A request that came back.
#[derive(Debug)]
struct Pushed {
    held: Held,
    /// Which pool's it is, and what that knows the departure by.
    pool: u64,
    number: u64,
    lanes: Vec<(LaneId, usize)>,
    reply: Reply,
}

/// Something happened that [`Dispatch::handle`] is to be told of.
#[derive(Debug)]
pub struct Happening(Kind);

#[derive(Debug)]
enum Kind {
    Pool(Box<pool::Event>),
    Pushed(Box<Pushed>),
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
            pool: Pool::new(settings.endpoints.clone(), settings.pool.clone(), metrics.clone()),
            settings,
            pools: 0,
            pushes: JoinSet::new(),
            ahead: HashMap::new(),
            request_bytes: REQUEST_BYTES,
            turn: 0,
            ring,
            stored: Vec::new(),
            metrics,
        }
    }

    /// Goes on with other endpoints, or other connections to them. What is under way is waited for where it went;
    /// what is in doubt goes back to its journal if the new endpoints lead there, too.
    pub fn redirect(&mut self, settings: Settings) {
        self.metrics.held.set(0);
        self.pool = Pool::new(settings.endpoints.clone(), settings.pool.clone(), self.metrics.clone());
        self.pools += 1;
        self.request_bytes = REQUEST_BYTES;
        self.settings = settings;
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
        self.pool.is_connected()
    }

    /// Sends whatever can be sent now.
    pub fn send(&mut self, desk: &mut Desk<'_>) {
        for held in self.pool.take_idle(desk.now) {
            let lanes = self.choose(&held, desk);
            if lanes.is_empty() {
                self.pool.rest(held);
            } else {
                self.launch(held, lanes, desk);
            }
        }
        let wants = self.wants(desk);
        self.pool.tend(desk.now, &wants);
    }

    /// What waits although every idle connection was offered it: all are at work, or what waits is in doubt
    /// at another gateway.
    fn wants(&self, desk: &Desk<'_>) -> Vec<Want> {
        let mut wants = Vec::new();
        for id in desk.lanes.sendable() {
            let doubt = desk.lanes.peek(id, 0).doubt();
            let want = match doubt {
                Some(doubt) if !self.is_old(doubt, desk.wall_ns) => Want::Journal(doubt.journal),
                _ => Want::Any,
            };
            if !wants.contains(&want) {
                wants.push(want);
            }
        }
        wants
    }

    /// Waits for something to happen. Cancel safe.
    pub async fn happening(&mut self) -> Happening {
        let kind = tokio::select! {
            Some(Ok(pushed)) = self.pushes.join_next() => Kind::Pushed(Box::new(pushed)),
            event = self.pool.happening() => Kind::Pool(Box::new(event)),
        };
        Happening(kind)
    }

    /// Acts on what happened.
    pub fn handle(&mut self, happening: Happening, desk: &mut Desk<'_>) {
        match happening.0 {
            Kind::Pool(event) => {
                if matches!(*event, pool::Event::Connected(_, _, Ok(_))) {
                    self.request_bytes = REQUEST_BYTES;
                }
                self.pool.handle(*event, desk.now);
            }
            Kind::Pushed(pushed) => self.take_reply(*pushed, desk),
        }
    }

    /// Chooses what the next request carries: lanes, and how many of their first blocks.
    fn choose(&mut self, held: &Held, desk: &mut Desk<'_>) -> Vec<(LaneId, usize)> {
        let (limits, journal) = (held.connection.limits(), held.connection.journal());
        let most_bytes = self.request_bytes.min(limits.request);
        let mut most_blocks = REQUEST_BLOCKS.min(limits.blocks);
        let sendable: Vec<LaneId> = desk.lanes.sendable().collect();
        let (mut bytes, mut blocks) = (0, 0);
        let mut lanes = Vec::new();
        for turn in 0..sendable.len() {
            let id = sendable[(self.turn + turn) % sendable.len()];
            let before = blocks;
            let window = desk.lanes.window(id).min(self.may_go_to(journal, id, desk));
            let current = desk.numbers.current();
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

    fn launch(&mut self, mut held: Held, lanes: Vec<(LaneId, usize)>, desk: &mut Desk<'_>) {
        self.give_numbers(&lanes, held.connection.journal(), desk);
        let mut parcels = Vec::new();
        for (id, taken) in &lanes {
            for block in desk.lanes.queue(*id).iter().take(*taken) {
                self.metrics.sent_bytes.inc_by(block.frame_len() as u64);
                parcels.push(Parcel {
                    head: block.head().clone(),
                    payload: block.payload.clone(),
                    encoding: block.header.encoding,
                    raw_len: block.header.raw_len,
                    records: block.header.records,
                });
            }
            desk.lanes.depart(*id, *taken);
        }
        self.metrics.requests.inc();
        let (pool, number) = (self.pools, self.pool.depart(&held));
        self.pushes.spawn(async move {
            let reply = held.connection.push(parcels).await;
            Pushed { held, pool, number, lanes, reply }
        });
    }

    /// How many of a lane's first blocks may go to a journal: up to the first that is in doubt at another one.
    /// That one waits for its own (rule 7), until it has taken too long; then its lines are sent elsewhere,
    /// counted. Nothing waits for a destination that knows no block again.
    fn may_go_to(&mut self, journal: JournalId, id: LaneId, desk: &mut Desk<'_>) -> usize {
        let elsewhere =
            |block: &Queued| block.doubt().is_some_and(|doubt| doubt.journal != journal || doubt.journal == NOWHERE);
        match desk.lanes.queue(id).iter().position(elsewhere) {
            Some(0) if !self.give_up_doubts(id, desk) => 0,
            None | Some(0) => usize::MAX,
            Some(before) => before,
        }
    }

    /// Whether a doubt has lasted so long that nobody waits for its journal any more.
    fn is_old(&self, doubt: Doubt, wall_ns: i64) -> bool {
        let oldest = i64::try_from(self.settings.in_doubt_max.as_millis()).unwrap_or(i64::MAX);
        let since = i64::try_from(doubt.since_ms).unwrap_or(i64::MAX);
        doubt.journal == NOWHERE || (wall_ns / 1_000_000).saturating_sub(since) > oldest
    }

    /// Gives up the doubts of a lane, all together, or a new number would come before an old one. Gives
    /// `false`, and does nothing, while one of them is younger than `in_doubt_max`.
    fn give_up_doubts(&mut self, id: LaneId, desk: &mut Desk<'_>) -> bool {
        let queue = desk.lanes.queue(id);
        if !queue.iter().filter_map(Queued::doubt).all(|doubt| self.is_old(doubt, desk.wall_ns)) {
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
            self.renumber_if_ahead(*id, journal, desk);
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
            if desk.lanes.queue(*id).iter().skip(*taken).any(|block| block.id().is_some() && block.doubt().is_none()) {
                self.ahead.insert(*id, journal);
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

    /// Pieces that have a number and were not sent: the ring names a journal for them, and a restart would
    /// send them there although another one has them. So those go to another one under new numbers.
    fn renumber_if_ahead(&mut self, id: LaneId, journal: JournalId, desk: &mut Desk<'_>) {
        if self.ahead.remove(&id).is_some_and(|ahead| ahead != journal) {
            renumber_all(desk.lanes, id);
        }
    }

    fn take_reply(&mut self, pushed: Pushed, desk: &mut Desk<'_>) {
        let Pushed { held, pool, number, lanes, reply } = pushed;
        let journal = held.connection.journal();
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
            Reply::Aside(aside) => {
                self.put_aside(&aside, &lanes, blocks, desk);
                self.come_back(pool, number, held, &Fate::Aside(aside), desk.now);
                return;
            }
            Reply::InDoubt(error, after) => {
                tracing::warn!(error, blocks, "no definite answer, the blocks will be sent again as they are");
                self.metrics.in_doubt.inc_by(blocks as u64);
                self.metrics.troubles.add(Step::Answer, &error);
                let doubt = desk.doubt(journal);
                for (id, taken) in lanes {
                    desk.lanes.queue(id).iter_mut().take(taken).for_each(|block| block.enter_doubt(doubt));
                    desk.lanes.arrive(id);
                }
                self.come_back(pool, number, held, &Fate::Failed(after), desk.now);
                return;
            }
        };
        let mut verdicts = verdicts.into_iter();
        for (id, taken) in lanes {
            desk.lanes.arrive(id);
            self.decide(id, verdicts.by_ref().take(taken), journal, desk);
        }
        self.come_back(pool, number, held, &Fate::Good, desk.now);
    }

    /// Gives a connection back; one of an earlier pool is closed.
    fn come_back(&mut self, pool: u64, number: u64, held: Held, fate: &Fate, now: Instant) {
        if pool == self.pools {
            self.pool.come_back(number, held, fate, now);
        }
    }

    /// Nothing of it was stored, for no reason of the blocks': they may go to another address at once. Under
    /// new numbers, for the ring names this one's journal.
    fn put_aside(&mut self, aside: &Aside, lanes: &[(LaneId, usize)], blocks: usize, desk: &mut Desk<'_>) {
        match (aside.held, aside.wait.is_zero()) {
            (true, _) => tracing::error!(
                why = aside.why,
                again_in = ?aside.wait,
                "nothing is taken until a setting is mended; logs wait in their files"
            ),
            (false, false) => tracing::info!(why = aside.why, again_in = ?aside.wait, "nothing is taken for a while"),
            (false, true) => tracing::debug!(why = aside.why, "the connection was closed before the request"),
        }
        match aside.verdict {
            Some(verdict) => (0..blocks).for_each(|_| self.metrics.verdict(verdict)),
            None if aside.held || !aside.wait.is_zero() => self.metrics.troubles.add(aside.step(), &aside.why),
            None => {}
        }
        for (id, _) in lanes {
            desk.lanes.arrive(*id);
            renumber_all(desk.lanes, *id);
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
            renumber_all(desk.lanes, id);
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

/// Takes the numbers of all blocks of a lane that nobody may hold.
fn renumber_all(lanes: &mut Lanes, id: LaneId) {
    lanes.queue(id).iter_mut().filter(|block| block.doubt().is_none()).for_each(Queued::renumber);
}

#[cfg(test)]
mod tests;
