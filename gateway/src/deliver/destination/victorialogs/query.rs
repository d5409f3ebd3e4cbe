//! Asks the store what it has of a batch. LogsQL as VictoriaLogs v1.121 speaks it: `_time:[a, b]` with
//! both ends in the range, `field:in(…)`, and `stats by (field) count()`; one JSON object a line comes
//! back, every value a string.

use std::borrow::Cow;
use std::collections::HashMap;
use std::collections::hash_map::{DefaultHasher, Entry as Slot};
use std::fmt::Write as _;
use std::hash::{Hash as _, Hasher as _};

use reqwest::header::CONTENT_TYPE;
use reqwest::{RequestBuilder, Url};
use serde::Deserialize;
use serde_json::value::RawValue;
use sluice_wire::time;

use super::{Asked, BATCH_FIELD, Refusal};
use crate::deliver::batch::BatchId;

/// Bytes of the answer to a count: a line for each batch, well below 100 bytes.
const COUNT_BYTES: usize = 1 << 20;

#[derive(Deserialize)]
struct Counted<'a> {
    #[serde(borrow)]
    sluice_batch: Cow<'a, str>,
    #[serde(borrow)]
    rows: Cow<'a, str>,
}

/// The number of rows of each batch of which there is one.
pub(super) async fn count(request: RequestBuilder, asked: &[Asked]) -> Result<HashMap<BatchId, u64>, Refusal> {
    let mut query = range(asked);
    let ids: Vec<String> = asked.iter().map(|asked| format!("\"{}\"", asked.id)).collect();
    let _ = write!(query, "{BATCH_FIELD}:in({}) | stats by ({BATCH_FIELD}) count() rows", ids.join(","));
    let answer = ask(request, &query, COUNT_BYTES).await?;
    let mut counts = HashMap::new();
    for line in lines(&answer) {
        let counted: Counted<'_> = serde_json::from_slice(line).map_err(|error| unreadable(&error.to_string()))?;
        let id = u64::from_str_radix(&counted.sluice_batch, 16).map_err(|error| unreadable(&error.to_string()))?;
        counts.insert(BatchId(id), counted.rows.parse().map_err(|_| unreadable("rows"))?);
    }
    Ok(counts)
}

/// The fields by which two records of a batch are taken for the same. Beside time and text, where they
/// came from: lines of several pods can be equal in both.
#[derive(Deserialize, Hash)]
struct Key<'a> {
    #[serde(borrow, default)]
    _msg: Text<'a>,
    #[serde(borrow, default)]
    cluster: Text<'a>,
    #[serde(borrow, default)]
    k8s_namespace_name: Text<'a>,
    #[serde(borrow, default)]
    k8s_pod_name: Text<'a>,
    #[serde(borrow, default)]
    k8s_container_name: Text<'a>,
    #[serde(borrow, default)]
    stream: Text<'a>,
}

const KEY_FIELDS: &str = "_time, _msg, cluster, k8s_namespace_name, k8s_pod_name, k8s_container_name, stream";

/// A value as the store shows it: a string's text, anything else as it is written.
#[derive(Default, Hash)]
struct Text<'a>(Cow<'a, str>);

impl<'de: 'a, 'a> Deserialize<'de> for Text<'a> {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let raw = <&'de RawValue>::deserialize(deserializer)?.get();
        if raw.starts_with('"') {
            return serde_json::from_str(raw)
                .map(|text: String| Self(Cow::Owned(text)))
                .map_err(serde::de::Error::custom);
        }
        Ok(Self(Cow::Borrowed(raw)))
    }
}

#[derive(Deserialize)]
struct Timed<'a> {
    #[serde(borrow)]
    _time: Cow<'a, str>,
}

/// Time and a hash of the rest: a batch has some 100,000 records, so 64 bits beside the time do.
fn fingerprint(line: &[u8]) -> Option<(i64, u64)> {
    let timed: Timed<'_> = serde_json::from_slice(line).ok()?;
    let key: Key<'_> = serde_json::from_slice(line).ok()?;
    let mut hasher = DefaultHasher::new();
    key.hash(&mut hasher);
    Some((time::parse(timed._time.as_bytes())?, hasher.finish()))
}

/// The records that the store has of a batch, as a multiset.
#[derive(Debug, Default)]
pub(super) struct Stored(HashMap<(i64, u64), u64>);

impl Stored {
    fn add(&mut self, line: &[u8]) -> bool {
        fingerprint(line).map(|key| *self.0.entry(key).or_default() += 1).is_some()
    }

    /// Whether `line` is there; takes it out.
    pub(super) fn take(&mut self, line: &[u8]) -> bool {
        let Some(key) = fingerprint(line) else { return false };
        let Slot::Occupied(mut slot) = self.0.entry(key) else { return false };
        *slot.get_mut() -= 1;
        if *slot.get() == 0 {
            slot.remove();
        }
        true
    }
}

/// Fetches the records of one batch; at most `max_bytes` of them.
pub(super) async fn stored(request: RequestBuilder, asked: &Asked, max_bytes: usize) -> Result<Stored, Refusal> {
    let mut query = range(std::slice::from_ref(asked));
    let _ = write!(query, "{BATCH_FIELD}:=\"{}\" | fields {KEY_FIELDS}", asked.id);
    let answer = ask(request, &query, max_bytes).await?;
    let mut stored = Stored::default();
    match lines(&answer).all(|line| stored.add(line)) {
        true => Ok(stored),
        false => Err(unreadable("record")),
    }
}

fn range(asked: &[Asked]) -> String {
    let first = asked.iter().map(|asked| asked.first_time).min().unwrap_or(0);
    let last = asked.iter().map(|asked| asked.last_time).max().unwrap_or(0);
    let mut text = b"_time:[".to_vec();
    time::write(first, &mut text);
    text.extend_from_slice(b", ");
    time::write(last, &mut text);
    text.extend_from_slice(b"] ");
    String::from_utf8(text).unwrap_or_default()
}

/// Sends a query. The answer counts only if it came whole: a part would pass for records that are not
/// there.
async fn ask(request: RequestBuilder, query: &str, max_bytes: usize) -> Result<Vec<u8>, Refusal> {
    let form =
        Url::parse_with_params("http://form", [("query", query)]).map_err(|error| unreadable(&error.to_string()))?;
    let body = form.query().unwrap_or_default().to_owned();
    let request = request.header(CONTENT_TYPE, "application/x-www-form-urlencoded").body(body);
    let broken = |error: reqwest::Error| Refusal::new(format!("cannot count stored records: {error}"));
    let mut response = request.send().await.map_err(broken)?;
    let status = response.status();
    let mut answer = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(broken)? {
        if answer.len() + chunk.len() > max_bytes {
            return Err(unreadable("length"));
        }
        answer.extend_from_slice(&chunk);
    }
    if status != reqwest::StatusCode::OK {
        let words = String::from_utf8_lossy(&answer[..answer.len().min(512)]).trim().to_owned();
        return Err(Refusal::new(format!("cannot count stored records: {status}: {words}")));
    }
    Ok(answer)
}

fn lines(answer: &[u8]) -> impl Iterator<Item = &[u8]> {
    answer.split(|&byte| byte == b'\n').filter(|line| !line.is_empty())
}

fn unreadable(what: &str) -> Refusal {
    Refusal::new(format!("the answer to a count cannot be understood: {what}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_is_found_again_as_the_store_shows_it() {
        // As it was sent, and as VictoriaLogs v1.121 gave it back.
        let sent =
            br#"{"_time":"2025-10-26T12:15:30.5+02:00","_msg":"tab\t\u00e9","cluster":"c","k8s_pod_name":"p","n":1}"#;
        let back =
            "{\"_time\":\"2025-10-26T10:15:30.5Z\",\"_msg\":\"tab\\té\",\"cluster\":\"c\",\"k8s_pod_name\":\"p\"}";
        let mut stored = Stored::default();
        assert!(stored.add(back.as_bytes()));
        assert!(stored.take(sent));
        assert!(!stored.take(sent), "each copy counts once");
    }

    #[test]
    fn records_of_two_pods_are_not_taken_for_each_other() {
        let line = |pod: &str| format!(r#"{{"_time":"2025-10-26T10:15:30Z","_msg":"x","k8s_pod_name":"{pod}"}}"#);
        let mut stored = Stored::default();
        assert!(stored.add(line("a").as_bytes()));
        assert!(!stored.take(line("b").as_bytes()));
        assert!(stored.take(line("a").as_bytes()));
    }

    #[test]
    fn the_range_covers_all_that_is_asked_for() {
        let asked = |first_time, last_time| Asked { id: BatchId(1), first_time, last_time };
        let text = range(&[asked(5, 2_000_000_000), asked(1_000_000_000, 3_000_000_001)]);
        assert_eq!(text, "_time:[1970-01-01T00:00:00.000000005Z, 1970-01-01T00:00:03.000000001Z] ");
    }
}
