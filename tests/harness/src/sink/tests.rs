//! Over real connections, in each protocol and encoding.

use std::io::Write as _;

use bytes::Bytes;
use flate2::{Compression, write::GzEncoder};

use super::*;
use crate::{
    http,
    line::{Filler, LineId, Stream, Tail, compose},
};

fn text(seq: u64) -> String {
    let mut text = Vec::new();
    let id = LineId { run: 1, source: 2, stream: Stream::Stdout, seq };
    compose(&mut text, id, now_ns(), Filler { plain: b"words", tail: Tail { raw: "", json: "" } }, false);
    String::from_utf8(text).expect("ASCII")
}

fn json_lines(seqs: std::ops::Range<u64>) -> Vec<u8> {
    seqs.map(|seq| format!("{{\"_msg\":\"{0}\",\"log\":\"{0}\"}}\n", text(seq))).collect::<String>().into_bytes()
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(bytes).and_then(|()| encoder.finish()).expect("in memory")
}

fn zstd(bytes: &[u8]) -> Vec<u8> {
    zstd::encode_all(bytes, 1).expect("in memory")
}

async fn start() -> (Sink, String) {
    let sink = Sink::default();
    let address = serve(([127, 0, 0, 1], 0).into(), sink.router()).await.expect("a port");
    (sink, format!("http://{address}"))
}

async fn post(url: String, encoding: &str, body: Vec<u8>) -> Result<()> {
    let request = http::client().post(&url).header("Content-Encoding", encoding).body(body);
    http::send(&url, request).await.map(drop)
}

#[tokio::test]
async fn json_lines_are_counted_in_every_encoding() {
    let (sink, url) = start().await;
    let url = format!("{url}/insert/jsonline");
    post(url.clone(), "identity", json_lines(0..10)).await.expect("taken");
    post(url.clone(), "gzip", [gzip(&json_lines(10..20)), gzip(&json_lines(20..30))].concat()).await.expect("taken");
    post(url.clone(), "zstd", [zstd(&json_lines(30..40)), zstd(&json_lines(39..50))].concat()).await.expect("taken");
    post(url.clone(), "identity", b"{\"_msg\":\"not ours\"}\n{\"a\":1}".to_vec()).await.expect("taken");
    // Joined to one another they are here, too.
    let joined = format!("{{\"_msg\":\"{}\\n{}\"}}\n", text(50), text(51));
    post(url.clone(), "identity", joined.into_bytes()).await.expect("taken");
    let report = sink.report();
    assert_eq!((report.requests, report.records, report.numbered), (5, 54, 53));
    assert_eq!((report.distinct, report.duplicates, report.missing), (52, 1, 0));
    assert_eq!(report.latency.lines, 52);
    assert!(report.wire_bytes < report.body_bytes);
}

#[tokio::test]
async fn what_is_missing_is_seen() {
    let (sink, url) = start().await;
    sink.take_lines(&json_lines(5..10), 1, now_ns());
    let report = http::get_text(&format!("{url}/report")).await.expect("answered");
    let report: serde_json::Value = serde_json::from_str(&report).expect("JSON");
    assert_eq!(report["missing"], 5);
    post(format!("{url}/reset"), "identity", Vec::new()).await.expect("taken");
    assert_eq!(sink.report().records, 0);
}

#[tokio::test]
async fn otlp_records_are_counted() {
    let (sink, url) = start().await;
    // A LogRecord whose body (field 5) is an AnyValue whose string (field 1) is the text.
    let record = |seq| {
        let text = text(seq).into_bytes();
        let value = [&[0x0a, u8::try_from(text.len()).expect("short")], &text[..]].concat();
        Bytes::from([&[0x2a, u8::try_from(value.len()).expect("short")], &value[..]].concat())
    };
    let scope = |seqs: std::ops::Range<u64>| otlp::ScopeLogs { records: seqs.map(record).collect() };
    let logs = otlp::ExportLogs {
        resources: vec![
            otlp::ResourceLogs { resource: Bytes::new(), scopes: vec![scope(0..3), scope(3..5)] },
            otlp::ResourceLogs { resource: "\x0a\x16app.kubernetes.io/name".into(), scopes: vec![scope(5..9)] },
        ],
    };
    post(format!("{url}/v1/logs"), "gzip", gzip(&logs.encode_to_vec())).await.expect("taken");
    let report = sink.report();
    assert_eq!((report.records, report.distinct, report.missing), (9, 9, 0));
    assert_eq!((report.resources, report.described), (2, 1));
}

#[tokio::test]
async fn bad_bodies_are_refused_and_counted() {
    let (sink, url) = start().await;
    for (path, encoding) in [("insert/jsonline", "zstd"), ("insert/jsonline", "br"), ("v1/logs", "identity")] {
        let answer = post(format!("{url}/{path}"), encoding, b"\x0anonsense".to_vec()).await;
        assert!(matches!(answer, Err(Error::Status { status: 400 | 415, .. })), "{answer:?}");
    }
    assert_eq!((sink.report().refused, sink.report().requests), (3, 0));
}

#[tokio::test]
async fn behind_tls_lines_are_counted_and_strangers_let_go() {
    let dir = tempfile::tempdir().expect("a directory");
    let tls = Tls::new(dir.path().join("ca.pem")).expect("certificates");
    let sink = Sink::default();
    let address = serve_tls(([127, 0, 0, 1], 0).into(), sink.router(), &tls).await.expect("a port");
    // Neither plain HTTP nor a client that does not know the authority gets in, or in the way.
    post(format!("http://{address}/insert/jsonline"), "identity", json_lines(0..1)).await.expect_err("TLS only");
    post(format!("https://{address}/insert/jsonline"), "identity", json_lines(0..1)).await.expect_err("unknown CA");
    let ca = reqwest::Certificate::from_pem(&std::fs::read(&tls.ca_file).expect("written")).expect("PEM");
    let client = reqwest::Client::builder().no_proxy().tls_certs_only([ca]).build().expect("a client");
    let request = client.post(format!("https://{address}/insert/jsonline")).body(json_lines(0..10));
    assert!(request.send().await.expect("an answer").status().is_success());
    assert_eq!((sink.report().requests, sink.report().distinct), (1, 10));
}
