//! Bytes of a log file to the parts of a line: pure, no I/O, no clock.
//!
//! ```text
//! cri, docker   a runtime's line to a Piece: time, stream, whether more follows, content
//! message       an application's content to time, message and fields, where a parser was chosen for it
//! ```

use sluice_wire::{Stream, time};

pub mod audit;
pub mod cri;
pub mod docker;
pub mod journal;
pub mod kmsg;
pub mod message;
pub mod multiline;
mod unescape;

/// One physical line of a runtime's file, taken apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Piece<'a> {
    /// The runtime's time as it stands in the file.
    pub time_text: &'a [u8],
    /// The same in nanoseconds since the epoch.
    pub time: i64,
    /// Stdout or stderr.
    pub stream: Stream,
    /// More of this logical line follows in the next piece of the stream.
    pub partial: bool,
    /// What the application wrote.
    pub content: &'a [u8],
}

/// Which runtime wrote a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Runtime {
    /// containerd, CRI-O: see [`cri`].
    Cri,
    /// Docker's json-file driver: see [`docker`].
    Docker,
}

impl Runtime {
    /// Tells it from a line (without its newline), best the first of the file; `None`: the line is of
    /// neither form, not even after what was torn off before it.
    #[must_use]
    pub fn of_line(line: &[u8]) -> Option<Self> {
        let times = &mut time::Parser::default();
        let scratch = &mut Vec::new();
        // Each can hold the other in its content, so that whole lines are asked for first.
        if docker::parse(line, scratch, times).is_some() {
            return Some(Self::Docker);
        }
        if cri::parse(line, times).is_some() {
            return Some(Self::Cri);
        }
        let docker = docker::resynchronise(line, scratch, times).map(|(at, _)| (at, Self::Docker));
        let cri = cri::resynchronise(line, times).map(|(at, _)| (at, Self::Cri));
        [docker, cri].into_iter().flatten().min_by_key(|(at, _)| *at).map(|(_, runtime)| runtime)
    }
}

/// How many NUL bytes stand before a line: a node that crashed leaves them where data had not reached the
/// disk, a rotation of docker's where the writer kept its offset (moby#40584). `resynchronise` of both
/// formats steps over them; where it gives just this offset, nothing but NULs was lost.
#[must_use]
pub fn leading_nuls(line: &[u8]) -> usize {
    line.iter().take_while(|byte| **byte == 0).count()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_runtime_is_told_by_a_line_of_it() {
        let cri: &[u8] = b"2025-10-26T10:15:30.1Z stdout F {\"a\":1}";
        let docker: &[u8] = br#"{"log":"x\n","stream":"stdout","time":"2025-10-26T10:15:30.1Z"}"#;
        let glued = |torn: &[u8], line: &[u8]| Runtime::of_line(&[torn, line].concat());
        for torn in [&b""[..], b"\0\0\0\0"] {
            assert_eq!(glued(torn, cri), Some(Runtime::Cri));
            assert_eq!(glued(torn, docker), Some(Runtime::Docker));
        }
        assert_eq!(glued(b"2025-10-26T10:1", cri), Some(Runtime::Cri));
        assert_eq!(glued(br#"{"log":"to"#, docker), Some(Runtime::Docker));
        // An application may well log lines of the other runtime.
        assert_eq!(glued(b"2025-10-26T10:15:30.1Z stdout F ", docker), Some(Runtime::Cri));
        let quoting = br#"{"log":"2025-10-26T10:15:30Z stdout F x\n","stream":"stdout","time":"2025-10-26T10:15:30Z"}"#;
        assert_eq!(Runtime::of_line(quoting), Some(Runtime::Docker));
        for other in [&b""[..], b"\0\0", b"hello", b"{}", b"{\"log\":\"x\"}", b"{\"msg\":\"x\"}"] {
            assert_eq!(Runtime::of_line(other), None);
        }
    }

    #[test]
    fn leading_nuls_are_counted() {
        assert_eq!([&b""[..], b"a\0", b"\0\0a", b"\0"].map(leading_nuls), [0, 0, 2, 1]);
    }
}
