//! Two counters out of Prometheus' text format, as it comes: an answer has thousands of lines.

/// Bytes that a container runtime has written to logs (containerd `internal/cri/io/metrics.go`).
const BYTES: &str = "containerd_cri_output_bytes_total";
/// Lines, and parts of lines.
const ENTRIES: &str = "containerd_cri_output_entries_total";
/// A line that is longer is none of ours.
const MAX_LINE: usize = 4096;

/// What a runtime has written to logs since it was started.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reading {
    /// Bytes, as they are in the files.
    pub bytes: u64,
    /// Lines, and parts of lines.
    pub entries: u64,
}

/// Looks for the counters in an answer that comes in pieces.
#[derive(Debug, Default)]
pub(super) struct Answer {
    line: Vec<u8>,
    /// In the middle of a line that is too long.
    is_passing: bool,
    bytes: Option<u64>,
    entries: Option<u64>,
}

impl Answer {
    /// The next bytes.
    pub(super) fn take(&mut self, piece: &[u8]) {
        let mut parts = piece.split(|byte| *byte == b'\n').peekable();
        while let Some(part) = parts.next() {
            self.is_passing |= self.line.len() + part.len() > MAX_LINE;
            if !self.is_passing {
                self.line.extend_from_slice(part);
            }
            if parts.peek().is_some() {
                self.end_line();
            }
        }
    }

    /// What it said; `None`: not both of the counters.
    pub(super) fn reading(mut self) -> Option<Reading> {
        self.end_line();
        Some(Reading { bytes: self.bytes?, entries: self.entries? })
    }

    fn end_line(&mut self) {
        let line = std::mem::take(&mut self.line);
        if !std::mem::take(&mut self.is_passing)
            && let Some((name, value)) = std::str::from_utf8(&line).ok().and_then(sample)
        {
            let sum = match name {
                BYTES => &mut self.bytes,
                ENTRIES => &mut self.entries,
                _ => return,
            };
            *sum = Some(sum.unwrap_or(0).saturating_add(value));
        }
        self.line = line;
        self.line.clear();
    }
}

/// A sample's name and value, without its labels and its time. `None`: it is none, or no count.
fn sample(line: &str) -> Option<(&str, u64)> {
    let line = line.trim();
    let end = line.find(|c: char| c == '{' || c.is_ascii_whitespace())?;
    let (name, rest) = line.split_at(end);
    // A value has no brace; the last one ends the labels, whatever those are.
    let rest = if rest.starts_with('{') { rest.rsplit_once('}')?.1 } else { rest };
    Some((name, count(rest.split_ascii_whitespace().next()?)?))
}

/// Large numbers are written with an exponent.
fn count(text: &str) -> Option<u64> {
    if let Ok(count) = text.parse() {
        return Some(count);
    }
    let value: f64 = text.parse().ok()?;
    // Rounded through its text; one that is infinite, below 0 or too large has none that is a count.
    format!("{value:.0}").parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// As containerd 1.6.20 answers, but for the texts of help.
    const TEXT: &str = r#"# HELP containerd_cri_container_list_seconds seconds
# TYPE containerd_cri_container_list_seconds histogram
containerd_cri_container_list_seconds_bucket{le="0.005"} 12
containerd_cri_container_list_seconds_bucket{le="+Inf"} 13
containerd_cri_container_list_seconds_sum 0.0123
# HELP containerd_cri_input_bytes_total bytes
# TYPE containerd_cri_input_bytes_total counter
containerd_cri_input_bytes_total 1.100334e+06
# HELP containerd_cri_output_bytes_total bytes
# TYPE containerd_cri_output_bytes_total counter
containerd_cri_output_bytes_total 1.2345678e+07
# HELP containerd_cri_output_entries_total entries
# TYPE containerd_cri_output_entries_total counter
containerd_cri_output_entries_total 20451
# HELP grpc_server_handled_total calls
grpc_server_handled_total{grpc_code="OK",grpc_method="Version"} 0
"#;

    fn read(text: &[u8]) -> Option<Reading> {
        let mut answer = Answer::default();
        answer.take(text);
        answer.reading()
    }

    #[test]
    fn the_runtimes_counters_are_found() {
        assert_eq!(read(TEXT.as_bytes()), Some(Reading { bytes: 12_345_678, entries: 20_451 }));
        assert_eq!(read(TEXT.trim_end().as_bytes()), read(TEXT.as_bytes()));
        assert_eq!(read(TEXT.replace('\n', "\r\n").as_bytes()), read(TEXT.as_bytes()));
    }

    #[test]
    fn what_is_not_both_counters_is_no_reading() {
        for text in ["", "<html>", "containerd_cri_output_bytes_total 1", "# containerd_cri_output_bytes_total 1"] {
            assert_eq!(read(text.as_bytes()), None, "{text}");
        }
        assert_eq!(read(TEXT.replace("_total 20451", "_total NaN").as_bytes()), None);
    }

    #[test]
    fn samples_have_labels_times_and_values_of_all_kinds() {
        for (line, expected) in [
            ("a 1", Some(("a", 1))),
            ("a{b=\"} 7\"} 2 1700000000000", Some(("a", 2))),
            ("a{b=\"x\",c=\"y z\"}\t3.0e2 ", Some(("a", 300))),
            ("a -1", None),
            ("a +Inf", None),
            ("a 1e30", None),
            ("a", None),
            ("a{b=\"x\" 1", None),
            ("# a 1", None),
        ] {
            assert_eq!(sample(line), expected, "{line}");
        }
    }

    #[test]
    fn a_line_without_end_takes_no_memory() {
        let mut answer = Answer::default();
        for _ in 0..1000 {
            answer.take(&[b'x'; 1000]);
            assert!(answer.line.capacity() <= 2 * MAX_LINE);
        }
        answer.take(b"\n");
        answer.take(TEXT.as_bytes());
        assert!(answer.reading().is_some());
    }

    proptest! {
        #[test]
        fn it_does_not_matter_how_an_answer_is_cut(cuts in prop::collection::vec(0..TEXT.len(), 0..20)) {
            let mut cuts = cuts;
            cuts.extend([0, TEXT.len()]);
            cuts.sort_unstable();
            let mut answer = Answer::default();
            cuts.windows(2).for_each(|pair| answer.take(&TEXT.as_bytes()[pair[0]..pair[1]]));
            prop_assert_eq!(answer.reading(), read(TEXT.as_bytes()));
        }

        #[test]
        fn any_count_is_read_as_it_is_written(bytes in 0..1_u64 << 53, entries in any::<u32>()) {
            for bytes_text in [bytes.to_string(), format!("{bytes:e}")] {
                let text = format!("{BYTES} {bytes_text}\n{ENTRIES} {entries}\n");
                prop_assert_eq!(read(text.as_bytes()), Some(Reading { bytes, entries: entries.into() }));
            }
        }

        #[test]
        fn any_answer_is_looked_at_without_a_panic(
            before in prop::collection::vec(any::<u8>(), 0..200),
            line in "containerd_cri_output_bytes_total[{} \"=a-z0-9.e+-]{0,40}",
        ) {
            let mut answer = Answer::default();
            answer.take(&before);
            answer.take(line.as_bytes());
            answer.reading();
        }
    }
}
