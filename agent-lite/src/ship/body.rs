//! A request body out of pieces that are never copied together.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use hyper::body::{Body, Frame, SizeHint};

/// Frames of blocks, head and payload in turn.
#[derive(Debug, Default)]
pub(super) struct Chunks {
    chunks: VecDeque<Bytes>,
    left: u64,
}

impl Chunks {
    /// Adds a piece at the end.
    pub(super) fn push(&mut self, chunk: Bytes) {
        self.left += chunk.len() as u64;
        self.chunks.push_back(chunk);
    }
}

impl Body for Chunks {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let chunk = self.chunks.pop_front();
        self.left -= chunk.as_ref().map_or(0, |chunk| chunk.len() as u64);
        Poll::Ready(chunk.map(|chunk| Ok(Frame::data(chunk))))
    }

    fn is_end_stream(&self) -> bool {
        self.chunks.is_empty()
    }

    /// Exact, so that the request carries `content-length` and the gateway can refuse it unread.
    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left)
    }
}
