//! A request's body that records when it was handed to a connection.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};

/// Whether a request has been handed to a connection, so that the receiver may have seen it.
#[derive(Debug, Clone, Default)]
pub(super) struct Sent(Arc<AtomicBool>);

impl Sent {
    /// Whether the receiver may have seen the request.
    pub(super) fn maybe(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }

    fn note(&self) {
        self.0.store(true, Ordering::Release);
    }
}

/// A body of known bytes. A connection polls it before it writes anything, headers included; the request
/// counts as sent from then on, which errs on the safe side.
#[derive(Debug)]
pub(super) struct Watched {
    bytes: Option<Bytes>,
    sent: Sent,
}

impl Watched {
    pub(super) fn new(bytes: Bytes, sent: Sent) -> Self {
        Self {
            bytes: (!bytes.is_empty()).then_some(bytes),
            sent,
        }
    }
}

impl Body for Watched {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        self.sent.note();
        Poll::Ready(self.bytes.take().map(|bytes| Ok(Frame::data(bytes))))
    }

    fn is_end_stream(&self) -> bool {
        self.sent.note();
        self.bytes.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.bytes.as_ref().map_or(0, Bytes::len) as u64)
    }
}
