use std::collections::BTreeMap;

use sluice_wire::payload::{Checker, Depth};

use super::*;
use crate::block::{Lanes, Settings};
use crate::books::Book;
use crate::checkpoint::Positions;
use crate::redact::Redactor;
use crate::tail::Counts;

const SEQUENCE: u128 = 0xb180_3331_66f4_4559_9ec0_32fb_1d45_2f34;

/// A journal whose pieces a test gives, and a gateway that stores what it is told to.
struct Node {
    journal: Journal,
    lanes: Lanes,
    positions: Positions,
    counts: Counts,
    redactor: Option<Redactor>,
}

fn globs(list: &[&str]) -> GlobSet {
    let mut builder = globset::GlobSetBuilder::new();
    for glob in list {
        builder.add(globset::Glob::new(glob).unwrap());
    }
    builder.build().unwrap()
}

fn export(sequence: u128, number: u64, unit: &str, more: &str) -> String {
    let time = 1_761_473_730_000_000 + number;
    format!(
        "__CURSOR=s={sequence:032x};i={number:x};b=1;m=1;t=1;x=1\n__REALTIME_TIMESTAMP={time}\nMESSAGE=entry {number}\n\
         PRIORITY=3\n_SYSTEMD_UNIT={unit}\n{more}\n"
    )
}

impl Node {
    fn new(positions: Positions, start: StartFrom) -> Self {
        let lanes = Lanes::new(Settings::for_tests());
        let settings = JournalSettings {
            directory: None,
            units: globs(&["*"]),
            dataplane_units: globs(&["kubelet.service"]),
            binary: "journalctl".into(),
        };
        let labels = Labels { cluster: "c".into(), environment: "e".into(), node: "n".into() };
        let mut positions = positions;
        positions.rewind_entries("journal:");
        let mut journal = Journal::new(settings, &labels, start, 5_000_000_000, &mut positions);
        // No child: what it would have written is given.
        journal.next_start = Some(Instant::now() + Duration::from_secs(3600));
        Self { journal, lanes, positions, counts: Counts::default(), redactor: None }
    }

    /// The agent is killed; the next one knows what was written down.
    fn restart(mut self) -> Self {
        self.settle();
        Self::new(self.positions, StartFrom::Beginning)
    }

    /// The agent is killed; the next one finds all its blocks in the ring.
    fn restart_with_ring(mut self) -> Self {
        self.settle();
        self.lanes.cut_all();
        let mut blocks = Vec::new();
        for lane in self.lanes.sendable().collect::<Vec<_>>() {
            blocks.extend(std::iter::from_fn(|| self.lanes.remove(lane, 0)));
        }
        assert!(blocks.iter().all(|block| self.positions.extend_by_ring(block.shares())));
        let mut node = Self::new(self.positions, StartFrom::Beginning);
        blocks.into_iter().for_each(|block| node.lanes.restore(block));
        node
    }

    /// The machine goes down: what the ring had is no more.
    fn reboot(mut self) -> Self {
        self.settle();
        Self::new(self.positions.without_ring(), StartFrom::Beginning)
    }

    fn settle(&mut self) {
        self.positions.sight(self.journal.sightings());
        self.journal.feeds_mut().for_each(|feed| feed.settle_left_out(&mut self.positions));
        for (source, stream, end) in self.journal.settled(&self.positions) {
            self.positions.settle(source, stream, end);
        }
    }

    fn read(&mut self, stream: &str) {
        self.journal.rest = stream.as_bytes().to_vec().into();
        while self.read_on() > 0 {}
    }

    fn read_on(&mut self) -> usize {
        let mut output = Output {
            lanes: &mut self.lanes,
            known: &mut self.positions,
            counts: &mut self.counts,
            redactor: self.redactor.as_mut(),
            now: Instant::now(),
            wall_ns: 0,
        };
        self.journal.read(&mut output)
    }

    /// Stores the blocks of the lanes whose scope is wanted; gives their records by category and scope.
    fn store(&mut self, wanted: impl Fn(&str) -> bool) -> BTreeMap<String, Vec<serde_json::Value>> {
        self.lanes.cut_all();
        let mut records: BTreeMap<String, Vec<serde_json::Value>> = BTreeMap::new();
        for lane in self.lanes.sendable().collect::<Vec<_>>() {
            if !wanted(&self.lanes.peek(lane, 0).header.lane.scope) {
                continue;
            }
            while let Some(block) = self.lanes.remove(lane, 0) {
                let mut checker = Checker::default();
                let checked = checker.check(&block.header, &block.payload, Depth::Json).unwrap();
                let name = format!("{}/{}", block.header.lane.category, block.header.lane.scope);
                let lines = checked.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
                records.entry(name).or_default().extend(lines.map(|line| serde_json::from_slice(line).unwrap()));
                self.positions.acknowledge(block.shares());
            }
        }
        records
    }

    fn messages(&mut self) -> BTreeMap<String, Vec<String>> {
        let text = |record: &serde_json::Value| record["_msg"].as_str().unwrap().to_owned();
        self.store(|_| true).into_iter().map(|(name, records)| (name, records.iter().map(text).collect())).collect()
    }

    fn books(&mut self) -> Vec<Book> {
        self.positions.sight(self.journal.sightings());
        let left_out = self.journal.feeds().map(|feed| (&feed.log, 0, feed.left_out_bytes()));
        crate::books::close(&self.positions, left_out, self.lanes.held_of_sources())
    }

    fn redacting(mut self, rules: &str) -> Self {
        self.redactor = crate::config::for_tests(&format!("redact: {{rules: {rules}}}")).redactor().unwrap();
        self
    }

    /// So many seconds pass, in which nothing comes.
    fn wait(&mut self, seconds: u32) {
        for _ in 0..seconds {
            self.positions.sight(self.journal.sightings());
            let settled = self.journal.settled(&self.positions);
            let may_come = |missed: &Missed<'_>| self.journal.may_read_again(missed, &settled);
            self.positions.forget_unseen(std::iter::empty(), may_come);
        }
    }

    fn cursor(&self) -> String {
        self.journal.arguments().pop().unwrap()
    }
}

fn three_units() -> String {
    export(SEQUENCE, 7, "ssh.service", "") + &export(SEQUENCE, 8, "kubelet.service", "") + &export(SEQUENCE, 9, "", "")
}

#[test]
fn entries_are_records_of_their_units_lanes() {
    let mut node = Node::new(Positions::default(), StartFrom::Beginning);
    let more = "SYSLOG_IDENTIFIER=sshd\n_PID=12\n_HOSTNAME=h\n_BOOT_ID=b\n_TRANSPORT=syslog\n\
                _SOURCE_REALTIME_TIMESTAMP=1761473730000000\nOTHER=x\n";
    let json = export(SEQUENCE, 2, "a.service", "").replace("entry 2", r#"{"msg":"m","pid":1,"unit":"u","a":2}"#);
    node.read(&(export(SEQUENCE, 1, "ssh.service", more) + &json));
    let records = node.store(|_| true);
    let expected = serde_json::json!({
        "_time": "2025-10-26T10:15:30.000000000Z", "_msg": "entry 1", "unit": "ssh.service", "cluster": "c", "environment": "e",
        "k8s_node_name": "n", "log_type": "host", "identifier": "sshd", "pid": "12", "hostname": "h", "boot_id": "b",
        "transport": "syslog", "severity": "err",
    });
    assert_eq!(records["host/ssh.service"], [expected]);
    // An application's own members do not pass for what is said of it.
    let record = &records["host/a.service"][0];
    assert_eq!(
        (&record["_msg"], &record["unit"], &record["app_unit"]),
        (&"m".into(), &"a.service".into(), &"u".into())
    );
    assert_eq!((&record["app_pid"], &record["a"]), (&1.into(), &2.into()));
}

#[test]
fn a_restart_goes_on_before_the_first_entry_that_is_not_stored_and_repeats_none() {
    let mut node = Node::new(Positions::default(), StartFrom::Beginning);
    assert_eq!(node.cursor(), "--since=@0.000001");
    node.read(&three_units());
    // The other lanes are ahead of ssh's.
    let stored = node.store(|scope| scope != "ssh.service");
    assert_eq!(stored.keys().collect::<Vec<_>>(), ["dataplane/kubelet.service", "host/journald"]);
    let mut node = node.restart();
    assert_eq!(node.cursor(), format!("--cursor=s={SEQUENCE:032x};i=6"));
    // What was received and not stored is not there before it is received again.
    assert!(node.books().iter().all(|page| page.imbalance == 0));
    node.read(&(three_units() + &export(SEQUENCE, 10, "ssh.service", "")));
    assert_eq!(
        node.messages(),
        BTreeMap::from([("host/ssh.service".into(), vec!["entry 7".into(), "entry 10".into()])])
    );
    let mut node = node.restart();
    assert_eq!(node.cursor(), format!("--cursor=s={SEQUENCE:032x};i=a"));
    for page in node.books() {
        assert_eq!((page.imbalance, page.held, page.written), (0, 0, page.acknowledged), "{page:?}");
    }
}

#[test]
fn what_only_the_ring_has_is_read_again_where_the_ring_is_lost() {
    for stored_before in [false, true] {
        let mut node = Node::new(Positions::default(), StartFrom::Beginning);
        if stored_before {
            node.read(&export(SEQUENCE, 6, "ssh.service", ""));
            node.messages();
        }
        node.read(&three_units());
        let mut node = node.restart_with_ring();
        assert_eq!(node.cursor(), format!("--cursor=s={SEQUENCE:032x};i=6"));
        // What the ring has is passed over, and of each lane something new comes.
        let new: String = [(10, "ssh.service"), (11, "kubelet.service"), (12, "")]
            .map(|(number, unit)| export(SEQUENCE, number, unit, ""))
            .concat();
        node.read(&(three_units() + &new));
        // Of the other lanes all is stored, of ssh's nothing.
        node.store(|scope| scope != "ssh.service");
        let mut node = node.reboot();
        assert_eq!(node.cursor(), format!("--cursor=s={SEQUENCE:032x};i=6"));
        node.read(&(three_units() + &new));
        let expected = vec!["entry 7".to_owned(), "entry 10".into()];
        assert_eq!(node.messages(), BTreeMap::from([("host/ssh.service".into(), expected)]));
    }
}

#[test]
fn what_the_ring_has_holds_the_position_back_only_until_it_is_stored() {
    let mut node = Node::new(Positions::default(), StartFrom::Beginning);
    node.read(&three_units());
    let mut node = node.restart_with_ring();
    node.read(&(three_units() + &export(SEQUENCE, 10, "ssh.service", "")));
    node.store(|_| true);
    let node = node.reboot();
    assert_eq!(node.cursor(), format!("--cursor=s={SEQUENCE:032x};i=a"));
}

#[test]
fn a_unit_that_is_first_met_and_not_stored_is_read_again() {
    let mut node = Node::new(Positions::default(), StartFrom::Beginning);
    node.read(&export(SEQUENCE, 1, "a.service", ""));
    node.messages();
    node.read(&(export(SEQUENCE, 2, "new.service", "") + &export(SEQUENCE, 3, "a.service", "")));
    node.store(|scope| scope == "a.service");
    let mut node = node.restart();
    assert_eq!(node.cursor(), format!("--cursor=s={SEQUENCE:032x};i=1"));
    node.read(&(export(SEQUENCE, 2, "new.service", "") + &export(SEQUENCE, 3, "a.service", "")));
    assert_eq!(node.messages(), BTreeMap::from([("host/new.service".into(), vec!["entry 2".into()])]));
}

#[test]
fn missing_numbers_are_a_gap_told_once() {
    let mut node = Node::new(Positions::default(), StartFrom::Beginning);
    node.read(&export(SEQUENCE, 5, "a.service", ""));
    node.messages();
    // It was vacuumed while the agent was away.
    let mut node = node.restart();
    let later = export(SEQUENCE, 9, "a.service", "");
    node.read(&later);
    let records = node.store(|scope| scope == "a.service");
    assert_eq!(records["host/a.service"].len(), 1);
    // Killed before the gap's record is stored: the next one tells it, and does not find it anew.
    let mut node = node.restart();
    for gap in node.positions.untold_gaps() {
        let mut output = Output {
            lanes: &mut node.lanes,
            known: &mut node.positions,
            counts: &mut node.counts,
            redactor: None,
            now: Instant::now(),
            wall_ns: 0,
        };
        node.journal.tell(&gap, &mut output);
    }
    node.read(&later);
    let records = node.store(|_| true);
    let gap = &records["host/journald"][0];
    assert_eq!((records.len(), records["host/journald"].len()), (1, 1), "{records:?}");
    assert_eq!((&gap["sluice_gap_reason"], &gap["sluice_gap_entries"]), (&"journal-seqnum".into(), &"3".into()));
    assert_eq!((&gap["sluice_gap_from"], &gap["sluice_gap_to"]), (&"6".into(), &"9".into()));
    assert_eq!(gap["sluice_gap_file"], format!("s={SEQUENCE:032x}"));
    assert_eq!(node.books().iter().map(|page| page.missing_entries).sum::<u64>(), 3);
    let mut node = node.restart();
    node.read(&later);
    assert_eq!((node.messages(), node.positions.untold_gaps().len()), (BTreeMap::new(), 0));
}

#[test]
fn two_sequences_are_counted_apart() {
    let (old, new) = (export(1, 100, "a.service", ""), export(2, 1, "a.service", ""));
    let mut node = Node::new(Positions::default(), StartFrom::Beginning);
    node.read(&(old.clone() + &new));
    assert_eq!(node.messages()["host/a.service"], ["entry 100", "entry 1"]);
    // journalctl finds one of them by the cursor, and gives the other from its beginning.
    let mut node = node.restart();
    node.read(&(old + &new + &export(2, 2, "a.service", "")));
    assert_eq!(node.messages(), BTreeMap::from([("host/a.service".into(), vec!["entry 2".into()])]));
    assert_eq!(node.counts.gaps, 0);
}

#[test]
fn a_lane_that_takes_nothing_holds_the_journal_back() {
    let mut node = Node::new(Positions::default(), StartFrom::Beginning);
    node.read(&export(SEQUENCE, 1, "a.service", ""));
    let lane = node.lanes.lane(Category::Host, &"a.service".into());
    node.lanes.pause(lane, Instant::now() + Duration::from_secs(60));
    node.read(&(export(SEQUENCE, 2, "b.service", "") + &export(SEQUENCE, 3, "a.service", "")));
    assert_eq!((node.journal.held_back(), node.read_on()), (Some(lane), 0));
    node.lanes.resume(Instant::now() + Duration::from_secs(61));
    assert!(node.read_on() > 0);
    assert_eq!(node.messages()["host/a.service"], ["entry 1", "entry 3"]);
}

#[test]
fn what_is_older_than_the_first_start_wanted_stays_unread_also_after_a_restart() {
    let mut node = Node::new(Positions::default(), StartFrom::Since(1_761_473_730_000_002_000));
    assert_eq!(node.cursor(), "--since=@1761473730.000002");
    node.settle();
    let mut node = node.restart();
    assert_eq!(node.cursor(), "--since=@1761473730.000002");
    node.read(&(export(SEQUENCE, 1, "a.service", "") + &export(SEQUENCE, 2, "a.service", "")));
    assert_eq!(node.messages()["host/a.service"], ["entry 2"]);
}

#[test]
fn an_entry_too_long_for_a_record_goes_in_parts() {
    let mut node = Node::new(Positions::default(), StartFrom::Beginning);
    let long = "é".repeat(200_000);
    node.read(&export(SEQUENCE, 1, "a.service", "").replace("entry 1", &long));
    let records = node.store(|_| true).remove("host/a.service").unwrap();
    let joined: String = records.iter().map(|record| record["_msg"].as_str().unwrap()).collect();
    assert_eq!((joined == long, records.len() > 1, &records[1]["log_part"]), (true, true, &2.into()));
    assert!(node.books().iter().all(|page| page.imbalance == 0 && page.held == 0));
}

#[test]
fn what_a_client_calls_itself_is_cut_and_its_entry_one_record() {
    let mut node = Node::new(Positions::default(), StartFrom::Beginning);
    let more = format!("SYSLOG_IDENTIFIER={}\n", "i".repeat(300 * 1024));
    let empty = export(SEQUENCE, 2, "a.service", &more).replace("entry 2", "");
    let unit = format!("{}.service", "u".repeat(300 * 1024));
    let more_of_unit = "SYSLOG_IDENTIFIER=short\n";
    node.read(&(export(SEQUENCE, 1, "a.service", &more) + &empty + &export(SEQUENCE, 3, &unit, more_of_unit)));
    let records = node.store(|_| true);
    let messages: Vec<_> = records["host/a.service"].iter().map(|record| &record["_msg"]).collect();
    assert_eq!(messages, ["entry 1", ""]);
    for record in &records["host/a.service"] {
        assert_eq!((&record["identifier"], &record["sluice_cut"]), (&"i".repeat(4096).into(), &"true".into()));
    }
    let [record] = &records["host/other"][..] else { panic!("{records:?}") };
    assert_eq!((&record["unit"], &record["sluice_cut"]), (&"u".repeat(4096).into(), &"true".into()));
    assert!(node.books().iter().all(|page| page.imbalance == 0 && page.held == 0));
}

/// As many units as have lanes of their own, and three that share one; then the third once more, and one of those.
fn units_beyond_the_bound() -> Vec<String> {
    let bound = MAX_FEEDS as u64;
    let unit = |n: u64| match n {
        n if n == 3 || n == bound + 4 => "v.service".to_owned(),
        n if n == bound + 5 => "unit-251.service".to_owned(),
        n => format!("unit-{n}.service"),
    };
    (1..=bound + 5).map(|n| export(SEQUENCE, n, &unit(n), "")).collect()
}

/// A restart reads from the fourth entry on.
fn a_shared_lane_ahead_of_a_units_own() -> Node {
    let mut node = Node::new(Positions::default(), StartFrom::Beginning);
    let entries = units_beyond_the_bound();
    node.read(&entries[..MAX_FEEDS].concat());
    node.store(|_| true);
    node.read(&entries[MAX_FEEDS..].concat());
    assert_eq!(node.store(|scope| scope != "v.service")["host/other"].len(), 4);
    let node = node.restart();
    assert!(node.cursor().ends_with(";i=3"), "{}", node.cursor());
    node
}

fn messages<const N: usize>(expected: [(&str, &str); N]) -> BTreeMap<String, Vec<String>> {
    expected.map(|(lane, text)| (lane.to_owned(), vec![text.to_owned()])).into()
}

#[test]
fn a_unit_keeps_its_lane_over_restarts_whoever_comes_before_it() {
    for waits in [0, 3000] {
        let mut node = a_shared_lane_ahead_of_a_units_own();
        // Nothing can be read for long.
        node.wait(waits);
        let mut node = node.restart();
        node.read(&(units_beyond_the_bound()[3..].concat() + &export(SEQUENCE, 256, "new.service", "")));
        assert_eq!(node.messages(), messages([("host/other", "entry 256"), ("host/v.service", "entry 254")]));
        assert!(node.books().iter().all(|page| page.imbalance == 0));
    }
}

#[test]
fn a_unit_that_shared_a_lane_is_not_sent_twice_where_another_lane_became_free() {
    let mut node = a_shared_lane_ahead_of_a_units_own();
    node.read(&units_beyond_the_bound()[3..].concat());
    // Of the first two units nothing came for long: they are forgotten. The third's lane is held back.
    node.wait(3000);
    let mut node = node.restart();
    node.read(&(units_beyond_the_bound()[253..].concat() + &export(SEQUENCE, 256, "new.service", "")));
    assert_eq!(node.messages(), messages([("host/new.service", "entry 256"), ("host/v.service", "entry 254")]));
}

#[test]
fn what_there_may_be_any_number_of_shares_a_lane() {
    for (unit, expected) in [
        ("kubelet.service", "kubelet.service"),
        ("user@1000.service", "user@"),
        ("session-3.scope", "scope"),
        ("cri-containerd-0123.scope", "scope"),
        ("init.scope", "init.scope"),
        ("run-r0123.service", "run.service"),
        ("dev-sda.device", "dev-sda.device"),
        ("x", "x"),
    ] {
        assert_eq!(scope(unit), expected, "{unit}");
    }
    let mut node = Node::new(Positions::default(), StartFrom::Beginning);
    let units = MAX_FEEDS as u64 + 10;
    node.read(&(1..=units).map(|n| export(SEQUENCE, n, &format!("unit-{n}.service"), "")).collect::<String>());
    let messages = node.messages();
    assert_eq!((messages.len(), messages["host/other"].len()), (MAX_FEEDS + 1, 10));
}

/// Reads until the reader has ended so often.
async fn until_ended(node: &mut Node, times: u64) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while node.counts.reader_ends < times {
        assert!(Instant::now() < deadline, "the reader did not end");
        node.read_on();
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn a_reader_that_ends_in_the_middle_of_an_entry_is_started_again_behind_the_last_whole_one() {
    use std::os::unix::fs::PermissionsExt as _;
    let dir = tempfile::tempdir().unwrap();
    let (reader, output) = (dir.path().join("reader"), dir.path().join("output"));
    std::fs::write(&output, export(SEQUENCE, 1, "a.service", "") + "__CURSOR=s=1;i=2\nMESSAGE=ha").unwrap();
    std::fs::write(&reader, format!("#!/bin/sh\nexec cat '{}'\n", output.display())).unwrap();
    std::fs::set_permissions(&reader, std::fs::Permissions::from_mode(0o755)).unwrap();
    let mut node = Node::new(Positions::default(), StartFrom::Beginning);
    node.journal.settings.binary = reader;
    node.journal.next_start = None;
    until_ended(&mut node, 1).await;
    assert_eq!(node.cursor(), format!("--cursor=s={SEQUENCE:032x};i=1"));
    assert!(node.journal.next_start.is_some_and(|at| at > Instant::now()));
    // It is read on as if nothing had been: what was begun is gone.
    std::fs::write(&output, export(SEQUENCE, 1, "a.service", "") + &export(SEQUENCE, 2, "a.service", "")).unwrap();
    node.journal.next_start = None;
    until_ended(&mut node, 2).await;
    assert_eq!(node.messages()["host/a.service"], ["entry 1", "entry 2"]);
}

#[tokio::test]
async fn a_reader_that_is_not_there_is_tried_less_and_less_often() {
    let mut node = Node::new(Positions::default(), StartFrom::Beginning);
    node.journal.settings.binary = "/nonexistent/journalctl".into();
    for times in 1..=8 {
        node.journal.next_start = None;
        until_ended(&mut node, times).await;
    }
    assert_eq!(node.journal.backoff, BACKOFF.1);
}

#[test]
fn secrets_of_entries_do_not_leave_the_node() {
    let mut node = Node::new(Positions::default(), StartFrom::Beginning)
        .redacting("[email, {name: pin, regex: 'pin=\\d+', namespaces: ['ssh*']}]");
    let more = "SYSLOG_IDENTIFIER=of a@b.co\n_HOSTNAME=h\n";
    let secret = |number, unit| export(SEQUENCE, number, unit, more).replace("entry", "a@b.co pin=1");
    // Two units of one lane, of which the rule is meant for one.
    let stream = secret(1, "ssh@1.service") + &secret(2, "other.service") + &secret(3, "session-1.scope");
    node.read(&(stream + &secret(4, "sshd.scope")));
    let messages = node.store(|_| true);
    let of = |name: &str, at: usize| {
        let record = &messages[name][at];
        (record["_msg"].as_str().unwrap(), record["identifier"].as_str().unwrap())
    };
    let identifier = "of [redacted:email]";
    assert_eq!(of("host/ssh@", 0), ("[redacted:email] [redacted:pin] 1", identifier));
    assert_eq!(of("host/other.service", 0), ("[redacted:email] pin=1 2", identifier));
    assert_eq!(of("host/scope", 0), ("[redacted:email] pin=1 3", identifier));
    assert_eq!(of("host/scope", 1), ("[redacted:email] [redacted:pin] 4", identifier));
}

#[test]
fn a_json_message_of_an_entry_stays_one_without_its_secrets() {
    let mut node = Node::new(Positions::default(), StartFrom::Beginning).redacting("[email]");
    let json = export(SEQUENCE, 1, "a.service", "").replace("entry 1", r#"{"msg":"m","from":"a\u0040b.co"}"#);
    node.read(&json);
    let record = &node.store(|_| true)["host/a.service"][0];
    assert_eq!((&record["_msg"], &record["from"]), (&"m".into(), &"[redacted:email]".into()));
}

#[test]
fn an_entry_that_a_rule_drops_is_covered_and_booked() {
    let mut node = Node::new(Positions::default(), StartFrom::Beginning)
        .redacting("[{name: entry, regex: 'entry [257]$', action: drop}]");
    let entries = |numbers: std::ops::RangeInclusive<u64>| -> String {
        numbers.map(|number| export(SEQUENCE, number, "a.service", "")).collect()
    };
    let bytes = |number| export(SEQUENCE, number, "a.service", "").len() as u64;
    node.read(&entries(1..=5));
    // The second goes with the third; nothing follows on the fifth.
    let balance = |node: &mut Node| {
        let page = node.books().into_iter().find(|page| &*page.log == "journal:host/a.service").unwrap();
        assert_eq!(page.imbalance, 0, "{page:?}");
        (page.held, page.abandoned.get(&Abandoned::Redacted).copied().unwrap_or(0))
    };
    assert_eq!(balance(&mut node), ((1..=5).map(bytes).sum(), 0));
    assert_eq!(node.messages()["host/a.service"], ["entry 1", "entry 3", "entry 4"]);
    assert_eq!(balance(&mut node), (bytes(5), bytes(2)));
    node.settle();
    assert_eq!(balance(&mut node), (0, bytes(2) + bytes(5)));
    // After a gap.
    node.read(&(entries(7..=7) + &entries(8..=8)));
    node.messages();
    assert_eq!((balance(&mut node), node.counts.gaps), ((0, [2, 5, 7].map(bytes).iter().sum()), 1));
    let mut node = node.restart();
    assert_eq!(node.cursor(), format!("--cursor=s={SEQUENCE:032x};i=8"));
    node.read(&entries(8..=8));
    assert_eq!(node.messages(), BTreeMap::new());
}

#[test]
fn what_was_dropped_and_not_decided_is_read_again_under_other_rules() {
    let mut node = Node::new(Positions::default(), StartFrom::Beginning)
        .redacting("[{name: entry, regex: 'entry 2$', action: drop}]");
    let stream = export(SEQUENCE, 1, "a.service", "") + &export(SEQUENCE, 2, "a.service", "");
    node.read(&stream);
    // Killed before the first one is stored.
    let mut node = node.restart();
    assert!(node.books().iter().all(|page| page.imbalance == 0));
    node.read(&stream);
    assert_eq!(node.messages()["host/a.service"], ["entry 1", "entry 2"]);
}

#[test]
fn a_units_position_is_kept_while_its_entries_will_be_received_again() {
    let mut node = Node::new(Positions::default(), StartFrom::Beginning);
    node.read(&three_units());
    // Of ssh's nothing is taken, for long and over a restart: the journal is read from there again.
    node.store(|scope| scope != "ssh.service");
    let mut node = node.restart();
    let lane = node.lanes.lane(Category::Host, &"ssh.service".into());
    node.lanes.pause(lane, Instant::now() + Duration::from_secs(3600));
    node.read(&three_units());
    assert_eq!(node.journal.held_back(), Some(lane));
    node.wait(3000);
    node.lanes.resume(Instant::now() + Duration::from_secs(3601));
    while node.read_on() > 0 {}
    assert_eq!(node.messages(), BTreeMap::from([("host/ssh.service".into(), vec!["entry 7".into()])]));
    // Everything is stored: what of it nothing comes is forgotten.
    let mut node = node.restart();
    let kubelet = source_id(&[b"journal:dataplane/kubelet.service", &SEQUENCE.to_le_bytes()]);
    assert_eq!(node.positions.acknowledged(kubelet, Stream::Whole), 9);
    node.wait(3000);
    assert_eq!(node.positions.acknowledged(kubelet, Stream::Whole), 0);
}

#[test]
fn a_source_is_known_by_its_lane_also_before_anything_came_of_it() {
    let mut node = Node::new(Positions::default(), StartFrom::Beginning);
    node.read(&three_units());
    let node = node.restart();
    let source = source_id(&[b"journal:host/ssh.service", &SEQUENCE.to_le_bytes()]);
    assert!(node.journal.has_source((Category::Host, "ssh.service"), source));
    assert!(!node.journal.has_source((Category::Host, "kubelet.service"), source));
}
