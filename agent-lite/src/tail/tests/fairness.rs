//! Turns, budgets, weights and backlogs.

use globset::{Glob, GlobSet, GlobSetBuilder};

use super::*;

fn globs(glob: &str) -> GlobSet {
    GlobSetBuilder::new().add(Glob::new(glob).unwrap()).build().unwrap()
}

/// Each line of `text` takes as many bytes.
pub(super) const LINE: usize = 100;

pub(super) fn text(lines: std::ops::Range<usize>) -> String {
    let filled = |n: usize| format!("{n:05}{}", "x".repeat(LINE - at(1, "").len() - 5));
    lines.map(|n| at(1, &filled(n))).collect()
}

pub(super) fn with_budget(policy: Policy) -> Sharing {
    let budget = Budget { namespaces: globs("n*"), rate: 1000, burst: 2000, policy };
    Sharing { budgets: vec![budget], ..Sharing::default() }
}

pub(super) fn node(sharing: Sharing) -> Node {
    Node::sharing(tempfile::tempdir().unwrap(), Positions::default(), StartFrom::Beginning, false, sharing)
}

pub(super) fn kept(messages: &[String]) -> Vec<usize> {
    messages.iter().filter_map(|message| message.strip_prefix("stdout:")?[..5].parse().ok()).collect()
}

#[test]
fn a_delayed_pod_loses_nothing_and_comes_at_its_rate() {
    let mut node = node(with_budget(Policy::Delay));
    // As much as the buffer holds goes at a time, and is owed.
    node.append("0.log", text(0..6000));
    let mut sent = node.run();
    assert!((1..3000).contains(&sent.len()), "{}", sent.len());
    let first = sent.len();
    sent.extend(node.run());
    assert_eq!(sent.len(), first, "the debt is paid first");
    let mut waited = 0;
    while sent.len() < 6000 {
        node.wait(10);
        waited += 10;
        sent.extend(node.run());
    }
    assert!((300..=700).contains(&waited), "600 kB at 1 kB/s, the last 260 kB on credit: {waited}");
    assert_eq!(kept(&sent), (0..6000).collect::<Vec<_>>());
}

#[test]
fn what_a_pod_writes_beyond_its_budget_is_dropped_booked_and_told() {
    let mut node = node(with_budget(Policy::Drop));
    node.append("0.log", text(0..50));
    let sent = node.run();
    assert_eq!(kept(&sent), (0..20).collect::<Vec<_>>());
    node.wait(10);
    let told = node.deliver();
    assert_eq!(told, [format!("gap:over-budget:{}", 30 * LINE)]);
    assert!(node.is_settled());
    let page = node.check_books().remove(0);
    assert_eq!(page.abandoned[&Abandoned::OverBudget], (30 * LINE) as u64);
    // Ten seconds later there is room again.
    node.append("0.log", text(50..60));
    assert_eq!(kept(&node.run()), (50..60).collect::<Vec<_>>());
}

#[test]
fn a_sample_of_what_is_over_the_budget_is_kept() {
    let mut node = node(with_budget(Policy::Sample(10)));
    node.append("0.log", text(0..120));
    assert_eq!(kept(&node.run()), (0..20).chain((20..120).step_by(10)).collect::<Vec<_>>());
    node.wait(10);
    assert_eq!(node.deliver(), [format!("gap:over-budget:{}", 90 * LINE)]);
    assert!(node.is_settled());
}

#[test]
fn an_agent_killed_in_the_middle_of_dropping_books_each_byte_once() {
    let mut node = node(with_budget(Policy::Sample(10)));
    node.append("0.log", text(0..120));
    node.look();
    node.read();
    // Nothing of it was stored: the next agent decides anew, under a bucket that is full again.
    let mut node =
        Node::sharing(node.dir, node.positions, StartFrom::Beginning, false, with_budget(Policy::Sample(10)));
    assert_eq!(kept(&node.run()).len(), 30);
    // The samples were stored, the rest is left out with the next line or the next telling; killed before.
    let mut node = Node::sharing(node.dir, node.positions, StartFrom::Beginning, false, with_budget(Policy::Drop));
    node.tell_losses();
    node.run();
    node.wait(10);
    node.deliver();
    assert!(node.is_settled());
    let page = node.check_books().remove(0);
    assert_eq!(page.written, page.acknowledged + page.abandoned[&Abandoned::OverBudget]);
}

#[test]
fn a_long_line_is_dropped_with_all_its_pieces() {
    let mut node = node(with_budget(Policy::Drop));
    node.append("0.log", text(0..20));
    node.append("0.log", line("stdout", "P", "begun ") + &line("stderr", "F", "also") + &line("stdout", "F", "ended"));
    let sent = node.run();
    assert_eq!(sent.len(), 20);
    node.wait(10);
    node.append("0.log", line("stdout", "F", "next"));
    assert!(node.run().contains(&"stdout:next".to_owned()));
    node.wait(10);
    node.deliver();
    assert!(node.is_settled());
}

#[test]
fn a_line_begun_within_the_budget_is_sent_whole() {
    let mut node = node(with_budget(Policy::Drop));
    node.append("0.log", text(0..19) + &line("stdout", "P", &"y".repeat(500)) + &line("stdout", "F", "ended"));
    assert!(node.run().last().unwrap().ends_with("yended"));
}

#[test]
fn pods_have_budgets_of_their_own_and_other_namespaces_none() {
    let mut node = node(with_budget(Policy::Drop));
    for directory in ["ns_other_uid-2/app", "free_pod_uid-3/app"] {
        let path = node.dir.path().join(directory);
        fs::create_dir_all(&path).unwrap();
        fs::write(path.join("0.log"), text(0..50)).unwrap();
    }
    node.append("0.log", text(0..50));
    assert_eq!(kept(&node.run()).len(), 20 + 20 + 50);
}

#[test]
fn a_backlog_is_read_at_its_rate_and_what_comes_new_at_once() {
    let sharing = Sharing { backlog_rate: Some(300_000), ..Sharing::default() };
    let dir = tempfile::tempdir().unwrap();
    let mut node = Node::sharing(dir, Positions::default(), StartFrom::Beginning, true, sharing);
    node.append("0.log", text(0..9000));
    let first = node.run().len();
    assert!(first < 6000, "{first}");
    node.append("1.log", at(2, "new"));
    assert_eq!(node.run(), ["stdout:new"], "not behind the backlog");
    node.wait(2);
    assert!(!node.run().is_empty());
}

#[test]
fn a_heavy_namespace_has_larger_turns() {
    let sharing = Sharing { weights: vec![(globs("heavy"), 3)], ..Sharing::default() };
    let mut node = node(sharing);
    for directory in ["heavy_pod_uid-1/app", "light_pod_uid-2/app"] {
        let path = node.dir.path().join(directory);
        fs::create_dir_all(&path).unwrap();
        fs::write(path.join("0.log"), text(0..20_000)).unwrap();
    }
    node.look();
    node.tailer.read(&mut node.lanes, &mut node.positions, node.now, 1_000);
    let read = |node: &Node, name: &str| {
        let log = node.tailer.logs.iter().find(|log| log.names.log.contains(name)).unwrap();
        log.sightings().map(|sighting| sighting.size).sum::<u64>() - u64::try_from(log.to_read()).unwrap()
    };
    let (heavy, light) = (read(&node, "heavy"), read(&node, "light"));
    assert!((2 * light..=4 * light).contains(&heavy), "{heavy} and {light}");
}

#[test]
fn what_is_deleted_is_read_first() {
    let mut node = node(Sharing::default());
    node.append("0.log", at(1, "deleted"));
    let other = node.dir.path().join("ns_pod-2_uid-2/app/0.log");
    fs::create_dir_all(other.parent().unwrap()).unwrap();
    fs::write(&other, at(1, "exists")).unwrap();
    node.look();
    node.remove("0.log");
    node.look();
    node.read();
    assert_eq!(node.deliver(), ["stdout:deleted", "stdout:exists"]);
}

#[test]
fn what_was_dropped_at_a_pods_end_is_told_although_its_file_is_gone() {
    let mut node = node(with_budget(Policy::Sample(30)));
    node.wait(1);
    // The last line is a sample, which carries those that were dropped before it.
    node.append("0.log", text(0..51));
    node.look();
    node.read();
    node.check_books();
    node.remove("0.log");
    node.look();
    assert_eq!(kept(&node.deliver()).last(), Some(&50));
    node.read();
    for _ in 0..3 {
        node.wait(6);
        node.read();
    }
    assert_eq!(node.tailer.totals().1, 0);
    node.wait(11);
    assert_eq!(node.deliver(), [format!("gap:over-budget:{}", 29 * LINE)]);
}

#[test]
fn a_log_whose_lane_is_held_back_is_not_read_and_its_neighbour_is() {
    let mut node = Node::new(StartFrom::Beginning, true);
    node.append("0.log", out("held"));
    let other = node.dir.path().join("other_pod_uid2/app/0.log");
    fs::create_dir_all(other.parent().unwrap()).unwrap();
    fs::write(&other, out("free")).unwrap();
    node.look();
    let held = node.lanes.lane(Category::Application, &"ns".into());
    node.lanes.pause(held, node.now + Duration::from_secs(5));
    node.read();
    assert_eq!(node.deliver(), ["stdout:free"]);
    node.lanes.resume(node.now + Duration::from_secs(5));
    node.read();
    assert_eq!(node.deliver(), ["stdout:held"]);
}

#[test]
fn the_logs_of_a_lane_that_takes_little_have_their_turns() {
    let mut node = Node::new(StartFrom::Beginning, true);
    let pod = |n: usize| format!("ns_pod-{n}_uid{n}/app/0.log");
    for n in 0..20 {
        let path = node.dir.path().join(pod(n));
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        // The first three are in one lane; each has several passes' worth.
        let text = if n < 3 { (0..20_000).map(|line| out(&format!("{n} {line}"))).collect() } else { String::new() };
        fs::write(path, text).unwrap();
    }
    node.look();
    let lane = node.lanes.lane(Category::Application, &"ns".into());
    let mut seen = [0; 3];
    for _ in 0..9 {
        // A lane that takes a block or two in a pass.
        node.lanes.narrow(lane);
        node.tailer.read(&mut node.lanes, &mut node.positions, node.now, 1_000);
        for message in node.deliver() {
            seen[usize::from(message.as_bytes()[7] - b'0')] += 1;
        }
    }
    assert!(seen.iter().all(|lines| *lines > 1_000), "{seen:?}");
}

#[test]
fn a_log_that_is_silent_is_read_once_its_size_says_that_there_is_more() {
    let mut node = Node::new(StartFrom::Beginning, true);
    node.append("0.log", out("1") + &line("stderr", "P", "begun "));
    assert_eq!(node.run(), ["stdout:1"]);
    node.read();
    node.wait(20);
    node.append("0.log", out("2"));
    node.read();
    assert_eq!(node.deliver(), ["stdout:2"], "a line waits for its end: it is not silent");
    node.append("0.log", line("stderr", "F", "ended"));
    node.read();
    node.read();
    node.wait(20);
    node.append("0.log", out("3"));
    node.read();
    assert_eq!(node.deliver(), ["stderr:begun ended"]);
    // Each second the sizes are looked at.
    node.wait(1);
    node.read();
    assert_eq!(node.deliver(), ["stdout:3"]);
}

/// As many compressed files as may be are being inflated, in a lane that takes no more; one more is there.
fn all_inflaters_held() -> Node {
    let mut node = Node::new(StartFrom::Beginning, true);
    let text: String = (0..10_000).map(|n| at(1, &format!("line {n:05} {}", "x".repeat(50)))).collect();
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(text.as_bytes()).unwrap();
    let compressed = encoder.finish().unwrap();
    let begin = |node: &Node, pod: String| {
        let directory = node.dir.path().join(pod).join("app");
        fs::create_dir_all(&directory).unwrap();
        fs::write(directory.join("0.log.20251026-101530.gz"), &compressed).unwrap();
    };
    (0..INFLATING).for_each(|pod| begin(&node, format!("held_pod-{pod}_uid{pod}")));
    node.look();
    node.tailer.read(&mut node.lanes, &mut node.positions, node.now, 1_000);
    let held = node.lanes.lane(Category::Application, &"held".into());
    node.lanes.pause(held, node.now + Duration::from_secs(500));
    begin(&node, "free_pod_uid".into());
    node.look();
    node.read();
    assert_eq!(node.deliver(), [""; 0]);
    node
}

#[test]
fn what_cannot_go_on_does_not_keep_other_compressed_files_from_being_read() {
    let mut node = all_inflaters_held();
    node.wait(1);
    node.read();
    assert_eq!(node.deliver().len(), 10_000);
}

#[test]
fn what_cannot_go_on_does_not_keep_a_deleted_compressed_file_from_being_read_at_a_stop() {
    let mut node = all_inflaters_held();
    fs::remove_dir_all(node.dir.path().join("free_pod_uid")).unwrap();
    node.look();
    node.lanes.close();
    node.tailer.hurry(&mut node.lanes, &mut node.positions, node.now);
    node.read();
    assert_eq!(node.deliver().len(), 10_000);
}
