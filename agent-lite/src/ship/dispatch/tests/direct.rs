//! Straight to a store whose every answer a test chooses. The real one is in `tests/tests/direct.rs`.

use axum::http::{HeaderMap, Uri};
use axum::routing::post;
use sluice_wire::Encoding;
use sluice_wire::payload::Checker;

use super::*;
use crate::ship::direct::Store as Told;

/// Lines of a request, and what was said of them.
type Answer = fn(&str, &HeaderMap) -> u16;

#[derive(Debug, Clone)]
struct Store {
    answer: Arc<Mutex<Answer>>,
    /// What was taken, line by line, and how it came.
    taken: Arc<Mutex<Vec<(String, Encoding)>>>,
    requests: Arc<AtomicUsize>,
}

impl Store {
    async fn start(answer: Answer) -> (Self, Agent) {
        let store = Self { answer: Arc::new(Mutex::new(answer)), taken: Arc::default(), requests: Arc::default() };
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let fields = vec!["cluster".to_owned(), "k8s_pod_name".to_owned()];
        let peer = Peer::Store(Told::new(Some("bank"), fields).unwrap());
        let url = format!("{}/insert/jsonline", listener.local_addr().unwrap());
        let endpoint = endpoint(url, peer);
        let app = Router::new().route("/insert/jsonline", post(Self::insert)).with_state(store.clone());
        tokio::spawn(async move { axum::serve(listener, app).await });
        (store, Agent::new(&[Arc::new(endpoint)], Duration::ZERO))
    }

    async fn insert(State(store): State<Self>, uri: Uri, headers: HeaderMap, body: Bytes) -> StatusCode {
        assert_eq!(uri.query(), Some("_stream_fields=cluster%2Ck8s_pod_name&_time_field=_time&_msg_field=_msg"));
        assert_eq!(headers["x-scope-orgid"], "bank");
        assert_eq!(headers["content-type"], "application/stream+json");
        let encoding = match headers.get("content-encoding").map(|value| value.to_str().unwrap()) {
            Some("zstd") => Encoding::Zstd,
            Some("gzip") => Encoding::Gzip,
            None => Encoding::None,
            Some(other) => panic!("{other}"),
        };
        store.requests.fetch_add(1, Ordering::SeqCst);
        let lines = decompressed(encoding, &body);
        let status = (store.answer.lock().unwrap())(&lines, &headers);
        if status == 200 {
            let taken = lines.lines().map(|line| (line.to_owned(), encoding));
            store.taken.lock().unwrap().extend(taken);
        }
        StatusCode::from_u16(status).unwrap()
    }

    fn say(&self, answer: Answer) {
        *self.answer.lock().unwrap() = answer;
    }

    /// The messages that were taken, in order.
    fn messages(&self) -> Vec<String> {
        let message =
            |line: &str| serde_json::from_str::<serde_json::Value>(line).unwrap()["_msg"].as_str().unwrap().to_owned();
        self.taken.lock().unwrap().iter().map(|(line, _)| message(line)).collect()
    }
}

/// Of payloads one after the other: as many bytes as come out.
fn decompressed(encoding: Encoding, body: &[u8]) -> String {
    if encoding == Encoding::None {
        return String::from_utf8(body.to_vec()).unwrap();
    }
    let mut checker = Checker::default();
    let fits = |length: &usize| checker.decode(encoding, *length, body).is_ok();
    let length = (0..20_000).find(fits).expect("a body that decompresses");
    String::from_utf8(checker.decode(encoding, length, body).unwrap().to_vec()).unwrap()
}

#[tokio::test]
async fn a_store_gets_payloads_as_they_are_with_tenant_and_fields() {
    let (store, mut agent) = Store::start(|_, _| 200).await;
    agent.cut("one", &["a", "b"]);
    agent.cut("two", &["c"]);
    agent.drain().await;
    assert_eq!(
        (store.messages(), store.requests.load(Ordering::SeqCst)),
        (vec!["a".into(), "b".into(), "c".into()], 1)
    );
    assert_eq!((agent.stored(), agent.metrics.acknowledged_records.get()), (30, 3));
}

#[tokio::test]
async fn payloads_of_two_encodings_go_in_two_requests() {
    let (store, mut agent) = Store::start(|_, _| 200).await;
    let lane = agent.cut("ns", &["a"]);
    // As a ring of another setting leaves it.
    let block = agent.lanes.queue(lane).pop_back().unwrap();
    let raw = decompressed(Encoding::Zstd, &block.payload);
    let mut plain = (*block).clone();
    plain.header.encoding = Encoding::None;
    plain.payload = raw.into_bytes().into();
    agent.lanes.queue(lane).push_back(block);
    let doubt = Doubt { journal: JournalId([1; 16]), since_ms: 1 };
    agent.lanes.restore(Queued::in_doubt(plain, vec![Portion::default()], doubt).unwrap());
    agent.drain().await;
    let encodings: Vec<_> = store.taken.lock().unwrap().iter().map(|(_, encoding)| *encoding).collect();
    assert_eq!(encodings, [Encoding::Zstd, Encoding::None]);
    assert_eq!(store.requests.load(Ordering::SeqCst), 2);
}

#[tokio::test]
async fn a_store_that_is_away_gets_the_lines_again_and_they_are_counted() {
    let (store, mut agent) = Store::start(|_, _| 503).await;
    agent.cut("ns", &["a"]);
    agent.until(|_| store.requests.load(Ordering::SeqCst) > 1).await;
    store.say(|_, _| 200);
    agent.drain().await;
    assert_eq!(store.messages(), ["a"]);
    assert!(agent.metrics.possible_duplicates.get() > 0, "the store may have had it and not said so");
    assert_eq!(agent.metrics.dead_letters.get(), 0);
}

#[tokio::test]
async fn what_is_refused_for_want_of_rights_is_held_and_nothing_is_dropped() {
    for status in [|_: &str, _: &HeaderMap| 401, |_: &str, _: &HeaderMap| 404] {
        let (store, mut agent) = Store::start(status).await;
        let lane = agent.cut("ns", &["a"]);
        agent.until(|agent| agent.metrics.held.get() == 1).await;
        assert_eq!((agent.lanes.queue(lane).len(), agent.metrics.dead_letters.get()), (1, 0));
        store.say(|_, _| 200);
        agent.dispatch.pool.leave_alone(0, Instant::now());
        agent.drain().await;
        assert_eq!((store.messages(), agent.metrics.held.get()), (vec!["a".to_owned()], 0));
    }
}

#[tokio::test]
async fn a_request_that_is_too_large_goes_in_smaller_ones() {
    // A proxy that takes no more than two lines.
    let (store, mut agent) = Store::start(|lines, _| if lines.lines().count() > 2 { 413 } else { 200 }).await;
    for n in 0..5 {
        agent.cut("ns", &[&format!("{n}a"), &format!("{n}b"), &format!("{n}c")]);
    }
    agent.drain().await;
    let expected: Vec<String> = (0..5).flat_map(|n| ["a", "b", "c"].map(|line| format!("{n}{line}"))).collect();
    assert_eq!((store.messages(), agent.metrics.dead_letters.get()), (expected, 0));
}

fn refuses_poison(lines: &str, _: &HeaderMap) -> u16 {
    if lines.contains("poison") { 400 } else { 200 }
}

#[tokio::test]
async fn a_line_that_is_refused_alone_is_a_dead_letter_and_its_neighbours_are_taken() {
    let (store, mut agent) = Store::start(refuses_poison).await;
    agent.cut("other", &["before"]);
    agent.cut("ns", &["a", "b", "poison", "c", "d"]);
    agent.drain().await;
    let mut messages = store.messages();
    messages.sort();
    assert_eq!(messages, ["a", "b", "before", "c", "d"]);
    assert_eq!((agent.metrics.dead_letters.get(), agent.stored()), (1, 60));
    let letters = std::fs::read_to_string(agent.state.path().join("dead-letters.jsonl")).unwrap();
    assert!(letters.contains("poison") && letters.contains("not-records"), "{letters}");
}

#[tokio::test]
async fn no_line_is_given_up_to_a_store_that_takes_none() {
    let (store, mut agent) = Store::start(|lines, _| if lines.is_empty() { 200 } else { 400 }).await;
    agent.cut("ns", &["a", "b"]);
    agent.until(|agent| agent.metrics.held.get() == 1).await;
    assert_eq!(agent.metrics.dead_letters.get(), 0);
    // It has taken others, but now takes not even nothing.
    store.say(|_, _| 200);
    agent.dispatch.pool.leave_alone(0, Instant::now());
    agent.drain().await;
    store.say(|_, _| 400);
    agent.cut("ns", &["c"]);
    agent.until(|agent| agent.metrics.held.get() == 1).await;
    assert_eq!((agent.metrics.dead_letters.get(), store.messages()), (0, vec!["a".to_owned(), "b".to_owned()]));
}
