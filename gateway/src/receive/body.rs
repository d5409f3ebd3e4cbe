//! A request's body, whole, within its cap, its share of memory and its time.

use std::time::Duration;

use axum::body::Body;
use bytes::{Bytes, BytesMut};
use http::HeaderMap;
use http::header::CONTENT_LENGTH;
use http_body_util::BodyExt as _;
use sluice_wire::limits;

use super::budget::{Budget, Share};
use super::refusal::Refusal;

/// Reads it. Memory is set aside as the body comes, not for what a header says will: who only promises a
/// body takes nothing away from the others.
pub(super) async fn read(
    headers: &HeaderMap,
    body: Body,
    budget: &Budget,
    timeout: Duration,
) -> Result<(Bytes, Share), Refusal> {
    let length = headers.get(CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
    if length.is_some_and(|length| length > limits::REQUEST as u64) {
        return Err(Refusal::TooLarge);
    }
    let length = length.and_then(|length| usize::try_from(length).ok()).unwrap_or(limits::REQUEST);
    tokio::time::timeout(timeout, collect(body, length, budget)).await.map_err(|_| Refusal::TooSlow)?
}

async fn collect(mut body: Body, length: usize, budget: &Budget) -> Result<(Bytes, Share), Refusal> {
    let mut share = budget.take(0).ok_or(Refusal::Overload)?;
    let mut taken = 0;
    let mut bytes = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame.map_err(|_| Refusal::Broken)?.into_data() else { continue };
        let needed = bytes.len() + data.len();
        if needed > limits::REQUEST {
            return Err(Refusal::TooLarge);
        }
        if needed > taken {
            // Doubling, so that few pieces are asked for, and no further than what was said.
            let more = needed.max((2 * taken).min(length)) - taken;
            share.join(budget.take(more).ok_or(Refusal::Overload)?);
            taken += more;
            bytes.reserve(taken - bytes.len());
        }
        bytes.extend_from_slice(&data);
    }
    Ok((bytes.freeze(), share))
}
