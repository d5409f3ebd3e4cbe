//! The node's own logs, end to end: host files over their rotations, the audit log, and a real journal read by
//! the real journalctl. Each line once, in its category, also where the agent is killed.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;
use sluice_harness::dirs::TestDir;
use sluice_harness::parts;
use sluice_tests::{PATIENCE, Plan, Stack, files_below};

/// Records of a category, as they were delivered, but for those that tell when no agent ran.
fn delivered(stack: &Stack, category: &str) -> Vec<Value> {
    let mut records = all_delivered(stack, category);
    records.retain(|record| !is_absence(record));
    records
}

fn is_absence(record: &Value) -> bool {
    record["sluice_gap_reason"] == "absent"
}

/// A line that is just being written is left for later.
fn all_delivered(stack: &Stack, category: &str) -> Vec<Value> {
    let files = files_below(&stack.delivered().join("main").join(category), ".jsonl");
    let texts = files.iter().map(|path| fs::read_to_string(path).expect("a delivered file"));
    texts
        .flat_map(|text| {
            let whole = text.rfind('\n').map_or(0, |end| end + 1);
            let lines = text[..whole].lines();
            lines.map(|line| serde_json::from_str(line).expect("a record")).collect::<Vec<Value>>()
        })
        .collect()
}

/// Waits until so many records of a category were delivered, and gives all.
async fn until_delivered(stack: &Stack, category: &str, records: usize) -> Vec<Value> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let found = delivered(stack, category);
        if found.len() >= records {
            return found;
        }
        assert!(Instant::now() < deadline, "{} of {records} records: {}", found.len(), stack.agent.log());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// How often each message came, of those that `of` picks.
fn messages(records: &[Value], of: impl Fn(&Value) -> bool) -> BTreeMap<String, usize> {
    let mut counts = BTreeMap::new();
    for record in records.iter().filter(|record| of(record)) {
        *counts.entry(record["_msg"].as_str().expect("a message").to_owned()).or_default() += 1;
    }
    counts
}

/// `<word> 0`, `<word> 1`, …, each once.
fn numbered(word: &str, numbers: impl Iterator<Item = u64>) -> BTreeMap<String, usize> {
    numbers.map(|number| (format!("{word} {number}"), 1)).collect()
}

fn append(path: &Path, text: &str) {
    let mut file = OpenOptions::new().create(true).append(true).open(path).expect("a log file");
    file.write_all(text.as_bytes()).expect("written");
}

fn lines(word: &str, numbers: impl Iterator<Item = u64>) -> String {
    numbers.map(|number| format!("{word} {number}\n")).collect()
}

#[tokio::test]
async fn host_files_are_read_once_over_every_kind_of_rotation() {
    let node = TestDir::new("host-files").expect("a directory");
    let (messages_log, secure, cron) = (node.join("messages"), node.join("secure"), node.join("cron.log"));
    let agent = format!(
        "host:\n  - {{path: {0}/messages}}\n  - {{path: {0}/secure, unit: sshd, category: dataplane}}\n  \
         - {{path: '{0}/*.log'}}\n",
        node.path().display()
    );
    append(&messages_log, &lines("m", 0..100));
    append(&secure, &lines("s", 0..100));
    append(&cron, &lines("c", 0..100));
    fs::write(node.join("cron.log.2.gz"), "not read").expect("written");
    let mut stack = Stack::start("host", &Plan { agent, ..Plan::default() }).await.expect("a stack");
    until_delivered(&stack, "host", 200).await;

    // logrotate's way, while the agent looks: the daemon goes on in the renamed file for a while.
    fs::rename(&messages_log, node.join("messages.1")).expect("renamed");
    append(&node.join("messages.1"), &lines("m", 100..150));
    append(&messages_log, &lines("m", 150..200));
    // And copytruncate: what was read is taken away under the same inode.
    until_delivered(&stack, "dataplane", 100).await;
    fs::copy(&secure, node.join("secure.1")).expect("copied");
    File::options().write(true).open(&secure).expect("a log").set_len(0).expect("truncated");
    stack.until_agent("sluice_agent_truncated_files_total", &[], |files| files >= 1.0).await.expect("seen");
    append(&secure, &lines("s", 100..150));
    until_delivered(&stack, "host", 300).await;
    until_delivered(&stack, "dataplane", 150).await;

    // Two rotations while no agent runs; what was begun is read to its end, and what came between is read.
    append(&messages_log, &lines("m", 200..250));
    stack.agent.kill();
    append(&messages_log, &lines("m", 250..300));
    fs::rename(node.join("messages.1"), node.join("messages.3")).expect("renamed");
    fs::rename(&messages_log, node.join("messages.2")).expect("renamed");
    append(&node.join("messages.1"), &lines("m", 300..350));
    append(&messages_log, &lines("m", 350..400));
    // This one is compressed, too.
    append(&cron, &lines("c", 100..150));
    gzip(&cron, &node.join("cron.log.1.gz"));
    append(&cron, &lines("c", 150..200));
    stack.agent.restart().expect("an agent");
    stack.wait_for_agent().await.expect("an agent");
    let host = until_delivered(&stack, "host", 600).await;
    let unit = |name: &'static str| move |record: &Value| record["unit"] == name && record["log_type"] == "host";
    assert_eq!(messages(&host, unit("messages")), numbered("m", 0..400));
    assert_eq!(messages(&host, unit("cron.log")), numbered("c", 0..200));
    let dataplane = delivered(&stack, "dataplane");
    let of_sshd = |record: &Value| record["unit"] == "sshd" && record["log_type"] == "dataplane";
    assert_eq!(messages(&dataplane, of_sshd), numbered("s", 0..150));
    assert_eq!((host.len(), dataplane.len()), (600, 150));
    let absences: Vec<Value> = all_delivered(&stack, "dataplane").into_iter().filter(is_absence).collect();
    let told: Vec<_> = absences.iter().map(|record| (&record["unit"], &record["k8s_node_name"])).collect();
    assert_eq!(told, [(&"sluice-agent".into(), &host[0]["k8s_node_name"])], "{absences:?}");
    stack.closed_books().await.expect("books that balance");
}

/// As logrotate does it: the compressed file keeps the time of what it was.
fn gzip(plain: &Path, compressed: &Path) {
    let output = File::create(compressed).expect("a file");
    let status = Command::new("gzip").arg("-c").arg(plain).stdout(output).status().expect("gzip");
    assert!(status.success());
    let modified = fs::metadata(plain).and_then(|metadata| metadata.modified()).expect("a time");
    File::options().write(true).open(compressed).expect("a file").set_modified(modified).expect("a time");
    fs::remove_file(plain).expect("removed");
}

fn event(number: u64) -> String {
    format!(
        "{{\"kind\":\"Event\",\"apiVersion\":\"audit.k8s.io/v1\",\"level\":\"Request\",\"auditID\":\"id-{number}\",\
         \"stage\":\"ResponseComplete\",\"requestURI\":\"/api/v1/namespaces/ns/pods/p{number}\",\"verb\":\"delete\",\
         \"user\":{{\"username\":\"alice\"}},\"objectRef\":{{\"resource\":\"pods\",\"namespace\":\"ns\",\"name\":\"p{number}\"}},\
         \"responseStatus\":{{\"metadata\":{{}},\"code\":200}},\"stageTimestamp\":\"2025-10-26T10:15:30.{number:06}Z\"}}\n"
    )
}

fn events(numbers: impl Iterator<Item = u64>) -> String {
    numbers.map(event).collect()
}

#[tokio::test]
async fn audit_events_are_whole_and_once_over_rotations_as_the_api_server_makes_them() {
    let node = TestDir::new("audit").expect("a directory");
    let log = node.join("audit.log");
    // lumberjack: the file is renamed by the time, a new one begins.
    let rotate = |stamp: &str| fs::rename(&log, node.join(format!("audit-{stamp}.log"))).expect("renamed");
    append(&log, &events(0..200));
    let agent = format!("audit: {{path: {}}}\n", log.display());
    let mut stack = Stack::start("audit", &Plan { agent, ..Plan::default() }).await.expect("a stack");
    until_delivered(&stack, "audit", 200).await;
    append(&log, &events(200..300));
    rotate("2025-10-26T10-15-30.123");
    append(&log, &events(300..400));
    stack.agent.kill();
    append(&log, &events(400..500));
    rotate("2025-10-26T10-16-00.000");
    append(&log, &events(500..550));
    rotate("2025-10-26T10-16-30.000");
    let large = format!("{{\"verb\":\"create\",\"requestObject\":\"{}\"}}\n", "x".repeat(300_000));
    append(&log, &(events(550..600) + "torn {\"verb\":\n" + &large));
    stack.agent.restart().expect("an agent");
    stack.wait_for_agent().await.expect("an agent");
    stack.until_agent("sluice_agent_audit_text_lines_total", &[], |lines| lines >= 1.0).await.expect("counted");
    stack.closed_books().await.expect("books that balance");
    let records = until_delivered(&stack, "audit", 603).await;
    assert!(records.iter().all(|record| record["log_type"] == "audit"));
    let (of_events, texts): (Vec<Value>, Vec<Value>) =
        records.into_iter().partition(|record| record["audit_event"].is_object());
    let mut ids: Vec<u64> = of_events
        .iter()
        .map(|record| {
            let event = &record["audit_event"];
            let number = event["auditID"].as_str().and_then(|id| id.strip_prefix("id-")).expect("an id");
            assert_eq!(record["_msg"], format!("delete pods ns/p{number} by alice: 200"));
            assert_eq!(record["_time"], event["stageTimestamp"]);
            number.parse().expect("a number")
        })
        .collect();
    ids.sort_unstable();
    assert_eq!(ids, (0..600).collect::<Vec<_>>());
    assert_eq!(texts[0]["_msg"], "torn {\"verb\":");
    let joined: String = texts[1..].iter().map(|part| part["_msg"].as_str().expect("text")).collect();
    assert_eq!((joined == large.trim_end(), &texts[1]["log_part"]), (true, &1.into()));
}

/// A journal that is written by the tool that systemd has for it.
struct Journal {
    remote: PathBuf,
    directory: PathBuf,
}

impl Journal {
    fn new(directory: PathBuf) -> Self {
        fs::create_dir_all(&directory).expect("a directory");
        let remote = parts::binary("journal-remote").expect("systemd-journal-remote");
        Self { remote, directory }
    }

    /// Appends entries; with so many different `fields` each, the file is soon rotated.
    fn write(&self, numbers: impl Iterator<Item = u64>, fields: u64) {
        let mut stream = String::new();
        for number in numbers {
            let unit = ["kubelet.service", "ssh.service", "session-7.scope"][(number % 3) as usize];
            let time = 1_761_473_730_000_000 + number * 1000;
            stream += &format!(
                "__REALTIME_TIMESTAMP={time}\n__MONOTONIC_TIMESTAMP={}\n_BOOT_ID=1acbe82d027647d79dc5149979f6bf63\n\
                 _TRANSPORT=stdout\nPRIORITY=6\n_SYSTEMD_UNIT={unit}\nSYSLOG_IDENTIFIER=test\n_PID=7\nMESSAGE=e {number}\n",
                number * 1000
            );
            (0..fields).for_each(|field| stream += &format!("FIELD_{number}_{field}=x\n"));
            stream.push('\n');
        }
        let mut child = Command::new(&self.remote)
            .arg(format!("--output={}", self.directory.join("system.journal").display()))
            .arg("-")
            .stdin(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("systemd-journal-remote");
        child.stdin.take().expect("a pipe").write_all(stream.as_bytes()).expect("written");
        assert!(child.wait().expect("an end").success());
    }

    /// Removes what was rotated away first, as journald does when it needs room. Gives the first number that is
    /// left: a file that is put aside is called by it.
    fn vacuum_oldest(&self) -> u64 {
        let mut archived = files_below(&self.directory, ".journal");
        archived.retain(|path| path.to_string_lossy().contains('@'));
        fs::remove_file(&archived[0]).expect("removed");
        let name = archived[1].to_string_lossy().into_owned();
        let number = name.rsplit('-').nth(1).and_then(|hex| u64::from_str_radix(hex, 16).ok());
        number.expect("system@<sequence>-<number>-<time>.journal")
    }
}

fn journal_category(number: u64) -> &'static str {
    if number.is_multiple_of(3) { "dataplane" } else { "host" }
}

#[tokio::test]
async fn the_journals_entries_come_once_in_their_categories_and_a_hole_in_their_numbers_is_told() {
    let node = TestDir::new("journal").expect("a directory");
    let journal = Journal::new(node.join("journal"));
    journal.write(0..300, 0);
    let agent = format!("journald: {{directory: {}}}\n", journal.directory.display());
    let mut stack = Stack::start("journal", &Plan { agent, ..Plan::default() }).await.expect("a stack");
    until_delivered(&stack, "host", 200).await;
    // Followed, and killed in the middle of what comes.
    journal.write(300..600, 0);
    until_delivered(&stack, "host", 201).await;
    stack.agent.kill();
    journal.write(600..900, 0);
    stack.agent.restart().expect("an agent");
    stack.wait_for_agent().await.expect("an agent");
    until_delivered(&stack, "host", 600).await;
    until_delivered(&stack, "dataplane", 300).await;
    stack.closed_books().await.expect("books that balance");
    stack.agent.stop(PATIENCE).await.expect("stopped");

    // While no agent runs the journal is rotated, and its oldest file goes with entries that nobody has read.
    journal.write(900..920, 30);
    let first_left = journal.vacuum_oldest();
    stack.agent.restart().expect("an agent");
    stack.wait_for_agent().await.expect("an agent");
    stack.until_agent("sluice_agent_gaps_total", &[], |gaps| gaps == 1.0).await.expect("a gap");
    let is_gap = |record: &Value| !record["sluice_gap_reason"].is_null();
    let deadline = Instant::now() + PATIENCE;
    let (gap, host, dataplane) = loop {
        let (host, dataplane) = (delivered(&stack, "host"), delivered(&stack, "dataplane"));
        let gap = host.iter().find(|record| is_gap(record)).cloned();
        let last = |records: &[Value]| records.iter().any(|record| record["_msg"] == "e 919");
        if let Some(gap) = gap.filter(|_| last(&host) || last(&dataplane)) {
            break (gap, host, dataplane);
        }
        assert!(Instant::now() < deadline, "no gap is told: {}", stack.agent.log());
        tokio::time::sleep(Duration::from_millis(50)).await;
    };
    let number = |field: &str| gap[field].as_str().and_then(|text| text.parse::<u64>().ok()).expect("a number");
    // The journal counts from 1.
    let (from, to) = (number("sluice_gap_from") - 1, number("sluice_gap_to") - 1);
    assert_eq!(
        (from, &gap["sluice_gap_reason"], number("sluice_gap_entries")),
        (900, &"journal-seqnum".into(), to - from)
    );
    assert_eq!(number("sluice_gap_to"), first_left, "{gap}");
    let there = || (0..900).chain(to..920);
    let no_gap = |record: &Value| !is_gap(record) && record["log_type"] == "host";
    assert_eq!(messages(&host, no_gap), numbered("e", there().filter(|number| journal_category(*number) == "host")));
    let expected = numbered("e", there().filter(|number| journal_category(*number) == "dataplane"));
    assert_eq!(messages(&dataplane, |record| record["log_type"] == "dataplane"), expected);
    let session = host.iter().find(|record| record["_msg"] == "e 2").expect("an entry");
    assert_eq!(
        (&session["unit"], &session["pid"], &session["severity"]),
        (&"session-7.scope".into(), &"7".into(), &"info".into())
    );
    assert_eq!(session["_time"], "2025-10-26T10:15:30.002000000Z");
    stack.closed_books().await.expect("books that balance");
}
