use super::*;

fn read_with(text: &str, env: &Environment<'_>) -> Result<Destination, String> {
    let read = |node: &Node<'_>| node.map(|map| super::read(map, env));
    sluice_settings::from_str(text, env, read).map_err(|faults| faults.to_string())
}

fn read(text: &str) -> Result<Destination, String> {
    read_with(text, &|_| None)
}

#[test]
fn secrets_do_not_travel_in_clear() {
    let config = |url: &str| read(&format!("gateway: {{urls: ['{url}'], token_file: /t, ca_file: /ca}}"));
    assert!(config("http://gateway:7070").unwrap_err().contains("not sent in clear"));
    assert!(config("http://127.0.0.1:7070").is_ok());
    assert!(config("https://gateway:7070").is_ok());
    assert!(read("gateway: {urls: ['https://g']}").unwrap_err().contains("ca_file"));
    let basic = read("direct: {url: 'http://store', user: u, password_file: /p}").unwrap_err();
    assert!(basic.contains("not sent in clear"));
}

#[test]
fn a_gateway_has_its_defaults_and_what_is_written() {
    let gateway = read("gateway: {urls: ['http://g:7070']}").unwrap();
    assert_eq!((gateway.compression, gateway.in_doubt_max.as_secs()), (Encoding::Zstd, 3600));
    assert_eq!((gateway.pool.connections, gateway.pool.max_age.as_secs()), (2, 300));
    let endpoint = &gateway.endpoints[0];
    assert!(matches!(endpoint.peer, Peer::Gateway) && endpoint.proxy.is_none());
    assert_eq!((endpoint.protocol, endpoint.request_timeout.as_secs()), (Protocol::Http1, 30));
    let written = "gateway: {urls: ['http://g'], protocol: http2, compression: gzip, connection_max_age: 10s, \
                   dns_interval: 5s, proxy: 'http://p:3128'}";
    let gateway = read(written).unwrap();
    assert_eq!((gateway.compression, gateway.pool.max_age.as_secs()), (Encoding::Gzip, 10));
    assert_eq!((gateway.endpoints[0].protocol, gateway.pool.dns_interval.as_secs()), (Protocol::Http2, 5));
    assert!(gateway.endpoints[0].proxy.is_some());
}

#[test]
fn a_store_takes_what_is_not_written_from_the_environment() {
    let env = |name: &str| match name {
        "OBSERVABILITY_LOG_ENDPOINT_HOST" => Some("vmauth.logs.svc".to_owned()),
        "OBSERVABILITY_LOG_ENDPOINT_PORT" => Some("8428".to_owned()),
        "OBSERVABILITY_LOG_ENDPOINT_PATH" => Some("/a/insert/jsonline".to_owned()),
        "OBSERVABILITY_LOG_TENANT" => Some("bank".to_owned()),
        _ => None,
    };
    let direct = read_with("direct: {}", &env).unwrap();
    assert_eq!(direct.endpoints[0].url, "http://vmauth.logs.svc:8428/a/insert/jsonline");
    assert_eq!((direct.compression, direct.in_doubt_max), (Encoding::Gzip, Duration::ZERO));
    let Peer::Store(store) = &direct.endpoints[0].peer else { panic!("a store") };
    assert!(format!("{store:?}").contains("bank"));
    let written = read_with("direct: {url: 'http://store:9428', tenant: shop}", &env).unwrap();
    assert_eq!(written.endpoints[0].url, "http://store:9428/insert/jsonline");
    assert!(read("direct: {}").unwrap_err().contains("OBSERVABILITY_LOG_ENDPOINT_HOST"));
}

#[test]
fn a_fault_does_not_repeat_a_proxys_password() {
    let fault = read("gateway: {urls: ['http://g'], proxy: 'socks5://user:secret@p'}").unwrap_err();
    assert!(fault.contains("gateway.proxy") && !fault.contains("secret"), "{fault}");
    let env = |name: &str| (name == "HTTPS_PROXY").then(|| "https://user:secret@p".to_owned());
    let fault = read_with("gateway: {urls: ['http://g'], proxy: environment}", &env).unwrap_err();
    assert!(fault.contains("HTTPS_PROXY") && !fault.contains("secret"), "{fault}");
    let shown = format!("{:?}", read("gateway: {urls: ['http://g'], proxy: 'http://user:secret@p'}").unwrap());
    assert!(!shown.contains("secret"), "{shown}");
}

#[test]
fn what_does_not_go_together_is_a_fault() {
    for (text, expected) in [
        ("cluster: x", "gateway, direct"),
        ("gateway: {urls: ['http://g']}\ndirect: {url: 'http://s'}", "only one of"),
        ("gateway: {urls: []}", "at least one url"),
        ("gateway: {urls: ['http://g'], key_file: /k}", "go together"),
        ("gateway: {urls: ['http://g'], proxy_credentials_file: /c}", "there is no proxy"),
        ("gateway: {urls: ['http://user:secret@g']}", "a url like"),
        ("direct: {url: 'http://s', token_file: /t, user: u}", "either token_file"),
        ("direct: {url: 'http://s', stream_fields: ['a,b']}", "without a comma"),
        ("direct: {url: 'http://s', tenant: \"a\\x01b\"}", "visible"),
        ("direct: {url: 'http://s', protocol: http3}", "one of auto, http1, http2"),
    ] {
        let fault = read(text).map(|_| String::new()).unwrap_or_else(|fault| fault);
        assert!(fault.contains(expected), "{text}: {fault}");
    }
}
