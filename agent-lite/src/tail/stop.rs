//! What a stop still reads.

use std::time::Instant;

use super::log::{Log, Output};
use super::{Known, Tailer, place};
use crate::block::Lanes;

impl Tailer {
    /// The agent is about to stop. Nobody can read again what no directory lists: from now on nothing of it
    /// waits for anything.
    pub fn hurry(&mut self, lanes: &mut Lanes, known: &mut dyn Known, now: Instant) {
        // What became known of pods just now is in their records.
        self.describe(lanes, known, now);
        let rules = (&self.choice, &self.labels);
        let mut output = Output { lanes, counts: &mut self.counts, workshop: &mut self.workshop, now };
        for log in &mut self.logs {
            if log.hurry() {
                place::go_on_undescribed(log, rules, known, &mut output);
            }
            if !log.is_urgent() {
                // It is not read any more: what is gone may be inflated in its place.
                log.stop_inflating();
            }
        }
    }

    /// Sends what still waits for more in files that are gone and were read to their ends.
    pub fn end_gone(&mut self, lanes: &mut Lanes, now: Instant) {
        let mut output = Output { lanes, counts: &mut self.counts, workshop: &mut self.workshop, now };
        self.logs.iter_mut().for_each(|log| log.end_gone(&mut output));
    }

    /// Decides what was left out where all before it is stored.
    pub fn settle_left_out(&mut self, known: &mut dyn Known) {
        self.logs.iter_mut().for_each(|log: &mut Log| log.settle_left_out(known));
    }
}
