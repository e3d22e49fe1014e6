//! gRPC on the listener of everything else. Calls that run something are requests of a protocol, as those over HTTP are. What is left
//! are services with the same limits on connections and heads, the same keys, the same budget in bytes: the Open Inference Protocol's
//! pages and streams, health, reflection. How long their calls take is theirs.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::request::Parts;
use http::{HeaderMap, Request, Response, StatusCode};
use hyper::body::{Body as _, Frame, Incoming};
use tonic::Status;
use tonic::body::Body;
use tower::ServiceExt as _;

use super::access::{key_of, table_of};
use super::answer::{EdgeBody, Stream};
use super::infer_stream::AnswerStreamed;
use super::read_body::RequestBody;
use super::request_end::RequestEnd;
use super::state::Edge;
use super::{infer_stream, inference_pages};
use crate::protocol::{GRPC_PROTOCOLS, Problem, Protocol};

/// What every client may ask, with or without a key (gRPC health checking protocol).
const HEALTH: &str = "/grpc.health.v1.Health/";

/// The Open Inference Protocol.
const INFERENCE: &str = "/inference.GRPCInferenceService/";
/// Its method that has many requests.
const STREAM: &str = "ModelStreamInfer";

/// Whether a request is a gRPC call.
pub(crate) fn takes(headers: &HeaderMap) -> bool {
    let kind = headers.get(CONTENT_TYPE).and_then(|kind| kind.as_bytes().strip_prefix(b"application/grpc"));
    kind.is_some_and(|rest| matches!(rest.first(), None | Some(b'+' | b';')))
}

/// The protocol of a call that runs something.
pub(crate) fn protocol_of(path: &str) -> Option<&'static dyn Protocol> {
    GRPC_PROTOCOLS.iter().find(|protocol| protocol.takes(path)).copied()
}

/// Calls a service.
///
/// # Errors
/// The problem to answer with, where the call does not come so far.
pub(crate) async fn call(
    edge: &Arc<Edge>,
    head: &Parts,
    body: &mut Option<RequestBody>,
    end: &RequestEnd,
    answer_streamed: AnswerStreamed,
) -> Result<Response<EdgeBody>, Problem> {
    let path = head.uri.path();
    let incoming = match body.take() {
        Some(RequestBody::Incoming(body)) => Some(body),
        _ => None,
    };
    if let Some(method) = path.strip_prefix(INFERENCE) {
        end.is_own_page();
        return match incoming {
            Some(incoming) if method == STREAM => {
                infer_stream::respond(edge, head, incoming, end.request_id(), answer_streamed)
            }
            incoming => inference_pages::call(edge, head, method, incoming).await.map(EdgeBody::whole),
        };
    }
    if path.starts_with(HEALTH) {
        end.is_own_page();
    } else {
        let key = key_of(edge, &table_of(edge)?.keys, &head.headers)?;
        if let Some(key) = key {
            end.comes_with(&key)?;
        }
    }
    let body = incoming
        .map_or_else(Body::empty, |body| Body::new(CountedBody { body, num_bytes: 0, edge: edge.clone() }));
    let mut request = Request::new(body);
    *request.method_mut() = head.method.clone();
    *request.uri_mut() = head.uri.clone();
    *request.version_mut() = head.version;
    *request.headers_mut() = head.headers.clone();
    let Ok(response) = edge.services.0.clone().oneshot(request).await;
    Ok(response.map(|body| EdgeBody::Stream(Box::new(ServiceStream { body, end: None }))))
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
