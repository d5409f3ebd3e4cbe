//! Which core runs what: the program under measurement has one for itself, all the rest shares another.

use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

use crate::error::{Error, Result};

/// The two cores of a run.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Cores {
    /// Of the program that is measured.
    pub(crate) measured: usize,
    /// Of this process: writer, load generator, sink.
    pub(crate) ours: usize,
}

impl Cores {
    /// Takes the first two cores that this process may use, and moves this thread to the second one. Threads
    /// that are started later follow it.
    ///
    /// # Errors
    /// When there is only one: what would be measured then is how two programs share it.
    pub(crate) fn take() -> Result<Self> {
        let allowed = sched_getaffinity(None).map_err(failed)?;
        let mut cores = (0..CpuSet::MAX_CPU).filter(|core| allowed.is_set(*core));
        let (Some(measured), Some(ours)) = (cores.next(), cores.next()) else {
            return Err(Error::Setup("two cores are needed, one for the program and one for the sink".to_owned()));
        };
        move_to(ours)?;
        Ok(Self { measured, ours })
    }

    /// Runs `start` on the measured core: what it starts stays there. A child has the mask before its first
    /// instruction, so that a runtime which counts cores counts one.
    ///
    /// # Errors
    /// Those of `start`, and when the core is gone.
    pub(crate) fn on_measured<T>(self, start: impl FnOnce() -> Result<T>) -> Result<T> {
        move_to(self.measured)?;
        let started = start();
        move_to(self.ours)?;
        started
    }
}

fn move_to(core: usize) -> Result<()> {
    let mut set = CpuSet::new();
    set.set(core);
    sched_setaffinity(None, &set).map_err(failed)
}

fn failed(errno: rustix::io::Errno) -> Error {
    Error::System { what: "cannot choose a core", source: errno.into() }
}
