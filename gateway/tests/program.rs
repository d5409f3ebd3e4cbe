//! The program as its users have it: started, asked, told to reload, told to end.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking, in its helpers too")]

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use sluice_wire::{Block, Category, Encoding, Header, Lane, ProducerId};

const PROGRAM: &str = env!("CARGO_BIN_EXE_sluice-gateway");
const LINE: &str = "{\"_time\":\"2025-10-26T10:15:30Z\",\"_msg\":\"one\"}\n";

fn config(directory: &Path, policy: &str) -> String {
    let directory = directory.display();
    format!(
        "push: {{address: '127.0.0.1:0'}}
admin: 127.0.0.1:0
drain: 5s
journal: {{directory: {directory}/journal, max_bytes: 64MiB}}
destinations:
  - {{name: local, file: {{directory: {directory}/logs}}}}
policy:
  identities: [{{name: here, loopback: true}}]
  tenants: {{{policy}}}
  default_destinations: [local]
"
    )
}

fn check(text: &str, arguments: &[&str]) -> Output {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("gateway.yaml");
    std::fs::write(&file, text).unwrap();
    Command::new(PROGRAM).arg("check").arg(&file).args(arguments).output().unwrap()
}

#[test]
fn check_names_every_fault_and_fails() {
    let broken =
        config(Path::new("/x"), "default: mine").replace("drain: 5s", "dain: 5s").replace("[local]", "[remote]");
    let output = check(&broken, &[]);
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(said.contains("gateway.yaml: 2 faults\n"), "{said}");
    assert!(said.contains("dain (line 3): there is no such key; did you mean `drain`?"), "{said}");
    assert!(
        said.contains("policy.default_destinations[0] (line 10): there is no destination \"remote\"; there are: local"),
        "{said}"
    );
}

#[test]
fn check_says_what_a_sound_configuration_holds() {
    let output = check(&config(Path::new("/x"), "default: mine"), &[]);
    assert!(output.status.success());
    let said = String::from_utf8(output.stdout).unwrap();
    assert!(said.ends_with("gateway.yaml: ok, identities: 1, tenants: 1, destinations: 1\n"), "{said}");

    let tls = "push: {address: '0.0.0.0:0', tls: {certificate: /none/c, key: /none/k}}";
    let elsewhere = config(Path::new("/x"), "default: mine")
        .replace("push: {address: '127.0.0.1:0'}", tls)
        .replace("loopback: true", "token_file: /none/t");
    assert!(check(&elsewhere, &["--without-files"]).status.success());
    let here = check(&elsewhere, &[]);
    assert!(String::from_utf8(here.stderr).unwrap().contains("/none/t: cannot be read"));
}

struct Gateway {
    child: Child,
    directory: tempfile::TempDir,
    push: String,
    admin: String,
}

impl Gateway {
    fn start() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("gateway.yaml");
        std::fs::write(&file, config(directory.path(), "default: mine")).unwrap();
        let mut child = Command::new(PROGRAM)
            .arg("run")
            .env("SLUICE_CONFIG", &file)
            .env_remove("RUST_LOG")
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut log = BufReader::new(child.stderr.take().unwrap()).lines();
        let line = log.find_map(|line| line.ok().filter(|line| line.contains("listening"))).expect("it listens");
        let field = |name: &str| line.split(name).nth(1).unwrap().split(' ').next().unwrap().to_owned();
        let (push, admin) = (field("push="), field("admin="));
        // Read on, or the gateway blocks when the pipe is full.
        std::thread::spawn(move || log.for_each(|line| drop(line.map(|line| eprintln!("{line}")))));
        Self { child, directory, push, admin }
    }

    fn write(&self, text: &str) {
        std::fs::write(self.directory.path().join("gateway.yaml"), text).unwrap();
    }

    fn signal(&self, signal: &str) {
        assert!(Command::new("kill").args([signal, &self.child.id().to_string()]).status().unwrap().success());
    }

    fn admin(&self, path: &str) -> String {
        ask(&self.admin, &format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n"), &[])
    }

    fn has_metric(&self, sample: &str) -> bool {
        self.admin("/metrics").lines().any(|line| line == sample)
    }

    fn push(&self, number: u64) -> String {
        let length = u32::try_from(LINE.len()).unwrap();
        let header = Header {
            lane: Lane {
                producer: ProducerId([1; 16]),
                category: Category::Application,
                scope: "ns".into(),
                split: "".into(),
            },
            number,
            cluster: "c".into(),
            node: "n".into(),
            encoding: Encoding::None,
            payload_crc: crc32c::crc32c(LINE.as_bytes()),
            raw_len: length,
            records: 1,
            longest: length - 1,
            first_time: 1_761_473_730_000_000_000,
            last_time: 1_761_473_730_000_000_000,
            positions: Vec::new(),
        };
        let mut body = Vec::new();
        Block { header, payload: LINE.into() }.write(&mut body).unwrap();
        let greeting = ask(&self.push, "GET /v1/push HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n", &[]);
        let journal = greeting.lines().find(|line| line.starts_with("sluice-journal: ")).unwrap();
        let head = format!(
            "POST /v1/push HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-type: application/vnd.sluice.push\r\n{journal}\r\ncontent-length: {}\r\n\r\n",
            body.len()
        );
        ask(&self.push, &head, &body)
    }

    fn delivered(&self) -> String {
        let mut files = vec![self.directory.path().join("logs")];
        let mut text = String::new();
        while let Some(path) = files.pop() {
            if let Ok(entries) = std::fs::read_dir(&path) {
                files.extend(entries.map(|entry| entry.unwrap().path()));
            } else if path.extension().is_some_and(|extension| extension == "jsonl") {
                text.push_str(&std::fs::read_to_string(&path).unwrap());
            }
        }
        text
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn ask(address: &str, head: &str, body: &[u8]) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.write_all(head.as_bytes()).unwrap();
    stream.write_all(body).unwrap();
    let mut reply = String::new();
    stream.read_to_string(&mut reply).unwrap();
    reply
}

fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let start = Instant::now();
    while !holds() {
        assert!(start.elapsed() < Duration::from_secs(20), "{what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn it_takes_delivers_reloads_and_ends_in_order() {
    let mut gateway = Gateway::start();
    assert!(gateway.admin("/readyz").ends_with("ready\n"));
    assert!(gateway.push(1).ends_with("\r\naccepted\n"));
    eventually("delivered", || gateway.delivered() == LINE);
    assert!(gateway.push(1).ends_with("\r\naccepted\n"), "a duplicate");

    gateway.write("policy: [");
    gateway.signal("-HUP");
    eventually("fault told", || gateway.has_metric("sluice_gateway_config_reload_failed 1"));
    assert!(gateway.admin("/readyz?verbose").contains("[!] config: "));
    assert!(gateway.admin("/readyz?verbose").ends_with("ready\n"), "a mistake in the file stops nobody");
    assert!(gateway.push(2).ends_with("\r\naccepted\n"), "under the last good policy");

    gateway.write(&config(gateway.directory.path(), "rules: [{namespaces: [none], tenant: other}]"));
    gateway.signal("-HUP");
    eventually("mended", || gateway.has_metric("sluice_gateway_config_reload_failed 0"));
    assert!(gateway.push(3).ends_with("\r\nretry-after 30000 forbidden\n"), "under the new one");

    gateway.signal("-TERM");
    eventually("not ready", || gateway.admin("/readyz").starts_with("HTTP/1.1 503"));
    assert_eq!(gateway.child.wait().unwrap().code(), Some(0));
    assert_eq!(gateway.delivered(), LINE.repeat(2));
}

#[test]
fn an_address_that_is_taken_is_said() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("gateway.yaml");
    let address = taken.local_addr().unwrap().to_string();
    std::fs::write(&file, config(directory.path(), "default: mine").replacen("127.0.0.1:0", &address, 1)).unwrap();
    let output = Command::new(PROGRAM).args(["run", "--config"]).arg(&file).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8(output.stderr).unwrap().contains(&format!("cannot listen on {address}")));
}
