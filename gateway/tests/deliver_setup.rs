//! What a delivery needs before it can begin, and what changes under way: a directory; TLS with a CA of
//! one's own, and a token, out of files that are renewed.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking, in its helpers too")]

mod deliver_support;

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::extract::{RawQuery, State};
use axum::http::{HeaderMap, StatusCode};
use axum::routing::post;
use deliver_support::{Rig, eventually, lines, victorialogs};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair, SanType};
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use sluice_gateway::config::checked::{self, Destination, DestinationKind, FileDestination, Token};
use sluice_gateway::deliver;
use sluice_gateway::journal::{Appended, Journal as _};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

struct Ca {
    issuer: Issuer<'static, KeyPair>,
    pem: String,
}

impl Ca {
    fn new() -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let pem = params.self_signed(&key).unwrap().pem();
        Self { issuer: Issuer::new(params, key), pem }
    }

    /// Accepts for 127.0.0.1.
    fn acceptor(&self) -> TlsAcceptor {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.subject_alt_names = vec![SanType::IpAddress(IpAddr::V4(Ipv4Addr::LOCALHOST))];
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![certificate.der().clone()], key)
            .unwrap();
        TlsAcceptor::from(Arc::new(config))
    }
}

struct Listener {
    listener: TcpListener,
    acceptor: TlsAcceptor,
}

impl axum::serve::Listener for Listener {
    type Io = TlsStream<TcpStream>;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Self::Io, Self::Addr) {
        loop {
            // A client that does not trust us goes away in the middle of it.
            if let Ok((stream, peer)) = self.listener.accept().await
                && let Ok(stream) = self.acceptor.accept(stream).await
            {
                return (stream, peer);
            }
        }
    }

    fn local_addr(&self) -> std::io::Result<SocketAddr> {
        self.listener.local_addr()
    }
}

#[derive(Default)]
struct Shelf {
    token: &'static str,
    /// Lines by batch id.
    rows: BTreeMap<String, Vec<String>>,
    unauthorized: usize,
}

impl Shelf {
    fn lets_in(&mut self, headers: &HeaderMap) -> bool {
        let is_right = headers.get("authorization").is_some_and(|value| *value == format!("Bearer {}", self.token));
        self.unauthorized += usize::from(!is_right);
        is_right
    }
}

type Store = Arc<Mutex<Shelf>>;

async fn insert(State(store): State<Store>, RawQuery(query): RawQuery, headers: HeaderMap, body: Bytes) -> StatusCode {
    let mut shelf = store.lock().unwrap();
    if !shelf.lets_in(&headers) {
        return StatusCode::UNAUTHORIZED;
    }
    let id = query.unwrap().split("sluice_batch%3D").nth(1).unwrap().to_owned();
    shelf.rows.entry(id).or_default().extend(lines(&body));
    StatusCode::OK
}

async fn query(State(store): State<Store>, headers: HeaderMap, body: String) -> Result<String, StatusCode> {
    let mut shelf = store.lock().unwrap();
    if !shelf.lets_in(&headers) {
        return Err(StatusCode::UNAUTHORIZED);
    }
    let counts = shelf.rows.iter().filter(|(id, _)| body.contains(&***id));
    Ok(counts.map(|(id, rows)| format!("{{\"sluice_batch\":\"{id}\",\"rows\":\"{}\"}}\n", rows.len())).collect())
}

/// A store behind TLS that wants the token `right`.
async fn start(ca: &Ca) -> (SocketAddr, Store) {
    let store = Store::default();
    store.lock().unwrap().token = "right";
    let app = Router::new()
        .route("/insert/jsonline", post(insert))
        .route("/select/logsql/query", post(query))
        .with_state(Arc::clone(&store));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let listener = Listener { listener, acceptor: ca.acceptor() };
    tokio::spawn(async move { axum::serve(listener, app).await });
    (address, store)
}

fn texts(store: &Store) -> Vec<String> {
    let mut texts: Vec<String> = store.lock().unwrap().rows.values().flatten().cloned().collect();
    texts.sort();
    texts
}

/// CA and token of the gateway, in files.
struct Files(tempfile::TempDir);

impl Files {
    fn new(ca: &str, token: &str) -> Self {
        let files = Self(tempfile::tempdir().unwrap());
        files.write("ca", ca);
        files.write("token", token);
        files
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn write(&self, name: &str, text: &str) {
        std::fs::write(self.path(name), text).unwrap();
    }

    fn destination(&self, scheme: &str, address: SocketAddr) -> checked::VictoriaLogs {
        checked::VictoriaLogs {
            ca: Some(self.path("ca")),
            token: Some(Token::File(self.path("token"))),
            ..victorialogs(&format!("{scheme}://{address}"), Duration::from_secs(1))
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn with_the_right_ca_and_token_records_arrive() {
    let ca = Ca::new();
    let (address, store) = start(&ca).await;
    // As an editor or `echo` leaves it.
    let files = Files::new(&ca.pem, "right\n");
    let rig = Rig::new(files.destination("https", address));
    let journal = rig.open();
    rig.append(&journal, "team-a", 1..=10).await;
    let deliverers = rig.start(&journal);
    eventually("all is decided", || rig.is_done(10)).await;
    assert_eq!(texts(&store), Rig::texts("team-a", 1..=10));
    assert_eq!(store.lock().unwrap().unauthorized, 0);
    assert!(deliverers.shutdown(Duration::from_secs(5)).await);
}

/// A server that is not who it should be gets nothing; once the CA is mended, without a restart, all of it.
#[tokio::test(flavor = "multi_thread")]
async fn with_a_wrong_ca_nothing_is_sent_and_nothing_lost() {
    let ca = Ca::new();
    let (address, store) = start(&ca).await;
    let files = Files::new(&Ca::new().pem, "right");
    let rig = Rig::new(files.destination("https", address));
    let journal = rig.open();
    rig.append(&journal, "team-a", 1..=10).await;
    let deliverers = rig.start(&journal);
    let says = |text: &str| deliverers.health()[0].failing.iter().any(|failing| failing.1.contains(text));
    eventually("it says why", || says("certificate")).await;
    assert_eq!(texts(&store).len() + store.lock().unwrap().unauthorized, 0);
    assert_eq!((rig.metric("undecided_entries"), rig.metric("dead_letters_total")), (10, 0));
    files.write("ca", &ca.pem);
    eventually("all is decided", || rig.is_done(10)).await;
    assert_eq!(texts(&store), Rig::texts("team-a", 1..=10));
    rig.books_balance();
    assert!(deliverers.shutdown(Duration::from_secs(5)).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn with_a_wrong_token_delivery_is_held_until_the_file_has_the_right_one() {
    let ca = Ca::new();
    let (address, store) = start(&ca).await;
    let files = Files::new(&ca.pem, "wrong");
    let rig = Rig::new(files.destination("https", address));
    let journal = rig.open();
    rig.append(&journal, "team-a", 1..=10).await;
    let deliverers = rig.start(&journal);
    eventually("it is held", || rig.metric("held") == 1).await;
    assert_eq!(texts(&store).len(), 0);
    files.write("token", "right");
    eventually("all is decided", || rig.is_done(10)).await;
    assert_eq!(texts(&store), Rig::texts("team-a", 1..=10));
    assert_eq!(rig.metric("dead_letters_total"), 0);

    // Renewed, as a projected token is every hour: the file first, then what the store takes.
    files.write("token", "renewed");
    store.lock().unwrap().token = "renewed";
    rig.append(&journal, "team-a", 11..=20).await;
    eventually("all is decided", || rig.is_done(20)).await;
    assert_eq!(texts(&store), Rig::texts("team-a", 1..=20));
    rig.books_balance();
    assert!(deliverers.shutdown(Duration::from_secs(5)).await);
}

/// A token file that is empty for a moment, while it is written, does not take the last good one away.
#[tokio::test(flavor = "multi_thread")]
async fn files_that_cannot_be_used_leave_the_last_good_ones_in_force() {
    let ca = Ca::new();
    let (address, store) = start(&ca).await;
    let files = Files::new(&ca.pem, "right");
    let rig = Rig::new(files.destination("https", address));
    let journal = rig.open();
    let deliverers = rig.start(&journal);
    rig.append(&journal, "team-a", 1..=1).await;
    eventually("the first is decided", || rig.is_done(1)).await;
    store.lock().unwrap().token = "another";
    files.write("token", "");
    files.write("ca", "no certificate");
    rig.append(&journal, "team-a", 2..=2).await;
    eventually("it is held", || store.lock().unwrap().unauthorized >= 2).await;
    store.lock().unwrap().token = "right";
    eventually("all is decided", || rig.is_done(2)).await;
    assert!(deliverers.shutdown(Duration::from_secs(5)).await);
}

fn file(name: &str, directory: &Path) -> Destination {
    let kind = DestinationKind::File(FileDestination {
        directory: directory.into(),
        max_file_bytes: 1 << 20,
        batch_age: Duration::from_millis(50),
    });
    Destination { name: name.into(), kind }
}

fn delivered(directory: &Path) -> usize {
    let Ok(files) = std::fs::read_dir(directory.join("team-a/application")) else { return 0 };
    files.map(|file| std::fs::read_to_string(file.unwrap().path()).unwrap().lines().count()).sum()
}

/// It keeps what is its, is tried again, and stops nobody else.
#[tokio::test(flavor = "multi_thread")]
async fn a_destination_that_cannot_be_set_up_is_stopped_alone_and_tried_again() {
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name);
    std::fs::write(path("bad"), "no directory").unwrap();
    let mut store = victorialogs("http://127.0.0.1:1", Duration::from_secs(1));
    store.ca = Some(path("ca"));
    let rig = Rig::new(store.clone());
    let journal = rig.open();
    let destinations = [
        file("bad", &path("bad")),
        file("good", &path("good")),
        Destination { name: "store".into(), kind: DestinationKind::VictoriaLogs(store) },
    ];
    let deliverers = deliver::start(&journal, &destinations, rig.metrics()).unwrap();
    let mut stored = 0_u64;
    for number in 1..=200 {
        let mut entry = rig.entry("team-a", number, &[(number, rig.time_of(number))]);
        entry.destinations = vec!["bad".into(), "good".into()];
        let answers = journal.append(vec![entry]).await;
        assert!(matches!(answers[..], [Appended::Stored(_)]), "{answers:?}");
        stored += 1;
    }
    let stopped = |at: usize| deliverers.health()[at].stopped.clone();
    eventually("the good one goes on", || delivered(&path("good")) as u64 == stored).await;
    eventually("they are said", || stopped(0).is_some() && stopped(2).is_some()).await;
    assert!(stopped(2).unwrap().contains(path("ca").to_str().unwrap()), "{:?}", stopped(2));
    assert_eq!(stopped(1), None);
    assert_eq!(rig.metric("stopped"), 2);

    std::fs::remove_file(path("bad")).unwrap();
    eventually("it goes on by itself", || delivered(&path("bad")) as u64 == stored).await;
    assert_eq!(stopped(0), None);
    assert_eq!(rig.metric("stopped"), 1);
    assert!(deliverers.shutdown(Duration::from_secs(5)).await, "also the one that never began");
}
