//! `destinations:`.

use std::path::{Component, Path, PathBuf};
use std::time::Duration;

use sluice_settings::{Map, Node};

use super::{DAY, GIB, MIB, Sources, words};
use crate::config::checked::{Destination, DestinationKind, FileDestination, Token, VictoriaLogs};

pub(super) fn read(node: &Node<'_>, journal: Option<&Path>, sources: Sources<'_>) -> Vec<Destination> {
    let mut destinations: Vec<Destination> = Vec::new();
    let mut directories: Vec<PathBuf> = Vec::new();
    for item in node.list() {
        let destination = item.map(|map| {
            let name_node = map.required("name");
            let name = words::destination_name(&name_node);
            if destinations.iter().any(|other| Some(&other.name) == name.as_ref()) {
                name_node.fault("another destination has this name: give each its own");
            }
            let kind = match map.choice(&["victorialogs", "file"]) {
                Some(("victorialogs", node)) => {
                    node.map(|map| victorialogs(map, sources)).map(DestinationKind::VictoriaLogs)
                }
                Some((_, node)) => node.map(file).map(DestinationKind::File),
                None => None,
            };
            if let Some(DestinationKind::File(file)) = &kind {
                if directories.iter().any(|other| overlap(other, &file.directory)) {
                    item.fault("another destination writes into this directory: give each its own");
                }
                if journal.is_some_and(|journal| overlap(journal, &file.directory)) {
                    item.fault("the journal lies there: give the destination a directory beside it");
                }
                directories.push(file.directory.clone());
            }
            Some(Destination { name: name?, kind: kind? })
        });
        destinations.extend(destination);
    }
    if node.is_present() && node.list().next().is_none() {
        node.fault("there is no destination: add one, such as {name: local, file: {directory: /var/lib/sluice/logs}}");
    }
    destinations
}

/// Whether one directory is the other or lies in it, as far as their names tell.
fn overlap(one: &Path, other: &Path) -> bool {
    let (one, other) = (plain(one), plain(other));
    one.starts_with(&other) || other.starts_with(&one)
}

/// A path without `.` and `..`.
fn plain(path: &Path) -> PathBuf {
    let mut plain = PathBuf::new();
    for component in path.components() {
        match component {
            Component::CurDir => {}
            Component::ParentDir => drop(plain.pop()),
            other => plain.push(other),
        }
    }
    plain
}

fn victorialogs(map: &Map<'_>, sources: Sources<'_>) -> Option<VictoriaLogs> {
    let seconds = |from, to| Duration::from_secs(from)..=Duration::from_secs(to);
    let batch_age = Duration::from_millis(10)..=Duration::from_secs(60);
    let url = map.required("url").read("a URL such as http://vmauth:8427, without /insert, query or password", url);
    let token = words::token(map, sources).map(|secret| match map.optional("token_file").file() {
        Some(file) => Token::File(file),
        None => Token::Fixed(secret),
    });
    if map.optional("token_file").is_present() {
        map.optional("token_env").refuse("token_file is there already: keep one of them");
    }
    let ca = map.optional("ca").file();
    let stream_fields = map.optional("stream_fields");
    let fields: Vec<String> = stream_fields.list().filter_map(|item| item.text().map(str::to_owned)).collect();
    let durable_after = map.optional("durable_after").duration(seconds(0, 3600));
    let batch_ids = map.optional("batch_ids").bool();
    let retention = map.optional("retention").duration(DAY..=36_500 * DAY);
    let future = map.optional("future").duration(Duration::ZERO..=36_500 * DAY);
    let timeout = map.optional("timeout").duration(seconds(1, 600));
    let concurrency = map.optional("concurrency").integer(1..=256);
    let batch_bytes = map.optional("batch_bytes").bytes(MIB..=64 * MIB).unwrap_or(4 * MIB);
    let batch_raw_bytes = map.optional("batch_raw_bytes").bytes(MIB..=512 * MIB).unwrap_or(32 * MIB);
    let age = map.optional("batch_age").duration(batch_age);
    Some(VictoriaLogs {
        url: url?,
        token,
        ca,
        stream_fields: if stream_fields.is_present() {
            fields
        } else {
            DEFAULT_STREAM_FIELDS.map(str::to_owned).to_vec()
        },
        durable_after: durable_after.unwrap_or(Duration::from_secs(30)),
        batch_ids: batch_ids.unwrap_or(true),
        retention,
        future: future.unwrap_or(2 * DAY),
        timeout: timeout.unwrap_or(Duration::from_secs(45)),
        concurrency: concurrency.unwrap_or(4),
        batch_bytes: usize::try_from(batch_bytes).unwrap_or(usize::MAX),
        batch_raw_bytes: usize::try_from(batch_raw_bytes).unwrap_or(usize::MAX),
        batch_age: age.unwrap_or(Duration::from_millis(500)),
    })
}

/// Few values each, and all of them known before the line is read: what VictoriaLogs asks of a stream.
const DEFAULT_STREAM_FIELDS: [&str; 5] =
    ["cluster", "k8s_namespace_name", "k8s_pod_name", "k8s_container_name", "stream"];

/// Without the trailing slash. A password would end in logs.
fn url(text: &str) -> Option<String> {
    let uri: http::Uri = text.parse().ok()?;
    let sound = matches!(uri.scheme_str(), Some("http" | "https"))
        && uri.authority().is_some_and(|authority| !authority.as_str().contains('@'))
        && uri.query().is_none()
        && !uri.path().contains("/insert");
    sound.then(|| text.trim_end_matches('/').to_owned())
}

fn file(map: &Map<'_>) -> Option<FileDestination> {
    let directory = map.required("directory").file();
    let max_file_bytes = map.optional("max_file_bytes").bytes(MIB..=64 * GIB);
    let batch_age = map.optional("batch_age").duration(Duration::from_millis(10)..=Duration::from_secs(60));
    Some(FileDestination {
        directory: directory?,
        max_file_bytes: max_file_bytes.unwrap_or(256 * MIB),
        batch_age: batch_age.unwrap_or(Duration::from_millis(200)),
    })
}
