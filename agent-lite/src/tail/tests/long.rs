//! Lines longer than a record, a piece or the buffer.

use super::*;

#[test]
fn a_line_that_never_ends_holds_no_file_and_repeats_nothing() {
    let mut node = Node::new(StartFrom::Beginning, true);
    let piece = |n: usize| format!("{n:02}{}", "x".repeat((16 << 10) - 2));
    let mut sent = Vec::new();
    for n in 0..60 {
        node.append("0.log", line("stdout", "P", &piece(n)));
        if n % 7 == 6 {
            node.rename("0.log", &format!("0.log.20251026-1015{n:02}"));
        }
        sent.extend(node.run());
        if n == 33 {
            node = node.restart();
            node.look();
        }
        node.wait(11);
    }
    assert!(node.tailer.totals().1 <= 3, "{:?}", node.tailer.totals());
    node.append("0.log", line("stdout", "F", "end"));
    sent.extend(node.run());
    let joined: String = sent.iter().map(|part| part.strip_prefix("stdout:").unwrap()).collect();
    let expected = (0..60).map(piece).collect::<String>() + "end";
    assert!(joined == expected, "{} of {} bytes", joined.len(), expected.len());
}

#[test]
fn a_very_long_physical_line_is_one_piece_like_any_other() {
    let mut node = Node::new(StartFrom::Beginning, true);
    let long = "y".repeat(700_000);
    // stderr stays behind, so that a restart passes stdout's long line again.
    node.append("0.log", line("stderr", "P", "waits ") + &line("stdout", "P", "begun ") + &line("stdout", "P", &long));
    node.append("0.log", line("stdout", "F", "ended"));
    let joined = |parts: Vec<String>| -> String {
        parts.iter().map(|part| part.strip_prefix("stdout:").unwrap_or(part)).collect()
    };
    assert!(joined(node.run()) == format!("begun {long}ended"));
    let mut node = node.restart();
    node.append("0.log", line("stderr", "F", "no more"));
    assert_eq!(node.run(), ["stderr:waits no more"]);
}

#[test]
fn parts_of_a_line_are_numbered_one_by_one() {
    let mut node = Node::new(StartFrom::Beginning, true);
    // Escaped it is six times as long: each part is several records.
    fs::write(node.host_path(), "\u{1}".repeat(400_000) + "\n").unwrap();
    node.look_at_host();
    node.read();
    node.lanes.cut_all();
    let lane = node.lanes.sendable().next().unwrap();
    let mut checker = Checker::default();
    let mut parts = Vec::new();
    while let Some(block) = node.lanes.remove(lane, 0) {
        let raw = checker.check(&block.header, &block.payload, Depth::Json).unwrap();
        for record in raw.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
            let record: serde_json::Value = serde_json::from_slice(record).unwrap();
            parts.push(record["log_part"].as_u64().unwrap());
        }
    }
    assert!(parts.len() > 10);
    assert_eq!(parts, (1..=parts.len() as u64).collect::<Vec<_>>());
}

#[test]
fn a_line_of_many_megabytes_passes_in_parts_and_little_memory() {
    let mut node = Node::new(StartFrom::Beginning, true);
    let content = "é".repeat(5 << 20);
    node.append("0.log", out("before") + &out(&content) + &out("after"));
    let messages = node.run();
    assert_eq!(
        (messages.first().unwrap().as_str(), messages.last().unwrap().as_str()),
        ("stdout:before", "stdout:after")
    );
    let joined: String =
        messages[1..messages.len() - 1].iter().map(|part| part.strip_prefix("stdout:").unwrap()).collect();
    assert!(joined == content, "{} of {} bytes", joined.len(), content.len());
}

#[test]
fn a_hundred_megabytes_without_newline_or_header_are_stepped_over() {
    let mut node = Node::new(StartFrom::Beginning, true);
    node.append("0.log", out("before"));
    for _ in 0..100 {
        node.append("0.log", vec![b'x'; 1 << 20]);
    }
    node.append("0.log", "\n".to_owned() + &out("after"));
    assert_eq!(node.run(), ["stdout:before", "stdout:after"]);
    assert_eq!(node.tailer.take_counts().torn, 1);
}

#[test]
fn an_endless_partial_line_is_bounded_and_whole() {
    let mut node = Node::new(StartFrom::Beginning, true);
    let piece = "x".repeat(16 << 10);
    for _ in 0..40 {
        node.append("0.log", line("stdout", "P", &piece));
    }
    node.append("0.log", line("stdout", "F", "end"));
    let messages = node.run();
    assert!(messages.len() > 3);
    let joined: String = messages.iter().map(|part| part.strip_prefix("stdout:").unwrap()).collect();
    assert_eq!(joined.len(), 40 * (16 << 10) + 3);
}

#[test]
fn a_long_line_in_a_truncated_file_does_not_take_in_the_next_line() {
    let mut node = Node::new(StartFrom::Beginning, true);
    fs::write(node.host_path(), "x".repeat(400_000)).unwrap();
    let begun = node.run_host();
    fs::write(node.host_path(), "after\n").unwrap();
    node.wait(1);
    let ended = node.run_host();
    assert_eq!(ended[1..], ["gap:truncated:137856", "host:after"]);
    let parts = begun.iter().chain(&ended).filter(|part| !part.starts_with("gap"));
    let joined: usize = parts.map(|part| part.len() - "host:".len()).sum();
    assert_eq!(joined, 256 * 1024 + "after".len(), "what was read of it, and the line");
}

#[test]
fn a_long_line_that_a_rotation_leaves_without_an_end_is_ended_before_the_next_file() {
    for extra in [0, 1000] {
        let mut node = Node::new(StartFrom::Beginning, true);
        let length = 256 * 1024 * 2 - "2025-10-26T10:15:30.1Z stdout F ".len() + extra;
        let content = format!("{extra:04}{}", "y".repeat(length - 4));
        node.append("0.log", out(&content).trim_end());
        let mut sent = node.run();
        node.rename("0.log", "0.log.20251026-101530");
        node.append("0.log", out("next"));
        sent.extend(node.run());
        assert!(!sent.contains(&"stdout:next".to_owned()), "its end may still come");
        node.wait(20);
        sent.extend(node.run());
        assert!(sent.last().is_some_and(|last| last == "stdout:next"));
        let joined: String = sent[..sent.len() - 1].iter().map(|part| part.strip_prefix("stdout:").unwrap()).collect();
        assert!(joined == content, "{} of {} bytes", joined.len(), content.len());
        node.settle();
        assert_eq!(node.restart().run(), [""; 0], "covered");
    }
}

#[test]
fn many_endless_lines_are_bounded_together() {
    let mut node = Node::new(StartFrom::Beginning, true);
    let piece = "z".repeat(120 << 10);
    for pod in 0..40 {
        let directory = node.dir.path().join(format!("ns_pod-{pod}_uid-{pod}/app"));
        fs::create_dir_all(&directory).unwrap();
        fs::write(directory.join("0.log"), line("stdout", "P", &piece)).unwrap();
    }
    let mut sent = node.run();
    assert!(node.tailer.logs.iter().map(Log::pending_bytes).sum::<usize>() <= PENDING_BYTES);
    for pod in 0..40 {
        node.append(&format!("../../ns_pod-{pod}_uid-{pod}/app/0.log"), line("stdout", "F", "end"));
    }
    sent.extend(node.run());
    let whole: usize = sent.iter().map(|part| part.len() - "stdout:".len()).sum();
    assert_eq!(whole, 40 * (piece.len() + 3));
    assert!(node.is_settled());
}
