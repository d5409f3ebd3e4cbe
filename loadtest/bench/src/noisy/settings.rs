//! Both programs' settings: defaults, but for what has none.

use std::{fmt::Write as _, path::Path};

use super::tenants;
use crate::agents::{Job, sluice};

/// Where the two listen.
#[derive(Debug, Clone, Copy)]
pub(super) struct Ports {
    pub(super) push: u16,
    pub(super) gateway_admin: u16,
    pub(super) agent_admin: u16,
}

pub(super) fn agent(ports: Ports, pods: &Path, state: &Path) -> String {
    let settings = sluice::settings(&Job::plain(pods, ([127, 0, 0, 1], ports.push).into()), state);
    format!("{settings}admin: 127.0.0.1:{}\n", ports.agent_admin)
}

/// With every tenant, whether or not it writes; `limited`: with the noisy one's limit.
pub(super) fn gateway(ports: Ports, state: &Path, delivered: &Path, limited: bool) -> String {
    let Ports { push, gateway_admin, .. } = ports;
    let (state, delivered) = (state.display(), delivered.display());
    let mut text = format!(
        "push: {{address: '127.0.0.1:{push}'}}
admin: '127.0.0.1:{gateway_admin}'
journal: {{directory: '{state}/journal'}}
destinations:
  - name: files
    file: {{directory: '{delivered}'}}
policy:
  identities: [{{name: agents, loopback: true}}]
  default_destinations: [files]
"
    );
    // Writing to a String cannot fail.
    if limited {
        let _ =
            writeln!(text, "  limits: {{tenants: {{{}: {{bytes_per_second: {}}}}}}}", tenants::NOISY, tenants::LIMIT);
    }
    text.push_str("  tenants:\n    rules:\n");
    for tenant in tenants::names() {
        let _ = writeln!(text, "      - {{namespaces: ['{}'], tenant: {tenant}}}", tenants::namespace(tenant));
    }
    text
}
