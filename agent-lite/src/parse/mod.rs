//! Bytes of a log file to the parts of a line: pure, no I/O, no clock.

pub mod audit;
pub mod cri;
pub mod journal;
pub mod kmsg;
