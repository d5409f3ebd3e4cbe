//! Records as an agent makes them, with as much text of their own as a case wants.

use sluice_harness::{
    line::Stream,
    shape::{Mix, filler_pool},
};
use sluice_wire::{record, time};

use crate::node::{CLUSTER, ENVIRONMENT, NODE};

/// Lines that follow each other from one pod: an agent reads a file in large pieces.
const RUN_OF_LINES: u64 = 60;
const BETWEEN_LINES_NS: i64 = 137_911;

/// Renders one record after the other.
#[derive(Debug)]
pub(super) struct Records {
    mix: Mix,
    pool: Vec<u8>,
    common: Vec<u8>,
    nth: u64,
    next_ns: i64,
}

impl Records {
    /// Of a namespace, with about `text_bytes` of words in each line.
    pub(super) fn new(namespace: &str, text_bytes: usize, seed: u64, first_ns: i64) -> Self {
        // The mix counts the header of a numbered line, which these have not.
        let mix = Mix { seed, line_size: text_bytes + 84, json: 0.6, ..Mix::default() };
        let common = format!(
            ",\"cluster\":\"{CLUSTER}\",\"environment\":\"{ENVIRONMENT}\",\"k8s_namespace_name\":\"{namespace}\",\
             \"k8s_node_name\":\"{NODE}\""
        );
        Self { pool: filler_pool(&mix), mix, common: common.into(), nth: 0, next_ns: first_ns }
    }

    /// The next record's time.
    pub(super) fn next_ns(&self) -> i64 {
        self.next_ns
    }

    /// Appends a record with its newline.
    pub(super) fn push(&mut self, out: &mut Vec<u8>) {
        use std::io::Write as _;
        let (nth, pod) = (self.nth, self.nth / RUN_OF_LINES);
        self.nth += 1;
        let shape = self.mix.shape(0, Stream::Stdout, nth);
        out.extend_from_slice(record::LINE_START);
        time::write(self.next_ns, out);
        self.next_ns += BETWEEN_LINES_NS;
        out.extend_from_slice(b"\",\"_msg\":\"");
        let text = shape.filler(&self.pool);
        out.extend_from_slice(text.plain);
        out.extend_from_slice(text.tail.json.as_bytes());
        out.push(b'"');
        out.extend_from_slice(&self.common);
        // Writing to a Vec cannot fail.
        let _ = write!(
            out,
            ",\"k8s_pod_name\":\"settlement-7f9c{pod:06x}-{pod:05x}\",\
             \"k8s_pod_uid\":\"4c0f{pod:04x}-77aa-4d13-8b1e-09d1{pod:08x}\",\"k8s_container_name\":\"app\",\
             \"k8s_container_restart_count\":\"0\",\"stream\":\"stdout\""
        );
        if shape.json.is_some() {
            let _ =
                write!(out, ",\"level\":\"info\",\"n\":{nth},\"http\":{{\"status\":200,\"took\":{{\"ms\":{nth}}}}}");
        }
        out.extend_from_slice(b"}\n");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_are_json_of_the_schema() {
        let mut records = Records::new("team-a", 50, 1, 1_700_000_000_000_000_000);
        let mut raw = Vec::new();
        (0..200).for_each(|_| records.push(&mut raw));
        for line in raw.split_inclusive(|byte| *byte == b'\n') {
            assert!(line.starts_with(record::LINE_START) && line.ends_with(b"}\n"));
            let record: serde_json::Value = serde_json::from_slice(line).unwrap();
            assert_eq!(record["k8s_namespace_name"], "team-a");
        }
    }
}
