use std::fs;
use std::os::unix::fs::symlink;
use std::time::Duration;

use super::*;

const LEAST: &str = "cluster: c\nenvironment: e\nnode: n\n";
const GATEWAY: &str = "gateway: {urls: ['http://127.0.0.1:9']}\n";

static NOTHING: fn(&str) -> Option<String> = |_| None;

struct File {
    directory: tempfile::TempDir,
}

impl File {
    fn path(&self) -> PathBuf {
        self.directory.path().join("agent.yaml")
    }

    fn write(&self, more: &str) {
        fs::write(self.path(), format!("{LEAST}{GATEWAY}{more}")).unwrap();
    }

    fn new(more: &str) -> (Self, Reloader) {
        let file = Self { directory: tempfile::tempdir().unwrap() };
        file.write(more);
        let reloader = reloader(file.path());
        (file, reloader)
    }
}

fn reloader(path: PathBuf) -> Reloader {
    let config = Config::load(&path, &NOTHING).unwrap();
    Reloader::new(path, &NOTHING, config)
}

fn parts(change: Option<Change>) -> Vec<&'static str> {
    change.map(|change| change.parts.into_iter().collect()).unwrap_or_default()
}

#[test]
fn only_what_changed_is_given_and_only_once() {
    let (file, mut reloader) = File::new("redact: {rules: [email]}\nblock_age: 1s\n");
    assert_eq!(parts(reloader.look()), [""; 0]);
    file.write("# other words\nblock_age: 2s\nredact:\n  rules:\n    - email\n");
    let change = reloader.look().unwrap();
    assert_eq!((change.config.block_age, change.redactor.is_none()), (Duration::from_secs(2), true));
    assert_eq!(parts(Some(change)), ["block_age"]);
    assert_eq!(parts(reloader.look()), [""; 0]);
    file.write("redact: {rules: [email, jwt]}\nbudgets: [{namespaces: [a], rate: 1MiB, policy: drop}]\n");
    let change = reloader.look().unwrap();
    assert_eq!(change.config.block_age, Duration::from_secs(1), "the default again");
    assert!(change.redactor.as_ref().is_some_and(Option::is_some));
    assert_eq!(parts(Some(change)), ["block_age", "budgets", "redact"]);
    file.write("");
    let change = reloader.look().unwrap();
    assert!(change.redactor.as_ref().is_some_and(Option::is_none), "nothing is redacted any more");
    assert_eq!(parts(Some(change)), ["budgets", "redact"]);
}

#[test]
fn an_unsound_file_changes_nothing_and_is_told_until_it_is_mended() {
    let (file, mut reloader) = File::new("block_age: 1s\n");
    let status = reloader.status();
    for broken in ["redact: [", "block_age: 2s\nredact: {rules: [emial]}\n", "block_age: 3s\nblock_aeg: 2s\n"] {
        file.write(broken);
        assert_eq!(parts(reloader.look()), [""; 0], "{broken}");
        assert!(status.failure().is_some_and(|failure| failure.contains("agent.yaml")), "{broken}");
    }
    fs::remove_file(file.path()).unwrap();
    assert_eq!(parts(reloader.look()), [""; 0]);
    assert!(status.failure().is_some_and(|failure| failure.contains("cannot be read")));
    // As it was: nothing is to be done, but nothing is wrong any more either.
    file.write("block_age: 1s\n");
    assert_eq!((parts(reloader.look()), status.failure()), (vec![], None));
    file.write("block_age: 4s\n");
    assert_eq!((parts(reloader.look()), status.failure()), (vec!["block_age"], None));
}

#[test]
fn other_parts_wait_for_a_restart_and_hold_nothing_up() {
    let (file, mut reloader) = File::new("");
    let status = reloader.status();
    file.write("spool_bytes: 32MiB\nkubernetes: {source: none}\nring_bytes: 64MiB\ndrain: 9s\n");
    let change = reloader.look().unwrap();
    assert_eq!((change.config.drain, change.config.spool_bytes), (Duration::from_secs(9), 256 << 20));
    assert_eq!(parts(Some(change)), ["drain"]);
    assert_eq!(status.needs_restart(), ["kubernetes", "spool_bytes"], "ring_bytes is what it was");
    file.write("spool_bytes: 32MiB\ndrain: 8s\n");
    assert_eq!(parts(reloader.look()), ["drain"]);
    assert_eq!(status.needs_restart(), ["spool_bytes"]);
    file.write("drain: 8s\n");
    assert_eq!(parts(reloader.look()), [""; 0]);
    assert!(status.needs_restart().is_empty());
}

#[test]
fn a_gateway_can_be_another_but_not_a_store() {
    let (file, mut reloader) = File::new("");
    let status = reloader.status();
    fs::write(file.path(), format!("{LEAST}gateway: {{urls: ['http://127.0.0.1:10'], compression: gzip}}\n")).unwrap();
    let change = reloader.look().unwrap();
    assert_eq!(change.config.destination.endpoints[0].url, "http://127.0.0.1:10/");
    assert_eq!(parts(Some(change)), ["gateway"]);
    fs::write(file.path(), format!("{LEAST}direct: {{url: 'http://127.0.0.1:10'}}\n")).unwrap();
    assert_eq!(parts(reloader.look()), [""; 0]);
    assert_eq!(status.needs_restart(), ["direct", "gateway"]);
}

#[test]
fn files_of_the_node_come_and_go_but_do_not_become_others() {
    let (file, mut reloader) = File::new("host: [{path: /var/log/a}, {path: '/var/log/*.log'}]\n");
    let status = reloader.status();
    file.write("host: [{path: '/var/log/*.log'}, {path: /var/log/b, unit: b}]\n");
    let change = reloader.look().unwrap();
    assert_eq!(change.config.sources.host.len(), 2);
    assert_eq!((parts(Some(change)), status.needs_restart().len()), (vec!["host"], 0));
    file.write("host: [{path: '/var/log/*.log'}, {path: /var/log/b, unit: c}]\n");
    assert_eq!(parts(reloader.look()), [""; 0]);
    assert_eq!(status.needs_restart(), ["host"]);
}

#[test]
fn a_label_that_no_rule_asked_for_waits_for_a_restart() {
    let rules = |rules: &str| format!("kubernetes: {{source: watch}}\ndataplane: [{rules}]\n");
    let (file, mut reloader) = File::new(&rules("{labels: {tier: net}}"));
    let status = reloader.status();
    file.write(&rules("{labels: {tier: dns}}, {namespace: net}"));
    assert_eq!(parts(reloader.look()), ["dataplane"]);
    file.write(&(rules("{labels: {role: net}}") + "own_logs: rate-limit\ndrain: 9s\n"));
    assert_eq!(parts(reloader.look()), ["drain"], "the rules come with own_logs");
    assert_eq!(status.needs_restart(), ["dataplane", "own_logs"]);
}

#[test]
fn another_key_for_hashes_is_taken_over_and_a_bad_one_is_not() {
    let (file, _) = File::new("");
    let key = file.directory.path().join("key");
    fs::write(&key, "0123456789abcdef").unwrap();
    file.write(&format!("redact: {{rules: [{{name: email, action: hash}}], hash_key_file: '{}'}}\n", key.display()));
    let mut reloader = reloader(file.path());
    let hashed = |change: Option<Change>| {
        let mut redactor = change.and_then(|change| change.redactor).flatten().unwrap();
        let scope = redactor.scope("shop");
        format!("{:?}", redactor.apply("bob@example.com", scope))
    };
    assert_eq!(parts(reloader.look()), [""; 0]);
    fs::write(&key, "another key for it").unwrap();
    let second = hashed(reloader.look());
    fs::write(&key, "short").unwrap();
    assert_eq!(parts(reloader.look()), [""; 0]);
    assert!(reloader.status().failure().is_some_and(|failure| failure.contains("less than 16 bytes")));
    fs::write(&key, "0123456789abcdef").unwrap();
    assert_ne!(hashed(reloader.look()), second);
    assert_eq!(reloader.status().failure(), None);
}

#[test]
fn a_swapped_symlink_is_seen() {
    let (file, _) = File::new("");
    let directory = file.directory.path();
    for (version, more) in [("1", "drain: 1s"), ("2", "drain: 2s")] {
        fs::create_dir(directory.join(version)).unwrap();
        fs::write(directory.join(version).join("agent.yaml"), format!("{LEAST}{GATEWAY}{more}\n")).unwrap();
    }
    symlink("1", directory.join("..data")).unwrap();
    let mut reloader = reloader(directory.join("..data/agent.yaml"));
    symlink("2", directory.join("..data_tmp")).unwrap();
    fs::rename(directory.join("..data_tmp"), directory.join("..data")).unwrap();
    assert_eq!(parts(reloader.look()), ["drain"]);
}

/// A key that is in neither list would change unseen.
#[test]
fn every_key_is_either_changeable_or_not() {
    let document = include_str!("../../../../docs/CONFIG.md");
    let (_, agent) = document.split_once("\n## Agent").unwrap();
    let (table, _) = agent.split_once("\n### `kubernetes`").unwrap();
    let first_cells = table.lines().filter_map(|line| line.strip_prefix("| `")?.split(" |").next());
    let mut keys: BTreeSet<&str> = first_cells.flat_map(|cell| cell.split(['`', ',', ' ', '[', '.'])).collect();
    keys.retain(|key| key.len() > 2 && key.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_'));
    // What stands behind a dot, and words between two keys.
    let not_keys = ["or", "namespaces", "weight", "rate", "burst", "policy"];
    for key in keys.iter().filter(|key| !not_keys.contains(key)) {
        assert!(KEYS.contains(key) != CHANGEABLE.contains(key), "{key}");
    }
    assert!(keys.len() > 30, "{keys:?}");
}
