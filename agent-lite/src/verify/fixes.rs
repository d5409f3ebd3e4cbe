//! What to do about each trouble.

use crate::metrics::Step;
use crate::tail::Abandoned;

/// Where the logs go, for words about it.
#[derive(Debug, Clone, Copy)]
pub(super) struct To<'a> {
    /// `gateway`, or `direct`: what it is called in the settings.
    pub(super) key: &'a str,
    pub(super) namespace: &'a str,
}

/// What mends a step that does not work.
pub(super) fn of_step(step: Step, to: To<'_>) -> String {
    let To { key, namespace } = to;
    let is_gateway = key == "gateway";
    let url = if is_gateway { "gateway.urls" } else { "direct.url" };
    match step {
        Step::Lookup => {
            format!("check the host in {url}, and that DNS answers here (a network policy must let it out)")
        }
        Step::Connection => format!(
            "check host and port in {url}, that something listens there, and that a network policy lets this node's \
             traffic there; where there is a proxy, {key}.proxy"
        ),
        Step::Tls => format!(
            "{key}.ca_file must hold the CA that signed the other end's certificate, which must name the host in \
             {url}; {key}.certificate_file and key_file must be readable here"
        ),
        Step::Credential => {
            format!("{key}.token_file (or password_file) must be there, readable for this user, and hold one line")
        }
        Step::Greeting if is_gateway => {
            format!(
                "{url} must lead to a Sluice gateway's push address (not its admin port, nor a store), of a version near this one"
            )
        }
        Step::Greeting => format!("{url} must lead to a store's insert address over HTTP"),
        Step::Unauthenticated if is_gateway => {
            "the gateway does not know this credential: the token in gateway.token_file, or the certificate's SAN, \
             must be that of one of its policy.identities"
                .to_owned()
        }
        Step::Unauthenticated => {
            "the store, or vmauth, wants another token or password: direct.token_file, or direct.user \
             and password_file"
                .to_owned()
        }
        Step::Forbidden if is_gateway => format!(
            "the gateway's policy does not let this credential send cluster, node or namespace {namespace}, or has no \
             tenant for it: allow it there, or try one that it allows with --namespace"
        ),
        Step::Forbidden => {
            "the store, or vmauth, does not let this credential write: its rights, or direct.tenant".to_owned()
        }
        Step::Limit if is_gateway => format!(
            "the tenant of namespace {namespace} is at its limit, which other logs share: raise it in the gateway's \
             policy.limits, or try with a lower --rate"
        ),
        Step::Limit => "the store takes no more at once: try with a lower --rate".to_owned(),
        Step::Busy => "it has no room, or is restarting: its log and its /readyz?verbose say what is full".to_owned(),
        Step::Refused if is_gateway => {
            "it will never take these: its log says why; a reason stands in docs/wire.md".to_owned()
        }
        Step::Refused => format!("check scheme, port and path of {url}, and what is on the way to it"),
        Step::Answer => format!(
            "the answer came from something on the way, or not at all: check proxies between here and {url}, and \
             {key}.request_timeout"
        ),
    }
}

/// What mends that lines were left out on the node.
pub(super) fn of_abandoned(reason: Abandoned, namespace: &str) -> String {
    match reason {
        Abandoned::Redacted => format!(
            "a rule of `redact` with action drop matches the test's lines: that is what it says, try a namespace that it \
             does not hold for, not {namespace}"
        ),
        Abandoned::OverBudget => {
            format!("`budgets` holds for namespace {namespace}: a lower --rate, or a larger budget")
        }
        _ => "the test's own files were changed or removed while it ran, or the disk damages them".to_owned(),
    }
}
