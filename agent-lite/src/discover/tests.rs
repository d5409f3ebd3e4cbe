use super::layout::Age;
use super::*;

fn name(text: &str) -> Option<FileName> {
    FileName::parse(text)
}

#[test]
fn file_names_of_the_kubelet() {
    assert_eq!(name("0.log"), Some(FileName { attempt: 0, age: Age::Live, compressed: false }));
    assert_eq!(
        name("12.log.20251026-101530"),
        Some(FileName { attempt: 12, age: Age::Rotated("20251026-101530".into()), compressed: false })
    );
    assert_eq!(
        name("0.log.20251026-101530.gz"),
        Some(FileName { attempt: 0, age: Age::Rotated("20251026-101530".into()), compressed: true })
    );
    for other in ["", ".log", "0.log.gz", "0.log.tmp", "0.log.20251026-101530.tmp", "x.log", "+1.log", "0.logs"] {
        assert_eq!(name(other), None, "{other}");
    }
}

#[test]
fn rotated_files_come_before_the_live_one_and_attempts_in_order() {
    let mut names: Vec<_> =
        ["1.log", "0.log", "0.log.20251026-101532", "1.log.20251026-101540", "0.log.20251026-101530"]
            .map(|n| name(n).unwrap())
            .into();
    names.sort();
    let order = ["0.log.20251026-101530", "0.log.20251026-101532", "0.log", "1.log.20251026-101540", "1.log"];
    assert_eq!(names, order.map(|n| name(n).unwrap()));
}

#[test]
fn pod_directories() {
    let pod = layout::Pod::of(Path::new("/var/log/pods/kube-system_etcd-node.example.com_0123abcd")).unwrap();
    assert_eq!((&*pod.namespace, &*pod.name, &*pod.uid), ("kube-system", "etcd-node.example.com", "0123abcd"));
    for other in ["x", "a_b", "a__c", "a_b_c_d", "_b_c"] {
        assert_eq!(layout::Pod::of(Path::new(other)), None, "{other}");
    }
}

fn write(path: &Path) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, "x").unwrap();
}

#[tokio::test]
async fn a_scan_finds_files_and_goes_on_past_what_it_cannot_read() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path();
    write(&root.join("ns_pod_uid/app/0.log"));
    write(&root.join("ns_pod_uid/app/0.log.20251026-101530"));
    write(&root.join("ns_pod_uid/app/0.log.20251026-101530.gz"));
    write(&root.join("not-a-pod/app/0.log"));
    write(&root.join("ns_pod_uid/a-file"));
    std::os::unix::fs::symlink(root.join("loop"), root.join("loop")).unwrap();
    std::os::unix::fs::symlink(root.join("ns_pod_uid/circle"), root.join("ns_pod_uid/circle")).unwrap();

    let look = Discovery::new(root).scan();
    assert!(look.whole);
    assert_eq!(look.containers.len(), 1);
    let paths: Vec<_> =
        look.containers[0].files.iter().map(|file| file.path.file_name().unwrap().to_str().unwrap()).collect();
    assert_eq!(paths, ["0.log.20251026-101530", "0.log.20251026-101530.gz", "0.log"]);
}

#[tokio::test]
async fn a_root_that_is_not_there_yet_is_an_empty_one() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("pods");
    let mut discovery = Discovery::new(&root);
    assert!(discovery.scan().containers.is_empty());
    write(&root.join("ns_pod_uid/app/0.log"));
    assert_eq!(discovery.scan().containers.len(), 1);
}

#[tokio::test]
async fn a_new_pod_is_hinted_at_down_to_its_file() {
    let dir = tempfile::tempdir().unwrap();
    let mut discovery = Discovery::new(dir.path());
    discovery.scan();
    write(&dir.path().join("ns_pod_uid/app/0.log"));
    // The file may be there before the container's directory is watched: the look itself finds it then.
    let found = tokio::time::timeout(Duration::from_secs(5), async {
        loop {
            if let Hint::Changed(path) = discovery.hint().await {
                let look = discovery.look_at(&HashSet::from([path]));
                if let Some(listing) = look.containers.into_iter().find(|listing| !listing.files.is_empty()) {
                    return listing;
                }
            }
        }
    });
    assert_eq!(found.await.unwrap().container.name, "app".into());
}

#[test]
fn dockers_files_beside_the_live_one() {
    let sibling = |name: &str| FileName::of_sibling("abc-json.log", name, 3);
    let age = |number| Age::Numbered(std::cmp::Reverse(number));
    assert_eq!(sibling("abc-json.log.2"), Some(FileName { attempt: 3, age: age(2), compressed: false }));
    assert_eq!(sibling("abc-json.log.1.gz"), Some(FileName { attempt: 3, age: age(1), compressed: true }));
    assert!(sibling("abc-json.log.2") < sibling("abc-json.log.1"), "the older one");
    for other in ["abc-json.log", "abc-json.log.", "abc-json.log.gz", "abc-json.log.+1", "abc-json.log.1.tmp", "x.1"] {
        assert_eq!(sibling(other), None, "{other}");
    }
}

#[tokio::test]
async fn what_happens_where_a_link_leads_to_hints_at_its_container() {
    let dir = tempfile::tempdir().unwrap();
    let (root, docker) = (dir.path().join("pods"), dir.path().join("docker/abc"));
    write(&docker.join("abc-json.log"));
    fs::create_dir_all(root.join("ns_pod_uid/app")).unwrap();
    std::os::unix::fs::symlink(docker.join("abc-json.log"), root.join("ns_pod_uid/app/0.log")).unwrap();
    let mut discovery = Discovery::new(&root);
    assert_eq!(discovery.scan().containers[0].files.len(), 1);
    fs::rename(docker.join("abc-json.log"), docker.join("abc-json.log.1")).unwrap();
    let Hint::Changed(path) = discovery.hint().await else { panic!("no path") };
    let look = discovery.look_at(&HashSet::from([path]));
    let files: Vec<_> = look.containers[0].files.iter().map(|found| found.path.file_name().unwrap()).collect();
    assert_eq!(files, ["abc-json.log.1", "0.log"]);
}
