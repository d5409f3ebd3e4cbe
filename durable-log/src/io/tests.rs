use std::path::Path;

use super::{Access, Fault, FaultyFiles, File, Files, Lock, Op, RealFiles};

/// What both filesystems have to do alike.
fn behaves(files: &dyn Files, dir: &Path) {
    files.create_dir(dir).expect("made");
    let (one, two) = (dir.join("one"), dir.join("two"));
    let missing = files.open(&one, Access::Write).expect_err("it is not there");
    assert_eq!(missing.kind(), std::io::ErrorKind::NotFound);

    let file = files.open(&one, Access::Create).expect("created");
    file.allocate(10_000).expect("there is room");
    file.write_all_at(b"over a page's end", 4090).expect("written");
    file.sync_data().expect("synced");
    let mut bytes = [1; 20];
    assert_eq!(file.read_full_at(&mut bytes, 4088).expect("readable"), 20);
    assert_eq!(&bytes, b"\0\0over a page's end\0");
    assert_eq!(file.read_full_at(&mut bytes, 9_990).expect("readable"), 10);
    assert_eq!(file.size().expect("known"), 10_000);
    file.truncate(4094).expect("cut");
    file.write_all_at(b"!", 4100).expect("written");
    assert_eq!(file.read_full_at(&mut bytes, 4090).expect("readable"), 11);
    assert_eq!(&bytes[..11], b"over\0\0\0\0\0\0!");

    files.rename(&one, &two).expect("renamed");
    files.sync_dir(dir).expect("synced");
    assert_eq!(files.list(dir).expect("listed"), ["two"]);
    files.unlink(&two).expect("unlinked");
    assert_eq!(file.size().expect("still open"), 4101);
    let old = files.open(&two, Access::Create).expect("created");
    old.write_all_at(b"old", 0).expect("written");
    files.open(&two, Access::Create).expect("emptied");
    assert_eq!(old.size().expect("still open"), 0);

    let lock: Box<dyn Lock> = files.lock(&dir.join("lock")).expect("free");
    let held = files.lock(&dir.join("lock")).expect_err("held");
    assert_eq!(held.kind(), std::io::ErrorKind::WouldBlock);
    drop(lock);
    files.lock(&dir.join("lock")).expect("free again");
}

#[test]
fn real_and_faulty_files_behave_alike() {
    let dir = tempfile::tempdir().expect("a directory");
    behaves(&RealFiles, &dir.path().join("a/b"));
    behaves(&FaultyFiles::new(), Path::new("/a/b"));
}

fn created(files: &FaultyFiles, name: &str) -> Box<dyn File> {
    files.open(&Path::new("/d").join(name), Access::Create).expect("created")
}

#[test]
fn a_crash_keeps_what_was_synced_and_any_part_of_the_rest() {
    let (mut names, mut pages) = (0, 0);
    for seed in 0..64 {
        let files = FaultyFiles::new();
        let file = created(&files, "kept");
        file.write_all_at(&[1; 8192], 0).expect("written");
        file.sync_data().expect("synced");
        files.sync_dir(Path::new("/d")).expect("synced");
        file.write_all_at(&[2; 8192], 0).expect("written");
        created(&files, "maybe");
        files.crash(seed);
        file.size().expect_err("opened before the crash");
        let bytes = files.contents(Path::new("/d/kept")).expect("its name was synced");
        assert_eq!(bytes.len(), 8192);
        for page in bytes.chunks(4096) {
            assert!(page == [1; 4096] || page == [2; 4096]);
            pages += usize::from(page[0] == 2);
        }
        names += usize::from(files.contents(Path::new("/d/maybe")).is_some());
    }
    assert!((1..64).contains(&names) && (1..128).contains(&pages), "{names}, {pages}");
}

#[test]
fn syncing_again_after_a_failure_stores_nothing() {
    let lost = (0..16).filter(|&seed| {
        let files = FaultyFiles::new();
        let file = created(&files, "file");
        files.sync_dir(Path::new("/d")).expect("synced");
        file.write_all_at(b"data", 0).expect("written");
        files.fail(Op::SyncData, 0, Fault::Io);
        file.sync_data().expect_err("planned");
        file.sync_data().expect("says that all is well");
        files.crash(seed);
        files.contents(Path::new("/d/file")).as_deref() != Some(b"data")
    });
    assert!(lost.count() > 0);
}

#[test]
fn a_full_disk_takes_what_fits() {
    let files = FaultyFiles::new();
    files.set_capacity(Some(8192));
    let (one, two) = (created(&files, "one"), created(&files, "two"));
    one.allocate(4096).expect("there is room");
    assert_eq!(two.write_at(&[1; 8192], 0).expect("half of it fits"), 4096);
    let full = two.write_at(&[1; 1], 4096).expect_err("no page left");
    assert_eq!(full.kind(), std::io::ErrorKind::StorageFull);
    one.write_at(&[1; 4096], 0).expect("it was reserved");
}
