//! The cases, and what is promised of each.

use super::contender::Contender;
use crate::goals::Goal;

/// What a contender is asked for, and what is promised of ours.
#[derive(Debug, Clone, Copy)]
pub(super) struct Case {
    pub(super) name: &'static str,
    pub(super) contenders: &'static [Contender],
    /// Labels of pods from the API server, and TLS to the sink.
    pub(super) cluster: bool,
    pub(super) multiline: bool,
    pub(super) redaction: bool,
    pub(super) goals: &'static [Goal],
}

const OURS: &[Contender] = &[Contender::Sluice];
const BOTH: &[Contender] = &[Contender::Sluice, Contender::Otelcol];

const PLAIN: Case = Case { name: "", contenders: OURS, cluster: false, multiline: false, redaction: false, goals: &[] };

impl Case {
    /// Labels and TLS, ours alone, nothing promised.
    pub(super) const CLUSTER: Self = Self { cluster: true, ..PLAIN };
}

/// Each does what the one before it does, and more.
pub(super) const CATCH_UP: [Case; 4] = [
    Case { name: "catch-up", ..PLAIN },
    Case {
        name: "catch-up-labels-tls",
        contenders: BOTH,
        cluster: true,
        goals: &[Goal { figure: "cpu_s_per_gb", at_most: 5.0 }],
        ..PLAIN
    },
    Case {
        name: "catch-up-multiline",
        cluster: true,
        multiline: true,
        goals: &[Goal { figure: "cpu_s_per_gb", at_most: 6.0 }],
        ..PLAIN
    },
    Case {
        name: "catch-up-redaction",
        cluster: true,
        multiline: true,
        redaction: true,
        goals: &[Goal { figure: "cpu_s_per_gb", at_most: 9.0 }],
        ..PLAIN
    },
];

pub(super) const STEADY: [Case; 2] = [
    Case { name: "steady", ..PLAIN },
    Case {
        name: "steady-labels-tls",
        contenders: BOTH,
        cluster: true,
        goals: &[
            Goal { figure: "peak_anonymous_mib", at_most: 20.0 },
            Goal { figure: "peak_rss_mib", at_most: 32.0 },
            Goal { figure: "cpu_cores", at_most: 0.03 },
        ],
        ..PLAIN
    },
];
