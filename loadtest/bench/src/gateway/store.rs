//! The place that the gateway delivers to: VictoriaLogs' two endpoints that it uses, over the harness' sink.
//!
//! Every zstd frame of a request is decompressed into the same buffer, its lines are counted and numbered
//! lines are looked for. Lines are also counted by `sluice_batch`, and told to who asks: truthfully, so a
//! gateway that believes the count is measured with what the count costs it.

use std::{
    collections::HashMap,
    fmt::Write as _,
    sync::{Arc, Mutex},
};

use axum::{
    Router,
    extract::{DefaultBodyLimit, RawQuery, State},
    http::{HeaderMap, StatusCode, header::CONTENT_ENCODING},
    routing::post,
};
use bytes::Bytes;
use sluice_harness::{latency::now_ns, sink::Sink};
use sluice_wire::limits;
use zstd::{bulk::Decompressor, zstd_safe::find_frame_compressed_size};

#[derive(Clone)]
pub(super) struct Store(Arc<Mutex<Shelf>>);

struct Shelf {
    lines: Sink,
    zstd: Decompressor<'static>,
    raw: Vec<u8>,
    batches: HashMap<String, u64>,
    seen: Seen,
}

/// What was seen of requests, beside their lines.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct Seen {
    pub(super) inserts: u64,
    pub(super) queries: u64,
    pub(super) refused: u64,
    pub(super) records: u64,
    pub(super) wire_bytes: u64,
}

impl Store {
    /// # Errors
    /// When there is no memory for a decompressor.
    pub(super) fn new(lines: Sink) -> std::io::Result<Self> {
        let (zstd, raw) = (Decompressor::new()?, Vec::with_capacity(limits::BLOCK_RAW));
        let shelf = Shelf { lines, zstd, raw, batches: HashMap::new(), seen: Seen::default() };
        Ok(Self(Arc::new(Mutex::new(shelf))))
    }

    pub(super) fn seen(&self) -> Seen {
        self.0.lock().expect("nobody panics in here").seen
    }

    pub(super) fn router(&self) -> Router {
        Router::new()
            .route("/insert/jsonline", post(insert))
            .route("/select/logsql/query", post(query))
            .layer(DefaultBodyLimit::disable())
            .with_state(self.clone())
    }
}

impl Shelf {
    fn insert(&mut self, batch: Option<String>, body: &[u8]) -> Result<(), String> {
        let received_ns = now_ns();
        let mut records = 0;
        let mut rest = body;
        while !rest.is_empty() {
            let length = find_frame_compressed_size(rest).map_err(|_| "no zstd frame".to_owned())?;
            let (frame, after) = rest.split_at(length);
            rest = after;
            self.raw.clear();
            self.zstd.decompress_to_buffer(frame, &mut self.raw).map_err(|error| error.to_string())?;
            records += memchr::memchr_iter(b'\n', &self.raw).count() as u64;
            self.lines.take_lines(&self.raw, length as u64, received_ns);
        }
        self.seen.records += records;
        *self.batches.entry(batch.unwrap_or_default()).or_default() += records;
        Ok(())
    }

    /// To `… sluice_batch:in("id","id") | stats by (sluice_batch) count() rows`.
    fn count(&self, query: &str) -> Option<String> {
        let (_, ids) = query.split_once("sluice_batch:in(")?;
        let (ids, stats) = ids.split_once(')')?;
        stats.contains("count() rows").then_some(())?;
        let mut answer = String::new();
        for id in ids.split(',').map(|id| id.trim_matches('"')) {
            if let Some(rows) = self.batches.get(id) {
                // Writing to a String cannot fail.
                let _ = writeln!(answer, "{{\"sluice_batch\":\"{id}\",\"rows\":\"{rows}\"}}");
            }
        }
        Some(answer)
    }
}

async fn insert(
    State(store): State<Store>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
    body: Bytes,
) -> Result<(), (StatusCode, String)> {
    let mut shelf = store.0.lock().expect("nobody panics in here");
    shelf.seen.inserts += 1;
    shelf.seen.wire_bytes += body.len() as u64;
    let taken = if headers.get(CONTENT_ENCODING).is_some_and(|encoding| encoding == "zstd") {
        let batch = field(query.unwrap_or_default().as_bytes(), "extra_fields");
        shelf.insert(batch.and_then(|fields| fields.strip_prefix("sluice_batch=").map(str::to_owned)), &body)
    } else {
        Err("this store takes zstd only".to_owned())
    };
    taken.map_err(|why| {
        shelf.seen.refused += 1;
        (StatusCode::BAD_REQUEST, why)
    })
}

async fn query(State(store): State<Store>, body: Bytes) -> Result<String, (StatusCode, String)> {
    let mut shelf = store.0.lock().expect("nobody panics in here");
    shelf.seen.queries += 1;
    let query = field(&body, "query").unwrap_or_default();
    // Records themselves are asked for only after a request whose fate is unknown: there is none here.
    shelf.count(&query).ok_or_else(|| (StatusCode::NOT_IMPLEMENTED, format!("not a count of batches: {query}")))
}

fn field(form: &[u8], name: &str) -> Option<String> {
    form_urlencoded::parse(form).find(|(key, _)| key == name).map(|(_, value)| value.into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn batches_are_counted_and_told() {
        let store = Store::new(Sink::default()).unwrap();
        let mut shelf = store.0.lock().unwrap();
        let frame = |text: &str| zstd::bulk::compress(text.as_bytes(), 1).unwrap();
        let body = [frame("{\"a\":1}\n{\"a\":2}\n"), frame("{\"a\":3}\n")].concat();
        shelf.insert(Some("00ff".to_owned()), &body).unwrap();
        shelf.insert(Some("0100".to_owned()), &frame("{}\n")).unwrap();
        let query = "_time:[2025-01-01T00:00:00Z, 2025-01-02T00:00:00Z] sluice_batch:in(\"00ff\",\"0aaa\") | stats by (sluice_batch) count() rows";
        assert_eq!(shelf.count(query).unwrap(), "{\"sluice_batch\":\"00ff\",\"rows\":\"3\"}\n");
        assert_eq!(shelf.count("sluice_batch:=\"00ff\" | fields _msg"), None);
        assert!(shelf.insert(None, b"no frame").is_err());
    }
}
