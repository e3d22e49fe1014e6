//! The body of an answer on its way out: in pieces, so that what a client does not take stays here and not in the buffers of its
//! connection, and so that it is known since when the client has taken nothing.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::Bytes;
use hyper::body::{Body, Frame, SizeHint};
use parking_lot::Mutex;
use tokio::time::Sleep;

use crate::connection::Busy;

/// Most bytes that are handed over at a time.
const MAX_PIECE_BYTES: usize = 64 << 10;

/// Since when a client has taken nothing of what is there for it; `None` while there is nothing.
#[derive(Debug, Default)]
pub(crate) struct Reading(Mutex<Option<Instant>>);

impl Reading {
    /// Something is there for the client.
    fn offered(&self) {
        *self.0.lock() = Some(millstream_clock::now());
    }

    /// The client waits.
    fn nothing_there(&self) {
        *self.0.lock() = None;
    }

    /// Ready once the client has taken nothing for so long. To be asked whenever the stream was polled.
    pub(crate) fn poll_stalled(
        &self,
        limit: Duration,
        timer: &mut Option<Pin<Box<Sleep>>>,
        cx: &mut Context<'_>,
    ) -> Poll<()> {
        loop {
            let Some(since) = *self.0.lock() else { return Poll::Pending };
            let deadline = since + limit;
            if millstream_clock::now() >= deadline {
                return Poll::Ready(());
            }
            let timer = timer.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(deadline.into())));
            if timer.deadline().into_std() != deadline {
                timer.as_mut().reset(deadline.into());
            }
            if timer.as_mut().poll(cx).is_pending() {
                return Poll::Pending;
            }
        }
    }
}

/// See the module. The connection is busy until it has been handed over.
pub(crate) struct GuardedBody<B> {
    body: B,
    /// What is left of the last frame.
    rest: Bytes,
    /// Told about an HTTP/2 stream, which may be stuck while its connection is not.
    reading: Option<Arc<Reading>>,
    _busy: Busy,
}

impl<B> GuardedBody<B> {
    pub(crate) fn new(body: B, reading: Option<Arc<Reading>>, busy: Busy) -> Self {
        if let Some(reading) = &reading {
            reading.offered();
        }
        Self { body, rest: Bytes::new(), reading, _busy: busy }
    }

    /// A frame of at most so many bytes; the rest is kept.
    fn offer(&mut self, mut bytes: Bytes) -> Frame<Bytes> {
        if let Some(reading) = &self.reading {
            reading.offered();
        }
        if bytes.len() > MAX_PIECE_BYTES {
            self.rest = bytes.split_off(MAX_PIECE_BYTES);
        }
        Frame::data(bytes)
    }
}

impl<B: Body<Data = Bytes> + Unpin> Body for GuardedBody<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        let polled = if self.rest.is_empty() {
            Pin::new(&mut self.body).poll_frame(cx)
        } else {
            let rest = std::mem::take(&mut self.rest);
            return Poll::Ready(Some(Ok(self.offer(rest))));
        };
        match polled {
            Poll::Pending => {
                if let Some(reading) = &self.reading {
                    reading.nothing_there();
                }
                Poll::Pending
            }
            Poll::Ready(Some(Ok(frame))) => Poll::Ready(Some(Ok(match frame.into_data() {
                Ok(bytes) => self.offer(bytes),
                Err(frame) => frame,
            }))),
            Poll::Ready(end) => Poll::Ready(end),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_empty() && self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        let (rest, body) = (self.rest.len() as u64, self.body.size_hint());
        let mut hint = SizeHint::new();
        hint.set_lower(body.lower().saturating_add(rest));
        if let Some(upper) = body.upper() {
            hint.set_upper(upper.saturating_add(rest));
        }
        hint
    }
}
