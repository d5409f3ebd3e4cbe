//! What is known of a container's pod, in its records, and the lane that this may choose.

use std::sync::Arc;
use std::time::Instant;

use super::{Certainty, Key, Log};
use crate::block::LaneId;
use crate::enrich::PodInfo;
use crate::tail::treat::Workshop;

impl Log {
    /// From now on it waits for what is to be known of its pod.
    pub(in crate::tail) fn wait_for_pod(&mut self, now: Instant) {
        self.waits_since = Some(now);
    }

    /// Whether its pod was not looked up yet. True once.
    pub(in crate::tail) fn is_to_be_asked_about(&mut self) -> bool {
        !std::mem::replace(&mut self.is_asked_about, true)
    }

    /// Since when it waits for what is to be known of its pod.
    pub(in crate::tail) fn waits_since(&self) -> Option<Instant> {
        self.waits_since
    }

    /// Goes on without what is to be known of its pod, and says so in its records.
    pub(in crate::tail) fn go_on_undescribed(&mut self) {
        self.waits_since = None;
        self.describe_by(|out| out.extend_from_slice(b",\"k8s_metadata\":\"missing\""));
    }

    /// Takes over what is known of its pod, unless it is known already.
    pub(in crate::tail) fn describe(&mut self, info: &Arc<PodInfo>, may_wait: bool, workshop: &Workshop) {
        if info.is_whole() || !may_wait {
            self.waits_since = None;
        }
        if self.pod.as_ref().is_some_and(|known| Arc::ptr_eq(known, info)) {
            return;
        }
        let Key::Container(container, attempt) = &self.key else { return };
        let (name, attempt) = (container.name.clone(), *attempt);
        self.treatment = workshop.treatment_of(&container.pod.namespace, &name, info);
        self.describe_by(|out| info.append(&name, attempt, out));
        self.pod = Some(info.clone());
    }

    fn describe_by(&mut self, render: impl Fn(&mut Vec<u8>)) {
        for (stream, common) in self.common.iter_mut().enumerate() {
            common.truncate(self.own_common[stream]);
            render(common);
        }
    }

    /// From now on, and for its life, its lines go to this lane, and count in these books. Gives the lane that
    /// it had before, in which there is nothing of it.
    pub(in crate::tail) fn choose(&mut self, lane: LaneId, books: Arc<str>, common: [Vec<u8>; 3]) -> LaneId {
        debug_assert!(self.certainty != Certainty::Fixed, "a lane is chosen once");
        self.certainty = Certainty::Fixed;
        self.names.books = books;
        self.own_common = [0, 1, 2].map(|stream| common[stream].len());
        self.common = common;
        if let (Some(info), Key::Container(container, attempt)) = (self.pod.clone(), &self.key) {
            let (name, attempt) = (container.name.clone(), *attempt);
            self.describe_by(|out| info.append(&name, attempt, out));
        }
        std::mem::replace(&mut self.lane, lane)
    }
}
