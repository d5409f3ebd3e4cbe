//! Real components, installed by `tests/parts/install.sh`.

use std::{
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use crate::error::{Error, Result};

/// The path of a part's binary. Builds it first when it is missing, which takes minutes and is said on
/// standard error; when it is there this takes a few milliseconds.
///
/// # Errors
/// When it cannot be built; the script has said why on standard error.
pub fn binary(part: &str) -> Result<PathBuf> {
    let failed = |reason: String| Error::Part { part: part.to_owned(), reason };
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../parts/install.sh");
    let output = Command::new("bash")
        .arg(&script)
        .arg(part)
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .output()
        .map_err(|error| failed(format!("bash {}: {error}", script.display())))?;
    if !output.status.success() {
        return Err(failed(format!("tests/parts/install.sh {part} failed ({}); see above", output.status)));
    }
    // The script prints nothing but paths, one for each part asked for.
    let path = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    Ok(path.into())
}

#[cfg(test)]
mod tests {
    #[test]
    fn an_unknown_part_is_an_error() {
        assert!(super::binary("no-such-part").is_err());
    }
}
