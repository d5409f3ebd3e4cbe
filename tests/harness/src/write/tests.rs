//! The files are read back by the rules of CRI and compared with the manifest.

use std::{collections::HashMap, fs, io::Read as _, path::Path};

use flate2::read::MultiGzDecoder;

use super::*;
use crate::{line, shape::expected_value};

/// Joined lines of one container's files, oldest first, per stream.
fn read_back(dir: &Path) -> HashMap<String, Vec<Vec<u8>>> {
    let mut files: Vec<_> = fs::read_dir(dir).expect("a directory").flatten().map(|entry| entry.path()).collect();
    // `0.log` sorts before `0.log.<time>`, but is the newest.
    files.sort_by_key(|path| (path.extension().is_some_and(|ext| ext == "log"), path.clone()));
    let mut joined: HashMap<String, Vec<Vec<u8>>> = HashMap::new();
    let mut open: HashMap<String, Vec<u8>> = HashMap::new();
    for file in files {
        let mut bytes = fs::read(&file).expect("a file");
        if file.extension().is_some_and(|ext| ext == "gz") {
            let packed = std::mem::take(&mut bytes);
            MultiGzDecoder::new(&packed[..]).read_to_end(&mut bytes).expect("gzip");
        }
        assert!(bytes.is_empty() || bytes.ends_with(b"\n"), "{}: last record is torn", file.display());
        for record in bytes.split_inclusive(|byte| *byte == b'\n') {
            let record = &record[..record.len() - 1];
            let mut words = record.splitn(4, |byte| *byte == b' ');
            let mut word = || words.next().expect("four words");
            let time = String::from_utf8(word().to_vec()).expect("ASCII");
            time.parse::<jiff::Timestamp>().expect("a time");
            let stream = String::from_utf8(word().to_vec()).expect("ASCII");
            let last = word() == b"F";
            let content = word();
            let line = open.entry(stream.clone()).or_default();
            line.extend_from_slice(content);
            if last {
                joined.entry(stream).or_default().push(std::mem::take(line));
            }
        }
    }
    assert!(open.values().all(Vec::is_empty), "a line without an end");
    joined
}

fn assert_all_there(config: &Config, manifest: &Manifest) {
    for (index, source) in manifest.sources.iter().enumerate() {
        let lines = read_back(log_path(config, source).parent().expect("a directory"));
        for stream in Stream::BOTH {
            let read = lines.get(stream.name()).map_or(&[][..], Vec::as_slice);
            assert_eq!(read.len() as u64, source.lines(stream));
            for (seq, content) in (0_u64..).zip(read) {
                let shape = manifest.mix.shape(self::index(index), stream, seq);
                let text = match shape.json {
                    None => content.clone(),
                    Some(template) => {
                        let object: serde_json::Value = serde_json::from_slice(content).expect("JSON");
                        if let Some(("n", n)) = template.fields.get(1) {
                            assert_eq!(object["n"].to_string(), expected_value(n, seq));
                        }
                        ["_msg", "message", "msg", "log"]
                            .iter()
                            .find_map(|key| object[key].as_str())
                            .expect("a message")
                            .as_bytes()
                            .to_vec()
                    }
                };
                let header = line::verify(&text).expect("whole");
                assert_eq!((header.id.stream, header.id.seq), (stream, seq));
                assert_eq!(self::index(index), header.id.source);
            }
        }
    }
}

fn config(root: &Path) -> Config {
    let mix = Mix { partial: 0.2, odd: 0.5, stderr: 0.3, ..Mix::default() };
    Config { namespaces: vec!["a".into(), "b".into()], mix, ..Config::new(root) }
}

#[test]
fn files_hold_what_the_manifest_says() {
    let dir = tempfile::tempdir().expect("a directory");
    let manifest_path = dir.path().join("manifest.json");
    let config = Config {
        containers: 3,
        containers_per_pod: 2,
        lines: Some(20_000),
        manifest: Some(manifest_path.clone()),
        ..config(&dir.path().join("pods"))
    };
    let manifest = run(&config).expect("written");
    assert_eq!(manifest.lines(), 20_000);
    assert_eq!(manifest.sources.iter().map(|source| &source.namespace[..]).collect::<Vec<_>>(), ["a", "a", "b"]);
    assert_eq!(manifest, Manifest::load(&manifest_path).expect("saved"));
    assert_all_there(&config, &manifest);
}

#[test]
fn a_line_longer_than_a_record_is_split() {
    let dir = tempfile::tempdir().expect("a directory");
    let mix = Mix { line_size: 50_000, partial: 0.0, ..Mix::default() };
    let config = Config { lines: Some(100), mix, ..config(dir.path()) };
    let manifest = run(&config).expect("written");
    assert_all_there(&config, &manifest);
}

#[test]
fn rotation_keeps_every_line() {
    let dir = tempfile::tempdir().expect("a directory");
    let config = Config {
        rate: 20_000,
        duration: Some(Duration::from_millis(3_500)),
        rotation: Rotation {
            bytes: Some(100_000),
            gap: Duration::from_millis(50),
            cut: true,
            gzip: true,
            ..Rotation::default()
        },
        ..config(dir.path())
    };
    let manifest = run(&config).expect("written");
    assert_all_there(&config, &manifest);
    let pod = log_path(&config, &manifest.sources[0]);
    let names: Vec<_> = fs::read_dir(pod.parent().expect("a directory"))
        .expect("a directory")
        .flatten()
        .map(|entry| entry.file_name().into_string().expect("ASCII"))
        .collect();
    let packed = names.iter().filter(|name| name.ends_with(".gz")).count();
    assert!(packed >= 1, "{names:?}");
    assert!(names.len() >= packed + 2, "the newest rotated file stays plain: {names:?}");
}

#[test]
fn only_so_many_rotated_files_are_kept() {
    let dir = tempfile::tempdir().expect("a directory");
    let config = Config {
        rate: 2_000,
        duration: Some(Duration::from_millis(4_500)),
        rotation: Rotation { bytes: Some(1_000), keep: Some(2), ..Rotation::default() },
        ..config(dir.path())
    };
    let manifest = run(&config).expect("written");
    let pod = log_path(&config, &manifest.sources[0]);
    let files = fs::read_dir(pod.parent().expect("a directory")).expect("a directory").count();
    assert_eq!(files, 3, "two rotated and the live one");
}

#[test]
fn a_run_can_be_stopped() {
    let dir = tempfile::tempdir().expect("a directory");
    let running = spawn(Config { rate: 1_000, duration: Some(Duration::from_secs(600)), ..config(dir.path()) });
    while running.lines() == 0 {
        thread::sleep(Duration::from_millis(1));
    }
    let manifest = running.stop().expect("written");
    assert!(manifest.complete && manifest.lines() > 0);
}

#[test]
fn pods_that_are_known_elsewhere_write_under_their_names() {
    let dir = tempfile::tempdir().expect("a directory");
    let pod = |nth: u32| Pod { namespace: "shop".into(), name: format!("pay-{nth}"), uid: format!("uid-{nth}") };
    let config = Config { containers: 2, lines: Some(100), pods: vec![pod(0), pod(1)], ..config(dir.path()) };
    let manifest = run(&config).expect("written");
    assert!(dir.path().join("shop_pay-1_uid-1/c0/0.log").is_file());
    assert_all_there(&config, &manifest);
    let too_many = Config { containers: 3, ..config };
    assert!(matches!(run(&too_many), Err(Error::Config(_))));
}

#[test]
fn frames_follow_on_their_exception_and_have_no_number() {
    let dir = tempfile::tempdir().expect("a directory");
    let mix = Mix { json: 0.0, partial: 0.0, traces: 0.1, ..Mix::default() };
    let config = Config { namespaces: vec!["a".into()], lines: Some(1_000), mix, ..Config::new(dir.path()) };
    let manifest = run(&config).expect("written");
    let text = fs::read_to_string(log_path(&config, &manifest.sources[0])).expect("a log");
    assert_eq!(text.len() as u64, manifest.cri_bytes);
    let is_exception = |line: &&str| line.contains("IllegalStateException");
    let exceptions = text.lines().filter(is_exception).count();
    assert!((60..150).contains(&exceptions), "{exceptions}");
    assert_eq!(text.lines().count(), 1_000 + 12 * exceptions);
    let mut lines = text.lines().skip_while(|line| !is_exception(line)).skip(1);
    assert!(lines.next().expect("a frame").ends_with(" F \tat shop.settlement.Ledger.post(Ledger.java:214)"));
}
