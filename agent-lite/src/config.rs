//! The agent's settings: YAML, checked as a whole before anything starts. `docs/CONFIG.md` lists them.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use sluice_settings::{Environment, FileError, Map, Node};

use crate::enrich;
use crate::redact::{self, Redactor};
use crate::runtime;
use crate::tail::{Deleted, Sharing, Tools};

mod destination;
mod messages;
mod reload;
mod sharing;

pub use destination::Destination;
use reload::Written;
pub use reload::{Change, Reloader};

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
    /// Checkpoints, ring, spool, dead letters.
    pub state: PathBuf,
    /// Where the kubelet keeps pods' logs; `None`: no pods' logs.
    pub pods: Option<PathBuf>,
    /// What else is read, and which category everything is of.
    pub sources: Sources,
    /// What to read of files that exist when the agent first runs on a node.
    pub first_start: FirstStart,
    /// What does not leave the node; `None`: everything does.
    pub redact: Option<redact::Config>,
    /// Where logs go.
    pub destination: Destination,
    /// What is asked of Kubernetes, and what records say of it.
    pub kubernetes: enrich::Settings,
    /// Where health and metrics are served; `None`: nowhere.
    pub admin: Option<SocketAddr>,
    /// Where the container runtime tells how much it wrote; `None`: it is not asked.
    pub runtime: Option<runtime::Settings>,
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
    /// Bytes of the spool; 0: none.
    pub spool_bytes: u64,
    /// Bytes of dead letters.
    pub dead_letter_bytes: u64,
    /// Between looks at files for new lines.
    pub poll_interval: Duration,
    /// Between scans for new files.
    pub scan_interval: Duration,
    /// How long what is known of a file outlives it, and then its log's page of the books.
    pub forget_after: Duration,
    /// What a stop may take.
    pub drain: Duration,
    /// Deleted files that may be held open.
    pub deleted: Deleted,
    /// How turns and bytes are shared out.
    pub sharing: Sharing,
    /// What can be done to messages.
    pub messages: Tools,
    written: Written,
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
            let cluster = name_or(map, "cluster", env("CLUSTER"));
            let environment = name_or(map, "environment", env("ENVIRONMENT"));
            let node_name = map.optional("node");
            let node_name = if node_name.is_present() { name(&node_name) } else { Some(default_node(env)) };
            let state = map.optional("state_directory").file();
            let pods = pods(&map.optional("pods"));
            let sources = Sources::read(map, env);
            let first_start = first_start(map);
            let redact = map.optional("redact");
            let redact = if redact.is_present() { redact::Config::read(&redact, env).map(Some) } else { Some(None) };
            let mut kubernetes = enrich::config::read(&map.optional("kubernetes"), node_name.as_deref(), env);
            let destination = destination::read(map, env);
            let admin = map.optional("admin").read("an address like 0.0.0.0:2020", |text| text.parse().ok());
            let runtime = map.optional("runtime_metrics");
            let runtime = runtime.read("an http URL like http://127.0.0.1:1338/v1/metrics", runtime::Settings::parse);
            let block_bytes = map.optional("block_bytes").bytes(4 * KIB..=768 * KIB);
            let block_age = map.optional("block_age").duration(Duration::from_millis(20)..=Duration::from_secs(60));
            let open_bytes = map.optional("open_bytes").bytes(MIB..=256 * MIB);
            let queued_bytes = map.optional("queued_bytes").bytes(2 * MIB..=256 * MIB);
            let ring_bytes = map.optional("ring_bytes").bytes(8 * MIB..=16 * 1024 * MIB);
            let spool_bytes = spool_bytes(&map.optional("spool_bytes"));
            let dead_letter_bytes = map.optional("dead_letter_bytes").bytes(MIB..=16 * 1024 * MIB);
            let poll_interval =
                map.optional("poll_interval").duration(Duration::from_millis(10)..=Duration::from_secs(10));
            let scan_interval =
                map.optional("scan_interval").duration(Duration::from_millis(100)..=Duration::from_secs(600));
            let forget_after =
                map.optional("forget_after").duration(Duration::from_secs(1)..=Duration::from_secs(24 * 3600));
            let drain = map.optional("drain").duration(Duration::ZERO..=Duration::from_secs(600));
            let deleted_files = map.optional("deleted_files").integer(1..=65_536_usize);
            let deleted_bytes = map.optional("deleted_bytes").bytes(MIB..=1024 * 1024 * MIB);
            let sharing = sharing::sharing(map);
            let messages = messages::messages(map);
            if let (Some(kubernetes), Some(sources)) = (&mut kubernetes, &sources) {
                kubernetes.fields.asked_labels = sources.pods.label_names();
            }
            if let (Some(kubernetes), Some(messages)) = (&kubernetes, &messages) {
                messages::check(&kubernetes.allowed, messages, map);
            }
            Some(Self {
                written: Written::read(node),
                cluster: cluster?,
                environment: environment?,
                node: node_name?,
                state: state.unwrap_or_else(|| PathBuf::from("/var/lib/sluice")),
                pods: pods?,
                sources: sources?,
                first_start: first_start?,
                redact: redact?,
                kubernetes: kubernetes?,
                destination: destination?,
                admin,
                runtime,
                block_bytes: size(block_bytes.unwrap_or(192 * KIB)),
                block_age: block_age.unwrap_or(Duration::from_secs(1)),
                open_bytes: size(open_bytes.unwrap_or(6 * MIB)),
                queued_bytes: size(queued_bytes.unwrap_or(6 * MIB)),
                ring_bytes: ring_bytes.unwrap_or(64 * MIB),
                spool_bytes: spool_bytes.unwrap_or(256 * MIB),
                dead_letter_bytes: dead_letter_bytes.unwrap_or(64 * MIB),
                poll_interval: poll_interval.unwrap_or(Duration::from_millis(150)),
                scan_interval: scan_interval.unwrap_or(Duration::from_secs(10)),
                forget_after: forget_after.unwrap_or(Duration::from_secs(15 * 60)),
                drain: drain.unwrap_or(Duration::from_secs(5)),
                sharing: sharing?,
                messages: messages?,
                deleted: Deleted { files: deleted_files.unwrap_or(512), bytes: deleted_bytes.unwrap_or(1024 * MIB) },
            })
        })
    }
}

/// Why nothing can be redacted.
#[derive(Debug, thiserror::Error)]
pub enum KeyFileError {
    /// The key's file cannot be read.
    #[error(transparent)]
    File(#[from] FileError),
    /// What it says is no key.
    #[error("{}: {source}", path.display())]
    Key {
        /// The file.
        path: PathBuf,
        /// Why.
        source: redact::KeyError,
    },
}

impl Config {
    /// What redacts, with its key; `None` where nothing is to be redacted.
    ///
    /// # Errors
    /// The file that holds the key cannot be read, or holds none.
    pub fn redactor(&self) -> Result<Option<Redactor>, KeyFileError> {
        let Some(config) = &self.redact else { return Ok(None) };
        let key = match config.key_file() {
            None => config.key(),
            Some(path) => {
                let text = sluice_settings::read_file(path)?;
                let key = redact::Key::new(&text);
                Some(key.map_err(|source| KeyFileError::Key { path: path.to_owned(), source })?)
            }
        };
        Ok(Some(Redactor::new(config, key)))
    }
}

/// What goes into headers and into every record.
fn name(node: &Node<'_>) -> Option<String> {
    node.read("a name of at most 255 bytes", |text| (text.len() <= 255).then(|| text.to_owned()))
}

/// A name that may come from a variable instead.
fn name_or(map: &Map<'_>, key: &'static str, variable: Option<String>) -> Option<String> {
    let node = map.optional(key);
    if node.is_present() {
        return name(&node);
    }
    let variable = variable.filter(|value| !value.is_empty() && value.len() <= 255);
    if variable.is_none() {
        let name = key.to_uppercase();
        node.fault(format!("it is missing: add it, or set {name} in the environment (at most 255 bytes)"));
    }
    variable
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

/// Two segments at least, or none at all.
fn spool_bytes(node: &Node<'_>) -> Option<u64> {
    let bytes = node.bytes(0..=1024 * 1024 * MIB)?;
    if (1..16 * MIB).contains(&bytes) {
        node.fault("16MiB or more, or 0 for no spool");
    }
    Some(bytes)
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
        assert_eq!((config.block_bytes, config.destination.pool.connections), (192 * 1024, 2));
    }

    #[test]
    fn the_examples_are_sound() {
        read(include_str!("../../deploy/examples/agent-local.yaml")).unwrap();
        let variables = [
            ("CLUSTER", "infra"),
            ("ENVIRONMENT", "production"),
            ("NODE_NAME", "node-a"),
            ("OBSERVABILITY_LOG_ENDPOINT_HOST", "vmauth"),
            ("OBSERVABILITY_LOG_TENANT", "main"),
        ];
        let env = |name: &str| variables.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned());
        let text = include_str!("../../deploy/examples/agent-direct.yaml");
        let direct = sluice_settings::from_str(text, &env, |node| Config::read(node, &env)).unwrap();
        assert_eq!(direct.destination.endpoints[0].url, "http://vmauth:8427/insert/jsonline");
        let full = read(include_str!("../../deploy/examples/agent.yaml")).unwrap();
        let units: Vec<_> = full.sources.host.iter().map(|files| files.unit.as_deref()).collect();
        assert_eq!(units, [None, Some("sshd"), None, Some("audit")]);
        assert_eq!((full.destination.endpoints.len(), full.admin.map(|admin| admin.port())), (2, Some(2020)));
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
    fn what_is_redacted_is_read_and_its_key_is_asked_for_at_the_end() {
        let config = |redact: &str| for_tests(&format!("redact: {redact}"));
        assert!(for_tests("").redactor().unwrap().is_none());
        assert!(config("{rules: [email]}").redactor().unwrap().is_some());
        let file = tempfile::NamedTempFile::new().unwrap();
        let hashing =
            config(&format!("{{rules: [{{name: email, action: hash}}], hash_key_file: '{}'}}", file.path().display()));
        assert!(hashing.redactor().unwrap_err().to_string().contains("less than 16 bytes"));
        std::fs::write(file.path(), "0123456789abcdef\n").unwrap();
        let mut redactor = hashing.redactor().unwrap().unwrap();
        let scope = redactor.scope("shop");
        assert!(
            matches!(redactor.apply("a@b.com", scope), redact::Outcome::Changed(text) if text.starts_with("[email:"))
        );
        drop(file);
        assert!(hashing.redactor().is_err());
        let faults =
            read("cluster: c\nenvironment: e\ngateway: {urls: ['http://127.0.0.1:9']}\nredact: {rules: [emial]}");
        assert!(faults.unwrap_err().to_string().starts_with("redact.rules[0] (line 4)"));
    }

    #[test]
    fn a_spool_has_room_for_something_or_is_none() {
        let config = |bytes: &str| {
            read(&format!("cluster: c\nenvironment: e\ngateway: {{urls: [http://g]}}\nspool_bytes: {bytes}"))
        };
        assert_eq!(config("0").unwrap().spool_bytes, 0);
        assert_eq!(config("16MiB").unwrap().spool_bytes, 16 * MIB);
        assert!(config("1MiB").unwrap_err().to_string().contains("spool_bytes"));
    }
}
