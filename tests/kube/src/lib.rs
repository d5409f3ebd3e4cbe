//! Tests on a real Kubernetes node: a real API server, kubelet and containerd, whose pods write numbered lines,
//! while everything that happens to a node happens to it.
//!
//! ```text
//!  sluice-kube-writer (in pods) ──► containerd ──► /var/log/pods ──► agent ──► gateway ──► files ──► Delivered ─┐
//!                                                      └─ hard links ─► Witness ──► Disk ──────────────────────┴► Verdict
//! ```
//!
//! What an agent can be asked for is what reached the disk, not what a program wrote: so the [`witness`] links every
//! log file as soon as it exists, and what the kubelet rotates away or removes stays readable for the verdict.
//!
//! - The node: [`server`] and [`cluster`] run the scripts beside this crate, [`api`] talks to them, [`pods`] says what runs on it.
//! - The rig: [`rig`] is the agent, as a process or as a pod, and the gateway, and what befalls them.
//! - The books: [`witness`], [`disk`], [`delivered`], [`verdict`].

pub mod api;
pub mod cluster;
pub mod delivered;
pub mod disk;
pub mod gateway;
pub mod pods;
pub mod rig;
pub mod server;
pub mod verdict;
pub mod witness;
