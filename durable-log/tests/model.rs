//! Random histories against a model that is a list. The disk fails and loses power at random.

mod common;

use std::path::{Path, PathBuf};

use common::{SEGMENT, opened, options, payload};
use proptest::prelude::*;
use sluice_durable_log::{
    AppendError, Item, Log, Options, Reader, Recovery, SyncMode, Writer,
    io::{Fault, FaultyFiles, Op},
    open,
};

#[derive(Clone, Debug)]
enum Act {
    Append(usize),
    Sync,
    /// Releases this share, in percent, of what is held.
    Release(u64),
    /// Ends the process.
    Kill,
    /// Cuts the power.
    Crash(u64),
    Fail(Op, u64, Fault),
    /// Leaves this many segments' worth of space on the disk.
    Capacity(Option<u64>),
    /// Between two lives: flips a bit somewhere in a file.
    Flip(prop::sample::Index, prop::sample::Index, u8),
    /// Between two lives: cuts a file.
    Truncate(prop::sample::Index, prop::sample::Index),
    /// Between two lives: deletes a file.
    Delete(prop::sample::Index),
}

fn ordinary() -> impl Strategy<Value = Act> {
    prop_oneof![
        30 => (0_usize..9000).prop_map(Act::Append),
        2 => (32_700_usize..32_800).prop_map(Act::Append),
        12 => Just(Act::Sync),
        2 => (0_u64..=100).prop_map(Act::Release),
        2 => Just(Act::Kill),
    ]
}

fn failing() -> impl Strategy<Value = Act> {
    let op = prop_oneof![
        (Just(Op::Write), prop_oneof![Just(Fault::Io), Just(Fault::NoSpace), Just(Fault::Short)]),
        (Just(Op::SyncData), Just(Fault::Io)),
        (Just(Op::SyncDir), Just(Fault::Io)),
        (Just(Op::Allocate), prop_oneof![Just(Fault::NoSpace), Just(Fault::Unsupported)]),
        (Just(Op::Create), prop_oneof![Just(Fault::Io), Just(Fault::TooManyFiles)]),
        (Just(Op::Rename), Just(Fault::Io)),
        (Just(Op::Unlink), Just(Fault::Io)),
        (Just(Op::Truncate), Just(Fault::Io)),
        (Just(Op::Open), Just(Fault::TooManyFiles)),
    ];
    prop_oneof![
        10 => ordinary(),
        1 => any::<u64>().prop_map(Act::Crash),
        2 => (op, 0_u64..4).prop_map(|((op, fault), skip)| Act::Fail(op, skip, fault)),
        1 => prop::option::of(0_u64..6).prop_map(Act::Capacity),
    ]
}

fn damaging() -> impl Strategy<Value = Act> {
    use prop::sample::Index;
    prop_oneof![
        20 => ordinary(),
        1 => (any::<Index>(), any::<Index>(), 0_u8..8).prop_map(|(a, b, c)| Act::Flip(a, b, c)),
        1 => (any::<Index>(), any::<Index>()).prop_map(|(a, b)| Act::Truncate(a, b)),
        1 => any::<Index>().prop_map(Act::Delete),
    ]
}

/// A log beside what it ought to hold.
struct Run {
    files: FaultyFiles,
    options: Options,
    /// The log, while it is open, and a reader that has seen everything up to its position.
    open: Option<(Writer, Log, Reader)>,
    /// Acknowledged payloads by index; `None` is known to be damaged.
    stored: Vec<Option<Vec<u8>>>,
    /// Appended since the last sync.
    pending: Vec<Vec<u8>>,
    /// Groups in doubt, each starting where `stored` ends.
    doubt: Vec<Vec<Vec<u8>>>,
    released: u64,
    /// Files were tampered with: damage may be seen.
    tampered: bool,
    serial: u64,
}

impl Run {
    fn new(options: Options) -> Self {
        let files = FaultyFiles::new();
        let mut run = Self {
            files,
            options,
            open: None,
            stored: Vec::new(),
            pending: Vec::new(),
            doubt: Vec::new(),
            released: 0,
            tampered: false,
            serial: 0,
        };
        run.reopen();
        run
    }

    fn durable(&self) -> u64 {
        self.stored.len() as u64
    }

    fn act(&mut self, act: &Act) {
        match act {
            Act::Append(len) => self.append(*len),
            Act::Sync => self.sync(),
            Act::Release(percent) => {
                // A caller releases what it has read.
                self.follow();
                let below = self.released + (self.durable() - self.released) * percent / 100;
                self.released = below;
                let (writer, log, _) = self.open.as_mut().expect("open between acts");
                writer.release(below);
                assert!(self.tampered || log.oldest() <= below);
            }
            Act::Kill => self.restart(|_| {}),
            Act::Crash(seed) => self.restart(|files| files.crash(*seed)),
            Act::Fail(op, skip, fault) => self.files.fail(*op, *skip, *fault),
            Act::Capacity(segments) => {
                let used = self.open.as_ref().expect("open between acts").1.size_bytes();
                self.files.set_capacity(segments.map(|n| used + n * SEGMENT));
            }
            Act::Flip(file, offset, bit) => self.tamper(file, |bytes| {
                if !bytes.is_empty() {
                    let at = offset.index(bytes.len());
                    bytes[at] ^= 1 << bit;
                }
            }),
            Act::Truncate(file, offset) => self.tamper(file, |bytes| {
                bytes.truncate(offset.index(bytes.len() + 1));
            }),
            Act::Delete(file) => {
                let files = self.files.clone();
                self.open = None;
                self.tampered = true;
                let segments = segments(&files);
                files.remove(&segments[file.index(segments.len())]);
                self.restart(|_| {});
            }
        }
    }

    fn append(&mut self, len: usize) {
        self.serial += 1;
        let bytes = payload(self.serial, len);
        let (head, tail) = bytes.split_at(bytes.len() / 3);
        let expected = self.durable() + self.pending.len() as u64;
        let (writer, log, _) = self.open.as_mut().expect("open between acts");
        match writer.append(&[head, tail]) {
            Ok(index) => {
                assert_eq!(index, expected);
                self.pending.push(bytes);
                // A new segment has stored what was before it.
                let stored = usize::try_from(log.durable() - self.stored.len() as u64).expect("small");
                self.stored.extend(self.pending.drain(..stored).map(Some));
                if stored > 0 {
                    self.doubt.clear();
                }
            }
            Err(AppendError::InDoubt { .. }) => {
                self.absorb();
                self.sync();
            }
            Err(AppendError::TooLarge { len, max }) => assert!(len > max),
            Err(error) => {
                assert!(error.is_definite());
                self.absorb();
            }
        }
    }

    /// Books what was stored on the way to a failure.
    fn absorb(&mut self) {
        let (_, log, _) = self.open.as_ref().expect("open between acts");
        let stored = usize::try_from(log.durable() - self.durable()).expect("small");
        if stored > 0 {
            self.stored.extend(self.pending.drain(..stored).map(Some));
            self.doubt.clear();
        }
    }

    fn sync(&mut self) {
        let expected = self.durable() + self.pending.len() as u64;
        let (writer, log, _) = self.open.as_mut().expect("open between acts");
        match writer.sync() {
            Ok(durable) => {
                assert_eq!((durable, log.durable()), (expected, expected));
                if !self.pending.is_empty() {
                    self.stored.extend(self.pending.drain(..).map(Some));
                    self.doubt.clear();
                }
            }
            Err(doubt) => {
                assert_eq!((doubt.first, doubt.next), (self.stored.len() as u64, expected));
                assert_eq!((writer.next(), log.durable()), (doubt.first, doubt.first));
                self.doubt.push(std::mem::take(&mut self.pending));
            }
        }
        self.follow();
    }

    fn tamper(&mut self, file: &prop::sample::Index, change: impl FnOnce(&mut Vec<u8>)) {
        self.open = None;
        self.tampered = true;
        let mut segments = segments(&self.files);
        let path = segments.swap_remove(file.index(segments.len()));
        let mut bytes = self.files.contents(&path).expect("it was listed");
        change(&mut bytes);
        self.files.replace(&path, &bytes);
        self.restart(|_| {});
    }

    fn restart(&mut self, between: impl FnOnce(&FaultyFiles)) {
        self.open = None;
        let pending = std::mem::take(&mut self.pending);
        self.doubt.push(pending);
        between(&self.files);
        self.reopen();
    }

    fn reopen(&mut self) {
        if self.tampered {
            // As a caller with cursors of its own does.
            self.options.at_least = self.durable();
        }
        let files = std::sync::Arc::new(self.files.clone());
        let (writer, log, recovery) = match open(files, self.options.clone()) {
            Ok(opened) => opened,
            Err(_) => {
                self.files.heal();
                self.files.set_capacity(None);
                opened(&self.files, &self.options)
            }
        };
        self.judge(&log, &recovery);
        let reader = log.reader(self.released);
        self.open = Some((writer, log, reader));
        self.follow();
    }

    /// Takes over what the opened log holds beyond what was acknowledged.
    fn judge(&mut self, log: &Log, recovery: &Recovery) {
        assert_eq!(recovery.next, log.durable());
        assert!(recovery.next >= self.durable(), "acknowledged records are gone");
        if recovery.created && self.durable() > 0 {
            assert!(self.tampered);
            // Another log: nothing of the old one may be seen.
            let next = usize::try_from(recovery.next).expect("small");
            self.stored = vec![None; next];
            self.released = recovery.next;
        }
        let mut reader = log.reader(self.durable());
        let mut extra = Vec::new();
        let mut buf = Vec::new();
        while let Some(item) = self.next(&mut reader, &mut buf) {
            assert!(matches!(item, Item::Record { .. }) || self.tampered, "{item:?}");
            extra.push(buf.clone());
        }
        let whole = |group: &Vec<Vec<u8>>| group.starts_with(&extra);
        let told = extra.is_empty() || self.doubt.iter().any(whole);
        assert!(self.tampered || told, "records nobody appended so");
        self.stored.extend(extra.into_iter().map(Some));
        // What was in doubt is decided, and cannot come back in another way.
        self.doubt.clear();
    }

    fn next(&self, reader: &mut Reader, buf: &mut Vec<u8>) -> Option<Item> {
        match reader.next(buf) {
            Ok(item) => item,
            Err(_) => {
                self.files.heal();
                reader.next(buf).expect("no more failures are planned")
            }
        }
    }

    /// Reads on, and compares.
    fn follow(&mut self) {
        let (writer, log, mut reader) = self.open.take().expect("open between acts");
        let mut buf = Vec::new();
        loop {
            let position = reader.position();
            let Some(item) = self.next(&mut reader, &mut buf) else { break };
            match item {
                Item::Record { index } => {
                    assert_eq!(index, position);
                    let index = usize::try_from(index).expect("small");
                    let stored = self.stored[index].as_ref();
                    assert!(stored.is_none_or(|stored| *stored == buf), "record {index} differs");
                }
                Item::Damaged { first, next, .. } => {
                    assert!(self.tampered, "{item:?}");
                    assert_eq!(first, position);
                    assert!(next > first && next <= log.durable());
                }
                Item::Released { next, .. } => {
                    // Only if somebody took the first segment away.
                    assert!(self.tampered, "{item:?}");
                    assert_eq!(next, log.oldest());
                }
            }
        }
        assert_eq!(reader.position(), self.durable());
        self.open = Some((writer, log, reader));
    }
}

fn segments(files: &FaultyFiles) -> Vec<PathBuf> {
    let mut paths = files.paths();
    paths.retain(|path| path.parent() == Some(Path::new("/log")));
    paths
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    /// Failures and losses of power: nothing acknowledged is lost, nothing refused appears.
    #[test]
    fn keeps_what_it_acknowledged(
        acts in prop::collection::vec(failing(), 1..120),
        preallocate: bool,
    ) {
        let mut run = Run::new(Options { preallocate, ..options(Path::new("/log")) });
        for act in &acts {
            run.act(act);
        }
        run.restart(|files| files.crash(0));
    }

    /// Without fdatasync the same holds as long as the machine runs.
    #[test]
    fn keeps_what_it_wrote(acts in prop::collection::vec(failing(), 1..120)) {
        let base = options(Path::new("/log"));
        let mut run = Run::new(Options { sync: SyncMode::Never, preallocate: false, ..base });
        for act in acts.iter().filter(|act| !matches!(act, Act::Crash(_))) {
            run.act(act);
        }
        run.restart(|_| {});
    }

    /// Damaged files: what is read is right, what is not read is reported, and the log goes on.
    #[test]
    fn reports_what_it_lost(acts in prop::collection::vec(damaging(), 1..120)) {
        let mut run = Run::new(options(Path::new("/log")));
        for act in &acts {
            run.act(act);
        }
        run.restart(|_| {});
    }
}
