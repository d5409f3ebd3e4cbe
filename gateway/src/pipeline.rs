//! The only file that knows every room: opens, starts, serves, and ends in order.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use sluice_settings::Status;
use sluice_settings::units::Bytes;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout_at};

use crate::admin::{self, Condition, Finding};
use crate::config::checked::Config;
use crate::config::{Reloader, Sources};
use crate::deliver::{self, Deliverers};
use crate::journal::{self, Embedded};
use crate::metrics::Metrics;
use crate::receive::Receiver;
use crate::serve::Server;
use crate::serve::tls::{self, Acceptor};

/// How often the configuration's file is looked at.
const RELOAD: Duration = Duration::from_secs(5);
/// Connections of the admin listener: scrapers and probes. Silent ones go soon, so that a probe finds room.
const ADMIN_CONNECTIONS: usize = 256;
const ADMIN_IDLE: Duration = Duration::from_secs(10);

/// Why the gateway could not run.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Two metrics have one name.
    #[error("metrics cannot be registered")]
    Metrics(#[from] prometheus::Error),
    /// Certificate, key or CA.
    #[error("push.tls")]
    Tls(#[from] tls::Error),
    /// The journal cannot be opened.
    #[error("journal")]
    Journal(#[from] journal::Error),
    /// A destination cannot be started.
    #[error(transparent)]
    Deliver(#[from] deliver::Error),
    /// An address cannot be listened on.
    #[error("cannot listen on {address}: is it free, and one of this machine's?")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// What the system said.
        source: io::Error,
    },
    /// Signals cannot be waited for.
    #[error("cannot wait for signals")]
    Signals(#[source] io::Error),
}

/// Runs a gateway with `config`, read from `path`, until `stop`; then drains within the time that the
/// configuration gives. What is not delivered by then is in the journal.
///
/// # Errors
/// Whatever keeps it from starting.
pub async fn run(path: PathBuf, config: Config, stop: impl Future<Output = ()>) -> Result<(), Error> {
    let metrics = Metrics::new()?;
    let acceptor = config.push.tls.as_ref().map(Acceptor::new).transpose()?.map(Arc::new);
    let push = listen(&config, acceptor.clone(), &metrics).await?;
    let admin = listen_admin(config.admin, &metrics).await?;
    warn_of_open_tokens(&config);

    // Opening reads the end of the log, which takes a while: nothing is served before.
    let journal = Embedded::open(&config.journal, metrics.journal.clone())?;
    let receiver = Arc::new(Receiver::new(journal, &config, metrics.receive.clone()));
    let deliverers = deliver::start(receiver.journal(), &config.destinations, &metrics.deliver)?;
    let deliverers = Arc::new(Mutex::new(Some(deliverers)));

    let reloader = Reloader::new(path, Sources::SYSTEM, config.clone());
    let leaving = Arc::new(AtomicBool::new(false));
    let look = Arc::new(look(&leaving, reloader.status(), &receiver, &deliverers));
    let admin_address = admin.as_ref().map(address).transpose()?;
    let admin = admin.map(|server| Serving::start(server, admin::router(metrics.registry.clone(), look)));
    let push_address = address(&push)?;
    let push = Serving::start(push, receiver.router());
    let reload = tokio::spawn(reload(reloader, Arc::clone(&receiver), acceptor, metrics.clone()).await?);
    let admin_text = admin_address.map_or("none".to_owned(), |address| address.to_string());
    tracing::info!(push = %push_address, admin = %admin_text, "listening");

    stop.await;
    let deadline = Instant::now() + config.drain;
    tracing::info!(at_most = ?config.drain, "draining");
    leaving.store(true, Ordering::Release);
    reload.abort();
    // Whoever chooses addresses by readiness gets to see it before anything is refused.
    tokio::time::sleep((config.drain / 10).min(Duration::from_secs(2))).await;
    receiver.drain();
    push.stop(Instant::now() + (deadline - Instant::now()) / 2).await;
    let running = deliverers.lock().unwrap_or_else(PoisonError::into_inner).take();
    let delivered = match running {
        Some(deliverers) => deliverers.shutdown(deadline.saturating_duration_since(Instant::now())).await,
        None => true,
    };
    if let Some(admin) = admin {
        admin.stop(Instant::now()).await;
    }
    tracing::info!(delivered_in_time = delivered, "ended; what is not delivered is in the journal");
    Ok(())
}

async fn listen(config: &Config, acceptor: Option<Arc<Acceptor>>, metrics: &Metrics) -> Result<Server, Error> {
    let push = &config.push;
    metrics.push_max_connections.set(i64::try_from(push.max_connections).unwrap_or(i64::MAX));
    let open = metrics.push_connections.clone();
    let server = Server::bind(push.address, acceptor, push.max_connections, push.idle_timeout, open).await;
    server.map_err(|source| Error::Listen { address: push.address, source })
}

async fn listen_admin(address: Option<SocketAddr>, metrics: &Metrics) -> Result<Option<Server>, Error> {
    let Some(address) = address else { return Ok(None) };
    let open = metrics.admin_connections.clone();
    let server = Server::bind(address, None, ADMIN_CONNECTIONS, ADMIN_IDLE, open).await;
    server.map(Some).map_err(|source| Error::Listen { address, source })
}

fn address(server: &Server) -> Result<SocketAddr, Error> {
    server.address().map_err(|source| Error::Listen { address: SocketAddr::from(([0, 0, 0, 0], 0)), source })
}

fn warn_of_open_tokens(config: &Config) {
    if config.push.tls.is_none() && !config.push.address.ip().is_loopback() {
        tracing::warn!("push has no tls: tokens and logs can be read on the way, unless something else encrypts it");
    }
}

/// A server under way.
struct Serving {
    stop: oneshot::Sender<()>,
    task: JoinHandle<()>,
}

impl Serving {
    fn start(server: Server, router: axum::Router) -> Self {
        let (stop, stopped) = oneshot::channel::<()>();
        let stopped = async { drop(stopped.await) };
        Self { stop, task: tokio::spawn(server.run(router, stopped)) }
    }

    /// Lets requests under way end, until `deadline`.
    async fn stop(self, deadline: Instant) {
        drop(self.stop);
        let mut task = self.task;
        if timeout_at(deadline, &mut task).await.is_err() {
            task.abort();
        }
    }
}

/// Looks at the configuration's file, and at the certificate's, every so often and on SIGHUP.
async fn reload(
    mut reloader: Reloader,
    receiver: Arc<Receiver<Embedded>>,
    acceptor: Option<Arc<Acceptor>>,
    metrics: Metrics,
) -> Result<impl Future<Output = ()> + Send + 'static, Error> {
    let mut hangup = signal(SignalKind::hangup()).map_err(Error::Signals)?;
    let status = reloader.status();
    Ok(async move {
        let mut tls_failed = None;
        loop {
            tokio::select! {
                () = tokio::time::sleep(RELOAD) => {}
                _ = hangup.recv() => tracing::info!("looking at the configuration, as told by SIGHUP"),
            }
            if let Some(policy) = reloader.look() {
                receiver.reload(policy);
                metrics.config.reloads.inc();
            }
            metrics.config.reload_failed.set(status.failure().is_some().into());
            metrics.config.needs_restart.set((!status.needs_restart().is_empty()).into());
            let failed = acceptor.as_ref().and_then(|acceptor| match acceptor.refresh() {
                Ok(changed) => {
                    if changed {
                        tracing::info!("certificate reloaded");
                    }
                    None
                }
                Err(error) => Some(error.to_string()),
            });
            if let Some(error) = failed.as_ref().filter(|error| tls_failed.as_ref() != Some(*error)) {
                tracing::error!(error, "renewed TLS files cannot be used; the last good ones stay in force");
            }
            metrics.config.tls_reload_failed.set(failed.is_some().into());
            tls_failed = failed;
        }
    })
}

/// What `/readyz` tells. Only leaving, or a journal that is dead, makes the gateway unready: one whose
/// journal is full, or whose destinations are away, must still be found by agents that have blocks in doubt
/// here.
fn look(
    leaving: &Arc<AtomicBool>,
    status: Arc<Status>,
    receiver: &Arc<Receiver<Embedded>>,
    deliverers: &Arc<Mutex<Option<Deliverers>>>,
) -> impl Fn() -> Vec<Finding> + Send + Sync + 'static {
    let (leaving, receiver, deliverers) = (Arc::clone(leaving), Arc::clone(receiver), Arc::clone(deliverers));
    let finding = |what: &str, fault: Option<String>, well: String| {
        let condition = if fault.is_some() { Condition::Amiss } else { Condition::Well };
        Finding { what: what.to_owned(), condition, text: fault.unwrap_or(well) }
    };
    move || {
        let mut findings = Vec::new();
        if leaving.load(Ordering::Acquire) {
            findings.push(Finding { what: "push".into(), condition: Condition::NotReady, text: "draining".into() });
        } else {
            findings.push(finding("push", None, "accepting".into()));
        }
        findings.push(finding("config", status.failure(), "in force as it stands in the file".into()));
        let restart = Some(status.needs_restart().join(", ")).filter(|parts| !parts.is_empty());
        let restart = restart.map(|parts| format!("changed, needs a restart: {parts}"));
        findings.push(finding("restart", restart, "not needed".into()));
        if receiver.journal().has_ended() {
            let text = "its thread has ended, see the log: nothing is stored any more".into();
            findings.push(Finding { what: "journal".into(), condition: Condition::Dead, text });
        } else {
            let fill = receiver.journal().fill();
            let full = (fill.bytes >= fill.max_bytes).then(|| format!("full: {}", Bytes(fill.max_bytes)));
            findings.push(finding("journal", full, format!("{} of {} bytes", fill.bytes, fill.max_bytes)));
        }
        let deliverers = deliverers.lock().unwrap_or_else(PoisonError::into_inner);
        for health in deliverers.as_ref().map(Deliverers::health).unwrap_or_default() {
            let what = format!("destination {}", health.destination);
            let failing = health.failing.iter().map(|(tenant, said)| format!("tenant {tenant}: {said}"));
            let faults: Vec<String> =
                health.stopped.iter().cloned().chain(failing).chain(health.not_counted.clone()).collect();
            let fault = (!faults.is_empty()).then(|| faults.join("; "));
            findings.push(finding(&what, fault, "delivering".into()));
        }
        findings
    }
}
