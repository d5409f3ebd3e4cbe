//! An HTTP proxy on the way: `CONNECT`, then everything as if there were none (RFC 9110, section 9.3.6).

use std::fmt;
use std::path::PathBuf;

use http::header::{HOST, HeaderValue, PROXY_AUTHORIZATION};
use http::{Method, Request, StatusCode, Uri};
use http_body_util::Empty;
use hyper::client::conn::http1;
use hyper_util::client::proxy::matcher::{Intercept, Matcher};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

use super::connection::ConnectError;
use super::credential;
use super::transport::{Stream, tune};

/// A proxy, by host and port.
#[derive(Clone)]
pub struct Proxy {
    host: String,
    port: u16,
    authorization: Option<HeaderValue>,
    credentials_file: Option<PathBuf>,
}

impl fmt::Debug for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Proxy").field("host", &self.host).field("port", &self.port).finish_non_exhaustive()
    }
}

impl Proxy {
    /// Out of `http://[user:password@]host:port`; `None` where it is none. `credentials_file` holds
    /// `user:password` and counts in the stead of those in the url.
    #[must_use]
    pub fn parse(url: &str, credentials_file: Option<PathBuf>) -> Option<Self> {
        // Without a scheme a matcher would take anything for a host.
        let anywhere = Uri::from_static("https://anywhere");
        let intercept =
            Matcher::builder().all(url.starts_with("http://").then_some(url)?).build().intercept(&anywhere)?;
        Self::new(&intercept, credentials_file)
    }

    /// What `HTTPS_PROXY` and `NO_PROXY` say of `url`, in capitals or not. As we speak `CONNECT` to it, the
    /// proxy for https serves for http as well. `Some(None)`: none is to be used; `None`: what is said is
    /// no proxy that we could use.
    #[must_use]
    pub fn from_environment(url: &Uri, env: &dyn Fn(&str) -> Option<String>) -> Option<Option<Self>> {
        let read = |name: &str| env(name).or_else(|| env(&name.to_lowercase())).filter(|value| !value.is_empty());
        let Some(proxy) = read("HTTPS_PROXY") else { return Some(None) };
        let matcher = Matcher::builder().all(proxy.as_str()).no(read("NO_PROXY").unwrap_or_default()).build();
        match matcher.intercept(url) {
            Some(intercept) => Self::new(&intercept, None).map(Some),
            // Told apart from a value that cannot be used: without exceptions there would be a proxy.
            None => Matcher::builder().all(proxy).build().intercept(url).map(|_| None),
        }
    }

    fn new(intercept: &Intercept, credentials_file: Option<PathBuf>) -> Option<Self> {
        let uri = intercept.uri();
        if uri.scheme_str() != Some("http") {
            return None;
        }
        let mut authorization = intercept.basic_auth().cloned();
        if let Some(value) = &mut authorization {
            value.set_sensitive(true);
        }
        let host = uri.host().filter(|host| !host.is_empty())?.to_owned();
        Some(Self { host, port: uri.port_u16().unwrap_or(80), authorization, credentials_file })
    }

    /// The file that its credentials are read from.
    pub(super) fn file(&self) -> Option<&std::path::Path> {
        self.credentials_file.as_deref()
    }

    /// A stream to `host:port` through it.
    pub(super) async fn tunnel(&self, host: &str, port: u16) -> Result<Stream, ConnectError> {
        let authorization = match &self.credentials_file {
            Some(path) => credential::basic_from_file(path)?,
            None => self.authorization.clone(),
        };
        let stream = TcpStream::connect((self.host.trim_matches(['[', ']']), self.port)).await?;
        tune(&stream)?;
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
        // Ends when the tunnel is taken over, or with an error that the sender is told of.
        let driver = tokio::spawn(connection.with_upgrades());
        let target = format!("{host}:{port}");
        let mut request = Request::builder().method(Method::CONNECT).uri(&target).header(HOST, &target);
        if let Some(value) = authorization {
            request = request.header(PROXY_AUTHORIZATION, value);
        }
        let request =
            request.body(Empty::<bytes::Bytes>::new()).map_err(|error| ConnectError::Proxy(error.to_string()))?;
        let response = sender.send_request(request).await?;
        if response.status() != StatusCode::OK {
            driver.abort();
            return Err(ConnectError::Proxy(format!("it answers {} to CONNECT {target}", response.status())));
        }
        Ok(Box::new(TokioIo::new(hyper::upgrade::on(response).await?)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_proxys_password_is_not_shown() {
        let proxy = Proxy::parse("http://user:secret%40@proxy:3128", None).unwrap();
        assert_eq!((&*proxy.host, proxy.port), ("proxy", 3128));
        // base64 of `user:secret@`.
        assert_eq!(proxy.authorization.as_ref().unwrap().as_bytes(), b"Basic dXNlcjpzZWNyZXRA");
        let shown = format!("{proxy:?}");
        assert!(!shown.contains("secret") && !shown.contains("dXNl"), "{shown}");
    }

    #[test]
    fn what_is_no_http_proxy_is_refused() {
        for url in ["socks5://proxy:1080", "https://proxy:3128", "proxy:3128", "http://", ""] {
            assert!(Proxy::parse(url, None).is_none(), "{url}");
        }
    }

    #[test]
    fn the_environment_says_for_which_hosts() {
        let env = |name: &str| match name {
            "https_proxy" => Some("http://proxy:3128".to_owned()),
            "NO_PROXY" => Some(".svc,10.0.0.0/8".to_owned()),
            _ => None,
        };
        let host =
            |url: &'static str| Proxy::from_environment(&Uri::from_static(url), &env).unwrap().map(|proxy| proxy.host);
        assert_eq!(host("https://gateway.example:7070"), Some("proxy".to_owned()));
        assert_eq!(host("http://gateway.example:7070"), Some("proxy".to_owned()));
        assert_eq!(host("https://gateway.logs.svc:7070"), None);
        assert_eq!(host("https://10.1.2.3:7070"), None);
        let url = Uri::from_static("https://gateway");
        assert!(Proxy::from_environment(&url, &|_| None).is_some_and(|proxy| proxy.is_none()));
        let socks = |name: &str| (name == "HTTPS_PROXY").then(|| "socks5://proxy".to_owned());
        assert!(Proxy::from_environment(&url, &socks).is_none());
    }
}
