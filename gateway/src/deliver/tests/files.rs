//! The file destination, exactly once over a loss of power at any moment.

use std::io;
use std::path::{Path, PathBuf};

use sluice_durable_log::io::{Access, Fault, File, Lock, Op};

use super::*;
use crate::deliver::destination::file::{FileTree, OpenError};

const MAX_FILE_BYTES: u64 = 400;

fn config() -> checked::FileDestination {
    checked::FileDestination {
        directory: "/logs".into(),
        max_file_bytes: MAX_FILE_BYTES,
        batch_age: Duration::from_millis(200),
    }
}

fn open(files: &Arc<FaultyFiles>, state: Option<&[u8]>) -> FileTree {
    FileTree::open(Arc::new(WithDirectories::new(files)), &config(), state).unwrap()
}

/// The disk in memory knows only files: this one lists directories as well, as a real one does.
#[derive(Debug)]
pub(in crate::deliver) struct WithDirectories {
    files: Arc<FaultyFiles>,
    /// A directory that cannot be listed.
    unlisted: Option<&'static str>,
}

impl WithDirectories {
    pub(in crate::deliver) fn new(files: &Arc<FaultyFiles>) -> Self {
        Self { files: Arc::clone(files), unlisted: None }
    }
}

impl Files for WithDirectories {
    fn create_dir(&self, dir: &Path) -> io::Result<()> {
        dir.ancestors().try_for_each(|dir| self.files.create_dir(dir))
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        if self.unlisted.is_some_and(|unlisted| dir.ends_with(unlisted)) {
            return Err(io::Error::from_raw_os_error(5));
        }
        let mut names = self.files.list(dir)?;
        for path in self.files.paths() {
            if let Some(first) = path.strip_prefix(dir).ok().and_then(|below| below.components().next()) {
                names.push(first.as_os_str().to_str().unwrap().to_owned());
            }
        }
        names.sort();
        names.dedup();
        Ok(names)
    }

    fn open(&self, path: &Path, access: Access) -> io::Result<Box<dyn File>> {
        self.files.open(path, access)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.files.rename(from, to)
    }

    fn unlink(&self, path: &Path) -> io::Result<()> {
        self.files.unlink(path)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        self.files.sync_dir(dir)
    }

    fn lock(&self, path: &Path) -> io::Result<Box<dyn Lock>> {
        self.files.lock(path)
    }
}

fn delivered_files(files: &FaultyFiles, tenant: &str) -> Vec<PathBuf> {
    let below = Path::new("/logs").join(tenant).join("application");
    let mut paths: Vec<_> = files.paths().into_iter().filter(|path| path.starts_with(&below)).collect();
    paths.sort();
    paths
}

/// The texts of a tenant's lines, in the order of the files.
fn texts(files: &FaultyFiles, tenant: &str) -> Vec<String> {
    let mut texts = Vec::new();
    for path in delivered_files(files, tenant) {
        for line in String::from_utf8(files.contents(&path).unwrap()).unwrap().lines() {
            // A line that is being written, or was cut off by a fault, is no line yet.
            let Ok(record) = serde_json::from_str::<serde_json::Value>(line) else { continue };
            texts.push(record["_msg"].as_str().unwrap().to_owned());
        }
    }
    texts
}

fn in_order(tenant: &str, last: u64) -> Vec<String> {
    (1..=last).map(|number| format!("{tenant} {number}")).collect()
}

#[tokio::test(start_paused = true)]
async fn lines_lie_by_tenant_and_category_in_files_of_bounded_size() {
    let rig = Rig::new();
    let journal = rig.open();
    rig.run(&journal, |state| open(&rig.files, state), async {
        for number in 1..=30 {
            append(&journal, vec![entry("a", number), entry("b", number)]).await;
            tokio::time::sleep(Duration::from_millis(300)).await;
        }
        until("all is there", || texts(&rig.files, "b").len() == 30).await;
    })
    .await;
    assert_eq!(texts(&rig.files, "a"), in_order("a", 30));
    assert_eq!(texts(&rig.files, "b"), in_order("b", 30));
    let files = delivered_files(&rig.files, "a");
    assert!(files.len() > 3);
    for file in files {
        let name = file.file_name().unwrap().to_str().unwrap();
        assert!(name.len() == "20261121T010000Z-0000000000.jsonl".len() && name.ends_with(".jsonl"), "{name}");
        assert!(rig.files.contents(&file).unwrap().len() as u64 <= MAX_FILE_BYTES + 100);
    }
}

/// With the cut at start, or the removal of newer files, taken out, lines are there twice; with the state
/// saved apart from the decisions, they are lost or there twice.
#[tokio::test(start_paused = true)]
async fn a_loss_of_power_at_any_moment_neither_loses_nor_repeats_a_line() {
    for seed in 0..120 {
        let rig = Rig::new();
        let mut number = 0;
        for life in 0..4 {
            let journal = rig.open();
            let fault =
                [Op::Write, Op::SyncData, Op::SyncDir, Op::Rename, Op::Create][usize::try_from(seed % 5).unwrap()];
            rig.run(&journal, |state| open(&rig.files, state), async {
                for step in 0..6 {
                    number += 1;
                    append(&journal, vec![entry("a", number), entry("b", number)]).await;
                    if step == 3 && life % 2 == 0 {
                        // Not before the append: what fails from here on is the delivery's own.
                        rig.files.fail(fault, seed / 5 % 8, Fault::Io);
                    }
                    tokio::time::sleep(Duration::from_millis(seed * 37 % 400)).await;
                    rig.files.heal();
                }
            })
            .await;
            rig.files.crash(seed * 10 + life);
            drop(journal);
        }
        let journal = rig.open();
        rig.run(&journal, |state| open(&rig.files, state), async {
            until("all is there", || {
                texts(&rig.files, "a").len() as u64 >= number && texts(&rig.files, "b").len() as u64 >= number
            })
            .await;
            tokio::time::sleep(Duration::from_secs(5)).await;
        })
        .await;
        assert_eq!(texts(&rig.files, "a"), in_order("a", number), "seed {seed}");
        assert_eq!(texts(&rig.files, "b"), in_order("b", number), "seed {seed}");
    }
}

/// Without a saved state nobody knows which files are to be cut or removed.
#[tokio::test(start_paused = true)]
async fn nothing_is_delivered_before_the_first_state_is_saved() {
    let (rig, tree) = (Rig::new(), Arc::new(FaultyFiles::new()));
    let journal = rig.open();
    append(&journal, vec![entry("a", 1)]).await;
    rig.run(&journal, |state| open(&tree, state), async {
        (0..20).for_each(|_| rig.files.fail(Op::SyncData, 0, Fault::Io));
        tokio::time::sleep(Duration::from_secs(3)).await;
    })
    .await;
    drop(journal);
    rig.files.crash(1);
    let journal = rig.open();
    rig.run(&journal, |state| open(&tree, state), async {
        until("it is there", || !texts(&tree, "a").is_empty()).await;
        tokio::time::sleep(Duration::from_secs(5)).await;
    })
    .await;
    assert_eq!(texts(&tree, "a"), ["a 1"]);
}

#[tokio::test(start_paused = true)]
async fn a_full_disk_holds_and_then_goes_on_where_it_was() {
    let (rig, tree) = (Rig::new(), Arc::new(FaultyFiles::new()));
    let journal = rig.open();
    rig.run(&journal, |state| open(&tree, state), async {
        append(&journal, vec![entry("a", 1)]).await;
        until("the first is there", || texts(&tree, "a").len() == 1).await;
        // Half of the bytes get there, as on a real disk.
        tree.fail(Op::Write, 0, Fault::NoSpace);
        append(&journal, vec![entry("a", 2), entry("a", 3)]).await;
        until("it is held", || rig.metric("batches_total{destination=\"logs\",outcome=\"hold\"}") == 1).await;
        append(&journal, vec![entry("a", 4)]).await;
        until("all is there", || texts(&tree, "a").len() == 4).await;
    })
    .await;
    assert_eq!(texts(&tree, "a"), in_order("a", 4));
}

#[tokio::test(start_paused = true)]
async fn a_directory_with_files_of_another_life_loses_none_of_them() {
    let rig = Rig::new();
    let old = Path::new("/logs/a/application/20200101T000000Z-0000000007.jsonl");
    rig.files.create_dir(old.parent().unwrap()).unwrap();
    rig.files.replace(old, b"{\"_msg\":\"old\"}\n");
    let journal = rig.open();
    rig.run(&journal, |state| open(&rig.files, state), async {
        append(&journal, vec![entry("a", 1)]).await;
        until("it is there", || texts(&rig.files, "a").len() == 2).await;
    })
    .await;
    assert_eq!(texts(&rig.files, "a"), ["old", "a 1"]);
    assert!(delivered_files(&rig.files, "a")[1].to_string_lossy().ends_with("-0000000008.jsonl"));
}

/// The tree's disk is full for a while; the journal's is not.
#[tokio::test(start_paused = true)]
async fn entries_beyond_the_share_of_the_journal_are_parked_and_keep_their_order() {
    let (rig, tree) = (Rig::new(), Arc::new(FaultyFiles::new()));
    let journal = rig.open();
    let mut number = 0;
    rig.run(&journal, |state| open(&tree, state), async {
        tree.set_capacity(Some(0));
        let mut released = 0;
        while rig.metric("parked_entries{destination=\"logs\"}") == 0 || released < 100 {
            number += 1;
            append(&journal, vec![big(number)]).await;
            tokio::time::sleep(Duration::from_millis(100)).await;
            released += u64::from(rig.metric("parked_entries{destination=\"logs\"}") > 0);
            assert!(number < 1000, "nothing is parked");
        }
        rig.books_balance();
        tree.set_capacity(None);
        until("all is there", || texts(&tree, "a").len() as u64 == number).await;
        tokio::time::sleep(Duration::from_secs(5)).await;
    })
    .await;
    assert_eq!(texts(&tree, "a"), in_order("a", number));
    rig.books_balance();
    let subscription = journal.subscribe("logs").unwrap();
    assert_eq!((subscription.lag().entries, subscription.parked().entries), (0, 0));
}

fn send(tree: &FileTree, texts: &[&str]) -> Outcome {
    let position = crate::journal::Position { partition: 0, index: 0 };
    let batch = Batch::new(vec![position], vec![entry_of("a", 1, texts)]);
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(tree.send(&batch, Mode::Whole))
}

#[test]
fn at_start_files_are_as_long_as_the_saved_state_says() {
    let files = Arc::new(FaultyFiles::new());
    let tree = open(&files, None);
    assert!(matches!(send(&tree, &["saved"]), Outcome::Delivered(_)));
    let state = tree.state();
    assert!(matches!(send(&tree, &["not saved"]), Outcome::Delivered(_)));
    drop(tree);
    let _tree = open(&files, Some(&state));
    assert_eq!(texts(&files, "a"), ["saved"]);
}

#[test]
fn what_a_failed_attempt_left_is_cut_off_before_the_next() {
    let files = Arc::new(FaultyFiles::new());
    let tree = open(&files, None);
    assert!(matches!(send(&tree, &["first"]), Outcome::Delivered(_)));
    files.fail(Op::SyncData, 0, Fault::Io);
    assert!(matches!(send(&tree, &["a long one", "of two lines"]), Outcome::Hold(_)));
    assert!(matches!(send(&tree, &["short"]), Outcome::Delivered(_)));
    assert_eq!(texts(&files, "a"), ["first", "short"]);
}

#[test]
fn a_tenant_that_is_no_name_of_a_directory_is_held() {
    let files = Arc::new(FaultyFiles::new());
    for tenant in ["..", ".", "", "a/b", "../../etc"] {
        let tree = open(&files, None);
        let mut entry = entry("x", 1);
        entry.tenant = tenant.into();
        let batch = Batch::new(vec![crate::journal::Position { partition: 0, index: 0 }], vec![entry]);
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        assert!(matches!(runtime.block_on(tree.send(&batch, Mode::Whole)), Outcome::Hold(_)), "{tenant:?}");
    }
    assert!(files.paths().iter().all(|path| path.extension().is_none_or(|extension| extension != "jsonl")));
}

#[test]
fn many_tenants_do_not_hold_many_files_open_and_go_on_where_they_were() {
    let files = Arc::new(FaultyFiles::new());
    let tree = open(&files, None);
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    for round in 1..=2 {
        for tenant in 0..200 {
            let position = crate::journal::Position { partition: 0, index: 0 };
            let batch = Batch::new(vec![position], vec![entry(&format!("t{tenant}"), round)]);
            assert!(matches!(runtime.block_on(tree.send(&batch, Mode::Whole)), Outcome::Delivered(_)));
        }
    }
    assert_eq!(texts(&files, "t0"), in_order("t0", 2));
    let state = tree.state();
    // A restart with that state changes nothing.
    drop(tree);
    let _tree = open(&files, Some(&state));
    assert_eq!(texts(&files, "t199"), in_order("t199", 2));
}

/// The directory was exchanged (another volume, another path): its files have numbers that the state has
/// not given out yet, and are no leftovers of ours.
#[test]
fn files_of_a_directory_that_the_state_is_not_about_are_left_alone() {
    let (files, other) = (Arc::new(FaultyFiles::new()), Arc::new(FaultyFiles::new()));
    let tree = open(&files, None);
    assert!(matches!(send(&tree, &["here"]), Outcome::Delivered(_)));
    let state = tree.state();
    drop(tree);
    let elsewhere = open(&other, None);
    for text in ["1", "2", "3"].map(|text| text.repeat(usize::try_from(MAX_FILE_BYTES).unwrap())) {
        assert!(matches!(send(&elsewhere, &[&text]), Outcome::Delivered(_)));
    }
    drop(elsewhere);
    let before = texts(&other, "a");
    let tree = open(&other, Some(&state));
    assert_eq!(texts(&other, "a"), before);
    assert!(matches!(send(&tree, &["new"]), Outcome::Delivered(_)));
    assert_eq!(texts(&other, "a"), [&before[..], &["new".to_owned()]].concat());
    drop(tree);
    // And back: what was written there by now is as little ours.
    let interim = open(&files, None);
    assert!(matches!(send(&interim, &["interim"]), Outcome::Delivered(_)));
    drop(interim);
    let _tree = open(&files, Some(&state));
    assert_eq!(texts(&files, "a"), ["here", "interim"]);
}

#[test]
fn two_gateways_do_not_write_into_one_directory() {
    let files = Arc::new(FaultyFiles::new());
    let tree = open(&files, None);
    let opened =
        |state: Option<&[u8]>| FileTree::open(Arc::new(WithDirectories::new(&files)), &config(), state).map(|_| ());
    assert!(matches!(opened(None), Err(OpenError::InUse { .. })));
    drop(tree);
    opened(None).unwrap();
}

/// Put there while the gateway runs, under the name that comes next.
#[test]
fn a_file_that_somebody_put_there_is_not_emptied() {
    let files = Arc::new(FaultyFiles::new());
    let tree = open(&files, None);
    files.create_dir("/logs/a/application".as_ref()).unwrap();
    let theirs: Vec<PathBuf> = (0..30)
        .map(|second| {
            let mut moment = Vec::new();
            let now = crate::deliver::worker::now_nanos() + i64::from(second) * 1_000_000_000;
            time::write(now, &mut moment);
            let start: String = std::str::from_utf8(&moment[..19]).unwrap().replace(['-', ':'], "");
            format!("/logs/a/application/{start}Z-0000000000.jsonl").into()
        })
        .collect();
    theirs.iter().for_each(|path| files.replace(path, b"{\"_msg\":\"theirs\"}\n"));
    assert!(matches!(send(&tree, &["ours"]), Outcome::Delivered(_)));
    assert!(theirs.iter().all(|path| files.contents(path).unwrap() == b"{\"_msg\":\"theirs\"}\n"));
    assert!(texts(&files, "a").contains(&"ours".to_owned()));
}

/// What cannot be listed could hold a file that has to be removed: its lines would be there twice.
#[test]
fn a_directory_that_cannot_be_listed_is_not_passed_over() {
    let files = Arc::new(FaultyFiles::new());
    let tree = open(&files, None);
    let state = tree.state();
    assert!(matches!(send(&tree, &["not saved"]), Outcome::Delivered(_)));
    drop(tree);
    let unlisted = Arc::new(WithDirectories { unlisted: Some("a/application"), ..WithDirectories::new(&files) });
    assert!(FileTree::open(unlisted, &config(), Some(&state)).is_err());
}
