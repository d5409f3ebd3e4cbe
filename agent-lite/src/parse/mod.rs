//! Bytes of a log file to the parts of a line: pure, no I/O, no clock.

pub mod cri;
pub mod multiline;
