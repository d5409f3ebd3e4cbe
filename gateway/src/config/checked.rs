//! The configuration as the rooms use it: checked, defaulted, resolved. Made only by `load`.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use globset::GlobSet;
use sluice_wire::Category;

/// Everything. What can change while the gateway runs is in [`Policy`].
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// Where agents push.
    pub push: Listener,
    /// Health, readiness and metrics; `None`: not served.
    pub admin: Option<SocketAddr>,
    /// Bytes of request bodies and blocks under way, over all connections.
    pub memory_bytes: usize,
    /// How long a drain may take.
    pub drain: Duration,
    /// The durable buffer.
    pub journal: Journal,
    /// Where delivered logs go.
    pub destinations: Vec<Destination>,
    /// Who may send what, and where it goes.
    pub policy: Policy,
}

/// One listening socket.
#[derive(Debug, Clone, PartialEq)]
pub struct Listener {
    /// Address; without TLS or tokens it must be a loopback one.
    pub address: SocketAddr,
    /// TLS, and with a client CA mTLS.
    pub tls: Option<Tls>,
    /// Connections at once; further ones wait in the system's queue.
    pub max_connections: usize,
    /// How long a connection may be silent between requests, and a request's head may take.
    pub idle_timeout: Duration,
    /// How long a request's body may take.
    pub body_timeout: Duration,
}

/// Files in PEM.
#[derive(Debug, Clone, PartialEq)]
pub struct Tls {
    /// Certificate chain.
    pub certificate: PathBuf,
    /// Private key.
    pub key: PathBuf,
    /// CA of client certificates: mTLS.
    pub client_ca: Option<PathBuf>,
}

/// The embedded journal.
#[derive(Debug, Clone, PartialEq)]
pub struct Journal {
    /// Segments, cursors, batches, parking and dead letters live below it.
    pub directory: PathBuf,
    /// Bytes of all segments; what does not fit is refused with `journal-full`.
    pub max_bytes: u64,
    /// Bytes of one segment.
    pub segment_bytes: u64,
    /// How long a commit waits for company before its fsync.
    pub commit_delay: Duration,
    /// Silence after which a lane's number may be forgotten, in time of the log.
    pub lane_retention: Duration,
    /// Share of `max_bytes` that a destination may pin before its oldest entries are parked, 0 to 1.
    pub park_above: f64,
}

/// One place where logs go, with a cursor of its own.
#[derive(Debug, Clone, PartialEq)]
pub struct Destination {
    /// Its name in routes, labels and files: `[a-z0-9-]{1,63}`.
    pub name: Arc<str>,
    /// What it is.
    pub kind: DestinationKind,
}

/// The kinds of destination.
#[derive(Debug, Clone, PartialEq)]
pub enum DestinationKind {
    /// VictoriaLogs, or vmauth before it.
    VictoriaLogs(VictoriaLogs),
    /// JSON lines under a directory.
    File(FileDestination),
}

/// `POST {url}/insert/jsonline`.
#[derive(Debug, Clone, PartialEq)]
pub struct VictoriaLogs {
    /// Scheme, host, port, optional path prefix; no trailing slash.
    pub url: String,
    /// Bearer token; never printed.
    pub token: Option<Token>,
    /// CA of the server, where it is not a public one.
    pub ca: Option<PathBuf>,
    /// `_stream_fields` of the request.
    pub stream_fields: Vec<String>,
    /// How long an answered batch stays in doubt: the store keeps rows in memory before it syncs.
    pub durable_after: Duration,
    /// Whether batches carry `sluice_batch` and are counted before the cursor passes them.
    pub batch_ids: bool,
    /// The store's retention: older records it would answer 200 to and drop. `None`: not checked.
    pub retention: Option<Duration>,
    /// How far in the future a record may lie.
    pub future: Duration,
    /// Deadline of one request; below the store's own `-insert.maxQueueDuration` of 1 m.
    pub timeout: Duration,
    /// Requests under way at once.
    pub concurrency: usize,
    /// Compressed bytes of a batch.
    pub batch_bytes: usize,
    /// Raw bytes of a batch.
    pub batch_raw_bytes: usize,
    /// Age of a batch's first block.
    pub batch_age: Duration,
}

/// Where a destination's token comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Token {
    /// As it stands in the configuration's environment.
    Fixed(Secret),
    /// What a file holds: read again and again, for such tokens are renewed.
    File(PathBuf),
}

/// Files `{directory}/{tenant}/{category}/….jsonl`.
#[derive(Debug, Clone, PartialEq)]
pub struct FileDestination {
    /// Where.
    pub directory: PathBuf,
    /// A file is closed and the next begun at this size, bytes.
    pub max_file_bytes: u64,
    /// Age of a batch's first block.
    pub batch_age: Duration,
}

/// What may be reloaded while the gateway runs.
#[derive(Debug, Clone, PartialEq, Hash)]
pub struct Policy {
    /// A number that changes with its content; stored with every entry routed by it.
    pub version: u64,
    /// Who may send what.
    pub identities: Vec<Identity>,
    /// First match wins.
    pub tenant_rules: Vec<TenantRule>,
    /// Where no rule matches; `None`: refused as forbidden.
    pub default_tenant: Option<Tenant>,
    /// By tenant.
    pub limits: BTreeMap<Tenant, Limit>,
    /// For tenants without their own; `None`: no limit.
    pub default_limit: Option<Limit>,
    /// Every route that matches adds its destinations.
    pub routes: Vec<Route>,
    /// Where no route matches.
    pub default_destinations: Vec<Arc<str>>,
}

impl Policy {
    /// Every tenant that there can be.
    pub fn tenants(&self) -> impl Iterator<Item = &Tenant> {
        self.tenant_rules.iter().map(|rule| &rule.tenant).chain(&self.default_tenant)
    }

    /// The limit of a tenant.
    #[must_use]
    pub fn limit(&self, tenant: &str) -> Option<Limit> {
        self.limits.get(tenant).copied().or(self.default_limit)
    }
}

/// A tenant's name, the value of `X-Scope-OrgID`: `[A-Za-z0-9_.-]{1,150}`, not `.` or `..`.
pub type Tenant = Arc<str>;

/// A credential and what its holder may say of itself.
#[derive(Debug, Clone, PartialEq, Hash)]
pub struct Identity {
    /// Its name in rules, labels and logs.
    pub name: Arc<str>,
    /// How it is proved.
    pub proof: Proof,
    /// Clusters it may name; empty: any.
    pub clusters: Vec<Arc<str>>,
    /// Nodes it may name, globs; empty set matches any.
    pub nodes: Globs,
    /// Categories it may send.
    pub categories: Vec<Category>,
    /// Namespaces (or units) it may send, globs.
    pub namespaces: Globs,
}

/// How an identity is proved.
#[derive(Debug, Clone, PartialEq, Hash)]
pub enum Proof {
    /// `authorization: Bearer …`.
    Token(Secret),
    /// A subject alternative name (DNS or URI) in the client's certificate.
    San(String),
    /// A connection from a loopback address to a loopback listener without credentials.
    Loopback,
}

/// A set of globs with its source text, for messages.
#[derive(Clone, Default)]
pub struct Globs {
    /// As written.
    pub patterns: Vec<String>,
    /// Compiled; matches nothing when `patterns` is empty.
    pub set: GlobSet,
}

impl PartialEq for Globs {
    fn eq(&self, other: &Self) -> bool {
        self.patterns == other.patterns
    }
}

impl std::hash::Hash for Globs {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        self.patterns.hash(state);
    }
}

impl std::fmt::Debug for Globs {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.patterns.fmt(f)
    }
}

impl Globs {
    /// Whether `name` is meant; no patterns at all mean any name.
    #[must_use]
    pub fn allow(&self, name: &str) -> bool {
        self.patterns.is_empty() || self.set.is_match(name)
    }
}

/// Conditions are joined by "and"; an empty one matches anything.
#[derive(Debug, Clone, PartialEq, Hash)]
pub struct TenantRule {
    /// Identities by name.
    pub identities: Vec<Arc<str>>,
    /// Clusters.
    pub clusters: Vec<Arc<str>>,
    /// Categories.
    pub categories: Vec<Category>,
    /// Namespaces, globs.
    pub namespaces: Globs,
    /// Whose the lines are.
    pub tenant: Tenant,
}

/// Raw bytes and lines; a block above a burst is refused as too large.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Limit {
    /// Bytes per second; `None`: no limit.
    pub bytes: Option<Rate>,
    /// Lines per second.
    pub lines: Option<Rate>,
}

/// A token bucket.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Rate {
    /// Per second; at least 1.
    pub per_second: u32,
    /// Bucket's size; at least 1.
    pub burst: u32,
}

/// Conditions as in [`TenantRule`].
#[derive(Debug, Clone, PartialEq, Hash)]
pub struct Route {
    /// Tenants.
    pub tenants: Vec<Tenant>,
    /// Categories.
    pub categories: Vec<Category>,
    /// Namespaces, globs.
    pub namespaces: Globs,
    /// Names of destinations; empty: stored nowhere, which must be written as `destinations: []`.
    pub destinations: Vec<Arc<str>>,
}

/// A text that must not be printed.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Arc<str>);

impl Secret {
    /// Wraps it.
    #[must_use]
    pub fn new(text: &str) -> Self {
        Self(text.into())
    }

    /// The text, for the one place that sends or compares it.
    #[must_use]
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl std::hash::Hash for Secret {
    /// Nothing goes in: a policy's version is stored and printed, and must not tell of a secret.
    fn hash<H: std::hash::Hasher>(&self, _: &mut H) {}
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secret(…)")
    }
}
