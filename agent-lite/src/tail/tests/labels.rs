//! Categories that pods' labels choose, and what was chosen over restarts.

use super::*;
use crate::checkpoint::{Numbers, Snapshot, Store};
use crate::discover::{Choice, OwnLogs, PodRule};
use crate::enrich::{Allowed, Fields, Pods};

fn choice(namespace: &str, labels: &[(&str, &str)]) -> Choice {
    let glob = |text: &str| globset::Glob::new(text).unwrap().compile_matcher();
    let labels = labels.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    let rule = PodRule { namespace: glob(namespace), pod: glob("*"), container: glob("*"), labels };
    Choice { dataplane: vec![rule], own_logs: OwnLogs::Drop, own_pod: None }
}

fn by_label() -> Choice {
    choice("ns", &[("tier", "network")])
}

fn pods() -> Pods {
    let asked_labels = by_label().label_names();
    Pods::for_tests(Fields { labels: true, asked_labels, ..Fields::default() }, Allowed::default())
}

/// What the API says of the pod that the tests' files belong to.
fn pod(tier: &str) -> String {
    format!(r#"{{"metadata":{{"name":"pod","namespace":"ns","uid":"uid","labels":{{"tier":"{tier}","b":"c"}}}}}}"#)
}

impl Node {
    fn knowing(self, pods: &Pods, choice: Choice) -> Self {
        Self { tailer: self.tailer.with_pods(Some(pods.clone())).choosing(choice), ..self }
    }

    /// The agent is killed; the next one has the checkpoint alone.
    fn restart_from_disk(mut self) -> Self {
        self.check_books();
        let state = tempfile::tempdir().unwrap();
        let store = Store::new(state.path());
        store.write(&Snapshot::take(Numbers::draw(), &self.positions, None, false)).unwrap();
        self.positions = store.load().positions;
        self.restart()
    }

    /// What goes in which lane, and how its records are called.
    fn deliver_by_category(&mut self) -> Vec<String> {
        self.lanes.cut_all();
        let mut checker = Checker::default();
        let mut found = Vec::new();
        let sendable: Vec<LaneId> = self.lanes.sendable().collect();
        for id in sendable {
            while let Some(block) = self.lanes.remove(id, 0) {
                let category = block.header.lane.category;
                let raw = checker.check(&block.header, &block.payload, Depth::Json).unwrap();
                for line in raw.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
                    let record: serde_json::Value = serde_json::from_slice(line).unwrap();
                    let text = |field: &str| record[field].as_str().unwrap_or("-").to_owned();
                    let tier = record["k8s_labels"]["tier"].as_str().unwrap_or("-");
                    let what = if record["sluice_gap_reason"].is_null() { "_msg" } else { "sluice_gap_reason" };
                    found.push(format!("{category} {} {tier} {}", text("log_type"), text(what)));
                }
                self.positions.acknowledge(block.shares());
            }
        }
        found
    }

    fn books(&mut self) -> Vec<String> {
        self.check_books().iter().map(|page| page.books.to_string()).collect()
    }

    /// Looks and reads; nothing is waited for any more once `seconds` have passed.
    fn read_after(&mut self, seconds: u64) -> Vec<String> {
        self.now += Duration::from_secs(seconds);
        self.look();
        self.read();
        self.deliver_by_category()
    }
}

#[test]
fn labels_choose_a_logs_lane_once_its_pod_is_known() {
    for (tier, expected) in [("network", "dataplane dataplane network a"), ("web", "application - web a")] {
        let pods = pods();
        let mut node = Node::new(StartFrom::Beginning, true).knowing(&pods, by_label());
        node.append("0.log", out("a"));
        assert_eq!(node.read_after(0), [""; 0]);
        assert_eq!(node.books(), [""], "not chosen yet");
        pods.learn(&pod(tier));
        assert_eq!(node.read_after(0), [expected]);
        assert_eq!(node.books(), [format!("{}/ns", &expected[..expected.find(' ').unwrap()])]);
        assert_eq!(node.lanes.sendable().count(), 0);
        node.lanes.forget_unused();
        assert_eq!(node.lanes.count(), 1, "the lane of its names is not held any more");
    }
}

#[test]
fn a_container_that_no_such_rule_can_match_is_chosen_at_once() {
    let pods = pods();
    let mut node = Node::new(StartFrom::Beginning, true).knowing(&pods, choice("other", &[("tier", "network")]));
    node.append("0.log", out("a"));
    node.look();
    assert_eq!(node.books(), ["application/ns"]);
    pods.learn(&pod("network"));
    assert_eq!(node.read_after(0), ["application - network a"]);
}

#[test]
fn a_pod_that_is_not_known_in_time_is_an_applications_for_its_life() {
    let pods = pods();
    let mut node = Node::new(StartFrom::Beginning, true).knowing(&pods, by_label());
    node.append("0.log", out("a"));
    assert_eq!(node.read_after(0), [""; 0]);
    assert_eq!(node.read_after(6), ["application - - a"]);
    pods.learn(&pod("network"));
    node.append("0.log", at(40, "b"));
    assert_eq!(node.read_after(0), ["application - network b"]);
    // The next agent knows the pod at once.
    let mut node = node.restart_from_disk().knowing(&pods, by_label());
    node.append("0.log", at(41, "c"));
    assert_eq!(node.read_after(0), ["application - network c"]);
    // Another attempt is another log.
    node.append("1.log", at(42, "d"));
    assert_eq!(node.read_after(0), ["dataplane dataplane network d"]);
}

#[test]
fn what_was_chosen_holds_over_a_restart() {
    let known = pods();
    known.learn(&pod("network"));
    let mut node = Node::new(StartFrom::Beginning, true).knowing(&known, by_label());
    node.append("0.log", out("a"));
    assert_eq!(node.read_after(0), ["dataplane dataplane network a"]);
    // The API is away, and the rules are others.
    for choice in [by_label(), Choice::none()] {
        node = node.restart_from_disk().knowing(&pods(), choice);
        node.append("0.log", at(40, "b"));
        assert_eq!(node.read_after(0), [""; 0]);
        assert_eq!(node.read_after(6), ["dataplane dataplane - b"]);
    }
}

#[test]
fn blocks_of_an_agent_that_was_killed_before_its_checkpoint_say_what_was_chosen() {
    let known = pods();
    known.learn(&pod("network"));
    let mut node = Node::new(StartFrom::Beginning, true).knowing(&known, by_label());
    node.append("0.log", out("a"));
    node.look();
    node.read();
    node.lanes.cut_all();
    let lane = node.lanes.sendable().next().unwrap();
    let block = node.lanes.remove(lane, 0).unwrap();
    // Of the log, the next agent has only what is in the ring.
    node.positions = Positions::default();
    node.positions.note_category(block.header.lane.category, block.header.positions.iter());
    assert!(node.positions.extend_by_ring(block.shares()));
    let mut node = node.restart().knowing(&pods(), by_label());
    node.lanes.restore(block);
    node.append("0.log", at(40, "b"));
    assert_eq!(node.read_after(0), ["dataplane dataplane network a"]);
    assert_eq!(node.books(), ["dataplane/ns"]);
    assert_eq!(node.read_after(6), ["dataplane dataplane - b"]);
}

#[test]
fn a_gap_is_told_in_the_lane_that_labels_choose() {
    let known = pods();
    let mut node = Node::new(StartFrom::Beginning, true).knowing(&known, by_label());
    node.append("0.log", out("a"));
    node.look();
    assert_eq!(node.books(), [""]);
    node.remove("0.log");
    node.append("1.log", at(40, "b"));
    let mut node = node.restart().knowing(&known, by_label());
    node.tell_losses();
    assert_eq!(node.read_after(0), [""; 0]);
    node.wait(1);
    known.learn(&pod("network"));
    let mut told = node.read_after(0);
    told.sort_unstable();
    assert_eq!(told, ["dataplane dataplane network b", "dataplane dataplane network vanished"]);
    assert_eq!(node.books(), ["dataplane/ns"; 2]);
    // Its log is not needed any more.
    node.wait(1);
    assert_eq!(node.tailer.totals().0, 1);
}

#[test]
fn a_gap_of_a_pod_that_stays_unknown_is_told_after_the_wait() {
    let known = pods();
    let mut node = Node::new(StartFrom::Beginning, true).knowing(&known, by_label());
    node.append("0.log", out("a"));
    node.look();
    node.books();
    node.remove("0.log");
    node.append("1.log", at(40, "b"));
    let mut node = node.restart().knowing(&known, by_label());
    node.tell_losses();
    let mut told = node.read_after(6);
    told.sort_unstable();
    assert_eq!(told, ["application - - b", "application - - vanished"]);
}

#[test]
fn lanes_of_namespaces_that_are_gone_are_forgotten() {
    let mut node = Node::new(StartFrom::Beginning, true);
    let root = node.dir.path().to_owned();
    for round in 0..20 {
        for n in 0..20 {
            let path = root.join(format!("ns-{round}-{n}_pod_uid-{round}-{n}/app/0.log"));
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, out("x")).unwrap();
        }
        assert_eq!(node.run().len(), 20);
        for n in 0..20 {
            fs::remove_dir_all(root.join(format!("ns-{round}-{n}_pod_uid-{round}-{n}"))).unwrap();
        }
        assert_eq!(node.run(), [""; 0]);
        node.wait(20);
        node.wait(20);
        assert_eq!(node.tailer.totals().0, 0);
        node.lanes.forget_unused();
        assert_eq!(node.lanes.count(), 0);
    }
}
