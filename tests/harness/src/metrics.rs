//! A program's metrics, read as Prometheus reads them.

use std::time::{Duration, Instant};

use crate::{
    error::{Error, Result},
    http,
};

const POLL_EVERY: Duration = Duration::from_millis(20);

/// One scrape.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Metrics(Vec<Sample>);

#[derive(Debug, Clone, PartialEq)]
pub struct Sample {
    pub name: String,
    pub labels: Vec<(String, String)>,
    pub value: f64,
}

impl Metrics {
    /// # Errors
    /// When the endpoint does not answer 200.
    pub async fn fetch(url: &str) -> Result<Self> {
        Ok(Self::parse(&http::get_text(url).await?))
    }

    /// Reads the text format; lines that are none of its samples are passed over.
    #[must_use]
    pub fn parse(text: &str) -> Self {
        Self(text.lines().filter(|line| !line.starts_with('#')).filter_map(parse_sample).collect())
    }

    /// The sum over all samples of `name` that carry these labels, and maybe others; None without any.
    #[must_use]
    pub fn get(&self, name: &str, labels: &[(&str, &str)]) -> Option<f64> {
        self.matching(name, labels).map(|sample| sample.value).reduce(|sum, value| sum + value)
    }

    pub fn matching(&self, name: &str, labels: &[(&str, &str)]) -> impl Iterator<Item = &Sample> {
        self.0.iter().filter(move |sample| {
            let carries = |(label, value): &(&str, &str)| sample.labels.iter().any(|(l, v)| l == label && v == value);
            sample.name == name && labels.iter().all(carries)
        })
    }
}

/// Scrapes every 20 ms until the sum of the matching samples satisfies `test`; a metric that is not there
/// does not. Returns the value.
///
/// # Errors
/// When that does not happen in time; the error tells the last value, or why there was none.
pub async fn wait_until(
    url: &str,
    name: &str,
    labels: &[(&str, &str)],
    test: impl Fn(f64) -> bool,
    timeout: Duration,
) -> Result<f64> {
    let start = Instant::now();
    loop {
        let last = match Metrics::fetch(url).await {
            Ok(metrics) => match metrics.get(name, labels) {
                Some(value) if test(value) => return Ok(value),
                Some(value) => format!("; its last value was {value}"),
                None => "; there is no such sample".to_owned(),
            },
            Err(error) => format!("; {error}"),
        };
        if start.elapsed() >= timeout {
            let what = format!("{name}{labels:?} at {url}");
            return Err(Error::Timeout { what, seconds: timeout.as_secs_f64(), last });
        }
        tokio::time::sleep(POLL_EVERY).await;
    }
}

/// `name{label="value",…} 1.5 [time]`.
fn parse_sample(line: &str) -> Option<Sample> {
    let end_of_name = line.find(['{', ' '])?;
    let (name, mut rest) = line.split_at(end_of_name);
    let mut labels = Vec::new();
    if let Some(inside) = rest.strip_prefix('{') {
        rest = inside;
        loop {
            rest = rest.trim_start_matches([',', ' ']);
            if let Some(after) = rest.strip_prefix('}') {
                rest = after;
                break;
            }
            let (label, quoted) = rest.split_once("=\"")?;
            let (value, after) = unquote(quoted)?;
            labels.push((label.to_owned(), value));
            rest = after;
        }
    }
    let value = rest.split_ascii_whitespace().next()?.parse().ok()?;
    Some(Sample { name: name.to_owned(), labels, value })
}

/// The value before the closing quote, and what follows that.
fn unquote(text: &str) -> Option<(String, &str)> {
    let mut value = String::new();
    let mut letters = text.char_indices();
    while let Some((at, letter)) = letters.next() {
        match letter {
            '"' => return Some((value, &text[at + 1..])),
            '\\' => value.push(match letters.next()?.1 {
                'n' => '\n',
                other => other,
            }),
            other => value.push(other),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_are_found_by_name_and_labels() {
        let metrics = Metrics::parse(
            "# HELP lines_total Lines.\n# TYPE lines_total counter\n\
             lines_total{tenant=\"a\",reason=\"x, \\\"y\\\"}\"} 3\n\
             lines_total{tenant=\"b\",reason=\"z\"} 4 1763683200000\n\
             up 1\nrate{} 1.5e3\nnan NaN\n\nnonsense\n",
        );
        assert_eq!(metrics.get("lines_total", &[]), Some(7.0));
        assert_eq!(metrics.get("lines_total", &[("tenant", "b")]), Some(4.0));
        assert_eq!(metrics.get("lines_total", &[("reason", "x, \"y\"}")]), Some(3.0));
        assert_eq!(metrics.get("lines_total", &[("tenant", "c")]), None);
        assert_eq!(metrics.get("up", &[]), Some(1.0));
        assert_eq!(metrics.get("rate", &[]), Some(1500.0));
        assert!(metrics.get("nan", &[]).is_some_and(f64::is_nan));
    }
}
