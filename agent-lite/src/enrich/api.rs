//! Requests to the Kubernetes API: who we are, one GET or POST, and replies read as they come.
//!
//! `kube` knows how a client is let in (service accounts, kubeconfigs, their renewal) and does the
//! TLS. Bodies are read here, not by it: bounded, and never whole.

use std::path::PathBuf;
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt as _, Limited};
use kube::client::Body;
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};
use serde::Deserialize;
use tokio::sync::Mutex;
use tokio::time::{Instant, timeout};

/// From a request to the head of its reply.
const HEAD: Duration = Duration::from_secs(30);
/// Bytes of a reply that is read whole: a refusal, a namespace.
const MAX_REPLY: usize = 1024 * 1024;
/// A client is made anew after this time: kubeconfigs are not watched.
const CLIENT_AGE: Duration = Duration::from_secs(60);

/// The way to the API server.
pub(super) struct Access {
    kubeconfig: Option<PathBuf>,
    client: Mutex<Option<(Client, Instant)>>,
}

/// Why something was not to be had.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text}")]
pub(super) struct Failure {
    /// For the metric.
    pub(super) kind: &'static str,
    text: String,
}

/// What the API says when it refuses.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Status {
    #[serde(deserialize_with = "super::pod::or_default")]
    code: u16,
    #[serde(deserialize_with = "super::pod::or_default")]
    message: String,
}

impl Failure {
    pub(super) fn new(kind: &'static str, error: &(dyn std::error::Error + 'static)) -> Self {
        let causes = std::iter::successors(error.source(), |error| error.source());
        Self { kind, text: causes.fold(error.to_string(), |text, cause| format!("{text}: {cause}")) }
    }

    pub(super) fn timeout(what: &str, after: Duration) -> Self {
        Self { kind: "timeout", text: format!("{what} within {after:?}") }
    }

    /// By its status; the text is the API's own.
    pub(super) fn refused(code: u16, message: &str) -> Self {
        let kind = match code {
            401 => "unauthorized",
            403 => "forbidden",
            404 => "not-found",
            409 => "conflict",
            410 => "gone",
            429 => "throttled",
            500.. => "server",
            _ => "refused",
        };
        let message: String = message.chars().take(300).collect();
        Self { kind, text: format!("status {code}: {message}") }
    }
}

impl From<Status> for Failure {
    fn from(status: Status) -> Self {
        Self::refused(status.code, &status.message)
    }
}

impl From<kube::Error> for Failure {
    fn from(error: kube::Error) -> Self {
        let kind = match &error {
            kube::Error::HyperError(_) | kube::Error::Service(_) | kube::Error::ReadEvents(_) => "unreachable",
            kube::Error::Auth(_) => "credentials",
            _ => "config",
        };
        Self::new(kind, &error)
    }
}

impl Access {
    /// `None`: the pod's service account.
    pub(super) fn new(kubeconfig: Option<PathBuf>) -> Self {
        // `kube` asks for the process's TLS provider; where there is one already, that is it.
        let _ = rustls::crypto::ring::default_provider().install_default();
        Self { kubeconfig, client: Mutex::new(None) }
    }

    /// Who we are, read anew.
    pub(super) async fn config(&self) -> Result<Config, Failure> {
        let mut config = match &self.kubeconfig {
            None => Config::incluster().map_err(|error| Failure::new("config", &error))?,
            Some(path) => {
                let kubeconfig = Kubeconfig::read_from(path).map_err(|error| Failure::new("config", &error))?;
                let config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await;
                config.map_err(|error| Failure::new("config", &error))?
            }
        };
        config.connect_timeout = Some(Duration::from_secs(10));
        // Whoever asks waits in its own way.
        config.default_retry = false;
        Ok(config)
    }

    /// A client that was made not long ago.
    pub(super) async fn client(&self) -> Result<Client, Failure> {
        let mut held = self.client.lock().await;
        if let Some((client, since)) = &*held
            && since.elapsed() < CLIENT_AGE
        {
            return Ok(client.clone());
        }
        let client = Client::try_from(self.config().await?)?;
        *held = Some((client.clone(), Instant::now()));
        Ok(client)
    }

    /// After a failure: the next client reads its files anew, and connects anew.
    pub(super) async fn forget(&self) {
        *self.client.lock().await = None;
    }
}

/// A GET whose reply is yet to be read.
pub(super) async fn get(client: &Client, uri: &str) -> Result<Reply, Failure> {
    request(client, Method::GET, uri, Body::empty()).await
}

/// A POST of JSON; its reply is read and dropped.
pub(super) async fn post(client: &Client, uri: &str, json: Vec<u8>) -> Result<(), Failure> {
    request(client, Method::POST, uri, Body::from(json)).await?.whole().await.map(|_| ())
}

async fn request(client: &Client, method: Method, uri: &str, body: Body) -> Result<Reply, Failure> {
    let request = Request::builder().method(method).uri(uri).header(header::ACCEPT, "application/json");
    let request = request.header(header::CONTENT_TYPE, "application/json").body(body);
    let request = request.map_err(|error| Failure::new("config", &error))?;
    let response = timeout(HEAD, client.send(request)).await.map_err(|_| Failure::timeout("no reply", HEAD))??;
    let status = response.status();
    let reply = Reply(response);
    if status.is_success() { Ok(reply) } else { Err(reply.refusal(status).await) }
}

/// A reply whose head was good.
#[derive(Debug)]
pub(super) struct Reply(Response<Body>);

impl Reply {
    /// The next bytes, `None` at the end; a failure after `idle` without any.
    pub(super) async fn next(&mut self, idle: Duration) -> Result<Option<Bytes>, Failure> {
        loop {
            let frame = timeout(idle, self.0.body_mut().frame()).await;
            match frame.map_err(|_| Failure::timeout("not a byte", idle))? {
                None => return Ok(None),
                Some(Err(error)) => return Err(Failure::new("unreachable", &error)),
                Some(Ok(frame)) => {
                    if let Ok(bytes) = frame.into_data() {
                        return Ok(Some(bytes));
                    }
                }
            }
        }
    }

    /// All of it.
    pub(super) async fn whole(self) -> Result<Bytes, Failure> {
        let body = Limited::new(self.0.into_body(), MAX_REPLY).collect();
        let body = timeout(HEAD, body).await.map_err(|_| Failure::timeout("no whole reply", HEAD))?;
        body.map(|body| body.to_bytes()).map_err(|error| Failure::new("unreachable", &*error))
    }

    async fn refusal(self, status: StatusCode) -> Failure {
        let body = self.whole().await.unwrap_or_default();
        match serde_json::from_slice::<Status>(&body) {
            Ok(said) => Failure::refused(status.as_u16(), &said.message),
            Err(_) => Failure::refused(status.as_u16(), &String::from_utf8_lossy(&body)),
        }
    }
}
