//! The gateway's settings: defaults, but for what has none, and for `durable_after`: a case is shorter than its
//! default, and would end before the first batch is counted at the store.

use std::{net::SocketAddr, path::Path};

/// Four tenants, so that batches are made as for several.
pub(super) fn settings(push: SocketAddr, admin: SocketAddr, directory: &Path, store: SocketAddr) -> String {
    let directory = directory.display();
    format!(
        "push: {{address: '{push}'}}
admin: '{admin}'
journal: {{directory: '{directory}/journal'}}
destinations:
  - name: store
    victorialogs: {{url: 'http://{store}', durable_after: 3s}}
policy:
  identities: [{{name: agents, loopback: true}}]
  tenants:
    rules:
      - {{namespaces: ['*-?0', '*-?1', '*-?2'], tenant: alpha}}
      - {{namespaces: ['*-?3', '*-?4', '*-?5'], tenant: beta}}
      - {{namespaces: ['*-?6', '*-?7'], tenant: gamma}}
    default: delta
  default_destinations: [store]
"
    )
}
