//! An API server of the test's own, an administrator of it, and an agent's account behind a line that can
//! be cut.

use std::ops::Sub;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Mutex, MutexGuard, watch};
use tokio::task::{JoinHandle, JoinSet};

/// One server at a time.
static TURN: Mutex<()> = Mutex::const_new(());

/// What the agent's account may do: what its manifest gives it.
const RULES: &str = r#"[
    {"apiGroups": [""], "resources": ["pods"], "verbs": ["list", "watch"]},
    {"apiGroups": [""], "resources": ["namespaces"], "verbs": ["get"]},
    {"apiGroups": ["events.k8s.io"], "resources": ["events"], "verbs": ["create"]}
]"#;

/// An API server and etcd, with a namespace `shop`; ended when dropped.
pub(crate) struct Server {
    scripts: Scripts,
    line: Line,
    api: Api,
    has_node: bool,
    _turn: MutexGuard<'static, ()>,
}

/// The scripts that run it.
#[derive(Clone)]
struct Scripts {
    run: Arc<TempDir>,
    port: u16,
    etcd: u16,
}

/// An administrator.
#[derive(Clone)]
pub(crate) struct Api {
    client: reqwest::Client,
    url: String,
    etcd: String,
    token: String,
}

/// What the API server counts of requests for pods, by anybody.
#[derive(Debug, Clone, Copy)]
pub(crate) struct PodRequests {
    pub(crate) lists: i64,
    pub(crate) watches_under_way: i64,
}

impl Server {
    /// Ready, the agent's account made.
    pub(crate) async fn start() -> Self {
        let turn = TURN.lock().await;
        let scripts = Scripts { run: Arc::new(TempDir::new().unwrap()), port: free_port(), etcd: free_port() };
        scripts.call("api.sh", &["up"]).await;
        let line = Line::to(scripts.port).await;
        let api = Api::new(&scripts);
        let server = Self { scripts, line, api, has_node: false, _turn: turn };
        server.make_account().await;
        server
    }

    pub(crate) fn api(&self) -> &Api {
        &self.api
    }

    /// The agent's, through the line.
    pub(crate) fn agent_kubeconfig(&self) -> PathBuf {
        self.scripts.run.path().join("agent.kubeconfig")
    }

    /// Nothing passes between agent and server until it is mended.
    pub(crate) fn cut(&self) {
        self.line.is_cut.send_replace(true);
    }

    pub(crate) fn mend(&self) {
        self.line.is_cut.send_replace(false);
    }

    /// The API server ends and is started again on the same etcd.
    pub(crate) async fn restart(&self) {
        self.scripts.call("api.sh", &["restart"]).await;
    }

    /// A node: the kubelet `node-a`, and a kubeconfig that it knows by a certificate. What to call its
    /// certificate's signer is the second.
    pub(crate) async fn start_node(&mut self) -> (PathBuf, PathBuf) {
        self.has_node = true;
        self.scripts.call("node.sh", &["up"]).await;
        let run = self.scripts.run.path();
        let pki = run.join("pki");
        let key =
            "openssl req -new -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout agent.key -subj /CN=agent";
        let sign = "openssl x509 -req -CA ca.crt -CAkey ca.key -days 1 -extfile agent.ext -out agent.crt";
        // With an extension it is of version 3; rustls takes no other.
        std::fs::write(pki.join("agent.ext"), "extendedKeyUsage=clientAuth").unwrap();
        let made = Command::new("sh").args(["-ec", &format!("{key} | {sign}")]).current_dir(&pki).output().unwrap();
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        let user = json!({"client-certificate": pki.join("agent.crt"), "client-key": pki.join("agent.key")});
        let path = run.join("kubelet.kubeconfig");
        std::fs::write(&path, self.kubeconfig(&user)).unwrap();
        (path, run.join("kubelet/pki/kubelet.crt"))
    }

    /// JSON is YAML.
    fn kubeconfig(&self, user: &Value) -> String {
        let ca = self.scripts.run.path().join("pki/ca.crt");
        let server = format!("https://127.0.0.1:{}", self.line.port);
        json!({"apiVersion": "v1", "kind": "Config", "current-context": "c",
            "clusters": [{"name": "k", "cluster": {"server": server, "certificate-authority": ca}}],
            "users": [{"name": "u", "user": user}], "contexts": [{"name": "c", "context": {"cluster": "k", "user": "u"}}]})
        .to_string()
    }

    async fn make_account(&self) {
        let namespace = json!({"metadata": {"name": "shop", "labels": {"team": "core"}}});
        self.api.post("/api/v1/namespaces", &namespace).await;
        self.api.post("/api/v1/namespaces/shop/serviceaccounts", &json!({"metadata": {"name": "agent"}})).await;
        let rbac = "/apis/rbac.authorization.k8s.io/v1";
        let rules: Value = serde_json::from_str(RULES).unwrap();
        self.api.post(&format!("{rbac}/clusterroles"), &json!({"metadata": {"name": "agent"}, "rules": rules})).await;
        let role = json!({"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "agent"});
        let account = json!([{"kind": "ServiceAccount", "namespace": "shop", "name": "agent"}]);
        let binding = json!({"metadata": {"name": "agent"}, "roleRef": role, "subjects": account});
        self.api.post(&format!("{rbac}/clusterrolebindings"), &binding).await;
        let token = self.api.post("/api/v1/namespaces/shop/serviceaccounts/agent/token", &json!({"spec": {}})).await;
        let run = self.scripts.run.path();
        std::fs::write(run.join("agent.token"), token["status"]["token"].as_str().unwrap()).unwrap();
        let user = json!({"tokenFile": run.join("agent.token")});
        std::fs::write(self.agent_kubeconfig(), self.kubeconfig(&user)).unwrap();
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if self.has_node {
            self.scripts.run("node.sh", &["down"]);
        }
        self.scripts.run("api.sh", &["down"]);
    }
}

impl Scripts {
    async fn call(&self, script: &'static str, arguments: &'static [&'static str]) {
        let scripts = self.clone();
        let ended = tokio::task::spawn_blocking(move || scripts.run(script, arguments)).await.unwrap();
        assert!(ended, "{script} {arguments:?} failed: what it said is above");
    }

    fn run(&self, script: &str, arguments: &[&str]) -> bool {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join(script);
        let mut command = Command::new(script);
        command.args(arguments).env("KUBE_RUN", self.run.path());
        command.env("KUBE_PORT", self.port.to_string()).env("ETCD_PORT", self.etcd.to_string());
        command.status().is_ok_and(|status| status.success())
    }
}

fn free_port() -> u16 {
    std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap().local_addr().unwrap().port()
}

impl Api {
    fn new(scripts: &Scripts) -> Self {
        let pki = scripts.run.path().join("pki");
        let ca = reqwest::Certificate::from_pem(&std::fs::read(pki.join("ca.crt")).unwrap()).unwrap();
        let token = std::fs::read_to_string(pki.join("admin.token")).unwrap().trim().to_owned();
        Self {
            client: reqwest::Client::builder().no_proxy().tls_certs_only([ca]).build().unwrap(),
            url: format!("https://127.0.0.1:{}", scripts.port),
            etcd: format!("http://127.0.0.1:{}", scripts.etcd),
            token,
        }
    }

    pub(crate) async fn post(&self, path: &str, object: &Value) -> Value {
        let request = self.client.post(format!("{}{path}", self.url)).header("content-type", "application/json");
        self.send(request.body(object.to_string())).await
    }

    pub(crate) async fn patch(&self, path: &str, change: &Value) -> Value {
        let request = self.client.patch(format!("{}{path}", self.url));
        self.send(request.header("content-type", "application/merge-patch+json").body(change.to_string())).await
    }

    /// At once, without anybody's leave.
    pub(crate) async fn delete(&self, path: &str) {
        self.send(self.client.delete(format!("{}{path}?gracePeriodSeconds=0", self.url))).await;
    }

    pub(crate) async fn get(&self, path: &str) -> Value {
        self.send(self.client.get(format!("{}{path}", self.url))).await
    }

    async fn send(&self, request: reqwest::RequestBuilder) -> Value {
        let response = request.bearer_auth(&self.token).send().await.unwrap();
        let status = response.status();
        let body = response.text().await.unwrap();
        assert!(status.is_success(), "{status}: {body}");
        serde_json::from_str(&body).unwrap()
    }

    /// Waits for an object of a watch that is `wanted`; the watch ends after a minute.
    pub(crate) async fn watched(&self, path: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        let url = format!("{}{path}?watch=true&timeoutSeconds=60", self.url);
        let mut response = self.client.get(url).bearer_auth(&self.token).send().await.unwrap();
        let mut bytes = Vec::new();
        while let Some(chunk) = response.chunk().await.unwrap() {
            bytes.extend_from_slice(&chunk);
            while let Some(end) = bytes.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = bytes.drain(..=end).collect();
                let mut event: Value = serde_json::from_slice(&line).unwrap();
                if wanted(&event["object"]) {
                    return event["object"].take();
                }
            }
        }
        panic!("{path}: not seen within a minute");
    }

    /// The API server's own books.
    pub(crate) async fn pod_requests(&self) -> PodRequests {
        let response = self.client.get(format!("{}/metrics", self.url)).bearer_auth(&self.token).send().await.unwrap();
        let text = response.text().await.unwrap();
        let sum = |metric: &str, verb: &str| {
            let of_pods = |line: &&str| {
                line.starts_with(metric)
                    && line.contains(r#"resource="pods""#)
                    && line.contains(&format!("verb=\"{verb}\""))
            };
            let value = |line: &str| line.rsplit(' ').next().unwrap().parse::<f64>().unwrap().round();
            #[expect(clippy::cast_possible_truncation, reason = "a small count")]
            let sum = text.lines().filter(of_pods).map(value).sum::<f64>() as i64;
            sum
        };
        PodRequests {
            lists: sum("apiserver_request_total{", "LIST"),
            watches_under_way: sum("apiserver_longrunning_requests{", "WATCH"),
        }
    }

    /// etcd forgets what was before this moment.
    pub(crate) async fn compact(&self) {
        let call = async |path: &str, body: Value| -> Value {
            let response =
                self.client.post(format!("{}{path}", self.etcd)).body(body.to_string()).send().await.unwrap();
            assert!(response.status().is_success(), "{}", response.status());
            serde_json::from_str(&response.text().await.unwrap()).unwrap()
        };
        let now = call("/v3/kv/range", json!({"key": "AA=="})).await;
        call("/v3/kv/compaction", json!({"revision": now["header"]["revision"], "physical": true})).await;
    }
}

impl Sub for PodRequests {
    type Output = Self;

    fn sub(self, before: Self) -> Self {
        Self { lists: self.lists - before.lists, watches_under_way: self.watches_under_way - before.watches_under_way }
    }
}

/// Between agent and server.
struct Line {
    port: u16,
    is_cut: watch::Sender<bool>,
    task: JoinHandle<()>,
}

impl Line {
    async fn to(server: u16) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let is_cut = watch::Sender::new(false);
        let cut = is_cut.subscribe();
        let task = tokio::spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((agent, _)) = listener.accept().await {
                if !*cut.borrow() {
                    connections.spawn(pass(agent, server, cut.clone()));
                }
            }
        });
        Self { port, is_cut, task }
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn pass(mut agent: TcpStream, server: u16, mut cut: watch::Receiver<bool>) {
    let Ok(mut server) = TcpStream::connect(("127.0.0.1", server)).await else { return };
    tokio::select! {
        _ = copy_bidirectional(&mut agent, &mut server) => {}
        _ = cut.wait_for(|cut| *cut) => {}
    }
}
