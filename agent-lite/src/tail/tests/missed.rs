//! Attempts and rotations that came and went while nobody looked.

use super::*;

/// The gap records that there are to be told, as `attempt reason since..until`, and lines as `stream:message`.
fn told(node: &mut Node) -> Vec<String> {
    node.look();
    node.tell_losses();
    node.read();
    node.check_books();
    let told = node.deliver_records().iter().map(describe).collect();
    node.check_books();
    told
}

fn describe(record: &serde_json::Value) -> String {
    let text = |field: &str| record[field].as_str().unwrap_or("-").to_owned();
    let second = |field: &str| text(field).get(17..19).map_or_else(|| text(field), str::to_owned);
    match record["sluice_gap_reason"].as_str() {
        Some(reason) => {
            let (attempt, bytes) = (text("k8s_container_restart_count"), text("sluice_gap_bytes"));
            format!("{attempt}:{reason}:{bytes} {}..{}", second("sluice_gap_since"), second("sluice_gap_until"))
        }
        None => format!("{}:{}", text("stream"), text("_msg")),
    }
}

/// After a run that read, and got stored, a line of attempt 3.
fn with_attempt_3() -> Node {
    let mut node = Node::new(StartFrom::Beginning, true);
    node.append("3.log", at(3, "three"));
    assert_eq!(node.run(), ["stdout:three"]);
    node.settle();
    node.check_books();
    node
}

#[test]
fn attempts_that_came_and_went_leave_a_gap_each_from_the_last_stored_line_to_the_first_that_is_here() {
    let mut node = with_attempt_3().restart();
    node.append("6.log", at(6, "six"));
    node.append("7.log", at(7, "seven"));
    assert_eq!(told(&mut node), ["4:vanished:0 03..06", "5:vanished:0 03..06", "stdout:six", "stdout:seven"]);
    let mut node = node.restart();
    assert_eq!(told(&mut node), [""; 0], "once");
}

#[test]
fn the_last_attempt_that_was_read_may_have_had_more_before_those_that_nobody_saw() {
    let mut node = with_attempt_3().restart();
    node.remove("3.log");
    node.append("5.log", at(5, "five"));
    assert_eq!(told(&mut node), ["3:vanished:0 03..05", "4:vanished:0 03..05", "stdout:five"]);
}

#[test]
fn the_next_attempt_misses_nothing() {
    let mut node = with_attempt_3().restart();
    node.append("4.log", at(4, "four"));
    assert_eq!(told(&mut node), ["stdout:four"]);
}

#[test]
fn what_was_before_a_first_start_is_no_loss_of_the_next_one_either() {
    let mut node = with_attempt_3();
    node.append("../silent/9.log", "");
    assert_eq!(node.run(), [""; 0]);
    let mut node = node.restart();
    node.append("../silent/9.log", at(9, "nine"));
    assert_eq!(told(&mut node), ["stdout:nine"]);
}

#[test]
fn where_an_earlier_agent_kept_no_attempts_nothing_is_missed() {
    let mut node = with_attempt_3();
    node.positions = Positions::default();
    let mut node = node.restart();
    node.append("6.log", at(6, "six"));
    assert_eq!(told(&mut node), ["stdout:three", "stdout:six"]);
}

#[test]
fn a_container_that_is_new_has_missed_what_came_before_its_first_attempt_that_is_here() {
    let mut node = with_attempt_3().restart();
    node.append("../new/2.log", at(20, "two"));
    assert_eq!(told(&mut node), ["0:vanished:0 -..20", "1:vanished:0 -..20", "stdout:two"]);
}

#[test]
fn an_attempt_that_had_written_nothing_and_is_gone_may_have_written_since() {
    let mut node = with_attempt_3();
    node.append("../silent/0.log", "");
    node.append("../gone/0.log", "");
    assert_eq!(node.run(), [""; 0]);
    let mut node = node.restart();
    node.remove("../silent/0.log");
    node.append("../silent/1.log", at(9, "one"));
    fs::remove_dir_all(node.path("../gone")).unwrap();
    let mut told = told(&mut node);
    told.sort();
    assert_eq!(told, ["0:vanished:0 -..00", "0:vanished:0 -..09", "stdout:one"]);
}

#[test]
fn a_container_that_is_gone_leaves_one_gap_that_lasts_until_now() {
    let mut node = with_attempt_3();
    node.append("../other/0.log", at(1, "other"));
    node.run();
    let mut node = node.restart();
    fs::remove_dir_all(node.dir.path().join("ns_pod_uid/app")).unwrap();
    // The look's own time, a microsecond of the epoch, is when it was found.
    assert_eq!(told(&mut node), ["3:vanished:0 03..00"]);
    let mut node = node.restart();
    assert_eq!(told(&mut node), [""; 0]);
}

#[test]
fn attempts_that_a_running_agent_never_saw_are_told_as_well() {
    let mut node = with_attempt_3();
    node.append("6.log", at(6, "six"));
    node.look();
    node.wait(1);
    node.read();
    let told: Vec<_> = node.deliver_records().iter().map(describe).collect();
    assert_eq!(told, ["4:vanished:0 03..06", "5:vanished:0 03..06", "stdout:six"]);
    // Silent, seen, gone: nothing was missed.
    node.append("7.log", "");
    node.look();
    node.remove("7.log");
    node.look();
    node.wait(20);
    node.append("8.log", at(8, "eight"));
    node.look();
    node.wait(1);
    assert_eq!(node.run(), ["stdout:eight"]);
}

#[test]
fn of_very_many_missed_attempts_the_last_ones_are_told() {
    let mut node = with_attempt_3().restart();
    let last = u32::MAX;
    node.append(&format!("{last}.log"), at(50, "now"));
    let told = told(&mut node);
    assert_eq!((told.len(), &*told[8]), (9, "stdout:now"));
    assert_eq!(
        (&*told[0], &*told[7]),
        (&*format!("{}:vanished:0 03..50", last - 8), &*format!("{}:vanished:0 03..50", last - 1))
    );
}

#[test]
fn where_nothing_is_mounted_no_container_is_forgotten() {
    let node = with_attempt_3();
    let away = node.dir.path().join("away");
    fs::rename(node.dir.path().join("ns_pod_uid"), &away).unwrap();
    let mut node = node.restart();
    assert_eq!(told(&mut node), [""; 0]);
    fs::rename(away, node.dir.path().join("ns_pod_uid")).unwrap();
    let mut node = node.restart();
    node.append("5.log", at(5, "five"));
    assert_eq!(told(&mut node), ["4:vanished:0 03..05", "stdout:five"]);
}

#[test]
fn rotations_that_came_and_went_are_within_the_gap_of_the_file_before_them() {
    let mut node = Node::new(StartFrom::Beginning, true);
    node.append("0.log", at(1, "1") + &at(2, "2"));
    assert_eq!(node.run(), ["stdout:1", "stdout:2"]);
    node.settle();
    node.check_books();
    node.append("0.log", at(3, "3"));
    node.look();
    node.check_books();
    let mut node = node.restart();
    node.remove("0.log");
    node.append("0.log.20251026-101540", at(40, "40"));
    node.append("0.log", at(50, "50"));
    let bytes = at(3, "3").len();
    assert_eq!(told(&mut node), [format!("0:vanished:{bytes} 02..40"), "stdout:40".into(), "stdout:50".into()]);
}

#[test]
fn a_line_that_was_read_and_not_stored_is_within_the_gap() {
    let mut node = Node::new(StartFrom::Beginning, true);
    node.append("0.log", at(1, "1"));
    assert_eq!(node.run(), ["stdout:1"]);
    node.settle();
    node.check_books();
    // Read, in an open block, and looked at again and again.
    node.append("0.log", at(2, "2"));
    node.look();
    node.read();
    node.check_books();
    node.check_books();
    let mut node = node.restart();
    node.remove("0.log");
    node.append("0.log", at(50, "50"));
    assert_eq!(told(&mut node), [format!("0:vanished:{} 01..50", at(2, "2").len()), "stdout:50".into()]);
}

#[test]
fn beside_a_full_set_of_rotated_files_of_a_new_container_older_ones_may_have_been() {
    let mut node = with_attempt_3().restart();
    for (container, rotated) in [("full", 4), ("few", 3)] {
        for n in 0..rotated {
            node.append(&format!("../{container}/0.log.20251026-10151{n}"), at(10 + n, container));
        }
        node.append(&format!("../{container}/0.log"), at(30, container));
    }
    let gaps: Vec<_> = told(&mut node).into_iter().filter(|told| told.contains("vanished")).collect();
    assert_eq!(gaps, ["0:vanished:0 -..10"]);
    let mut node = node.restart();
    assert_eq!(told(&mut node), [""; 0]);
}

#[test]
fn a_first_start_beside_a_full_set_of_rotated_files_misses_nothing() {
    let mut node = Node::new(StartFrom::Beginning, true);
    for n in 0..4 {
        node.append(&format!("0.log.20251026-10151{n}"), at(10 + n, "rotated"));
    }
    node.append("0.log", at(30, "live"));
    assert_eq!(told(&mut node).len(), 5);
}

#[test]
fn a_file_that_was_empty_when_it_was_opened_has_its_place_once_it_is_put_aside() {
    let mut node = Node::new(StartFrom::Beginning, true);
    node.append("0.log", at(1, "1"));
    node.look();
    node.rename("0.log", "0.log.20251026-101530");
    node.append("0.log", "");
    node.look();
    node.append("0.log", at(3, "3"));
    node.rename("0.log", "0.log.20251026-101540");
    node.append("0.log", at(5, "5"));
    assert_eq!(node.run(), ["stdout:1", "stdout:3", "stdout:5"]);
}

#[test]
fn files_that_were_put_aside_and_read_leave_one_gap_together_behind_the_youngest() {
    let mut node = Node::new(StartFrom::Beginning, true);
    for n in 0..4 {
        node.append("0.log", at(n, &n.to_string()));
        node.rename("0.log", &format!("0.log.20251026-10151{n}"));
    }
    node.append("0.log", at(9, "live"));
    assert_eq!(node.run().len(), 5);
    node.settle();
    node.check_books();
    let mut node = node.restart();
    fs::remove_dir_all(node.dir.path().join("ns_pod_uid/app")).unwrap();
    node.append("0.log", at(50, "50"));
    assert_eq!(told(&mut node), ["0:vanished:0 09..50", "stdout:50"]);
}

#[test]
fn where_no_pods_are_mounted_beside_a_file_of_the_node_nothing_of_theirs_is_told() {
    let mut node = with_attempt_3();
    fs::write(node.host_path(), "one\n").unwrap();
    assert_eq!(node.run_host(), ["host:one"]);
    node.check_books();
    fs::rename(node.dir.path().join("ns_pod_uid"), node.dir.path().join("away")).unwrap();
    let mut node = node.restart();
    node.look_at_host();
    assert_eq!(told(&mut node), [""; 0]);
}

/// What a running agent tells where it looks again.
fn told_while_it_runs(node: &mut Node) -> Vec<String> {
    node.look();
    node.wait(1);
    node.read();
    node.check_books();
    node.deliver_records().iter().map(describe).collect()
}

#[test]
fn rotations_that_a_running_agent_never_saw_are_told_as_well() {
    let mut node = Node::new(StartFrom::Beginning, true);
    node.append("0.log", at(1, "1"));
    assert_eq!(node.run(), ["stdout:1"]);
    for (since, first, second) in [(1, 20, 30), (30, 40, 50)] {
        fs::remove_dir_all(node.path("0.log").parent().unwrap()).unwrap();
        node.append(&format!("0.log.20251026-1015{first}"), at(first, "rotated"));
        node.append("0.log", at(second, "live"));
        assert_eq!(
            told_while_it_runs(&mut node),
            [format!("0:vanished:0 {since:02}..{first}"), "stdout:rotated".into(), "stdout:live".into()]
        );
    }
    node.wait(20);
    node.wait(20);
    let mut node = node.restart();
    assert_eq!(told(&mut node), [""; 0]);
}

#[test]
fn a_rotation_of_which_the_agent_knows_what_came_before_misses_nothing() {
    let mut node = Node::new(StartFrom::Beginning, true);
    node.append("0.log", at(1, "1"));
    assert_eq!(node.run(), ["stdout:1"]);
    node.rename("0.log", "0.log.20251026-101520");
    node.append("0.log", at(2, "2"));
    assert_eq!(told_while_it_runs(&mut node), ["stdout:2"]);
    // Somebody removes it, and it is made again.
    node.remove("0.log");
    node.remove("0.log.20251026-101520");
    node.append("0.log", at(3, "3"));
    assert_eq!(told_while_it_runs(&mut node), ["stdout:3"]);
}

#[test]
fn what_was_renamed_while_its_directory_was_listed_is_met_by_the_next_look() {
    let mut node = Node::new(StartFrom::Beginning, true);
    node.append("0.log", at(1, "1"));
    assert_eq!(node.run(), ["stdout:1"]);
    node.check_books();
    let mut node = node.restart();
    let listed = node.listed();
    node.rename("0.log", "0.log.20251026-101520");
    node.append("0.log", at(2, "2"));
    node.tailer.reconcile(&listed, &mut node.lanes, &mut node.positions);
    assert_eq!(node.tailer.unmet(&node.positions).len(), 1);
    node.look();
    assert!(node.tailer.unmet(&node.positions).is_empty());
    node.tell_losses();
    assert_eq!(node.run(), ["stdout:2"], "no gap");
}
