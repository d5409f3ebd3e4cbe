//! VictoriaLogs, or vmauth before it: `POST {url}/insert/jsonline`, payloads as they came.
//!
//! The traps of the store, each tried on v1.121 (single node) and vmauth v1.130, or read in their source:
//! - it answers 200 and stores nothing for another content type than `application/stream+json`, and for
//!   a body that does not decompress;
//! - it answers 200 and drops records outside its retention, which it reckons in whole days (UTC);
//! - a 200 is in memory for some seconds: `kill -9` loses it;
//! - 400 means that every line was refused, or that vmauth has no route, which is no fault of a record;
//! - vmauth's 502 and 503 come also after the body was passed on in part, so they prove nothing;
//! - identical rows are stored twice; rows are visible after about a second.

mod access;
mod body;
mod classify;
mod lines;
mod query;

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::time::SystemTime;

use bytes::Bytes;
use reqwest::header::{AUTHORIZATION, CONTENT_ENCODING, CONTENT_TYPE};
use reqwest::{StatusCode, Url};
use sluice_wire::Encoding;

use self::access::Access;
use self::body::Chunks;
use self::lines::{Decoded, Lines};
use super::{Asked, Destination, Mode, Outcome, Receipt, Refusal, RejectReason, Rejected, Terms, Trailing};
use crate::config::checked;
use crate::deliver::batch::{Batch, BatchId};

/// The tenant, for vmauth.
const TENANT: &str = "x-scope-orgid";
/// The field that carries the batch's id. The agents rename fields of applications that are called so.
const BATCH_FIELD: &str = "sluice_batch";

/// Why the destination cannot be set up.
#[derive(Debug, thiserror::Error)]
pub(in crate::deliver) enum SetUp {
    #[error(transparent)]
    Access(#[from] access::Error),
    #[error("{url} is no URL: {why}")]
    Url { url: String, why: String },
}

/// One store.
pub(in crate::deliver) struct VictoriaLogs {
    config: checked::VictoriaLogs,
    access: RefCell<Access>,
    insert: Url,
    query: Url,
    /// It has taken a line since the gateway started.
    has_taken: Cell<bool>,
}

impl VictoriaLogs {
    /// Sets it up; sends nothing.
    pub(in crate::deliver) fn new(config: &checked::VictoriaLogs) -> Result<Self, SetUp> {
        let url = |path: &str, parameters: &[(&str, &str)]| {
            Url::parse_with_params(&format!("{}{path}", config.url), parameters)
                .map_err(|error| SetUp::Url { url: config.url.clone(), why: error.to_string() })
        };
        let stream_fields = config.stream_fields.join(",");
        let fields = [("_stream_fields", &*stream_fields), ("_time_field", "_time"), ("_msg_field", "_msg")];
        Ok(Self {
            insert: url("/insert/jsonline", &fields)?,
            query: url("/select/logsql/query", &[])?,
            access: RefCell::new(Access::new(config)?),
            has_taken: Cell::new(false),
            config: config.clone(),
        })
    }

    /// One request.
    async fn post(&self, tenant: &str, id: BatchId, encoding: Encoding, chunks: Vec<Bytes>) -> Outcome {
        let sent = self.post_once(tenant, id, encoding, chunks).await;
        let is_refused = sent.as_ref().is_ok_and(|response| response.status() == StatusCode::UNAUTHORIZED);
        let is_unreachable = sent.as_ref().is_err_and(reqwest::Error::is_connect);
        if is_refused || is_unreachable {
            self.access.borrow_mut().doubt();
        }
        match sent {
            Ok(response) => classify::response(response).await,
            Err(error) => classify::error(&error),
        }
    }

    async fn post_once(
        &self,
        tenant: &str,
        id: BatchId,
        encoding: Encoding,
        chunks: Vec<Bytes>,
    ) -> reqwest::Result<reqwest::Response> {
        let mut url = self.insert.clone();
        if self.config.batch_ids {
            url.query_pairs_mut().append_pair("extra_fields", &format!("{BATCH_FIELD}={id}"));
        }
        let mut request = self.request(url, tenant).header(CONTENT_TYPE, "application/stream+json");
        if encoding != Encoding::None {
            request = request.header(CONTENT_ENCODING, encoding.word());
        }
        request.body(reqwest::Body::wrap(Chunks::new(chunks))).send().await
    }

    fn request(&self, url: Url, tenant: &str) -> reqwest::RequestBuilder {
        let mut access = self.access.borrow_mut();
        access.refresh();
        let request = access.client().post(url).header(TENANT, tenant);
        match access.authorization() {
            Some(value) => request.header(AUTHORIZATION, value.clone()),
            None => request,
        }
    }

    /// The whole batch; only blocks that reach outside the store's days are looked into.
    async fn whole(&self, batch: &Batch) -> Outcome {
        let days = lines::Days::new(now(), self.config.retention, self.config.future);
        let mut receipt = Receipt { stored: batch.records, rejected: Vec::new() };
        let mut chunks = Vec::with_capacity(batch.entries.len());
        for (position, entry) in batch.members.iter().zip(&batch.entries) {
            let header = &entry.block.header;
            if days.hold(header.first_time) && days.hold(header.last_time) {
                chunks.push(entry.block.payload.clone());
                continue;
            }
            let sorted = Decoded::new(*position, entry).sort_by_days(&days);
            receipt.stored -= sorted.rejected.len() as u64;
            receipt.rejected.extend(sorted.rejected);
            if !sorted.kept.is_empty() {
                match lines::compress(&sorted.kept, batch.encoding) {
                    Ok(payload) => chunks.push(payload),
                    Err(error) => return Outcome::Retry(Refusal::new(format!("cannot compress: {error}"))),
                }
            }
        }
        if chunks.is_empty() {
            return Outcome::Delivered(receipt);
        }
        match self.post(&batch.tenant, batch.id, batch.encoding, chunks).await {
            Outcome::Delivered(_) => {
                self.has_taken.set(true);
                Outcome::Delivered(receipt)
            }
            other => other,
        }
    }

    /// What the store does not have of a batch that it has a part of; `give_up`: becomes dead letters.
    async fn missing(&self, batch: &Batch, give_up: bool) -> Outcome {
        let mut there = match self.stored(batch).await {
            Ok(there) => there,
            Err(refusal) => return Outcome::Unknown(refusal),
        };
        let wanted = self.wanted(batch);
        let total = wanted.lines.len() as u64;
        let missing = wanted.lines.retain(|line| !there.take(line));
        if give_up {
            let given_up = missing.reject(RejectReason::NotKept);
            let stored = total - given_up.len() as u64;
            return Outcome::Delivered(Receipt {
                stored,
                rejected: wanted.rejected.into_iter().chain(given_up).collect(),
            });
        }
        match self.by_lines(batch, missing).await {
            Ok(refused) => {
                let stored = total - refused.len() as u64;
                let rejected = wanted.rejected.into_iter().chain(refused).collect();
                Outcome::Delivered(Receipt { stored, rejected })
            }
            Err(outcome) => outcome,
        }
    }

    /// Every line, in parts that become smaller until those that are refused stand alone.
    async fn lines(&self, batch: &Batch) -> Outcome {
        let wanted = self.wanted(batch);
        let total = wanted.lines.len() as u64;
        match self.by_lines(batch, wanted.lines).await {
            Ok(refused) => {
                let stored = total - refused.len() as u64;
                let rejected = wanted.rejected.into_iter().chain(refused).collect();
                Outcome::Delivered(Receipt { stored, rejected })
            }
            Err(outcome) => outcome,
        }
    }

    /// The lines of a batch that the store would take by their time.
    fn wanted(&self, batch: &Batch) -> Wanted {
        let days = lines::Days::new(now(), self.config.retention, self.config.future);
        let mut wanted = Wanted::default();
        for (position, entry) in batch.members.iter().zip(&batch.entries) {
            let sorted = Decoded::new(*position, entry).sort_by_days(&days);
            wanted.lines.extend(sorted.kept);
            wanted.rejected.extend(sorted.rejected);
        }
        wanted
    }

    /// Sends lines under the batch's id, halving what is refused; returns the lines that are refused
    /// alone. `Err`: it stopped before the end, and what was sent by then is there.
    async fn by_lines(&self, batch: &Batch, lines: Lines) -> Result<Vec<Rejected>, Outcome> {
        let mut refused = Vec::new();
        let mut parts = lines.parts(self.config.batch_raw_bytes);
        let mut sent = false;
        let mut said = None;
        while let Some(part) = parts.pop() {
            let payload = lines::compress(&part, batch.encoding)
                .map_err(|error| Outcome::Retry(Refusal::new(format!("cannot compress: {error}"))))?;
            match self.post(&batch.tenant, batch.id, batch.encoding, vec![payload]).await {
                Outcome::Delivered(_) => {
                    sent = true;
                    self.has_taken.set(true);
                }
                Outcome::Split(refusal) => match part.halves() {
                    Ok((first, second)) => parts.extend([second, first]),
                    Err((position, line)) => {
                        said = Some(refusal.why);
                        refused.push(Rejected { position, reason: RejectReason::Refused, line });
                    }
                },
                // What went before this part is stored, so the batch as a whole is in doubt.
                Outcome::Retry(refusal) | Outcome::Hold(refusal) if sent => return Err(Outcome::Unknown(refusal)),
                other => return Err(other),
            }
        }
        match said {
            Some(said) if !sent => self.takes_others(batch, &said).await.map(|()| refused),
            _ => Ok(refused),
        }
    }

    /// Whether it can be the fault of lines that every one of them is refused: the store has taken others,
    /// and takes an insert without lines now. If not, no line may be given up for it.
    async fn takes_others(&self, batch: &Batch, said: &str) -> Result<(), Outcome> {
        let hold = |why: &str| {
            Outcome::Hold(Refusal::new(format!(
                "every line is refused alone ({said}), and {why}: check the URL's scheme, port and path, and the proxies on the way"
            )))
        };
        if !self.has_taken.get() {
            return Err(hold("no other one was taken since the gateway started"));
        }
        let nothing = lines::compress(&Lines::default(), batch.encoding)
            .map_err(|error| Outcome::Retry(Refusal::new(format!("cannot compress: {error}"))))?;
        match self.post(&batch.tenant, batch.id, batch.encoding, vec![nothing]).await {
            Outcome::Delivered(_) => Ok(()),
            Outcome::Split(_) => Err(hold("so is a request without lines")),
            other => Err(other),
        }
    }

    async fn stored(&self, batch: &Batch) -> Result<query::Stored, Refusal> {
        let asked = Asked { id: batch.id, first_time: batch.first_time, last_time: batch.last_time };
        let request = self.request(self.query.clone(), &batch.tenant);
        // Rows come back larger than they went: names and escapes repeat. Twice the raw size, and some.
        query::stored(request, &asked, 2 * self.config.batch_raw_bytes + (8 << 20)).await
    }
}

#[derive(Default)]
struct Wanted {
    lines: Lines,
    rejected: Vec<Rejected>,
}

impl Destination for VictoriaLogs {
    fn terms(&self) -> Terms {
        let config = &self.config;
        Terms {
            batch_bytes: config.batch_bytes,
            batch_raw_bytes: config.batch_raw_bytes,
            batch_age: config.batch_age,
            concurrency: config.concurrency,
            ordered: false,
            mixes_encodings: false,
            trailing: match config.batch_ids {
                true => Trailing::Count(config.durable_after),
                false => Trailing::Wait(config.durable_after),
            },
        }
    }

    async fn send(&self, batch: &Batch, mode: Mode) -> Outcome {
        match mode {
            Mode::Whole => self.whole(batch).await,
            Mode::Missing => self.missing(batch, false).await,
            Mode::GiveUp => self.missing(batch, true).await,
            Mode::Lines => self.lines(batch).await,
        }
    }

    async fn count(&self, tenant: &str, asked: &[Asked]) -> Result<Vec<u64>, Refusal> {
        let counts = query::count(self.request(self.query.clone(), tenant), asked).await;
        let counts: HashMap<BatchId, u64> = counts.inspect_err(|_| self.access.borrow_mut().doubt())?;
        Ok(asked.iter().map(|asked| counts.get(&asked.id).copied().unwrap_or(0)).collect())
    }

    /// Nothing: what matters is at the store, and in the record of batches.
    fn state(&self) -> Vec<u8> {
        Vec::new()
    }
}

/// Nanoseconds since the epoch.
fn now() -> i64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_nanos()).unwrap_or(i64::MAX)
}
