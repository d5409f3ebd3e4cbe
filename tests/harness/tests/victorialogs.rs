//! The checker against real VictoriaLogs behind real vmauth. The records are made here, by hand, out of the
//! writer's own files.

use std::{fs, path::Path, time::Duration};

use sluice_harness::{
    check::{self, Config, Destination, Tenants},
    dirs::TestDir,
    line::Stream,
    manifest::{Manifest, Source},
    shape::{Mix, expected_value},
    victorialogs::VictoriaLogs,
    write,
};

const WAIT: Duration = Duration::from_secs(10);

/// The lines of a container's one file as records. Only for a run without split lines.
fn records(root: &Path, manifest: &Manifest, index: u32) -> Vec<String> {
    let source = &manifest.sources[index as usize];
    let Source { namespace, pod, uid, container, .. } = source;
    let log = root.join(format!("{namespace}_{pod}_{uid}")).join(container).join("0.log");
    let mut next = [0, 0];
    let record = |line: &str| {
        let [time, stream, "F", content] = line.splitn(4, ' ').collect::<Vec<_>>()[..] else {
            panic!("not a whole CRI record: {line}");
        };
        let stream = if stream == "stdout" { Stream::Stdout } else { Stream::Stderr };
        let seq = next[stream.index()];
        next[stream.index()] += 1;
        let json = manifest.mix.shape(index, stream, seq).json;
        let text = json.map_or(content.to_owned(), |_| {
            let object: serde_json::Value = serde_json::from_str(content).expect("JSON");
            let text = ["_msg", "message", "msg", "log"].into_iter().find_map(|key| object[key].as_str());
            text.expect("a message").to_owned()
        });
        let mut record = serde_json::json!({
            "_time": time,
            "_msg": text,
            "cluster": manifest.cluster,
            "environment": manifest.environment,
            "k8s_namespace_name": namespace,
            "k8s_pod_name": pod,
            "k8s_pod_uid": uid,
            "k8s_container_name": container,
            "stream": stream.name(),
        });
        for (name, value) in json.map_or(&[][..], |json| json.fields) {
            record[name] = expected_value(value, seq).into();
        }
        format!("{record}\n")
    };
    fs::read_to_string(log).expect("a file").lines().map(record).collect()
}

#[tokio::test]
async fn every_line_is_found_in_its_tenant_and_faults_are_told() {
    let dir = TestDir::new("victorialogs").expect("a directory");
    let mut store = VictoriaLogs::start(&dir.join("store"), &[("red", 1), ("blue", 2)]).await.expect("started");
    let root = dir.join("pods");
    let manifest = write::run(&write::Config {
        namespaces: vec!["shop".to_owned(), "bank".to_owned()],
        containers: 2,
        lines: Some(20_000),
        mix: Mix { partial: 0.0, odd: 0.5, ..Mix::default() },
        ..write::Config::new(&root)
    })
    .expect("written");
    let (shop, bank) = (records(&root, &manifest, 0), records(&root, &manifest, 1));
    let check = |wait| {
        let tenants = Tenants::from([("shop", "red"), ("bank", "blue")]);
        let destination = Destination::VictoriaLogs(store.url().to_owned());
        check::run(Config { wait, ..Config::new(manifest.clone(), destination, tenants) })
    };

    // All but one line; the one is missing.
    store.insert("red", shop[1..].concat()).await.expect("stored");
    store.insert("blue", bank.concat()).await.expect("stored");
    let report = check(Duration::from_secs(3)).await.expect("asked");
    assert_eq!(report.failures(0), ["1 lost"], "{report}");
    assert_eq!(report.lost_ranges[0].source, 0);

    // It comes, to the wrong tenant: found, and said.
    store.insert("blue", shop[0].clone()).await.expect("stored");
    let report = check(WAIT).await.expect("asked");
    assert_eq!(report.failures(0), ["1 in the wrong tenant"], "{report}");
    assert_eq!((report.found, report.out_of_order), (20_000, None));

    // To the right one, too: a repeat. It must outlive the store.
    store.insert("red", shop[0].clone()).await.expect("stored");
    store.stop().await.expect("ended");
    store.restart().await.expect("ready");
    let tenants = Tenants::from([("shop", "red"), ("bank", "blue")]);
    let destination = Destination::VictoriaLogs(store.url().to_owned());
    let report = check::run(Config::new(manifest.clone(), destination, tenants)).await.expect("asked");
    assert_eq!(report.failures(0), ["1 in the wrong tenant", "1 duplicated"], "{report}");
    assert_eq!(report.foreign, 0);
}

#[tokio::test]
async fn an_unknown_tenant_is_refused() {
    let dir = TestDir::new("victorialogs").expect("a directory");
    let store = VictoriaLogs::start(dir.path(), &[("red", 1)]).await.expect("started");
    let error = store.insert("green", "{\"_msg\":\"x\"}\n").await.expect_err("refused").to_string();
    assert!(error.contains("400"), "{error}");
}
