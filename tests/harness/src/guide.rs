//! The commands of the guides in `docs/`, which tests run as they stand.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::error::{At as _, Result};

/// Seconds that commands may take.
const LONGEST: &str = "180";

/// The blocks of a document of `docs/` that are for a shell, each with its newline.
///
/// # Errors
/// There is no such document.
pub fn shell_blocks(document: &str) -> Result<Vec<String>> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs").join(document);
    let text = fs::read_to_string(&path).at(&path)?;
    let of_shell = |part: &str| part.strip_prefix("sh\n").map(|commands| format!("{commands}\n"));
    Ok(text.split("\n```").filter_map(of_shell).collect())
}

/// Whether a command is for a cluster.
#[must_use]
pub fn is_for_cluster(command: &str) -> bool {
    command.starts_with("kubectl ")
}

/// A shell for commands, which looks for programs in `programs` first. What fails ends it.
#[must_use]
pub fn shell(commands: &str, programs: &Path) -> Command {
    let path = std::env::var("PATH").unwrap_or_default();
    let mut shell = Command::new("timeout");
    shell.args([LONGEST, "bash", "-euo", "pipefail", "-c", commands]);
    shell.env("PATH", format!("{}:{path}", programs.display())).stdin(Stdio::null());
    shell
}
