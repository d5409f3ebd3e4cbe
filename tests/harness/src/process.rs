//! Programs under test: started with a log file, waited for, signalled, measured, and never left behind.

use std::{
    env,
    ffi::OsString,
    fs::{self, OpenOptions},
    io::{Read as _, Seek as _, SeekFrom},
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    thread,
    time::{Duration, Instant},
};

use rustix::process::{Pid, WaitId, WaitIdOptions, kill_process, waitid};

use crate::{
    error::{At, Error, Result},
    http,
};

pub use rustix::process::Signal;

const POLL_EVERY: Duration = Duration::from_millis(10);

/// How much of its output an error about a program shows.
const SHOWN: usize = 4096;

/// How to start a program, so that it can be started again in the same way.
#[derive(Debug, Clone)]
pub struct Spec {
    pub program: PathBuf,
    pub args: Vec<OsString>,
    pub env: Vec<(OsString, OsString)>,
    /// Standard output and error are appended to it.
    pub log: PathBuf,
}

impl Spec {
    pub fn new(program: impl Into<PathBuf>, log: impl Into<PathBuf>) -> Self {
        Self { program: program.into(), args: Vec::new(), env: Vec::new(), log: log.into() }
    }

    /// One of Sluice's own programs, such as `sluice-agent`; see [`our_binary`].
    ///
    /// # Errors
    /// When it is not built.
    pub fn ours(name: &str, log: impl Into<PathBuf>) -> Result<Self> {
        Ok(Self::new(our_binary(name)?, log))
    }

    #[must_use]
    pub fn arg(mut self, arg: impl Into<OsString>) -> Self {
        self.args.push(arg.into());
        self
    }

    #[must_use]
    pub fn env(mut self, name: impl Into<OsString>, value: impl Into<OsString>) -> Self {
        self.env.push((name.into(), value.into()));
        self
    }
}

/// Finds one of our programs in `SLUICE_BIN_DIR`, or else beside the running test, in the target directory's
/// folder of its profile. Cargo builds only what belongs to the package under test, so a test of the whole
/// needs `cargo build` first.
///
/// # Errors
/// When it is not there; says how to build it.
pub fn our_binary(name: &str) -> Result<PathBuf> {
    let dir = match env::var_os("SLUICE_BIN_DIR") {
        Some(dir) => PathBuf::from(dir),
        None => {
            let test = env::current_exe().at(Path::new("the running test"))?;
            let dir = test.parent().unwrap_or(Path::new("/"));
            // Tests lie one deeper than programs.
            if dir.ends_with("deps") { dir.parent().unwrap_or(dir) } else { dir }.to_owned()
        }
    };
    let path = dir.join(name);
    if path.is_file() {
        return Ok(path);
    }
    let reason = format!("not in {}: run `cargo build --bin {name}`, or set SLUICE_BIN_DIR", dir.display());
    Err(Error::Part { part: name.to_owned(), reason })
}

/// What a program has used. Of one that has ended, what it had used at its end.
#[derive(Debug, Clone, Copy, Default, PartialEq, serde::Serialize)]
pub struct Usage {
    /// User and system time of all its threads.
    pub cpu_seconds: f64,
    pub rss_kib: u64,
    /// The kernel's own high-water mark. It goes when the program does, so for one that ended unasked it is
    /// that of the last look, up to 10 ms earlier while somebody waits for it.
    pub peak_rss_kib: u64,
}

/// A running program, or one that has ended. Killed when dropped.
#[derive(Debug)]
pub struct Program {
    spec: Spec,
    child: Child,
    status: Option<ExitStatus>,
    usage: Usage,
    /// Where the output of this start begins in the log.
    log_from: u64,
}

impl Program {
    /// # Errors
    /// When the program cannot be executed or its log not be written.
    pub fn start(spec: Spec) -> Result<Self> {
        let (child, log_from) = spawn(&spec)?;
        Ok(Self { spec, child, status: None, usage: Usage::default(), log_from })
    }

    /// Starts again what has ended, in the same way.
    ///
    /// # Errors
    /// As [`start`](Self::start).
    ///
    /// # Panics
    /// When it is still running.
    pub fn restart(&mut self) -> Result<()> {
        assert!(!self.is_running(), "{} is running", self.name());
        (self.child, self.log_from) = spawn(&self.spec)?;
        (self.status, self.usage) = (None, Usage::default());
        Ok(())
    }

    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// To be changed before a [`restart`](Self::restart).
    pub fn spec_mut(&mut self) -> &mut Spec {
        &mut self.spec
    }

    pub fn is_running(&mut self) -> bool {
        self.reap().is_none()
    }

    /// What the program has written since it was started last.
    #[must_use]
    pub fn log(&self) -> String {
        let read = || {
            let mut file = fs::File::open(&self.spec.log)?;
            file.seek(SeekFrom::Start(self.log_from))?;
            let mut bytes = Vec::new();
            file.read_to_end(&mut bytes)?;
            Ok::<_, std::io::Error>(bytes)
        };
        read().map_or_else(|error| format!("(no log: {error})"), |bytes| String::from_utf8_lossy(&bytes).into_owned())
    }

    /// Waits for a line of output that contains `text`, and returns it.
    ///
    /// # Errors
    /// When the program ends first, or the time runs out.
    pub async fn wait_for_log(&mut self, text: &str, timeout: Duration) -> Result<String> {
        let start = Instant::now();
        loop {
            let running = self.is_running();
            // Read after that: what a program wrote last before it ended counts.
            let log = self.log();
            // A line without its end may be half of one.
            let mut lines = log.split_inclusive('\n').filter(|line| line.ends_with('\n'));
            if let Some(line) = lines.find(|line| line.contains(text)) {
                return Ok(line.trim_end().to_owned());
            }
            self.check_waiting(running, start, timeout, &format!("a line with {text:?}"))?;
            tokio::time::sleep(POLL_EVERY).await;
        }
    }

    /// Waits until a GET of `url` is answered with 2xx.
    ///
    /// # Errors
    /// When the program ends first, or the time runs out.
    pub async fn wait_for_http(&mut self, url: &str, timeout: Duration) -> Result<()> {
        let start = Instant::now();
        loop {
            if http::get_text(url).await.is_ok() {
                return Ok(());
            }
            let running = self.is_running();
            self.check_waiting(running, start, timeout, &format!("2xx at {url}"))?;
            tokio::time::sleep(POLL_EVERY).await;
        }
    }

    /// Waits for the program to end by itself.
    ///
    /// # Errors
    /// When the time runs out.
    pub async fn wait(&mut self, timeout: Duration) -> Result<ExitStatus> {
        let start = Instant::now();
        loop {
            if let Some(status) = self.reap() {
                return Ok(status);
            }
            if start.elapsed() >= timeout {
                return Err(self.error(format!("still running after {} s", timeout.as_secs_f64())));
            }
            self.look();
            tokio::time::sleep(POLL_EVERY).await;
        }
    }

    /// # Errors
    /// When the program has ended.
    pub fn signal(&mut self, signal: Signal) -> Result<()> {
        if self.reap().is_some() {
            return Err(self.error("has ended and takes no signal".to_owned()));
        }
        self.look();
        kill_process(self.raw_pid(), signal).map_err(|errno| self.error(format!("signal not sent: {errno}")))
    }

    /// SIGTERM, and the end awaited. A program that has ended already is left at that.
    ///
    /// # Errors
    /// When it is still running after `timeout`.
    pub async fn stop(&mut self, timeout: Duration) -> Result<ExitStatus> {
        if self.is_running() {
            self.signal(Signal::TERM)?;
        }
        self.wait(timeout).await
    }

    /// SIGKILL, and the end awaited.
    pub fn kill(&mut self) -> ExitStatus {
        if self.reap().is_none() {
            self.look();
            // It fails only for a child that was waited for.
            let _ = self.child.kill();
        }
        loop {
            if let Some(status) = self.reap() {
                return status;
            }
            thread::sleep(Duration::from_millis(1));
        }
    }

    /// What the program uses, or had used when it ended.
    pub fn usage(&mut self) -> Usage {
        if self.reap().is_none() {
            self.look();
        }
        self.usage
    }

    pub fn cpu_seconds(&mut self) -> f64 {
        self.usage().cpu_seconds
    }

    pub fn rss_kib(&mut self) -> u64 {
        self.usage().rss_kib
    }

    pub fn peak_rss_kib(&mut self) -> u64 {
        self.usage().peak_rss_kib
    }

    fn check_waiting(&self, running: bool, start: Instant, timeout: Duration, what: &str) -> Result<()> {
        if !running {
            let status = self.status.map_or_else(String::new, |status| status.to_string());
            return Err(self.error(format!("ended ({status}) before there was {what}")));
        }
        if start.elapsed() >= timeout {
            return Err(self.error(format!("not within {} s: {what}", timeout.as_secs_f64())));
        }
        Ok(())
    }

    /// Collects the program's end, if it has come. Its CPU time is read in between: a dead process keeps that
    /// until it is waited for.
    fn reap(&mut self) -> Option<ExitStatus> {
        if self.status.is_none() {
            let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
            if !matches!(waitid(WaitId::Pid(self.raw_pid()), options), Ok(None)) {
                self.look();
                // Nobody else waits for our child, so its status is there.
                self.status = Some(self.child.wait().unwrap_or_default());
            }
        }
        self.status
    }

    fn look(&mut self) {
        let pid = self.child.id();
        if let Some(cpu_seconds) = cpu_seconds_of(pid) {
            self.usage.cpu_seconds = cpu_seconds;
        }
        if let Some((rss_kib, peak_rss_kib)) = memory_of(pid) {
            self.usage.rss_kib = rss_kib;
            self.usage.peak_rss_kib = self.usage.peak_rss_kib.max(peak_rss_kib);
        }
    }

    fn raw_pid(&self) -> Pid {
        Pid::from_child(&self.child)
    }

    fn name(&self) -> String {
        self.spec.program.file_name().unwrap_or_default().to_string_lossy().into_owned()
    }

    fn error(&self, reason: String) -> Error {
        let log = self.log();
        let from = log.len().saturating_sub(SHOWN);
        let from = (from..=log.len()).find(|at| log.is_char_boundary(*at)).unwrap_or_default();
        Error::Program { program: self.name(), reason, output: log[from..].to_owned() }
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        self.kill();
    }
}

fn spawn(spec: &Spec) -> Result<(Child, u64)> {
    let log = OpenOptions::new().create(true).append(true).open(&spec.log).at(&spec.log)?;
    let log_from = log.metadata().at(&spec.log)?.len();
    let child = Command::new(&spec.program)
        .args(&spec.args)
        .envs(spec.env.iter().map(|(name, value)| (name, value)))
        .stdin(Stdio::null())
        .stdout(log.try_clone().at(&spec.log)?)
        .stderr(log)
        .spawn()
        .at(&spec.program)?;
    Ok((child, log_from))
}

/// User and system time of any process, from its `/proc` entry.
#[must_use]
#[allow(clippy::cast_precision_loss)] // a century of clock ticks is far below 2^52
pub fn cpu_seconds_of(pid: u32) -> Option<f64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The second field, the name in parentheses, may hold blanks; utime and stime are the 14th and 15th.
    let mut fields = stat.rsplit_once(')')?.1.split_ascii_whitespace().skip(11);
    let mut ticks = || fields.next()?.parse::<u64>().ok();
    let (user, system) = (ticks()?, ticks()?);
    Some((user + system) as f64 / rustix::param::clock_ticks_per_second() as f64)
}

/// Resident memory of any live process in KiB: now, and at its highest.
#[must_use]
pub fn memory_of(pid: u32) -> Option<(u64, u64)> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let field = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name))?;
        line.trim().strip_suffix(" kB")?.trim().parse().ok()
    };
    Some((field("VmRSS:")?, field("VmHWM:")?))
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::ExitStatusExt as _;

    use super::*;
    use crate::dirs::TestDir;

    const SOON: Duration = Duration::from_secs(10);

    fn shell(dir: &TestDir, script: &str) -> Program {
        Program::start(Spec::new("/bin/sh", dir.join("log")).arg("-c").arg(script)).expect("a shell")
    }

    #[tokio::test]
    async fn output_is_waited_for_and_signals_arrive() {
        let dir = TestDir::new("process").expect("a directory");
        let mut program = shell(&dir, "trap 'echo bye; exit 3' TERM; echo ready on 17; while :; do sleep 0.01; done");
        assert_eq!(program.wait_for_log("ready", SOON).await.expect("a line"), "ready on 17");
        assert!(program.rss_kib() > 0);
        assert_eq!(program.stop(SOON).await.expect("ended").code(), Some(3));
        program.restart().expect("a shell");
        program.wait_for_log("ready", SOON).await.expect("a line");
        assert!(!program.log().contains("bye"), "the log of the first start is not that of the second");
        assert_eq!(program.kill().signal(), Some(9));
    }

    #[tokio::test]
    async fn an_early_end_is_told_with_the_output() {
        let dir = TestDir::new("process").expect("a directory");
        let mut program = shell(&dir, "echo no such option >&2; exit 2");
        let error = program.wait_for_log("ready", SOON).await.expect_err("it ended").to_string();
        assert!(error.contains("exit status: 2") && error.contains("no such option"), "{error}");
    }

    #[tokio::test]
    async fn what_was_used_is_known_after_the_end() {
        let dir = TestDir::new("process").expect("a directory");
        let mut program = shell(&dir, "i=0; while [ $i -lt 300000 ]; do i=$((i+1)); done");
        program.wait(SOON).await.expect("ended");
        let usage = program.usage();
        assert!(usage.cpu_seconds > 0.0 && usage.peak_rss_kib > 100, "{usage:?}");
    }

    #[tokio::test]
    async fn nothing_is_left_behind() {
        let dir = TestDir::new("process").expect("a directory");
        let program = shell(&dir, "sleep 600");
        let pid = program.pid();
        drop(program);
        assert!(!Path::new(&format!("/proc/{pid}")).exists());
    }
}
