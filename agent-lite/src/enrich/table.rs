//! The pods of the node, by what their log directories are called.
//!
//! A pod that the API has deleted stays until its logs are shipped (its reader releases it) or a time has
//! passed: its name and labels are needed for as long as its files are.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::annotations::{self, Allowed, Problem};
use super::pod::Pod;
use super::render::{Fields, PodInfo};

/// What the table is told at its start.
#[derive(Debug, Clone)]
pub(super) struct Rules {
    pub(super) fields: Fields,
    pub(super) allowed: Allowed,
    pub(super) max_pods: usize,
    pub(super) linger: Duration,
}

/// All that is known.
#[derive(Debug)]
pub(super) struct Table {
    rules: Rules,
    /// By `metadata.uid`.
    pods: HashMap<Arc<str>, Entry>,
    /// Hashes of static pods' configurations, to `metadata.uid`.
    aliases: HashMap<Box<str>, Arc<str>>,
    /// Of namespaces that have pods here.
    namespaces: HashMap<Box<str>, Namespace>,
    epoch: u64,
    synced: bool,
}

#[derive(Debug)]
struct Entry {
    info: Arc<PodInfo>,
    aliases: Vec<Box<str>>,
    /// The last list that had it.
    epoch: u64,
    /// When the API lost it.
    gone: Option<Instant>,
    /// Problems of its annotations that were counted.
    problems: Vec<Problem>,
}

#[derive(Debug)]
struct Namespace {
    labels: Arc<BTreeMap<String, String>>,
    fetched: Instant,
}

/// What putting a pod into the table came to.
#[derive(Debug, Default)]
pub(super) struct Put {
    /// What records say of it is not what it was.
    pub(super) changed: bool,
    /// There was no room.
    pub(super) refused: bool,
    /// Labels and annotations over a record's bounds, where that is news.
    pub(super) left_out: usize,
    /// Problems that were not there before.
    pub(super) problems: Vec<Problem>,
}

impl Table {
    pub(super) fn new(rules: Rules) -> Self {
        let (pods, aliases, namespaces) = (HashMap::new(), HashMap::new(), HashMap::new());
        Self { rules, pods, aliases, namespaces, epoch: 0, synced: false }
    }

    /// Whether a whole list was ever taken over.
    pub(super) fn is_synced(&self) -> bool {
        self.synced
    }

    pub(super) fn len(&self) -> usize {
        self.pods.len()
    }

    /// The pod whose log directory is called `<namespace>_<name>_<uid>`. All three count: an annotation
    /// that anybody may write can name another pod's uid, but not be in its namespace under its name.
    pub(super) fn find(&self, namespace: &str, name: &str, uid: &str) -> Option<&Arc<PodInfo>> {
        let is_it = |entry: &&Entry| *entry.info.namespace == *namespace && *entry.info.name == *name;
        let by_alias = || self.pods.get(self.aliases.get(uid)?).filter(is_it);
        self.pods.get(uid).filter(is_it).or_else(by_alias).map(|entry| &entry.info)
    }

    /// Adds a pod, or what changed of it.
    pub(super) fn put(&mut self, pod: &Pod) -> Put {
        let uid = pod.metadata.uid.as_str();
        if uid.is_empty() || !(self.pods.contains_key(uid) || self.make_room()) {
            return Put { refused: true, ..Put::default() };
        }
        let containers: Vec<&str> = pod.containers().map(|container| container.name.as_str()).collect();
        let annotations = pod.metadata.annotations.iter().map(|(key, value)| (key.as_str(), value.as_str()));
        let (choices, problems) = annotations::read(annotations, &containers, &self.rules.allowed);
        let mut info = PodInfo::new(pod, &self.rules.fields, choices);
        if let Some(known) = self.namespaces.get(&info.namespace).filter(|_| !info.is_whole()) {
            info = info.with_namespace_labels(&known.labels);
        }
        let left_out = info.left_out;
        let aliases: Vec<Box<str>> = pod.aliases().filter(|alias| *alias != uid).map(Box::from).collect();
        let Some(entry) = self.pods.get_mut(uid) else {
            let uid: Arc<str> = uid.into();
            self.point(&aliases, &uid);
            let entry =
                Entry { info: Arc::new(info), aliases, epoch: self.epoch, gone: None, problems: problems.clone() };
            self.pods.insert(uid, entry);
            return Put { changed: true, refused: false, left_out, problems };
        };
        entry.epoch = self.epoch;
        entry.gone = None;
        let changed = *entry.info != info;
        let news = if entry.info.left_out == left_out { 0 } else { left_out };
        if changed {
            entry.info = Arc::new(info);
        }
        let new = problems.iter().filter(|problem| !entry.problems.contains(problem)).cloned().collect();
        entry.problems = problems;
        // Whether a pod is a static one's mirror is settled when it is made.
        Put { changed, refused: false, left_out: news, problems: new }
    }

    /// The API has deleted it.
    pub(super) fn gone(&mut self, uid: &str, now: Instant) {
        if let Some(entry) = self.pods.get_mut(uid) {
            entry.gone.get_or_insert(now);
        }
    }

    /// Its files are shipped. One that the API still has stays.
    pub(super) fn release(&mut self, uid: &str) {
        let uid = match self.aliases.get(uid) {
            Some(of) if !self.pods.contains_key(uid) => of.clone(),
            _ => uid.into(),
        };
        if self.pods.get(&uid).is_some_and(|entry| entry.gone.is_some()) {
            self.remove(&uid);
        }
    }

    /// A list begins: what it does not have is gone when it ends.
    pub(super) fn begin_list(&mut self) {
        self.epoch += 1;
    }

    /// The list was whole.
    pub(super) fn end_list(&mut self, now: Instant) {
        for entry in self.pods.values_mut().filter(|entry| entry.epoch != self.epoch) {
            entry.gone.get_or_insert(now);
        }
        self.synced = true;
    }

    /// Lets go of what has been gone for too long, and of namespaces that have no pods here.
    pub(super) fn sweep(&mut self, now: Instant) {
        let linger = self.rules.linger;
        let over = |entry: &Entry| entry.gone.is_some_and(|gone| now.saturating_duration_since(gone) >= linger);
        let over: Vec<_> = self.pods.iter().filter(|(_, entry)| over(entry)).map(|(uid, _)| uid.clone()).collect();
        over.iter().for_each(|uid| self.remove(uid));
        let present: HashSet<&str> = self.pods.values().map(|entry| &*entry.info.namespace).collect();
        self.namespaces.retain(|name, _| present.contains(&**name));
    }

    /// The namespace whose labels are most due: one that is not known, else the oldest, where that is older
    /// than `age`.
    pub(super) fn due_namespace(&self, age: Duration, now: Instant) -> Option<Box<str>> {
        let living = self.pods.values().filter(|entry| entry.gone.is_none());
        let unknown = living.map(|entry| &entry.info.namespace).find(|name| !self.namespaces.contains_key(*name));
        let oldest = || self.namespaces.iter().min_by_key(|(_, namespace)| namespace.fetched);
        let due = || {
            oldest()
                .filter(|(_, namespace)| now.saturating_duration_since(namespace.fetched) >= age)
                .map(|(name, _)| name)
        };
        unknown.or_else(due).cloned()
    }

    /// Takes over a namespace's labels; `None`: it cannot be asked now, what is known stays. Whether
    /// anything changed.
    pub(super) fn put_namespace(&mut self, name: &str, labels: Option<BTreeMap<String, String>>, now: Instant) -> bool {
        let known = self.namespaces.get(name).map(|namespace| namespace.labels.clone());
        let labels = match (labels, &known) {
            (Some(labels), _) => Arc::new(labels),
            (None, Some(known)) => known.clone(),
            (None, None) => Arc::default(),
        };
        let changed = known.as_ref() != Some(&labels);
        if changed {
            for entry in self.pods.values_mut().filter(|entry| *entry.info.namespace == *name) {
                entry.info = Arc::new(entry.info.with_namespace_labels(&labels));
            }
        }
        self.namespaces.insert(name.into(), Namespace { labels, fetched: now });
        changed
    }

    /// Whether another pod can be kept; the one that has been gone for longest makes way.
    fn make_room(&mut self) -> bool {
        if self.pods.len() < self.rules.max_pods {
            return true;
        }
        let gone = self.pods.iter().filter_map(|(uid, entry)| Some((entry.gone?, uid)));
        let Some(oldest) = gone.min().map(|(_, uid)| uid.clone()) else { return false };
        self.remove(&oldest);
        true
    }

    fn point(&mut self, aliases: &[Box<str>], uid: &Arc<str>) {
        for alias in aliases {
            self.aliases.insert(alias.clone(), uid.clone());
        }
    }

    fn remove(&mut self, uid: &Arc<str>) {
        let Some(entry) = self.pods.remove(uid) else { return };
        for alias in &entry.aliases {
            // A static pod's next mirror has the same hash, and may be here already.
            if self.aliases.get(alias) == Some(uid) {
                self.aliases.remove(alias);
            }
        }
    }
}

#[cfg(test)]
mod tests;
