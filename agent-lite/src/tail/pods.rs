//! What is known of containers' pods, in their records.

use std::time::Instant;

use super::log::{Log, Output};
use super::{Key, Known, Tailer, place};
use crate::block::Lanes;
use crate::discover::layout::Pod;
use crate::enrich::{Lookup, Pods};

impl Tailer {
    /// Says of containers what is known of their pods.
    #[must_use]
    pub fn with_pods(mut self, pods: Option<Pods>) -> Self {
        self.pods = pods;
        self
    }

    /// Logs that wait for what is to be known of their pods.
    #[must_use]
    pub fn undescribed(&self) -> usize {
        self.logs.iter().filter(|log| log.waits_since().is_some()).count()
    }

    /// Takes over what became known of pods. A log whose pod is not known yet waits for that, within bounds.
    pub(super) fn describe(&mut self, lanes: &mut Lanes, known: &mut dyn Known, now: Instant) {
        let Some(pods) = &self.pods else { return };
        let generation = pods.generation();
        let is_new = std::mem::replace(&mut self.described, generation) != generation;
        let rules = (&self.choice, &self.labels);
        let mut output = Output { lanes, counts: &mut self.counts, workshop: &mut self.workshop, now };
        for log in &mut self.logs {
            let is_first = log.is_to_be_asked_about();
            let Key::Container(container, _) = &log.key else { continue };
            let waits_since = log.waits_since();
            let may_wait = waits_since.is_some_and(|since| now.saturating_duration_since(since) < pods.wait());
            // Not in each pass: a look-up in vain makes the source ask.
            let is_over = waits_since.is_some() && !may_wait;
            if !is_new && !is_over && !is_first {
                continue;
            }
            let Pod { namespace, name, uid } = &container.pod;
            match pods.lookup(namespace, name, uid) {
                Lookup::Known(info) => {
                    place::choose(log, Some(&info), rules, known, output.lanes);
                    log.describe(&info, may_wait, output.workshop);
                }
                Lookup::Unknown | Lookup::Unavailable if is_over => {
                    place::go_on_undescribed(log, rules, known, &mut output);
                }
                Lookup::Unknown | Lookup::Unavailable => {}
            }
            log.tell_untold(&mut output);
        }
    }

    /// What is known of a pod is not needed any more once its last log is over.
    pub(super) fn release_pod(&self, key: &Key) {
        if let (Some(pods), Key::Container(container, _)) = (&self.pods, key) {
            let same_pod =
                |log: &Log| matches!(&log.key, Key::Container(other, _) if other.pod.uid == container.pod.uid);
            if !self.logs.iter().any(same_pod) {
                pods.release(&container.pod.uid);
            }
        }
    }
}
