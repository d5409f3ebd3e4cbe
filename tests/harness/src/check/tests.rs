//! A faithful copy of what was written must pass; each fault that is put into it must be found, alone.

use std::{fs, path::PathBuf, thread};

use super::*;
use crate::{
    dirs::TestDir,
    latency::now_ns,
    line::{LineId, Stream, compose},
    manifest::Source,
    shape::{Mix, Slot, expand, expected_value, filler_pool},
};

const LINES: u64 = 400;

/// Two pods of two tenants, and the records that a correct collector would deliver for them.
struct Case {
    dir: TestDir,
    manifest: Manifest,
    /// By tenant; each ends with a newline.
    delivered: BTreeMap<&'static str, Vec<String>>,
}

impl Case {
    fn new() -> Self {
        let source = |namespace: &str, pod: &str| Source {
            namespace: namespace.to_owned(),
            pod: pod.to_owned(),
            uid: format!("uid-of-{pod}"),
            container: "main".to_owned(),
            stdout: LINES,
            stderr: LINES / 4,
        };
        let manifest = Manifest {
            run: 7,
            cluster: "c1".to_owned(),
            environment: "prod".to_owned(),
            mix: Mix { json: 0.6, odd: 0.5, ..Mix::default() },
            sources: vec![source("shop", "shop-1"), source("bank", "bank-1")],
            cri_bytes: 0,
            complete: true,
        };
        let delivered = [("red", 0), ("blue", 1)].map(|(tenant, index)| (tenant, records(&manifest, index)));
        Self { dir: TestDir::new("check").expect("a directory"), manifest, delivered: delivered.into() }
    }

    fn config(&self) -> Config {
        for (tenant, records) in &self.delivered {
            let dir = self.root().join(tenant).join("application/2026");
            fs::create_dir_all(&dir).expect("a directory");
            fs::write(dir.join("a.jsonl"), records.concat()).expect("a file");
            fs::write(dir.join("b.jsonl.tmp"), "half a line").expect("a file");
        }
        Config::new(self.manifest.clone(), Destination::Files(self.root()), [("shop", "red"), ("bank", "blue")].into())
    }

    fn root(&self) -> PathBuf {
        self.dir.join("out")
    }

    fn red(&mut self) -> &mut Vec<String> {
        self.delivered.get_mut("red").expect("a tenant")
    }

    async fn report(&self) -> Report {
        run(self.config()).await.expect("readable")
    }
}

/// By hand, from the template's expectations, and not from its JSON: the two must agree.
fn records(manifest: &Manifest, index: usize) -> Vec<String> {
    let pool = filler_pool(&manifest.mix);
    let source = &manifest.sources[index];
    let mut records = Vec::new();
    for stream in Stream::BOTH {
        for seq in 0..source.lines(stream) {
            let id = LineId { run: manifest.run, source: u32::try_from(index).expect("small"), stream, seq };
            let shape = manifest.mix.shape(id.source, stream, seq);
            let mut text = Vec::new();
            let written_ns = now_ns();
            compose(&mut text, id, written_ns, shape.filler(&pool), false);
            let mut record = serde_json::json!({
                "_time": jiff::Timestamp::from_nanosecond(written_ns.into()).expect("a time").to_string(),
                "_msg": String::from_utf8(text).expect("UTF-8"),
                "cluster": manifest.cluster,
                "environment": manifest.environment,
                "k8s_namespace_name": source.namespace,
                "k8s_pod_name": source.pod,
                "k8s_pod_uid": source.uid,
                "k8s_container_name": source.container,
                "k8s_container_restart_count": 0,
                "k8s_labels": {"app": "shop"},
                "stream": stream.name(),
                "sluice_batch": format!("b{}", seq / 100),
            });
            for (name, value) in shape.json.map_or(&[][..], |json| json.fields) {
                record[name] = expected_value(value, seq).into();
            }
            records.push(format!("{record}\n"));
        }
    }
    records
}

#[tokio::test]
async fn what_is_right_passes() {
    let report = Case::new().report().await;
    report.assert_clean(0);
    assert_eq!((report.expected, report.found, report.records), (1000, 1000, 1000));
    assert_eq!((report.out_of_order, report.foreign, report.beyond), (Some(0), 0, 0));
}

#[tokio::test]
async fn loss_is_found_with_its_ranges() {
    let mut case = Case::new();
    case.red().drain(10..15);
    case.red().remove(100);
    let report = case.report().await;
    assert_eq!(report.failures(0), ["6 lost"]);
    let ranges: Vec<_> =
        report.lost_ranges.iter().map(|range| (range.source, range.stream, range.first, range.last)).collect();
    assert_eq!(ranges, [(0, Stream::Stdout, 10, 14), (0, Stream::Stdout, 105, 105)]);
}

#[tokio::test]
async fn duplicates_are_counted_with_their_batches() {
    let mut case = Case::new();
    for at in [20, 120, 121] {
        let again = case.red()[at].clone();
        case.red().push(again);
    }
    let report = case.report().await;
    assert_eq!(report.failures(0), ["3 duplicated"]);
    assert_eq!(report.failures(3), [""; 0]);
    assert_eq!(report.duplicate_batches, 2);
}

#[tokio::test]
async fn a_cut_line_is_broken_and_lost() {
    let mut case = Case::new();
    let plain = plain_record(&mut case);
    case.red()[plain] = cut_text(&case.red()[plain].clone());
    let report = case.report().await;
    assert_eq!(report.failures(0), ["1 lost", "1 broken"]);
    assert_eq!(report.faults, BTreeMap::from([("text damaged: length".to_owned(), 1)]));
}

/// The second half of a line that was torn in two.
#[tokio::test]
async fn a_fragment_without_header_is_broken_not_foreign() {
    let mut case = Case::new();
    let fragment = case.red()[0].replacen("sv1 src=", "", 1);
    case.red().push(fragment);
    let report = case.report().await;
    assert_eq!(report.failures(0), ["1 broken"]);
    assert_eq!(report.foreign, 0);
}

#[tokio::test]
async fn the_wrong_tenant_is_found() {
    let mut case = Case::new();
    let strayed = case.red().remove(33);
    case.delivered.get_mut("blue").expect("a tenant").push(strayed);
    let report = case.report().await;
    assert_eq!(report.failures(0), ["1 in the wrong tenant"]);
}

#[tokio::test]
async fn swapped_lines_are_out_of_order_but_no_failure() {
    let mut case = Case::new();
    case.red().swap(50, 51);
    let report = case.report().await;
    report.assert_clean(0);
    assert_eq!(report.out_of_order, Some(1));
}

#[tokio::test]
async fn every_member_of_the_schema_is_checked() {
    let faults = [
        ("_time", "\"1999-12-31T23:59:59Z\""),
        ("_time", "\"yesterday\""),
        ("cluster", "\"c2\""),
        ("environment", "\"test\""),
        ("k8s_namespace_name", "\"bank\""),
        ("k8s_pod_name", "\"bank-1\""),
        ("k8s_container_name", "\"side\""),
        ("k8s_pod_uid", "\"other\""),
        ("k8s_container_restart_count", "1"),
        ("stream", "\"stderr\""),
    ];
    for (member, value) in faults {
        let mut case = Case::new();
        let mut record: serde_json::Value = serde_json::from_str(&case.red()[0]).expect("JSON");
        record[member] = serde_json::from_str(value).expect("JSON");
        case.red()[0] = format!("{record}\n");
        let report = case.report().await;
        assert_eq!(report.failures(0), ["1 broken"], "{member} = {value}");
        assert_eq!(report.faults, BTreeMap::from([(format!("member {member} wrong"), 1)]));
    }
}

#[tokio::test]
async fn merged_members_are_checked() {
    let mut case = Case::new();
    let odd = (0..LINES)
        .find(|seq| {
            let shape = case.manifest.mix.shape(0, Stream::Stdout, *seq);
            shape.json.is_some_and(|json| json.json.contains("\"a\":$n"))
        })
        .expect("a line with a repeated key");
    let at = usize::try_from(odd).expect("small");
    let right = case.red()[at].clone();
    // The first of two equal keys instead of the last.
    case.red()[at] = right.replacen(&format!("\"a\":\"{}\"", odd + 1), &format!("\"a\":\"{odd}\""), 1);
    assert_ne!(case.red()[at], right);
    let report = case.report().await;
    assert_eq!(report.faults, BTreeMap::from([("member a wrong".to_owned(), 1)]));
    // Both of them.
    case.red()[at] = right.replacen('{', &format!("{{\"a\":{},", odd + 1), 1);
    assert_eq!(case.report().await.faults, BTreeMap::from([("two members a".to_owned(), 1)]));
    // The text a second time.
    case.red()[at] = right.replacen('{', "{\"message\":\"again\",", 1);
    assert_eq!(case.report().await.faults, BTreeMap::from([("member message should not be there".to_owned(), 1)]));
}

#[tokio::test]
async fn what_others_wrote_is_told_apart() {
    let mut case = Case::new();
    case.red().push("{\"_msg\":\"hello\",\"k8s_pod_name\":\"somebody\"}\n".to_owned());
    case.manifest.run = 8;
    let theirs = records(&case.manifest, 0).swap_remove(0);
    case.manifest.run = 7;
    case.red().push(theirs);
    let report = case.report().await;
    report.assert_clean(0);
    assert_eq!((report.foreign, report.other_runs), (1, 1));
}

#[tokio::test]
async fn a_torn_end_of_file_is_broken() {
    let mut case = Case::new();
    case.red().push("{\"_msg\":".to_owned());
    assert_eq!(case.report().await.faults, BTreeMap::from([("file ends within a line".to_owned(), 1)]));
}

#[tokio::test]
async fn a_namespace_without_a_tenant_is_a_mistake_of_the_caller() {
    let case = Case::new();
    let config = Config { tenants: [("shop", "red")].into(), ..case.config() };
    let error = run(config).await.expect_err("bank has no tenant").to_string();
    assert!(error.contains("bank"), "{error}");
}

#[tokio::test]
async fn following_waits_for_what_comes_and_times_it() {
    let mut case = Case::new();
    let late = case.red().split_off(200);
    let config = Config { wait: Duration::from_secs(10), follow: true, ..case.config() };
    let file = case.root().join("red/application/2026/a.jsonl");
    let half = late.concat();
    let (first, second) = half.split_at(half.len() / 2);
    let appending = thread::spawn({
        let (first, second) = (first.to_owned(), second.to_owned());
        move || {
            use std::io::Write as _;
            let mut file = fs::OpenOptions::new().append(true).open(file).expect("a file");
            thread::sleep(Duration::from_millis(100));
            // Ends within a line.
            file.write_all(first.as_bytes()).expect("written");
            thread::sleep(Duration::from_millis(100));
            file.write_all(second.as_bytes()).expect("written");
        }
    });
    let report = run(config).await.expect("readable");
    appending.join().expect("appended");
    report.assert_clean(0);
    let latency = report.latency.expect("measured");
    assert_eq!(latency.lines, 1000);
    assert!(latency.max_ms >= 200.0, "{latency}");
    assert_eq!(report.latency_by_namespace.len(), 2);
}

#[tokio::test]
async fn a_follower_goes_on_where_it_was() {
    let mut case = Case::new();
    let late = case.red().split_off(200).concat();
    case.manifest.complete = false;
    let config = case.config();
    let mut follower = Follower::new(config.manifest.clone(), &case.root(), config.tenants).expect("tenants");
    assert_eq!(follower.look().expect("readable"), 700);
    assert_eq!(follower.look().expect("readable"), 0);
    let file = case.root().join("red/application/2026/a.jsonl");
    let early = fs::read_to_string(&file).expect("a file");
    assert_eq!(follower.bytes()["red"], early.len() as u64);
    fs::write(file, early + &late).expect("a file");
    assert_eq!(follower.look().expect("readable"), 300);
    assert!(!follower.is_complete(), "the writer may go on");
    follower.update(Manifest { complete: true, ..config.manifest });
    assert!(follower.is_complete());
    assert_eq!(follower.records(), 1000);
    follower.into_report().expect("readable").assert_clean(0);
}

/// The templates' expectations themselves: no key that they rename or drop is left as it was.
#[test]
fn templates_agree_with_the_record_rules() {
    let mix = Mix { json: 1.0, odd: 0.9, ..Mix::default() };
    for seq in 0..1000 {
        let template = mix.shape(0, Stream::Stdout, seq).json.expect("JSON");
        let mut json = String::new();
        let put = |out: &mut String, slot| match slot {
            Slot::Message => out.push_str("text"),
            Slot::Number => out.push_str(&seq.to_string()),
            Slot::Next => out.push_str(&(seq + 1).to_string()),
        };
        expand(template.json, &mut json, |out, text| out.push_str(text), put);
        // serde_json keeps the last of repeated keys, as the rules do.
        let object: serde_json::Map<String, serde_json::Value> = serde_json::from_str(&json).expect("an object");
        let message = ["_msg", "message", "msg", "log"]
            .into_iter()
            .find(|key| object.get(*key).is_some_and(serde_json::Value::is_string))
            .expect("a message");
        assert_eq!(object[message], "text");
        let reserved = |key: &str| {
            key.starts_with('_')
                || key.starts_with("k8s_")
                || ["cluster", "environment", "log_type", "stream", "audit_event"].contains(&key)
        };
        let mut flat = BTreeMap::new();
        for (key, value) in object.iter().filter(|(key, _)| *key != message) {
            let key = if reserved(key) { format!("app_{key}") } else { key.clone() };
            flatten(&key, value, &mut flat);
        }
        let expected: BTreeMap<_, _> =
            template.fields.iter().map(|(key, value)| ((*key).to_owned(), expected_value(value, seq))).collect();
        assert_eq!(flat, expected);
    }
}

fn flatten(key: &str, value: &serde_json::Value, into: &mut BTreeMap<String, String>) {
    match value {
        serde_json::Value::Object(object) => {
            object.iter().for_each(|(inner, value)| flatten(&format!("{key}.{inner}"), value, into));
        }
        serde_json::Value::String(text) => drop(into.insert(key.to_owned(), text.clone())),
        other => drop(into.insert(key.to_owned(), other.to_string())),
    }
}

fn plain_record(case: &mut Case) -> usize {
    (0..LINES)
        .find(|seq| case.manifest.mix.shape(0, Stream::Stdout, *seq).json.is_none())
        .and_then(|seq| usize::try_from(seq).ok())
        .expect("a line that is not JSON")
}

fn cut_text(record: &str) -> String {
    let mut record: serde_json::Value = serde_json::from_str(record).expect("JSON");
    let mut text = record["_msg"].as_str().expect("a text").to_owned();
    text.pop();
    record["_msg"] = text.into();
    format!("{record}\n")
}
