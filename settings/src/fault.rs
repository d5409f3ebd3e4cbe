//! What is wrong with the settings, and where.

use std::fmt;

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// Where, as `destinations[1].victorialogs.url`; empty: the file as a whole.
    pub path: String,
    /// The line that it stands in, from 1.
    pub line: usize,
    /// What was found, what is expected, and the fix.
    pub message: String,
}

impl Fault {
    pub(crate) fn new(path: &str, line: usize, message: impl Into<String>) -> Self {
        Self { path: path.to_owned(), line, message: message.into() }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { path, line, message } = self;
        if path.is_empty() { write!(f, "line {line}: {message}") } else { write!(f, "{path} (line {line}): {message}") }
    }
}

/// Everything that is wrong, at least one thing; printed one a line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Faults(Vec<Fault>);

impl Faults {
    /// In the order of the lines; `None` where there are none.
    pub(crate) fn sorted(mut faults: Vec<Fault>) -> Option<Self> {
        faults.sort_by_key(|fault| fault.line);
        (!faults.is_empty()).then_some(Self(faults))
    }

    /// Each of them.
    pub fn iter(&self) -> impl Iterator<Item = &Fault> {
        self.0.iter()
    }

    /// `1 fault`, `2 faults`.
    #[must_use]
    pub fn count(&self) -> String {
        if self.0.len() == 1 { "1 fault".to_owned() } else { format!("{} faults", self.0.len()) }
    }
}

impl From<Fault> for Faults {
    fn from(fault: Fault) -> Self {
        Self(vec![fault])
    }
}

impl fmt::Display for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, fault) in self.0.iter().enumerate() {
            if index > 0 {
                f.write_str("\n")?;
            }
            fault.fmt(f)?;
        }
        Ok(())
    }
}

impl std::error::Error for Faults {}
