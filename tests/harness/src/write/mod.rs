//! The writer: containers' log files as containerd and the kubelet leave them on a node.
//!
//! One thread writes for all containers in turn, a burst each, one write a burst; that is enough to outrun
//! any collector, and leaves the other cores to it.

mod log_file;
mod render;
mod stamp;

use std::{
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use crate::{
    error::{Error, Result},
    latency::now_ns,
    line::Stream,
    manifest::{Manifest, Source},
    shape::{Dice, Mix},
};

use log_file::{Due, Kubelet, LogFile};
use render::Renderer;

pub use log_file::Rotation;
pub use render::push_content;

/// Lines that one container writes before it is the next one's turn, when nothing limits the rate.
const BURST: u64 = 256;

/// How often a limited rate is caught up with: short, so that lines flow rather than come in gusts.
const TICK: Duration = Duration::from_millis(5);

const SAVE_EVERY: Duration = Duration::from_secs(1);

/// A pod that somebody else knows by these names, such as an API server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pod {
    pub namespace: String,
    pub name: String,
    pub uid: String,
}

#[derive(Debug, Clone)]
pub struct Config {
    /// Stands for `/var/log/pods`.
    pub root: PathBuf,
    /// Saved about every second and at the end.
    pub manifest: Option<PathBuf>,
    /// Names; containers are dealt out to them in turn.
    pub namespaces: Vec<String>,
    /// The pods that containers are of, in turn; none: pods are made up, in `namespaces`.
    pub pods: Vec<Pod>,
    pub containers: u32,
    pub containers_per_pod: u32,
    pub cluster: String,
    pub environment: String,
    /// Ends the run after so many lines, over all containers.
    pub lines: Option<u64>,
    /// Ends the run after so long.
    pub duration: Option<Duration>,
    /// Lines a second over all containers; 0: as fast as possible.
    pub rate: u64,
    pub mix: Mix,
    pub rotation: Rotation,
}

impl Config {
    /// One namespace, one container, as fast as possible; the caller says where and how much.
    #[must_use]
    pub fn new(root: impl Into<PathBuf>) -> Self {
        Self {
            root: root.into(),
            manifest: None,
            namespaces: vec!["default".to_owned()],
            pods: Vec::new(),
            containers: 1,
            containers_per_pod: 1,
            cluster: "test".to_owned(),
            environment: "test".to_owned(),
            lines: None,
            duration: None,
            rate: 0,
            mix: Mix::default(),
            rotation: Rotation::default(),
        }
    }

    fn check(&self) -> Result<()> {
        let wrong = |what: &str| Err(Error::Config(what.to_owned()));
        let Mix { json, odd, partial, stderr, zoned, secrets, traces, line_size, .. } = self.mix;
        if self.lines.is_none() && self.duration.is_none() {
            return wrong("neither lines nor a duration is given: the run would never end");
        }
        if self.namespaces.is_empty() || self.containers == 0 || self.containers_per_pod == 0 {
            return wrong("a run needs a namespace and a container");
        }
        let names =
            self.namespaces.iter().chain(self.pods.iter().flat_map(|pod| [&pod.namespace, &pod.name, &pod.uid]));
        if names.into_iter().any(|name| name.is_empty() || name.contains(['_', '/'])) {
            return wrong("a name is empty or contains _ or /");
        }
        if !self.pods.is_empty() && self.containers > self.containers_per_pod.saturating_mul(index(self.pods.len())) {
            return wrong("there are more containers than the pods have");
        }
        if [json, odd, partial, stderr, zoned, secrets, traces].iter().any(|share| !(0.0..=1.0).contains(share)) {
            return wrong("a share is not from 0 to 1");
        }
        if self.rotation.keep == Some(0) {
            return wrong("the newest rotated file is always kept, so keep is at least 1");
        }
        if line_size > 600_000 {
            return wrong("lines of more than 600,000 bytes");
        }
        Ok(())
    }
}

/// A run on its own thread. Dropping it lets it go on.
#[derive(Debug)]
pub struct Running {
    stop: Arc<AtomicBool>,
    lines: Arc<AtomicU64>,
    thread: JoinHandle<Result<Manifest>>,
}

impl Running {
    /// Lines that are in the files by now.
    #[must_use]
    pub fn lines(&self) -> u64 {
        self.lines.load(Ordering::Relaxed)
    }

    #[must_use]
    pub fn is_finished(&self) -> bool {
        self.thread.is_finished()
    }

    /// Asks the run to end after the burst that it is at.
    pub fn request_stop(&self) {
        self.stop.store(true, Ordering::Relaxed);
    }

    /// Waits for the end of the run.
    ///
    /// # Errors
    /// What made the run fail.
    pub fn wait(self) -> Result<Manifest> {
        self.thread.join().expect("the writer does not panic")
    }

    /// Ends the run early.
    ///
    /// # Errors
    /// What made the run fail.
    pub fn stop(self) -> Result<Manifest> {
        self.request_stop();
        self.wait()
    }
}

/// Writes on this thread until the lines or the time are used up.
///
/// # Errors
/// A configuration that makes no sense, or a file that cannot be written.
pub fn run(config: &Config) -> Result<Manifest> {
    write(config, &AtomicBool::new(false), &AtomicU64::new(0))
}

/// Writes on a thread of its own.
#[must_use]
pub fn spawn(config: Config) -> Running {
    let (stop, lines) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let thread = thread::spawn({
        let (stop, lines) = (stop.clone(), lines.clone());
        move || write(&config, &stop, &lines)
    });
    Running { stop, lines, thread }
}

fn write(config: &Config, stop: &AtomicBool, progress: &AtomicU64) -> Result<Manifest> {
    config.check()?;
    let mut run = Run::new(config)?;
    let start = Instant::now();
    let mut saved = start;
    let mut turn = 0;
    run.save()?;
    while !stop.load(Ordering::Relaxed) {
        let now = Instant::now();
        let elapsed = now.duration_since(start);
        if config.duration.is_some_and(|duration| elapsed >= duration) {
            break;
        }
        let left = config.lines.map_or(u64::MAX, |lines| lines.saturating_sub(run.lines));
        if left == 0 {
            break;
        }
        if now.duration_since(saved) >= SAVE_EVERY {
            run.save()?;
            saved = now;
        }
        if config.rate == 0 {
            run.rotate(turn, now)?;
            run.burst(turn, BURST.min(left))?;
            turn = (turn + 1) % run.files.len();
        } else {
            (0..run.files.len()).try_for_each(|source| run.rotate(source, now))?;
            let mut due = lines_due(config.rate, elapsed).saturating_sub(run.lines).min(left);
            let burst = due.div_ceil(run.files.len() as u64);
            while due > 0 {
                due = due.saturating_sub(run.burst(turn, burst.min(due))?);
                turn = (turn + 1) % run.files.len();
            }
            thread::sleep(TICK);
        }
        progress.store(run.lines, Ordering::Relaxed);
    }
    let manifest = run.finish()?;
    progress.store(manifest.lines(), Ordering::Relaxed);
    Ok(manifest)
}

fn lines_due(rate: u64, elapsed: Duration) -> u64 {
    let due = u128::from(rate) * elapsed.as_micros() / 1_000_000;
    u64::try_from(due).unwrap_or(u64::MAX)
}

/// A run's state: the manifest so far, and a file and a counter for each of its sources.
#[derive(Debug)]
struct Run<'a> {
    config: &'a Config,
    manifest: Manifest,
    files: Vec<LogFile>,
    lines: u64,
    renderer: Renderer,
    kubelet: Kubelet,
    batch: Vec<u8>,
    next_batch: Vec<u8>,
}

impl<'a> Run<'a> {
    fn new(config: &'a Config) -> Result<Self> {
        // Two runs into one store must not be taken for one another, even with the same seed.
        let run = Dice::new(now_ns(), u64::from(std::process::id()), 0).next() >> 32;
        let run = u32::try_from(run).expect("32 bits");
        let sources: Vec<_> = (0..config.containers).map(|index| source(config, run, index)).collect();
        let files = sources.iter().map(|source| LogFile::create(log_path(config, source))).collect::<Result<_>>()?;
        Ok(Self {
            config,
            manifest: Manifest {
                run,
                cluster: config.cluster.clone(),
                environment: config.environment.clone(),
                mix: config.mix.clone(),
                sources,
                cri_bytes: 0,
                complete: false,
            },
            files,
            lines: 0,
            renderer: Renderer::new(run, &config.mix),
            kubelet: Kubelet::start(),
            batch: Vec::with_capacity(256 * 1024),
            next_batch: Vec::new(),
        })
    }

    /// Writes `count` lines of one source, one more where a split line brings a line of the other stream with
    /// it. Returns how many.
    fn burst(&mut self, source: usize, count: u64) -> Result<u64> {
        self.batch.clear();
        let mut written = 0;
        while written < count {
            let stream = self.next_stream(source);
            let id = self.next_id(source, stream);
            if self.renderer.whole(&mut self.batch, id, now_ns()) {
                written += 1;
                continue;
            }
            let mix = self.renderer.mix();
            let both = written + 1 < count && mix.stderr > 0.0 && mix.stderr < 1.0;
            let other = both.then(|| self.next_id(source, stream.other()));
            self.renderer.split(&mut self.batch, id, other, now_ns());
            written += 1 + u64::from(both);
        }
        self.files[source].write(&self.batch)?;
        self.manifest.cri_bytes += self.batch.len() as u64;
        self.lines += written;
        Ok(written)
    }

    fn rotate(&mut self, source: usize, now: Instant) -> Result<()> {
        let rotation = &self.config.rotation;
        if self.files[source].due(rotation, now) == Due::Rename {
            self.files[source].rename(now, &self.kubelet, rotation)?;
        }
        // Not `else`: without a gap the two follow each other at once.
        if self.files[source].due(rotation, now) == Due::Reopen {
            self.reopen(source, now)?;
        }
        Ok(())
    }

    fn reopen(&mut self, source: usize, now: Instant) -> Result<()> {
        let may_add = self.config.lines.is_none_or(|lines| self.lines < lines);
        if !(self.config.rotation.cut && may_add) {
            return self.files[source].reopen(now);
        }
        let stream = self.next_stream(source);
        let id = self.next_id(source, stream);
        self.batch.clear();
        self.next_batch.clear();
        self.renderer.cut(&mut self.batch, &mut self.next_batch, id, now_ns());
        self.files[source].write(&self.batch)?;
        self.files[source].reopen(now)?;
        self.files[source].write(&self.next_batch)?;
        self.manifest.cri_bytes += (self.batch.len() + self.next_batch.len()) as u64;
        self.lines += 1;
        Ok(())
    }

    fn next_stream(&self, source: usize) -> Stream {
        let written = &self.manifest.sources[source];
        self.renderer.mix().stream(index(source), written.stdout + written.stderr)
    }

    fn next_id(&mut self, source: usize, stream: Stream) -> crate::line::LineId {
        let lines = self.manifest.sources[source].lines_mut(stream);
        let id = self.renderer.id(index(source), stream, *lines);
        *lines += 1;
        id
    }

    fn save(&self) -> Result<()> {
        self.config.manifest.as_ref().map_or(Ok(()), |path| self.manifest.save(path))
    }

    fn finish(mut self) -> Result<Manifest> {
        let now = Instant::now();
        for source in 0..self.files.len() {
            if self.files[source].is_renamed() {
                self.reopen(source, now)?;
            }
        }
        self.manifest.complete = true;
        self.save()?;
        self.kubelet.finish()?;
        Ok(self.manifest)
    }
}

fn index(source: usize) -> u32 {
    u32::try_from(source).expect("containers are counted in 32 bits")
}

/// Containers of a pod follow each other; pods are dealt out to the namespaces. The run is part of the pod's
/// name and uid, so that two runs under one root are different pods, unless they are known elsewhere.
fn source(config: &Config, run: u32, index: u32) -> Source {
    let pod = index / config.containers_per_pod;
    let container = format!("c{}", index % config.containers_per_pod);
    if let Some(Pod { namespace, name, uid }) = config.pods.get(pod as usize).cloned() {
        return Source { namespace, pod: name, uid, container, stdout: 0, stderr: 0 };
    }
    let mut dice = Dice::new(config.mix.seed, u64::from(run), u64::from(pod));
    let (high, low) = (dice.next(), dice.next());
    let uid = format!(
        "{:08x}-{:04x}-4{:03x}-8{:03x}-{:012x}",
        high >> 32,
        high >> 16 & 0xffff,
        high & 0xfff,
        low >> 48 & 0xfff,
        low & 0xffff_ffff_ffff
    );
    Source {
        namespace: config.namespaces[pod as usize % config.namespaces.len()].clone(),
        pod: format!("writer-{run:08x}-{pod}"),
        uid,
        container,
        stdout: 0,
        stderr: 0,
    }
}

fn log_path(config: &Config, source: &Source) -> PathBuf {
    let Source { namespace, pod, uid, container, .. } = source;
    config.root.join(format!("{namespace}_{pod}_{uid}")).join(container).join("0.log")
}

#[cfg(test)]
mod tests;
