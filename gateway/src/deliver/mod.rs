//! From the journal to the destinations, each at its own pace.
//!
//! ```text
//! journal ─► subscription ─► gather ─► queue ─► in flight ─► trailing ─► decided ─► cursor saved
//!                 │           batches    │  ▲        │           │
//!                 ▼                      ▼  └────────┴─ wait ◄───┘  retry, doubt, hold: read again later
//!              parking ◄──── of tenants that do not get through
//! ```
//!
//! Each destination has a thread of its own with a small runtime: it may block on its disk, and it can
//! hold up nobody but itself. What it promises, and the bytes it keeps, are in `docs/delivery.md`.

mod batch;
mod batch_log;
mod dead_letters;
mod destination;
mod park;
mod schedule;
mod settle;
mod tell;
mod tenants;
mod trail;
mod worker;

use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use sluice_durable_log::io::Files;
use sluice_wire::JournalId;
use tokio::sync::watch;
use tokio::time::Instant;

use self::batch_log::BatchLog;
use self::dead_letters::DeadLetters;
use self::destination::file::FileTree;
use self::destination::victorialogs::VictoriaLogs;
use self::destination::{Destination, Trailing};
use self::worker::{Setting, Worker};
use crate::causes;
use crate::config::checked::{self, DestinationKind};
use crate::journal::{self, Embedded, EmbeddedSubscription, Journal as _, Subscriber, Subscription as _};
use crate::metrics::deliver::DeliverMetrics;

/// Share of the journal's bytes that the dead letters of one destination may take; more if a batch needs it.
const DEAD_LETTER_SHARE: u64 = 16;

/// A destination that could not be set up is tried again after this.
const SET_UP_AGAIN: Duration = Duration::from_secs(5);

/// Why the delivery to a destination could not be started.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The journal, or a file beside it.
    #[error("destination {destination}")]
    Journal {
        /// Its name.
        destination: Arc<str>,
        /// Why.
        source: journal::Error,
    },
    /// The destination itself.
    #[error("destination {destination} cannot be set up")]
    SetUp {
        /// Its name.
        destination: Arc<str>,
        /// Why.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The system gave no thread.
    #[error("destination {destination}: cannot start its thread")]
    Thread {
        /// Its name.
        destination: Arc<str>,
        /// Why.
        source: io::Error,
    },
}

/// How one destination is doing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Health {
    /// Its name.
    pub destination: Arc<str>,
    /// Why nothing goes to it: it cannot be set up, or its thread ended. `None`: it works.
    pub stopped: Option<String>,
    /// Tenants that do not get through at present, with what was said.
    pub failing: Vec<(Arc<str>, String)>,
    /// Why what was delivered cannot be counted.
    pub not_counted: Option<String>,
}

impl Health {
    /// Whether anything is amiss.
    #[must_use]
    pub fn is_well(&self) -> bool {
        self.stopped.is_none() && self.failing.is_empty() && self.not_counted.is_none()
    }
}

/// All deliveries under way. Dropping it ends them at once, which is safe: what is not decided is
/// delivered after the next start.
#[derive(Debug)]
pub struct Deliverers {
    stop: watch::Sender<Stop>,
    running: Vec<Running>,
}

#[derive(Debug)]
struct Running {
    health: Arc<Mutex<Health>>,
    thread: JoinHandle<()>,
    ended: watch::Receiver<bool>,
}

/// When to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stop {
    /// Not yet.
    No,
    /// Send what was read, save, end by then.
    By(Instant),
}

/// Starts the delivery to every destination. One that cannot be set up (a directory that cannot be written,
/// a CA that is not there) stops nobody else: its entries are kept, and it is tried again.
///
/// # Errors
/// Where the system gives no thread, or the cursor of a destination that is no longer configured cannot be
/// moved.
pub fn start(
    journal: &Embedded,
    destinations: &[checked::Destination],
    metrics: &DeliverMetrics,
) -> Result<Deliverers, Error> {
    let names: Vec<&str> = destinations.iter().map(|destination| &*destination.name).collect();
    let (stop, stopping) = watch::channel(Stop::No);
    let mut deliverers = Deliverers { stop, running: Vec::new() };
    for destination in destinations {
        let name = &destination.name;
        let part = Part {
            name: Arc::clone(name),
            kind: destination.kind.clone(),
            subscriber: journal.subscriber(name),
            journal: journal.id(),
            files: Arc::clone(journal.files()),
            config: journal.config().clone(),
            metrics: metrics.clone(),
            health: Arc::new(Mutex::new(Health { destination: Arc::clone(name), ..Health::default() })),
            stop: stopping.clone(),
        };
        deliverers.running.push(part.start()?);
    }
    let destination: Arc<str> = "(all)".into();
    journal.keep_only(&names).map_err(|source| Error::Journal { destination, source })?;
    Ok(deliverers)
}

/// What one delivery is made of.
struct Part {
    name: Arc<str>,
    kind: DestinationKind,
    subscriber: Subscriber,
    journal: JournalId,
    files: Arc<dyn Files>,
    config: checked::Journal,
    metrics: DeliverMetrics,
    health: Arc<Mutex<Health>>,
    stop: watch::Receiver<Stop>,
}

impl Part {
    fn start(self) -> Result<Running, Error> {
        let (telling, ended) = watch::channel(false);
        let health = Arc::clone(&self.health);
        let name = Arc::clone(&self.name);
        let work = move || {
            let (name, told) = (Arc::clone(&self.name), Arc::clone(&self.health));
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            let result = match runtime {
                Ok(runtime) => runtime.block_on(self.run()).map_err(|error| error.to_string()),
                Err(error) => Err(error.to_string()),
            };
            if let Err(error) = result {
                tracing::error!(destination = &*name, error, "delivery ended");
                told.lock().expect("no code panics while it holds the health").stopped = Some(error);
            }
            telling.send_replace(true);
        };
        let thread = std::thread::Builder::new().name(format!("deliver-{name}")).spawn(work);
        let thread = thread.map_err(|source| Error::Thread { destination: name, source })?;
        Ok(Running { health, thread, ended })
    }

    /// Delivers until told to stop; before that, tries to set the destination up until it can be.
    async fn run(mut self) -> Result<(), journal::Error> {
        let mut stop = self.stop.clone();
        loop {
            let files = Arc::clone(&self.files);
            let error = match self.kind.clone() {
                DestinationKind::VictoriaLogs(config) => match self.set_up(|_| VictoriaLogs::new(&config)) {
                    Ok(worker) => return worker.run().await,
                    Err(error) => error,
                },
                DestinationKind::File(config) => match self.set_up(|state| FileTree::open(files, &config, state)) {
                    Ok(worker) => return worker.run().await,
                    Err(error) => error,
                },
            };
            self.say_stopped(Some(causes::in_one_line(&error)));
            // Whoever started us may be gone: that is a stop as well.
            if tokio::time::timeout(SET_UP_AGAIN, stop.wait_for(|stop| *stop != Stop::No)).await.is_ok() {
                return Ok(());
            }
        }
    }

    /// Opens all that the delivery needs.
    fn set_up<D, E>(
        &mut self,
        make: impl FnOnce(Option<&[u8]>) -> Result<D, E>,
    ) -> Result<Worker<EmbeddedSubscription, D>, Error>
    where
        D: Destination,
        E: std::error::Error + Send + Sync + 'static,
    {
        let name = &self.name;
        let failed = |source| Error::Journal { destination: Arc::clone(name), source };
        let subscription = self.subscriber.subscribe().map_err(failed)?;
        let destination = make(subscription.state())
            .map_err(|error| Error::SetUp { destination: Arc::clone(name), source: Box::new(error) })?;
        let config = &self.config;
        let below = |kind: &str| -> PathBuf { config.directory.join(kind).join(&**name) };
        let files = || Arc::clone(&self.files);
        let recorded = match destination.terms().trailing {
            Trailing::Count(_) => Some(BatchLog::open(files(), &below("batches"), self.journal).map_err(failed)?),
            Trailing::Wait(_) | Trailing::Final => None,
        };
        // Room for a batch of which every record is rejected, however small the journal is.
        let room = (config.max_bytes / DEAD_LETTER_SHARE).max(2 * destination.terms().batch_raw_bytes as u64);
        let letters = DeadLetters::open(files(), &below("dead-letters"), room).map_err(failed)?;
        let setting = Setting {
            name: Arc::clone(name),
            metrics: self.metrics.clone(),
            health: Arc::clone(&self.health),
            stop: self.stop.clone(),
            // As precise as a share of a disk has to be.
            #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_precision_loss)]
            park_above: (config.max_bytes as f64 * config.park_above) as u64,
        };
        self.say_stopped(None);
        Ok(Worker::new(setting, subscription, destination, recorded, letters))
    }

    /// Tells why nothing goes out at all, or that it does.
    fn say_stopped(&self, why: Option<String>) {
        self.metrics.stopped.with_label_values(&[&*self.name]).set(why.is_some().into());
        let mut health = self.health.lock().expect("no code panics while it holds the health");
        if health.stopped != why {
            match &why {
                Some(why) => tracing::error!(
                    destination = &*self.name,
                    why,
                    "nothing is delivered; what comes is kept, and this is tried again"
                ),
                None => tracing::info!(destination = &*self.name, "delivery begins"),
            }
        }
        health.stopped = why;
    }
}

impl Deliverers {
    /// How each destination is doing.
    #[must_use]
    pub fn health(&self) -> Vec<Health> {
        let health = self.running.iter().map(|running| {
            let mut health = running.health.lock().expect("no code panics while it holds the health").clone();
            if running.thread.is_finished() && health.stopped.is_none() {
                health.stopped = Some("its thread ended".into());
            }
            health
        });
        health.collect()
    }

    /// Sends what was read, saves the cursors, and ends; true if all had ended by then. Batches whose
    /// durability is not certain yet are asked about after the next start.
    pub async fn shutdown(self, deadline: Duration) -> bool {
        let by = Instant::now() + deadline;
        self.stop.send_replace(Stop::By(by));
        // A save may be on its way at the deadline.
        let by = by + Duration::from_secs(1);
        let mut all = true;
        for running in self.running {
            let mut ended = running.ended;
            // The thread may have ended before: then its sender is gone, which is as good.
            all &= tokio::time::timeout_at(by, ended.wait_for(|ended| *ended)).await.is_ok();
        }
        all
    }
}

#[cfg(test)]
mod tests;
