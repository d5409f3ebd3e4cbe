use std::path::PathBuf;

use sluice_harness::line::Stream;

use super::*;
use crate::delivered::{Arrival, Labelled};
use crate::witness::Seen;

const SECOND: i64 = 1_000_000_000;

fn id(seq: u64) -> LineId {
    LineId { run: 1, source: 0, stream: Stream::Stdout, seq }
}

fn log(attempt: u32) -> Log {
    Log { namespace: "ns".into(), pod: "pod".into(), uid: "uid".into(), container: "c0".into(), attempt }
}

/// A line a second, ten in all, in one file that is `seen`.
fn disk(seen: Seen) -> Disk {
    let at = |seq: u64| i64::try_from(seq).expect("small") * SECOND;
    let line = |seq| Line { log: 0, file: 0, first_ns: at(seq), last_ns: at(seq), bytes: 100 };
    let lines = (0..10).map(|seq| (id(seq), line(seq))).collect();
    Disk { logs: vec![log(0)], files: vec![seen], lines, ..Disk::default() }
}

fn seen() -> Seen {
    let (pod, container, name) = ("ns_pod_uid".into(), "c0".into(), "0.log".into());
    let (link, seen_at) = (PathBuf::new(), 0);
    Seen { pod, container, name, link, seen_at, gone_at: None, compressed: false, gz_gone_at: None }
}

/// All of the disk's lines, once.
fn delivered(disk: &Disk) -> Delivered {
    let arrival = |line: &Line| Arrival { times: 1, log: 0, time_ns: Some(line.first_ns), stream_is_right: true };
    let lines = disk.lines.iter().map(|(id, line)| (*id, arrival(line))).collect();
    Delivered { logs: vec![log(0), log(1)], lines, ..Delivered::default() }
}

fn judge(disk: &Disk, delivered: &Delivered, gaps: &[Gap]) -> Verdict {
    verdict(disk, delivered, gaps, &Faults::default(), &[])
}

#[test]
fn every_line_once_is_all_that_is_asked() {
    let disk = disk(seen());
    assert_eq!(judge(&disk, &delivered(&disk), &[]).failures(), [""; 0]);
}

#[test]
fn a_lost_line_is_forgiven_only_where_a_gap_covers_it() {
    let disk = disk(Seen { gone_at: Some(1), ..seen() });
    let mut delivered = delivered(&disk);
    delivered.lines.remove(&id(3));
    delivered.lines.remove(&id(4));
    assert_eq!(judge(&disk, &delivered, &[]).failures(), ["2 lost"]);
    let gap = |log, from, to| Gap { log, reason: "deleted".to_owned(), from_ns: from * SECOND, to_ns: to * SECOND };
    assert_eq!(judge(&disk, &delivered, &[gap(log(0), 1, 2)]).failures(), ["1 lost"]);
    let other = Log { container: "c1".into(), ..log(0) };
    assert_eq!(judge(&disk, &delivered, &[gap(other, 0, 9)]).failures(), ["2 lost", "1 wrong"]);
    for of_attempt in [0, 1] {
        let verdict = judge(&disk, &delivered, &[gap(log(of_attempt), 3, 4)]);
        assert_eq!((verdict.failures().len(), verdict.covered, verdict.gaps), (0, 2, (1, 1)));
    }
}

#[test]
fn a_gap_where_nothing_went_is_wrong() {
    let disk = disk(seen());
    let gap = Gap { log: log(0), reason: "vanished".to_owned(), from_ns: 0, to_ns: SECOND };
    let verdict = judge(&disk, &delivered(&disk), &[gap]);
    assert_eq!((verdict.failures(), verdict.gaps), (vec!["1 wrong".to_owned()], (1, 0)));
}

#[test]
fn why_a_line_is_missing_is_told_by_what_became_of_its_file() {
    let gone_at = Some(20_000_000_000);
    for (seen, place) in [
        (seen(), Place::StillThere),
        (Seen { gone_at, ..seen() }, Place::RemovedLive),
        (Seen { gone_at, name: "0.log.20260101-000000".into(), ..seen() }, Place::RemovedRotated),
        (Seen { gone_at, compressed: true, ..seen() }, Place::StillCompressed),
        (Seen { gone_at, compressed: true, gz_gone_at: gone_at, ..seen() }, Place::Compressed),
    ] {
        let disk = disk(seen);
        let mut delivered = delivered(&disk);
        delivered.lines.remove(&id(0));
        let killed = Faults::of([(Fault::AgentDown, 30 * SECOND, 31 * SECOND)]);
        let verdict = verdict(&disk, &delivered, &[], &killed, &[]);
        assert_eq!(verdict.lost.keys().map(|cause| cause.place).collect::<Vec<_>>(), [place]);
        assert_eq!(verdict.failures(), ["1 lost"]);
    }
}

#[test]
fn of_a_container_whose_life_lies_within_the_agents_absence_the_absence_is_told() {
    let life = |born: u64, gone_at| Seen { seen_at: born * 1_000_000_000, gone_at, ..seen() };
    let gone = Some(9_000_000_000);
    let judged_with = |absences: &[Gap], seen: Seen, from: i64, to: i64| {
        let disk = disk(seen);
        let mut delivered = delivered(&disk);
        delivered.lines.remove(&id(0));
        let down = Faults::of([(Fault::AgentDown, from * SECOND, to * SECOND)]);
        let verdict = verdict(&disk, &delivered, absences, &down, &[]);
        (verdict.unknowable, verdict.failures().len())
    };
    let nobody = Log { namespace: "".into(), pod: "".into(), uid: "".into(), container: "".into(), attempt: 0 };
    let absence = |from, to| Gap { log: nobody.clone(), reason: ABSENT.into(), from_ns: from, to_ns: to };
    let judged = |seen, from, to| judged_with(&[absence(0, 20 * SECOND)], seen, from, to);
    assert_eq!(judged(life(1, gone), 0, 10), ((1, 1), 0));
    assert_eq!(judged(life(1, gone), 3, 10), ((1, 1), 0), "the last checkpoint is older than the container");
    assert_eq!(judged(life(1, gone), 4, 10), ((0, 0), 1), "the agent has had the time to keep that it is there");
    assert_eq!(judged(life(1, gone), 0, 8), ((0, 0), 1), "the next agent has seen it");
    assert_eq!(judged(life(1, None), 0, 10), ((0, 0), 1), "it is still there");
    let compressed = Seen { compressed: true, gz_gone_at: None, ..life(1, gone) };
    assert_eq!(judged(compressed, 0, 10), ((0, 0), 1), "it can still be read");
    let judged = |absences: &[Gap]| judged_with(absences, life(1, gone), 0, 10);
    assert_eq!(judged(&[]), ((0, 1), 1), "nobody told of the absence");
    assert_eq!(judged(&[absence(15 * SECOND, 20 * SECOND)]), ((0, 1), 1), "nor of this one");
}

#[test]
fn labels_of_another_pod_or_none_for_long_are_wrong() {
    let mut disk = disk(Seen { gone_at: Some(1), ..seen() });
    let mut delivered = delivered(&disk);
    let judged_with = |disk: &Disk, delivered: &Delivered, faults: &Faults| {
        let mut verdict = judge(disk, delivered, &[]);
        verdict.judge_labels(disk, delivered, faults);
        verdict.failures()
    };
    let judged = |disk: &Disk, delivered: &Delivered| judged_with(disk, delivered, &Faults::default());
    delivered.labels = vec![Labelled { without: 10, ..Labelled::default() }, Labelled::default()];
    assert_eq!(judged(&disk, &delivered), [""; 0], "it lived for a moment");
    disk.lines.get_mut(&id(9)).expect("there").last_ns = 40 * SECOND;
    assert_eq!(judged(&disk, &delivered), ["1 wrong"]);
    let away = |fault, to| Faults::of([(fault, 5 * SECOND, to * SECOND)]);
    for fault in [Fault::AgentDown, Fault::ApiAway] {
        assert_eq!(judged_with(&disk, &delivered, &away(fault, 20)), [""; 0], "nobody could know for long");
        assert_eq!(judged_with(&disk, &delivered, &away(fault, 10)), ["1 wrong"]);
    }
    assert_eq!(judged_with(&disk, &delivered, &away(Fault::GatewayAway, 40)), ["1 wrong"]);
    delivered.labels[0].right = 1;
    assert_eq!(judged(&disk, &delivered), [""; 0]);
    delivered.labels[1].wrong = Some("pod".to_owned());
    assert_eq!(judged(&disk, &delivered), ["1 wrong"]);
}

#[test]
fn a_line_that_comes_twice_or_in_anothers_name_is_a_failure() {
    let disk = disk(seen());
    let mut delivered = delivered(&disk);
    let arrival = |seq| delivered.lines[&id(seq)].clone();
    let (twice, of_another) = (Arrival { times: 2, ..arrival(0) }, Arrival { log: 1, ..arrival(1) });
    let (late, stream) =
        (Arrival { time_ns: Some(3 * SECOND), ..arrival(2) }, Arrival { stream_is_right: false, ..arrival(3) });
    delivered.lines.extend([twice, of_another, late, stream].into_iter().zip(0..).map(|(line, seq)| (id(seq), line)));
    assert_eq!(judge(&disk, &delivered, &[]).failures(), ["1 repeated", "3 wrong"]);
}

#[test]
fn a_fragment_is_expected_as_it_is_and_of_its_own_log() {
    let mut disk = disk(seen());
    disk.fragments.push((0, b"sv1 src=half".to_vec()));
    let mut delivered = delivered(&disk);
    delivered.broken.push((0, "sv1 src=half".to_owned()));
    let verdict = judge(&disk, &delivered, &[]);
    assert_eq!((verdict.failures().len(), verdict.fragments), (0, (1, 1)));
    delivered.broken.push((1, "sv1 src=half".to_owned()));
    assert_eq!(judge(&disk, &delivered, &[]).failures(), ["1 broken"]);
}

#[test]
fn half_of_a_line_whose_other_half_is_lost_is_told_from_what_the_agent_broke() {
    let mut disk = disk(seen());
    disk.cut.push((id(4), b"sv1 src=be".to_vec(), b"fore".to_vec()));
    let mut delivered = delivered(&disk);
    delivered.broken.push((0, "fore".to_owned()));
    assert_eq!(judge(&disk, &delivered, &[]).failures(), ["1 broken"], "the line is there as well");
    delivered.lines.remove(&id(4));
    let verdict = judge(&disk, &delivered, &[]);
    assert_eq!((verdict.failures(), verdict.halves.len()), (vec!["1 lost".to_owned()], 1));
    delivered.broken[0].0 = 1;
    assert_eq!(judge(&disk, &delivered, &[]).failures(), ["1 lost", "1 broken"]);
}

#[test]
fn a_witness_that_missed_something_proves_nothing() {
    let mut disk = disk(seen());
    let delivered = delivered(&disk);
    disk.lines.remove(&id(4));
    assert_eq!(
        judge(&disk, &delivered, &[]).failures(),
        ["1 that the witness did not see", "1 doubts about the witness"]
    );
}
