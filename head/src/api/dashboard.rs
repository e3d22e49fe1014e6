//! The dashboard's address: the status for programs, a sign of life. Pages of other sites are kept out.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use serde_json::json;

use super::auth::{TOKEN_HINT, is_own_host, is_own_origin};
use crate::shared::Shared;

/// What the handlers need.
#[derive(Clone)]
struct Web {
    shared: Arc<Shared>,
    bound: SocketAddr,
}

/// The routes, for a listener bound to `bound`.
pub(crate) fn router(shared: Arc<Shared>, bound: SocketAddr) -> Router {
    let web = Web { shared, bound };
    Router::new()
        .route("/api/status", get(status))
        .route("/healthz", get(async || "ok"))
        .fallback(async || {
            problem(StatusCode::NOT_FOUND, "there is nothing at this address; try `/api/status`")
        })
        .layer(middleware::from_fn_with_state(web.clone(), own_site_only))
        .with_state(web)
}

/// Refuses requests to another host name or from another site's page.
async fn own_site_only(State(web): State<Web>, request: Request, next: Next) -> Response {
    let headers = request.headers();
    // HTTP/2 has the authority in the URI.
    let host =
        text(headers, header::HOST).or_else(|| request.uri().authority().map(|authority| authority.as_str()));
    let Some(host) = host.filter(|host| is_own_host(host, web.bound)) else {
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

async fn status(State(web): State<Web>, headers: HeaderMap) -> Response {
    if !web.shared.admin_token.admits(text(&headers, header::AUTHORIZATION)) {
        return problem(StatusCode::UNAUTHORIZED, TOKEN_HINT);
    }
    match web.shared.status().await {
        Ok(status) => Json(status).into_response(),
        Err(error) => problem(StatusCode::SERVICE_UNAVAILABLE, &error.to_string()),
    }
}

fn text(headers: &HeaderMap, name: header::HeaderName) -> Option<&str> {
    headers.get(name)?.to_str().ok()
}

/// An error as `application/problem+json`.
fn problem(status: StatusCode, detail: &str) -> Response {
    let title = status.canonical_reason().unwrap_or("error");
    let body = json!({ "type": "about:blank", "title": title, "status": status.as_u16(), "detail": detail });
    (status, [(header::CONTENT_TYPE, "application/problem+json")], body.to_string()).into_response()
}
