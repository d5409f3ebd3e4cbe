use std::collections::VecDeque;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixDatagram;

use sluice_wire::payload::{Checker, Depth};

use super::*;
use crate::block::{Lanes, Settings};
use crate::checkpoint::Positions;
use crate::redact::Redactor;
use crate::tail::Counts;

struct Node {
    kmsg: Kmsg,
    lanes: Lanes,
    positions: Positions,
    counts: Counts,
    redactor: Option<Redactor>,
}

/// Gives one record for each read, and `EPIPE` where records were written over, as the device does.
struct Device(VecDeque<Option<Vec<u8>>>);

impl Read for Device {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self.0.pop_front() {
            Some(Some(record)) => {
                buffer[..record.len()].copy_from_slice(&record);
                Ok(record.len())
            }
            Some(None) => Err(io::ErrorKind::BrokenPipe.into()),
            None => Err(io::ErrorKind::WouldBlock.into()),
        }
    }
}

fn record(number: u64) -> Vec<u8> {
    format!("4,{number},{},-;record {number}\n SUBSYSTEM=net\n", number * 1_000_000).into_bytes()
}

impl Node {
    fn new(positions: Positions, start: StartFrom) -> Self {
        let lanes = Lanes::new(Settings::for_tests());
        let labels = Labels { cluster: "c".into(), environment: "e".into(), node: "n".into() };
        let mut positions = positions;
        let mut kmsg = Kmsg::new(Path::new("/dev/kmsg"), &labels, start, 0, &mut positions);
        // Booted at a known time.
        kmsg.boot_ns = 1_761_473_730_000_000_000;
        Self { kmsg, lanes, positions, counts: Counts::default(), redactor: None }
    }

    fn restart(mut self) -> Self {
        self.positions.sight(self.kmsg.sightings());
        Self::new(self.positions, StartFrom::Beginning)
    }

    fn read(&mut self, from: &mut impl Read) -> Vec<serde_json::Value> {
        let mut output = Output {
            lanes: &mut self.lanes,
            known: &mut self.positions,
            counts: &mut self.counts,
            redactor: self.redactor.as_mut(),
            now: Instant::now(),
            wall_ns: 0,
        };
        self.kmsg.read_from(from, &mut output).unwrap();
        self.positions.sight(self.kmsg.sightings());
        self.lanes.cut_all();
        let (mut records, mut checker) = (Vec::new(), Checker::default());
        for lane in self.lanes.sendable().collect::<Vec<_>>() {
            while let Some(block) = self.lanes.remove(lane, 0) {
                assert_eq!((block.header.lane.category, &*block.header.lane.scope), (Category::Host, "kernel"));
                let raw = checker.check(&block.header, &block.payload, Depth::Json).unwrap();
                let lines = raw.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
                records.extend(lines.map(|line| serde_json::from_slice::<serde_json::Value>(line).unwrap()));
                self.positions.acknowledge(block.shares());
            }
        }
        let pages = crate::books::close(&self.positions, std::iter::empty(), self.lanes.held_of_sources());
        assert!(pages.iter().all(|page| page.imbalance == 0 && page.held == 0), "{pages:?}");
        records
    }
}

fn messages(records: &[serde_json::Value]) -> Vec<&str> {
    records.iter().map(|record| record["_msg"].as_str().unwrap()).collect()
}

#[test]
fn records_have_the_kernels_time_and_are_read_once() {
    // A socket of datagrams gives one for each read, too.
    let (device, kernel) = UnixDatagram::pair().unwrap();
    device.set_nonblocking(true).unwrap();
    let mut device = File::from(OwnedFd::from(device));
    let send = |numbers: std::ops::Range<u64>| {
        for number in numbers {
            kernel.send(&record(number)).unwrap();
        }
    };
    send(3..6);
    let mut node = Node::new(Positions::default(), StartFrom::Beginning);
    let records = node.read(&mut device);
    assert_eq!(messages(&records), ["record 3", "record 4", "record 5"]);
    let expected = serde_json::json!({
        "_time": "2025-10-26T10:15:33.000000000Z", "_msg": "record 3", "unit": "kernel", "cluster": "c", "environment": "e",
        "k8s_node_name": "n", "log_type": "host", "severity": "warning", "subsystem": "net",
    });
    assert_eq!(records[0], expected);
    // The device begins with its oldest record again.
    let mut node = node.restart();
    send(3..8);
    assert_eq!(messages(&node.read(&mut device)), ["record 6", "record 7"]);
    assert_eq!(node.counts.gaps, 0);
}

#[test]
fn records_that_were_written_over_are_a_gap() {
    let mut node = Node::new(Positions::default(), StartFrom::Beginning);
    let mut device = Device(VecDeque::from([Some(record(1)), None, Some(record(5)), Some(record(6))]));
    let records = node.read(&mut device);
    assert_eq!(messages(&records)[2..], ["record 5", "record 6"]);
    let gap = &records[1];
    assert_eq!((&gap["sluice_gap_reason"], &gap["sluice_gap_entries"]), (&"kmsg-overwritten".into(), &"3".into()));
    assert_eq!((&gap["sluice_gap_from"], &gap["sluice_gap_to"]), (&"2".into(), &"5".into()));
    // While no agent ran likewise.
    let mut node = node.restart();
    let records = node.read(&mut Device(VecDeque::from([Some(record(9))])));
    assert_eq!((records.len(), &records[0]["sluice_gap_entries"]), (2, &"2".into()));
}

#[test]
fn a_first_start_at_the_end_passes_over_what_is_there() {
    let mut node = Node::new(Positions::default(), StartFrom::Since(1_761_473_734_000_000_000));
    let records = || Device((1..6).map(|number| Some(record(number))).collect());
    assert_eq!(messages(&node.read(&mut records())), ["record 4", "record 5"]);
    assert_eq!(node.restart().read(&mut records()).len(), 0);
}

#[test]
fn what_is_no_record_is_counted() {
    let mut node = Node::new(Positions::default(), StartFrom::Beginning);
    let mut device = Device(VecDeque::from([Some(b"no record".to_vec()), Some(record(1))]));
    assert_eq!((node.read(&mut device).len(), node.counts.torn), (1, 1));
}

#[test]
fn what_only_fails_is_given_up_for_a_while() {
    struct Refusing;
    impl Read for Refusing {
        fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
            Err(io::ErrorKind::InvalidInput.into())
        }
    }
    let mut node = Node::new(Positions::default(), StartFrom::Beginning);
    let mut output = Output {
        lanes: &mut node.lanes,
        known: &mut node.positions,
        counts: &mut node.counts,
        redactor: None,
        now: Instant::now(),
        wall_ns: 0,
    };
    assert!(node.kmsg.read_from(&mut Refusing, &mut output).is_err());
}

#[test]
fn secrets_of_records_do_not_leave_the_node() {
    let mut node = Node::new(Positions::default(), StartFrom::Beginning);
    let rules = "redact: {rules: [{name: three, regex: 'record 3', action: drop}, {name: number, regex: '[12]$'}]}";
    node.redactor = crate::config::for_tests(rules).redactor().unwrap();
    let mut device = Device((1..5).map(|number| Some(record(number))).collect());
    let records = node.read(&mut device);
    assert_eq!(messages(&records), ["record [redacted:number]", "record [redacted:number]", "record 4"]);
    let page = crate::books::close(&node.positions, std::iter::empty(), std::iter::empty()).remove(0);
    assert_eq!(page.abandoned[&Abandoned::Redacted], record(3).len() as u64);
    // Passed over by the next run, whatever its rules.
    assert_eq!(node.restart().read(&mut Device((1..5).map(|number| Some(record(number))).collect())).len(), 0);
}

#[test]
fn other_rules_hold_for_a_unit_that_was_met_before() {
    let mut node = Node::new(Positions::default(), StartFrom::Beginning);
    let redactor = |rules: &str| crate::config::for_tests(rules).redactor().unwrap();
    node.redactor = redactor("redact: {rules: [{name: of-others, regex: record, namespaces: [shop]}]}");
    assert_eq!(messages(&node.read(&mut Device([Some(record(1))].into()))), ["record 1"]);
    node.redactor = redactor("redact: {rules: [{name: number, regex: '[0-9]$'}]}");
    node.kmsg.feeds_mut().for_each(Feed::forget_scope);
    assert_eq!(messages(&node.read(&mut Device([Some(record(2))].into()))), ["record [redacted:number]"]);
}
