use std::collections::HashMap;
use std::pin::Pin;
use std::task::Poll;

use super::*;
use axum::body::Body;
use axum::extract::Extension;
use bytes::Bytes;
use futures_util::StreamExt as _;
use http::header::{AUTHORIZATION, CONNECTION, CONTENT_LENGTH, CONTENT_TYPE, RETRY_AFTER};
use http::{Request, StatusCode};
use http_body_util::{BodyExt as _, StreamBody};
use prometheus::Registry;
use sluice_wire::push::{CONTENT_TYPE as BLOCKS, Hello, JOURNAL_HEADER, VERDICT_HEADER, VERDICTS_TYPE};
use sluice_wire::{Block, Category, Encoding, Header, limits};
use tower::ServiceExt as _;

use super::testing::{LINES, MemoryJournal, block, frame};
use crate::config::testing::{SMALL, config};
use crate::journal::{Appended, Position};
use crate::serve::Peer;

const POLICY: &str = "
  identities:
    - {name: a, token_file: /tokens/a, clusters: [apps]}
    - {name: b, token_file: /tokens/b}
    - {name: here, loopback: true}
  tenants:
    rules:
      - {namespaces: [pay], tenant: payments}
      - {namespaces: ['team-*', ns], tenant: teams}
  limits:
    tenants:
      payments: {bytes_per_second: 1000, bytes_burst: 200}
  routes: [{tenants: [payments], destinations: [logs]}]
  default_destinations: [local]
";

/// A gateway's push listener over a journal in memory.
struct Door {
    receiver: Arc<Receiver<MemoryJournal>>,
    registry: Registry,
}

#[derive(Debug, PartialEq, Eq)]
struct Reply {
    status: StatusCode,
    headers: HashMap<String, String>,
    body: String,
}

impl Reply {
    /// The verdict that stands for all blocks.
    fn verdict(&self) -> &str {
        self.headers.get(VERDICT_HEADER).map_or("", String::as_str)
    }

    fn lines(&self) -> Vec<&str> {
        assert_eq!(self.status, StatusCode::OK, "{self:?}");
        self.body.lines().collect()
    }
}

impl Door {
    fn new() -> Self {
        Self::with(&format!("{SMALL}{POLICY}"))
    }

    fn with(text: &str) -> Self {
        let registry = Registry::new();
        let metrics = ReceiveMetrics::register(&registry).unwrap();
        let receiver = Receiver::new(MemoryJournal::default(), &config(text), metrics);
        Self { receiver: Arc::new(receiver), registry }
    }

    async fn send(&self, request: Request<Body>) -> Reply {
        let address = "10.0.0.1".parse().unwrap();
        self.send_from(Peer { address, local: address, names: Vec::new() }, request).await
    }

    async fn send_from(&self, peer: Peer, request: Request<Body>) -> Reply {
        let router = self.receiver.router().layer(Extension(Arc::new(peer)));
        let response = router.oneshot(request).await.unwrap();
        let status = response.status();
        let text = |value: &http::HeaderValue| value.to_str().unwrap().to_owned();
        let headers = response.headers().iter().map(|(name, value)| (name.to_string(), text(value))).collect();
        let body = response.into_body().collect().await.unwrap().to_bytes();
        Reply { status, headers, body: String::from_utf8(body.to_vec()).unwrap() }
    }

    /// Pushes frames as identity `a`.
    async fn push(&self, frames: &[Vec<u8>]) -> Reply {
        self.send(request(frames.concat())).await
    }

    async fn push_blocks(&self, blocks: &[Block]) -> Vec<String> {
        let frames: Vec<_> = blocks.iter().map(frame).collect();
        self.push(&frames).await.lines().into_iter().map(str::to_owned).collect()
    }

    fn stored(&self) -> Vec<(String, u64)> {
        self.receiver.journal.stored()
    }

    fn answers(&self, answers: &[Appended]) {
        *self.receiver.journal.answers.lock().unwrap() = answers.to_vec();
    }

    /// The sum of a counter over its labels.
    fn metric(&self, name: &str) -> f64 {
        let families = self.registry.gather();
        let family = families.iter().find(|family| family.name() == format!("sluice_gateway_receive_{name}"));
        family.map_or(0.0, |family| family.get_metric().iter().map(|metric| metric.get_counter().get_value()).sum())
    }
}

fn request(body: Vec<u8>) -> Request<Body> {
    Request::post(PATH)
        .header(AUTHORIZATION, "Bearer secret-a")
        .header(CONTENT_TYPE, BLOCKS)
        .header(JOURNAL_HEADER, MemoryJournal::ID.to_string())
        .header(CONTENT_LENGTH, body.len())
        .body(Body::from(body))
        .unwrap()
}

/// A block whose header was changed after the truth was told.
fn lying(scope: &str, number: u64, lie: impl FnOnce(&mut Block)) -> Block {
    let mut block = block(scope, number);
    lie(&mut block);
    block
}

fn changed_payload(block: &mut Block, payload: &str) {
    block.payload = Bytes::from(payload.to_owned());
    block.header.payload_crc = crc32c::crc32c(payload.as_bytes());
}

async fn poll_once<T>(mut future: Pin<&mut impl Future<Output = T>>) -> Poll<T> {
    std::future::poll_fn(|context| Poll::Ready(future.as_mut().poll(context))).await
}

#[tokio::test]
async fn the_greeting_tells_the_journal_to_those_who_may_send() {
    let door = Door::new();
    let greet = |token: &str| Request::get(PATH).header(AUTHORIZATION, token).body(Body::empty()).unwrap();
    let reply = door.send(greet("Bearer secret-a")).await;
    assert_eq!(reply.status, StatusCode::OK);
    assert_eq!(serde_json::from_str::<Hello>(&reply.body).unwrap(), Hello::new(MemoryJournal::ID));
    assert_eq!(door.send(greet("Bearer other")).await.status, StatusCode::UNAUTHORIZED);
}

#[tokio::test]
async fn blocks_are_stored_with_what_decides_their_way_in_one_append() {
    let door = Door::new();
    let reply = door.push(&[frame(&block("pay", 1)), frame(&block("team-x", 2)), frame(&block("pay", 3))]).await;
    assert_eq!(reply.lines(), ["accepted"; 3]);
    assert_eq!(reply.headers[CONTENT_TYPE.as_str()], VERDICTS_TYPE);
    assert_eq!(reply.headers[JOURNAL_HEADER], MemoryJournal::ID.to_string());
    assert_eq!(*door.receiver.journal.calls.lock().unwrap(), 1);
    let entries = door.receiver.journal.entries.lock().unwrap();
    let way =
        |index: usize| (&*entries[index].tenant, entries[index].destinations.join(" "), &*entries[index].identity);
    assert_eq!(way(0), ("payments", "logs".to_owned(), "a"));
    assert_eq!(way(1), ("teams", "local".to_owned(), "a"));
    assert_eq!(entries[0].block, block("pay", 1));
    assert_ne!(entries[0].policy, 0);
    assert!(entries[0].received > 1_700_000_000_000_000_000);
}

#[tokio::test]
async fn each_lie_has_its_verdict_and_its_neighbours_are_stored() {
    type Lie = fn(&mut Block);
    let lies: [(&str, Lie); 8] = [
        ("count", |block| block.header.records = 3),
        ("count", |block| block.header.longest -= 1),
        ("encoding", |block| block.header.raw_len += 1),
        ("encoding", |block| block.header.encoding = Encoding::Zstd),
        ("times", |block| block.header.first_time += 1),
        ("not-records", |block| changed_payload(block, &format!("{}}}", LINES.trim_end()))),
        ("not-records", |block| changed_payload(block, &LINES.replace("{\"_time", " {\"time"))),
        ("times", |block| changed_payload(block, &LINES.replace("2025", "20x5"))),
    ];
    for (reason, lie) in lies {
        let door = Door::new();
        let verdicts = door.push_blocks(&[block("team-a", 1), lying("team-b", 2, lie), block("team-c", 3)]).await;
        assert_eq!(verdicts[1], format!("rejected {reason}"));
        assert_eq!((&*verdicts[0], &*verdicts[2]), ("accepted", "accepted"));
        assert_eq!(door.stored(), [("team-a".to_owned(), 1), ("team-c".to_owned(), 3)]);
    }
}

#[tokio::test]
async fn a_sample_has_its_json_parsed_and_the_same_block_always_alike() {
    let door = Door::new();
    let mut rejected = Vec::new();
    for number in 1..=2000 {
        let broken = lying("team-a", number, |block| {
            let payload = LINES.replace("\"one\"", "\"one,");
            changed_payload(block, &payload);
        });
        if door.push_blocks(std::slice::from_ref(&broken)).await[0] == "rejected json" {
            rejected.push(number);
            assert_eq!(door.push_blocks(&[broken]).await, ["rejected json"]);
        }
    }
    assert!((15..60).contains(&rejected.len()), "{rejected:?}");
}

#[tokio::test]
async fn a_block_that_cannot_be_opened_is_answered_by_its_kind() {
    let flip = |mut frame: Vec<u8>, at: usize| {
        frame[at] ^= 1;
        frame
    };
    let door = Door::new();
    let first = frame(&block("team-a", 1));
    let last = first.len() - 1;
    // A header that is not to be believed: its lane may be any.
    let broken = flip(first.clone(), 30);
    let reply = door.push(&[frame(&block("team-b", 1)), broken, frame(&block("team-c", 1))]).await;
    assert_eq!(reply.lines(), ["accepted", "rejected checksum", "retry-after 0 behind"]);
    // A sound header: its own lane waits.
    let broken = flip(first.clone(), last);
    let reply = door.push(&[broken, frame(&block("team-c", 1)), frame(&block("team-a", 2))]).await;
    assert_eq!(reply.lines(), ["rejected checksum", "accepted", "retry-after 0 behind"]);

    let mut future = first.clone();
    future[4] = 2;
    let crc = crc32c::crc32c(&future[..20]);
    future[20..24].copy_from_slice(&crc.to_le_bytes());
    let reply = door.push(&[future, frame(&block("team-c", 2))]).await;
    assert_eq!(reply.lines(), ["retry-after 30000 version", "accepted"]);
}

#[tokio::test]
async fn what_is_no_sequence_of_frames_is_stored_in_no_part() {
    let door = Door::new();
    let good = frame(&block("team-a", 1));
    for broken in [[&good[..], b"rest"].concat(), good[..good.len() - 1].to_vec(), b"{}".to_vec()] {
        let reply = door.push(&[good.clone(), broken]).await;
        assert_eq!((reply.status, reply.verdict()), (StatusCode::BAD_REQUEST, "retry-after 0 framing"));
    }
    assert_eq!(door.stored(), []);
    assert_eq!(door.push(&[]).await.lines(), [""; 0]);
}

#[tokio::test]
async fn rule_4_after_a_refused_block_no_later_one_of_its_lane_is_stored() {
    let door = Door::new();
    let refused = lying("team-a", 2, |block| block.header.records = 9);
    let blocks = [block("team-a", 1), refused, block("team-b", 3), block("team-a", 4), block("team-a", 5)];
    let verdicts = door.push_blocks(&blocks).await;
    assert_eq!(verdicts, ["accepted", "rejected count", "accepted", "retry-after 0 behind", "retry-after 0 behind"]);
    assert_eq!(door.stored(), [("team-a".to_owned(), 1), ("team-b".to_owned(), 3)]);
    assert_eq!(door.push_blocks(&[block("team-a", 6)]).await, ["accepted"], "the next request begins anew");
}

#[tokio::test]
async fn what_the_journal_answers_becomes_the_verdict() {
    let door = Door::new();
    let stored = Appended::Stored(Position { partition: 0, index: 0 });
    door.answers(&[
        stored,
        Appended::Duplicate,
        Appended::Behind,
        Appended::Full,
        Appended::Unavailable,
        Appended::Unknown,
    ]);
    let blocks: Vec<_> = (1..=6).map(|number| block(&format!("team-{number}"), number)).collect();
    let verdicts = door.push_blocks(&blocks).await;
    let expected = [
        "accepted",
        "accepted",
        "retry-after 0 behind",
        "retry-after 1000 journal-full",
        "retry-after 1000 journal-unavailable",
        "unknown journal-failed",
    ];
    assert_eq!(verdicts, expected);
    let blocks = |what: &str| door.metric(&format!("{what}blocks_total"));
    assert_eq!([blocks(""), blocks("accepted_"), blocks("refused_"), blocks("unknown_")], [6.0, 2.0, 3.0, 1.0]);
    assert_eq!([door.metric("lines_total"), blocks("duplicate_")], [12.0, 1.0]);
}

#[tokio::test]
async fn what_is_not_stored_does_not_use_up_the_limit() {
    let door = Door::new();
    let size = LINES.len();
    assert!(size * 2 <= 200 && size * 3 > 200, "the burst holds two blocks: {size}");
    for not_stored in [Appended::Duplicate, Appended::Full, Appended::Unavailable, Appended::Behind] {
        for number in 1..=3 {
            door.answers(&[not_stored]);
            assert!(!door.push_blocks(&[block("pay", number)]).await[0].contains("limit"), "{not_stored:?}");
        }
    }
    let lie = lying("pay", 4, |block| block.header.records = 9);
    assert_eq!(door.push_blocks(&[lie]).await, ["rejected count"]);
    let verdicts = door.push_blocks(&[block("pay", 5), block("pay", 6), block("pay", 7), block("team-a", 8)]).await;
    assert_eq!((&*verdicts[0], &*verdicts[1], &*verdicts[3]), ("accepted", "accepted", "accepted"));
    assert!(verdicts[2].starts_with("retry-after ") && verdicts[2].ends_with(" limit-bytes"), "{verdicts:?}");
}

#[tokio::test]
async fn a_block_outside_of_its_credential_is_refused_alone_and_not_dropped() {
    let door = Door::new();
    let outside = lying("team-a", 1, |block| block.header.cluster = "infra".into());
    let no_tenant = block("nobodys", 2);
    let verdicts = door.push_blocks(&[outside, no_tenant, block("team-b", 3)]).await;
    assert_eq!(verdicts, ["retry-after 30000 forbidden", "retry-after 30000 forbidden", "accepted"]);

    // The producer is a's since.
    let mut stolen = request(frame(&block("team-c", 4)));
    stolen.headers_mut().insert(AUTHORIZATION, "Bearer secret-b".parse().unwrap());
    assert_eq!(door.send(stolen).await.lines(), ["retry-after 30000 forbidden"]);
}

#[tokio::test]
async fn without_a_known_credential_nothing_is_read_and_nothing_is_lost() {
    let door = Door::new();
    for token in [None, Some("Bearer other"), Some("Basic secret-a")] {
        let mut request = request(b"not even frames".to_vec());
        request.headers_mut().remove(AUTHORIZATION);
        if let Some(token) = token {
            request.headers_mut().insert(AUTHORIZATION, token.parse().unwrap());
        }
        let reply = door.send(request).await;
        assert_eq!((reply.status, reply.verdict()), (StatusCode::UNAUTHORIZED, "retry-after 30000 unauthenticated"));
    }
    let mut local = request(frame(&block("team-a", 1)));
    local.headers_mut().remove(AUTHORIZATION);
    let address = "127.0.0.1".parse().unwrap();
    let reply = door.send_from(Peer { address, local: address, names: Vec::new() }, local).await;
    assert_eq!(reply.lines(), ["accepted"]);
}

#[tokio::test]
async fn another_journal_another_type_and_draining_are_refused_as_a_whole() {
    let door = Door::new();
    let of = |name: http::HeaderName, value: &'static str| {
        let mut request = request(frame(&block("team-a", 1)));
        request.headers_mut().insert(name, value.parse().unwrap());
        door.send(request)
    };
    let journal = http::HeaderName::from_static(JOURNAL_HEADER);
    let reply = of(journal.clone(), "00000000000000000000000000000000").await;
    assert_eq!((reply.status, reply.verdict()), (StatusCode::PRECONDITION_FAILED, "retry-after 0 wrong-journal"));
    assert_eq!(of(journal, "abababababababababababababababab").await.lines(), ["accepted"]);
    let reply = of(CONTENT_TYPE, "application/json").await;
    assert_eq!((reply.status, reply.verdict()), (StatusCode::UNSUPPORTED_MEDIA_TYPE, "retry-after 30000 version"));
    let mut nameless = request(frame(&block("team-a", 1)));
    nameless.headers_mut().remove(JOURNAL_HEADER);
    assert_eq!(door.send(nameless).await.verdict(), "retry-after 0 wrong-journal");

    door.receiver.drain();
    let reply = door.push(&[frame(&block("team-a", 2))]).await;
    assert_eq!((reply.status, reply.verdict()), (StatusCode::SERVICE_UNAVAILABLE, "retry-after 1000 draining"));
    assert_eq!((&*reply.headers[RETRY_AFTER.as_str()], &*reply.headers[CONNECTION.as_str()]), ("1", "close"));
    assert_eq!(door.stored().len(), 1);
}

#[tokio::test]
async fn a_body_over_its_cap_is_refused_by_its_length_or_as_it_comes() {
    let door = Door::new();
    let mut long = request(Vec::new());
    long.headers_mut().insert(CONTENT_LENGTH, (limits::REQUEST + 1).into());
    let too_large = format!("too-large {} request", limits::REQUEST);
    let reply = door.send(long).await;
    assert_eq!((reply.status, reply.verdict()), (StatusCode::PAYLOAD_TOO_LARGE, &*too_large));

    let piece = || Ok::<_, std::io::Error>(hyper::body::Frame::data(Bytes::from(vec![0; 1 << 20])));
    let long = Body::new(StreamBody::new(futures_util::stream::iter((0..16).map(move |_| piece()))));
    let mut request = request(Vec::new());
    request.headers_mut().remove(CONTENT_LENGTH);
    *request.body_mut() = long;
    assert_eq!(door.send(request).await.verdict(), too_large);

    let tiny = frame(&lying("team-a", 1, |block| block.header.cluster = "x".into()));
    let reply = door.push(&vec![tiny; limits::REQUEST_BLOCKS + 1]).await;
    assert_eq!(reply.verdict(), too_large);
}

#[tokio::test]
async fn memory_is_set_aside_as_a_body_comes_and_given_back_after() {
    let door = Door::with(&format!("memory: 16MiB\n{SMALL}{POLICY}"));
    // Says that it has 8 MiB, sends so much of it, and falls silent.
    let stuck = |sent: usize| {
        let some = futures_util::stream::iter([Ok(hyper::body::Frame::data(Bytes::from(vec![0; sent])))]);
        let never = futures_util::stream::pending::<Result<hyper::body::Frame<Bytes>, std::io::Error>>();
        let mut request = request(Vec::new());
        request.headers_mut().insert(CONTENT_LENGTH, limits::REQUEST.into());
        *request.body_mut() = Body::new(StreamBody::new(some.chain(never)));
        request
    };
    let taken = || door.receiver.metrics.memory_bytes.get();
    {
        let promises = std::pin::pin!(door.send(stuck(0)));
        assert!(poll_once(promises).await.is_pending());
        assert_eq!(taken(), 0, "a promise takes nothing");
        let first = std::pin::pin!(door.send(stuck(limits::REQUEST - 1)));
        let second = std::pin::pin!(door.send(stuck(limits::REQUEST - 1)));
        assert!(poll_once(first).await.is_pending() && poll_once(second).await.is_pending());
        assert_eq!(taken(), 2 * limits::REQUEST as i64);
        let reply = door.push(&[frame(&block("team-a", 1))]).await;
        assert_eq!(reply.status, StatusCode::SERVICE_UNAVAILABLE);
        assert!(reply.verdict().starts_with("retry-after ") && reply.verdict().ends_with(" overload"));
        assert_eq!(reply.headers[RETRY_AFTER.as_str()], "1");
    }
    assert_eq!(door.push(&[frame(&block("team-a", 1))]).await.lines(), ["accepted"]);
    assert_eq!(taken(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_body_that_takes_too_long_is_cut() {
    let door = Door::new();
    let started = tokio::time::Instant::now();
    let never = futures_util::stream::pending::<Result<hyper::body::Frame<Bytes>, std::io::Error>>();
    let mut request = request(Vec::new());
    request.headers_mut().insert(CONTENT_LENGTH, 1000.into());
    *request.body_mut() = Body::new(StreamBody::new(never));
    let reply = door.send(request).await;
    assert_eq!(reply.status, StatusCode::REQUEST_TIMEOUT);
    assert!(reply.verdict().ends_with(" overload"), "{reply:?}: not the blocks' fault");
    assert_eq!(started.elapsed().as_secs(), 30);
}

#[tokio::test]
async fn who_hangs_up_is_counted_all_the_same() {
    let door = Door::new();
    {
        let blocks = [block("team-a", 1)];
        let push = std::pin::pin!(door.push_blocks(&blocks));
        // The body is there at once: the first poll starts the task, and then the client is gone.
        assert!(poll_once(push).await.is_pending());
    }
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
    assert_eq!((door.stored().len(), door.metric("accepted_blocks_total")), (1, 1.0));
}

#[tokio::test]
async fn a_reloaded_policy_counts_from_the_next_request_on() {
    let door = Door::new();
    assert_eq!(door.push_blocks(&[block("nobodys", 1)]).await, ["retry-after 30000 forbidden"]);
    let policy = POLICY.replace("  tenants:\n    rules", "  tenants:\n    default: teams\n    rules");
    door.receiver.reload(config(&format!("{SMALL}{policy}")).policy);
    assert_eq!(door.push_blocks(&[block("nobodys", 2)]).await, ["accepted"]);
    let audit = Header { ..testing::header("apps", Category::Audit, "pay") };
    let audit = Block { header: audit, payload: Bytes::from_static(LINES.as_bytes()) };
    assert_eq!(door.push_blocks(&[audit]).await, ["accepted"]);
}
