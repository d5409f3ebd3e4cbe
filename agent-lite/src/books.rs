//! The books: what became of every byte that a container or a daemon wrote, log by log.
//!
//! ```text
//! written = acknowledged + abandoned (by reason) + unread + held
//! ```
//!
//! in bytes of the log files as they lie on the disk (a compressed one inflated), a runtime's prefixes and
//! newlines included. *Held* is what is in blocks that are not decided, and pieces of lines that wait for
//! their end. Every term is counted where it arises; `imbalance` is what the equation is off by, and is 0.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use serde::Serialize;

use crate::checkpoint::{Account, Positions};
use crate::metrics::{BookMetrics, Volume};
use crate::tail::Abandoned;

/// Namespaces and units that have series of their own; those met later share the series of `other`.
const MAX_SERIES: usize = 500;

/// A log's page.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Book {
    /// The path of the log's live file.
    pub log: Arc<str>,
    /// Whose books it counts in: category and namespace or unit, `application/default`. Empty while that
    /// waits for the labels of its pod.
    pub books: Arc<str>,
    /// Bytes on the disk, also of files that are gone.
    pub written: u64,
    /// Bytes of lines that a gateway has stored.
    pub acknowledged: u64,
    /// Bytes that will not be sent, by reason.
    pub abandoned: BTreeMap<Abandoned, u64>,
    /// Entries of a journal, or records of the kernel's, that were lost; their bytes are not known.
    pub missing_entries: u64,
    /// Bytes still to be read.
    pub unread: i128,
    /// Bytes on their way.
    pub held: u64,
    /// What the equation is off by.
    pub imbalance: i128,
}

/// Every log's page. `on_their_way` is, of logs, what is to be read and what waits; `held` what blocks hold of
/// each source.
pub fn close<'a>(
    positions: &Positions,
    on_their_way: impl Iterator<Item = (&'a Arc<str>, i128, u64)>,
    held: impl Iterator<Item = (u64, u64)>,
) -> Vec<Book> {
    let mut held_of: HashMap<Arc<str>, u64> = HashMap::new();
    for (source, bytes) in held {
        if let Some(log) = positions.log_of(source) {
            *held_of.entry(log.clone()).or_default() += bytes;
        }
    }
    let mut unread_of: HashMap<Arc<str>, i128> = HashMap::new();
    for (log, unread, waiting) in on_their_way {
        *unread_of.entry(log.clone()).or_default() += unread;
        *held_of.entry(log.clone()).or_default() += waiting;
    }
    for (log, unread) in positions.unread_of_missed() {
        *unread_of.entry(log.clone()).or_default() += i128::from(unread);
    }
    let accounts = positions.accounts().into_iter();
    accounts
        .map(|(log, (books, account))| {
            let unread = unread_of.get(&log).copied().unwrap_or(0);
            let held = held_of.get(&log).copied().unwrap_or(0);
            let imbalance = i128::from(account.written) - i128::from(account.decided()) - unread - i128::from(held);
            let Account { written, acknowledged, abandoned, missing_entries } = account;
            Book { log, books, written, acknowledged, abandoned, missing_entries, unread, held, imbalance }
        })
        .collect()
}

/// Tells metrics of what was added to the books, by category and namespace or unit.
#[derive(Debug, Default)]
pub struct Ledger {
    /// What was told of each log.
    told: HashMap<Arc<str>, Account>,
    /// Whose books have series.
    series: BTreeSet<Arc<str>>,
}

impl Ledger {
    /// Counts from what an earlier run has counted.
    #[must_use]
    pub fn new(positions: &Positions) -> Self {
        let chosen = positions.accounts().into_iter().filter(|(_, (books, _))| !books.is_empty());
        let told = chosen.map(|(log, (_, account))| (log, account)).collect();
        Self { told, series: BTreeSet::new() }
    }

    /// Tells what came since the last time. Logs that have no page any more are forgotten, and so are the
    /// series of those of which no log is left.
    pub fn tell(&mut self, pages: &[Book], metrics: &BookMetrics) {
        let mut volumes: BTreeMap<Arc<str>, Volume> = BTreeMap::new();
        let mut told = HashMap::with_capacity(pages.len());
        // Where it is not chosen yet whose books a log counts in, it is counted once it is.
        for page in pages.iter().filter(|page| !page.books.is_empty()) {
            let account = self.told.remove(&page.log).unwrap_or_default();
            add(volumes.entry(page.books.clone()).or_default(), page, &account);
            let Book { written, acknowledged, abandoned, missing_entries, .. } = page.clone();
            told.insert(page.log.clone(), Account { written, acknowledged, abandoned, missing_entries });
        }
        self.told = told;
        for gone in self.series.iter().filter(|name| !volumes.contains_key(*name)) {
            metrics.forget(labels(gone), Abandoned::ALL.into_iter().map(Abandoned::word));
        }
        self.series.retain(|name| volumes.contains_key(name));
        let mut others = BTreeMap::<&str, Volume>::new();
        for (name, volume) in &volumes {
            if self.series.contains(name) || self.series.len() < MAX_SERIES {
                self.series.insert(name.clone());
                metrics.tell(labels(name), volume);
            } else {
                merge(others.entry(labels(name)[0]).or_default(), volume);
            }
        }
        others.iter().for_each(|(category, volume)| metrics.tell([category, "other"], volume));
        let imbalance: i128 = pages.iter().map(|page| page.imbalance.abs()).sum();
        metrics.set_imbalance(i64::try_from(imbalance).unwrap_or(i64::MAX));
    }
}

fn labels(name: &str) -> [&str; 2] {
    name.split_once('/').map_or([name, ""], |(category, scope)| [category, scope])
}

fn add(volume: &mut Volume, page: &Book, told: &Account) {
    volume.written += page.written.saturating_sub(told.written);
    volume.acknowledged += page.acknowledged.saturating_sub(told.acknowledged);
    for (reason, bytes) in &page.abandoned {
        let before = told.abandoned.get(reason).copied().unwrap_or(0);
        *volume.abandoned.entry(reason.word()).or_default() += bytes.saturating_sub(before);
    }
    volume.unread += i64::try_from(page.unread).unwrap_or(i64::MAX);
    volume.held += i64::try_from(page.held).unwrap_or(i64::MAX);
}

fn merge(into: &mut Volume, other: &Volume) {
    into.written += other.written;
    into.acknowledged += other.acknowledged;
    other.abandoned.iter().for_each(|(reason, bytes)| *into.abandoned.entry(reason).or_default() += bytes);
    into.unread += other.unread;
    into.held += other.held;
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page(log: &str, books: &str, written: u64, acknowledged: u64) -> Book {
        Book {
            log: log.into(),
            books: books.into(),
            written,
            acknowledged,
            abandoned: BTreeMap::from([(Abandoned::Torn, 1)]),
            missing_entries: 0,
            unread: 3,
            held: 4,
            imbalance: -2,
        }
    }

    fn sample(metrics: &crate::metrics::Metrics, line: &str) -> bool {
        metrics.render().unwrap().lines().any(|found| found == line)
    }

    #[test]
    fn what_is_added_is_counted_once_and_what_is_gone_has_no_series() {
        let metrics = crate::metrics::Metrics::new().unwrap();
        let mut ledger = Ledger::default();
        let (a, b) = (page("a", "application/ns", 10, 5), page("b", "application/ns", 20, 0));
        ledger.tell(&[a, b.clone()], &metrics.books);
        ledger.tell(&[page("a", "application/ns", 12, 9), b], &metrics.books);
        let of_ns = "{category=\"application\",scope=\"ns\"}";
        assert!(sample(&metrics, &format!("sluice_agent_books_written_bytes_total{of_ns} 32")));
        assert!(sample(&metrics, &format!("sluice_agent_books_acknowledged_bytes_total{of_ns} 9")));
        assert!(sample(&metrics, &format!("sluice_agent_books_held_bytes{of_ns} 8")));
        assert!(sample(&metrics, "sluice_agent_books_imbalance_bytes 4"));
        ledger.tell(&[page("c", "host/messages", 1, 1)], &metrics.books);
        assert!(!metrics.render().unwrap().contains("scope=\"ns\""));
    }

    #[test]
    fn a_log_counts_once_it_is_chosen_whose_books_it_is_in() {
        let metrics = crate::metrics::Metrics::new().unwrap();
        let mut ledger = Ledger::default();
        ledger.tell(&[page("a", "", 10, 0)], &metrics.books);
        assert!(!metrics.render().unwrap().contains("books_written_bytes_total{"));
        ledger.tell(&[page("a", "dataplane/ns", 12, 5)], &metrics.books);
        assert!(sample(&metrics, "sluice_agent_books_written_bytes_total{category=\"dataplane\",scope=\"ns\"} 12"));
    }

    #[test]
    fn series_are_bounded_and_keep_their_names() {
        let metrics = crate::metrics::Metrics::new().unwrap();
        let mut ledger = Ledger::default();
        let pages: Vec<Book> =
            (0..MAX_SERIES + 50).map(|n| page(&n.to_string(), &format!("application/ns-{n:04}"), 1, 1)).collect();
        ledger.tell(&pages[50..], &metrics.books);
        ledger.tell(&pages, &metrics.books);
        let series = metrics.render().unwrap().lines().filter(|line| line.contains("written_bytes_total{")).count();
        assert_eq!(series, MAX_SERIES + 1);
        assert!(sample(
            &metrics,
            "sluice_agent_books_written_bytes_total{category=\"application\",scope=\"other\"} 50"
        ));
    }
}
