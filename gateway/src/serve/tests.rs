use super::tls::Error as TlsError;
use super::*;
use crate::config::checked::Tls;
use axum::extract::Extension;
use axum::routing::get;
use bytes::Bytes;
use http_body_util::{BodyExt as _, Empty};
use hyper::client::conn::http2;
use rcgen::{BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, SanType};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use std::sync::atomic::{AtomicUsize, Ordering};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::sync::oneshot;

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

    /// Certificate and key.
    fn sign(&self, names: &[SanType], usage: ExtendedKeyUsagePurpose) -> (rcgen::Certificate, KeyPair) {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.subject_alt_names = names.to_vec();
        params.extended_key_usages = vec![usage];
        (params.signed_by(&key, &self.issuer).unwrap(), key)
    }
}

/// Server certificate, key and client CA in files.
struct Files {
    directory: tempfile::TempDir,
    ca: Ca,
}

impl Files {
    fn new() -> Self {
        let files = Self { directory: tempfile::tempdir().unwrap(), ca: Ca::new() };
        files.write("ca", &files.ca.pem);
        files.renew("localhost");
        files
    }

    fn renew(&self, name: &str) {
        let name = SanType::DnsName(name.try_into().unwrap());
        let (certificate, key) = self.ca.sign(&[name], ExtendedKeyUsagePurpose::ServerAuth);
        self.write("certificate", &certificate.pem());
        self.write("key", &key.serialize_pem());
    }

    fn write(&self, name: &str, text: &str) {
        std::fs::write(self.directory.path().join(name), text).unwrap();
    }

    fn tls(&self) -> Tls {
        let path = |name: &str| self.directory.path().join(name);
        Tls { certificate: path("certificate"), key: path("key"), client_ca: Some(path("ca")) }
    }
}

async fn names(Extension(peer): Extension<Arc<Peer>>) -> String {
    format!("{} {}", peer.is_loopback(), peer.names.join(" "))
}

struct Running {
    address: SocketAddr,
    open: IntGauge,
    stop: oneshot::Sender<()>,
    ended: tokio::task::JoinHandle<()>,
}

async fn start(acceptor: Option<Arc<Acceptor>>, max_connections: usize, idle: Duration, router: Router) -> Running {
    let open = IntGauge::new("open", "Open.").unwrap();
    let any = SocketAddr::from(([127, 0, 0, 1], 0));
    let server = Server::bind(any, acceptor, max_connections, idle, open.clone()).await.unwrap();
    let address = server.address().unwrap();
    let (stop, stopped) = oneshot::channel::<()>();
    let ended = tokio::spawn(server.run(router, async { drop(stopped.await) }));
    Running { address, open, stop, ended }
}

async fn ask<S: AsyncRead + AsyncWrite + Unpin>(mut stream: S) -> io::Result<String> {
    stream.write_all(b"GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").await?;
    let mut reply = String::new();
    stream.read_to_string(&mut reply).await?;
    Ok(reply.split("\r\n\r\n").nth(1).unwrap_or(&reply).to_owned())
}

type H2 = http2::SendRequest<Empty<Bytes>>;

/// Speaks HTTP/2, and answers pings; the task ends with the connection.
async fn h2<S: AsyncRead + AsyncWrite + Unpin + Send + 'static>(stream: S) -> (H2, tokio::task::JoinHandle<()>) {
    let (sender, connection) = http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
    (sender, tokio::spawn(async { drop(connection.await) }))
}

async fn ask_h2(mut sender: H2) -> Result<String, hyper::Error> {
    let request = http::Request::get("http://x/").body(Empty::new()).unwrap();
    let response = sender.send_request(request).await?;
    assert_eq!(response.version(), http::Version::HTTP_2);
    let body = response.into_body().collect().await?.to_bytes();
    Ok(String::from_utf8(body.to_vec()).unwrap())
}

/// Asks over TLS with a certificate, or without.
async fn ask_tls(
    files: &Files,
    address: SocketAddr,
    name: &str,
    client: Option<&(rcgen::Certificate, KeyPair)>,
) -> io::Result<String> {
    ask(connect_tls(files, address, name, client, &[]).await?).await
}

async fn connect_tls(
    files: &Files,
    address: SocketAddr,
    name: &str,
    client: Option<&(rcgen::Certificate, KeyPair)>,
    alpn: &[&[u8]],
) -> io::Result<tokio_rustls::client::TlsStream<TcpStream>> {
    use rustls::pki_types::pem::PemObject as _;
    let mut roots = rustls::RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(files.ca.pem.as_bytes()).unwrap()).unwrap();
    let builder = rustls::ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots);
    let mut config = match client {
        Some((certificate, key)) => {
            let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
            builder.with_client_auth_cert(vec![certificate.der().clone()], key).unwrap()
        }
        None => builder.with_no_client_auth(),
    };
    config.alpn_protocols = alpn.iter().map(|name| name.to_vec()).collect();
    let stream = TcpStream::connect(address).await?;
    let connector = tokio_rustls::TlsConnector::from(Arc::new(config));
    connector.connect(name.to_owned().try_into().unwrap(), stream).await
}

#[tokio::test]
async fn the_names_in_a_clients_certificate_are_those_its_ca_has_signed() {
    let files = Files::new();
    let acceptor = Arc::new(Acceptor::new(&files.tls()).unwrap());
    let running = start(Some(acceptor), 10, Duration::from_secs(5), Router::new().route("/", get(names))).await;
    let sans =
        [SanType::DnsName("agent.example".try_into().unwrap()), SanType::URI("spiffe://x/agent".try_into().unwrap())];
    let good = files.ca.sign(&sans, ExtendedKeyUsagePurpose::ClientAuth);
    let reply = ask_tls(&files, running.address, "localhost", Some(&good)).await.unwrap();
    assert_eq!(reply, "true agent.example spiffe://x/agent");

    let none = ask_tls(&files, running.address, "localhost", None).await.unwrap();
    assert_eq!(none, "true ", "let in, to be told that a credential is missing");

    for stranger in [
        Ca::new().sign(&sans, ExtendedKeyUsagePurpose::ClientAuth),
        files.ca.sign(&sans, ExtendedKeyUsagePurpose::ServerAuth),
    ] {
        assert!(ask_tls(&files, running.address, "localhost", Some(&stranger)).await.is_err());
    }
    assert!(ask(TcpStream::connect(running.address).await.unwrap()).await.is_ok_and(|reply| !reply.contains("true")));
}

#[tokio::test]
async fn a_renewed_certificate_is_used_and_a_broken_one_is_not() {
    let files = Files::new();
    let acceptor = Arc::new(Acceptor::new(&files.tls()).unwrap());
    let running =
        start(Some(Arc::clone(&acceptor)), 10, Duration::from_secs(5), Router::new().route("/", get(names))).await;
    assert!(!acceptor.refresh().unwrap());
    files.renew("renewed");
    assert!(acceptor.refresh().unwrap());
    assert!(ask_tls(&files, running.address, "renewed", None).await.is_ok());
    files.write("certificate", "nothing");
    assert!(matches!(acceptor.refresh(), Err(TlsError::NotPem { expected: "a certificate", .. })));
    assert!(ask_tls(&files, running.address, "renewed", None).await.is_ok());
}

#[test]
fn what_is_wrong_with_a_tls_file_is_said_with_its_name() {
    let broken = |name: &str, text: &str| {
        let files = Files::new();
        files.write(name, text);
        Acceptor::new(&files.tls()).unwrap_err().to_string()
    };
    assert!(broken("key", "x").contains("key: expected a private key in PEM"));
    assert!(broken("ca", "x").contains("ca: expected a certificate in PEM: there is none"));
    let other = KeyPair::generate().unwrap().serialize_pem();
    assert!(broken("key", &other).contains("certificate: cannot be used"));
    let missing = Tls { key: "/nowhere/key".into(), ..Files::new().tls() };
    assert!(Acceptor::new(&missing).unwrap_err().to_string().contains("cannot be read"));
}

#[tokio::test]
async fn connections_above_the_bound_wait_and_silent_ones_are_closed() {
    let running = start(None, 1, Duration::from_millis(200), Router::new().route("/", get(names))).await;
    let mut silent = TcpStream::connect(running.address).await.unwrap();
    let second = tokio::spawn(ask(TcpStream::connect(running.address).await.unwrap()));
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert_eq!((running.open.get(), second.is_finished()), (1, false));
    let closed = tokio::time::timeout(Duration::from_secs(5), silent.read(&mut [0; 100])).await;
    assert_eq!(closed.expect("closed for its silence").unwrap(), 0);
    assert_eq!(second.await.unwrap().unwrap(), "true ");
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert_eq!(running.open.get(), 0);
}

#[tokio::test]
async fn a_stop_lets_requests_under_way_end_and_takes_no_new_ones() {
    let slow = Router::new().route(
        "/",
        get(async || {
            tokio::time::sleep(Duration::from_millis(200)).await;
            "done"
        }),
    );
    let running = start(None, 10, Duration::from_secs(5), slow).await;
    let idle = TcpStream::connect(running.address).await.unwrap();
    let under_way = tokio::spawn(ask(TcpStream::connect(running.address).await.unwrap()));
    tokio::time::sleep(Duration::from_millis(50)).await;
    drop(running.stop);
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert!(TcpStream::connect(running.address).await.is_err());
    assert!(!running.ended.is_finished(), "a request is under way");
    assert_eq!(under_way.await.unwrap().unwrap(), "done");
    tokio::time::timeout(Duration::from_secs(2), running.ended)
        .await
        .expect("an idle connection holds up nobody")
        .unwrap();
    drop(idle);
}

#[tokio::test]
async fn http_2_is_spoken_in_clear_to_who_begins_with_it_and_over_tls_to_who_offers_it() {
    let router = || Router::new().route("/", get(names));
    let clear = start(None, 10, Duration::from_secs(5), router()).await;
    let (sender, _) = h2(TcpStream::connect(clear.address).await.unwrap()).await;
    assert_eq!(ask_h2(sender).await.unwrap(), "true ");
    assert_eq!(ask(TcpStream::connect(clear.address).await.unwrap()).await.unwrap(), "true ");

    let files = Files::new();
    let acceptor = Arc::new(Acceptor::new(&files.tls()).unwrap());
    let running = start(Some(acceptor), 10, Duration::from_secs(5), router()).await;
    let san = [SanType::DnsName("agent.example".try_into().unwrap())];
    let client = files.ca.sign(&san, ExtendedKeyUsagePurpose::ClientAuth);
    let offered: &[&[u8]] = &[b"h2", b"http/1.1"];
    let stream = connect_tls(&files, running.address, "localhost", Some(&client), offered).await.unwrap();
    assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
    let (sender, _) = h2(stream).await;
    assert_eq!(ask_h2(sender).await.unwrap(), "true agent.example");
}

#[tokio::test]
async fn a_silent_http_2_connection_is_closed_although_it_answers_pings() {
    let running = start(None, 1, Duration::from_millis(200), Router::new().route("/", get(names))).await;
    let (sender, ended) = h2(TcpStream::connect(running.address).await.unwrap()).await;
    ask_h2(sender.clone()).await.unwrap();
    tokio::time::timeout(Duration::from_secs(3), ended).await.expect("closed for its silence").unwrap();
    // One that only begins is closed as well, and leaves its room to the next.
    let mut silent = TcpStream::connect(running.address).await.unwrap();
    silent.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await.unwrap();
    let closed = async { while silent.read(&mut [0; 1000]).await.is_ok_and(|read| read > 0) {} };
    tokio::time::timeout(Duration::from_secs(8), closed).await.expect("closed for its silence");
    assert_eq!(ask(TcpStream::connect(running.address).await.unwrap()).await.unwrap(), "true ");
}

#[tokio::test]
async fn a_request_that_takes_longer_than_silence_may_is_not_silence() {
    let slow = Router::new().route(
        "/",
        get(async || {
            tokio::time::sleep(Duration::from_millis(500)).await;
            "done"
        }),
    );
    let running = start(None, 10, Duration::from_millis(100), slow).await;
    let (sender, _) = h2(TcpStream::connect(running.address).await.unwrap()).await;
    assert_eq!(ask_h2(sender).await.unwrap(), "done");
}

#[tokio::test]
async fn a_connection_has_no_more_requests_under_way_than_its_bound() {
    let (now, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let (counted, peak) = (Arc::clone(&now), Arc::clone(&most));
    let router = Router::new().route(
        "/",
        get(async move || {
            peak.fetch_max(counted.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
            tokio::time::sleep(Duration::from_millis(50)).await;
            counted.fetch_sub(1, Ordering::SeqCst);
            "done"
        }),
    );
    let running = start(None, 10, Duration::from_secs(5), router).await;
    let (sender, _) = h2(TcpStream::connect(running.address).await.unwrap()).await;
    // The peer's bound is known once a first request was answered.
    ask_h2(sender.clone()).await.unwrap();
    let requests: Vec<_> = (0..3 * STREAMS).map(|_| tokio::spawn(ask_h2(sender.clone()))).collect();
    for request in requests {
        assert_eq!(request.await.unwrap().unwrap(), "done");
    }
    assert_eq!(most.load(Ordering::SeqCst), STREAMS as usize);
}

#[tokio::test]
async fn a_stop_says_goaway_and_lets_requests_under_way_end() {
    let slow = Router::new().route(
        "/",
        get(async || {
            tokio::time::sleep(Duration::from_millis(300)).await;
            "done"
        }),
    );
    let running = start(None, 10, Duration::from_secs(60), slow).await;
    let (idle, idle_ended) = h2(TcpStream::connect(running.address).await.unwrap()).await;
    let (busy, _) = h2(TcpStream::connect(running.address).await.unwrap()).await;
    let under_way = tokio::spawn(ask_h2(busy.clone()));
    tokio::time::sleep(Duration::from_millis(100)).await;
    drop(running.stop);
    tokio::time::timeout(Duration::from_secs(2), idle_ended).await.expect("told to go").unwrap();
    assert!(!running.ended.is_finished(), "a request is under way");
    assert_eq!(under_way.await.unwrap().unwrap(), "done");
    tokio::time::timeout(Duration::from_secs(2), running.ended).await.expect("nobody is left").unwrap();
    assert!(ask_h2(busy).await.is_err());
    drop(idle);
}
