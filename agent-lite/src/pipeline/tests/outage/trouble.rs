//! A spool that is full, damaged or cannot be written; blocks that are refused or cut; a producer that is new.

use super::*;

#[tokio::test]
async fn a_spool_that_cannot_be_written_costs_nothing_while_the_agent_runs() {
    let mut node = Node::new().await;
    node.write("0.log", 0..300);
    node.look_and_read_nothing();
    node.delete();
    // No block fits; the spool is told to have room, so that one is tried.
    let directory = spool::directory(&node.dir.path().join("small"));
    node.agent().spooling.spool = Some(Spool::open(&directory, 8 << 20).unwrap().0);
    node.agent().spooling.spool.as_mut().unwrap().fill();
    node.agent().lanes.set_spool_has_room(true);
    let agent = node.agent();
    agent.scan();
    agent.tailer.read(&mut agent.lanes, &mut agent.positions, Instant::now(), wall_ns());
    node.look_and_read();
    node.keep_house(10).await;
    assert!(node.agent().metrics.spool_errors.get() > 0);
    assert_eq!((node.agent().tailer.totals().1, node.in_spool()), (1, 0), "it is held open");
    node.deliver().await;
    node.assert_lines(0..300);
}

#[tokio::test]
async fn refused_blocks_of_deleted_files_are_in_the_spool_before_they_leave_the_ring() {
    let mut node = Node::new().await;
    node.write("0.log", 0..300);
    node.agent().scan();
    node.look_and_read();
    // All have numbers, and are on their way.
    node.gateway.state().refusals = 1;
    node.gateway.state().slow = true;
    node.until(|_, gateway| gateway.state().requests == 1).await;
    node.delete();
    node.look_and_read();
    assert_eq!(node.in_spool(), 0, "they are in the ring");
    node.gateway.state().slow = false;
    node.gateway.may_answer.notify_one();
    // Refused; the first goes again, under another number, and takes all of them out of the ring.
    node.gateway.state().silent = true;
    node.until(|_, gateway| gateway.state().requests == 2).await;
    node.gateway.state().silent = false;
    node.come_back().await;
    node.assert_lines(0..300);
}

#[tokio::test]
async fn refusals_of_spooled_blocks_change_neither_their_order_nor_their_number() {
    let mut node = node_with_spooled_lines().await;
    for _ in 0..3 {
        node.release();
        node.gateway.state().refusals = 2;
        let before = node.gateway.state().requests;
        node.until(|_, gateway| gateway.state().requests > before + 3).await;
        node.kill();
        node.start();
        node.look_and_read();
    }
    node.deliver().await;
    node.assert_lines(0..300);
}

#[tokio::test]
async fn a_new_producer_keeps_the_spool() {
    let mut node = node_with_spooled_lines().await;
    node.keep_house(0).await;
    let producer = node.agent().numbers.producer;
    node.kill();
    fs::write(node.dir.path().join("state/checkpoint.json"), "torn").unwrap();
    node.start();
    assert_ne!(node.agent().numbers.producer, producer);
    node.deliver().await;
    node.assert_lines(0..300);
}

#[tokio::test]
async fn where_the_spool_is_full_files_are_held_open_and_nothing_is_lost() {
    let mut node = Node::new().await;
    let state = node.dir.path().join("state");
    node.agent().spooling.spool = None;
    let spool = Spool::open(&spool::directory(&state), 8 << 20).unwrap().0;
    node.agent().spooling.spool = Some(spool);
    fs::create_dir_all(node.path("")).unwrap();
    // Does not compress to less than its half.
    let word = |n: u64| format!("{:032x}", u128::from(n).wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835));
    let content = |n: u64| (0..30).map(|at| word(n * 30 + at)).collect::<String>();
    let lines = 20_000;
    let text: String = (0..lines).map(|n| format!("2025-10-26T10:15:30.{n:09}Z stdout F {}\n", content(n))).collect();
    fs::write(node.path("0.log"), &text).unwrap();
    node.look_and_read_nothing();
    node.delete();
    node.look_and_read();
    node.keep_house(10).await;
    let (_, open, unread) = node.agent().tailer.totals();
    assert_eq!((open, unread > 0), (1, true));
    assert!(node.agent().metrics.spool_errors.get() > 0);
    // The wheel: as room comes, more is read.
    node.release();
    while node.agent().tailer.totals().2 > 0 || !node.agent().lanes.is_empty() {
        node.until(|agent, _| agent.lanes.is_empty()).await;
        node.keep_house(0).await;
        node.look_and_read();
    }
    let expected: Vec<String> = (0..lines).map(content).collect();
    assert!(node.messages() == expected, "{} lines", node.messages().len());
    assert_eq!(node.in_spool(), 0);
}

#[tokio::test]
async fn what_is_damaged_in_the_spool_becomes_a_gap_and_the_rest_is_sent() {
    let mut node = node_with_spooled_lines().await;
    // Where nothing is to be seen, nothing is told of either.
    node.write_other(900..901);
    node.keep_house(0).await;
    node.keep_house(6).await;
    node.kill();
    let log = fs::read_dir(node.dir.path().join("state/spool")).unwrap().map(|entry| entry.unwrap().path());
    let log = log.filter(|path| path.extension().is_some_and(|extension| extension == "log")).max().unwrap();
    let mut bytes = fs::read(&log).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&log, bytes).unwrap();
    node.start();
    node.deliver().await;
    let messages = node.messages();
    assert!(messages.contains(&content(900)));
    let messages = messages.into_iter().filter(|message| *message != content(900));
    let (gaps, lines): (Vec<String>, Vec<String>) = messages.partition(|message| message.starts_with("gap:vanished:"));
    assert!(lines.len() > 50 && lines.len() < 300);
    let expected: Vec<String> = (0..300).map(content).filter(|content| lines.contains(content)).collect();
    assert_eq!(lines, expected);
    let lost: usize = (0..300).filter(|n| !lines.contains(&content(*n))).map(|n| line(n).len()).sum();
    assert_eq!(gaps, [format!("gap:vanished:{lost}")]);
    let page = node.agent().close_books().into_iter().find(|page| page.log.contains("pod_uid")).unwrap();
    assert_eq!((page.held, page.unread, page.abandoned[&Abandoned::Vanished]), (0, 0, lost as u64));
}

#[tokio::test]
async fn a_hole_in_the_spool_costs_what_was_in_it_and_what_can_be_read_again_is() {
    let mut node = Node::new().await;
    node.write("0.log", 0..100);
    node.write_other(500..600);
    node.agent().scan();
    node.look_and_read();
    node.delete();
    node.look_and_read();
    assert!(node.in_spool() > 2);
    // A block is gone, say with a power loss; those behind it follow on nothing.
    node.agent().spooling.spool.as_mut().unwrap().release([1]);
    node.keep_house(0).await;
    node.kill();
    node.start();
    assert!(node.agent().metrics.possible_duplicates.get() > 0);
    node.deliver().await;
    let messages = node.messages();
    assert!((500..600).all(|n| messages.contains(&content(n))), "the other file is there: all of it is read");
    assert!((0..100).filter(|n| messages.contains(&content(*n))).count() > 50);
    assert!(messages.iter().any(|message| message.starts_with("gap:vanished:")));
}

#[tokio::test]
async fn killed_between_the_pieces_of_a_spooled_block_every_line_comes_once() {
    let mut node = node_with_spooled_lines().await;
    node.release();
    node.gateway.state().too_large = 1;
    node.until(|_, gateway| gateway.state().requests > 0).await;
    node.until(|_, gateway| !gateway.state().messages.is_empty()).await;
    node.come_back().await;
    node.keep_house(0).await;
    node.assert_lines(0..300);
    assert_eq!(node.in_spool(), 0);
}

#[tokio::test]
async fn pieces_of_a_spooled_block_are_let_go_together() {
    let mut node = node_with_spooled_lines().await;
    node.gateway.state().too_large = 1;
    node.deliver().await;
    node.keep_house(0).await;
    node.assert_lines(0..300);
    assert_eq!(node.in_spool(), 0);
}

#[tokio::test]
async fn what_was_written_after_the_last_checkpoint_is_in_the_books() {
    let mut node = Node::new().await;
    node.write("0.log", 0..10);
    node.look_and_read_nothing();
    node.keep_house(0).await;
    node.write("0.log", 0..300);
    node.delete();
    node.look_and_read();
    node.come_back().await;
    node.assert_lines(0..300);
    assert_eq!(node.agent().close_books()[0].written, (0..300).map(|n| line(n).len() as u64).sum::<u64>());
}

#[tokio::test]
async fn what_is_told_or_received_once_more_is_not_taken_for_deleted() {
    use sluice_wire::Position;

    use crate::spool::{Found, Left};
    use crate::tail::{Gap, Sighting};
    let mut node = Node::new().await;
    let sequence: u128 = 7;
    let entries = crate::entries::source_id(&[b"journal:host/a.service", &sequence.to_le_bytes()]);
    let main = crate::entries::source_id(&[b"journal", &sequence.to_le_bytes()]);
    let (log, path): (Arc<str>, _) = ("journal".into(), PathBuf::from(format!("journal/s={sequence:032x}")));
    let agent = node.agent();
    agent.positions.settle(main, Stream::Whole, 10);
    let (fingerprint, reached) = (0, crate::tail::Reached::default());
    let sighting =
        Sighting { source: main, log: &log, books: &log, path: &path, size: 0, complete: true, fingerprint, reached };
    agent.positions.sight([sighting].into_iter());
    let journal = "journald: {directory: /nonexistent}\n";
    let directories = format!("state_directory: {0}/state\npods: {0}/pods\n{journal}", node.dir.path().display());
    let config = crate::config::for_tests(&directories);
    let agent = node.agent();
    agent.entries = start::entries(
        &config,
        &crate::tail::Labels { cluster: "c".into(), environment: "e".into(), node: "n".into() },
        crate::tail::StartFrom::Beginning,
        &mut agent.positions,
    );
    // Two gaps, of which the spool has lost the first one's record.
    let gap = |from: u64| Gap {
        log: "/x".into(),
        path: Path::new("/x").into(),
        source: 99,
        from,
        to: from + 1,
        bytes: 1,
        why: Abandoned::Truncated,
        since: 0,
        until: 0,
        number: 0,
    };
    let gaps = [1, 2].map(|from| agent.positions.open_gap(gap(from)).unwrap());
    let position = |source, start| (Position { source, stream: Stream::Whole, start, end: start + 5 }, Portion::of(5));
    let found = |record, shares| Found {
        record,
        place: record,
        category: Category::Host,
        scope: "a.service".into(),
        shares,
        records: 1,
    };
    let told = (Position { source: gaps[1].mark(), stream: Stream::Whole, start: 1, end: 2 }, Portion::default());
    // Entries from 20 on, before which some are missing; and a file that is gone.
    let blocks =
        vec![found(1, vec![position(entries, 20), told]), found(2, vec![position(entries, 40), position(55, 3)])];
    agent.take_up_spool(Left { blocks, damaged: 0 }, Agent::scan);
    assert_eq!(agent.positions.covered(entries, Stream::Whole), 0);
    assert_eq!(agent.positions.untold_gaps().len(), 2);
    // The first is nobody's loss; of the second only the file's lines count.
    assert_eq!((agent.lanes.stubs(), agent.positions.covered(55, Stream::Whole)), (1, 8));
}

#[tokio::test]
async fn files_that_were_hidden_for_long_are_not_sent_again() {
    let mut node = Node::new().await;
    node.write("0.log", 0..50);
    node.look_and_read();
    node.deliver().await;
    node.agent().tailer.take_counts();
    node.write("0.log", 0..60);
    node.look_and_read_nothing();
    node.keep_house(0).await;
    node.kill();
    let (pods, hidden) = (node.dir.path().join("pods"), node.dir.path().join("hidden"));
    fs::rename(&pods, &hidden).unwrap();
    node.start();
    for second in 0..2000 {
        node.agent().forget_unseen(Instant::now());
        if second % 100 == 0 {
            node.keep_house(0).await;
        }
    }
    let page = node.agent().close_books().remove(0);
    assert_eq!((page.unread, page.imbalance), ((50..60).map(|n| line(n).len() as i128).sum(), 0));
    fs::rename(&hidden, &pods).unwrap();
    node.deliver().await;
    node.assert_lines(0..60);
}

#[tokio::test]
async fn what_was_hidden_and_turns_out_to_be_gone_is_a_gap() {
    let mut node = Node::new().await;
    node.write("0.log", 0..60);
    node.look_and_read_nothing();
    node.keep_house(0).await;
    node.kill();
    let pods = node.dir.path().join("pods");
    fs::rename(&pods, node.dir.path().join("hidden")).unwrap();
    node.start();
    node.keep_house(0).await;
    // Mounted again, without that pod.
    node.write_other(900..901);
    for _ in 0..1000 {
        node.agent().forget_unseen(Instant::now());
    }
    node.deliver().await;
    let lost: usize = (0..60).map(|n| line(n).len()).sum();
    let messages = node.messages();
    assert_eq!(
        messages.iter().filter(|message| message.starts_with("gap:")).collect::<Vec<_>>(),
        [&format!("gap:vanished:{lost}")]
    );
    assert!(messages.contains(&content(900)));
}
