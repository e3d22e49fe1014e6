//! Keeps pages of other sites, and names that were made to resolve to this machine, away from a listener for people; and
//! errors as they get them.

use std::net::SocketAddr;

use axum::Router;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

use super::auth::{is_own_host, is_own_origin};

/// The routes, for a listener bound to `bound`: requests to another host name or from another site's page are refused.
pub fn own_site_only(router: Router, bound: SocketAddr) -> Router {
    router.layer(middleware::from_fn_with_state(bound, check))
}

async fn check(State(bound): State<SocketAddr>, request: Request, next: Next) -> Response {
    let headers = request.headers();
    // HTTP/2 has the authority in the URI.
    let host =
        text(headers, header::HOST).or_else(|| request.uri().authority().map(|authority| authority.as_str()));
    let Some(host) = host.filter(|host| is_own_host(host, bound)) else {
        return problem(
            StatusCode::FORBIDDEN,
            "the `Host` header names another host; use the address as it was printed",
        );
    };
    if !is_own_origin(text(headers, header::ORIGIN), host) {
        return problem(
            StatusCode::FORBIDDEN,
            "the `Origin` header names another site; pages of other sites may not call",
        );
    }
    next.run(request).await
}

/// A header's text.
pub(super) fn text(headers: &HeaderMap, name: header::HeaderName) -> Option<&str> {
    headers.get(name)?.to_str().ok()
}

/// An error as `application/problem+json`.
pub(super) fn problem(status: StatusCode, detail: &str) -> Response {
    problem_of(status, &document(status, detail))
}

/// An error with all faults of the request: the parameter and what is wrong with it.
pub(super) fn problem_with(status: StatusCode, detail: &str, faults: &[(String, String)]) -> Response {
    let mut document = document(status, detail);
    document["errors"] =
        faults.iter().map(|(path, message)| json!({ "path": path, "message": message })).collect();
    problem_of(status, &document)
}

fn document(status: StatusCode, detail: &str) -> Value {
    let title = status.canonical_reason().unwrap_or("error");
    json!({ "type": "about:blank", "title": title, "status": status.as_u16(), "detail": detail })
}

fn problem_of(status: StatusCode, document: &Value) -> Response {
    (status, [(header::CONTENT_TYPE, "application/problem+json")], document.to_string()).into_response()
}
