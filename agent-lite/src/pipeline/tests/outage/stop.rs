//! A stop: what is deleted is read and completed, whatever it waits for.

use super::*;

impl Node {
    /// As SIGTERM does it, with so long to send.
    async fn stop(&mut self, drain: Duration) {
        let mut agent = self.agent.take().unwrap();
        agent.config.drain = drain;
        agent.drain().await;
    }

    fn append(&self, name: &str, text: &str) {
        use std::io::Write as _;
        fs::create_dir_all(self.path("")).unwrap();
        let file = fs::OpenOptions::new().create(true).append(true).open(self.path(name));
        file.unwrap().write_all(text.as_bytes()).unwrap();
    }
}

#[tokio::test]
async fn a_stop_does_not_wait_for_what_is_known_of_a_deleted_files_pod() {
    let mut node = Node::new().await;
    let agent = node.agent();
    let (pods, _never_asked) = enrich::start(&enrich::Settings::default(), "n", &agent.metrics.kubernetes);
    let tailer = std::mem::replace(&mut agent.tailer, for_tests());
    agent.tailer = tailer.with_pods(Some(pods));
    node.write("0.log", 0..300);
    node.look_and_read();
    node.delete();
    node.look_and_read();
    assert_eq!((node.agent().tailer.undescribed(), node.in_spool()), (1, 0), "it waits");
    node.stop(Duration::ZERO).await;
    node.start();
    node.deliver().await;
    node.assert_lines(0..300);
}

fn for_tests() -> Tailer {
    let labels = crate::tail::Labels { cluster: "c".into(), environment: "e".into(), node: "n".into() };
    let deleted = crate::tail::Deleted { files: 1, bytes: 1 };
    Tailer::new(labels, crate::tail::StartFrom::Beginning, deleted, crate::tail::Sharing::default(), false)
}

#[tokio::test]
async fn a_stop_does_not_wait_for_lanes_that_are_held_for_longer() {
    let mut node = Node::new().await;
    node.write("0.log", 0..300);
    node.look_and_read();
    node.hold();
    let stopped = tokio::time::timeout(Duration::from_secs(60), node.stop(Duration::from_secs(400))).await;
    assert!(stopped.is_ok(), "it waited for a lane that is held for 500 s");
    node.start();
    node.deliver().await;
    node.assert_lines(0..300);
}

#[tokio::test]
async fn a_stop_reads_what_stands_before_a_deleted_file_too() {
    let mut node = Node::new().await;
    node.write("0.log.20251026-101530", 0..200);
    node.write("0.log", 200..400);
    node.look_and_read_nothing();
    fs::remove_file(node.path("0.log")).unwrap();
    node.stop(Duration::ZERO).await;
    node.start();
    node.deliver().await;
    node.assert_lines(0..400);
}

#[tokio::test]
async fn a_stop_sends_what_was_begun_in_a_deleted_file() {
    let mut node = Node::new().await;
    let piece = "2025-10-26T10:15:30.000000001Z stdout P begun, \n";
    let torn = "2025-10-26T10:15:30.000000001Z stderr F without its newline";
    node.append("0.log", &(line(0) + piece + torn));
    node.look_and_read();
    node.delete();
    node.look_and_read();
    node.stop(Duration::ZERO).await;
    node.start();
    node.deliver().await;
    let messages: Vec<String> = node.messages().into_iter().filter(|message| !message.starts_with("gap")).collect();
    assert_eq!(messages, [content(0), "without its newline".to_owned(), "begun, ".to_owned()]);
    assert!(!node.messages().iter().any(|message| message.starts_with("gap") && *message != "gap:vanished:0"));
}

#[tokio::test]
async fn a_stop_without_a_spool_sends_what_is_deleted_while_it_may() {
    let mut node = Node::new().await;
    node.agent().spooling.spool = None;
    node.agent().lanes.set_spool_has_room(false);
    node.write("0.log", 0..3000);
    node.agent().scan();
    node.delete();
    node.stop(Duration::from_secs(20)).await;
    let expected: Vec<String> = (0..3000).map(content).collect();
    assert!(node.messages() == expected, "{} lines", node.messages().len());
}
