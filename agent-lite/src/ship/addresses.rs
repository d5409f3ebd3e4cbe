//! The address book: every address of every gateway, how it has behaved, and which one the next
//! connection goes to. It does no I/O and knows no clock: time and answers are told to it.

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use sluice_wire::JournalId;

use crate::backoff::Backoff;

/// Addresses of one host that are used; DNS may name more.
const PER_HOST: usize = 256;
/// The first and the longest wait after failures of an address.
const WAITS: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(10));

/// How long it is believed that a journal is not behind an address, without a connection to it.
const REMEMBERED: Duration = Duration::from_secs(60);

/// An address of a gateway.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct AddressId {
    /// Which of the configured urls it belongs to.
    pub(super) endpoint: usize,
    /// Where it is.
    pub(super) place: Place,
}

/// Where a connection goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Place {
    /// Straight to this address.
    At(SocketAddr),
    /// To the proxy, which finds the gateway by its name.
    Proxied,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::At(address) => address.fmt(f),
            Self::Proxied => f.write_str("proxy"),
        }
    }
}

/// What the next connection is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Want {
    /// Anything that waits.
    Any,
    /// Blocks that this journal may hold (rule 7).
    Journal(JournalId),
}

#[derive(Debug)]
struct Known {
    /// DNS names it now.
    listed: bool,
    connections: usize,
    backoff: Backoff,
    aside_until: Option<Instant>,
    /// The journal that was met there last, and when.
    journal: Option<(JournalId, Instant)>,
    /// Several were: a balancer, or an address that was given to another gateway.
    varies: bool,
}

impl Known {
    fn new() -> Self {
        let (first, most) = WAITS;
        let backoff = Backoff::new(first, most);
        Self { listed: true, connections: 0, backoff, aside_until: None, journal: None, varies: false }
    }

    fn is_aside(&self, now: Instant) -> bool {
        self.aside_until.is_some_and(|until| until > now)
    }

    /// How well it suits, less is better; `None`: it would be of no use.
    fn rank(&self, want: Want, now: Instant) -> Option<u8> {
        let Want::Journal(wanted) = want else { return Some(0) };
        match self.journal {
            Some((journal, _)) if journal == wanted => Some(0),
            None => Some(1),
            Some(_) if self.varies => Some(1),
            // The one behind it may have changed since.
            Some((_, met)) if self.connections == 0 && now.saturating_duration_since(met) > REMEMBERED => Some(2),
            Some(_) => None,
        }
    }
}

/// All addresses.
#[derive(Debug, Default)]
pub(super) struct Addresses {
    known: BTreeMap<AddressId, Known>,
}

impl Addresses {
    /// What DNS says of an endpoint's host now. Addresses that it does not name any more are used for no
    /// new connection.
    pub(super) fn resolved(&mut self, endpoint: usize, places: impl IntoIterator<Item = Place>) {
        for (id, known) in &mut self.known {
            known.listed &= id.endpoint != endpoint;
        }
        for place in places.into_iter().take(PER_HOST) {
            self.known.entry(AddressId { endpoint, place }).or_insert_with(Known::new).listed = true;
        }
        self.forget();
    }

    /// The address for the next connection: of those that are not set aside the one that suits best, then
    /// the one with the fewest of our connections, then any.
    pub(super) fn pick(&self, now: Instant, want: Want) -> Option<AddressId> {
        let usable = self.known.iter().filter(|(_, known)| known.listed && !known.is_aside(now));
        let ranked = usable.filter_map(|(id, known)| Some(((known.rank(want, now)?, known.connections), id)));
        ranked.min_by_key(|(rank, _)| (*rank, rand::random::<u32>())).map(|(_, id)| *id)
    }

    /// A connection to it is being made.
    pub(super) fn opened(&mut self, id: AddressId) {
        if let Some(known) = self.known.get_mut(&id) {
            known.connections += 1;
        }
    }

    /// A connection to it is no more.
    pub(super) fn closed(&mut self, id: AddressId) {
        if let Some(known) = self.known.get_mut(&id) {
            known.connections = known.connections.saturating_sub(1);
        }
        self.forget();
    }

    /// It has greeted with this journal.
    pub(super) fn met(&mut self, id: AddressId, journal: JournalId, now: Instant) {
        if let Some(known) = self.known.get_mut(&id) {
            known.varies |= known.journal.is_some_and(|(before, _)| before != journal);
            known.journal = Some((journal, now));
        }
    }

    /// A request to it went well.
    pub(super) fn succeeded(&mut self, id: AddressId) {
        if let Some(known) = self.known.get_mut(&id) {
            known.backoff.succeeded();
        }
    }

    /// A connection or a request failed; gives how long it is left alone, which is at least `after`.
    pub(super) fn failed(&mut self, id: AddressId, now: Instant, after: Option<Duration>) -> Duration {
        let Some(known) = self.known.get_mut(&id) else { return Duration::ZERO };
        let wait = known.backoff.failed().max(after.unwrap_or_default());
        known.aside_until = Some(now + wait);
        wait
    }

    /// It takes nothing for a while, in its own words.
    pub(super) fn set_aside(&mut self, id: AddressId, until: Instant) {
        if let Some(known) = self.known.get_mut(&id) {
            known.aside_until = Some(until);
        }
    }

    /// Whether DNS names it now.
    pub(super) fn is_listed(&self, id: AddressId) -> bool {
        self.known.get(&id).is_some_and(|known| known.listed)
    }

    /// Whether another one could be used in its stead.
    pub(super) fn has_other(&self, id: AddressId, now: Instant) -> bool {
        self.known.iter().any(|(other, known)| *other != id && known.listed && !known.is_aside(now))
    }

    /// How many DNS names.
    pub(super) fn listed(&self) -> usize {
        self.known.values().filter(|known| known.listed).count()
    }

    /// When the next one that is set aside may be used again.
    pub(super) fn next_ready(&self, now: Instant) -> Option<Instant> {
        self.known
            .values()
            .filter(|known| known.listed)
            .filter_map(|known| known.aside_until)
            .filter(|at| *at > now)
            .min()
    }

    fn forget(&mut self) {
        self.known.retain(|_, known| known.listed || known.connections > 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(last: u8) -> Place {
        Place::At(SocketAddr::from(([10, 0, 0, last], 7070)))
    }

    fn id(last: u8) -> AddressId {
        AddressId { endpoint: 0, place: place(last) }
    }

    fn book(last: &[u8]) -> Addresses {
        let mut book = Addresses::default();
        book.resolved(0, last.iter().map(|last| place(*last)));
        book
    }

    #[test]
    fn connections_go_to_the_address_with_the_fewest() {
        let (mut book, now) = (book(&[1, 2, 3]), Instant::now());
        let mut counts = BTreeMap::new();
        for _ in 0..9 {
            let picked = book.pick(now, Want::Any).unwrap();
            book.opened(picked);
            *counts.entry(picked).or_insert(0) += 1;
        }
        assert_eq!(counts.into_values().collect::<Vec<_>>(), [3, 3, 3]);
    }

    #[test]
    fn among_equals_chance_decides_so_that_a_fleet_is_spread() {
        let (book, now) = (book(&[1, 2, 3]), Instant::now());
        let picked: std::collections::HashSet<_> = (0..200).map(|_| book.pick(now, Want::Any).unwrap()).collect();
        assert_eq!(picked.len(), 3);
    }

    #[test]
    fn an_address_that_failed_is_left_alone_while_others_are_used() {
        let (mut book, now) = (book(&[1, 2]), Instant::now());
        let wait = book.failed(id(1), now, None);
        assert!((0..50).all(|_| book.pick(now, Want::Any) == Some(id(2))));
        assert_eq!(book.next_ready(now), Some(now + wait));
        book.failed(id(2), now, Some(Duration::from_secs(60)));
        assert_eq!(book.pick(now, Want::Any), None);
        assert_eq!(book.pick(now + wait, Want::Any), Some(id(1)));
    }

    #[test]
    fn rule_7_what_is_in_doubt_goes_where_its_journal_was_met_last() {
        let (mut book, now) = (book(&[1, 2, 3]), Instant::now());
        let [a, b, c] = [1, 2, 3].map(|byte| JournalId([byte; 16]));
        book.met(id(1), a, now);
        book.met(id(2), b, now);
        assert_eq!(book.pick(now, Want::Journal(b)), Some(id(2)));
        assert_eq!(book.pick(now, Want::Journal(c)), Some(id(3)), "one that was never asked may have it");
        book.set_aside(id(3), now + 2 * REMEMBERED);
        book.opened(id(1));
        assert_eq!(book.pick(now, Want::Journal(c)), None, "both are known to be others");
        let later = now + REMEMBERED + Duration::from_secs(1);
        assert_eq!(book.pick(later, Want::Journal(c)), Some(id(2)), "the gateway behind it may have changed");
        book.met(id(1), b, now);
        assert_eq!(book.pick(now, Want::Journal(c)), Some(id(1)), "several stand behind this one");
    }

    #[test]
    fn an_address_that_left_dns_is_used_no_more_and_forgotten_with_its_last_connection() {
        let (mut book, now) = (book(&[1, 2]), Instant::now());
        book.opened(id(1));
        book.resolved(0, [place(2)]);
        assert!(!book.is_listed(id(1)) && book.has_other(id(1), now));
        assert_eq!((book.pick(now, Want::Any), book.known.len(), book.listed()), (Some(id(2)), 2, 1));
        book.closed(id(1));
        assert_eq!(book.known.len(), 1);
    }

    #[test]
    fn no_more_addresses_are_kept_than_the_bound() {
        let mut book = Addresses::default();
        book.resolved(0, (0..2000_u16).map(|port| Place::At(SocketAddr::from(([10, 0, 0, 1], port)))));
        assert_eq!(book.listed(), PER_HOST);
    }
}
