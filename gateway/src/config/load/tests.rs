use super::*;
use crate::config::checked::{DestinationKind, Limit, Policy, Proof, Rate};
use crate::config::testing::{SMALL, SOURCES, config as read, policy};
use sluice_wire::Category;

const POLICY: &str = "
  identities: [{name: local, loopback: true}]
  tenants: {default: mine}
  default_destinations: [local]
";

fn faults(text: &str) -> String {
    load_text(text, SOURCES).err().map(|faults| faults.to_string()).unwrap_or_default()
}

/// The faults of the small configuration with `policy`.
fn policy_faults(policy: &str) -> String {
    let indented: String = policy.lines().map(|line| format!("  {line}\n")).collect();
    faults(&format!("{SMALL}{indented}"))
}

#[test]
fn the_examples_are_sound() {
    let sources = Sources { env: &|_| None, ..Sources::WITHOUT_FILES };
    let full = load_text(include_str!("../../../../deploy/examples/gateway.yaml"), sources).unwrap();
    assert_eq!(full.push.address.to_string(), "0.0.0.0:7070");
    assert_eq!(full.policy.limit("payments").and_then(|limit| limit.lines), None);
    assert_eq!(full.policy.identities[1].categories, [Category::Application, Category::Dataplane]);
    let small = load_text(include_str!("../../../../deploy/examples/gateway-local.yaml"), sources).unwrap();
    assert_eq!(small.journal.directory, Path::new("/tmp/sluice/journal"));
}

#[test]
fn what_is_not_written_has_a_default() {
    let config = read(&format!("{SMALL}{POLICY}"));
    assert_eq!((config.memory_bytes, config.drain, config.admin), (256 << 20, Duration::from_secs(20), None));
    assert_eq!((config.push.max_connections, config.push.body_timeout), (4096, Duration::from_secs(30)));
    assert_eq!((config.journal.max_bytes, config.journal.segment_bytes), (8 << 30, 64 << 20));
    let DestinationKind::VictoriaLogs(store) = &config.destinations[1].kind else { panic!("{config:?}") };
    assert_eq!(
        (store.timeout, store.durable_after, store.future),
        (Duration::from_secs(45), Duration::from_secs(30), 2 * DAY)
    );
    assert_eq!((store.batch_ids, store.retention, store.concurrency), (true, None, 4));
    assert!(matches!(config.policy.identities[0].proof, Proof::Loopback));
    assert_eq!(config.policy.identities[0].categories, Category::ALL);
}

#[test]
fn every_fault_of_every_part_is_found_at_once() {
    let text = "
push: {address: 7070, max_conections: 10}
memory: 1MiB
journal: {directory: /j, max_bytes: 64MiB, segment_bytes: 32MiB}
destinations:
  - {name: Logs, victorialogs: {url: 'http://user:secret@vmauth:8427'}}
  - {name: a, file: {directory: /a}, victorialogs: {url: 'http://x'}}
  - {name: b, file: {directory: /a}}
  - {name: b, file: {directory: /a}}
policy:
  identities: []
  tenants: {}
  default_destinations: [c]
";
    let found = faults(text);
    let found: Vec<&str> = found.lines().map(|line| line.split(" (line").next().unwrap_or(line)).collect();
    assert_eq!(
        found,
        [
            "push.address",
            "push.max_conections",
            "memory",
            "journal.segment_bytes",
            "destinations[0].name",
            "destinations[0].victorialogs.url",
            "destinations[1].file",
            "destinations[3].name",
            "destinations[3]",
            "policy.identities",
            "policy.tenants",
            "policy.default_destinations[0]",
        ]
    );
}

#[test]
fn who_proves_nothing_may_send_on_loopback_only() {
    let open = SMALL.replace("127.0.0.1:0", "0.0.0.0:7070");
    assert!(
        faults(&format!("{open}{POLICY}"))
            .contains("policy.identities[0].loopback (line 9): unauthenticated only on loopback")
    );
    let token = POLICY.replace("loopback: true", "token_env: TOKEN_A");
    assert_eq!(faults(&format!("{open}{token}")), "");
    assert!(faults(&format!("{SMALL}{}", POLICY.replace("true", "false"))).contains("leave it out"));
}

#[test]
fn tokens_come_from_files_and_the_environment_and_are_not_shown() {
    let of = |identity: &str| {
        policy_faults(&format!("identities: [{identity}]\ntenants: {{default: t}}\ndefault_destinations: [local]"))
    };
    assert!(of("{name: a, token: hunter2}").contains("[0].token (line 8): a token is not written into this file"));
    assert!(!of("{name: a, token: hunter2}").contains("hunter2"));
    assert!(of("{name: a, token_file: /elsewhere/a}").contains("/elsewhere/a: cannot be read"));
    assert!(of("{name: a, token_env: NOT_SET}").contains("the environment has no variable NOT_SET"));
    assert!(of("{name: a, token_file: /tokens/a, token_env: TOKEN_A}").contains("only one of"));
    assert!(of("{name: a, token_file: '/tokens/a b'}").contains("the token there is empty or holds spaces"));
    assert!(of("{name: a}").contains("one of token_file, token_env, san, loopback is missing"));
    assert!(
        of("{name: a, token_file: /tokens/a}, {name: b, token_env: TOKEN_A}")
            .contains("[1] (line 8): it is proved as a is")
    );
    assert!(of("{name: a, san: node.example.org}").contains("proves nothing without push.tls.client_ca"));
    let read =
        policy("identities: [{name: a, token_file: /tokens/a}]\ntenants: {default: t}\ndefault_destinations: [local]");
    assert!(matches!(&read.identities[0].proof, Proof::Token(secret) if secret.reveal() == "secret-a"));
    assert!(!format!("{read:?}").contains("secret-a"));
}

#[test]
fn names_that_nothing_has_are_faults() {
    let of = |rest: &str| {
        policy_faults(&format!(
            "identities: [{{name: a, loopback: true}}]\ntenants: {{default: t, rules: [{{identities: [a], tenant: u}}]}}\ndefault_destinations: [local]\n{rest}"
        ))
    };
    assert_eq!(of(""), "");
    assert!(
        of("routes: [{tenants: [v], destinations: [local]}]")
            .contains("routes[0].tenants[0] (line 11): there is no tenant \"v\"; there are: t, u")
    );
    assert!(of("routes: [{destinations: [x]}]").contains("there is no destination \"x\"; there are: local, logs"));
    assert!(of("routes: [{tenants: [u]}]").contains("routes[0].destinations (line 11): it is missing"));
    assert_eq!(of("routes: [{tenants: [u], destinations: []}]"), "");
    assert!(
        of("limits: {tenants: {v: {bytes_per_second: 1MiB}}}")
            .contains("limits.tenants.v (line 11): no rule gives this tenant; the rules give: t, u")
    );
    assert!(of("limits: {default: {bytes_burst: 1MiB}}").contains("limits nothing without bytes_per_second"));
    assert!(of("routes: [{namespaces: ['a['], destinations: []}]").contains("expected a name or a glob"));
    let tenant = "identities: [{name: a, loopback: true}, {name: a, token_env: TOKEN_A}]\ntenants: {default: '..'}\ndefault_destinations: []";
    assert!(policy_faults(tenant).contains("tenants.default (line 9): expected a tenant"));
    assert!(policy_faults(tenant).contains("identities[1].name (line 8): another identity has this name"));
}

#[test]
fn an_empty_list_is_a_fault_and_never_everything() {
    let of = |identity: &str, rule: &str, route: &str| {
        policy_faults(&format!(
            "identities: [{{name: a, loopback: true{identity}}}]\ntenants: {{rules: [{{tenant: t{rule}}}]}}\nroutes: [{{destinations: []{route}}}]\ndefault_destinations: []"
        ))
    };
    assert_eq!(of("", "", ""), "");
    for key in ["clusters", "nodes", "categories", "namespaces"] {
        assert!(of(&format!(", {key}: []"), "", "").contains(&format!("identities[0].{key}")), "{key}");
    }
    for key in ["identities", "clusters", "categories", "namespaces"] {
        assert!(of("", &format!(", {key}: []"), "").contains("the list is empty"), "{key}");
    }
    for key in ["tenants", "categories", "namespaces"] {
        assert!(of("", "", &format!(", {key}: []")).contains("the list is empty"), "{key}");
    }
}

#[test]
fn directories_lie_beside_each_other() {
    let of = |one: &str, other: &str| {
        let text = format!(
            "push: {{address: '127.0.0.1:0'}}\njournal: {{directory: /data/journal}}\ndestinations: [{{name: a, file: {{directory: {one}}}}}, {{name: b, file: {{directory: {other}}}}}]\npolicy:{POLICY}"
        );
        load_text(&text.replace("[local]", "[a]"), SOURCES)
            .map(drop)
            .map_err(|faults| faults.to_string())
            .err()
            .unwrap_or_default()
    };
    assert_eq!(of("/data/a", "/data/b"), "");
    assert!(of("/data/a", "/data/./b/../a").contains("another destination writes"));
    assert!(of("/data/a", "/data/a/b").contains("another destination writes"));
    assert!(of("/data/journal/log", "/data/b").contains("the journal lies there"));
    assert!(of("/data", "/srv/b").contains("the journal lies there"));
}

#[test]
fn a_limit_without_a_burst_has_one_that_a_block_fits_into() {
    let policy = policy(
        "identities: [{name: a, loopback: true}]
tenants: {default: t}
default_destinations: []
limits: {default: {bytes_per_second: 100KiB, lines_per_second: 50000}, tenants: {t: {lines_per_second: 10, lines_burst: 20}}}",
    );
    let bytes = Some(Rate { per_second: 100 << 10, burst: 1 << 20 });
    assert_eq!(policy.default_limit, Some(Limit { bytes, lines: Some(Rate { per_second: 50_000, burst: 100_000 }) }));
    assert_eq!(policy.limit("t"), Some(Limit { bytes: None, lines: Some(Rate { per_second: 10, burst: 20 }) }));
}

#[test]
fn the_version_follows_the_policy_and_knows_no_secret() {
    let of = |identity: &str, destination: &str| -> Policy {
        policy(&format!(
            "identities: [{{name: a, {identity}}}]\ntenants: {{default: t}}\ndefault_destinations: [{destination}]"
        ))
    };
    let first = of("token_env: TOKEN_A", "local");
    assert_eq!(first.version, of("token_env: TOKEN_A", "local").version);
    assert_eq!(first.version, of("token_env: TOKEN_B", "local").version);
    assert_ne!(first, of("token_env: TOKEN_B", "local"));
    assert_ne!(first.version, of("token_env: TOKEN_A", "logs").version);
}

#[test]
fn variables_are_put_in() {
    let env = |name: &str| (name == "MEMORY").then(|| "64MiB".to_owned());
    let text = format!("memory: ${{MEMORY}}\ndrain: ${{DRAIN:-5s}}\n{SMALL}{POLICY}");
    let config = load_text(&text, Sources { env: &env, ..SOURCES }).unwrap();
    assert_eq!((config.memory_bytes, config.drain), (64 << 20, Duration::from_secs(5)));
}
