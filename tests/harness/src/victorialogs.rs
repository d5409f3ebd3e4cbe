//! Real VictoriaLogs with vmauth in front, which turns `X-Scope-OrgID` into the store's account.

use std::{
    fmt::Write as _,
    fs,
    path::{Path, PathBuf},
    process::ExitStatus,
    time::Duration,
};

use crate::{
    error::{At, Error, Result},
    http, parts, ports,
    process::{Program, Spec},
};

const READY_WITHIN: Duration = Duration::from_secs(20);

/// It flushes what it has in memory, so it may take a moment.
const STOPPED_WITHIN: Duration = Duration::from_secs(30);

/// A large result takes longer than the store's default of 30 s allows.
const QUERY_WITHIN: &str = "10m";

/// Both programs, ended when dropped. The store can be stopped, killed and started again, on the same port and
/// with the same data, while vmauth stays and answers 502.
#[derive(Debug)]
pub struct VictoriaLogs {
    store: Program,
    store_url: String,
    vmauth: Program,
    reader: Reader,
}

impl VictoriaLogs {
    /// Starts both with their data and logs under `dir`, and waits until they are ready. vmauth knows the
    /// given tenants, each with its account, and refuses all others with 400.
    ///
    /// # Errors
    /// When a part cannot be installed or started; the error holds its output.
    ///
    /// # Panics
    /// When the runtime shuts down meanwhile.
    pub async fn start(dir: &Path, tenants: &[(&str, u32)]) -> Result<Self> {
        let binary = |part| async move {
            let built = tokio::task::spawn_blocking(move || parts::binary(part));
            built.await.expect("installing a part does not panic")
        };
        fs::create_dir_all(dir).at(dir)?;
        let (store_port, vmauth_port) = (ports::free()?, ports::free()?);
        let store_url = format!("http://127.0.0.1:{store_port}");
        let spec = store_spec(binary("victoria-logs").await?, store_port, dir);
        let mut store = Program::start(spec)?;
        store.wait_for_http(&format!("{store_url}/health"), READY_WITHIN).await?;

        let auth = dir.join("vmauth.yml");
        fs::write(&auth, auth_config(&store_url, tenants)).at(&auth)?;
        let url = format!("http://127.0.0.1:{vmauth_port}");
        let spec = vmauth_spec(binary("vmauth").await?, vmauth_port, &auth, dir);
        let mut vmauth = Program::start(spec)?;
        vmauth.wait_for_http(&format!("{url}/health"), READY_WITHIN).await?;
        Ok(Self { store, store_url, vmauth, reader: Reader::new(&url) })
    }

    /// vmauth's address: where an agent or a gateway sends to.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.reader.url
    }

    /// The store's own address, which asks for `AccountID` instead of a tenant.
    #[must_use]
    pub fn store_url(&self) -> &str {
        &self.store_url
    }

    #[must_use]
    pub fn reader(&self) -> &Reader {
        &self.reader
    }

    /// The store's process, to be measured.
    pub fn store(&mut self) -> &mut Program {
        &mut self.store
    }

    pub fn vmauth(&mut self) -> &mut Program {
        &mut self.vmauth
    }

    /// Ends the store in order: what it has in memory gets to its disk.
    ///
    /// # Errors
    /// When it does not end.
    pub async fn stop(&mut self) -> Result<ExitStatus> {
        self.store.stop(STOPPED_WITHIN).await
    }

    /// Kills the store: what it answered 200 to in the last seconds may be gone.
    pub fn kill(&mut self) -> ExitStatus {
        self.store.kill()
    }

    /// Starts the store again with its port and data.
    ///
    /// # Errors
    /// When it does not become ready.
    pub async fn restart(&mut self) -> Result<()> {
        self.store.restart()?;
        self.store.wait_for_http(&format!("{}/health", self.store_url), READY_WITHIN).await
    }

    /// Stores JSON lines in the record schema for a tenant, as a collector would.
    ///
    /// # Errors
    /// When the answer is not 2xx.
    pub async fn insert(&self, tenant: &str, lines: impl Into<reqwest::Body>) -> Result<()> {
        let url = format!("{}/insert/jsonline?_stream_fields=k8s_namespace_name,k8s_pod_name", self.url());
        // Any other content type is answered with 200 and stores nothing.
        let request = http::client().post(&url).header("Content-Type", "application/stream+json");
        http::send(&url, request.header("X-Scope-OrgID", tenant).body(lines)).await.map(drop)
    }
}

/// Asks a store behind vmauth.
#[derive(Debug, Clone)]
pub struct Reader {
    url: String,
}

impl Reader {
    /// `url`: vmauth's address.
    #[must_use]
    pub fn new(url: &str) -> Self {
        Self { url: url.trim_end_matches('/').to_owned() }
    }

    /// The number of a tenant's records that match `query`. New ones are seen after about a second.
    ///
    /// # Errors
    /// When the store refuses or breaks off.
    pub async fn count(&self, tenant: &str, query: &str) -> Result<u64> {
        let mut count = None;
        self.query(tenant, &format!("{query} | stats count() sluice_count"), |line| {
            let answer = serde_json::from_slice::<serde_json::Value>(line).ok();
            count = answer.and_then(|answer| answer["sluice_count"].as_str()?.parse().ok());
        })
        .await?;
        let reason = || Error::Config(format!("{}: no count came for {query:?}", self.url));
        count.ok_or_else(reason)
    }

    /// Hands over each record as a line of JSON, in no particular order, as it comes.
    ///
    /// # Errors
    /// When the store refuses or breaks off.
    pub async fn query(&self, tenant: &str, query: &str, mut each: impl FnMut(&[u8])) -> Result<()> {
        let url = format!("{}/select/logsql/query", self.url);
        let request = http::client()
            .post(&url)
            .header("X-Scope-OrgID", tenant)
            .header("Content-Type", "application/x-www-form-urlencoded")
            .body(format!("query={}", percent_encoded(query)));
        let mut answer = http::send(&url, request).await?;
        let mut carry: Vec<u8> = Vec::new();
        while let Some(chunk) = answer.chunk().await.map_err(|source| http::failed(&url, source))? {
            let mut rest = &chunk[..];
            while let Some(newline) = memchr::memchr(b'\n', rest) {
                if carry.is_empty() {
                    each(&rest[..newline]);
                } else {
                    carry.extend_from_slice(&rest[..newline]);
                    each(&carry);
                    carry.clear();
                }
                rest = &rest[newline + 1..];
            }
            carry.extend_from_slice(rest);
        }
        if !carry.is_empty() {
            each(&carry);
        }
        Ok(())
    }
}

fn percent_encoded(text: &str) -> String {
    text.bytes().fold(String::new(), |mut out, byte| {
        if byte.is_ascii_alphanumeric() {
            out.push(char::from(byte));
        } else {
            write!(out, "%{byte:02X}").expect("a string takes everything");
        }
        out
    })
}

fn store_spec(binary: PathBuf, port: u16, dir: &Path) -> Spec {
    Spec::new(binary, dir.join("victoria-logs.log"))
        .arg(format!("-httpListenAddr=127.0.0.1:{port}"))
        .arg(format!("-storageDataPath={}", dir.join("victoria-logs-data").display()))
        .arg("-retentionPeriod=100y")
        .arg("-memory.allowedBytes=256MiB")
        .arg(format!("-search.maxQueryDuration={QUERY_WITHIN}"))
}

fn vmauth_spec(binary: PathBuf, port: u16, auth: &Path, dir: &Path) -> Spec {
    Spec::new(binary, dir.join("vmauth.log"))
        .arg(format!("-httpListenAddr=127.0.0.1:{port}"))
        .arg(format!("-auth.config={}", auth.display()))
        // By default a backend that failed once is left alone for three seconds: too long for a test that
        // starts it again.
        .arg("-failTimeout=100ms")
}

fn auth_config(store_url: &str, tenants: &[(&str, u32)]) -> String {
    let mut yaml = String::from("unauthorized_user:\n  url_map:\n");
    for (tenant, account) in tenants {
        write!(
            yaml,
            "    - src_headers: [\"X-Scope-OrgID: {tenant}\"]\n      \
               src_paths: [\"/insert/.*\", \"/select/.*\"]\n      \
               url_prefix: \"{store_url}\"\n      \
               headers: [\"AccountID: {account}\", \"ProjectID: 0\"]\n"
        )
        .expect("a string takes everything");
    }
    yaml
}
