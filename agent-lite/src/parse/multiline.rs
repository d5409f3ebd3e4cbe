//! Lines that are one message: stack traces, and messages that begin with a pattern of the user's own.
//! Asked line by line for one stream, answers what to do with the line; it holds no line itself.
//!
//! ```text
//! java.lang.IllegalStateException: no card   Begins     held: a frame may follow
//! \tat shop.Pay.charge(Pay.java:41)          Continues  so it was a trace
//! Caused by: java.net.SocketTimeoutException Continues
//! \t... 12 more                              Continues
//! 200 GET /healthz                           Alone      ends it; goes at once
//! ```
//!
//! **What is held.** A trace's first line looks like any other line until the next one is there, so a line
//! that may begin a trace waits for it. Were every line held, each would come late by [`Limits::age`]
//! wherever the stream falls silent, and be copied once more. Held is therefore only what has a mark:
//! a word that ends in `Exception`, `Error` or `Throwable`, or `panic`; a Java or .NET class at its beginning;
//! a line that only a trace or .NET's console logger begins with. A line without a mark goes at once; when
//! a frame follows it all the same, the frames are joined to one another but not to it.
//! A JSON object is never held.
//!
//! **What is not joined.** The log line before a trace's own first line, unless that has a mark too and what
//! follows is indented, a Python traceback or a goroutine: a start pattern (`^\d{4}-`) joins those.
//! Lines of an exception's message that are not indented. An empty line right after a Python or Go
//! trace is taken into it, as another part may follow.

use memchr::memmem;
use regex::bytes::{Regex, RegexBuilder};

use marks::{Marks, Word};

mod marks;

/// Names of the built-in rules.
pub const NAMES: [&str; 8] = ["auto", "java", "python", "go", "ruby", "node", "dotnet", "pem"];

/// A pattern's compiled size in bytes.
const PATTERN_BYTES: usize = 256 * 1024;

/// Which traces are known; a set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Languages(u8);

impl Languages {
    const JAVA: Self = Self(1);
    const PYTHON: Self = Self(2);
    const GO: Self = Self(4);
    const RUBY: Self = Self(8);
    const NODE: Self = Self(16);
    const DOTNET: Self = Self(32);
    /// Keys and certificates: not traces, but of no use to anyone in pieces, and a key in pieces could not be
    /// redacted.
    const PEM: Self = Self(64);
    const ALL: Self = Self(127);
    /// Those whose frames are known by their indentation.
    const INDENTED: Self = Self(1 | 8 | 16 | 32);

    const fn or(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    const fn any_of(self, others: Self) -> bool {
        self.0 & others.0 != 0
    }
}

/// What to do with a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Send what is pending, and keep this line: more of its message may follow.
    Begins,
    /// Append a newline and this line to what is pending. Where nothing is, because a bound has sent
    /// it, keep this line.
    Continues,
    /// Send what is pending, and this line too: nothing can follow it.
    Alone,
}

/// Where one stream stands in its message.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct State(Mode);

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum Mode {
    /// Nothing is pending that could go on.
    #[default]
    Idle,
    /// A line with a mark, or frames: more frames may follow.
    Trace,
    /// Properties of a Node.js error, up to `}`.
    Braces,
    /// Node.js names the place, shows the line and points at it before it says what happened.
    NodePlace,
    NodeSource,
    NodePointer,
    NodeMessage,
    PythonFrames,
    /// The line that says what happened was there.
    PythonRaised,
    /// Then an empty one.
    PythonGap,
    /// Then the one that announces another traceback.
    PythonChained,
    /// A tree of tracebacks.
    PythonGroup,
    /// What failed is said, or a goroutine has ended.
    GoBetween,
    GoFrames,
    /// Up to `-----END`.
    Pem,
    /// By a start pattern: any line goes on.
    Started,
}

/// Bounds of a joined message, which the caller keeps: at the first that is reached, what is pending goes,
/// and what follows is a message of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Lines of one message.
    pub lines: usize,
    /// Bytes of one message, its newlines included. Room for escapes must be left below the wire's limit for
    /// a line.
    pub bytes: usize,
    /// How long a message waits for its next line, from the last one on; longer than it takes to see that a
    /// file has grown. It is what a held line loses where nothing follows it.
    pub age: std::time::Duration,
}

impl Default for Limits {
    /// 2,000 lines, 128 KiB, 500 ms.
    fn default() -> Self {
        Self { lines: 2_000, bytes: 128 * 1024, age: std::time::Duration::from_millis(500) }
    }
}

/// Why there is no such rule.
#[derive(Debug, thiserror::Error)]
pub enum RuleError {
    /// Not one of [`NAMES`].
    #[error("there is no rule {0:?}; there are: {names}", names = NAMES.join(", "))]
    Unknown(String),
    /// The start pattern is no regular expression, or too large a one.
    #[error("the start pattern is no regular expression that can be used: {0}")]
    Pattern(#[source] Box<regex::Error>),
    /// Every line would begin a message.
    #[error("the start pattern matches an empty line, so it matches every line: write what a message begins with")]
    MatchesAll,
}

/// Which lines belong together. Shared by all streams that it holds for.
#[derive(Debug)]
pub struct Rule(Kind);

#[derive(Debug)]
enum Kind {
    Traces { languages: Languages, marks: Box<Marks> },
    Start(Regex),
}

impl Rule {
    /// A built-in rule, of [`NAMES`].
    ///
    /// # Errors
    /// There is none of that name.
    pub fn named(name: &str) -> Result<Self, RuleError> {
        let languages = match name {
            "auto" => Languages::ALL,
            "java" => Languages::JAVA,
            "python" => Languages::PYTHON,
            "go" => Languages::GO,
            "ruby" => Languages::RUBY,
            "node" => Languages::NODE,
            "dotnet" => Languages::DOTNET,
            "pem" => Languages::PEM,
            _ => return Err(RuleError::Unknown(name.to_owned())),
        };
        Ok(Self(Kind::Traces { languages, marks: Box::new(Marks::new(languages)) }))
    }

    /// A line that `pattern` matches begins a message; all others continue it.
    ///
    /// # Errors
    /// The pattern cannot be compiled within 256 KiB, or matches every line.
    pub fn starting(pattern: &str) -> Result<Self, RuleError> {
        let built = RegexBuilder::new(pattern).size_limit(PATTERN_BYTES).dfa_size_limit(PATTERN_BYTES).build();
        let regex = built.map_err(|error| RuleError::Pattern(Box::new(error)))?;
        if regex.is_match(b"") && regex.is_match(b"x") {
            return Err(RuleError::MatchesAll);
        }
        Ok(Self(Kind::Start(regex)))
    }

    /// Whether the lines of a key in PEM are joined.
    #[must_use]
    pub fn joins_keys(&self) -> bool {
        matches!(&self.0, Kind::Traces { languages, .. } if languages.any_of(Languages::PEM))
    }

    /// What to do with the next line of a stream, which comes without its newline.
    #[inline]
    pub fn step(&self, state: &mut State, line: &[u8]) -> Step {
        let (step, mode) = match &self.0 {
            Kind::Traces { languages, marks } => {
                let line = line.strip_suffix(b"\r").unwrap_or(line);
                match goes_on(*languages, marks, state.0, line) {
                    Some(mode) => (Step::Continues, mode),
                    None => match begins(*languages, marks, line) {
                        Some(mode) => (Step::Begins, mode),
                        None => (Step::Alone, Mode::Idle),
                    },
                }
            }
            Kind::Start(regex) if state.0 == Mode::Idle || regex.is_match(line) => (Step::Begins, Mode::Started),
            Kind::Start(_) => (Step::Continues, Mode::Started),
        };
        state.0 = mode;
        step
    }
}

/// Whether the line begins something that may go on; and what.
#[inline]
fn begins(languages: Languages, marks: &Marks, line: &[u8]) -> Option<Mode> {
    // Most lines are told apart by their first byte: JSON, a digit of the time, a letter of the level.
    match line.first()? {
        b'{' => return None,
        b' ' | b'\t' => {
            if is_frame(languages, line) {
                return Some(after_frame(languages, line));
            }
            if languages.any_of(Languages::PYTHON) && line.starts_with(b"  File \"") {
                return Some(Mode::PythonFrames);
            }
        }
        b'0'..=b'9' | b'[' => {}
        _ => {
            if let Some(mode) = marks::at_start(languages, line) {
                return Some(mode);
            }
        }
    }
    Some(match marks.find(line)? {
        Word::Exception if languages.any_of(Languages::INDENTED) => after_frame(languages, line),
        Word::Exception | Word::Panic | Word::RubyPlace => Mode::Trace,
        Word::Traceback if line.trim_ascii_start().starts_with(b"+ Exception Group") => Mode::PythonGroup,
        Word::Traceback => Mode::PythonFrames,
        Word::Pem if memmem::find(line, b"-----END ").is_some() => return None,
        Word::Pem => Mode::Pem,
    })
}

/// Whether the line belongs to what is pending; if so, where the stream stands then.
#[inline]
fn goes_on(languages: Languages, marks: &Marks, mode: Mode, line: &[u8]) -> Option<Mode> {
    match mode {
        Mode::Idle => None,
        Mode::Trace => trace_goes_on(languages, marks, line),
        Mode::Braces => match line {
            [b'}', ..] => Some(Mode::Trace),
            _ => is_indented(line).then_some(Mode::Braces),
        },
        Mode::NodePlace => (!line.is_empty()).then_some(Mode::NodeSource),
        Mode::NodeSource => line.trim_ascii().starts_with(b"^").then_some(Mode::NodePointer),
        Mode::NodePointer => line.is_empty().then_some(Mode::NodeMessage),
        Mode::NodeMessage => (!line.is_empty()).then(|| after_frame(languages, line)),
        Mode::PythonFrames if is_indented(line) => Some(Mode::PythonFrames),
        Mode::PythonFrames => marks::says_what_was_raised(line).then_some(Mode::PythonRaised),
        Mode::PythonRaised if line.is_empty() => Some(Mode::PythonGap),
        Mode::PythonRaised => is_indented(line).then_some(Mode::PythonRaised),
        Mode::PythonGap => marks::announces_another_traceback(line).then_some(Mode::PythonChained),
        Mode::PythonChained if line.is_empty() => Some(Mode::PythonChained),
        Mode::PythonChained => traceback(marks, line),
        Mode::PythonGroup if line.is_empty() => Some(Mode::PythonGap),
        Mode::PythonGroup if line.starts_with(b"  + Exception Group") => None,
        Mode::PythonGroup => matches!(line.trim_ascii_start().first(), Some(b'|' | b'+')).then_some(Mode::PythonGroup),
        Mode::GoBetween => marks::goes_on_between_goroutines(line),
        Mode::GoFrames if marks::is_go_frame(line) => Some(Mode::GoFrames),
        Mode::GoFrames => marks::goes_on_between_goroutines(line),
        Mode::Pem if memmem::find(line, b"-----END ").is_some() => Some(Mode::Idle),
        Mode::Pem => marks::is_of_a_key(line).then_some(Mode::Pem),
        Mode::Started => Some(Mode::Started),
    }
}

fn trace_goes_on(languages: Languages, marks: &Marks, line: &[u8]) -> Option<Mode> {
    match line.first()? {
        b' ' | b'\t' if languages.any_of(Languages::INDENTED) => {
            is_indented(line).then(|| after_frame(languages, line))
        }
        b' ' if languages.any_of(Languages::PYTHON) => traceback(marks, line),
        b'C' if line.starts_with(b"Caused by: ") => languages.any_of(Languages::JAVA).then_some(Mode::Trace),
        b'W' if line.starts_with(b"Wrapped by: ") => languages.any_of(Languages::JAVA).then_some(Mode::Trace),
        b'-' if line.starts_with(b"---> ") || line.starts_with(b"--- End of ") => {
            languages.any_of(Languages::DOTNET).then_some(Mode::Trace)
        }
        b'g' if line.starts_with(b"goroutine ") => languages.any_of(Languages::GO).then_some(Mode::GoFrames),
        b'T' if languages.any_of(Languages::PYTHON) => traceback(marks, line),
        _ => (languages.any_of(Languages::RUBY) && marks::is_ruby_place(line)).then_some(Mode::Trace),
    }
}

/// A traceback that begins with this line.
fn traceback(marks: &Marks, line: &[u8]) -> Option<Mode> {
    match marks.find(line)? {
        Word::Traceback if line.starts_with(b"Traceback") => Some(Mode::PythonFrames),
        Word::Traceback if line.trim_ascii_start().starts_with(b"+ Exception Group") => Some(Mode::PythonGroup),
        _ => None,
    }
}

/// A line that begins with space and is not empty.
fn is_indented(line: &[u8]) -> bool {
    matches!(line.first(), Some(b' ' | b'\t')) && !line.trim_ascii_start().is_empty()
}

/// A frame that nothing announced.
fn is_frame(languages: Languages, line: &[u8]) -> bool {
    let at = Languages::JAVA.or(Languages::NODE).or(Languages::DOTNET);
    let text = line.trim_ascii_start();
    languages.any_of(at) && text.starts_with(b"at ")
        || languages.any_of(Languages::RUBY) && text.starts_with(b"from ") && marks::is_ruby_place(text)
}

/// Node.js opens a brace after the last frame, or after the message of an error without any, where the error
/// has properties of its own.
fn after_frame(languages: Languages, line: &[u8]) -> Mode {
    if languages.any_of(Languages::NODE) && line.ends_with(b" {") { Mode::Braces } else { Mode::Trace }
}

#[cfg(test)]
mod tests;
