//! The record schema: which names are ours, and the shape that every line has.
//!
//! A record is one JSON object on one line. It begins with `{"_time":"<RFC 3339>"` so that a gateway
//! can check its time without parsing the rest, and ends with `}`.

/// How every line begins.
pub const LINE_START: &[u8] = b"{\"_time\":\"";

/// Names an application may not use at the top level; its own member of that name is renamed
/// `app_<name>`. Beside these, every name that begins with `_`, `k8s_` or `sluice_`, and the empty name
/// (VictoriaLogs reads it as `_msg`).
pub const RESERVED: &[&str] = &["cluster", "environment", "log_type", "log_part", "stream", "audit_event"];

/// What a renamed member's name begins with.
pub const RENAMED: &str = "app_";

/// Where the text of a JSON message is looked for, in this order.
pub const MESSAGE_KEYS: &[&str] = &["_msg", "message", "msg", "log"];

/// Whether an application's top-level member `name` (unescaped) would be taken for one of ours, as it
/// stands or once VictoriaLogs has flattened it (`{"audit_event":{"verb":…}}` becomes
/// `audit_event.verb`, so a member that is called so from the start is refused as well).
#[must_use]
pub fn is_reserved(name: &str) -> bool {
    match name.as_bytes().first() {
        None | Some(b'_' | b'.') => true,
        Some(b'k') => name.starts_with("k8s_"),
        Some(b's') if name.starts_with("sluice_") => true,
        Some(b'c' | b'e' | b'l' | b's' | b'a') => {
            let first = name.split('.').next().unwrap_or(name);
            RESERVED.contains(&first)
        }
        Some(_) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn our_names_are_reserved_in_every_form() {
        for name in [
            "",
            "_",
            "_msg",
            "_time",
            "_stream",
            "k8s_",
            "k8s_namespace_name",
            "k8s_labels.app",
            "cluster",
            "environment",
            "log_type",
            "stream",
            "stream.x",
            "audit_event",
            "audit_event.verb",
            "sluice_batch",
            "sluice_gap_reason",
            ".k8s_pod_name",
        ] {
            assert!(is_reserved(name), "{name:?}");
        }
        for name in ["msg", "message", "k8s", "clusters", "level", "app_cluster", "streaming", "a.cluster", "é"] {
            assert!(!is_reserved(name), "{name:?}");
        }
    }

    #[test]
    fn the_quick_look_at_the_first_letter_covers_the_list() {
        assert!(RESERVED.iter().all(|name| is_reserved(name)));
    }
}
