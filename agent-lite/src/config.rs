//! The agent's settings: YAML, checked as a whole before anything starts. `docs/CONFIG.md` lists them.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use http::Uri;
use sluice_settings::{Environment, FileError, Map, Node};

use crate::ship::{Endpoint, TlsFiles};
use crate::tail::Deleted;

mod sources;

pub use sources::Sources;

/// Everything the agent is told.
#[derive(Debug, Clone)]
pub struct Config {
    /// `cluster` of every record.
    pub cluster: String,
    /// `environment` of every record.
    pub environment: String,
    /// `k8s_node_name` of every record.
    pub node: String,
    /// Checkpoints, ring, dead letters.
    pub state: PathBuf,
    /// Where the kubelet keeps pods' logs; `None`: no pods' logs.
    pub pods: Option<PathBuf>,
    /// What else is read, and which category everything is of.
    pub sources: Sources,
    /// What to read of files that exist when the agent first runs on a node.
    pub first_start: FirstStart,
    /// Where logs go.
    pub gateways: Vec<Arc<Endpoint>>,
    /// Connections to gateways.
    pub connections: usize,
    /// How long a block in doubt waits for the journal that may hold it.
    pub in_doubt_max: Duration,
    /// Where health and metrics are served; `None`: nowhere.
    pub admin: Option<SocketAddr>,
    /// Raw bytes of a block.
    pub block_bytes: usize,
    /// Age of a block.
    pub block_age: Duration,
    /// Raw bytes of all open blocks.
    pub open_bytes: usize,
    /// Compressed bytes of blocks that are not decided.
    pub queued_bytes: usize,
    /// Bytes of the in-flight ring.
    pub ring_bytes: u64,
    /// Bytes of dead letters.
    pub dead_letter_bytes: u64,
    /// Between looks at files for new lines.
    pub poll_interval: Duration,
    /// Between scans for new files.
    pub scan_interval: Duration,
    /// What a stop may take.
    pub drain: Duration,
    /// Deleted files that may be held open.
    pub deleted: Deleted,
}

/// What to read on a node that was never seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FirstStart {
    /// Everything that is on the disk.
    Beginning,
    /// Only what is written from now on.
    End,
    /// What is not older.
    Since(Duration),
}

const DAY: Duration = Duration::from_secs(86_400);
const KIB: u64 = 1024;
const MIB: u64 = 1024 * KIB;

impl Config {
    /// Reads and checks a file.
    ///
    /// # Errors
    /// Every fault, by its path in the file.
    pub fn load(path: &Path, env: &Environment<'_>) -> Result<Self, FileError> {
        sluice_settings::from_file(path, env, |node| Self::read(node, env))
    }

    fn read(node: &Node<'_>, env: &Environment<'_>) -> Option<Self> {
        node.map(|map| {
            let cluster = name(&map.required("cluster"));
            let environment = name(&map.required("environment"));
            let node_name = map.optional("node");
            let node_name = if node_name.is_present() { name(&node_name) } else { Some(default_node(env)) };
            let state = map.optional("state_directory").file();
            let pods = pods(&map.optional("pods"));
            let sources = Sources::read(map, env);
            let first_start = first_start(map);
            let gateway = map.required("gateway").map(gateway);
            let admin = map.optional("admin").read("an address like 0.0.0.0:2020", |text| text.parse().ok());
            let block_bytes = map.optional("block_bytes").bytes(4 * KIB..=768 * KIB);
            let block_age = map.optional("block_age").duration(Duration::from_millis(20)..=Duration::from_secs(60));
            let open_bytes = map.optional("open_bytes").bytes(MIB..=256 * MIB);
            let queued_bytes = map.optional("queued_bytes").bytes(2 * MIB..=256 * MIB);
            let ring_bytes = map.optional("ring_bytes").bytes(8 * MIB..=16 * 1024 * MIB);
            let dead_letter_bytes = map.optional("dead_letter_bytes").bytes(MIB..=16 * 1024 * MIB);
            let poll_interval =
                map.optional("poll_interval").duration(Duration::from_millis(10)..=Duration::from_secs(10));
            let scan_interval =
                map.optional("scan_interval").duration(Duration::from_millis(100)..=Duration::from_secs(600));
            let drain = map.optional("drain").duration(Duration::ZERO..=Duration::from_secs(600));
            let deleted_files = map.optional("deleted_files").integer(1..=65_536_usize);
            let deleted_bytes = map.optional("deleted_bytes").bytes(MIB..=1024 * 1024 * MIB);
            let (gateways, connections, in_doubt_max) = gateway?;
            Some(Self {
                cluster: cluster?,
                environment: environment?,
                node: node_name?,
                state: state.unwrap_or_else(|| PathBuf::from("/var/lib/sluice")),
                pods: pods?,
                sources: sources?,
                first_start: first_start?,
                gateways,
                connections,
                in_doubt_max,
                admin,
                block_bytes: size(block_bytes.unwrap_or(192 * KIB)),
                block_age: block_age.unwrap_or(Duration::from_secs(1)),
                open_bytes: size(open_bytes.unwrap_or(6 * MIB)),
                queued_bytes: size(queued_bytes.unwrap_or(6 * MIB)),
                ring_bytes: ring_bytes.unwrap_or(64 * MIB),
                dead_letter_bytes: dead_letter_bytes.unwrap_or(64 * MIB),
                poll_interval: poll_interval.unwrap_or(Duration::from_millis(100)),
                scan_interval: scan_interval.unwrap_or(Duration::from_secs(10)),
                drain: drain.unwrap_or(Duration::from_secs(5)),
                deleted: Deleted { files: deleted_files.unwrap_or(512), bytes: deleted_bytes.unwrap_or(1024 * MIB) },
            })
        })
    }
}

/// What goes into headers and into every record.
fn name(node: &Node<'_>) -> Option<String> {
    node.read("a name of at most 255 bytes", |text| (text.len() <= 255).then(|| text.to_owned()))
}

/// The downward API's variable, else the host's name.
fn default_node(env: &Environment<'_>) -> String {
    env("NODE_NAME").unwrap_or_else(|| rustix::system::uname().nodename().to_string_lossy().into_owned())
}

fn pods(node: &Node<'_>) -> Option<Option<PathBuf>> {
    if !node.is_present() {
        return Some(Some(PathBuf::from("/var/log/pods")));
    }
    node.read("a directory, or `none`", |text| Some((text != "none").then(|| PathBuf::from(text))))
}

fn first_start(map: &Map<'_>) -> Option<FirstStart> {
    let node = map.optional("first_start");
    if !node.is_present() {
        return Some(FirstStart::Since(DAY));
    }
    node.read("`beginning`, `end`, or an age like `24h`", |text| match text {
        "beginning" => Some(FirstStart::Beginning),
        "end" => Some(FirstStart::End),
        age => age.parse::<sluice_settings::units::Span>().ok().map(|age| FirstStart::Since(age.0)),
    })
}

fn gateway(map: &Map<'_>) -> Option<(Vec<Arc<Endpoint>>, usize, Duration)> {
    let urls = map.required("urls");
    let read_urls: Vec<Option<Uri>> =
        urls.list().map(|node| node.read("a url like http://gateway:7070", parse_url)).collect();
    let ca = map.optional("ca_file").file();
    let certificate = map.optional("certificate_file").file();
    let key = map.optional("key_file").file();
    let token_file = map.optional("token_file").file();
    let connections = map.optional("connections").integer(1..=16_usize);
    let seconds = |from, to| Duration::from_secs(from)..=Duration::from_secs(to);
    let connect_timeout =
        map.optional("connect_timeout").duration(Duration::from_millis(100)..=Duration::from_secs(60));
    let request_timeout = map.optional("request_timeout").duration(seconds(1, 600));
    let in_doubt_max = map.optional("in_doubt_max").duration(seconds(1, 6 * 86_400));

    if read_urls.is_empty() {
        urls.fault("at least one url is needed");
        return None;
    }
    let client = match (certificate, key) {
        (Some(certificate), Some(key)) => Some((certificate, key)),
        (None, None) => None,
        _ => {
            map.node().fault("certificate_file and key_file go together: give both or none");
            return None;
        }
    };
    let mut endpoints = Vec::new();
    for url in read_urls {
        let url = url?;
        let https = url.scheme_str() == Some("https");
        if https && ca.is_none() {
            map.node().fault("an https url needs ca_file, the certificates that may sign the gateway's");
            return None;
        }
        if !https && (token_file.is_some() || client.is_some()) && !is_loopback(&url) {
            map.node().fault("credentials are not sent in clear: use an https url with ca_file");
            return None;
        }
        let tls = ca.clone().filter(|_| https).map(|ca| TlsFiles { ca, client: client.clone() });
        endpoints.push(Arc::new(Endpoint {
            url,
            tls,
            token_file: token_file.clone(),
            connect_timeout: connect_timeout.unwrap_or(Duration::from_secs(5)),
            request_timeout: request_timeout.unwrap_or(Duration::from_secs(30)),
        }));
    }
    Some((endpoints, connections.unwrap_or(2), in_doubt_max.unwrap_or(Duration::from_secs(3600))))
}

fn parse_url(text: &str) -> Option<Uri> {
    let url: Uri = text.parse().ok()?;
    let known = matches!(url.scheme_str(), Some("http" | "https"));
    (known && url.host().is_some_and(|host| !host.is_empty())).then_some(url)
}

fn is_loopback(url: &Uri) -> bool {
    let host = url.host().unwrap_or_default().trim_matches(['[', ']']);
    host == "localhost" || host.parse().is_ok_and(|address: std::net::IpAddr| address.is_loopback())
}

fn size(bytes: u64) -> usize {
    usize::try_from(bytes).unwrap_or(usize::MAX)
}

/// A configuration for tests: `more` follows on the least that is needed.
#[cfg(test)]
pub(crate) fn for_tests(more: &str) -> Config {
    let text = format!("cluster: c\nenvironment: e\nnode: n\ngateway: {{urls: ['http://127.0.0.1:9']}}\n{more}");
    let env = |_: &str| None;
    sluice_settings::from_str(&text, &env, |node| Config::read(node, &env)).unwrap()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Config, sluice_settings::Faults> {
        let env = |name: &str| (name == "NODE_NAME").then(|| "node-a".to_owned());
        sluice_settings::from_str(text, &env, |node| Config::read(node, &env))
    }

    #[test]
    fn a_few_lines_are_enough() {
        let config = read("cluster: infra\nenvironment: production\ngateway: {urls: [http://gateway:7070]}").unwrap();
        assert_eq!((&*config.node, config.pods.as_deref()), ("node-a", Some(Path::new("/var/log/pods"))));
        assert_eq!((config.admin, config.first_start), (None, FirstStart::Since(DAY)));
        assert_eq!((config.block_bytes, config.connections), (192 * 1024, 2));
    }

    #[test]
    fn the_examples_are_sound() {
        read(include_str!("../../deploy/examples/agent-local.yaml")).unwrap();
        let full = read(include_str!("../../deploy/examples/agent.yaml")).unwrap();
        let units: Vec<_> = full.sources.host.iter().map(|files| files.unit.as_deref()).collect();
        assert_eq!(units, [None, Some("sshd"), None, Some("audit")]);
        assert_eq!((full.gateways.len(), full.admin.map(|admin| admin.port())), (2, Some(2020)));
    }

    #[test]
    fn every_fault_is_named_at_once() {
        let faults = read("cluster: infra\nenvironmnet: x\nfirst_start: yesterday\ngateway: {urls: [ftp://x], connections: 0}\nadmin: 2020")
            .unwrap_err()
            .to_string();
        for expected in ["environmnet", "environment", "first_start", "gateway.urls[0]", "gateway.connections", "admin"]
        {
            assert!(faults.contains(expected), "{expected} in {faults}");
        }
    }

    #[test]
    fn secrets_do_not_travel_in_clear() {
        let config = |url: &str| {
            read(&format!("cluster: c\nenvironment: e\ngateway: {{urls: ['{url}'], token_file: /t, ca_file: /ca}}"))
        };
        assert!(config("http://gateway:7070").unwrap_err().to_string().contains("not sent in clear"));
        assert!(config("http://127.0.0.1:7070").is_ok());
        assert!(config("https://gateway:7070").is_ok());
        let without_ca = read("cluster: c\nenvironment: e\ngateway: {urls: ['https://g']}").unwrap_err();
        assert!(without_ca.to_string().contains("ca_file"));
    }
}
