//! Tests against a real Kubernetes: `tests/kube/tests/`.
