//! From a request's head to the code that answers it.

use std::panic::AssertUnwindSafe;
use std::pin::pin;
use std::sync::Arc;

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Request, Response, Uri};
use hyper::body::Incoming;
use millstream_proto::endpoint::Endpoint;
use millstream_proto::{ErrorClass, RequestId};

use super::answer::EdgeBody;
use super::infer_stream::StreamedRequest;
use super::read_body::{RequestBody, discard_body};
use super::refusal::Refusal;
use super::request_end::{RequestEnd, Tracing};
use super::state::{Edge, Protocols, protocol_of};
use super::{call, grpc, headers, own_pages, own_site};
use crate::limits::RequestLimits;
use crate::model::Failure;
use crate::protocol::{PROTOCOLS, Problem, Protocol};

/// What an ingress answers.
#[must_use]
pub fn endpoints() -> Vec<Endpoint> {
    let of_protocols = PROTOCOLS.iter().flat_map(|protocol| protocol.endpoints().iter().copied());
    of_protocols.chain(own_pages::endpoints()).collect()
}

/// What the API answers that a request belongs to, found as it is for every request; nothing for pages of the ingress and gRPC services.
/// No pipeline is there. For benchmarks.
#[must_use]
pub fn endpoints_for(head: &Parts) -> &'static [Endpoint] {
    match Speaks::by(PROTOCOLS, head, |_| false) {
        Speaks::Protocol(protocol) => protocol.endpoints(),
        Speaks::OwnPages | Speaks::Grpc => &[],
    }
}

/// Who answers a request.
#[derive(Clone, Copy)]
enum Speaks<'e> {
    /// The ingress itself.
    OwnPages,
    /// A gRPC service.
    Grpc,
    /// What it calls.
    Protocol(&'e dyn Protocol),
}

impl<'e> Speaks<'e> {
    fn of(edge: &'e Edge, head: &Parts) -> Self {
        Self::by(edge.protocols, head, |path| edge.has_route(path))
    }

    fn by(protocols: Protocols, head: &Parts, has_route: impl Fn(&str) -> bool) -> Self {
        let path = head.uri.path();
        if own_pages::takes(path) && !has_route(path) {
            Self::OwnPages
        } else if grpc::takes(&head.headers) {
            grpc::protocol_of(path).map_or(Self::Grpc, Self::Protocol)
        } else {
            Self::Protocol(protocol_of(protocols, path, has_route))
        }
    }

    /// Whether answers need a trace.
    fn tracing(self, head: &Parts) -> Tracing {
        match self {
            _ if headers::wants_timing(&head.headers) => Tracing::Told,
            Self::Protocol(protocol) if protocol.tells_usage() => Tracing::Needed,
            _ => Tracing::Optional,
        }
    }

    /// The answer to a request that has none.
    fn refuse(
        self,
        edge: &'e Edge,
        head: &Parts,
        problem: &Problem,
        request_id: &RequestId,
    ) -> Response<EdgeBody> {
        let response = match self {
            Self::Grpc => crate::protocol::grpc::refuse(problem),
            Self::OwnPages => edge.protocol_of(head.uri.path()).problem(problem, request_id),
            Self::Protocol(protocol) => protocol.problem(problem, request_id),
        };
        let mut response = EdgeBody::whole(response);
        problem.add_headers(response.headers_mut(), head.version);
        response
    }
}

/// Answers a request. Dropping the future (the client has left) stops the work on every hop.
pub(crate) async fn answer(edge: Arc<Edge>, request: Request<Incoming>) -> Response<EdgeBody> {
    let (head, body) = request.into_parts();
    let request_id = headers::request_id(&head.headers);
    let speaks = Speaks::of(&edge, &head);
    answer_as(&edge, speaks, &head, RequestBody::Incoming(body), request_id).await
}

/// Answers a request that came on a stream of them, whose head is all of theirs.
fn answer_streamed(request: StreamedRequest<'_>) -> BoxFuture<'_, Response<EdgeBody>> {
    let StreamedRequest { edge, protocol, head, message, id } = request;
    Box::pin(answer_as(edge, Speaks::Protocol(protocol), head, RequestBody::Whole(message), id))
}

async fn answer_as(
    edge: &Arc<Edge>,
    speaks: Speaks<'_>,
    head: &Parts,
    body: RequestBody,
    request_id: RequestId,
) -> Response<EdgeBody> {
    let mut body = Some(body);
    // It goes from hand to hand with the body.
    let tracing = speaks.tracing(head);
    let mut end = Box::new(RequestEnd::new(request_id.clone(), head, edge.clone(), tracing));
    let result = {
        // It stays where it is: taken by value it would have its place twice in this future, which is copied for each request.
        let work = pin!(respond(edge, speaks, head, &mut body, &end));
        let caught = AssertUnwindSafe(work).catch_unwind().await;
        caught.unwrap_or_else(|_| Err(panicked(&request_id).into()))
    };
    let mut response = match result {
        Ok(response) => {
            end.answered(response.status());
            response
        }
        Err(Refusal { problem, response }) => {
            let response = match response {
                Some(mut response) => {
                    problem.add_headers(response.headers_mut(), head.version);
                    EdgeBody::whole(*response)
                }
                None => speaks.refuse(edge, head, &problem, &request_id),
            };
            end.failed(*problem);
            response
        }
    };
    if let Some(RequestBody::Incoming(unread)) = body {
        discard_body(unread);
    }
    if let Some(allowance) = end.allowance() {
        headers::add_allowance(response.headers_mut(), &allowance);
    }
    if let Some(allowance) = end.token_allowance() {
        headers::add_token_allowance(response.headers_mut(), &allowance);
    }
    response.body_mut().ends_with(end);
    if let Ok(value) = HeaderValue::from_str(request_id.as_str()) {
        response.headers_mut().insert(headers::REQUEST_ID, value);
    }
    response
}

/// One request's panic is no other request's: what it shares with them are snapshots, counters and guards that give
/// back what they took.
fn panicked(request_id: &RequestId) -> Problem {
    tracing::error!(%request_id, "the code that answers a request panicked");
    Problem::from(Failure::new(ErrorClass::Internal, "the request ended by a fault of the server"))
}

async fn respond(
    edge: &Arc<Edge>,
    speaks: Speaks<'_>,
    head: &Parts,
    body: &mut Option<RequestBody>,
    end: &RequestEnd,
) -> Result<Response<EdgeBody>, Refusal> {
    check_head(&head.uri, &head.headers, &edge.limits.request)?;
    if edge.entry.own_site_only {
        own_site::check(head)?;
    }
    if edge.guards.are_leaving() && !matches!(speaks, Speaks::OwnPages) {
        return Err(Problem::shutting_down().into());
    }
    if matches!(speaks, Speaks::Protocol(protocol) if !protocol.trusts_pages()) {
        own_site::check_origin(head, &edge.entry)?;
    }
    match speaks {
        Speaks::OwnPages => {
            end.is_own_page();
            Ok(own_pages::answer(edge, head).map(EdgeBody::whole)?)
        }
        Speaks::Grpc => Ok(grpc::call(edge, head, body, end, answer_streamed).await?),
        Speaks::Protocol(protocol) => call::call(edge, protocol, head, body, end).await,
    }
}

fn check_head(uri: &Uri, headers: &HeaderMap, limits: &RequestLimits) -> Result<(), Problem> {
    let uri_bytes = uri.path().len() + uri.query().map_or(0, |query| query.len() + 1);
    if uri_bytes > limits.max_uri_bytes {
        let max = limits.max_uri_bytes;
        return Err(Problem::uri_too_long(format!(
            "the path and query have `{uri_bytes}` bytes, at most `{max}` fit"
        )));
    }
    let num_headers = headers.len();
    if num_headers > limits.max_headers {
        let max = limits.max_headers;
        return Err(Problem::headers_too_large(format!(
            "the request has `{num_headers}` headers, at most `{max}` fit"
        )));
    }
    let header_bytes: usize = headers.iter().map(|(name, value)| name.as_str().len() + value.len()).sum();
    if header_bytes > limits.max_header_bytes {
        let max = limits.max_header_bytes;
        return Err(Problem::headers_too_large(format!(
            "the headers have `{header_bytes}` bytes, at most `{max}` fit"
        )));
    }
    Ok(())
}
