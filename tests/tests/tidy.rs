//! Rules of the house that a compiler does not know. They ratchet: they keep what is good from getting
//! worse.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use sluice_tests::files_below;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace").to_owned()
}

fn sources(room: &str) -> Vec<(PathBuf, String)> {
    let read = |path: PathBuf| {
        let text = fs::read_to_string(&path).expect("a source file");
        (path, text)
    };
    files_below(&root().join(room), ".rs").into_iter().filter(|path| !is_test(path)).map(read).collect()
}

fn is_test(path: &Path) -> bool {
    path.components()
        .any(|part| ["tests", "tests.rs", "fuzz", "testing.rs"].iter().any(|name| part.as_os_str() == *name))
}

/// Production lines: without a trailing inline test module.
fn production(text: &str) -> &str {
    text.split("\n#[cfg(test)]\nmod tests {").next().unwrap_or(text)
}

#[test]
fn wire_and_durable_log_depend_on_nothing_of_ours() {
    for room in ["wire", "durable-log"] {
        let manifest = fs::read_to_string(root().join(room).join("Cargo.toml")).expect("a manifest");
        let own = format!("sluice-{room}");
        let other = manifest.lines().find(|line| line.starts_with("sluice-") && !line.starts_with(&own));
        assert_eq!(other, None, "{room} depends on another crate of ours");
    }
}

#[test]
fn wire_does_no_io() {
    for (path, text) in sources("wire/src") {
        for word in ["std::fs", "std::net", "tokio", "SystemTime", "Instant::now"] {
            assert!(!production(&text).contains(word), "{} uses {word}", path.display());
        }
    }
}

/// What a room of the agent may use of the others: the output type of the room before it.
#[test]
fn rooms_of_the_agent_find_each_other_only_in_the_pipeline() {
    let allowed: BTreeMap<&str, &[&str]> = BTreeMap::from([
        ("admin.rs", &["books", "metrics"][..]),
        ("block", &["record"]),
        ("books.rs", &["checkpoint", "metrics", "tail"]),
        ("checkpoint", &["block", "tail"]),
        ("backoff.rs", &[]),
        ("config.rs", &["enrich", "redact", "runtime", "ship", "tail"]),
        ("config", &["discover", "enrich", "entries", "parse", "redact", "ship", "tail"]),
        ("discover", &[]),
        ("enrich", &["backoff", "metrics", "record"]),
        ("entries", &["block", "parse", "record", "redact", "tail"]),
        ("metrics", &[]),
        ("parse", &[]),
        ("record", &["parse"]),
        ("redact", &[]),
        ("ring.rs", &["block"]),
        ("runtime", &["metrics"]),
        ("ship", &["backoff", "block", "checkpoint", "metrics", "ring"]),
        ("spool.rs", &["block"]),
        ("tail", &["block", "discover", "enrich", "parse", "record", "redact"]),
        // A user of the pipeline as `main` is one: it stands behind all rooms.
        ("verify", &["books", "config", "enrich", "metrics", "pipeline", "ship", "tail"]),
    ]);
    let src = root().join("agent-lite/src");
    for (path, text) in sources("agent-lite/src") {
        let room = path.strip_prefix(&src).expect("below src").components().next().expect("a name");
        let room = room.as_os_str().to_string_lossy().into_owned();
        let Some(allowed) = allowed.get(room.as_str()) else { continue };
        for line in production(&text).lines() {
            let Some(used) = line.split("crate::").nth(1) else { continue };
            let used: String = used.chars().take_while(|c| c.is_ascii_alphanumeric() || *c == '_').collect();
            let own = room.trim_end_matches(".rs");
            assert!(used == own || allowed.contains(&used.as_str()), "{} uses crate::{used}: {line}", path.display());
        }
    }
}

/// Files grow by a line at a time; past this, ask whether one holds two ideas.
#[test]
fn no_file_grows_past_six_hundred_lines() {
    for room in ["wire", "durable-log", "settings", "agent-lite", "gateway", "tests", "loadtest"] {
        for (path, text) in sources(room) {
            let lines = production(&text).lines().count();
            assert!(lines <= 600, "{} has {lines} lines", path.display());
        }
    }
}

#[test]
fn every_reason_is_explained_in_the_wire_document() {
    let document = fs::read_to_string(root().join("docs/wire.md")).expect("docs/wire.md");
    for reason in sluice_wire::Reason::ALL {
        assert!(document.contains(&format!("`{reason}`")), "docs/wire.md does not explain `{reason}`");
    }
}
