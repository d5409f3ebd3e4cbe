//! Client and token, out of files that are renewed while the gateway runs: a projected token changes every
//! hour, a CA before it ends.

use std::path::{Path, PathBuf};
use std::time::Duration;

use reqwest::header::HeaderValue;
use reqwest::{Client, redirect};
use tokio::time::Instant;

use crate::causes;
use crate::config::checked::{self, Token};

/// Connecting takes longer only where nobody listens.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Below the minute after which VictoriaLogs and vmauth close an idle connection
/// (`-http.idleConnTimeout`), so that a request seldom meets one that is just being closed.
const IDLE_TIMEOUT: Duration = Duration::from_secs(30);
/// The files are looked at this often.
const LOOK_EVERY: Duration = Duration::from_secs(60);
/// And, after a request that failed for want of rights or of a connection, no more often than this.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// Why there is no access.
#[derive(Debug, thiserror::Error)]
pub(in crate::deliver) enum Error {
    #[error("cannot read {file}", file = file.display())]
    File { file: PathBuf, source: std::io::Error },
    #[error("cannot make an HTTP client")]
    Client(#[from] reqwest::Error),
    #[error("the token is empty, or not a header's value")]
    Token,
}

/// See the module.
pub(super) struct Access {
    ca: Option<PathBuf>,
    token: Option<Token>,
    timeout: Duration,
    seen: Seen,
    client: Client,
    authorization: Option<HeaderValue>,
    next_look: Instant,
    last_look: Instant,
    /// What was wrong with the files when they were looked at last.
    said: Option<String>,
}

/// The files' content.
#[derive(PartialEq)]
struct Seen {
    ca: Option<Vec<u8>>,
    token: Option<String>,
}

impl Access {
    pub(super) fn new(config: &checked::VictoriaLogs) -> Result<Self, Error> {
        let seen = read(config.ca.as_deref(), config.token.as_ref())?;
        let now = Instant::now();
        Ok(Self {
            client: client(seen.ca.as_deref(), config.timeout)?,
            authorization: authorization(seen.token.as_deref())?,
            ca: config.ca.clone(),
            token: config.token.clone(),
            timeout: config.timeout,
            seen,
            next_look: now + LOOK_EVERY,
            last_look: now,
            said: None,
        })
    }

    pub(super) fn client(&self) -> &Client {
        &self.client
    }

    pub(super) fn authorization(&self) -> Option<&HeaderValue> {
        self.authorization.as_ref()
    }

    /// A request failed as it does with a token or a CA that is out of date.
    pub(super) fn doubt(&mut self) {
        self.next_look = self.next_look.min(self.last_look + LOOK_AGAIN);
    }

    /// Looks at the files if it is time to. What cannot be used leaves the last good ones in force.
    pub(super) fn refresh(&mut self) {
        let now = Instant::now();
        if now < self.next_look {
            return;
        }
        (self.last_look, self.next_look) = (now, now + LOOK_EVERY);
        match self.renew() {
            Ok(true) => tracing::info!("token or certificates of a destination were renewed"),
            Ok(false) => {}
            Err(error) => {
                let said = causes::in_one_line(&error);
                if self.said.as_ref() != Some(&said) {
                    tracing::error!(
                        error = said,
                        "a renewed token or CA cannot be used; the last good one stays in force"
                    );
                }
                self.said = Some(said);
            }
        }
    }

    fn renew(&mut self) -> Result<bool, Error> {
        let seen = read(self.ca.as_deref(), self.token.as_ref())?;
        let is_new = seen != self.seen;
        if is_new {
            let authorization = authorization(seen.token.as_deref())?;
            if seen.ca != self.seen.ca {
                self.client = client(seen.ca.as_deref(), self.timeout)?;
            }
            self.authorization = authorization;
            self.seen = seen;
        }
        self.said = None;
        Ok(is_new)
    }
}

fn read(ca: Option<&Path>, token: Option<&Token>) -> Result<Seen, Error> {
    let file = |file: &Path| std::fs::read(file).map_err(|source| Error::File { file: file.into(), source });
    let token = match token {
        None => None,
        Some(Token::Fixed(secret)) => Some(secret.reveal().to_owned()),
        Some(Token::File(path)) => Some(String::from_utf8(file(path)?).map_err(|_| Error::Token)?.trim().to_owned()),
    };
    Ok(Seen { ca: ca.map(file).transpose()?, token })
}

fn client(ca: Option<&[u8]>, timeout: Duration) -> Result<Client, Error> {
    let mut client = Client::builder()
        .timeout(timeout)
        .connect_timeout(CONNECT_TIMEOUT)
        .pool_idle_timeout(IDLE_TIMEOUT)
        // A redirect is a mistake in configuration: the POST would become a GET.
        .redirect(redirect::Policy::none())
        .user_agent(concat!("sluice-gateway/", env!("CARGO_PKG_VERSION")));
    if let Some(pem) = ca {
        client = client.tls_certs_merge(reqwest::Certificate::from_pem_bundle(pem)?);
    }
    Ok(client.build()?)
}

fn authorization(token: Option<&str>) -> Result<Option<HeaderValue>, Error> {
    let Some(token) = token else { return Ok(None) };
    let value = HeaderValue::try_from(format!("Bearer {token}")).ok().filter(|_| !token.is_empty());
    let mut value = value.ok_or(Error::Token)?;
    value.set_sensitive(true);
    Ok(Some(value))
}
