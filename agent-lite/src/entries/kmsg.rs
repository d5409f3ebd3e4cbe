//! The kernel's log, read from its ring buffer: one record for each read.

use std::fs::{File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::fs::OFlags;
use rustix::time::ClockId;
use sluice_wire::{Category, Stream};

use super::feed::{Entry, Feed, Mark, source_id};
use super::{Output, QUANTUM, since};
use crate::block::LaneId;
use crate::parse::journal::severity;
use crate::parse::kmsg::Record;
use crate::record;
use crate::tail::{Abandoned, Gap, Known, Labels, Sighting, StartFrom};

const UNIT: &str = "kernel";
/// No record is longer (8 KiB with its details: `CONSOLE_EXT_LOG_MAX` of kernels before 6.4, less since). Into a
/// shorter buffer the kernel gives none, says `EINVAL`, and passes over it.
const BUFFER: usize = 32 * 1024;
/// Failures in a row that pass for records that are gone; more are no kernel log's.
const MAX_SKIPS: u32 = 1000;
/// Between attempts at opening it.
const RETRY: Duration = Duration::from_secs(30);

#[derive(Debug)]
pub(super) struct Kmsg {
    path: PathBuf,
    labels: Labels,
    file: Option<File>,
    next_open: Option<Instant>,
    feed: Option<Feed>,
    /// The short id of this boot's records.
    pub(super) source: u64,
    source_path: PathBuf,
    /// Nanoseconds of the epoch that the kernel's clock began at.
    boot_ns: i64,
    since_mark: Mark,
    since: i64,
    /// The next number.
    next: u64,
    is_held_back: bool,
    buffer: Vec<u8>,
    fields: Vec<u8>,
}

impl Kmsg {
    pub(super) fn new(path: &Path, labels: &Labels, start: StartFrom, wall_ns: i64, known: &mut dyn Known) -> Self {
        let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
        let boot = boot.trim();
        // Each boot counts from 0. Where the kernel does not tell which it is, one is drawn: that repeats, and
        // loses nothing.
        let source = if boot.is_empty() { rand::random() } else { source_id(&[b"kmsg", boot.as_bytes()]) };
        let clock = rustix::time::clock_gettime(ClockId::Monotonic);
        let up_ns = clock.tv_sec.saturating_mul(1_000_000_000).saturating_add(clock.tv_nsec);
        let (since_mark, since) = since("kmsg", start, wall_ns, known);
        Self {
            path: path.to_owned(),
            labels: labels.clone(),
            file: None,
            next_open: None,
            feed: None,
            source,
            source_path: format!("kmsg/boot={boot}").into(),
            boot_ns: wall_ns.saturating_sub(up_ns),
            since_mark,
            since,
            next: known.covered(source, Stream::Whole),
            is_held_back: false,
            buffer: vec![0; BUFFER],
            fields: Vec::new(),
        }
    }

    /// Takes records up to a quantum; gives their bytes.
    pub(super) fn read(&mut self, output: &mut Output<'_>) -> usize {
        let Some(mut file) = self.file.take().or_else(|| self.open(output)) else { return 0 };
        let bytes = self.read_from(&mut file, output);
        self.file = bytes.is_ok().then_some(file);
        bytes.unwrap_or_else(|error| {
            tracing::error!(path = %self.path.display(), %error, "the kernel's log cannot be read, trying again");
            output.counts.unreadable += 1;
            self.next_open = Some(output.now + RETRY);
            0
        })
    }

    fn open(&mut self, output: &mut Output<'_>) -> Option<File> {
        if self.next_open.is_some_and(|at| output.now < at) {
            return None;
        }
        self.next_open = Some(output.now + RETRY);
        let flags = i32::try_from(OFlags::NONBLOCK.bits()).unwrap_or(0);
        let opened = OpenOptions::new().read(true).custom_flags(flags).open(&self.path);
        opened
            .inspect_err(|error| {
                output.counts.unreadable += 1;
                tracing::error!(
                    path = %self.path.display(), %error,
                    "the kernel's log cannot be opened: it needs the device and, where dmesg_restrict is 1, CAP_SYSLOG"
                );
            })
            .ok()
    }

    fn read_from(&mut self, from: &mut impl Read, output: &mut Output<'_>) -> io::Result<usize> {
        let (mut bytes, mut skips) = (0, 0);
        let mut buffer = std::mem::take(&mut self.buffer);
        let result = loop {
            let lane = self.feed(output).lane;
            self.is_held_back = !output.lanes.takes_records(lane);
            if self.is_held_back || bytes >= QUANTUM {
                break Ok(bytes);
            }
            match from.read(&mut buffer) {
                Ok(0) => break Ok(bytes),
                Ok(length) => {
                    skips = 0;
                    bytes += length;
                    self.take(&buffer[..length], output);
                }
                Err(error) => match error.kind() {
                    io::ErrorKind::WouldBlock => break Ok(bytes),
                    // Records were written over: the next read gives the oldest there is, whose number tells
                    // how many are missing. A record that is too long is passed over, and missed likewise.
                    io::ErrorKind::BrokenPipe | io::ErrorKind::Interrupted | io::ErrorKind::InvalidInput
                        if skips < MAX_SKIPS =>
                    {
                        skips += 1;
                    }
                    _ => break Err(error),
                },
            }
        };
        self.buffer = buffer;
        result
    }

    fn take(&mut self, bytes: &[u8], output: &mut Output<'_>) {
        let Some(record) = Record::parse(bytes) else {
            output.counts.torn += 1;
            output.counts.torn_bytes += bytes.len() as u64;
            return;
        };
        let number = record.sequence;
        let since_boot = i64::try_from(record.microseconds).unwrap_or(i64::MAX).saturating_mul(1000);
        let time = self.boot_ns.saturating_add(since_boot);
        let (source, path) = (self.source, self.source_path.clone());
        let at = self.feed(output).source(source, || path, output.known);
        // What the ring of blocks has was taken by an earlier run.
        self.next = self.next.max(self.feed(output).covered(at));
        if number < self.next {
            return;
        }
        // What was there before the first record of a boot that is read, nobody has promised.
        if number > self.next && self.next > 0 {
            let missing = self.next..number;
            self.feed(output).miss(at, missing, UNIT, Abandoned::KmsgOverwritten, time, output);
        }
        self.next = number + 1;
        if time < self.since {
            return;
        }
        let mut fields = std::mem::take(&mut self.fields);
        fields.clear();
        record::append("severity", severity(&[b'0' + record.severity]).unwrap_or_default(), &mut fields);
        if record.facility != 0 {
            record::append("facility", &record.facility.to_string(), &mut fields);
        }
        for (name, value) in record.details() {
            let name = match name {
                b"SUBSYSTEM" => "subsystem",
                b"DEVICE" => "device",
                _ => continue,
            };
            record::append(name, &String::from_utf8_lossy(value), &mut fields);
        }
        let entry =
            Entry { number, bytes: bytes.len() as u64, time, unit: UNIT, content: &record.text, fields: &fields };
        self.feed(output).push(at, &entry, output);
        self.fields = fields;
    }

    /// Where its records go.
    fn feed(&mut self, output: &mut Output<'_>) -> &mut Feed {
        self.feed.get_or_insert_with(|| Feed::new("kmsg", Category::Host, &UNIT.into(), &self.labels, output.lanes))
    }

    /// Tells of a gap of an earlier run, where it is one of the kernel's log.
    pub(super) fn tell(&mut self, gap: &Gap, output: &mut Output<'_>) {
        if *self.feed(output).log == *gap.log {
            self.feed(output).tell(gap, UNIT, output);
        }
    }

    /// The lane that took nothing when it was read last.
    pub(super) fn held_back(&self) -> Option<LaneId> {
        self.feed.as_ref().filter(|_| self.is_held_back).map(|feed| feed.lane)
    }

    pub(super) fn feeds(&self) -> impl Iterator<Item = &Feed> {
        self.feed.iter()
    }

    pub(super) fn feeds_mut(&mut self) -> impl Iterator<Item = &mut Feed> {
        self.feed.iter_mut()
    }

    pub(super) fn sightings(&self) -> impl Iterator<Item = Sighting<'_>> {
        self.feed.iter().flat_map(Feed::sightings).chain([self.since_mark.sighting()])
    }
}

#[cfg(test)]
mod tests;
