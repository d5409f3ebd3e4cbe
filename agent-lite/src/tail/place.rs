//! Where a container's log goes: its category makes its lane, its books, and what its records say of it.
//!
//! By the names of namespace, pod and container, or, where a rule asks for labels, once the pod is known. What
//! was chosen holds for the log's life, over restarts: checkpoint, ring and spool remember it.

use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use sluice_wire::Category;

use super::books::mark_of;
use super::log::{Certainty, Format, Log, Names, Output};
use super::share::Share;
use super::{Key, Known, Labels, Tailer};
use crate::block::Lanes;
use crate::discover::layout::Pod;
use crate::discover::{Choice, Container, Treatment};
use crate::enrich::PodInfo;

impl Tailer {
    /// The log of a container's attempt, begun where it is new.
    pub(super) fn container_log(
        &mut self,
        container: &Container,
        attempt: u32,
        directory: &Path,
        lanes: &mut Lanes,
        known: &mut dyn Known,
    ) -> usize {
        let key = Key::Container(container.clone(), attempt);
        if let Some(at) = self.by_key.get(&key) {
            return *at;
        }
        let name: Arc<str> = directory.join(format!("{attempt}.log")).to_string_lossy().into();
        let chosen = known.category_of_log(&name).or_else(|| known.category_in_ring(mark_of(&name)));
        let certainty = match chosen {
            Some(_) => Certainty::Fixed,
            None if self.pods.is_some() && self.choice.asks_for_labels(container) => Certainty::Open,
            None => Certainty::ByNames,
        };
        let category = chosen.unwrap_or_else(|| self.choice.category(container, None));
        let lane = lanes.lane(category, &container.pod.namespace);
        let common = common(&self.labels, container, attempt, category);
        let books = if certainty == Certainty::Open { "".into() } else { books(container, category) };
        let Pod { namespace, uid, .. } = &container.pod;
        let share = match self.choice.treatment(container) {
            Treatment::Slowly => Share::slow(Instant::now()),
            _ => self.shares.of_log(namespace, Some(uid), self.first_look, Instant::now()),
        };
        let treatment = self.workshop.treatment(namespace, true);
        let mut log = Log::new(key, Names { log: name, books }, lane, Format::Container, common, treatment, share);
        log.certainty = certainty;
        if self.pods.is_some() {
            log.wait_for_pod(Instant::now());
        }
        self.add(log, lanes)
    }

    /// Goes on in the lane in which an earlier run has left blocks of the log, if it was killed before a
    /// checkpoint could say which.
    pub(super) fn recall(&mut self, at: usize, lanes: &mut Lanes, known: &mut dyn Known) {
        let log = &mut self.logs[at];
        if log.certainty == Certainty::Fixed {
            return;
        }
        let category = log.sources().find_map(|source| known.category_in_ring(source));
        if let Some(category) = category {
            put(log, category, &self.labels, known, lanes);
        }
    }
}

/// Chooses the category of a log of which the labels of its pod decide; without them, by its names.
pub(super) fn choose(
    log: &mut Log,
    info: Option<&PodInfo>,
    (choice, labels): (&Choice, &Labels),
    known: &mut dyn Known,
    lanes: &mut Lanes,
) {
    if log.certainty == Certainty::Open
        && let Key::Container(container, _) = &log.key
    {
        let category = choice.category(container, info.map(PodInfo::asked_labels));
        put(log, category, labels, known, lanes);
    }
}

/// Lets a log go on without what is to be known of its pod.
pub(super) fn go_on_undescribed(
    log: &mut Log,
    rules: (&Choice, &Labels),
    known: &mut dyn Known,
    output: &mut Output<'_>,
) {
    output.counts.undescribed += 1;
    choose(log, None, rules, known, output.lanes);
    log.go_on_undescribed();
    log.tell_untold(output);
}

fn put(log: &mut Log, category: Category, labels: &Labels, known: &mut dyn Known, lanes: &mut Lanes) {
    let Key::Container(container, attempt) = log.key.clone() else { return };
    let books = books(&container, category);
    known.choose_books(&log.names.log, &books);
    let lane = lanes.lane(category, &container.pod.namespace);
    lanes.hold(lane);
    let before = log.choose(lane, books, common(labels, &container, attempt, category));
    lanes.let_go(before);
}

fn books(container: &Container, category: Category) -> Arc<str> {
    format!("{}/{}", category.word(), container.pod.namespace).into()
}

/// What the records of a container's attempt have in common, by stream.
fn common(labels: &Labels, container: &Container, attempt: u32, category: Category) -> [Vec<u8>; 3] {
    let attempt = attempt.to_string();
    let log_type = (category != Category::Application).then_some(("log_type", category.word()));
    let fields = [
        ("cluster", &*labels.cluster),
        ("environment", &labels.environment),
        ("k8s_namespace_name", &container.pod.namespace),
        ("k8s_pod_name", &container.pod.name),
        ("k8s_pod_uid", &container.pod.uid),
        ("k8s_container_name", &container.name),
        ("k8s_container_restart_count", &attempt),
        ("k8s_node_name", &labels.node),
    ];
    let fields = fields.into_iter().chain(log_type);
    let render = |stream| crate::record::common(fields.clone().chain([("stream", stream)]));
    let of_no_stream = crate::record::common(fields.clone());
    [of_no_stream, render("stdout"), render("stderr")]
}
