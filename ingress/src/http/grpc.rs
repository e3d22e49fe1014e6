//! gRPC services on the listener of everything else: with the same limits on connections and heads, the same keys, the same budget in bytes.
//! How long their calls take is theirs.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::request::Parts;
use http::{HeaderMap, Request, Response, StatusCode};
use hyper::body::{Body as _, Frame, Incoming};
use tonic::body::Body;
use tonic::{Code, Status};
use tower::ServiceExt as _;

use super::access::{key_of, table_of};
use super::answer::{EdgeBody, Stream};
use super::request_end::RequestEnd;
use super::state::Edge;
use crate::protocol::Problem;

/// What every client may ask, with or without a key (gRPC health checking protocol).
const HEALTH: &str = "/grpc.health.v1.Health/";

/// Whether a request is a gRPC call.
pub(crate) fn takes(headers: &HeaderMap) -> bool {
    let kind = headers.get(CONTENT_TYPE).and_then(|kind| kind.as_bytes().strip_prefix(b"application/grpc"));
    kind.is_some_and(|rest| matches!(rest.first(), None | Some(b'+' | b';')))
}

/// Calls a service.
///
/// # Errors
/// The problem to answer with, where the call does not come so far.
pub(crate) async fn call(
    edge: &Arc<Edge>,
    head: &Parts,
    body: &mut Option<Incoming>,
    end: &RequestEnd,
) -> Result<Response<EdgeBody>, Problem> {
    if head.uri.path().starts_with(HEALTH) {
        end.is_own_page();
    } else {
        let key = key_of(edge, &table_of(edge)?.keys, &head.headers)?;
        if let Some(key) = key {
            end.comes_with(&key)?;
        }
    }
    let body = body
        .take()
        .map_or_else(Body::empty, |body| Body::new(CountedBody { body, num_bytes: 0, edge: edge.clone() }));
    let mut request = Request::new(body);
    *request.method_mut() = head.method.clone();
    *request.uri_mut() = head.uri.clone();
    *request.version_mut() = head.version;
    *request.headers_mut() = head.headers.clone();
    let Ok(response) = edge.services.0.clone().oneshot(request).await;
    Ok(response.map(|body| EdgeBody::Stream(Box::new(ServiceStream { body, end: None }))))
}

/// The answer to a call that did not come to its service: headers alone, as gRPC has it.
pub(crate) fn refuse(problem: &Problem) -> Response<EdgeBody> {
    let status = Status::new(code_of(problem.status()), problem.detail());
    EdgeBody::whole(status.into_http::<Bytes>().map(|_| crate::protocol::Last::default()))
}

/// The code of a problem's status (`google.rpc.Code`).
fn code_of(status: StatusCode) -> Code {
    match status.as_u16() {
        400 | 414 | 415 | 422 | 431 => Code::InvalidArgument,
        401 => Code::Unauthenticated,
        403 => Code::PermissionDenied,
        404 => Code::NotFound,
        408 | 504 => Code::DeadlineExceeded,
        409 => Code::Aborted,
        413 | 429 => Code::ResourceExhausted,
        503 => Code::Unavailable,
        _ => Code::Internal,
    }
}

/// A call's messages on their way in. What has come of them counts for as long as the call reads.
struct CountedBody {
    body: Incoming,
    num_bytes: usize,
    edge: Arc<Edge>,
}

impl hyper::body::Body for CountedBody {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let frame = match ready!(Pin::new(&mut self.body).poll_frame(cx)) {
            None => return Poll::Ready(None),
            Some(Err(error)) => return Poll::Ready(Some(Err(Status::from_error(error.into())))),
            Some(Ok(frame)) => frame,
        };
        let num_bytes = frame.data_ref().map_or(0, Bytes::len);
        if !self.edge.bytes.take(num_bytes) {
            let message = Problem::out_of_memory().detail().to_owned();
            return Poll::Ready(Some(Err(Status::resource_exhausted(message))));
        }
        self.num_bytes += num_bytes;
        Poll::Ready(Some(Ok(frame)))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }
}

impl Drop for CountedBody {
    fn drop(&mut self) {
        self.edge.bytes.give_back(self.num_bytes);
    }
}

/// A service's answer on its way out.
struct ServiceStream {
    body: Body,
    /// Counts the call when its answer ends.
    end: Option<Box<RequestEnd>>,
}

impl Stream for ServiceStream {
    fn ends_with(&mut self, mut end: Box<RequestEnd>) {
        if !self.body.is_end_stream() {
            end.streams();
        }
        self.end = Some(end);
    }

    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let frame = ready!(Pin::new(&mut self.body).poll_frame(cx));
        let ends = frame.as_ref().is_none_or(|frame| frame.as_ref().map_or(true, Frame::is_trailers));
        if ends && let Some(end) = &mut self.end {
            end.answered(StatusCode::OK);
        }
        Poll::Ready(frame)
    }

    fn is_empty(&self) -> bool {
        self.body.is_end_stream()
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[test]
    fn calls_are_known_by_their_content_type() {
        let table = [
            ("application/grpc", true),
            ("application/grpc+proto", true),
            ("application/grpc;charset=utf-8", true),
            ("application/grpc-web", false),
            ("application/json", false),
        ];
        for (kind, expected) in table {
            let headers = HeaderMap::from_iter([(CONTENT_TYPE, HeaderValue::from_static(kind))]);
            assert_eq!(takes(&headers), expected, "{kind}");
        }
        assert!(!takes(&HeaderMap::new()));
    }
}
