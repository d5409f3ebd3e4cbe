use std::path::PathBuf;

use sluice_harness::line::Stream;

use super::*;
use crate::delivered::Arrival;
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
    Seen { pod, container, name, link: PathBuf::new(), gone_at: None, compressed: false, gz_gone_at: None }
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
    assert_eq!(judge(&disk, &delivered(&disk), &[]).failures(false), [""; 0]);
}

#[test]
fn a_lost_line_is_forgiven_only_where_a_gap_covers_it() {
    let disk = disk(seen());
    let mut delivered = delivered(&disk);
    delivered.lines.remove(&id(3));
    delivered.lines.remove(&id(4));
    assert_eq!(judge(&disk, &delivered, &[]).failures(false), ["2 lost"]);
    let gap = |log, from, to| Gap { log, reason: "deleted".to_owned(), from_ns: from * SECOND, to_ns: to * SECOND };
    assert_eq!(judge(&disk, &delivered, &[gap(log(0), 3, 3)]).failures(false), ["1 lost"]);
    assert_eq!(judge(&disk, &delivered, &[gap(log(1), 0, 9)]).failures(false), ["2 lost"]);
    let verdict = judge(&disk, &delivered, &[gap(log(0), 2, 4)]);
    assert_eq!((verdict.failures(false).len(), verdict.covered), (0, 2));
}

#[test]
fn only_what_went_before_the_agent_was_killed_is_a_known_loss() {
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
        let judged = |faults: &Faults| verdict(&disk, &delivered, &[], faults, &[]);
        let untouched = judged(&Faults::default());
        assert_eq!(untouched.lost.keys().map(|cause| cause.place).collect::<Vec<_>>(), [place]);
        assert_eq!(untouched.failures(true), ["1 lost"], "nobody killed the agent");
        let killed = judged(&Faults::of([(Fault::AgentDown, 30 * SECOND, 31 * SECOND)]));
        assert_eq!(killed.failures(true).is_empty(), place != Place::StillThere);
        assert_eq!(killed.failures(false), ["1 lost"]);
        assert_eq!(judged(&Faults::of([(Fault::GatewayAway, 0, 31 * SECOND)])).failures(true), ["1 lost"]);
    }
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
    assert_eq!(judge(&disk, &delivered, &[]).failures(true), ["1 repeated", "3 wrong"]);
}

#[test]
fn a_fragment_is_expected_as_it_is_and_of_its_own_log() {
    let mut disk = disk(seen());
    disk.fragments.push((0, b"sv1 src=half".to_vec()));
    let mut delivered = delivered(&disk);
    delivered.broken.push((0, "sv1 src=half".to_owned()));
    let verdict = judge(&disk, &delivered, &[]);
    assert_eq!((verdict.failures(false).len(), verdict.fragments), (0, (1, 1)));
    delivered.broken.push((1, "sv1 src=half".to_owned()));
    assert_eq!(judge(&disk, &delivered, &[]).failures(false), ["1 broken"]);
}

#[test]
fn half_of_a_line_whose_other_half_is_lost_is_told_from_what_the_agent_broke() {
    let mut disk = disk(seen());
    disk.cut.push((id(4), b"sv1 src=be".to_vec(), b"fore".to_vec()));
    let mut delivered = delivered(&disk);
    delivered.broken.push((0, "fore".to_owned()));
    assert_eq!(judge(&disk, &delivered, &[]).failures(false), ["1 broken"], "the line is there as well");
    delivered.lines.remove(&id(4));
    assert_eq!(judge(&disk, &delivered, &[]).failures(false), ["1 lost", "1 halves of lost lines"]);
    delivered.broken[0].0 = 1;
    assert_eq!(judge(&disk, &delivered, &[]).failures(false), ["1 lost", "1 broken"]);
}

#[test]
fn a_witness_that_missed_something_proves_nothing() {
    let mut disk = disk(seen());
    let delivered = delivered(&disk);
    disk.lines.remove(&id(4));
    assert_eq!(
        judge(&disk, &delivered, &[]).failures(true),
        ["1 that the witness did not see", "1 doubts about the witness"]
    );
}
