//! Docker's files: `N.log` is a link to `<id>-json.log`, and beside that lie the files that it was.

use super::treat::docker;
use super::*;

const LIVE: &str = "abc-json.log";

impl Node {
    /// In the directory that the link leads to.
    fn target(&self, name: &str) -> PathBuf {
        self.dir.path().join("docker/abc").join(name)
    }

    fn write_docker(&self, text: &str) {
        fs::create_dir_all(self.target("")).unwrap();
        let link = self.path("0.log");
        if link.symlink_metadata().is_err() {
            fs::create_dir_all(link.parent().unwrap()).unwrap();
            std::os::unix::fs::symlink(self.target(LIVE), link).unwrap();
        }
        let file = OpenOptions::new().create(true).append(true).open(self.target(LIVE));
        file.unwrap().write_all(text.as_bytes()).unwrap();
    }

    fn write_one(&self, second: u32) {
        self.write_docker(&docker(second, "stdout", &format!("{second}\n")));
    }

    /// As docker does it with three files: the last goes, the others move on.
    fn rotate_docker(&self, end: &str) {
        let name = |n: u32, end: &str| self.target(&format!("{LIVE}.{n}{end}"));
        let _ = fs::remove_file(name(2, end));
        let _ = fs::rename(name(1, end), name(2, end));
        fs::rename(self.target(LIVE), name(1, "")).unwrap();
    }

    fn compress_docker(&self) {
        let plain = self.target(&format!("{LIVE}.1"));
        let mut encoder =
            GzEncoder::new(fs::File::create(self.target(&format!("{LIVE}.1.gz"))).unwrap(), Compression::fast());
        encoder.write_all(&fs::read(&plain).unwrap()).unwrap();
        encoder.finish().unwrap();
        fs::remove_file(plain).unwrap();
    }
}

#[test]
fn dockers_rotated_files_are_read_before_the_live_one_at_a_start() {
    let mut node = Node::new(StartFrom::Beginning, true);
    node.write_one(1);
    assert_eq!(node.run(), ["stdout:1"]);
    // While no agent runs.
    node.write_one(2);
    node.rotate_docker("");
    node.write_one(3);
    node.rotate_docker("");
    node.write_one(4);
    let mut node = node.restart_and_tell();
    assert_eq!(node.run(), ["stdout:2", "stdout:3", "stdout:4"]);
    assert!(node.is_settled());
    node.settle();
    let mut node = node.restart();
    assert_eq!(node.run(), [""; 0]);
    assert_eq!(node.tailer.take_counts().bytes, 0, "what was read is known by its first line");
}

#[test]
fn dockers_compressed_files_are_gone_on_with_where_they_were_left() {
    let mut node = Node::new(StartFrom::Beginning, true);
    node.write_one(1);
    assert_eq!(node.run(), ["stdout:1"]);
    node.write_one(2);
    node.rotate_docker(".gz");
    node.compress_docker();
    node.write_one(3);
    node.rotate_docker(".gz");
    node.compress_docker();
    node.write_one(4);
    let mut node = node.restart();
    assert_eq!(node.run(), ["stdout:2", "stdout:3", "stdout:4"]);
    assert!(node.is_settled());
}

#[test]
fn a_copy_that_docker_is_writing_is_left_alone() {
    let mut node = Node::new(StartFrom::Beginning, true);
    node.write_one(1);
    node.rotate_docker(".gz");
    node.write_one(2);
    fs::write(node.target(&format!("{LIVE}.1.gz")), "half").unwrap();
    assert_eq!(node.run(), ["stdout:1", "stdout:2"]);
    assert_eq!(node.tailer.take_counts().unreadable, 0);
}

#[test]
fn two_rotations_of_docker_between_two_looks() {
    let mut node = Node::new(StartFrom::Beginning, true);
    node.write_one(1);
    assert_eq!(node.run(), ["stdout:1"]);
    for second in 2..4 {
        node.write_one(second);
        node.rotate_docker("");
    }
    node.write_one(4);
    assert_eq!(node.run(), ["stdout:2", "stdout:3", "stdout:4"]);
}

#[test]
fn a_file_that_docker_renames_and_compresses_is_not_read_again_nor_taken_for_its_successor() {
    let mut node = Node::new(StartFrom::Beginning, true);
    node.write_one(1);
    node.rotate_docker(".gz");
    node.write_one(2);
    assert_eq!(node.run(), ["stdout:1", "stdout:2"]);
    for second in 3..9 {
        // The names move on by one: what was `.1` is `.2.gz`, and another file is `.1.gz`.
        node.compress_docker();
        node.write_docker(&docker(second, "stdout", &format!("late {second}\n")));
        node.rotate_docker(".gz");
        if second % 2 == 0 {
            node.compress_docker();
            node.write_docker(&docker(second + 20, "stdout", "between\n"));
            node.rotate_docker(".gz");
            node.write_one(second + 40);
            assert_eq!(
                node.run(),
                [format!("stdout:late {second}"), "stdout:between".into(), format!("stdout:{}", second + 40)]
            );
        } else {
            node.write_one(second + 20);
            assert_eq!(node.run(), [format!("stdout:late {second}"), format!("stdout:{}", second + 20)]);
        }
        node.wait(20);
        assert_eq!(node.run(), [""; 0]);
    }
}

#[test]
fn between_the_two_steps_of_dockers_rotation_nothing_is_gone() {
    let mut node = Node::new(StartFrom::Beginning, true);
    node.write_one(1);
    node.look();
    node.rotate_docker("");
    node.look();
    assert_eq!(node.tailer.existing().count(), 1);
    node.write_one(2);
    assert_eq!(node.run(), ["stdout:1", "stdout:2"]);
}

#[test]
fn a_line_that_dockers_rotation_cut_is_whole() {
    let mut node = Node::new(StartFrom::Beginning, true);
    node.write_docker(&docker(1, "stdout", "begun "));
    node.rotate_docker("");
    node.write_docker(&docker(2, "stdout", "ended\n"));
    assert_eq!(node.run(), ["stdout:begun ended"]);
}

#[test]
fn a_file_of_dockers_that_begins_with_nuls_is_dockers() {
    for nuls in [100, 1024, 5000] {
        let mut node = Node::new(StartFrom::Beginning, true);
        let long = "x".repeat(2000);
        node.write_docker(&"\0".repeat(nuls));
        node.write_docker(&docker(1, "stdout", &format!("{long}\n")));
        node.write_docker(&docker(2, "stdout", "2\n"));
        assert_eq!(node.run(), [format!("stdout:{long}"), "stdout:2".into()], "{nuls}");
        assert_eq!(node.check_books()[0].abandoned[&Abandoned::Torn], nuls as u64);
        assert!(node.is_settled());
    }
}

#[test]
fn a_torn_line_that_looks_like_dockers_does_not_make_a_file_dockers() {
    let mut node = Node::new(StartFrom::Beginning, true);
    node.append("0.log", at(1, "1") + &docker(2, "stdout", "2\n") + &at(3, "3"));
    assert_eq!(node.run(), ["stdout:1", "stdout:3"]);
}
