//! One destination's loop: takes entries in, gathers them, sends, and sees to what is due.
//!
//! What becomes of an answer is in `settle`, of batches that trail in `trail`, of tenants that do not
//! get through in `park`.

use std::collections::{HashMap, HashSet, VecDeque};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use futures_util::stream::FuturesUnordered;
use futures_util::{FutureExt as _, StreamExt as _};
use tokio::sync::watch;
use tokio::time::Instant;

use super::batch::{Batch, BatchId, Gather, cost};
use super::batch_log::BatchLog;
use super::dead_letters::DeadLetters;
use super::destination::{Destination, Outcome, Refusal, Terms};
use super::schedule::{Schedule, Then};
use super::tenants::Tenants;
use super::{Health, Stop};
use crate::journal::{Entry, Error, Event, Position, Subscription};
use crate::metrics::deliver::DeliverMetrics;

/// Bytes of entries in memory above which no more are read.
pub(super) const MAX_LOADED: usize = 16 << 20;
/// Entries taken in and not decided above which no more are read: 16 bytes each.
pub(super) const MAX_UNDECIDED: usize = 1 << 20;
/// Entries taken in before everything else has its turn again.
const MAX_TURN: usize = 256;
/// Cursors are saved, gauges set, and parking is seen to this often.
pub(super) const HOUSEKEEPING: Duration = Duration::from_millis(500);
/// After a failure of our own disk.
pub(super) const DISK_PAUSE: Duration = Duration::from_secs(1);
/// Rows are visible at VictoriaLogs after about a second; what a request left behind is counted later.
pub(super) const VISIBLE_AFTER: Duration = Duration::from_secs(2);

type Local<T> = Pin<Box<dyn Future<Output = T>>>;

/// An attempt that was answered.
pub(super) struct Sent {
    pub(super) batch: Batch,
    pub(super) outcome: Outcome,
    pub(super) took: Duration,
}

/// A count that was answered.
pub(super) struct Counted {
    pub(super) batches: Vec<(Then, Batch)>,
    pub(super) result: Result<Vec<u64>, Refusal>,
}

/// What a worker is given.
pub(super) struct Setting {
    pub(super) name: Arc<str>,
    pub(super) metrics: DeliverMetrics,
    pub(super) health: Arc<Mutex<Health>>,
    pub(super) stop: watch::Receiver<Stop>,
    /// Bytes of the journal that this destination may pin.
    pub(super) park_above: u64,
}

/// See the module.
pub(super) struct Worker<S, D> {
    pub(super) setting: Setting,
    pub(super) subscription: S,
    pub(super) destination: Rc<D>,
    pub(super) terms: Terms,
    /// Where batches are recorded, if the destination can be asked about them.
    pub(super) batch_log: Option<BatchLog>,
    pub(super) letters: DeadLetters,
    /// Tenants of which a letter could not be written: nothing of theirs goes out before this.
    pub(super) letters_blocked: HashMap<Arc<str>, Instant>,
    pub(super) gather: Gather,
    pub(super) queue: VecDeque<Batch>,
    in_flight: FuturesUnordered<Local<Sent>>,
    pub(super) counting: FuturesUnordered<Local<Counted>>,
    /// Batches that are due to be counted.
    pub(super) to_count: Vec<(Then, Batch)>,
    /// Tenants that are being counted, with the oldest entry of the journal among what is counted.
    pub(super) counted_tenants: HashMap<Arc<str>, Option<u64>>,
    pub(super) count_failures: u32,
    pub(super) not_counted: Option<String>,
    pub(super) schedule: Schedule,
    pub(super) tenants: Tenants,
    /// Members of batches that were under way when the gateway ended: not to be taken in once more.
    claimed: HashSet<Position>,
    /// Entries of the parking log that are under way.
    pub(super) unparked: HashSet<u64>,
    pub(super) to_park: Vec<Position>,
    /// Batches of which the record has members where they were before they were parked.
    pub(super) stale: HashSet<BatchId>,
    pub(super) parking_full: bool,
    /// A parked entry was passed over, since its tenant does not get through.
    pub(super) passed_over: bool,
    /// More of the journal is pinned than may be.
    pub(super) over_share: bool,
    pub(super) loaded: usize,
    pub(super) undecided: usize,
    /// When this worker began.
    pub(super) started: Instant,
    /// One entry in half a second, with the time at which it was received.
    pub(super) ages: VecDeque<(Position, i64)>,
    pub(super) dirty: bool,
    /// The destination's state is saved: nothing is delivered before.
    pub(super) has_saved: bool,
    /// Decided batches whose decisions are not saved yet.
    pub(super) decided: Vec<BatchId>,
    pub(super) next_housekeeping: Instant,
    /// After this no journal entry is read for a while.
    pub(super) reading_paused: Option<Instant>,
    draining: Option<Instant>,
}

impl<S: Subscription, D: Destination> Worker<S, D> {
    pub(super) fn new(
        setting: Setting,
        subscription: S,
        destination: D,
        recorded: Option<(BatchLog, Vec<Batch>)>,
        letters: DeadLetters,
    ) -> Self {
        let terms = destination.terms();
        let (batch_log, unsettled) = recorded.map_or((None, Vec::new()), |(log, batches)| (Some(log), batches));
        let mut this = Self {
            tenants: Tenants::new(Arc::clone(&setting.name), setting.metrics.held.clone()),
            setting,
            subscription,
            destination: Rc::new(destination),
            gather: Gather::new(terms.clone()),
            terms,
            batch_log,
            letters,
            letters_blocked: HashMap::new(),
            queue: VecDeque::new(),
            in_flight: FuturesUnordered::new(),
            counting: FuturesUnordered::new(),
            to_count: Vec::new(),
            counted_tenants: HashMap::new(),
            count_failures: 0,
            not_counted: None,
            schedule: Schedule::default(),
            claimed: HashSet::new(),
            unparked: HashSet::new(),
            to_park: Vec::new(),
            stale: HashSet::new(),
            parking_full: false,
            passed_over: false,
            over_share: false,
            loaded: 0,
            undecided: 0,
            started: Instant::now(),
            ages: VecDeque::new(),
            dirty: true,
            has_saved: false,
            decided: Vec::new(),
            next_housekeeping: Instant::now(),
            reading_paused: None,
            draining: None,
        };
        this.recover(unsettled);
        this
    }

    /// Takes up batches that were under way: the same members under the same ids, counted before
    /// anything of them is sent again.
    fn recover(&mut self, unsettled: Vec<Batch>) {
        let now = Instant::now();
        if !unsettled.is_empty() {
            tracing::info!(
                destination = &*self.setting.name,
                batches = unsettled.len(),
                "batches were under way; counting what arrived"
            );
        }
        if let Some(log) = &self.batch_log {
            self.setting.metrics.set_aside_batches.with_label_values(&[&*self.setting.name]).inc_by(log.foreign());
        }
        for mut batch in unsettled {
            for member in &mut batch.members {
                *member = self.subscription.moved(*member).unwrap_or(*member);
            }
            batch.members.retain(|member| !self.subscription.is_decided(*member));
            if batch.members.is_empty() {
                self.decided.push(batch.id);
                continue;
            }
            self.claimed.extend(&batch.members);
            for &member in &batch.members {
                self.begin(member);
            }
            self.schedule.add(now + VISIBLE_AFTER, Then::Count, batch);
        }
    }

    /// Runs until told to stop.
    pub(super) async fn run(mut self) -> Result<(), Error> {
        self.save().await;
        loop {
            let now = Instant::now();
            let more = self.see_to_what_is_due(now).await;
            if let Some(deadline) = self.draining
                && (now >= deadline || (self.queue.is_empty() && self.in_flight.is_empty()))
            {
                self.save().await;
                return Ok(());
            }
            let wake = if more { now } else { self.next_wake() };
            tokio::select! {
                event = self.subscription.next(), if self.wants_input(now) => self.read(event)?,
                Some(sent) = self.in_flight.next(), if !self.in_flight.is_empty() => {
                    self.tenants.answered(&sent.batch.tenant);
                    self.settle(sent);
                }
                Some(counted) = self.counting.next(), if !self.counting.is_empty() => self.counted(counted),
                () = tokio::time::sleep_until(wake) => {}
                stop = self.setting.stop.changed(), if self.draining.is_none() => {
                    self.draining = Some(match (stop, *self.setting.stop.borrow()) {
                        (Ok(()), Stop::By(deadline)) => deadline,
                        // Whoever started us is gone.
                        _ => now,
                    });
                    let open = self.gather.of_tenants(|_| true);
                    self.queue.extend(open);
                }
            }
        }
    }

    fn wants_input(&self, now: Instant) -> bool {
        self.draining.is_none()
            && self.loaded < MAX_LOADED
            && self.undecided < MAX_UNDECIDED
            && !self.parking_full
            && self.reading_paused.is_none_or(|until| now >= until)
    }

    /// Takes in what came, and what more is there without waiting.
    fn read(&mut self, first: Result<Event, Error>) -> Result<(), Error> {
        let now = Instant::now();
        let mut event = first;
        for turn in 1.. {
            match event {
                Ok(event) => self.take_in(event, now),
                Err(Error::Closed) => return Err(Error::Closed),
                Err(error) => {
                    tracing::warn!(
                        destination = &*self.setting.name,
                        error = &error as &dyn std::error::Error,
                        "cannot read the journal; trying again"
                    );
                    self.reading_paused = Some(now + DISK_PAUSE);
                }
            }
            if turn == MAX_TURN || !self.wants_input(now) {
                break;
            }
            // An event that came out has to be taken in: it does not come out again.
            match self.subscription.next().now_or_never() {
                Some(next) => event = next,
                None => break,
            }
        }
        Ok(())
    }

    fn take_in(&mut self, event: Event, now: Instant) {
        self.dirty = true;
        let Event::Entry(position, entry) = event else { return };
        if self.claimed.remove(&position) {
            return;
        }
        self.begin(position);
        if self.ages.len() < 4096
            && self.ages.back().is_none_or(|(_, received)| entry.received - received > 500_000_000)
        {
            self.ages.push_back((position, entry.received));
        }
        if self.is_to_be_parked(&entry.tenant, now) {
            self.to_park.push(position);
        } else {
            self.gather(position, entry, now);
        }
    }

    /// Counts an entry as taken in.
    fn begin(&mut self, position: Position) {
        let parked = position.partition == crate::journal::PARKED;
        self.undecided += 1;
        self.count_entries(if parked { "unparked" } else { "routed" }, 1);
        if parked {
            self.unparked.insert(position.index);
        }
    }

    /// Takes an entry out of the parking log; false if it is under way already.
    pub(super) fn take_parked(&mut self, position: Position, entry: Entry, now: Instant) {
        if !self.claimed.remove(&position) && !self.unparked.contains(&position.index) {
            self.begin(position);
            self.gather(position, entry, now);
        }
    }

    fn gather(&mut self, position: Position, entry: Entry, now: Instant) {
        self.loaded += cost(&entry);
        if let Some(batch) = self.gather.add(position, entry, now) {
            self.queue.push_back(batch);
        }
    }

    /// True if there is more to be done at once.
    async fn see_to_what_is_due(&mut self, now: Instant) -> bool {
        self.queue.extend(self.gather.due(now));
        if self.loaded >= MAX_LOADED && self.queue.is_empty() && self.in_flight.is_empty() {
            self.queue.extend(self.gather.largest());
        }
        for (then, batch) in self.schedule.take_due(now) {
            match then {
                // Ahead of what came later: for an ordered destination that is what order means.
                Then::Send => self.queue.push_front(batch),
                Then::Count | Then::Decide => self.look_after(then, batch, now),
            }
        }
        self.start_counts();
        let more_parked = self.draining.is_none() && self.unpark(now);
        self.copy_if_many();
        if now >= self.next_housekeeping {
            self.next_housekeeping = now + HOUSEKEEPING;
            self.park(now);
            if self.dirty || !self.subscription.is_saved() {
                self.save().await;
            }
            self.tell();
        }
        self.start_sends(now);
        more_parked
    }

    pub(super) fn none_in_flight(&self) -> bool {
        self.in_flight.is_empty()
    }

    fn next_wake(&self) -> Instant {
        let times = [Some(self.next_housekeeping), self.gather.next_due(), self.schedule.next_due(), self.draining];
        times.into_iter().flatten().min().unwrap_or(self.next_housekeeping)
    }

    fn start_sends(&mut self, now: Instant) {
        if !self.has_saved {
            return;
        }
        let slots = self.terms.concurrency.max(1);
        let mut starting = Vec::new();
        while self.in_flight.len() + starting.len() < slots {
            if self.terms.ordered && self.schedule.len(Then::Send) > 0 {
                break;
            }
            // What is read again needs memory that others may have at present.
            let is_idle = self.in_flight.is_empty() && starting.is_empty();
            let may_load = self.loaded < MAX_LOADED || is_idle;
            let next = self.queue.iter().position(|batch| {
                (may_load || !batch.entries.is_empty())
                    && self.letters_blocked.get(&batch.tenant).is_none_or(|until| now >= *until)
                    && self.tenants.may_send(&batch.tenant, slots)
            });
            let Some(mut batch) = next.and_then(|at| self.queue.remove(at)) else { break };
            if batch.entries.is_empty() {
                match self.load(&mut batch) {
                    Ok(true) => {}
                    Ok(false) => {
                        self.stale.remove(&batch.id);
                        self.decided.push(batch.id);
                        continue;
                    }
                    Err(error) => {
                        tracing::warn!(
                            destination = &*self.setting.name,
                            error = &error as &dyn std::error::Error,
                            "cannot read a batch again; trying again"
                        );
                        self.wait(batch, Then::Send, now + DISK_PAUSE);
                        continue;
                    }
                }
            }
            self.tenants.sent(&batch.tenant);
            starting.push(batch);
        }
        if let Err(error) = self.record(&mut starting) {
            tracing::error!(
                destination = &*self.setting.name,
                error = &error as &dyn std::error::Error,
                "cannot record batches; they are not sent before that"
            );
            for batch in starting {
                self.tenants.answered(&batch.tenant);
                self.wait(batch, Then::Send, now + DISK_PAUSE);
            }
            return;
        }
        for batch in starting {
            let destination = Rc::clone(&self.destination);
            self.in_flight.push(Box::pin(async move {
                let started = Instant::now();
                let outcome = destination.send(&batch, batch.mode).await;
                Sent { batch, outcome, took: started.elapsed() }
            }));
        }
    }

    /// Records the batches among `starting` that are not recorded: no id leaves before that (a restart
    /// must be able to ask for it).
    fn record(&mut self, starting: &mut [Batch]) -> Result<(), Error> {
        let Some(log) = &mut self.batch_log else { return Ok(()) };
        let fresh: Vec<&Batch> =
            starting.iter().filter(|batch| !batch.recorded || self.stale.contains(&batch.id)).collect();
        if !fresh.is_empty() {
            log.record(&fresh)?;
        }
        for batch in starting {
            batch.recorded = true;
            self.stale.remove(&batch.id);
        }
        Ok(())
    }

    /// Reads a batch's entries again. Members that cannot be read any more are lost, and leave it, and so do
    /// those that are something else than was recorded; false if none is left.
    fn load(&mut self, batch: &mut Batch) -> Result<bool, Error> {
        let mut entries = Vec::with_capacity(batch.members.len());
        let mut strangers = Vec::new();
        let mut members = std::mem::take(&mut batch.members).into_iter();
        while let Some(position) = members.next() {
            match self.subscription.read(position) {
                Ok(entry) if self.is_of(batch, &entry) => {
                    batch.members.push(position);
                    entries.push(entry);
                }
                Ok(entry) => strangers.push((position, entry)),
                Err(Error::Gone { reason, .. }) => {
                    self.subscription.lose(position, &reason);
                    self.end(position, "lost");
                }
                Err(error) => {
                    // Those that are lost stay out of it: they are booked.
                    let read = strangers.into_iter().map(|(position, _)| position);
                    batch.members.extend(read.chain([position]).chain(members));
                    return Err(error);
                }
            }
        }
        self.send_off(batch, strangers);
        if batch.members.is_empty() {
            return Ok(false);
        }
        let read = Batch::new(std::mem::take(&mut batch.members), entries);
        self.loaded += read.loaded_bytes();
        *batch = read.with_history_of(batch);
        Ok(true)
    }

    /// Whether `entry` can be one of which `batch` was made.
    fn is_of(&self, batch: &Batch, entry: &Entry) -> bool {
        let header = &entry.block.header;
        entry.tenant == batch.tenant
            && header.lane.category == batch.category
            && (self.terms.mixes_encodings || header.encoding == batch.encoding)
            && entry.destinations.contains(&self.setting.name)
    }

    /// Entries that were taken for members of `batch` and cannot be go their own way.
    fn send_off(&mut self, batch: &Batch, strangers: Vec<(Position, Entry)>) {
        let now = Instant::now();
        for (position, entry) in strangers {
            tracing::error!(destination = &*self.setting.name, batch = %batch.id, tenant = &*batch.tenant, position.partition, position.index, "the record of a batch names an entry that cannot be of it");
            match entry.destinations.contains(&self.setting.name) {
                true => self.gather(position, entry, now),
                // It was never to come here. The reader passes over it.
                false => self.end(position, "lost"),
            }
        }
    }

    /// Puts a batch off, without its entries.
    pub(super) fn wait(&mut self, mut batch: Batch, then: Then, until: Instant) {
        self.unload(&mut batch);
        self.schedule.add(until, then, batch);
    }

    pub(super) fn unload(&mut self, batch: &mut Batch) {
        self.loaded = self.loaded.saturating_sub(batch.loaded_bytes());
        batch.entries = Vec::new();
    }

    /// Counts an entry as done with.
    pub(super) fn end(&mut self, position: Position, outcome: &str) {
        self.undecided = self.undecided.saturating_sub(1);
        self.count_entries(outcome, 1);
        if position.partition == crate::journal::PARKED {
            self.unparked.remove(&position.index);
        }
        self.dirty = true;
    }

    fn count_entries(&self, outcome: &str, count: u64) {
        self.setting.metrics.entries.with_label_values(&[&*self.setting.name, outcome]).inc_by(count);
    }
}

/// Nanoseconds since the epoch.
pub(super) fn now_nanos() -> i64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_nanos()).unwrap_or(i64::MAX)
}
