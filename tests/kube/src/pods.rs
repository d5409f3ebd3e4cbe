//! What runs on the node: containers that write numbered lines, each in its own way.

use std::path::Path;

use serde_json::{Value, json};

use crate::cluster::{IMAGE, NODE};

/// Attempts of a container that have numbers of their own.
pub const ATTEMPTS: u32 = 10_000;

/// How a container writes.
#[derive(Debug, Clone)]
pub struct Writing {
    /// Lines a second; 0: as fast as they are taken.
    pub rate: u64,
    /// Lines of each attempt; 0: without end.
    pub lines: u64,
    /// Mean bytes of a line; above 16 KiB containerd splits them.
    pub line_size: usize,
    /// Writes each line in two halves, so many milliseconds apart: its death cuts lines.
    pub stutter: u64,
    /// How it ends after its lines; `None`: it stays.
    pub exit: Option<u8>,
}

impl Default for Writing {
    fn default() -> Self {
        Self { rate: 50, lines: 0, line_size: 200, stutter: 0, exit: None }
    }
}

/// Pods of this `app` have an annotation that is wrong: the agent tells of it, and no more comes of that.
pub const WRONG: &str = "pair";

/// Whether a container of this name is a writer.
#[must_use]
pub fn is_writer(container: &str) -> bool {
    container.strip_prefix('c').is_some_and(|number| number.parse::<u32>().is_ok())
}

/// The `app` of a pod of this name.
#[must_use]
pub fn label(pod: &str) -> &str {
    pod.split('-').next().unwrap_or_default()
}

/// Makes pods whose lines are told apart.
#[derive(Debug)]
pub struct Writers {
    run: u32,
    seed: u64,
    shared: std::path::PathBuf,
    containers: u32,
}

impl Writers {
    /// Of a run; `shared` is a directory of this machine for all of them.
    #[must_use]
    pub fn new(run: u32, seed: u64, shared: &Path) -> Self {
        Self { run, seed, shared: shared.to_owned(), containers: 0 }
    }

    /// The pod `name`, with a container `c0`, `c1` … for each of `containers`.
    ///
    /// `restart`: the kubelet starts again whatever ends, in whichever way.
    pub fn pod(&mut self, name: &str, restart: bool, containers: &[Writing]) -> String {
        let containers: Vec<Value> =
            containers.iter().enumerate().map(|(at, writing)| self.container(at, writing)).collect();
        let annotations = if label(name) == WRONG { json!({"sluice.dev/parser": "unheard-of"}) } else { json!({}) };
        json!({
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": name, "labels": {"app": label(name)}, "annotations": annotations},
            "spec": {
                "nodeName": NODE,
                "hostNetwork": true,
                "automountServiceAccountToken": false,
                "enableServiceLinks": false,
                "terminationGracePeriodSeconds": 1,
                "restartPolicy": if restart { "Always" } else { "Never" },
                "volumes": [{"name": "shared", "hostPath": {"path": self.shared, "type": "Directory"}}],
                "containers": containers,
            },
        })
        .to_string()
    }

    fn container(&mut self, at: usize, writing: &Writing) -> Value {
        let mut command = vec![
            "/bin/sluice-kube-writer".to_owned(),
            format!("--run={}", self.run),
            format!("--source={}", self.containers * ATTEMPTS),
            format!("--seed={}", self.seed),
            "--shared=/shared".to_owned(),
            format!("--rate={}", writing.rate),
            format!("--lines={}", writing.lines),
            format!("--line-size={}", writing.line_size),
            format!("--stutter={}", writing.stutter),
        ];
        command.extend(writing.exit.map(|status| format!("--exit={status}")));
        self.containers += 1;
        json!({
            "name": format!("c{at}"),
            "image": IMAGE,
            "imagePullPolicy": "Never",
            "command": command,
            "volumeMounts": [{"name": "shared", "mountPath": "/shared"}],
        })
    }
}
