//! Is this record what the manifest says that it must be?

use std::collections::HashSet;

use jiff::Timestamp;

use super::record::Record;
use crate::{
    line::{self, Flaw, Header, LineId},
    manifest::Manifest,
    shape::expected_value,
};

/// `_time` is that of one of the line's pieces, which the writer keeps this close together.
const PIECES_WITHIN_NS: u64 = 1_000_000;

/// What a record turned out to be.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Finding {
    /// A line of this run; what is wrong with its record, if anything.
    Line {
        id: LineId,
        written_ns: u64,
        faults: Vec<Fault>,
    },
    /// A line of this run that is damaged beyond recognition.
    Broken(Fault),
    OtherRun,
    /// Not of a pod of this run.
    Foreign,
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, thiserror::Error)]
pub(crate) enum Fault {
    #[error("not a JSON object")]
    NotJson,
    #[error("text damaged: {0}")]
    Text(#[from] Flaw),
    #[error("no such line in the manifest")]
    NoSuchLine,
    #[error("two members {0}")]
    Repeated(String),
    #[error("member {0} missing")]
    Missing(String),
    #[error("member {0} wrong")]
    Wrong(String),
    #[error("member {0} should not be there")]
    Unexpected(String),
    #[error("file ends within a line")]
    Torn,
}

/// Judges records of one run.
#[derive(Debug)]
pub(crate) struct Judge {
    pods: HashSet<String>,
}

impl Judge {
    pub(crate) fn new(manifest: &Manifest) -> Self {
        Self { pods: manifest.sources.iter().map(|source| source.pod.clone()).collect() }
    }

    pub(crate) fn judge(&self, manifest: &Manifest, record: Option<&Record>) -> Finding {
        let Some(record) = record else { return Finding::Broken(Fault::NotJson) };
        let ours = record.get("k8s_pod_name").is_some_and(|pod| self.pods.contains(pod));
        match line::verify(record.get("_msg").unwrap_or_default().as_bytes()) {
            Ok(header) if header.id.run != manifest.run => Finding::OtherRun,
            Ok(header) if header.id.source as usize >= manifest.sources.len() => Finding::Broken(Fault::NoSuchLine),
            Ok(header) => Finding::Line {
                id: header.id,
                written_ns: header.written_ns,
                faults: faults(manifest, record, &header),
            },
            Err(flaw) if ours => Finding::Broken(flaw.into()),
            Err(_) => Finding::Foreign,
        }
    }
}

fn faults(manifest: &Manifest, record: &Record, header: &Header) -> Vec<Fault> {
    let LineId { source, stream, seq, .. } = header.id;
    let shape = manifest.mix.shape(source, stream, seq);
    let source = &manifest.sources[source as usize];
    let mut faults = Vec::new();
    if let Some(name) = record.repeated() {
        faults.push(Fault::Repeated(name.to_owned()));
    }
    let mut expect = |name: &str, test: &dyn Fn(&str) -> bool| match record.get(name) {
        None => faults.push(Fault::Missing(name.to_owned())),
        Some(value) if !test(value) => faults.push(Fault::Wrong(name.to_owned())),
        Some(_) => {}
    };
    expect("_time", &|time| time_matches(time, header.written_ns));
    for (name, value) in [
        ("cluster", &*manifest.cluster),
        ("environment", &*manifest.environment),
        ("k8s_namespace_name", &*source.namespace),
        ("k8s_pod_name", &*source.pod),
        ("k8s_container_name", &*source.container),
        ("stream", stream.name()),
    ] {
        expect(name, &|found| found == value);
    }
    let (fields, absent) = shape.json.map_or((&[][..], &[][..]), |json| (json.fields, json.absent));
    for (name, template) in fields {
        expect(name, &|found| found == expected_value(template, seq));
    }
    for (name, value) in [("k8s_pod_uid", &*source.uid), ("k8s_container_restart_count", "0")] {
        if record.get(name).is_some_and(|found| found != value) {
            faults.push(Fault::Wrong(name.to_owned()));
        }
    }
    let expected = |name: &str| fields.iter().any(|(field, _)| *field == name);
    for name in record.names().filter(|name| absent.contains(name) || !(is_ours_to_add(name) || expected(name))) {
        faults.push(Fault::Unexpected(name.to_owned()));
    }
    faults
}

fn time_matches(time: &str, written_ns: u64) -> bool {
    let Ok(time) = time.parse::<Timestamp>() else { return false };
    let after = time.as_nanosecond() - i128::from(written_ns);
    (0..=i128::from(PIECES_WITHIN_NS)).contains(&after)
}

/// Members that collector, gateway or store may add to a record.
fn is_ours_to_add(name: &str) -> bool {
    ["_", "k8s_", "sluice_"].iter().any(|prefix| name.starts_with(prefix))
        || ["cluster", "environment", "log_type", "stream"].contains(&name)
}
