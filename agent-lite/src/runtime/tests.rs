use std::net::SocketAddr;

use axum::Router;
use axum::body::Body;
use axum::routing::get;
use futures_util::stream;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpListener;

use super::scrape::{ScrapeError, scrape};
use super::*;
use crate::metrics::Metrics;

fn comparison() -> (Comparison, watch::Sender<Option<Reading>>, Metrics) {
    let metrics = Metrics::new().unwrap();
    let (to, readings) = watch::channel(None);
    (Comparison::new(readings, metrics.runtime.clone()), to, metrics)
}

fn reading(bytes: u64) -> Option<Reading> {
    Some(Reading { bytes, entries: bytes / 100 })
}

#[test]
fn what_the_runtime_wrote_and_nobody_saw_is_counted_from_the_start_on() {
    let (mut comparison, to, metrics) = comparison();
    let logs: [Arc<str>; 2] = ["/var/log/pods/a/0.log".into(), "/var/log/pods/b/0.log".into()];
    let seen = |comparison: &mut Comparison, a: u64, b: Option<u64>| {
        comparison.compare([(&logs[0], a)].into_iter().chain(b.map(|b| (&logs[1], b))));
        metrics.runtime.unseen_bytes.get()
    };
    // What was before counts for nothing.
    assert_eq!(seen(&mut comparison, 5000, None), 0);
    to.send_replace(reading(90_000));
    assert_eq!(seen(&mut comparison, 5000, None), 0);
    // All of it is seen, in an old log and in a new one.
    to.send_replace(reading(91_000));
    assert_eq!(seen(&mut comparison, 5600, Some(400)), 0);
    // A log whose page has gone has been seen all the same.
    to.send_replace(reading(91_500));
    assert_eq!(seen(&mut comparison, 5700, None), 400);
    assert_eq!(seen(&mut comparison, 5800, None), 400, "there is nothing new to compare it with");
    to.send_replace(reading(91_500));
    assert_eq!(seen(&mut comparison, 5900, None), 200, "it was late");
    assert_eq!((metrics.runtime.output_bytes.get(), metrics.runtime.output_entries.get()), (1500, 15));
}

#[test]
fn a_runtime_that_is_restarted_begins_anew_and_what_was_unseen_stays() {
    let (mut comparison, to, metrics) = comparison();
    let log: Arc<str> = "/var/log/pods/a/0.log".into();
    for (said, seen) in [(1000, 0), (1500, 200), (40, 700), (140, 800)] {
        to.send_replace(reading(said));
        comparison.compare([(&log, seen)].into_iter());
    }
    assert_eq!(metrics.runtime.unseen_bytes.get(), 300);
    assert_eq!(metrics.runtime.output_bytes.get(), 600);
}

async fn serve(app: Router) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, app).await });
    address
}

fn url(address: SocketAddr, path: &str) -> Uri {
    Settings::parse(&format!("http://{address}{path}")).unwrap().url
}

#[tokio::test]
async fn an_answer_is_read_as_it_comes_and_no_further_than_its_bound() {
    let pieces = ["# TYPE x counter\ncontainerd_cri_output_by", "tes_total 7\ncontainerd_cri_output_entries_total 3"];
    let good = move || async move { Body::from_stream(stream::iter(pieces.map(Ok::<_, std::io::Error>))) };
    let endless = || async {
        Body::from_stream(stream::repeat_with(|| Ok::<_, std::io::Error>(bytes::Bytes::from(vec![b'x'; 65_536]))))
    };
    let other = || async { "go_goroutines 7\n" };
    let app = Router::new().route("/v1/metrics", get(good)).route("/endless", get(endless)).route("/other", get(other));
    let address = serve(app).await;
    assert_eq!(scrape(&url(address, "/v1/metrics"), LIMIT).await.unwrap(), Reading { bytes: 7, entries: 3 });
    assert!(matches!(scrape(&url(address, "/endless"), LIMIT).await, Err(ScrapeError::TooLarge)));
    assert!(matches!(scrape(&url(address, "/other"), LIMIT).await, Err(ScrapeError::NoCounters)));
    let missing = scrape(&url(address, "/metrics"), LIMIT).await;
    assert!(matches!(missing, Err(ScrapeError::Status(status)) if status == 404));
}

#[tokio::test]
async fn who_says_nothing_is_not_waited_for() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 99\r\n\r\n#").await.unwrap();
        std::future::pending::<()>().await;
    });
    let answer = scrape(&url(address, "/"), Duration::from_millis(100)).await;
    assert!(matches!(answer, Err(ScrapeError::Timeout(_))));
}

#[tokio::test]
async fn failures_are_counted_and_a_reading_arrives() {
    let metrics = Metrics::new().unwrap();
    // Nobody listens there any more.
    let gone = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let (_comparison, ask) = start(&Settings { url: url(gone, "/") }, &metrics.runtime);
    let failed = async {
        while metrics.runtime.scrape_errors.get() == 0 {
            tokio::task::yield_now().await;
        }
    };
    tokio::select! { () = ask => {}, () = failed => {} }
    let good = || async { "containerd_cri_output_bytes_total 7\ncontainerd_cri_output_entries_total 3\n" };
    let address = serve(Router::new().route("/", get(good))).await;
    let (mut comparison, ask) = start(&Settings { url: url(address, "/") }, &metrics.runtime);
    let mut readings = comparison.readings.clone();
    tokio::pin!(ask);
    tokio::select! { () = &mut ask => {}, changed = readings.changed() => changed.unwrap() }
    comparison.compare(std::iter::empty());
    assert_eq!(comparison.last, Some((Reading { bytes: 7, entries: 3 }, 0)));
}

#[test]
fn only_urls_of_http_are_taken() {
    for text in ["https://127.0.0.1/", "127.0.0.1:1338", "/v1/metrics", "http://", ""] {
        assert_eq!(Settings::parse(text), None, "{text}");
    }
    assert!(Settings::parse("http://[::1]:1338/v1/metrics").is_some());
}
