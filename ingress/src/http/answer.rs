//! Bodies that go out.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::{HeaderMap, Response};
use hyper::body::{Body, Frame, SizeHint};
use tonic::Status;

use super::request_end::RequestEnd;
use crate::protocol::Last;

/// A response's body.
pub(crate) enum EdgeBody {
    /// All that there is, then what comes after it.
    Whole(Whole),
    /// As it comes.
    Stream(Box<dyn Stream>),
}

/// What is still to go out.
pub(crate) struct Whole {
    last: Last,
    /// The request ends when the client has taken it.
    end: Option<Box<RequestEnd>>,
}

/// A body whose frames come one after the other, and whose end is the request's.
pub(crate) trait Stream: Send {
    /// The next frame; `None` at its end.
    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>>;

    /// Whether it is known to have no frames: some clients want an answer without them to end with its head.
    fn is_empty(&self) -> bool {
        false
    }

    /// The request ends with this body: as it was answered when everything went out, else as it failed or was left.
    fn ends_with(&mut self, end: Box<RequestEnd>);
}

impl EdgeBody {
    /// The response with a body that is there.
    pub(crate) fn whole(response: Response<Last>) -> Response<Self> {
        response.map(|last| Self::Whole(Whole { last, end: None }))
    }

    /// What the request holds is given back with this body.
    pub(crate) fn ends_with(&mut self, end: Box<RequestEnd>) {
        match self {
            Self::Whole(whole) => whole.end = Some(end),
            Self::Stream(stream) => stream.ends_with(end),
        }
    }
}

impl Body for EdgeBody {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        match &mut *self {
            Self::Whole(Whole { last, .. }) => {
                let trailers = |trailers: Box<HeaderMap>| Frame::trailers(*trailers);
                let frame = last.next_bytes().map(Frame::data);
                Poll::Ready(frame.or_else(|| last.trailers.take().map(trailers)).map(Ok))
            }
            Self::Stream(stream) => stream.poll_next(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Whole(Whole { last, .. }) => last.num_bytes() == 0 && last.trailers.is_none(),
            Self::Stream(stream) => stream.is_empty(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Whole(Whole { last, .. }) => SizeHint::with_exact(last.num_bytes() as u64),
            Self::Stream(_) => SizeHint::default(),
        }
    }
}
