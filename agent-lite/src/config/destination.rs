//! Where logs go: `gateway:`, or `direct:` to a store.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use http::Uri;
use sluice_settings::{Environment, Map, Node};
use sluice_wire::Encoding;

use crate::ship::{Credential, Endpoint, Peer, PoolSettings, Protocol, Proxy, Store, TlsFiles};

/// By which VictoriaLogs tells streams apart: few values each.
const STREAM_FIELDS: [&str; 5] = ["cluster", "k8s_namespace_name", "k8s_pod_name", "k8s_container_name", "stream"];
/// Where VictoriaLogs takes JSON lines.
const INSERT: &str = "/insert/jsonline";

/// One kind of destination.
#[derive(Debug, Clone)]
pub struct Destination {
    /// Gateways, or the store.
    pub endpoints: Vec<Arc<Endpoint>>,
    /// How connections are kept.
    pub pool: PoolSettings,
    /// How blocks are compressed.
    pub compression: Encoding,
    /// How long a block in doubt waits for the journal that may hold it; zero where there is none.
    pub in_doubt_max: Duration,
}

/// What both kinds are told.
struct Common {
    ca: Option<PathBuf>,
    client: Option<(PathBuf, PathBuf)>,
    protocol: Protocol,
    proxy: ProxySetting,
    connect_timeout: Duration,
    request_timeout: Option<Duration>,
    pool: PoolSettings,
    compression: Option<Encoding>,
}

enum ProxySetting {
    None,
    Environment,
    Fixed(Proxy),
}

/// Reads whichever of `gateway` and `direct` is there.
pub(super) fn read(map: &Map<'_>, env: &Environment<'_>) -> Option<Destination> {
    match map.choice(&["gateway", "direct"])? {
        ("gateway", node) => node.map(|map| gateway(map, env)),
        (_, node) => node.map(|map| direct(map, env)),
    }
}

fn gateway(map: &Map<'_>, env: &Environment<'_>) -> Option<Destination> {
    let urls = map.required("urls");
    let read_urls: Vec<Option<Uri>> =
        urls.list().map(|node| node.read("a url like http://gateway:7070", parse_url)).collect();
    let token_file = map.optional("token_file").file();
    let in_doubt_max = map.optional("in_doubt_max").duration(seconds(1, 6 * 86_400));
    let common = common(map)?;
    if urls.is_present() && read_urls.is_empty() {
        urls.fault("at least one url is needed");
    }
    let read_urls: Vec<Uri> = read_urls.into_iter().collect::<Option<_>>()?;
    let credential = token_file.map_or(Credential::None, Credential::Token);
    let endpoint = |url| common.endpoint(map, env, url, Peer::Gateway, credential.clone(), Duration::from_secs(30));
    let endpoints: Vec<_> = read_urls.into_iter().map(endpoint).collect::<Option<_>>()?;
    (!endpoints.is_empty()).then(|| Destination {
        endpoints,
        pool: common.pool.clone(),
        compression: common.compression.unwrap_or(Encoding::Zstd),
        in_doubt_max: in_doubt_max.unwrap_or(Duration::from_secs(3600)),
    })
}

fn direct(map: &Map<'_>, env: &Environment<'_>) -> Option<Destination> {
    let url = map.optional("url");
    let read_url = if url.is_present() {
        url.read("a url like http://vmauth:8427/insert/jsonline", parse_url)
    } else {
        let url = url_from_environment(env);
        if url.is_none() {
            url_missing(&map.optional("url"));
        }
        url
    };
    let tenant = map.optional("tenant");
    let read_tenant =
        if tenant.is_present() { tenant.text().map(str::to_owned) } else { env("OBSERVABILITY_LOG_TENANT") };
    let fields = map.optional("stream_fields");
    let stream_fields: Option<Vec<String>> = match fields.is_present() {
        true => fields.list().map(|field| field.read("a field's name without a comma", parse_field)).collect(),
        false => Some(STREAM_FIELDS.map(str::to_owned).to_vec()),
    };
    let token_file = map.optional("token_file").file();
    let (user, password_file) = (map.optional("user").text(), map.optional("password_file").file());
    let common = common(map)?;
    let credential = match (token_file, user, password_file) {
        (None, None, None) => Credential::None,
        (Some(token), None, None) => Credential::Token(token),
        (None, Some(user), Some(password_file)) => Credential::Basic { user: user.to_owned(), password_file },
        _ => {
            map.node().fault("either token_file, or user and password_file");
            return None;
        }
    };
    let Some(store) = Store::new(read_tenant.as_deref().filter(|tenant| !tenant.is_empty()), stream_fields?) else {
        tenant.fault("expected a tenant of visible characters");
        return None;
    };
    let url = with_insert_path(read_url?)?;
    // Below the minute that the store waits for itself (`-insert.maxQueueDuration`).
    let endpoint = common.endpoint(map, env, url, Peer::Store(store), credential, Duration::from_secs(45))?;
    Some(Destination {
        endpoints: vec![endpoint],
        pool: common.pool,
        compression: common.compression.unwrap_or(Encoding::Gzip),
        in_doubt_max: Duration::ZERO,
    })
}

fn url_missing(node: &Node<'_>) {
    node.fault("it is missing: add it, or set OBSERVABILITY_LOG_ENDPOINT_HOST (and …_PORT, …_PATH)");
}

fn url_from_environment(env: &Environment<'_>) -> Option<Uri> {
    let read = |name: &str| env(&format!("OBSERVABILITY_LOG_ENDPOINT_{name}")).filter(|value| !value.is_empty());
    let host = read("HOST")?;
    let port = read("PORT").unwrap_or_else(|| "8427".to_owned());
    let path = read("PATH").unwrap_or_else(|| INSERT.to_owned());
    parse_url(&format!("http://{host}:{port}/{}", path.trim_start_matches('/')))
}

fn with_insert_path(url: Uri) -> Option<Uri> {
    if url.path() != "/" {
        return Some(url);
    }
    let mut parts = url.into_parts();
    parts.path_and_query = Some(http::uri::PathAndQuery::from_static(INSERT));
    Uri::from_parts(parts).ok()
}

fn parse_field(text: &str) -> Option<String> {
    (!text.is_empty() && !text.contains(',')).then(|| text.to_owned())
}

fn common(map: &Map<'_>) -> Option<Common> {
    let ca = map.optional("ca_file").file();
    let certificate = map.optional("certificate_file").file();
    let key = map.optional("key_file").file();
    let protocols = [("auto", Protocol::Auto), ("http1", Protocol::Http1), ("http2", Protocol::Http2)];
    let protocol = map.optional("protocol").one_of(&protocols);
    let encodings = [("zstd", Encoding::Zstd), ("gzip", Encoding::Gzip), ("none", Encoding::None)];
    let compression = map.optional("compression").one_of(&encodings);
    let proxy = proxy(map);
    let connections = map.optional("connections").integer(1..=16_usize);
    let max_age = map.optional("connection_max_age").duration(seconds(5, 86_400));
    let dns_interval = map.optional("dns_interval").duration(seconds(1, 3600));
    let connect_timeout =
        map.optional("connect_timeout").duration(Duration::from_millis(100)..=Duration::from_secs(60));
    let request_timeout = map.optional("request_timeout").duration(seconds(1, 600));
    let client = match (certificate, key) {
        (Some(certificate), Some(key)) => Some((certificate, key)),
        (None, None) => None,
        _ => {
            map.node().fault("certificate_file and key_file go together: give both or none");
            return None;
        }
    };
    Some(Common {
        ca,
        client,
        protocol: protocol.unwrap_or(Protocol::Http1),
        proxy: proxy?,
        connect_timeout: connect_timeout.unwrap_or(Duration::from_secs(5)),
        request_timeout,
        pool: PoolSettings {
            connections: connections.unwrap_or(2),
            max_age: max_age.unwrap_or(Duration::from_secs(300)),
            dns_interval: dns_interval.unwrap_or(Duration::from_secs(30)),
        },
        compression,
    })
}

fn proxy(map: &Map<'_>) -> Option<ProxySetting> {
    let node = map.optional("proxy");
    let credentials = map.optional("proxy_credentials_file");
    let file = credentials.file();
    if !node.is_present() {
        credentials.refuse("there is no proxy that it could be for: add proxy, or leave it out");
        return Some(ProxySetting::None);
    }
    // What is written may hold a password, so a fault does not repeat it.
    let text = node.read("a proxy's url", Some)?;
    if text == "environment" {
        credentials.refuse("it goes with a proxy's url only: `environment` takes both from the environment");
        return Some(ProxySetting::Environment);
    }
    let parsed = Proxy::parse(text, file);
    if parsed.is_none() {
        node.fault("expected `environment`, or a proxy like http://proxy:3128; socks and https proxies are not spoken");
    }
    parsed.map(ProxySetting::Fixed)
}

impl Common {
    fn endpoint(
        &self,
        map: &Map<'_>,
        env: &Environment<'_>,
        url: Uri,
        peer: Peer,
        credential: Credential,
        request_timeout: Duration,
    ) -> Option<Arc<Endpoint>> {
        let is_https = url.scheme_str() == Some("https");
        if is_https && self.ca.is_none() {
            map.node().fault("an https url needs ca_file, the certificates that may sign the other end's");
            return None;
        }
        let has_secrets = credential != Credential::None || self.client.is_some();
        if !is_https && has_secrets && !is_loopback(&url) {
            map.node().fault("credentials are not sent in clear: use an https url with ca_file");
            return None;
        }
        let proxy = match &self.proxy {
            ProxySetting::None => None,
            ProxySetting::Fixed(proxy) => Some(proxy.clone()),
            ProxySetting::Environment => {
                let proxy = Proxy::from_environment(&url, env);
                if proxy.is_none() {
                    map.optional("proxy").fault("HTTPS_PROXY is no proxy like http://proxy:3128");
                }
                proxy?
            }
        };
        Some(Arc::new(Endpoint {
            tls: self.ca.clone().filter(|_| is_https).map(|ca| TlsFiles { ca, client: self.client.clone() }),
            url,
            peer,
            credential,
            protocol: self.protocol,
            proxy,
            connect_timeout: self.connect_timeout,
            request_timeout: self.request_timeout.unwrap_or(request_timeout),
        }))
    }
}

fn seconds(from: u64, to: u64) -> std::ops::RangeInclusive<Duration> {
    Duration::from_secs(from)..=Duration::from_secs(to)
}

fn parse_url(text: &str) -> Option<Uri> {
    let url: Uri = text.parse().ok()?;
    let is_known = matches!(url.scheme_str(), Some("http" | "https"));
    let names_user = url.authority().is_some_and(|authority| authority.as_str().contains('@'));
    (is_known && !names_user && url.query().is_none() && url.host().is_some_and(|host| !host.is_empty())).then_some(url)
}

fn is_loopback(url: &Uri) -> bool {
    let host = url.host().unwrap_or_default().trim_matches(['[', ']']);
    host == "localhost" || host.parse().is_ok_and(|address: std::net::IpAddr| address.is_loopback())
}

#[cfg(test)]
mod tests;
