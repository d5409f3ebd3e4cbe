//! The few calls to the Kubernetes API that the tests make.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

/// Between two looks at an object.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// How long a call is tried again while there is no API server.
const PATIENCE: Duration = Duration::from_secs(60);

/// An administrator of the API server that `api.sh` started.
#[derive(Debug, Clone)]
pub struct Api {
    client: reqwest::Client,
    url: String,
    token: String,
}

impl Api {
    /// With the keys below `run`.
    ///
    /// # Errors
    /// There are no keys.
    pub fn new(run: &Path, port: u16) -> Result<Self> {
        let read = |name: &str| {
            let path = run.join("pki").join(name);
            std::fs::read(&path).with_context(|| path.display().to_string())
        };
        let ca = reqwest::Certificate::from_pem(&read("ca.crt")?)?;
        let client =
            reqwest::Client::builder().no_proxy().tls_certs_only([ca]).timeout(Duration::from_secs(10)).build()?;
        let token = String::from_utf8(read("admin.token")?)?.trim().to_owned();
        Ok(Self { client, url: format!("https://127.0.0.1:{port}"), token })
    }

    /// Makes a namespace.
    ///
    /// # Errors
    /// The API server does not want it.
    pub async fn create_namespace(&self, name: &str) -> Result<()> {
        let namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}});
        self.create("/api/v1/namespaces", &namespace.to_string()).await
    }

    /// Makes a pod out of its YAML (or JSON, which is YAML).
    ///
    /// # Errors
    /// The API server does not want it.
    pub async fn create_pod(&self, namespace: &str, yaml: &str) -> Result<()> {
        self.create(&format!("/api/v1/namespaces/{namespace}/pods"), yaml).await
    }

    /// Gives a pod the status that a kubelet would give it, where there is none.
    ///
    /// # Errors
    /// There is no such pod, or the API server does not want it.
    pub async fn set_pod_status(&self, namespace: &str, name: &str, status: Value) -> Result<()> {
        let mut pod = self.pod(namespace, name).await?.with_context(|| format!("no pod {namespace}/{name}"))?;
        pod["status"] = status;
        let path = format!("/api/v1/namespaces/{namespace}/pods/{name}/status");
        let (status, body) = self.call(Method::PUT, &path, Some(&pod.to_string())).await?;
        ensure!(status.is_success(), "status of pod {namespace}/{name}: {status}: {body}");
        Ok(())
    }

    /// What the API server knows of a pod.
    ///
    /// # Errors
    /// There is no answer.
    pub async fn pod(&self, namespace: &str, name: &str) -> Result<Option<Value>> {
        self.get(&format!("/api/v1/namespaces/{namespace}/pods/{name}")).await
    }

    /// Any object, by its path.
    ///
    /// # Errors
    /// There is no answer.
    pub async fn get(&self, path: &str) -> Result<Option<Value>> {
        let (status, body) = self.call(Method::GET, path, None).await?;
        match status {
            StatusCode::NOT_FOUND => Ok(None),
            StatusCode::OK => Ok(Some(serde_json::from_str(&body)?)),
            _ => bail!("{path}: {status}: {body}"),
        }
    }

    /// Deletes a pod, with so many seconds for its programs to end; 0: at once. One that is gone is no error.
    ///
    /// # Errors
    /// The API server does not want it.
    pub async fn delete_pod(&self, namespace: &str, name: &str, grace_seconds: u32) -> Result<()> {
        let path = format!("/api/v1/namespaces/{namespace}/pods/{name}?gracePeriodSeconds={grace_seconds}");
        let (status, body) = self.call(Method::DELETE, &path, None).await?;
        if !status.is_success() && status != StatusCode::NOT_FOUND {
            bail!("deleting pod {namespace}/{name}: {status}: {body}");
        }
        Ok(())
    }

    /// Waits until a pod is as it should be; `None`: it is not there.
    ///
    /// # Errors
    /// It does not come to that.
    pub async fn until(
        &self,
        namespace: &str,
        name: &str,
        timeout: Duration,
        holds: impl Fn(Option<&Value>) -> bool,
    ) -> Result<()> {
        let start = Instant::now();
        loop {
            let pod = self.pod(namespace, name).await?;
            if holds(pod.as_ref()) {
                return Ok(());
            }
            if start.elapsed() > timeout {
                let status = pod.map(|pod| pod["status"].to_string());
                bail!("pod {namespace}/{name} is not as it should be after {timeout:?}: {status:?}");
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    /// Makes an object of the kind that is at `path` out of its YAML. One that is there is no error.
    ///
    /// # Errors
    /// The API server does not want it.
    pub async fn create(&self, path: &str, yaml: &str) -> Result<()> {
        let (status, body) = self.call(Method::POST, path, Some(yaml)).await?;
        // A call that was tried again may have succeeded before.
        if !status.is_success() && status != StatusCode::CONFLICT {
            bail!("{path}: {status}: {body}");
        }
        Ok(())
    }

    /// Tries again for [`PATIENCE`] where there is no answer, or none of substance: the API server may be away.
    async fn call(&self, method: Method, path: &str, yaml: Option<&str>) -> Result<(StatusCode, String)> {
        let start = Instant::now();
        loop {
            let result = self.call_once(method.clone(), path, yaml).await;
            let is_away = match &result {
                Ok((status, _)) => status.is_server_error() || *status == StatusCode::TOO_MANY_REQUESTS,
                Err(_) => true,
            };
            if !is_away || start.elapsed() > PATIENCE {
                return result;
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    async fn call_once(&self, method: Method, path: &str, yaml: Option<&str>) -> Result<(StatusCode, String)> {
        let mut request = self.client.request(method, format!("{}{path}", self.url)).bearer_auth(&self.token);
        if let Some(yaml) = yaml {
            request = request.header("Content-Type", "application/yaml").body(yaml.to_owned());
        }
        let response = request.send().await?;
        Ok((response.status(), response.text().await?))
    }
}
