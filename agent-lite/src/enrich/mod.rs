//! What is known of the node's pods, and what their annotations ask for.
//!
//! ```text
//! API server ── one list, one watch of this node's pods ──┐
//!    or kubelet ── GET /pods, polled ─────────────────────┴─► Table ──► Pods::lookup(directory) ─► PodInfo
//! API server ── GET of each namespace present (by choice) ───►  │
//! API server ◄── Event on a pod with wrong annotations ─────────┘
//! ```
//!
//! Nothing waits for it: a log is opened at once, and its reader decides how long it waits for
//! [`Pods::lookup`] to know the pod. What a pod looks like in a record is rendered when the pod changes.
//! The source may be away at any time; it is asked again with jittered backoff, and what is known stays.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use tokio::sync::{Notify, mpsc, watch};

mod annotations;
mod api;
pub mod config;
mod events;
mod items;
mod kubelet;
mod namespaces;
mod pod;
mod pods;
mod render;
mod table;

pub use annotations::{Allowed, Choice, Choices, Problem};
pub use config::{Settings, Source};
pub use render::{Fields, PodInfo};

use crate::metrics::KubernetesMetrics;
use events::Report;
use pod::Pod;
use table::{Rules, Table};

/// Between looks for what has lingered long enough.
const SWEEP: Duration = Duration::from_secs(5);
/// Events that wait to be written.
const MAX_REPORTS: usize = 64;

/// The pods of the node. Cheap to clone; a background task keeps it up to date.
#[derive(Debug, Clone)]
pub struct Pods(Arc<Shared>);

/// What is known of a log directory's pod.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Lookup {
    /// This. Newer knowledge is another `Arc`.
    Known(Arc<PodInfo>),
    /// The source does not have it (yet): a new pod can be some moments late.
    Unknown,
    /// The source has not answered since the agent began.
    Unavailable,
}

#[derive(Debug)]
struct Shared {
    table: Mutex<Table>,
    /// Rises with every change.
    generation: watch::Sender<u64>,
    /// Rings when a pod was looked up in vain.
    asked: Notify,
    reports: mpsc::Sender<Report>,
    wait: Duration,
    metrics: KubernetesMetrics,
}

/// Starts asking; `node` is this node's name in the API. With [`Source::None`] nothing is asked and
/// every look-up is [`Lookup::Unavailable`]. The future is to be polled (spawned) for as long as answers
/// are wanted; it never ends.
pub fn start(
    settings: &Settings,
    node: &str,
    metrics: &KubernetesMetrics,
) -> (Pods, impl Future<Output = ()> + Send + 'static) {
    let (reports, to_report) = mpsc::channel(MAX_REPORTS);
    let shared = Shared {
        table: Mutex::new(Table::new(Rules {
            fields: settings.fields.clone(),
            allowed: settings.allowed.clone(),
            max_pods: settings.max_pods,
            linger: settings.linger,
        })),
        generation: watch::Sender::new(0),
        asked: Notify::new(),
        reports,
        wait: settings.wait,
        metrics: metrics.clone(),
    };
    let pods = Pods(Arc::new(shared));
    let settings = settings.clone();
    let node = node.to_owned();
    (pods.clone(), async move { run(pods, settings, node, to_report).await })
}

async fn run(pods: Pods, settings: Settings, node: String, to_report: mpsc::Receiver<Report>) {
    let api = api::Access::new(settings.kubeconfig.clone());
    let source = async {
        match &settings.source {
            Source::None => std::future::pending().await,
            Source::Watch => pods::follow(&pods, &api, &node).await,
            Source::Kubelet(kubelet) => kubelet::follow(&pods, &api, kubelet).await,
        }
    };
    let namespaces = async {
        if settings.fields.namespace_labels && settings.source != Source::None {
            namespaces::follow(&pods, &api).await;
        }
    };
    let events = async {
        if settings.events {
            events::write(to_report, &api, &node, &pods.0.metrics).await;
        }
    };
    let sweep = async {
        loop {
            tokio::time::sleep(SWEEP).await;
            pods.update(|table| {
                table.sweep(Instant::now());
                false
            });
        }
    };
    tokio::join!(source, namespaces, events, sweep);
}

impl Pods {
    /// What is known of the pod whose log directory is called `<namespace>_<name>_<uid>`. One that is not
    /// known is asked for at once where the source is polled.
    #[must_use]
    pub fn lookup(&self, namespace: &str, name: &str, uid: &str) -> Lookup {
        let table = self.table();
        if let Some(info) = table.find(namespace, name, uid) {
            return Lookup::Known(info.clone());
        }
        if !table.is_synced() {
            return Lookup::Unavailable;
        }
        drop(table);
        self.0.metrics.missed.inc();
        self.0.asked.notify_one();
        Lookup::Unknown
    }

    /// How long a new container is to wait for its pod to be known, and whole.
    #[must_use]
    pub fn wait(&self) -> Duration {
        self.0.wait
    }

    /// Rises whenever any pod changed: where it has not, what was looked up before still holds. Where it
    /// has, look up again and compare the `Arc`s: of a pod that did not change it is the same.
    #[must_use]
    pub fn generation(&self) -> u64 {
        *self.0.generation.borrow()
    }

    /// Waits until [`generation`](Self::generation) is not `seen`, and gives it. Cancel safe.
    pub async fn changed(&self, seen: u64) -> u64 {
        let mut generation = self.0.generation.subscribe();
        // The sender is in `self`: there always is one.
        generation.wait_for(|now| *now != seen).await.map_or(seen, |now| *now)
    }

    /// The directory's files are shipped, and gone. What is known of the pod is forgotten as soon as the
    /// API has deleted it.
    pub fn release(&self, uid: &str) {
        self.update(|table| {
            table.release(uid);
            false
        });
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        // Nothing panics while it holds the lock, and a table is sound between any two statements.
        self.0.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes the table; where `change` says that something did change, whoever waits is woken.
    fn update(&self, change: impl FnOnce(&mut Table) -> bool) {
        let mut table = self.table();
        let changed = change(&mut table);
        self.0.metrics.pods.set(i64::try_from(table.len()).unwrap_or(i64::MAX));
        drop(table);
        if changed {
            self.0.generation.send_modify(|generation| *generation += 1);
        }
    }

    fn put(&self, pod: &Pod) {
        let mut put = table::Put::default();
        self.update(|table| {
            put = table.put(pod);
            put.changed
        });
        let metrics = &self.0.metrics;
        metrics.pods_left_out.inc_by(u64::from(put.refused));
        metrics.labels_left_out.inc_by(put.left_out as u64);
        for problem in put.problems {
            metrics.annotation_errors.inc();
            let (namespace, name) = (&pod.metadata.namespace, &pod.metadata.name);
            tracing::debug!(%namespace, pod = %name, %problem, "a wrong annotation");
            // More than can be told are only counted.
            let _ = self.0.reports.try_send(Report::new(pod, &problem));
        }
    }

    fn begin_list(&self) {
        self.0.metrics.lists.inc();
        self.update(|table| {
            table.begin_list();
            false
        });
    }

    fn end_list(&self) {
        self.0.metrics.syncs.inc();
        self.update(|table| {
            table.end_list(Instant::now());
            true
        });
    }

    fn gone(&self, uid: &str) {
        self.update(|table| {
            table.gone(uid, Instant::now());
            false
        });
    }

    /// The source has answered.
    fn in_contact(&self) {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        self.0.metrics.last_contact.set(i64::try_from(now.as_secs()).unwrap_or(i64::MAX));
    }
}

#[cfg(test)]
impl Pods {
    /// For tests of other rooms: nothing is known but what they tell.
    pub(crate) fn for_tests(fields: Fields, allowed: Allowed) -> Self {
        let settings = Settings { fields, allowed, ..Settings::default() };
        let metrics = crate::metrics::Metrics::new().unwrap();
        start(&settings, "n", &metrics.kubernetes).0
    }

    /// A pod becomes known.
    pub(crate) fn learn(&self, pod: &str) {
        self.put(&serde_json::from_str(pod).unwrap());
    }
}

#[cfg(test)]
mod tests;
