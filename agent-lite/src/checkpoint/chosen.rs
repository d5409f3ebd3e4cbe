//! What was chosen for logs once, and holds for their lives: whose books they count in, and with that which
//! lane their lines go to.
//!
//! A source that went on in another lane while blocks of it wait in the first could be stored beyond them: a
//! position is by source and stream, not by lane. After a restart those blocks would pass for stored.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use sluice_wire::{Category, Position};

/// By log, as checkpoints keep it, and by source, as ring and spool do.
#[derive(Debug, Default)]
pub(super) struct Chosen {
    /// `dataplane/kube-system`, by log.
    books: HashMap<Arc<str>, Arc<str>>,
    /// Of blocks that an earlier run has left: it may have been killed before its next checkpoint.
    in_ring: HashMap<u64, Category>,
}

impl Chosen {
    /// Notes whose books a log counts in; none yet: nothing.
    pub(super) fn note(&mut self, log: &Arc<str>, books: &Arc<str>) {
        if !log.is_empty() && !books.is_empty() {
            self.books.insert(log.clone(), books.clone());
        }
    }

    pub(super) fn note_in_ring<'a>(&mut self, category: Category, positions: impl Iterator<Item = &'a Position>) {
        self.in_ring.extend(positions.map(|position| (position.source, category)));
    }

    pub(super) fn of_log(&self, log: &str) -> Option<Category> {
        let (word, _) = self.books.get(log)?.split_once('/')?;
        Category::ALL.into_iter().find(|category| category.word() == word)
    }

    pub(super) fn unit_of_log(&self, log: &str) -> Option<Arc<str>> {
        self.books.get(log)?.split_once('/').map(|(_, unit)| unit.into())
    }

    pub(super) fn of_source(&self, source: u64) -> Option<Category> {
        self.in_ring.get(&source).copied()
    }

    /// Forgets all but what is known of otherwise.
    pub(super) fn keep_only(&mut self, logs: &HashSet<&str>, has_source: impl Fn(u64) -> bool) {
        self.books.retain(|log, _| logs.contains(&**log));
        self.in_ring.retain(|source, _| has_source(*source));
    }
}
