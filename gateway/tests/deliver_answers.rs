//! What a real VictoriaLogs cannot be made to say on demand: a server that answers as the test wants,
//! and that the destination is delivered to over HTTP.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking, in its helpers too")]

mod deliver_support;

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::extract::{RawQuery, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use deliver_support::{Rig, eventually, lines, victorialogs};
use futures_util::future::join_all;

/// What the server does with the next insert.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Do {
    Store,
    Answer(u16),
    /// 429 with `Retry-After: 1`.
    RetryAfter,
    /// Stores, and never answers.
    StoreAndHang,
    /// Stores nothing, and never answers.
    Hang,
}

#[derive(Default)]
struct Shelf {
    script: VecDeque<Do>,
    /// More lines than this in a request: 413.
    most_lines: Option<usize>,
    /// A request with this text in it: 400.
    poison: Option<&'static str>,
    /// Every request: 400. A port for TLS does so, and a proxy that is set up wrongly.
    refuses_all: bool,
    /// Lines by batch id.
    rows: BTreeMap<String, Vec<String>>,
    /// Statuses as they were answered, and the times at which requests came.
    inserts: Vec<(Do, std::time::Instant)>,
    queries: usize,
}

type Store = Arc<Mutex<Shelf>>;

async fn start() -> (SocketAddr, Store) {
    let store = Store::default();
    let app = Router::new()
        .route("/insert/jsonline", post(insert))
        .route("/select/logsql/query", post(query))
        .with_state(Arc::clone(&store));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, app).await });
    (address, store)
}

async fn insert(State(store): State<Store>, RawQuery(query): RawQuery, headers: HeaderMap, body: Bytes) -> Response {
    // What VictoriaLogs answers 200 to and stores nothing of.
    assert_eq!(headers["content-type"], "application/stream+json");
    assert_eq!(headers["content-encoding"], "zstd");
    assert_eq!(headers["x-scope-orgid"], "team-a");
    assert_eq!(headers["content-length"], body.len().to_string());
    let query = query.unwrap();
    assert!(query.contains("_stream_fields=cluster%2Ck8s_pod_name&_time_field=_time&_msg_field=_msg"), "{query}");
    let id = query.split("sluice_batch%3D").nth(1).unwrap().to_owned();
    let lines = lines(&body);
    let what = {
        let mut shelf = store.lock().unwrap();
        let mut what = shelf.script.pop_front().unwrap_or(Do::Store);
        if shelf.most_lines.is_some_and(|most| lines.len() > most) {
            what = Do::Answer(413);
        }
        if shelf.poison.is_some_and(|poison| lines.iter().any(|line| line.contains(poison))) {
            what = Do::Answer(400);
        }
        if shelf.refuses_all {
            what = Do::Answer(400);
        }
        shelf.inserts.push((what, std::time::Instant::now()));
        if matches!(what, Do::Store | Do::StoreAndHang) {
            shelf.rows.entry(id).or_default().extend(lines);
        }
        what
    };
    match what {
        Do::Store => StatusCode::OK.into_response(),
        Do::Answer(status) => StatusCode::from_u16(status).unwrap().into_response(),
        Do::RetryAfter => (StatusCode::TOO_MANY_REQUESTS, [("retry-after", "1")]).into_response(),
        Do::StoreAndHang | Do::Hang => std::future::pending().await,
    }
}

async fn query(State(store): State<Store>, body: String) -> String {
    let mut shelf = store.lock().unwrap();
    shelf.queries += 1;
    let counts = shelf.rows.iter().filter(|(id, _)| body.contains(&***id));
    counts.map(|(id, rows)| format!("{{\"sluice_batch\":\"{id}\",\"rows\":\"{}\"}}\n", rows.len())).collect()
}

fn texts(store: &Store) -> Vec<String> {
    let mut texts: Vec<String> = store.lock().unwrap().rows.values().flatten().cloned().collect();
    texts.sort();
    texts
}

/// Runs ten records through a server with this script; returns the server's book when all is decided.
async fn deliver(change: impl FnOnce(&mut Shelf)) -> Store {
    let (address, store) = start().await;
    change(&mut store.lock().unwrap());
    let rig = Rig::new(victorialogs(&format!("http://{address}"), Duration::from_secs(1)));
    let journal = rig.open();
    rig.append(&journal, "team-a", 1..=10).await;
    let deliverers = rig.start(&journal);
    eventually("all is decided", || rig.is_done(10)).await;
    rig.books_balance();
    assert!(deliverers.shutdown(Duration::from_secs(5)).await);
    store
}

#[tokio::test(flavor = "multi_thread")]
async fn records_arrive_in_the_form_that_the_store_wants() {
    let store = deliver(|_| ()).await;
    assert_eq!(texts(&store), Rig::texts("team-a", 1..=10));
    assert_eq!(store.lock().unwrap().inserts.len(), 1);
    assert!(store.lock().unwrap().queries > 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_is_tried_again_without_counting() {
    let store = deliver(|shelf| shelf.script = [Do::Answer(429), Do::Answer(429)].into()).await;
    assert_eq!(texts(&store), Rig::texts("team-a", 1..=10));
}

#[tokio::test(flavor = "multi_thread")]
async fn retry_after_is_honoured() {
    let store = deliver(|shelf| shelf.script = [Do::RetryAfter].into()).await;
    let inserts = &store.lock().unwrap().inserts;
    assert!(inserts[1].1 - inserts[0].1 >= Duration::from_secs(1));
}

#[tokio::test(flavor = "multi_thread")]
async fn missing_rights_hold_and_drop_nothing() {
    join_all([401, 403, 404].map(async |status| {
        let store = deliver(|shelf| shelf.script = [Do::Answer(status)].into()).await;
        assert_eq!(texts(&store), Rig::texts("team-a", 1..=10), "{status}");
    }))
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_too_large_goes_in_parts() {
    let store = deliver(|shelf| shelf.most_lines = Some(3)).await;
    assert_eq!(texts(&store), Rig::texts("team-a", 1..=10));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_record_that_is_refused_is_the_only_one_that_is_missing() {
    let store = deliver(|shelf| shelf.poison = Some("team-a 00007")).await;
    let mut expected = Rig::texts("team-a", 1..=10);
    expected.retain(|text| !text.contains("00007"));
    assert_eq!(texts(&store), expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_never_comes_is_found_out_by_counting() {
    let cases = [(Do::StoreAndHang, 1), (Do::Hang, 2), (Do::Answer(502), 2), (Do::Answer(503), 2)];
    join_all(cases.map(async |(what, inserts)| {
        let store = deliver(|shelf| shelf.script = [what].into()).await;
        assert_eq!(texts(&store), Rig::texts("team-a", 1..=10), "{what:?}");
        assert_eq!(store.lock().unwrap().inserts.len(), inserts, "{what:?}");
    }))
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_listening_is_waited_for() {
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = port.local_addr().unwrap();
    drop(port);
    let rig = Rig::new(victorialogs(&format!("http://{address}"), Duration::from_secs(1)));
    let journal = rig.open();
    rig.append(&journal, "team-a", 1..=3).await;
    let deliverers = rig.start(&journal);
    eventually("it says so", || !deliverers.health()[0].is_well()).await;
    assert_eq!(rig.metric("lag_entries"), 3);
    assert!(deliverers.health()[0].failing[0].1.contains("onnect"), "{:?}", deliverers.health());
    assert!(deliverers.shutdown(Duration::from_millis(500)).await);
}

/// No line is at fault if none is taken.
#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_refuses_everything_makes_no_dead_letters() {
    join_all([false, true].map(async |was_well| {
        let (address, store) = start().await;
        let rig = Rig::new(victorialogs(&format!("http://{address}"), Duration::from_secs(1)));
        let journal = rig.open();
        let deliverers = rig.start(&journal);
        if was_well {
            rig.append(&journal, "team-a", 1..=10).await;
            eventually("the first are decided", || rig.is_done(10)).await;
        }
        store.lock().unwrap().refuses_all = true;
        let first = if was_well { 11 } else { 1 };
        rig.append(&journal, "team-a", first..=20).await;
        let is_said = || deliverers.health()[0].failing.iter().any(|failing| failing.1.contains("check the URL"));
        eventually("it is held, and why", is_said).await;
        assert_eq!(rig.metric("held"), 1);
        assert_eq!(rig.metric("dead_letters_total"), 0);
        store.lock().unwrap().refuses_all = false;
        eventually("all is decided", || rig.is_done(20)).await;
        assert_eq!(texts(&store), Rig::texts("team-a", 1..=20));
        assert_eq!(rig.metric("dead_letters_total"), 0);
        rig.books_balance();
        assert!(deliverers.shutdown(Duration::from_secs(5)).await);
    }))
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_record_that_comes_alone_and_is_refused_is_a_dead_letter_where_others_were_taken() {
    let (address, store) = start().await;
    let rig = Rig::new(victorialogs(&format!("http://{address}"), Duration::from_secs(1)));
    let journal = rig.open();
    let deliverers = rig.start(&journal);
    rig.append(&journal, "team-a", 1..=1).await;
    eventually("the first is decided", || rig.is_done(1)).await;
    store.lock().unwrap().poison = Some("team-a 00002");
    rig.append(&journal, "team-a", 2..=2).await;
    eventually("it is decided", || rig.is_done(2)).await;
    assert_eq!(rig.metric("dead_letters_total"), 1);
    assert!(deliverers.shutdown(Duration::from_secs(5)).await);
}
