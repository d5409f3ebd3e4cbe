//! Settings that change while logs are read. Nothing that was read is lost or read again: a message whose end
//! has not been read stays where it is, and is treated by what holds when it ends.

use std::sync::Arc;
use std::time::Instant;

use sluice_wire::Stream;

use super::log::Log;
use super::share::Sharing;
use super::treat::{Tools, Treatment, Workshop};
use super::{Deleted, Key, Tailer};
use crate::discover::Choice;
use crate::parse::multiline::State;
use crate::redact::Redactor;

impl Tailer {
    /// Treats messages with these from the next one on; `redactor` is `None` where it is as it was.
    pub fn retool(&mut self, redactor: Option<Option<Redactor>>, tools: Tools) {
        self.workshop.retool(redactor, tools);
        for log in &mut self.logs {
            log.retool(&self.workshop);
        }
    }

    /// Shares turns and bytes out like this from now on. Buckets that do not change stay as full as they are.
    pub fn reshare(&mut self, sharing: Sharing) {
        self.shares.change(sharing);
        let now = Instant::now();
        for log in &mut self.logs {
            let pod = match &log.key {
                Key::Container(container, _) => Some(&container.pod.uid),
                Key::Host(_) => None,
            };
            let scope: Arc<str> = log.scope().into();
            self.shares.renew(&mut log.share, &scope, pod, now);
        }
    }

    /// Which containers are of which category, and which are the agent's own: of those met from now on.
    pub fn choose(&mut self, choice: Choice) {
        self.choice = choice;
    }

    /// How much may be held from now on that no directory lists any more.
    pub fn bound_deleted(&mut self, deleted: Deleted) {
        self.deleted = deleted;
    }
}

impl Log {
    fn retool(&mut self, workshop: &Workshop) {
        let scope: Arc<str> = self.scope().into();
        let treatment = match (&self.key, &self.pod) {
            (Key::Container(container, _), Some(info)) => workshop.treatment_of(&scope, &container.name, info),
            (Key::Container(..), None) => workshop.treatment(&scope, true),
            (Key::Host(_), _) => workshop.treatment_of_host(&scope, self.treatment.format()),
        };
        for stream in [Stream::Whole, Stream::Stdout, Stream::Stderr] {
            if !Treatment::joins_alike(&self.treatment, &treatment, stream) {
                // Where one rule stands in a message means nothing to another.
                self.multiline[stream as usize] = State::default();
            }
        }
        self.treatment = treatment;
    }
}
