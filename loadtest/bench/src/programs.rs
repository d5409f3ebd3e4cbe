//! Programs under measurement: started on their core, and heard when something is wrong.

use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use sluice_harness::process::{Program, Spec, our_binary};

use crate::{
    cores::Cores,
    error::{At as _, Result},
};

/// For one of ours to be ready.
const START: Duration = Duration::from_secs(20);

/// A program that works in `dir`; the path of its settings is to follow the `arguments`.
pub(crate) fn spec(program: PathBuf, arguments: &[&str], dir: &Path) -> Spec {
    arguments.iter().fold(Spec::new(program, dir.join("log")), |spec, argument| spec.arg(*argument))
}

/// Writes `settings` into `dir`, which is made, and starts a program with them on the measured core.
pub(crate) fn start(cores: Cores, spec: Spec, dir: &Path, settings: &str) -> Result<Program> {
    fs::create_dir_all(dir).at(dir)?;
    let file = settings_file(dir);
    fs::write(&file, settings).at(&file)?;
    cores.on_measured(|| Ok(Program::start(spec.arg(file))?))
}

/// The same for a program of ours that serves `admin`; waits until it is ready.
pub(crate) async fn start_ours(cores: Cores, name: &str, dir: &Path, settings: &str, admin: u16) -> Result<Program> {
    let mut program = start(cores, spec(our_binary(name)?, &OURS, dir), dir, settings)?;
    program.wait_for_http(&format!("http://127.0.0.1:{admin}/readyz"), START).await?;
    Ok(program)
}

/// What our programs are told before their settings.
pub(crate) const OURS: [&str; 2] = ["run", "--config"];

/// Where a program that works in `dir` has its settings.
pub(crate) fn settings_file(dir: &Path) -> PathBuf {
    dir.join("settings.yaml")
}

/// Lines are missing: what the program says of it goes to standard error, since its files will be gone.
pub(crate) fn say_last_words(name: &str, program: &Program) {
    const LINES: usize = 20;
    let log = program.log();
    let from = log.lines().count().saturating_sub(LINES);
    eprintln!("{name}: lines are missing; its log ends:");
    log.lines().skip(from).for_each(|line| eprintln!("  {line}"));
}
