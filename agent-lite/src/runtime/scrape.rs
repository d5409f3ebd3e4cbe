//! One GET, bounded in time and bytes, read as it comes.

use std::time::Duration;

use bytes::Bytes;
use http::{Request, StatusCode, Uri, header};
use http_body_util::{BodyExt as _, Empty};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::text::{Answer, Reading};

/// Of an answer, bytes; containerd's has 200 KiB without a container.
const MAX_ANSWER: usize = 16 * 1024 * 1024;

/// Why there is no reading.
#[derive(Debug, thiserror::Error)]
pub(super) enum ScrapeError {
    /// The network.
    #[error("cannot connect: {0}")]
    Connect(#[from] std::io::Error),
    /// HTTP.
    #[error("cannot talk: {0}")]
    Http(#[from] hyper::Error),
    /// The URL cannot be asked for.
    #[error("no request: {0}")]
    Request(#[from] http::Error),
    /// Not 200.
    #[error("status {0}: is the path /v1/metrics?")]
    Status(StatusCode),
    /// It has no end.
    #[error("an answer of more than {MAX_ANSWER} bytes")]
    TooLarge,
    /// Something else answers, or containerd without CRI.
    #[error("the answer has no containerd_cri_output_bytes_total and _entries_total: is this containerd?")]
    NoCounters,
    /// It took too long.
    #[error("no whole answer within {0:?}")]
    Timeout(Duration),
}

/// What the runtime has written. It may take until `limit`, from the connection to the end of the answer.
pub(super) async fn scrape(url: &Uri, limit: Duration) -> Result<Reading, ScrapeError> {
    timeout(limit, get(url)).await.unwrap_or(Err(ScrapeError::Timeout(limit)))
}

async fn get(url: &Uri) -> Result<Reading, ScrapeError> {
    let host = url.host().unwrap_or_default();
    let address = (host.trim_start_matches('[').trim_end_matches(']'), url.port_u16().unwrap_or(80));
    let stream = TcpStream::connect(address).await?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    // It ends with what asks.
    let mut driver = JoinSet::new();
    driver.spawn(connection);
    let path = url.path_and_query().map_or("/", |path| path.as_str());
    let authority = url.authority().map_or(host, |authority| authority.as_str());
    let request = Request::get(path).header(header::HOST, authority).body(Empty::<Bytes>::new())?;
    let response = sender.send_request(request).await?;
    if response.status() != StatusCode::OK {
        return Err(ScrapeError::Status(response.status()));
    }
    let (mut body, mut answer, mut length) = (response.into_body(), Answer::default(), 0);
    while let Some(frame) = body.frame().await {
        if let Ok(piece) = frame?.into_data() {
            length += piece.len();
            if length > MAX_ANSWER {
                return Err(ScrapeError::TooLarge);
            }
            answer.take(&piece);
        }
    }
    answer.reading().ok_or(ScrapeError::NoCounters)
}
