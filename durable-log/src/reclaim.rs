//! Gets rid of segment files, away from the writer: unlinking 64 MiB takes 20–45 ms.

use std::{
    collections::VecDeque,
    io,
    path::Path,
    sync::{Arc, Mutex, MutexGuard, atomic::Ordering},
    thread::{self, JoinHandle},
};

use crate::{
    io::{Access, Files},
    segment::Segment,
    shared::Shared,
};

const QUARANTINE: &str = "quarantine";

/// The files to remove, and the thread that does it while there are any. Dropping waits for it.
#[derive(Debug)]
pub(crate) struct Reclaim {
    shared: Arc<Shared>,
    quarantine_max_bytes: u64,
    queue: Arc<Mutex<Queue>>,
    worker: Option<JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct Queue {
    waiting: VecDeque<Arc<Segment>>,
    running: bool,
}

impl Reclaim {
    pub(crate) fn new(shared: Arc<Shared>, quarantine_max_bytes: u64) -> Self {
        Self { shared, quarantine_max_bytes, queue: Arc::default(), worker: None }
    }

    /// Hands over segments that are off the list. What could not be removed before is tried again
    /// first: files go lowest first, so that no gap is left for a restart to take for damage.
    pub(crate) fn add(&mut self, segments: Vec<Arc<Segment>>) {
        {
            let mut queue = lock(&self.queue);
            queue.waiting.extend(segments);
            if queue.running || queue.waiting.is_empty() {
                return;
            }
            queue.running = true;
        }
        self.join();
        let (shared, queue) = (Arc::clone(&self.shared), Arc::clone(&self.queue));
        let max_bytes = self.quarantine_max_bytes;
        let worker = thread::Builder::new().name("log-reclaim".into()).spawn(move || work(&shared, &queue, max_bytes));
        match worker {
            Ok(worker) => self.worker = Some(worker),
            Err(error) => {
                lock(&self.queue).running = false;
                tracing::warn!(%error, "cannot start a thread to remove log segments; the next release tries again");
            }
        }
    }

    fn join(&mut self) {
        if let Some(worker) = self.worker.take() {
            // A panic there was printed by the thread; files left over are found at the next open.
            let _ = worker.join();
        }
    }
}

impl Drop for Reclaim {
    fn drop(&mut self) {
        self.join();
    }
}

fn lock(queue: &Mutex<Queue>) -> MutexGuard<'_, Queue> {
    queue.lock().expect("no code panics while it holds the queue")
}

fn work(shared: &Shared, queue: &Mutex<Queue>, quarantine_max_bytes: u64) {
    loop {
        let segment = {
            let mut queue = lock(queue);
            let Some(segment) = queue.waiting.pop_front() else {
                queue.running = false;
                return;
            };
            segment
        };
        if let Err(error) = remove(shared, &segment, quarantine_max_bytes) {
            tracing::warn!(file = %segment.path.display(), %error, "cannot remove log segment; the next release tries again");
            let mut queue = lock(queue);
            queue.waiting.push_front(segment);
            queue.running = false;
            return;
        }
    }
}

fn remove(shared: &Shared, segment: &Segment, quarantine_max_bytes: u64) -> io::Result<()> {
    let files = &*shared.files;
    let gone = if segment.is_suspect() {
        set_aside(files, &shared.dir, segment, quarantine_max_bytes).map(|kept| {
            shared.quarantined.fetch_add(u64::from(kept), Ordering::Relaxed);
        })
    } else {
        files.unlink(&segment.path)
    };
    match gone {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(e),
        _ => Ok(()),
    }
}

/// Moves a segment to quarantine if it has a place there, else unlinks it; returns whether it was
/// kept. What is to be removed is removed: keeping it is a courtesy that a full disk may prevent.
pub(crate) fn set_aside(files: &dyn Files, dir: &Path, segment: &Segment, max_bytes: u64) -> io::Result<bool> {
    match quarantine(files, dir, segment, max_bytes) {
        Ok(true) => return Ok(true),
        Ok(false) => {
            tracing::warn!(file = %segment.path.display(), max_bytes, "damaged log segment removed: no room in quarantine");
        }
        Err(error) => {
            tracing::warn!(file = %segment.path.display(), %error, "damaged log segment removed: cannot move it to quarantine");
        }
    }
    files.unlink(&segment.path)?;
    Ok(false)
}

fn quarantine(files: &dyn Files, dir: &Path, segment: &Segment, max_bytes: u64) -> io::Result<bool> {
    let size = files.open(&segment.path, Access::Read)?.size()?;
    if size > max_bytes {
        return Ok(false);
    }
    let dir = dir.join(QUARANTINE);
    files.create_dir(&dir)?;
    let mut names = files.list(&dir)?;
    names.retain(|name| name.ends_with(".log"));
    // By base, which the names begin with.
    names.sort_unstable();
    let mut kept = VecDeque::new();
    let mut total = size;
    for name in names {
        let size = files.open(&dir.join(&name), Access::Read)?.size()?;
        total += size;
        kept.push_back((name, size));
    }
    while total > max_bytes
        && let Some((name, size)) = kept.pop_front()
    {
        files.unlink(&dir.join(name))?;
        total -= size;
    }
    // The same base comes again when a cut made its index free.
    let name = (0_u32..)
        .map(|n| format!("{:020}.{n}.log", segment.base))
        .find(|name| kept.iter().all(|(taken, _)| taken != name))
        .expect("fewer files than numbers");
    files.rename(&segment.path, &dir.join(&name))?;
    tracing::warn!(file = %segment.path.display(), to = %dir.join(name).display(), "log segment set aside");
    Ok(true)
}
