//! Request bodies: collected and decoded, both within bounds.

use std::io::{self, Read};

use axum::{
    body::Body,
    http::{StatusCode, request::Parts},
};
use bytes::Bytes;
use flate2::read::MultiGzDecoder;
use http_body_util::{BodyExt as _, Limited};

/// Larger than any collector sends.
const LONGEST_WIRE: usize = 64 << 20;
const LONGEST_DECODED: u64 = 512 << 20;

pub(crate) struct Received {
    pub(crate) wire_bytes: u64,
    pub(crate) decoded: Bytes,
}

/// Takes identity, gzip and zstd; several members or frames in a row make one body.
pub(crate) async fn receive(parts: &Parts, body: Body) -> Result<Received, StatusCode> {
    let body = Limited::new(body, LONGEST_WIRE).collect().await.map_err(|_| StatusCode::PAYLOAD_TOO_LARGE)?;
    let wire = body.to_bytes();
    let wire_bytes = wire.len() as u64;
    let encoding = parts.headers.get("content-encoding").map_or(&b"identity"[..], |value| value.as_bytes());
    let decoded = match encoding {
        b"identity" => Ok(wire),
        b"gzip" => inflate(MultiGzDecoder::new(&wire[..]), wire.len()),
        b"zstd" => zstd::Decoder::with_buffer(&wire[..]).and_then(|decoder| inflate(decoder, wire.len())),
        _ => return Err(StatusCode::UNSUPPORTED_MEDIA_TYPE),
    };
    Ok(Received { wire_bytes, decoded: decoded.map_err(|_| StatusCode::BAD_REQUEST)? })
}

fn inflate(decoder: impl Read, wire_len: usize) -> io::Result<Bytes> {
    // Log lines shrink about eight times.
    let mut decoded = Vec::with_capacity(wire_len * 8);
    let len = decoder.take(LONGEST_DECODED + 1).read_to_end(&mut decoded)?;
    if len as u64 > LONGEST_DECODED {
        return Err(io::ErrorKind::FileTooLarge.into());
    }
    Ok(decoded.into())
}
