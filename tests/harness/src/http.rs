//! The few HTTP requests that the harness makes, all to loopback.

use std::{sync::OnceLock, time::Duration};

use reqwest::{Client, RequestBuilder, Response};

use crate::error::{Error, Result};

/// One client for all, which keeps no connection: each test has a runtime of its own, and a connection that
/// outlived its runtime would fail the next test.
pub(crate) fn client() -> &'static Client {
    static CLIENT: OnceLock<Client> = OnceLock::new();
    CLIENT.get_or_init(|| {
        Client::builder()
            .no_proxy()
            .pool_max_idle_per_host(0)
            .connect_timeout(Duration::from_secs(5))
            .build()
            .expect("a client without options that can be wrong")
    })
}

/// Sends, and makes an error of every answer that is not 2xx.
pub(crate) async fn send(url: &str, request: RequestBuilder) -> Result<Response> {
    let response = request.send().await.map_err(|source| failed(url, source))?;
    if response.status().is_success() {
        return Ok(response);
    }
    let status = response.status().as_u16();
    let body = response.text().await.unwrap_or_default();
    Err(Error::Status { url: url.to_owned(), status, body })
}

pub(crate) async fn get_text(url: &str) -> Result<String> {
    let request = client().get(url).timeout(Duration::from_secs(10));
    send(url, request).await?.text().await.map_err(|source| failed(url, source))
}

pub(crate) fn failed(url: &str, source: reqwest::Error) -> Error {
    Error::Http { url: url.to_owned(), source }
}
