//! The load: producers as agents are, each with a connection of its own and a request under way.
//!
//! A request carries one block of each of the producer's lanes; the next is sent when its verdicts are here
//! (at most one request of a lane is under way), so more load is more producers, not more haste.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::{
    Method, Request,
    client::conn::http1::{SendRequest, handshake},
    header::{CONTENT_TYPE, HOST},
};
use hyper_util::rt::TokioIo;
use sluice_harness::{
    latency::{Latencies, now_ns},
    line::{LineId, Stream},
};
use sluice_wire::{
    Category, Lane, ProducerId, Verdict,
    push::{self, Hello},
};
use tokio::{net::TcpStream, time::Instant};

use super::template::{Place, Template};
use crate::{
    error::{Error, Result},
    node::{CLUSTER, NODE},
};

/// What a producer sent and was answered.
#[derive(Debug, Clone, Default)]
pub(super) struct Sent {
    pub(super) requests: u64,
    pub(super) blocks: u64,
    pub(super) records: u64,
    pub(super) raw_bytes: u64,
    pub(super) wire_bytes: u64,
    /// Blocks that were answered `retry-after`.
    pub(super) put_off: u64,
    /// From the request's first byte to its verdicts, for each request.
    pub(super) acknowledged: Vec<Duration>,
}

/// An agent, as far as a gateway can tell.
#[derive(Debug)]
pub(super) struct Producer {
    sender: SendRequest<Full<Bytes>>,
    host: String,
    journal: String,
    run: u32,
    lanes: Vec<Sending>,
    sent: Sent,
}

enum Answer {
    Body(Bytes),
    /// A refusal of the whole request.
    ForAll(Verdict),
}

#[derive(Debug)]
struct Sending {
    lane: Lane,
    source: u32,
    templates: Arc<[Template]>,
    /// The next block's, rising also over blocks that were put off.
    number: u64,
    /// The next block's own line: dense.
    seq: u64,
}

impl Producer {
    /// Connects and greets. `lanes`: namespace and blocks of each. `index` tells producers apart.
    pub(super) async fn connect(
        gateway: SocketAddr,
        run: u32,
        index: u32,
        lanes: impl IntoIterator<Item = (String, Arc<[Template]>)>,
    ) -> Result<Self> {
        let mut producer = [0; 16];
        producer[..4].copy_from_slice(&run.to_le_bytes());
        producer[4..8].copy_from_slice(&index.to_le_bytes());
        let lanes = lanes.into_iter().zip(0..).map(|((namespace, templates), nth)| Sending {
            lane: Lane {
                producer: ProducerId(producer),
                category: Category::Application,
                scope: namespace.into(),
                split: "".into(),
            },
            source: index << 8 | nth,
            templates,
            number: 1,
            seq: 0,
        });
        let stream = TcpStream::connect(gateway).await.map_err(|source| system("cannot connect", source))?;
        stream.set_nodelay(true).map_err(|source| system("cannot connect", source))?;
        let (sender, connection) = handshake(TokioIo::new(stream)).await.map_err(|error| failed(&error))?;
        // Ends with the connection; who waits for an answer hears of it.
        tokio::spawn(connection);
        let (host, journal) = (gateway.to_string(), String::new());
        let mut producer = Self { sender, host, journal, run, lanes: lanes.collect(), sent: Sent::default() };
        let hello: Hello = match producer.exchange(Method::GET, Bytes::new()).await? {
            Answer::Body(body) => serde_json::from_slice(&body).map_err(|error| failed(&error))?,
            Answer::ForAll(verdict) => return Err(Error::Setup(format!("the gateway greets with `{verdict}`"))),
        };
        producer.journal = hello.journal;
        Ok(producer)
    }

    /// Sends until `end`, and gives what was sent.
    pub(super) async fn run(mut self, end: Instant) -> Result<Sent> {
        while Instant::now() < end {
            let mut body = Vec::with_capacity(1 << 20);
            let mut sizes = Vec::with_capacity(self.lanes.len());
            for lane in &self.lanes {
                sizes.push(lane.write(self.run, &mut body)?);
            }
            self.sent.wire_bytes += body.len() as u64;
            let started = Instant::now();
            let verdicts = match self.exchange(Method::POST, body.into()).await? {
                Answer::Body(body) => read(&body, sizes.len())?,
                Answer::ForAll(verdict) => vec![verdict; sizes.len()],
            };
            self.sent.acknowledged.push(started.elapsed());
            self.sent.requests += 1;
            self.take_in(&verdicts, &sizes).await?;
        }
        Ok(self.sent)
    }

    async fn take_in(&mut self, verdicts: &[Verdict], sizes: &[(u32, u32)]) -> Result<()> {
        let mut wait = Duration::ZERO;
        for ((lane, verdict), (raw, records)) in self.lanes.iter_mut().zip(verdicts).zip(sizes) {
            // A number is used once, whatever became of it.
            lane.number += 1;
            match verdict {
                Verdict::Accepted => {
                    lane.seq += 1;
                    self.sent.blocks += 1;
                    self.sent.raw_bytes += u64::from(*raw);
                    self.sent.records += u64::from(*records);
                }
                Verdict::RetryAfter(after, _) => {
                    self.sent.put_off += 1;
                    wait = wait.max(*after);
                }
                other => return Err(Error::Setup(format!("the gateway answered `{other}` to a sound block"))),
            }
        }
        if !wait.is_zero() {
            tokio::time::sleep(wait).await;
        }
        Ok(())
    }

    async fn exchange(&mut self, method: Method, body: Bytes) -> Result<Answer> {
        let request = Request::builder()
            .method(method)
            .uri(push::PATH)
            .header(HOST, &self.host)
            .header(CONTENT_TYPE, push::CONTENT_TYPE)
            .header(push::JOURNAL_HEADER, &self.journal)
            .body(Full::new(body))
            .map_err(|error| failed(&error))?;
        let response = self.sender.send_request(request).await.map_err(|error| failed(&error))?;
        let (parts, body) = response.into_parts();
        let body = body.collect().await.map_err(|error| failed(&error))?.to_bytes();
        if parts.status == 200 {
            return Ok(Answer::Body(body));
        }
        let verdict = parts.headers.get(push::VERDICT_HEADER).and_then(|verdict| verdict.to_str().ok()?.parse().ok());
        let unknown =
            || Error::Setup(format!("the gateway answered {}: {}", parts.status, String::from_utf8_lossy(&body)));
        verdict.map(Answer::ForAll).ok_or_else(unknown)
    }
}

impl Sending {
    fn write(&self, run: u32, out: &mut Vec<u8>) -> Result<(u32, u32)> {
        let template = &self.templates[usize::try_from(self.number).unwrap_or(0) % self.templates.len()];
        let id = LineId { run, source: self.source, stream: Stream::Stdout, seq: self.seq };
        let place = Place { number: self.number, id, now_ns: now_ns(), cluster: CLUSTER, node: NODE };
        template.write(&self.lane, place, out)
    }
}

impl Sent {
    pub(super) fn add(&mut self, other: Self) {
        let Self { requests, blocks, records, raw_bytes, wire_bytes, put_off, acknowledged } = other;
        self.requests += requests;
        self.blocks += blocks;
        self.records += records;
        self.raw_bytes += raw_bytes;
        self.wire_bytes += wire_bytes;
        self.put_off += put_off;
        self.acknowledged.extend(acknowledged);
    }

    pub(super) fn latencies(&self) -> Latencies {
        let mut latencies = Latencies::default();
        for time in &self.acknowledged {
            latencies.record(0, u64::try_from(time.as_nanos()).unwrap_or(u64::MAX));
        }
        latencies
    }
}

fn read(body: &[u8], blocks: usize) -> Result<Vec<Verdict>> {
    let body = std::str::from_utf8(body).map_err(|error| failed(&error))?;
    push::read_verdicts(body, blocks).map_err(|error| Error::Setup(format!("the gateway's answer {body:?}: {error}")))
}

fn failed(error: &dyn std::fmt::Display) -> Error {
    Error::Setup(format!("talking to the gateway: {error}"))
}

fn system(what: &'static str, source: std::io::Error) -> Error {
    Error::System { what, source }
}

#[cfg(test)]
mod tests {
    use sluice_harness::sink::{self, Sink};

    use super::*;
    use crate::{
        gateway::{records::Records, template::Size},
        push::PushSink,
    };

    #[tokio::test]
    async fn every_block_arrives_with_a_line_of_its_own() {
        let lines = Sink::default();
        let push = PushSink::new(lines.clone());
        let address = sink::serve(([127, 0, 0, 1], 0).into(), push.router()).await.unwrap();
        let mut records = Records::new("team-a", 50, 1, 1_700_000_000_000_000_000);
        let templates: Arc<[_]> = [Template::fill(&mut records, Size::Raw(20_000)).unwrap()].into();
        let lanes = |from: u32| (from..from + 3).map(|n| (format!("team-{n}"), templates.clone())).collect::<Vec<_>>();
        let end = Instant::now() + Duration::from_millis(300);
        let mut sent = Sent::default();
        for index in 0..2 {
            sent.add(Producer::connect(address, 1, index, lanes(index)).await.unwrap().run(end).await.unwrap());
        }
        let report = lines.report();
        assert!(sent.blocks >= 3 && sent.requests * 3 == sent.blocks, "{sent:?}");
        assert_eq!((report.distinct, report.duplicates, report.missing), (sent.blocks, 0, 0));
        assert_eq!((report.records, report.wire_bytes), (sent.records, sent.wire_bytes));
    }
}
