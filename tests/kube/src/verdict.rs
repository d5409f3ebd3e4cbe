//! What reached the disk against what arrived: every line once, or within a gap that the agent says there is.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use sluice_harness::line::LineId;

use crate::delivered::Delivered;
use crate::disk::{Disk, Line, Log, excerpt};
use crate::rig::{Fault, Faults};

/// How many of a kind a report shows.
const SHOWN: usize = 10;
/// A file that goes so soon after a line was written to it leaves the agent hardly a chance.
const SOON_NS: i64 = 1_000_000_000;
/// How long an agent that is behind may hold a file open that is gone.
const HELD_NS: i64 = 60_000_000_000;

/// What the agent says it could not read.
#[derive(Debug, Clone)]
pub struct Gap {
    /// Whose lines.
    pub log: Log,
    /// Why.
    pub reason: String,
    /// The first moment without lines, in Unix nanoseconds.
    pub from_ns: i64,
    /// And the last.
    pub to_ns: i64,
}

impl Gap {
    fn covers(&self, log: &Log, line: &Line) -> bool {
        self.log == *log && self.from_ns <= line.last_ns && line.first_ns <= self.to_ns
    }
}

/// Where a line was when it was lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Place {
    /// Its file is there still, readable for everybody.
    StillThere,
    /// Only the `.gz` of its file is left.
    StillCompressed,
    /// Its file was compressed, and the `.gz` removed later.
    Compressed,
    /// Its file was renamed by a rotation and then removed without being compressed.
    RemovedRotated,
    /// Its file was removed under its first name: its container or its pod was.
    RemovedLive,
}

impl Place {
    fn of(disk: &Disk, line: &Line) -> Self {
        let file = &disk.files[line.file];
        match (file.gone_at, file.compressed, file.gz_gone_at) {
            (None, ..) => Self::StillThere,
            (_, true, None) => Self::StillCompressed,
            (_, true, Some(_)) => Self::Compressed,
            (_, false, _) if file.name.ends_with(".log") => Self::RemovedLive,
            _ => Self::RemovedRotated,
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::StillThere => "its file is still there",
            Self::StillCompressed => "compressed while unread, its .gz is still there",
            Self::Compressed => "compressed while unread, its .gz removed later",
            Self::RemovedRotated => "rotated, then removed while unread",
            Self::RemovedLive => "removed with its container or pod while unread",
        })
    }
}

/// Why a line is missing, as far as can be known from outside.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Cause {
    /// Where it was.
    pub place: Place,
    /// What was wrong between its writing and the end of its plain file; where that came while the gateway was away,
    /// until it was back, for so long an agent has to hold the file open.
    pub during: BTreeSet<Fault>,
    /// Its file went within a second of its writing.
    pub soon: bool,
    /// The agent was not killed in that time but within a minute after its file went, and with it what it held open.
    pub killed_later: bool,
}

impl Cause {
    /// What today's agent cannot help: it holds open what goes before it is read, but not beyond its own end, and
    /// it reads no `.gz`.
    fn is_known(&self) -> bool {
        self.place != Place::StillThere && (self.during.contains(&Fault::AgentDown) || self.killed_later)
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.place)?;
        if self.soon {
            f.write_str(", within a second")?;
        }
        let mut names: Vec<_> = self.during.iter().map(ToString::to_string).collect();
        if self.killed_later {
            names.push("agent killed later".to_owned());
        }
        if names.is_empty() {
            return f.write_str(" (nothing was away)");
        }
        write!(f, " ({})", names.join(", "))
    }
}

/// Lines that are missing for one cause.
#[derive(Debug, Default, Clone)]
pub struct Loss {
    /// How many.
    pub lines: u64,
    /// Bytes of their texts.
    pub bytes: u64,
    /// By log: how many, the first and the last time.
    pub logs: BTreeMap<Log, (u64, i64, i64)>,
}

/// How it came out.
#[derive(Debug, Default)]
pub struct Verdict {
    /// Lines on the disk.
    pub on_disk: u64,
    /// Of these, the ones that arrived.
    pub arrived: u64,
    /// Of the others, those that a gap covers.
    pub covered: u64,
    /// And those that none does.
    pub lost: BTreeMap<Cause, Loss>,
    /// Lines that arrived more than once.
    pub repeated: Vec<LineId>,
    /// Whole lines that arrived and never were on the disk: the witness missed them.
    pub unseen: Vec<LineId>,
    /// Records that are what is left of a line, and not on the disk as such.
    pub broken: Vec<String>,
    /// Records that are the rest of a line that a rotation cut and whose other part is lost, told as if it were a
    /// line.
    pub halves: Vec<String>,
    /// Records that say something wrong about their line.
    pub wrong: Vec<String>,
    /// Ends of streams that a program's death cut, and how many of them arrived.
    pub fragments: (u64, u64),
    /// What the rig itself has to confess: then nothing is proven.
    pub blind: Vec<String>,
    /// Records that arrived, of whomever.
    pub records: u64,
    /// Of these, the ones of others.
    pub foreign: u64,
}

/// Compares.
#[must_use]
pub fn verdict(disk: &Disk, delivered: &Delivered, gaps: &[Gap], faults: &Faults, doubts: &[String]) -> Verdict {
    let mut verdict = Verdict {
        on_disk: disk.lines.len() as u64,
        blind: doubts.to_vec(),
        records: delivered.records,
        foreign: delivered.foreign,
        ..Verdict::default()
    };
    verdict.blind.extend(disk.broken.iter().map(|broken| format!("broken on the disk already: {broken}")));
    for (source, stream, missing) in disk.holes() {
        verdict.blind.push(format!("source {source} {}: {missing} lines are on no file", stream.name()));
    }
    if disk.repeated > 0 {
        verdict.blind.push(format!("{} lines are on the disk twice", disk.repeated));
    }
    for (id, line) in &disk.lines {
        verdict.judge_line(disk, delivered, gaps, faults, *id, line);
    }
    verdict.unseen = delivered.lines.keys().filter(|id| !disk.lines.contains_key(id)).copied().collect();
    verdict.repeated = delivered.lines.iter().filter(|(_, arrival)| arrival.times > 1).map(|(id, _)| *id).collect();
    verdict.judge_fragments(disk, delivered);
    verdict.wrong.extend(delivered.invalid.iter().map(|record| format!("no record: {record}")));
    verdict
}

impl Verdict {
    fn judge_line(
        &mut self,
        disk: &Disk,
        delivered: &Delivered,
        gaps: &[Gap],
        faults: &Faults,
        id: LineId,
        line: &Line,
    ) {
        let log = &disk.logs[line.log];
        let Some(arrival) = delivered.lines.get(&id) else {
            if gaps.iter().any(|gap| gap.covers(log, line)) {
                self.covered += 1;
            } else {
                self.book_loss(disk, faults, line);
            }
            return;
        };
        self.arrived += 1;
        let named = &delivered.logs[arrival.log];
        if named != log {
            self.wrong.push(format!("{id:?} is of {log:?} and says {named:?}"));
        }
        if !arrival.stream_is_right {
            self.wrong.push(format!("{id:?}: the wrong stream"));
        }
        if !arrival
            .time_ns
            .is_some_and(|time| (line.first_ns.min(line.last_ns)..=line.first_ns.max(line.last_ns)).contains(&time))
        {
            self.wrong.push(format!("{id:?}: _time {:?} is not that of the line: {}", arrival.time_ns, line.first_ns));
        }
    }

    fn book_loss(&mut self, disk: &Disk, faults: &Faults, line: &Line) {
        let gone_at = disk.files[line.file].gone_at.map(|at| i64::try_from(at).unwrap_or(i64::MAX));
        let during = faults.between(line.first_ns, gone_at.map_or(i64::MAX, |gone| faults.held_until(gone)));
        let was_killed = during.contains(&Fault::AgentDown);
        let cause = Cause {
            place: Place::of(disk, line),
            during,
            soon: gone_at.is_some_and(|gone| gone - line.last_ns < SOON_NS),
            killed_later: !was_killed && gone_at.is_some_and(|gone| faults.killed_within(gone, HELD_NS)),
        };
        let loss = self.lost.entry(cause).or_default();
        loss.lines += 1;
        loss.bytes += line.bytes as u64;
        let log = loss.logs.entry(disk.logs[line.log].clone()).or_insert((0, i64::MAX, i64::MIN));
        *log = (log.0 + 1, log.1.min(line.first_ns), log.2.max(line.last_ns));
    }

    /// What a killed program had begun to write is a line of its own to the agent.
    fn judge_fragments(&mut self, disk: &Disk, delivered: &Delivered) {
        let mut left: Vec<_> = disk.fragments.iter().map(|(log, text)| (&disk.logs[*log], text.as_slice())).collect();
        self.fragments = (left.len() as u64, 0);
        let cut: Vec<_> = disk.cut.iter().filter(|(id, ..)| !delivered.lines.contains_key(id)).collect();
        let is_half = |log: &Log, text: &[u8]| {
            cut.iter().any(|(id, before, behind)| {
                disk.lines.get(id).is_some_and(|line| disk.logs[line.log] == *log) && (text == before || text == behind)
            })
        };
        for (log, text) in &delivered.broken {
            let log = &delivered.logs[*log];
            match left.iter().position(|fragment| *fragment == (log, text.as_bytes())) {
                Some(at) => {
                    left.swap_remove(at);
                    self.fragments.1 += 1;
                }
                None => {
                    let kind = if is_half(log, text.as_bytes()) { &mut self.halves } else { &mut self.broken };
                    kind.push(format!("{log:?}: {} bytes: {}", text.len(), excerpt(text.as_bytes())));
                }
            }
        }
    }

    /// Lines that no gap covers.
    #[must_use]
    pub fn lost(&self) -> u64 {
        self.lost.values().map(|loss| loss.lines).sum()
    }

    /// What is wrong; empty when all is well. With `lost_is_known`, what today's agent is known to lose is not.
    #[must_use]
    pub fn failures(&self, lost_is_known: bool) -> Vec<String> {
        let mut failures = Vec::new();
        let mut fail = |count: u64, what: &str| {
            if count > 0 {
                failures.push(format!("{count} {what}"));
            }
        };
        let unexcused = self.lost.iter().filter(|(cause, _)| !(lost_is_known && cause.is_known()));
        fail(unexcused.map(|(_, loss)| loss.lines).sum(), "lost");
        fail(self.repeated.len() as u64, "repeated");
        fail(self.broken.len() as u64, "broken");
        // They come of a loss.
        fail(if lost_is_known { 0 } else { self.halves.len() as u64 }, "halves of lost lines");
        fail(self.wrong.len() as u64, "wrong");
        fail(self.unseen.len() as u64, "that the witness did not see");
        fail(self.blind.len() as u64, "doubts about the witness");
        if self.on_disk == 0 {
            failures.push("nothing was written".to_owned());
        }
        failures
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let share = |lines: u64| lines as f64 * 100.0 / self.on_disk.max(1) as f64;
        writeln!(f, "on the disk    {}", self.on_disk)?;
        writeln!(f, "arrived        {} ({:.3} %)", self.arrived, share(self.arrived))?;
        writeln!(f, "in gaps        {}", self.covered)?;
        writeln!(f, "lost           {} ({:.3} %)", self.lost(), share(self.lost()))?;
        for (cause, loss) in &self.lost {
            writeln!(f, "  {} lines, {} KiB of {} logs: {cause}", loss.lines, loss.bytes / 1024, loss.logs.len())?;
            let mut logs: Vec<_> = loss.logs.iter().collect();
            logs.sort_by_key(|(_, (lines, ..))| std::cmp::Reverse(*lines));
            for (log, (lines, first, last)) in logs.iter().take(SHOWN) {
                let Log { namespace, pod, container, attempt, .. } = log;
                let seconds = (last - first) as f64 / 1e9;
                writeln!(f, "      {namespace}/{pod}/{container} attempt {attempt}: {lines} lines of {seconds:.1} s")?;
            }
        }
        writeln!(f, "repeated       {}", self.repeated.len())?;
        show(f, &self.repeated)?;
        writeln!(f, "broken         {}", self.broken.len())?;
        show(f, &self.broken)?;
        writeln!(
            f,
            "halves         {} (of lines that a rotation cut and whose other half is lost)",
            self.halves.len()
        )?;
        show(f, &self.halves)?;
        writeln!(f, "wrong          {}", self.wrong.len())?;
        show(f, &self.wrong)?;
        writeln!(f, "unseen         {}", self.unseen.len())?;
        show(f, &self.unseen)?;
        writeln!(f, "cut by death   {}, of which {} arrived as they are", self.fragments.0, self.fragments.1)?;
        writeln!(f, "records        {} (of others: {})", self.records, self.foreign)?;
        for doubt in self.blind.iter().take(SHOWN) {
            writeln!(f, "doubt: {doubt}")?;
        }
        Ok(())
    }
}

fn show<T: fmt::Debug>(f: &mut fmt::Formatter<'_>, items: &[T]) -> fmt::Result {
    for item in items.iter().take(SHOWN) {
        writeln!(f, "      {item:?}")?;
    }
    Ok(())
}

#[cfg(test)]
mod tests;
