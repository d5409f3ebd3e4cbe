//! What reached the disk against what arrived: every line once, or within a gap that the agent says there is.
//!
//! Of a container that came and went, with all its files, while no agent ran, nothing on the node could tell anybody:
//! its lines, counted apart, have to lie in a time in which the agent says that none ran.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::fmt;

use sluice_harness::line::LineId;

use crate::delivered::Delivered;
use crate::disk::{Disk, Line, Log, excerpt};
use crate::pods::is_writer;
use crate::rig::{Fault, Faults};

/// The reason of the gap that tells when no agent ran.
const ABSENT: &str = "absent";
/// How many of a kind a report shows.
const SHOWN: usize = 10;
/// A file that goes so soon after a line was written to it leaves the agent hardly a chance.
const SOON_NS: i64 = 1_000_000_000;
/// How long an agent that is behind may hold a file open that is gone.
const HELD_NS: i64 = 60_000_000_000;
/// How long after it has met a container an agent has that in its checkpoint: it writes one every second.
const KEPT_NS: i64 = 2_000_000_000;
/// A container that writes for so many seconds while there are an agent and an API server is known by its labels.
const LABELLED: f64 = 30.0;
/// How much the times of two streams' lines may be out of order in their file: the runtime times a line in one
/// thread for each stream, and then waits for its turn to write.
const ORDER_NS: i64 = 1_000_000_000;

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
    /// The same container's, whichever attempt: what nobody has seen is told of once for all that may have been.
    fn covers(&self, log: &Log, line: &Line) -> bool {
        self.log.is_of_container(log) && self.lasts_over(line)
    }

    fn lasts_over(&self, line: &Line) -> bool {
        self.from_ns.saturating_sub(ORDER_NS) <= line.last_ns && line.first_ns <= self.to_ns.saturating_add(ORDER_NS)
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
    /// Of those that none does, the ones of containers that no agent can know of, in a time in which the agent says
    /// that none ran, and how many of these containers there were.
    pub unknowable: (u64, usize),
    /// And the others.
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
    /// Gaps that the agent says there are, and how many of them a lost line is in. (A file that went unread may
    /// have had nothing more.)
    pub gaps: (usize, usize),
    /// The other gaps.
    pub without_lines: Vec<Gap>,
    /// Times in which the agent says that none ran.
    pub absences: usize,
    /// Records with their pod's labels, and without any.
    pub labelled: (u64, u64),
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
    let unknowable = unknowable(disk, faults);
    let (absences, gaps): (Vec<_>, Vec<_>) = gaps.iter().partition(|gap| gap.reason == ABSENT);
    let mut met = HashSet::new();
    for (id, line) in &disk.lines {
        if verdict.judge_line(disk, delivered, *id, line) {
            continue;
        }
        let log = &disk.logs[line.log];
        let mut covering = gaps.iter().enumerate().filter(|(_, gap)| gap.covers(log, line)).peekable();
        if covering.peek().is_some() {
            verdict.covered += 1;
            met.extend(covering.map(|(at, _)| at));
        } else if unknowable.contains(&(log.uid.as_str(), log.container.as_str()))
            && absences.iter().any(|absence| absence.lasts_over(line))
        {
            verdict.unknowable.0 += 1;
        } else {
            verdict.book_loss(disk, faults, line);
        }
    }
    verdict.unknowable.1 = unknowable.len();
    verdict.gaps = (gaps.len(), met.len());
    let without = gaps.iter().enumerate().filter(|(at, _)| !met.contains(at));
    verdict.without_lines = without.map(|(_, gap)| (*gap).clone()).collect();
    verdict.absences = absences.len();
    verdict.judge_gaps(disk, &gaps);
    verdict.unseen = delivered.lines.keys().filter(|id| !disk.lines.contains_key(id)).copied().collect();
    verdict.repeated = delivered.lines.iter().filter(|(_, arrival)| arrival.times > 1).map(|(id, _)| *id).collect();
    verdict.judge_fragments(disk, delivered);
    verdict.wrong.extend(delivered.invalid.iter().map(|record| format!("no record: {record}")));
    verdict
}

impl Verdict {
    /// Gives `false` where it did not arrive.
    fn judge_line(&mut self, disk: &Disk, delivered: &Delivered, id: LineId, line: &Line) -> bool {
        let log = &disk.logs[line.log];
        let Some(arrival) = delivered.lines.get(&id) else { return false };
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
        true
    }

    /// Every record has its pod's labels or none, and none is for a while only: while a pod is new, while the API
    /// server or the agent is away. (What an agent knew of a pod that is gone, the next one cannot ask for.)
    pub fn judge_labels(&mut self, disk: &Disk, delivered: &Delivered, faults: &Faults) {
        let known_for = |(from, to): &(i64, i64)| {
            let away = [Fault::AgentDown, Fault::ApiAway].map(|fault| faults.share(fault, *from, *to).1);
            (to - from) as f64 / 1e9 - away.iter().sum::<f64>()
        };
        let mut lives: BTreeMap<&Log, (i64, i64)> = BTreeMap::new();
        for line in disk.lines.values() {
            let life = lives.entry(&disk.logs[line.log]).or_insert((i64::MAX, i64::MIN));
            *life = (life.0.min(line.first_ns), life.1.max(line.last_ns));
        }
        for (log, labels) in delivered.logs.iter().zip(&delivered.labels) {
            self.labelled.0 += labels.right;
            self.labelled.1 += labels.without;
            if let Some(wrong) = &labels.wrong {
                self.wrong.push(format!("{log:?} has the label of another: {wrong:?}"));
            }
            let is_old = lives.get(log).is_some_and(|life| known_for(life) >= LABELLED);
            if is_old && labels.right == 0 {
                self.wrong.push(format!("{log:?} lived long and has no labels"));
            }
        }
    }

    /// A gap is of a container of which something went.
    fn judge_gaps(&mut self, disk: &Disk, gaps: &[&Gap]) {
        let went = |gap: &Gap| disk.files.iter().any(|file| file.gone_at.is_some() && file.is_of(&gap.log));
        let wrong = gaps.iter().filter(|gap| is_writer(&gap.log.container) && !went(gap));
        self.wrong.extend(wrong.map(|gap| format!("a gap where nothing went: {gap:?}")));
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

    /// What is wrong; empty when all is well.
    #[must_use]
    pub fn failures(&self) -> Vec<String> {
        let mut failures = Vec::new();
        let mut fail = |count: u64, what: &str| {
            if count > 0 {
                failures.push(format!("{count} {what}"));
            }
        };
        fail(self.lost(), "lost");
        fail(self.repeated.len() as u64, "repeated");
        fail(self.broken.len() as u64, "broken");
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
        writeln!(f, "in gaps        {} ({:.3} %)", self.covered, share(self.covered))?;
        writeln!(f, "gap records    {}, of which {} have a line that was on the disk", self.gaps.0, self.gaps.1)?;
        for Gap { log, reason, from_ns, to_ns } in self.without_lines.iter().take(SHOWN) {
            let Log { namespace, pod, container, attempt, .. } = log;
            let seconds = to_ns.saturating_sub(*from_ns) as f64 / 1e9;
            writeln!(f, "      none: {namespace}/{pod}/{container} attempt {attempt}: {reason}, {seconds:.1} s")?;
        }
        let (lines, containers) = self.unknowable;
        writeln!(f, "in absences    {lines} (the agent was away all the life of {containers} containers)")?;
        writeln!(f, "absences told  {}", self.absences)?;
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
        writeln!(f, "labels         {} records with their pod's, {} without", self.labelled.0, self.labelled.1)?;
        writeln!(f, "records        {} (of others: {})", self.records, self.foreign)?;
        for doubt in self.blind.iter().take(SHOWN) {
            writeln!(f, "doubt: {doubt}")?;
        }
        Ok(())
    }
}

/// Containers whose files all came and went while no agent was there to keep that: UID of the pod, and name.
fn unknowable<'a>(disk: &'a Disk, faults: &Faults) -> HashSet<(&'a str, &'a str)> {
    let nanos = |at: u64| i64::try_from(at).unwrap_or(i64::MAX);
    let mut lives: BTreeMap<(&str, &str), (i64, i64)> = BTreeMap::new();
    for file in &disk.files {
        let uid = file.pod.rsplit('_').next().unwrap_or_default();
        let gone = if file.compressed { file.gz_gone_at } else { file.gone_at };
        let life = lives.entry((uid, &file.container)).or_insert((i64::MAX, i64::MIN));
        *life = (life.0.min(nanos(file.seen_at)), life.1.max(gone.map_or(i64::MAX, nanos)));
    }
    let missed = lives.into_iter().filter(|(_, (born, gone))| faults.agent_missed(*born, *gone, KEPT_NS));
    missed.map(|(container, _)| container).collect()
}

fn show<T: fmt::Debug>(f: &mut fmt::Formatter<'_>, items: &[T]) -> fmt::Result {
    for item in items.iter().take(SHOWN) {
        writeln!(f, "      {item:?}")?;
    }
    Ok(())
}

#[cfg(test)]
mod tests;
