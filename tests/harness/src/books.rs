//! The agent's books, as it tells them.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use serde::Deserialize;

use crate::error::{Error, Result};
use crate::http;

/// A log's page (`GET /books`).
#[derive(Debug, Clone, Deserialize)]
pub struct Page {
    /// The path of its live file.
    pub log: String,
    /// Bytes on the disk.
    pub written: u64,
    /// Bytes of lines that a gateway has stored.
    pub acknowledged: u64,
    /// Bytes that are not sent, by reason.
    #[serde(default)]
    pub abandoned: BTreeMap<String, u64>,
    /// Bytes still to be read.
    pub unread: i64,
    /// Bytes on their way.
    pub held: u64,
    /// What the equation is off by.
    pub imbalance: i64,
}

/// The agent's pages, by its address.
///
/// # Errors
/// It does not answer, or not with pages.
pub async fn fetch(admin: &str) -> Result<Vec<Page>> {
    let url = format!("{admin}/books");
    let text = http::get_text(&url).await?;
    text.lines()
        .map(|line| serde_json::from_str(line).map_err(|error| Error::Books(format!("{url}: {error}: {line}"))))
        .collect()
}

/// Waits until nothing is unread or on its way, and gives the pages.
///
/// # Errors
/// It does not come to that, or a page does not balance at any moment before.
pub async fn closed(admin: &str, patience: Duration) -> Result<Vec<Page>> {
    let deadline = Instant::now() + patience;
    loop {
        let pages = fetch(admin).await?;
        if let Some(page) = pages.iter().find(|page| page.imbalance != 0) {
            return Err(Error::Books(format!("a page does not balance: {page:?}")));
        }
        match pages.iter().find(|page| page.unread != 0 || page.held != 0) {
            None => return Ok(pages),
            Some(page) if Instant::now() > deadline => {
                return Err(Error::Books(format!("still open after {patience:?}: {page:?}")));
            }
            Some(_) => tokio::time::sleep(Duration::from_millis(50)).await,
        }
    }
}
