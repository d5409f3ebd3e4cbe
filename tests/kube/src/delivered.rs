//! What arrived: the records of a file destination.

use std::borrow::Cow;
use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use serde::Deserialize;
use sluice_harness::line::{self, LineId, TOKEN};

use crate::disk::{Log, excerpt};
use crate::pods::{self, is_writer};
use crate::verdict::Gap;

/// The members of a record that say what it is and whose.
#[derive(Debug, Deserialize)]
struct Record<'a> {
    #[serde(borrow, default)]
    _msg: Cow<'a, str>,
    #[serde(borrow, default)]
    _time: Cow<'a, str>,
    #[serde(borrow, default)]
    stream: Cow<'a, str>,
    #[serde(borrow, default)]
    k8s_namespace_name: Cow<'a, str>,
    #[serde(borrow, default)]
    k8s_pod_name: Cow<'a, str>,
    #[serde(borrow, default)]
    k8s_pod_uid: Cow<'a, str>,
    #[serde(borrow, default)]
    k8s_container_name: Cow<'a, str>,
    #[serde(borrow, default)]
    k8s_labels: Option<Labels<'a>>,
    #[serde(default)]
    k8s_container_restart_count: Option<serde_json::Value>,
    #[serde(borrow, default)]
    sluice_gap_reason: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    sluice_gap_since: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    sluice_gap_until: Cow<'a, str>,
}

/// The label that our pods have.
#[derive(Debug, Deserialize)]
struct Labels<'a> {
    #[serde(borrow, default)]
    app: Cow<'a, str>,
}

/// What the records of an attempt say of their pod's labels.
#[derive(Debug, Clone, Default)]
pub struct Labelled {
    /// Records with the right one.
    pub right: u64,
    /// Records without any.
    pub without: u64,
    /// One that is wrong.
    pub wrong: Option<String>,
}

/// A line that arrived.
#[derive(Debug, Clone)]
pub struct Arrival {
    /// How often.
    pub times: u32,
    /// Index in [`Delivered::logs`]: whose it is by its record. Of its first one.
    pub log: usize,
    /// Its `_time` in Unix nanoseconds; `None`: no time.
    pub time_ns: Option<i64>,
    /// Its `stream` is the one that it was written to.
    pub stream_is_right: bool,
}

/// All that arrived.
#[derive(Debug, Default)]
pub struct Delivered {
    /// Attempts that records name.
    pub logs: Vec<Log>,
    /// Labels, by index in `logs`.
    pub labels: Vec<Labelled>,
    /// Lines of the run.
    pub lines: HashMap<LineId, Arrival>,
    /// Records of the run that are no whole line, with their log.
    pub broken: Vec<(usize, String)>,
    /// Records that are no JSON objects, or not as they should be.
    pub invalid: Vec<String>,
    /// What the agent says was lost.
    pub gaps: Vec<Gap>,
    /// Records of others.
    pub foreign: u64,
    /// All records.
    pub records: u64,
}

impl Labelled {
    fn take(&mut self, pod: &str, labels: Option<&Labels<'_>>) {
        match labels {
            None => self.without += 1,
            Some(labels) if pods::label(pod) == labels.app => self.right += 1,
            Some(labels) => self.wrong = Some(labels.app.to_string()),
        }
    }
}

impl Delivered {
    /// Reads every `*.jsonl` below `directory`.
    ///
    /// # Errors
    /// A file cannot be read.
    pub fn read(run: u32, directory: &Path) -> Result<Self> {
        let mut delivered = Self::default();
        let mut index = HashMap::new();
        for path in files(directory) {
            let bytes = fs::read(&path).with_context(|| path.display().to_string())?;
            for record in bytes.split_inclusive(|byte| *byte == b'\n') {
                delivered.take(run, record, &mut index);
            }
        }
        Ok(delivered)
    }

    fn take(&mut self, run: u32, bytes: &[u8], index: &mut HashMap<Log, usize>) {
        self.records += 1;
        let Ok(record) = serde_json::from_slice::<Record<'_>>(bytes) else {
            self.invalid.push(excerpt(bytes));
            return;
        };
        if record.sluice_gap_reason.is_some() {
            self.gaps.push(gap(&record));
            return;
        }
        let text = record._msg.as_bytes();
        let header = line::verify(text).ok();
        // What is left of a line need not have a line's beginning.
        if header.is_none() && memchr::memmem::find(text, TOKEN).is_none() && !is_writer(&record.k8s_container_name) {
            self.foreign += 1;
            return;
        }
        let log = log_of(&record);
        let logs = &mut self.logs;
        let log = *index.entry(log).or_insert_with_key(|log| {
            logs.push(log.clone());
            logs.len() - 1
        });
        self.labels.resize_with(self.logs.len(), Labelled::default);
        self.labels[log].take(&self.logs[log].pod, record.k8s_labels.as_ref());
        match header {
            Some(header) if header.id.run == run => {
                let time = record._time.parse::<jiff::Timestamp>().ok();
                let new = || Arrival {
                    times: 0,
                    log,
                    time_ns: time.and_then(|time| i64::try_from(time.as_nanosecond()).ok()),
                    stream_is_right: record.stream == header.id.stream.name(),
                };
                self.lines.entry(header.id).or_insert_with(new).times += 1;
            }
            Some(_) => self.foreign += 1,
            None => self.broken.push((log, record._msg.into_owned())),
        }
    }
}

fn attempt(value: Option<&serde_json::Value>) -> u32 {
    let number = match value {
        Some(serde_json::Value::String(text)) => text.parse().ok(),
        Some(value) => value.as_u64().and_then(|number| u32::try_from(number).ok()),
        None => Some(0),
    };
    number.unwrap_or(u32::MAX)
}

/// Bytes of all that arrived so far.
#[must_use]
pub fn bytes(directory: &Path) -> u64 {
    files(directory).iter().filter_map(|path| fs::metadata(path).ok()).map(|metadata| metadata.len()).sum()
}

fn files(directory: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut todo = vec![directory.to_owned()];
    while let Some(directory) = todo.pop() {
        for entry in fs::read_dir(&directory).into_iter().flatten().flatten() {
            let path = entry.path();
            if path.is_dir() {
                todo.push(path);
            } else if path.extension().is_some_and(|extension| extension == "jsonl") {
                found.push(path);
            }
        }
    }
    found
}

fn log_of(record: &Record<'_>) -> Log {
    Log {
        namespace: record.k8s_namespace_name.to_string(),
        pod: record.k8s_pod_name.to_string(),
        uid: record.k8s_pod_uid.to_string(),
        container: record.k8s_container_name.to_string(),
        attempt: attempt(record.k8s_container_restart_count.as_ref()),
    }
}

fn gap(record: &Record<'_>) -> Gap {
    let moment = |text: &str| {
        let time: Option<jiff::Timestamp> = text.parse().ok();
        time.and_then(|time| i64::try_from(time.as_nanosecond()).ok())
    };
    Gap {
        log: log_of(record),
        reason: record.sluice_gap_reason.as_deref().unwrap_or_default().to_owned(),
        // Without it nothing is known of what came before: it may begin anywhere.
        from_ns: record.sluice_gap_since.as_deref().and_then(moment).unwrap_or(i64::MIN),
        to_ns: moment(&record.sluice_gap_until).unwrap_or(i64::MIN),
    }
}
