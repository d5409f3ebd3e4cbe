use super::*;
use crate::config::testing::{SMALL, SOURCES};

fn text(tenant: &str, destination: &str) -> String {
    format!(
        "{SMALL}  identities: [{{name: local, loopback: true}}]\n  tenants: {{default: {tenant}}}\n  default_destinations: [{destination}]\n"
    )
}

struct File {
    directory: tempfile::TempDir,
}

impl File {
    fn path(&self) -> PathBuf {
        self.directory.path().join("gateway.yaml")
    }

    fn write(&self, text: &str) {
        std::fs::write(self.path(), text).unwrap();
    }

    fn new(text: &str) -> (Self, Reloader) {
        let file = Self { directory: tempfile::tempdir().unwrap() };
        file.write(text);
        let config = load(&file.path(), SOURCES).unwrap();
        let reloader = Reloader::new(file.path(), SOURCES, config);
        (file, reloader)
    }
}

fn tenant(policy: Option<Policy>) -> Option<String> {
    policy.and_then(|policy| policy.default_tenant).map(|tenant| tenant.to_string())
}

#[test]
fn a_changed_policy_is_given_once() {
    let (file, mut reloader) = File::new(&text("a", "local"));
    assert_eq!(tenant(reloader.look()), None);
    file.write(&text("b", "local"));
    assert_eq!(tenant(reloader.look()).as_deref(), Some("b"));
    assert_eq!(tenant(reloader.look()), None);
}

#[test]
fn an_invalid_change_leaves_the_last_good_one_and_says_so_until_it_is_mended() {
    let (file, mut reloader) = File::new(&text("a", "local"));
    let status = reloader.status();
    for broken in ["policy: [", &text("b", "nowhere"), &text("b c", "local")] {
        file.write(broken);
        assert_eq!(tenant(reloader.look()), None, "{broken}");
        assert!(status.failure().is_some_and(|failure| failure.contains("gateway.yaml")), "{broken}");
    }
    std::fs::remove_file(file.path()).unwrap();
    assert_eq!(tenant(reloader.look()), None);
    assert!(status.failure().is_some_and(|failure| failure.contains("cannot be read")));
    file.write(&text("b", "local"));
    assert_eq!(tenant(reloader.look()).as_deref(), Some("b"));
    assert_eq!(status.failure(), None);
}

#[test]
fn other_parts_need_a_restart_and_the_policy_does_not_wait_for_it() {
    let (file, mut reloader) = File::new(&text("a", "local"));
    let status = reloader.status();
    file.write(&format!("memory: 64MiB\ndrain: 5s\n{}", text("b", "local")));
    assert_eq!(tenant(reloader.look()).as_deref(), Some("b"));
    assert_eq!(status.needs_restart(), ["memory", "drain"]);
    assert_eq!(status.failure(), None);
    file.write(&text("b", "local"));
    reloader.look();
    assert!(status.needs_restart().is_empty());
}

#[test]
fn a_policy_that_routes_to_a_destination_that_does_not_run_yet_is_not_put_in_force() {
    let (file, mut reloader) = File::new(&text("a", "local"));
    let added = "destinations:\n  - {name: added, file: {directory: /added}}\n";
    file.write(&text("b", "added").replace("destinations:\n", added));
    assert_eq!(tenant(reloader.look()), None);
    assert!(reloader.status().failure().is_some_and(|failure| failure.contains("destination added")));
}

#[test]
fn a_swapped_symlink_is_seen() {
    let (file, _) = File::new(&text("a", "local"));
    let directory = file.directory.path();
    std::fs::create_dir(directory.join("1")).unwrap();
    std::fs::create_dir(directory.join("2")).unwrap();
    std::fs::write(directory.join("1/gateway.yaml"), text("a", "local")).unwrap();
    std::fs::write(directory.join("2/gateway.yaml"), text("b", "local")).unwrap();
    std::os::unix::fs::symlink("1", directory.join("data")).unwrap();
    let path = directory.join("data/gateway.yaml");
    let mut reloader = Reloader::new(path.clone(), SOURCES, load(&path, SOURCES).unwrap());
    std::os::unix::fs::symlink("2", directory.join("next")).unwrap();
    std::fs::rename(directory.join("next"), directory.join("data")).unwrap();
    assert_eq!(tenant(reloader.look()).as_deref(), Some("b"));
}
