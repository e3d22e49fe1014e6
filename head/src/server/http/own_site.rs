//! Keeps pages of other sites, and names that were made to resolve to this machine, away from a listener for people; and
//! errors as they get them.

use std::net::SocketAddr;

use axum::Router;
use axum::extract::{Request, State};
use axum::http::uri::Authority;
use axum::http::{HeaderMap, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use millstream_connect::{is_own_host, is_own_origin};
use serde::Serialize;

use super::api::documents::{Problem, ProblemFault};

/// The router without requests to another host than the listener that is bound to `bound`: a page of another site may have
/// made its own name resolve to this machine.
pub(super) fn own_host_only<S>(router: Router<S>, bound: SocketAddr) -> Router<S>
where
    S: Clone + Send + Sync + 'static,
{
    router.route_layer(middleware::from_fn_with_state(bound, check_host))
}

/// The router without requests from pages of other sites.
pub fn own_origin_only(router: Router) -> Router {
    router.layer(middleware::from_fn(check_origin))
}

async fn check_host(State(bound): State<SocketAddr>, request: Request, next: Next) -> Response {
    if host(&request).is_some_and(|host| is_own_host(host, bound.ip())) {
        return next.run(request).await;
    }
    problem(StatusCode::FORBIDDEN, "the `Host` header names another host; use the address as it was printed")
}

async fn check_origin(request: Request, next: Next) -> Response {
    if is_own_origin(text(request.headers(), header::ORIGIN), host(&request)) {
        return next.run(request).await;
    }
    problem(
        StatusCode::FORBIDDEN,
        "the `Origin` header names another site; pages of other sites may not call",
    )
}

/// The host and port that a request is for. HTTP/2 has them in the URI.
fn host(request: &Request) -> Option<&str> {
    let authority = request.uri().authority().map(Authority::as_str);
    text(request.headers(), header::HOST).or(authority)
}

/// A header's text.
pub(super) fn text(headers: &HeaderMap, name: header::HeaderName) -> Option<&str> {
    headers.get(name)?.to_str().ok()
}

/// An error, in the form that the ingress's have.
pub fn problem(status: StatusCode, detail: &str) -> Response {
    problem_with(status, detail, Vec::new())
}

/// An error with all faults of the request.
pub(super) fn problem_with(status: StatusCode, detail: &str, errors: Vec<ProblemFault>) -> Response {
    let problem = Problem {
        r#type: format!("urn:millstream:problem:{}", kind_of(status)),
        title: status.canonical_reason().unwrap_or("error").to_owned(),
        status: status.as_u16(),
        detail: detail.to_owned(),
        errors,
    };
    json_page(status, "application/problem+json", &problem)
}

/// The kind of a problem with that status; the ingress's problems with it have the same.
fn kind_of(status: StatusCode) -> &'static str {
    match status.as_u16() {
        400 => "malformed",
        401 => "unauthorized",
        403 => "forbidden",
        404 => "not-found",
        409 => "conflict",
        422 => "invalid",
        503 => "unavailable",
        504 => "deadline-exceeded",
        _ => "internal",
    }
}

/// A JSON document, which ends with a line end: it may be read on a terminal.
pub(super) fn json_page(status: StatusCode, kind: &'static str, document: &impl Serialize) -> Response {
    match serde_json::to_string(document) {
        Ok(text) => (status, [(header::CONTENT_TYPE, kind)], text + "\n").into_response(),
        Err(_) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}
