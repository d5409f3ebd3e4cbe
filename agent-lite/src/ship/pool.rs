//! Connections, spread over all addresses of the gateways: opened where they are wanted, replaced when they
//! are old, and counted.
//!
//! ```text
//! DNS ─► address book ─► connecting ─► idle ◄─► busy ─► closed: failed, set aside, old, or out of DNS
//! ```

use std::collections::HashMap;
use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use sluice_wire::JournalId;
use tokio::task::JoinSet;

use super::addresses::{AddressId, Addresses, Place, Want};
use super::connection::{Aside, ConnectError, Connection};
use super::transport::{Endpoint, Peer, Stamps};
use crate::backoff::Backoff;
use crate::metrics::{Metrics, Step};

/// Between connections beyond the first.
const ANOTHER: Duration = Duration::from_millis(500);
/// After the last connection was lost: up to so long before the next, so that the agents of a gateway that
/// went away do not all come at once.
const LOSS: Duration = Duration::from_secs(1);
/// Between looks at the times of certificates and tokens.
const LOOK_AT_FILES: Duration = Duration::from_secs(30);
/// A connection whose files have changed is replaced within this time.
const RENEW_WITHIN: Duration = Duration::from_secs(5);
/// An address that failed has its name looked up again, no more often than this.
const LOOK_AGAIN: Duration = Duration::from_secs(1);
/// A store closes what is silent for a minute: before that we do, or a request meets the closing.
const IDLE_AT_STORE: Duration = Duration::from_secs(30);

/// How connections are kept.
#[derive(Debug, Clone)]
pub struct Settings {
    /// How many, each with one request under way.
    pub connections: usize,
    /// Age after which one is replaced, give or take a fifth.
    pub max_age: Duration,
    /// Between looks at DNS.
    pub dns_interval: Duration,
}

/// A connection, and what the pool knows of it.
#[derive(Debug)]
pub(super) struct Held {
    /// What blocks are sent over.
    pub(super) connection: Connection,
    address: AddressId,
    expires: Instant,
    stamps: Stamps,
    since: Instant,
}

/// How a request went, for its connection and address.
#[derive(Debug)]
pub(super) enum Fate {
    /// There was an answer to it.
    Good,
    /// Nobody knows; the answer may have asked for a wait.
    Failed(Option<Duration>),
    /// Nothing is taken there for a while.
    Aside(Aside),
}

/// Something happened that [`Pool::handle`] is to be told of.
#[derive(Debug)]
pub(super) enum Event {
    Connected(AddressId, Stamps, Result<Connection, ConnectError>),
    Resolved(usize, io::Result<Vec<Place>>),
    Due,
}

/// When an endpoint's name is looked up.
#[derive(Debug)]
struct Lookup {
    next: Option<Instant>,
    last: Option<Instant>,
    backoff: Backoff,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Pool {
    settings: Settings,
    endpoints: Vec<Arc<Endpoint>>,
    lookups: Vec<Lookup>,
    addresses: Addresses,
    idle: Vec<Held>,
    /// When those expire that have a request under way, by the ids they were given.
    busy: HashMap<u64, Instant>,
    departures: u64,
    /// Old ones that may go: as many as there are new ones in their stead.
    replaced: usize,
    connecting: JoinSet<Event>,
    /// At most one: a resolver that hangs holds one thread.
    resolving: JoinSet<Event>,
    /// No connection is tried before.
    not_before: Option<Instant>,
    next_look_at_files: Option<Instant>,
    wake: Option<Instant>,
    metrics: Metrics,
}

impl Pool {
    pub(super) fn new(endpoints: Vec<Arc<Endpoint>>, settings: Settings, metrics: Metrics) -> Self {
        let mut addresses = Addresses::default();
        let lookups = endpoints.iter().enumerate().map(|(at, endpoint)| {
            let place = fixed_place(endpoint);
            addresses.resolved(at, place);
            let backoff = Backoff::new(Duration::from_millis(500), settings.dns_interval);
            Lookup { next: place.is_none().then(Instant::now), last: None, backoff }
        });
        Self {
            lookups: lookups.collect(),
            settings,
            endpoints,
            addresses,
            idle: Vec::new(),
            busy: HashMap::new(),
            departures: 0,
            replaced: 0,
            connecting: JoinSet::new(),
            resolving: JoinSet::new(),
            not_before: None,
            next_look_at_files: None,
            wake: None,
            metrics,
        }
    }

    /// Whether there is a connection, idle or at work.
    pub(super) fn is_connected(&self) -> bool {
        !self.idle.is_empty() || !self.busy.is_empty()
    }

    /// Those that may be sent on now. Each is to be given back, to [`Pool::rest`] or [`Pool::depart`].
    pub(super) fn take_idle(&mut self, now: Instant) -> Vec<Held> {
        let idle = std::mem::take(&mut self.idle);
        let (usable, lost): (Vec<_>, Vec<_>) = idle.into_iter().partition(|held| self.stays(held, now));
        let is_lost = lost.iter().any(|held| !held.connection.is_open());
        lost.into_iter().for_each(|held| self.close(held));
        if is_lost && usable.is_empty() && self.busy.is_empty() {
            self.hold_off(now);
        }
        usable
    }

    /// Whether it is used further: not if it was closed, is old and has a successor (which that uses up), or
    /// leads where DNS leads no more.
    fn stays(&mut self, held: &Held, now: Instant) -> bool {
        let peer = &self.endpoints[held.address.endpoint].peer;
        let is_stale = matches!(peer, Peer::Store(_)) && now.saturating_duration_since(held.since) > IDLE_AT_STORE;
        let has_left = !self.addresses.is_listed(held.address) && self.addresses.has_other(held.address, now);
        let is_replaced = self.replaced > 0 && held.expires <= now;
        if is_replaced {
            self.replaced -= 1;
        }
        held.connection.is_open() && !is_stale && !has_left && !is_replaced
    }

    /// There is nothing to send on it.
    pub(super) fn rest(&mut self, held: Held) {
        self.idle.push(held);
    }

    /// A request goes out on it; the number is to be given back with it.
    pub(super) fn depart(&mut self, held: &Held) -> u64 {
        self.departures += 1;
        self.busy.insert(self.departures, held.expires);
        self.departures
    }

    /// The request has ended.
    pub(super) fn come_back(&mut self, number: u64, mut held: Held, fate: &Fate, now: Instant) {
        self.busy.remove(&number);
        match fate {
            Fate::Good => {
                self.addresses.succeeded(held.address);
                self.metrics.held.set(0);
                held.since = now;
                self.idle.push(held);
                return;
            }
            Fate::Failed(after) => {
                self.fail(held.address, now, *after);
                if !self.is_connected() {
                    self.hold_off(now);
                }
            }
            Fate::Aside(aside) => {
                self.metrics.held.set(i64::from(aside.held));
                // A fleet that was told one time does not come back as one.
                self.addresses.set_aside(held.address, now + aside.wait.mul_f64(rand::random_range(1.0..1.5)));
                self.leave(held.address);
            }
        }
        self.close(held);
    }

    /// Closes what is idle at an address that takes nothing.
    fn leave(&mut self, address: AddressId) {
        let (leaving, staying): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.idle).into_iter().partition(|held| held.address == address);
        self.idle = staying;
        leaving.into_iter().for_each(|held| self.close(held));
    }

    /// Does what is due: looks up names, looks at files, connects for `wants`, the most wanted first, and
    /// replaces what is old.
    pub(super) fn tend(&mut self, now: Instant, wants: &[Want]) {
        self.resolve_next(now);
        self.look_at_files(now);
        self.not_before = self.not_before.filter(|at| *at > now);
        if self.connecting.is_empty() && self.not_before.is_none() {
            self.connect(now, wants);
        }
        self.wake = self.next_wake(now);
        self.count();
    }

    fn connect(&mut self, now: Instant, wants: &[Want]) {
        let open = self.idle.len() + self.busy.len();
        let met: Vec<JournalId> = self.idle.iter().map(|held| held.connection.journal()).collect();
        let unmet = |want: &&Want| !matches!(want, Want::Journal(journal) if met.contains(journal));
        // A gateway is greeted before there is anything to send; a store would only close the connection.
        let is_warm = open == 0 && self.endpoints.iter().any(|endpoint| matches!(endpoint.peer, Peer::Gateway));
        for want in wants.iter().chain(is_warm.then_some(&Want::Any)).filter(unmet) {
            let Some(address) = self.addresses.pick(now, *want) else { continue };
            if open.saturating_sub(self.replaced) >= self.settings.connections && self.idle.is_empty() {
                // Only what is idle gives way, and only once there is something in its stead.
                return;
            }
            self.start(address);
            // More than one is a convenience: no hurry, whatever the first ones lead to.
            self.not_before = (open > 0).then(|| now + ANOTHER);
            return;
        }
        let old = self.old(now);
        self.replaced = self.replaced.min(old);
        if old > self.replaced
            && let Some(address) = self.addresses.pick(now, Want::Any)
        {
            self.start(address);
            self.not_before = Some(now + ANOTHER);
        }
    }

    /// Connections past their age.
    fn old(&self, now: Instant) -> usize {
        let expiries = self.idle.iter().map(|held| held.expires).chain(self.busy.values().copied());
        expiries.filter(|at| *at <= now).count()
    }

    fn start(&mut self, address: AddressId) {
        self.addresses.opened(address);
        let endpoint = Arc::clone(&self.endpoints[address.endpoint]);
        let stamps = endpoint.stamps();
        self.connecting.spawn(async move {
            let connected = Connection::open(endpoint, address.place).await;
            Event::Connected(address, stamps, connected)
        });
    }

    /// Waits for something to happen. Cancel safe.
    pub(super) async fn happening(&mut self) -> Event {
        let wake = self.wake;
        tokio::select! {
            Some(Ok(event)) = self.connecting.join_next() => event,
            Some(Ok(event)) = self.resolving.join_next() => event,
            () = async { tokio::time::sleep_until(wake.unwrap_or_else(Instant::now).into()).await }, if wake.is_some() => {
                Event::Due
            }
            else => std::future::pending().await,
        }
    }

    /// Acts on what happened.
    pub(super) fn handle(&mut self, event: Event, now: Instant) {
        match event {
            Event::Due => self.wake = None,
            Event::Connected(address, stamps, Ok(connection)) => {
                tracing::info!(
                    address = %address.place, journal = %connection.journal(), host = self.endpoints[address.endpoint].host(),
                    "connected"
                );
                self.addresses.met(address, connection.journal(), now);
                let open = self.idle.len() + self.busy.len();
                if self.old(now) > self.replaced {
                    self.replaced += 1;
                } else if open >= self.settings.connections && !self.idle.is_empty() {
                    let held = self.idle.remove(0);
                    self.close(held);
                }
                let expires = now + self.settings.max_age.mul_f64(rand::random_range(0.8..=1.2));
                self.idle.push(Held { connection, address, expires, stamps, since: now });
            }
            Event::Connected(address, _, Err(error)) => {
                self.addresses.closed(address);
                let wait = self.fail(address, now, error.after());
                let host = self.endpoints[address.endpoint].host();
                tracing::warn!(
                    %error, host, address = %address.place, retry_in = ?wait,
                    "no connection; where there is no other, logs wait in their files"
                );
                self.metrics.connect_errors.inc();
                self.metrics.troubles.add(error.step(), &format!("{host} ({}): {error}", address.place));
            }
            Event::Resolved(at, resolved) => self.take_resolved(at, resolved, now),
        }
    }

    fn take_resolved(&mut self, at: usize, resolved: io::Result<Vec<Place>>, now: Instant) {
        let host = self.endpoints[at].host();
        let lookup = &mut self.lookups[at];
        let interval = self.settings.dns_interval;
        match resolved {
            Ok(places) if !places.is_empty() => {
                lookup.backoff.succeeded();
                lookup.next = Some(now + interval.mul_f64(rand::random_range(0.9..=1.1)));
                self.addresses.resolved(at, places);
            }
            // What was known stays good.
            Ok(_) => {
                lookup.next = Some(now + lookup.backoff.failed());
                self.metrics.troubles.add(Step::Lookup, &format!("{host}: the name has no address"));
                tracing::warn!(host, "the name has no address");
            }
            Err(error) => {
                let wait = lookup.backoff.failed();
                lookup.next = Some(now + wait);
                tracing::warn!(host, %error, retry_in = ?wait, "the name cannot be looked up");
                self.metrics.lookup_errors.inc();
                self.metrics.troubles.add(Step::Lookup, &format!("{host}: {error}"));
            }
        }
    }

    /// Looks up the next name that is due.
    fn resolve_next(&mut self, now: Instant) {
        if !self.resolving.is_empty() {
            return;
        }
        let is_due = |lookup: &Lookup| lookup.next.is_some_and(|at| at <= now);
        let Some(at) = self.lookups.iter().position(is_due) else { return };
        // Set anew by its result.
        self.lookups[at].next = Some(now + self.settings.dns_interval);
        self.lookups[at].last = Some(now);
        let endpoint = Arc::clone(&self.endpoints[at]);
        self.resolving.spawn(async move {
            let found = tokio::net::lookup_host((endpoint.host(), endpoint.port())).await;
            Event::Resolved(at, found.map(|addresses| addresses.map(Place::At).collect()))
        });
    }

    /// Has connections replaced soon whose certificates or tokens were renewed since.
    fn look_at_files(&mut self, now: Instant) {
        if self.next_look_at_files.is_some_and(|at| at > now) {
            return;
        }
        self.next_look_at_files = Some(now + LOOK_AT_FILES);
        let stamps: Vec<Stamps> = self.endpoints.iter().map(|endpoint| endpoint.stamps()).collect();
        for held in self.idle.iter_mut().filter(|held| held.stamps != stamps[held.address.endpoint]) {
            held.expires = held.expires.min(now + RENEW_WITHIN.mul_f64(rand::random()));
        }
    }

    fn fail(&mut self, address: AddressId, now: Instant, after: Option<Duration>) -> Duration {
        self.metrics.address_failed(&address.place);
        let lookup = &mut self.lookups[address.endpoint];
        if let Some(next) = &mut lookup.next {
            *next = (*next).min(lookup.last.map_or(now, |last| last + LOOK_AGAIN).max(now));
        }
        self.addresses.failed(address, now, after)
    }

    fn hold_off(&mut self, now: Instant) {
        self.not_before = Some(now + LOSS.mul_f64(rand::random()));
    }

    fn close(&mut self, held: Held) {
        self.addresses.closed(held.address);
        drop(held);
    }

    /// When there is something to do that no event will tell of.
    fn next_wake(&self, now: Instant) -> Option<Instant> {
        let lookup = self.lookups.iter().filter_map(|lookup| lookup.next).filter(|_| self.resolving.is_empty()).min();
        let expiry = self.idle.iter().map(|held| held.expires).min();
        [self.not_before, self.addresses.next_ready(now), lookup, expiry, self.next_look_at_files]
            .into_iter()
            .flatten()
            .filter(|at| *at > now)
            .min()
    }

    fn count(&self) {
        self.metrics.connections("idle", self.idle.len());
        self.metrics.connections("busy", self.busy.len());
        self.metrics.connections("connecting", self.connecting.len());
        self.metrics.addresses.set(i64::try_from(self.addresses.listed()).unwrap_or(i64::MAX));
    }
}

/// Where there is nothing to look up: an address, or a proxy that looks up itself.
fn fixed_place(endpoint: &Endpoint) -> Option<Place> {
    if endpoint.proxy.is_some() {
        return Some(Place::Proxied);
    }
    let address: IpAddr = endpoint.host().parse().ok()?;
    Some(Place::At((address, endpoint.port()).into()))
}

#[cfg(test)]
impl Pool {
    /// Keeps connections from an endpoint until then.
    pub(super) fn leave_alone(&mut self, endpoint: usize, until: Instant) {
        let place = fixed_place(&self.endpoints[endpoint]).unwrap();
        self.addresses.set_aside(AddressId { endpoint, place }, until);
    }
}
