//! A case's figures: one object of `latest.json`, one row of the table.

use std::{collections::BTreeMap, fmt::Write as _, fs, path::Path};

use serde::Serialize;

use crate::error::{At as _, Result};

#[derive(Debug, Clone, Serialize)]
pub(crate) struct Outcome {
    pub(crate) program: &'static str,
    pub(crate) case: &'static str,
    pub(crate) lines_per_s: f64,
    /// 10⁶ bytes: of log file for agents, of raw records for gateways.
    pub(crate) mb_per_s: f64,
    /// For each 10⁹ of the same bytes.
    pub(crate) cpu_s_per_gb: f64,
    pub(crate) peak_rss_mib: f64,
    /// What the program sent, without HTTP's headers.
    pub(crate) wire_bytes: u64,
    /// None where the case says nothing about latency.
    pub(crate) p50_ms: Option<f64>,
    pub(crate) p99_ms: Option<f64>,
    pub(crate) lost: u64,
    pub(crate) duplicated: u64,
    /// What only some cases have.
    #[serde(flatten)]
    pub(crate) more: BTreeMap<&'static str, f64>,
}

const HEADINGS: [&str; 11] = [
    "program",
    "case",
    "lines/s",
    "MB/s",
    "CPU s/GB",
    "RSS MiB",
    "wire bytes",
    "p50 ms",
    "p99 ms",
    "lost",
    "duplicated",
];

impl Outcome {
    /// Nothing was measured.
    pub(crate) fn empty(program: &'static str, case: &'static str) -> Self {
        Self {
            program,
            case,
            lines_per_s: 0.0,
            mb_per_s: 0.0,
            cpu_s_per_gb: 0.0,
            peak_rss_mib: 0.0,
            wire_bytes: 0,
            p50_ms: None,
            p99_ms: None,
            lost: 0,
            duplicated: 0,
            more: BTreeMap::new(),
        }
    }

    /// By its key; not a number where it was not measured.
    pub(crate) fn figure(&self, key: &str) -> f64 {
        match key {
            "cpu_s_per_gb" => self.cpu_s_per_gb,
            "peak_rss_mib" => self.peak_rss_mib,
            "p50_ms" => self.p50_ms.unwrap_or(f64::NAN),
            "p99_ms" => self.p99_ms.unwrap_or(f64::NAN),
            _ => self.more.get(key).copied().unwrap_or(f64::NAN),
        }
    }

    fn cells(&self) -> [String; 11] {
        let ms = |value: Option<f64>| value.map_or_else(|| "–".to_owned(), |ms| format!("{ms:.1}"));
        [
            self.program.to_owned(),
            self.case.to_owned(),
            format!("{:.0}", self.lines_per_s),
            format!("{:.1}", self.mb_per_s),
            format!("{:.2}", self.cpu_s_per_gb),
            format!("{:.1}", self.peak_rss_mib),
            self.wire_bytes.to_string(),
            ms(self.p50_ms),
            ms(self.p99_ms),
            self.lost.to_string(),
            self.duplicated.to_string(),
        ]
    }

    /// What the table has no column for.
    pub(crate) fn details(&self) -> String {
        let mut text = format!("{} {}:", self.program, self.case);
        for (name, value) in &self.more {
            let digits = if value.fract() == 0.0 { 0 } else { 3 };
            let _ = write!(text, " {name} {value:.digits$}");
        }
        text
    }
}

/// All rows under one heading, columns aligned.
pub(crate) fn table(outcomes: &[Outcome]) -> String {
    let rows: Vec<_> =
        std::iter::once(HEADINGS.map(str::to_owned)).chain(outcomes.iter().map(Outcome::cells)).collect();
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths: [usize; 11] = std::array::from_fn(width);
    let mut text = String::new();
    for row in &rows {
        let cells = row.iter().zip(widths).enumerate().map(|(column, (cell, width))| match column {
            0 | 1 => format!("{cell:<width$}"),
            _ => format!("{cell:>width$}"),
        });
        text.push_str(cells.collect::<Vec<_>>().join("  ").trim_end());
        text.push('\n');
    }
    text
}

pub(crate) fn mib(kib: u64) -> f64 {
    kib as f64 / 1024.0
}

/// Writes a file whole, with its directory.
pub(crate) fn write_json(path: &Path, value: &impl Serialize) -> Result<()> {
    if let Some(dir) = path.parent() {
        fs::create_dir_all(dir).at(dir)?;
    }
    let mut json = serde_json::to_vec_pretty(value).map_err(std::io::Error::from).at(path)?;
    json.push(b'\n');
    fs::write(path, json).at(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_result_has_the_keys_that_are_promised() {
        let outcome =
            Outcome { more: BTreeMap::from([("seconds", 1.0)]), ..Outcome::empty("sluice-agent", "catch-up") };
        let json = serde_json::to_value(&outcome).unwrap();
        for key in [
            "program",
            "case",
            "lines_per_s",
            "mb_per_s",
            "cpu_s_per_gb",
            "peak_rss_mib",
            "wire_bytes",
            "p50_ms",
            "p99_ms",
            "lost",
            "duplicated",
            "seconds",
        ] {
            assert!(json.get(key).is_some(), "{key}");
        }
        let table = table(&[outcome]);
        assert_eq!(table.lines().map(|line| line.chars().count()).collect::<std::collections::BTreeSet<_>>().len(), 1);
    }
}
