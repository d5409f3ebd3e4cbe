use super::*;
use crate::config::testing::{config, policy};
use crate::receive::testing::header;
use http::HeaderValue;
use sluice_wire::Category;

const IDENTITIES: &str = "
identities:
  - {name: a, token_file: /tokens/a, clusters: [apps], nodes: ['node-*'], categories: [application], namespaces: ['team-*']}
  - {name: b, token_file: /tokens/b}
  - {name: here, loopback: true}
tenants: {default: t}
default_destinations: [local]
";

fn peer(address: &str, names: &[&str]) -> Peer {
    let address = address.parse().unwrap();
    Peer { address, local: address, names: names.iter().map(|name| (*name).to_owned()).collect() }
}

fn who(credentials: &Credentials, authorization: &[&str], peer: &Peer) -> Option<String> {
    let mut headers = HeaderMap::new();
    for value in authorization {
        headers.append(AUTHORIZATION, HeaderValue::from_str(value).unwrap());
    }
    credentials.identify(&headers, peer).ok().map(|identity| identity.name.to_string())
}

#[test]
fn a_token_must_be_known() {
    let credentials = Credentials::new(&policy(IDENTITIES));
    let far = peer("10.0.0.1", &[]);
    let who = |authorization: &[&str]| who(&credentials, authorization, &far);
    assert_eq!(who(&["Bearer secret-a"]).as_deref(), Some("a"));
    assert_eq!(who(&["bearer  secret-b "]).as_deref(), Some("b"));
    for wrong in [
        "Bearer secret-c",
        "Bearer ",
        "Bearer",
        "Basic secret-a",
        "Wearer secret-a",
        "secret-a",
        "Bearer secret-a secret-a",
        "Bearer SECRET-A",
    ] {
        assert_eq!(who(&[wrong]), None, "{wrong}");
    }
    assert_eq!(who(&["Bearer secret-a", "Bearer secret-b"]), None);
    assert_eq!(who(&[]), None);
}

#[test]
fn loopback_is_believed_at_both_ends_only_and_only_where_nothing_else_is_shown() {
    let credentials = Credentials::new(&policy(IDENTITIES));
    assert_eq!(who(&credentials, &[], &peer("127.0.0.1", &[])).as_deref(), Some("here"));
    assert_eq!(who(&credentials, &[], &peer("::1", &[])).as_deref(), Some("here"));
    assert_eq!(who(&credentials, &[], &peer("::ffff:127.0.0.1", &[])).as_deref(), Some("here"));
    assert_eq!(who(&credentials, &["Bearer wrong"], &peer("127.0.0.1", &[])), None);
    assert_eq!(who(&credentials, &[], &peer("127.0.0.1", &["stranger"])), None);
    let half = Peer { local: "10.0.0.1".parse().unwrap(), ..peer("127.0.0.1", &[]) };
    assert_eq!(who(&credentials, &[], &half), None);
}

#[test]
fn a_name_in_a_certificate_must_be_known() {
    let text = "
push: {address: '0.0.0.0:0', tls: {certificate: /c, key: /k, client_ca: /ca}}
journal: {directory: /j}
destinations: [{name: local, file: {directory: /l}}]
policy:
  identities: [{name: nodes, san: 'spiffe://x/agent'}, {name: b, token_env: TOKEN_B}]
  tenants: {default: t}
  default_destinations: [local]
";
    let credentials = Credentials::new(&config(text).policy);
    let shown = |names: &[&str]| who(&credentials, &[], &peer("10.0.0.1", names));
    assert_eq!(shown(&["other.example.org", "spiffe://x/agent"]).as_deref(), Some("nodes"));
    assert_eq!(shown(&["spiffe://x/agent/2"]), None);
    assert_eq!(who(&credentials, &["Bearer secret-b"], &peer("10.0.0.1", &["spiffe://x/agent"])).as_deref(), Some("b"));
}

#[test]
fn a_credential_covers_what_it_says_and_nothing_else() {
    let policy = policy(IDENTITIES);
    let (narrow, wide) = (&policy.identities[0], &policy.identities[1]);
    let block = header("apps", Category::Application, "team-x");
    assert!(covers(narrow, &block));
    let others = [
        header("infra", Category::Application, "team-x"),
        header("apps", Category::Audit, "team-x"),
        header("apps", Category::Application, "kube-system"),
        Header { node: "other".into(), ..block },
    ];
    for other in others {
        assert!(!covers(narrow, &other), "{other:?}");
        assert!(covers(wide, &other));
    }
}

#[test]
fn no_secret_is_printed() {
    let text = format!("{:?}", Credentials::new(&policy(IDENTITIES)));
    assert!(!text.contains("secret"), "{text}");
}
