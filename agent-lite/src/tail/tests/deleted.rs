//! Files that are deleted before they are read, and what is told of them.

use super::*;

#[test]
fn deleted_files_beyond_the_bound_are_given_up_oldest_first_and_told() {
    let mut node = Node::new(StartFrom::Beginning, true);
    // The lane is held back, so that nothing is read.
    node.append("0.log", at(1, "first"));
    node.look();
    let lane = node.lanes.lane(Category::Application, &"ns".into());
    node.lanes.pause(lane, node.now + Duration::from_secs(500));
    for n in 1..6 {
        node.remove(&format!("{}.log", n - 1));
        node.append(&format!("{n}.log"), at(n, &n.to_string()));
        node.look();
    }
    node.wait(1);
    assert_eq!(node.tailer.totals().1, 5, "four deleted ones and the live one");
    node.lanes.resume(node.now + Duration::from_secs(500));
    node.read();
    let lost = at(1, "first").len();
    let mut messages = node.deliver();
    messages.sort();
    assert_eq!(messages[..2], [format!("gap:deleted:{lost}"), "stdout:1".to_owned()]);
    assert_eq!(messages.len(), 6);
    assert!(node.is_settled());
}

#[test]
fn deleted_files_are_given_up_by_their_bytes_too() {
    let mut node = Node::new(StartFrom::Beginning, true);
    let text: String = (0..20_000).map(|n| at(1, &format!("line {n:05} {}", "x".repeat(50)))).collect();
    node.append("0.log", &text);
    node.look();
    let lane = node.lanes.lane(Category::Application, &"ns".into());
    node.lanes.pause(lane, node.now + Duration::from_secs(500));
    node.remove("0.log");
    node.look();
    node.wait(1);
    assert_eq!(node.tailer.totals().1, 0);
    node.lanes.resume(node.now + Duration::from_secs(500));
    assert_eq!(node.deliver(), [format!("gap:deleted:{}", text.len())]);
    assert!(node.is_settled());
}

#[test]
fn a_gap_is_told_once_whatever_happens_before_its_record_is_stored() {
    let mut node = Node::new(StartFrom::Beginning, true);
    let text: String = (0..20_000).map(|n| at(1, &format!("line {n:05} {}", "x".repeat(50)))).collect();
    node.append("0.log", &text);
    node.append("1.log", at(5, "other"));
    node.look();
    let lane = node.lanes.lane(Category::Application, &"ns".into());
    node.lanes.pause(lane, node.now + Duration::from_secs(500));
    node.remove("0.log");
    node.look();
    node.wait(1);
    // Killed: the record was in an open block.
    let mut node = node.restart_and_tell();
    assert_eq!(node.run(), [format!("gap:deleted:{}", text.len()), "stdout:other".to_owned()]);
    let mut node = node.restart_and_tell();
    assert_eq!(node.run(), [""; 0]);
    assert!(node.is_settled());
}

#[test]
fn a_file_that_went_while_no_agent_looked_leaves_a_gap() {
    let mut node = Node::new(StartFrom::Beginning, true);
    node.append("0.log", at(1, "1"));
    assert_eq!(node.run(), ["stdout:1"]);
    node.append("0.log", at(2, "never read"));
    node.look();
    node.check_books();
    let mut node = node.restart();
    node.remove("0.log");
    node.append("1.log", at(3, "3"));
    node.tell_losses();
    assert_eq!(node.run(), [format!("gap:vanished:{}", at(2, "never read").len()), "stdout:3".to_owned()]);
    node.assert_told_once();
}

#[test]
fn a_live_file_that_went_while_no_agent_looked_may_have_had_more() {
    let mut node = Node::new(StartFrom::Beginning, true);
    node.append("0.log", at(1, "1"));
    assert_eq!(node.run(), ["stdout:1"]);
    let mut node = node.restart();
    node.append("0.log", at(2, "written and deleted while no agent ran"));
    node.remove("0.log");
    node.append("1.log", at(3, "3"));
    node.tell_losses();
    assert_eq!(node.run(), ["gap:vanished:0", "stdout:3"]);
    assert_eq!(node.restart().run(), [""; 0]);
}

#[test]
fn a_pod_that_went_before_the_agents_eyes_leaves_no_gap_where_the_agent_is_killed_at_once() {
    for (more, told) in [(String::new(), None), (at(2, "2"), Some("gap:vanished:"))] {
        let mut node = Node::new(StartFrom::Beginning, true);
        node.append("0.log", at(1, "1"));
        node.append("../other/0.log", at(2, "other"));
        assert_eq!(node.run().len(), 2);
        // What it wrote last was not read.
        node.append("0.log", &more);
        fs::remove_dir_all(node.dir.path().join("ns_pod_uid/app")).unwrap();
        node.look();
        node.check_books();
        let sent = node.restart_and_tell().run();
        assert_eq!(sent.len(), usize::from(told.is_some()), "{sent:?}");
        assert!(sent.iter().all(|gap| gap.starts_with(told.unwrap_or("none"))), "{sent:?}");
    }
}

#[test]
fn a_file_that_was_read_to_its_end_leaves_no_gap() {
    let mut node = Node::new(StartFrom::Beginning, true);
    node.append("0.log", at(1, "1"));
    node.rename("0.log", "0.log.20251026-101530");
    node.append("0.log", at(2, "2"));
    assert_eq!(node.run(), ["stdout:1", "stdout:2"]);
    node.wait(20);
    let mut node = node.restart();
    node.remove("0.log.20251026-101530");
    node.tell_losses();
    assert_eq!(node.run(), [""; 0]);
}

#[test]
fn where_nothing_at_all_is_to_be_seen_nothing_is_told() {
    let mut node = Node::new(StartFrom::Beginning, true);
    node.append("0.log", at(1, "1"));
    assert_eq!(node.run(), ["stdout:1"]);
    let mut node = node.restart();
    fs::remove_dir_all(node.dir.path().join("ns_pod_uid")).unwrap();
    node.tell_losses();
    assert_eq!(node.run(), [""; 0]);
}

#[test]
fn a_truncation_books_what_was_not_read() {
    let mut node = Node::new(StartFrom::Beginning, true);
    node.append("0.log", at(1, "1"));
    assert_eq!(node.run(), ["stdout:1"]);
    node.append("0.log", at(2, "lost"));
    node.look();
    fs::write(node.path("0.log"), at(3, "")).unwrap();
    node.wait(1);
    assert_eq!(node.run(), [format!("gap:truncated:{}", at(2, "lost").len()), "stdout:".to_owned()]);
    assert!(node.is_settled());
}

#[test]
fn torn_and_old_lines_are_booked_once_over_restarts() {
    let since = time::parse(b"2025-10-26T10:15:10Z").unwrap();
    let mut node = Node::new(StartFrom::Since(since), true);
    node.append("0.log", at(5, "old") + "torn\n" + &at(20, "new") + "torn too\n");
    node.append("0.log", "2025-10-26T10:15:30.1Z stderr P waits \n");
    assert_eq!(node.run(), ["stdout:new"]);
    let mut node = Node::over(node.dir, node.positions, StartFrom::Since(since), false);
    assert_eq!(node.run(), [""; 0]);
    let page = node.check_books().remove(0);
    assert_eq!(page.abandoned[&Abandoned::Torn], 14);
    assert_eq!(page.abandoned[&Abandoned::TooOld], at(5, "old").len() as u64);
    assert_eq!(page.acknowledged, at(20, "new").len() as u64);
    assert_eq!(page.held, "2025-10-26T10:15:30.1Z stderr P waits \n".len() as u64);
}

#[test]
fn a_file_that_went_while_another_got_its_name_leaves_a_gap() {
    let mut node = Node::new(StartFrom::Beginning, true);
    node.append("0.log", at(1, "1"));
    assert_eq!(node.run(), ["stdout:1"]);
    // While no agent runs: written, rotated away and removed.
    node.append("0.log", at(2, "never seen"));
    node.remove("0.log");
    node.append("0.log", at(3, "3"));
    let mut node = node.restart_and_tell();
    assert_eq!(node.run(), ["gap:vanished:0", "stdout:3"]);
    node.assert_told_once();
}

#[test]
fn files_that_came_and_went_while_no_agent_ran_leave_a_gap_behind_the_last_one_that_was_read() {
    let mut node = Node::new(StartFrom::Beginning, true);
    node.append("0.log", at(1, "1"));
    node.rename("0.log", "0.log.20251026-101530");
    node.append("0.log", at(2, "2"));
    assert_eq!(node.run(), ["stdout:1", "stdout:2"]);
    node.wait(20);
    node.rename("0.log", "0.log.20251026-101540");
    node.append("0.log", at(3, "3"));
    assert_eq!(node.run(), ["stdout:3"]);
    node.wait(20);
    node.read();
    node.wait(20);
    // The live file goes unread, and so does one that was never seen.
    let mut node = node.restart();
    ["0.log", "0.log.20251026-101530", "0.log.20251026-101540"].iter().for_each(|name| node.remove(name));
    node.append("0.log.20251026-101700.gz", "");
    node.remove("0.log.20251026-101700.gz");
    node.append("0.log", at(50, "5"));
    node.tell_losses();
    node.check_books();
    let told = node.run();
    assert_eq!(told.iter().filter(|message| message.starts_with("gap:vanished")).count(), 1, "{told:?}");
    assert_eq!(told.last().map(String::as_str), Some("stdout:5"));
    // All that was known was finished, and what is here was never seen.
    node.rename("0.log", "0.log.20251026-101800");
    node.append("0.log", at(51, "6"));
    node.run();
    node.wait(20);
    node.check_books();
    let mut node = node.restart();
    node.remove("0.log.20251026-101800");
    node.tell_losses();
    assert_eq!(node.run(), [""; 0], "what follows on it is here");
}

#[test]
fn a_file_that_was_truncated_leaves_no_gap_behind_at_the_next_start() {
    let mut node = Node::new(StartFrom::Beginning, true);
    node.append("0.log", at(1, "one") + &at(2, "two"));
    node.run();
    fs::write(node.path("0.log"), at(3, "3")).unwrap();
    node.wait(1);
    assert_eq!(node.run(), ["stdout:3"]);
    node.check_books();
    node.assert_told_once();
}

#[test]
fn a_link_whose_target_cannot_be_seen_is_not_gone() {
    let mut node = Node::new(StartFrom::Beginning, true);
    let elsewhere = tempfile::tempdir().unwrap();
    let target = elsewhere.path().join("container-json.log");
    fs::write(&target, at(1, "1")).unwrap();
    fs::create_dir_all(node.path("0.log").parent().unwrap()).unwrap();
    std::os::unix::fs::symlink(&target, node.path("0.log")).unwrap();
    node.append("../other/0.log", at(1, "other"));
    assert_eq!(node.run().len(), 2);
    node.check_books();
    let mut node = node.restart();
    fs::remove_file(&target).unwrap();
    node.tell_losses();
    assert_eq!(node.run(), [""; 0]);
}

#[test]
fn a_gone_file_is_kept_until_the_line_that_begins_in_it_has_ended() {
    let mut node = Node::new(StartFrom::Beginning, true);
    node.append("0.log", "2025-10-26T10:15:01.1Z stdout P begun \n");
    node.rename("0.log", "0.log.20251026-101530");
    node.append("0.log", "2025-10-26T10:15:02.1Z stderr F other\n");
    assert_eq!(node.run(), ["stderr:other"]);
    node.wait(20);
    node.remove("0.log.20251026-101530");
    node.look();
    node.wait(1);
    node.append("0.log", "2025-10-26T10:15:03.1Z stdout F ended\n");
    assert_eq!(node.run(), ["stdout:begun ended"]);
    assert!(node.is_settled());
}

#[test]
fn deleted_files_whose_log_waits_for_its_pod_count_although_the_spool_has_room() {
    let mut node = Node::new(StartFrom::Beginning, true);
    node.lanes.set_spool_has_room(true);
    for n in 0..6 {
        node.append(&format!("{n}.log"), at(n, &n.to_string()));
    }
    node.look();
    let now = node.now;
    node.tailer.logs.iter_mut().for_each(|log| log.wait_for_pod(now));
    for n in 0..5 {
        node.remove(&format!("{n}.log"));
        node.look();
    }
    node.wait(1);
    node.read();
    assert_eq!(node.deliver(), ["stdout:0"], "rather undescribed than lost");
    let page = node.check_books().remove(0);
    assert!(!page.abandoned.contains_key(&Abandoned::Deleted), "{page:?}");
    assert_eq!((node.tailer.undescribed(), node.tailer.take_counts().undescribed), (5, 1));
}

#[test]
fn a_deleted_pods_files_that_were_read_to_their_ends_leave_no_gap_at_the_next_start() {
    let mut node = Node::new(StartFrom::Beginning, true);
    node.append("0.log", at(1, "1"));
    node.append("../other/0.log", at(2, "other"));
    assert_eq!(node.run().len(), 2);
    node.read();
    node.wait(20);
    fs::remove_dir_all(node.dir.path().join("ns_pod_uid/app")).unwrap();
    node.look();
    node.wait(1);
    assert_eq!(node.tailer.totals().0, 1, "let go with its log");
    node.assert_told_once();
}

#[test]
fn a_file_that_was_truncated_and_went_while_no_agent_looked_leaves_one_gap() {
    let mut node = Node::new(StartFrom::Beginning, true);
    node.append("0.log", at(1, "other"));
    node.run();
    fs::write(node.host_path(), "# version 1\none\n").unwrap();
    assert_eq!(node.run_host().len(), 2);
    fs::write(node.host_path(), "# version 1\n").unwrap();
    node.wait(1);
    assert_eq!(node.run_host(), ["host:# version 1"]);
    node.check_books();
    let mut node = node.restart();
    fs::remove_file(node.host_path()).unwrap();
    node.look_at_host();
    node.tell_losses();
    assert_eq!(node.run(), ["gap:vanished:0"], "of what it was called first nothing is missing");
}

/// Holds the lane, and deletes so many files of another container.
fn delete_others(node: &mut Node, count: u32) {
    for n in 0..count {
        node.append(&format!("../other/{n}.log"), at(n, &format!("other {n}")));
        node.look();
        node.remove(&format!("../other/{n}.log"));
        node.look();
    }
    node.wait(1);
}

#[test]
fn a_line_that_begins_in_a_deleted_file_that_is_given_up_goes_as_it_is() {
    let mut node = Node::new(StartFrom::Beginning, true);
    node.append("0.log", "2025-10-26T10:15:01.1Z stdout P begun \n");
    node.rename("0.log", "0.log.20251026-101530");
    node.append("0.log", "2025-10-26T10:15:02.1Z stderr F other\n");
    assert_eq!(node.run(), ["stderr:other"]);
    let lane = node.lanes.lane(Category::Application, &"ns".into());
    node.lanes.pause(lane, node.now + Duration::from_secs(500));
    node.remove("0.log.20251026-101530");
    node.look();
    delete_others(&mut node, 4);
    node.lanes.resume(node.now + Duration::from_secs(500));
    node.append("0.log", "2025-10-26T10:15:03.1Z stdout F ended\n");
    let sent: Vec<String> = node.run().into_iter().filter(|message| !message.contains("other")).collect();
    assert_eq!(sent, ["stdout:begun ", "stdout:ended"]);
    node.read();
    node.wait(20);
    assert!(node.is_settled());
    node.assert_told_once();
}

#[test]
fn a_line_whose_end_is_given_up_does_not_go_on_in_the_next_one() {
    let mut node = Node::new(StartFrom::Beginning, true);
    let end = "2025-10-26T10:15:02.1Z stdout F ended\n";
    node.append("0.log", "2025-10-26T10:15:01.1Z stdout P begun \n");
    node.rename("0.log", "0.log.20251026-101530");
    assert_eq!(node.run(), [""; 0]);
    let lane = node.lanes.lane(Category::Application, &"ns".into());
    node.lanes.pause(lane, node.now + Duration::from_secs(500));
    node.append("0.log", end);
    node.rename("0.log", "0.log.20251026-101540");
    node.append("0.log", at(3, "next"));
    node.look();
    node.remove("0.log.20251026-101530");
    node.remove("0.log.20251026-101540");
    node.look();
    delete_others(&mut node, 4);
    node.lanes.resume(node.now + Duration::from_secs(500));
    let sent: Vec<String> = node.run().into_iter().filter(|message| !message.contains("other")).collect();
    assert_eq!(sent, ["stdout:begun ".into(), format!("gap:deleted:{}", end.len()), "stdout:next".into()]);
    assert!(node.is_settled());
}
