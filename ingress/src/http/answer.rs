//! Bodies and responses that go out.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{HeaderValue, Response};
use hyper::body::{Body, Frame, SizeHint};
use serde::Serialize;

use super::request_end::RequestEnd;

/// A response's body.
pub(crate) enum EdgeBody {
    /// In one piece; `None` once it is out.
    Whole(Option<Bytes>),
    /// As it comes.
    Events(Box<dyn Events>),
}

/// A body whose parts come one after the other, and whose end is the request's.
pub(crate) trait Events: Send {
    /// The next bytes; `None` at its end.
    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Bytes>>;

    /// The request ends with this body: with 200 when everything went out, else as it failed or was left.
    fn ends_with(&mut self, end: RequestEnd);
}

impl EdgeBody {
    /// A body in one piece.
    pub(crate) fn whole(bytes: Bytes) -> Self {
        Self::Whole(Some(bytes).filter(|bytes| !bytes.is_empty()))
    }
}

impl Body for EdgeBody {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        match &mut *self {
            Self::Whole(bytes) => Poll::Ready(bytes.take().map(|bytes| Ok(Frame::data(bytes)))),
            Self::Events(events) => {
                events.poll_next(cx).map(|bytes| bytes.map(|bytes| Ok(Frame::data(bytes))))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        matches!(self, Self::Whole(None))
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Whole(bytes) => SizeHint::with_exact(bytes.as_ref().map_or(0, |bytes| bytes.len() as u64)),
            Self::Events(_) => SizeHint::default(),
        }
    }
}

/// 200 with a JSON body.
pub(crate) fn json(value: &impl Serialize) -> Response<EdgeBody> {
    let bytes = to_json(value);
    let mut response = Response::new(EdgeBody::whole(bytes.into()));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

/// The JSON form of a value.
pub(crate) fn to_json(value: &impl Serialize) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(256);
    serde_json::to_writer(&mut bytes, value)
        .expect("values have text keys, and writing to memory does not fail");
    bytes
}
