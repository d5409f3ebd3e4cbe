//! The time in which no agent ran on the node, told as a gap of the node's own: what came and went with all its files
//! in that time has left nothing that could be told of.

use std::path::Path;
use std::time::{Duration, Instant};

use sluice_wire::Category;

use super::{Agent, start, wall_ns};
use crate::tail::{Abandoned, Gap, Known as _};

/// Its log in the books, and the unit of its records.
const UNIT: &str = "sluice-agent";
/// Who may send what pods log may send this.
const CATEGORY: Category = Category::Dataplane;
/// Absences that wait to be told; the last one is made longer where there are more: a gateway may have refused them
/// for months.
const MOST: usize = 8;

impl Agent {
    /// Tells that no agent looked since the last run, where there was one, and of earlier absences that were not
    /// told. To be called once, when everything was looked at for the first time.
    pub(super) fn tell_absences(&mut self) {
        if self.config.pods.is_none() {
            return;
        }
        let mut absences = self.positions.untold_gaps();
        absences.retain(|gap| *gap.log == *UNIT);
        let open = absences.len();
        let until = wall_ns();
        if let Some(since) = self.tailer.last_look().filter(|since| *since < until) {
            self.metrics.absence_seconds.set(Duration::from_nanos(since.abs_diff(until)).as_secs_f64());
            match absences.last_mut().filter(|_| open >= MOST) {
                Some(last) => {
                    last.until = until;
                    self.positions.extend_gap(last);
                }
                None => absences.extend(self.positions.open_gap(absence(since, until))),
            }
        }
        let common = start::labels(&self.config).of_unit(UNIT, CATEGORY);
        for gap in absences {
            let lane = self.lanes.lane(CATEGORY, &UNIT.into());
            gap.tell(&common, lane, &mut self.lanes, Instant::now());
        }
    }
}

fn absence(since: i64, until: i64) -> Gap {
    Gap {
        log: UNIT.into(),
        path: Path::new("").into(),
        source: 0,
        from: 0,
        to: 0,
        bytes: 0,
        why: Abandoned::Absent,
        since,
        until,
        number: 0,
    }
}
