//! This node's pods out of its kubelet: `GET /pods`, polled. It needs RBAC `nodes/pods` alone (from
//! Kubernetes 1.36 on; `KubeletFineGrainedAuthz`), and costs the API server nothing.

use std::path::{Path, PathBuf};
use std::time::Duration;

use http::Uri;
use kube::{Client, Config};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use tokio::time::{Instant, sleep, sleep_until};

use super::Pods;
use super::api::{self, Access, Failure};
use super::pods::take;
use crate::backoff::Backoff;

/// Between polls.
const INTERVAL: Duration = Duration::from_secs(10);
/// Between polls where pods are asked for that are not known.
const AT_ONCE: Duration = Duration::from_secs(1);

/// Where the kubelet is, and how it is known to be it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kubelet {
    /// Such as `https://10.0.0.7:10250`.
    pub url: Uri,
    /// Who may have signed its certificate; `None`: the cluster's CA.
    pub ca_file: Option<PathBuf>,
    /// The name in its certificate, where that is not the URL's.
    pub server_name: Option<String>,
}

/// Keeps the table as the kubelet has it.
pub(super) async fn follow(pods: &Pods, api: &Access, kubelet: &Kubelet) {
    let mut backoff = Backoff::new(Duration::from_millis(500), Duration::from_secs(30));
    let mut client = None;
    let mut said: Option<&'static str> = None;
    loop {
        let begun = Instant::now();
        if let Err(failure) = poll(pods, api, kubelet, &mut client).await {
            pods.0.metrics.errors.with_label_values(&[failure.kind]).inc();
            if said.replace(failure.kind) != Some(failure.kind) {
                tracing::warn!(error = %failure, kind = failure.kind, "the kubelet's pods cannot be had");
            }
            client = None;
            sleep(backoff.failed()).await;
            continue;
        }
        backoff.succeeded();
        said = None;
        tokio::select! {
            () = sleep_until(begun + INTERVAL) => {}
            () = pods.0.asked.notified() => sleep_until(begun + AT_ONCE).await,
        }
    }
}

async fn poll(
    pods: &Pods,
    api: &Access,
    kubelet: &Kubelet,
    held: &mut Option<(Client, Instant)>,
) -> Result<(), Failure> {
    // Files are read anew now and then, as they are for the API server.
    let client = match held {
        Some((client, since)) if since.elapsed() < Duration::from_secs(60) => client.clone(),
        _ => {
            let client = connect(api, kubelet).await?;
            *held = Some((client.clone(), Instant::now()));
            client
        }
    };
    pods.begin_list();
    take(pods, api::get(&client, "/pods").await?).await?;
    pods.end_list();
    pods.in_contact();
    Ok(())
}

async fn connect(api: &Access, kubelet: &Kubelet) -> Result<Client, Failure> {
    Ok(Client::try_from(aimed(api.config().await?, kubelet)?)?)
}

/// The API server's settings, for the kubelet.
fn aimed(mut config: Config, kubelet: &Kubelet) -> Result<Config, Failure> {
    config.cluster_url = kubelet.url.clone();
    config.proxy_url = None;
    // That the API server's certificate is not looked at says nothing of the kubelet's.
    config.accept_invalid_certs = false;
    config.tls_server_name.clone_from(&kubelet.server_name);
    if let Some(path) = &kubelet.ca_file {
        config.root_cert = Some(certificates(path)?);
        config.root_cert_file = None;
    }
    Ok(config)
}

fn certificates(path: &Path) -> Result<Vec<Vec<u8>>, Failure> {
    let read = CertificateDer::pem_file_iter(path).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    let read = read.map_err(|error| {
        let said = std::io::Error::other(format!("{}: not certificates in PEM: {error}", path.display()));
        Failure::new("config", &said)
    })?;
    Ok(read.into_iter().map(|certificate| certificate.to_vec()).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kubelet_is_looked_at_where_the_api_server_is_not() {
        let mut config = Config::new("https://10.0.0.1:6443".parse().unwrap());
        config.accept_invalid_certs = true;
        config.proxy_url = Some("http://proxy:3128".parse().unwrap());
        let url: Uri = "https://10.0.0.7:10250".parse().unwrap();
        let kubelet = Kubelet { url: url.clone(), ca_file: None, server_name: Some("node".to_owned()) };
        let aimed = aimed(config, &kubelet).unwrap();
        assert_eq!((aimed.cluster_url, aimed.accept_invalid_certs, aimed.proxy_url), (url, false, None));
        assert_eq!(aimed.tls_server_name.as_deref(), Some("node"));
    }
}
