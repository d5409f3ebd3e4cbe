//! Rotated files that the kubelet has compressed.

use super::*;

const FIRST: &str = "0.log.20251026-101530";
const SECOND: &str = "0.log.20251026-101540";
const THIRD: &str = "0.log.20251026-101550";

/// `0.log` after two rotations: one compressed file, one plain, and the live one.
fn rotated_twice(node: &Node) {
    node.append("0.log", at(1, "1") + &at(2, "2"));
    node.rename("0.log", FIRST);
    node.append("0.log", at(3, "3"));
    node.gzip(FIRST);
    node.rename("0.log", SECOND);
    node.append("0.log", at(4, "4"));
}

#[test]
fn a_compressed_file_is_read_before_what_came_after_it() {
    let mut node = Node::new(StartFrom::Beginning, true);
    rotated_twice(&node);
    assert_eq!(node.run(), ["stdout:1", "stdout:2", "stdout:3", "stdout:4"]);
    assert!(node.is_settled());
}

#[test]
fn compressing_what_was_read_repeats_nothing_and_opens_nothing() {
    let mut node = Node::new(StartFrom::Beginning, true);
    node.append("0.log", at(1, "1"));
    node.rename("0.log", FIRST);
    node.append("0.log", at(2, "2"));
    assert_eq!(node.run(), ["stdout:1", "stdout:2"]);
    node.wait(20);
    node.gzip(FIRST);
    node.rename("0.log", SECOND);
    node.append("0.log", at(3, "3"));
    assert_eq!(node.run(), ["stdout:3"]);
    node.wait(20);
    assert_eq!(node.tailer.totals().1, 1, "only the live file");
}

#[test]
fn compressing_what_is_being_read_goes_on_in_the_open_file() {
    let mut node = Node::new(StartFrom::Beginning, true);
    node.append("0.log", at(1, "1"));
    assert_eq!(node.run(), ["stdout:1"]);
    node.append("0.log", at(2, "2"));
    node.rename("0.log", FIRST);
    node.append("0.log", at(3, "3"));
    node.look();
    node.gzip(FIRST);
    assert_eq!(node.run(), ["stdout:2", "stdout:3"]);
    assert!(node.is_settled());
}

#[test]
fn renamed_and_compressed_between_two_looks() {
    let mut node = Node::new(StartFrom::Beginning, true);
    node.append("0.log", at(1, "1"));
    assert_eq!(node.run(), ["stdout:1"]);
    node.append("0.log", at(2, "2"));
    node.rename("0.log", FIRST);
    node.append("0.log", at(3, "3"));
    node.gzip(FIRST);
    assert_eq!(node.run(), ["stdout:2", "stdout:3"]);
    node.wait(20);
    assert_eq!((node.tailer.totals().1, node.run()), (1, vec![]));
}

#[test]
fn an_agent_that_was_away_resumes_inside_a_compressed_file() {
    let mut node = Node::new(StartFrom::Beginning, true);
    node.append("0.log", at(1, "1"));
    assert_eq!(node.run(), ["stdout:1"]);
    node.append("0.log", at(2, "2") + &at(3, "3"));
    node.rename("0.log", FIRST);
    node.append("0.log", at(4, "4"));
    node.gzip(FIRST);
    node.rename("0.log", SECOND);
    node.append("0.log", at(5, "5"));
    let mut node = node.restart();
    assert_eq!(node.run(), ["stdout:2", "stdout:3", "stdout:4", "stdout:5"]);
    assert!(node.is_settled());
}

#[test]
fn away_over_five_rotations_loses_nothing_that_is_there() {
    let mut node = Node::new(StartFrom::Beginning, true);
    node.append("0.log", at(1, "1"));
    assert_eq!(node.run(), ["stdout:1"]);
    let name = |n: u32| format!("0.log.20251026-1016{n:02}");
    for n in 2..7 {
        node.append("0.log", at(n, &n.to_string()));
        node.rename("0.log", &name(n));
        if n > 2 {
            node.gzip(&name(n - 1));
        }
    }
    node.append("0.log", at(9, "9"));
    let mut node = node.restart_and_tell();
    assert_eq!(node.run(), ["stdout:2", "stdout:3", "stdout:4", "stdout:5", "stdout:6", "stdout:9"]);
}

#[test]
fn a_compressed_file_that_was_read_is_not_inflated_again_by_a_restart() {
    let mut node = Node::new(StartFrom::Beginning, true);
    rotated_twice(&node);
    node.run();
    node.settle();
    let mut node = node.restart();
    assert_eq!(node.run(), [""; 0]);
    node.settle();
    assert_eq!(node.tailer.take_counts().bytes, 0);
    node.wait(20);
    node.wait(20);
    assert_eq!(node.tailer.totals().1, 1, "the rotated ones are closed");
}

#[test]
fn a_line_cut_by_a_rotation_is_whole_also_out_of_a_compressed_file() {
    let mut node = Node::new(StartFrom::Beginning, true);
    node.append("0.log", at(1, "before") + "2025-10-26T10:15:02.1Z stdout P begun \n");
    node.append("0.log", "2025-10-26T10:15:02.2Z stderr P err \n");
    node.rename("0.log", FIRST);
    node.append("0.log", "2025-10-26T10:15:03.1Z stdout F ended\n");
    node.append("0.log", "2025-10-26T10:15:03.2Z stderr F or\n");
    node.gzip(FIRST);
    assert_eq!(node.run(), ["stdout:before", "stdout:begun ended", "stderr:err or"]);
    assert_eq!(node.restart().run(), [""; 0]);
}

#[test]
fn a_compressed_file_of_many_buffers_is_read_through_once() {
    let mut node = Node::new(StartFrom::Beginning, true);
    let text: String = (0..20_000).map(|n| at(1, &format!("line {n:05} {}", "x".repeat(50)))).collect();
    node.append(FIRST, &text);
    node.gzip(FIRST);
    node.append("0.log", at(2, "end"));
    let messages = node.run();
    assert_eq!(messages.len(), 20_001);
    assert!(messages[19_999].contains("line 19999") && messages[20_000] == "stdout:end");
    assert_eq!(node.tailer.take_counts().bytes, (text.len() + at(2, "end").len()) as u64);
}

#[test]
fn both_the_plain_and_the_compressed_file_for_a_moment() {
    let mut node = Node::new(StartFrom::Beginning, true);
    node.append(FIRST, at(1, "1"));
    node.append("0.log", at(2, "2"));
    let plain = fs::read(node.path(FIRST)).unwrap();
    node.gzip(FIRST);
    fs::write(node.path(FIRST), plain).unwrap();
    fs::write(node.path(&format!("{SECOND}.tmp")), "half").unwrap();
    assert_eq!(node.run(), ["stdout:1", "stdout:2"]);
    node.remove(FIRST);
    assert_eq!(node.run(), [""; 0]);
}

#[test]
fn a_damaged_compressed_file_costs_what_cannot_be_inflated_and_says_so() {
    let mut node = Node::new(StartFrom::Beginning, true);
    let mut random = 1_u64;
    let text: String = (0..5_000)
        .map(|n| {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            at(1, &format!("{n:05} {random:016x}"))
        })
        .collect();
    node.append(FIRST, &text);
    node.gzip(FIRST);
    let path = node.path(&format!("{FIRST}.gz"));
    let mut bytes = fs::read(&path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle..middle + 64].fill(0xff);
    fs::write(&path, bytes).unwrap();
    node.append("0.log", at(2, "after"));
    let messages = node.run();
    let read = messages.iter().filter(|message| message.starts_with("stdout:0")).count();
    assert!((1_000..4_000).contains(&read), "{read} lines before the damage");
    assert!(messages.iter().any(|message| message.starts_with("gap:damaged:")), "a record tells of it");
    let page = node.check_books().remove(0);
    // What was inflated behind the damage makes no lines.
    assert!(page.abandoned[&Abandoned::Torn] + page.abandoned[&Abandoned::Damaged] > 50_000, "{page:?}");
    assert_eq!(page.written, (text.len() + at(2, "after").len()) as u64);
    assert_eq!(messages.last().map(String::as_str), Some("stdout:after"));
    assert!(node.is_settled());
}

#[test]
fn what_is_no_gzip_costs_itself_only() {
    let mut node = Node::new(StartFrom::Beginning, true);
    fs::create_dir_all(node.path("0.log").parent().unwrap()).unwrap();
    fs::write(node.path(&format!("{FIRST}.gz")), "no gzip at all").unwrap();
    fs::write(node.path(&format!("{SECOND}.gz")), "").unwrap();
    node.append("0.log", at(2, "after"));
    // Not more than deflate can have made so few bytes of, whatever they say.
    let bytes = "no gzip at all".len() * 1032;
    assert_eq!(node.run(), [format!("gap:damaged:{bytes}"), "gap:damaged:0".into(), "stdout:after".to_owned()]);
    assert_eq!(node.tailer.take_counts().unreadable, 2);
    node.assert_told_once();
}

#[test]
fn files_are_in_order_also_when_the_clock_goes_back_in_autumn() {
    let mut node = Node::new(StartFrom::Beginning, true);
    // Rotated at 02:59:59 summer time, then at 02:10 winter time: the names sort the other way round.
    node.append("0.log.20251026-025959", "2025-10-26T02:30:00.1+02:00 stdout F 1\n");
    node.append("0.log.20251026-021000", "2025-10-26T02:05:00.1+01:00 stdout F 2\n");
    node.append("0.log", "2025-10-26T02:11:00.1+01:00 stdout F 3\n");
    assert_eq!(node.run(), ["stdout:1", "stdout:2", "stdout:3"]);
}

#[test]
fn no_more_compressed_files_are_inflated_at_a_time_than_may_be() {
    let mut node = Node::new(StartFrom::Beginning, true);
    let text: String = (0..10_000).map(|n| at(1, &format!("line {n:05} {}", "x".repeat(50)))).collect();
    for pod in 0..20 {
        let directory = node.dir.path().join(format!("ns_pod-{pod}_uid{pod}/app"));
        fs::create_dir_all(&directory).unwrap();
        let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
        encoder.write_all(text.as_bytes()).unwrap();
        fs::write(directory.join(format!("{THIRD}.gz")), encoder.finish().unwrap()).unwrap();
    }
    node.look();
    node.tailer.read(&mut node.lanes, &mut node.positions, node.now, 1_000);
    let inflating = |node: &Node| node.tailer.logs.iter().filter(|log| log.is_inflating()).count();
    assert_eq!(inflating(&node), INFLATING);
    node.read();
    assert_eq!(node.deliver().len(), 200_000);
    assert_eq!(node.tailer.take_counts().bytes, 20 * text.len() as u64, "each was inflated once");
}

#[test]
fn a_compressed_file_that_got_the_inode_of_a_closed_one_is_another() {
    let mut node = Node::new(StartFrom::Beginning, true);
    node.append(FIRST, at(1, "1"));
    node.gzip(FIRST);
    node.append("0.log", at(9, "live"));
    assert_eq!(node.run(), ["stdout:1", "stdout:live"]);
    node.wait(20);
    node.append(SECOND, at(2, "2"));
    node.gzip(SECOND);
    // The kubelet removes the oldest, and the next one has its inode.
    let (old, new) = (node.path(&format!("{FIRST}.gz")), node.path(&format!("{SECOND}.gz")));
    fs::write(&old, fs::read(&new).unwrap()).unwrap();
    fs::rename(old, new).unwrap();
    assert_eq!(node.run(), ["stdout:2"]);
}

/// Many lines, compressed, with `damage` done to the compressed bytes; and a live file.
fn damaged(lines: std::ops::Range<u32>, damage: impl FnOnce(&mut Vec<u8>)) -> (Node, String) {
    let node = Node::new(StartFrom::Beginning, true);
    let line = |n: u32| at(n % 60, &format!("{n:07} {:024x}", u128::from(n).wrapping_mul(0x9e37_79b9_7f4a_7c15 << 20)));
    let text: String = lines.map(line).collect();
    node.append(FIRST, &text);
    node.gzip(FIRST);
    let path = node.path(&format!("{FIRST}.gz"));
    let mut bytes = fs::read(&path).unwrap();
    damage(&mut bytes);
    fs::write(&path, bytes).unwrap();
    node.append("0.log", "2025-10-26T10:16:00.1Z stdout F after\n");
    (node, text)
}

/// The bytes of the one gap that is told, also over a restart, and how many lines are sent beside `after`.
fn told_of_damage(mut node: Node) -> (u64, usize) {
    let messages = node.run();
    let gaps: Vec<u64> =
        messages.iter().filter_map(|message| message.strip_prefix("gap:damaged:")?.parse().ok()).collect();
    assert_eq!(gaps.len(), 1, "{messages:?}");
    assert!(messages.iter().any(|message| message == "stdout:after"));
    assert_eq!(node.tailer.take_counts().unreadable, 1);
    assert!(node.is_settled());
    node.assert_told_once();
    (gaps[0], messages.len() - 2)
}

#[test]
fn a_file_that_is_damaged_before_its_first_line_is_told_of_once() {
    let (node, text) = damaged(0..5_000, |bytes| bytes[10..200].fill(0xff));
    assert_eq!(told_of_damage(node), (text.len() as u64, 0));
}

#[test]
fn a_file_whose_end_never_reached_the_disk_is_told_of_once() {
    let (node, _) = damaged(0..5_000, |bytes| {
        let middle = bytes.len() / 2;
        bytes[middle..].fill(0);
    });
    let (bytes, lines) = told_of_damage(node);
    assert_eq!(bytes, 0, "its trailer has no size, and nobody knows it");
    assert!((1_000..4_000).contains(&lines), "{lines}");
}

#[test]
fn a_compressed_file_that_was_cut_off_costs_no_more_than_it_can_have_held() {
    let mut compressed = 0;
    let (node, _) = damaged(0..5_000, |bytes| {
        bytes.truncate(bytes.len() / 2);
        let end = bytes.len() - 4;
        bytes[end..].fill(0xff);
        compressed = bytes.len() as u64;
    });
    let (bytes, _) = told_of_damage(node);
    assert!((1..=compressed * 1032).contains(&bytes), "{bytes} of {compressed}");
}

#[test]
fn a_compressed_file_is_read_to_its_end_whatever_its_trailer_says() {
    let mut node = Node::new(StartFrom::Beginning, true);
    node.append("0.log", at(2, "after"));
    // Whole lines fill the buffer.
    let text: String = (0..20_000).map(|n| at(1, &format!("{n:031}"))).collect();
    assert_eq!(BUFFER % at(1, &format!("{:031}", 0)).len(), 0);
    node.append(SECOND, &text);
    node.gzip(SECOND);
    let path = node.path(&format!("{SECOND}.gz"));
    let mut bytes = fs::read(&path).unwrap();
    let end = bytes.len() - 8;
    bytes[end..].fill(0);
    fs::write(&path, bytes).unwrap();
    assert_eq!(node.run().len(), 20_002, "with a gap, and what came after");
}
