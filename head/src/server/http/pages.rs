//! The dashboard in a browser: its pages, and the form for logging in.

use std::sync::Arc;

use axum::Form;
use axum::extract::{Path, Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Redirect, Response};
use axum::routing::{get, post};
use millstream_dashboard::{Asset, asset, index_page, login_page};
use serde::Deserialize;

use super::Site;
use super::access::{login_cookie, logout_cookie};
use super::operation::Operation;
use super::own_site::{problem, text};

/// The pages that the dashboard has: it finds out by the path which one is to be shown.
const PAGES: [&str; 11] = [
    "/",
    "/cluster",
    "/pipelines",
    "/pipelines/{name}",
    "/scaling",
    "/scaling/{pipeline}/{deployment}",
    "/requests",
    "/requests/{id}",
    "/rollouts",
    "/events",
    "/deploy",
];

/// Nothing from elsewhere, nothing inline, nobody around it.
const CONTENT_SECURITY_POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; \
                                       connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'";

/// What browsers open.
pub(super) fn operations() -> Vec<Operation> {
    let pages = PAGES.map(|path| {
        Operation::page("GET, HEAD", path, "The dashboard; without a token the form to log in.", get(open))
    });
    let mut operations = Vec::from(pages);
    operations.extend([
        Operation::page("GET, HEAD", "/assets/{*path}", "Scripts and styles of the dashboard.", get(file)),
        Operation::page(
            "POST",
            "/login",
            "Takes the field `token` of the form, sets the cookie.",
            post(log_in),
        ),
        Operation::page("POST", "/logout", "Takes the cookie back.", post(log_out)),
    ]);
    operations
}

async fn open(State(site): State<Arc<Site>>, headers: HeaderMap) -> Response {
    match site.role(&headers) {
        Some(_) => html(StatusCode::OK, index_page()),
        None => html(StatusCode::OK, login_page(None)),
    }
}

async fn file(Path(path): Path<String>, headers: HeaderMap) -> Response {
    let Some(Asset { bytes, kind, etag }) = asset(&path) else {
        return problem(StatusCode::NOT_FOUND, "the dashboard has no such file");
    };
    let caching = [(header::ETAG, etag), (header::CACHE_CONTROL, "no-cache")];
    if text(&headers, header::IF_NONE_MATCH) == Some(etag) {
        return (StatusCode::NOT_MODIFIED, caching).into_response();
    }
    (caching, [(header::CONTENT_TYPE, kind)], bytes).into_response()
}

/// The form.
#[derive(Deserialize)]
struct Login {
    #[serde(default)]
    token: String,
    /// The page that was asked for.
    #[serde(default)]
    next: String,
}

async fn log_in(State(site): State<Arc<Site>>, Form(Login { token, next }): Form<Login>) -> Response {
    if site.role_of_token(&token).is_none() {
        let detail = "This is not a token of this cluster. The admin token is in the file admin.token in the data \
                      directory of cluster up.";
        return html(StatusCode::UNAUTHORIZED, login_page(Some(detail)));
    }
    // Only to a page of this address: `//elsewhere` would be another.
    let is_own = next.starts_with('/') && !next.starts_with("//") && !next.contains('\\');
    let next = if is_own { next } else { "/".to_owned() };
    ([(header::SET_COOKIE, login_cookie(&site.admin_token, &token))], Redirect::to(&next)).into_response()
}

async fn log_out() -> Response {
    ([(header::SET_COOKIE, logout_cookie())], Redirect::to("/")).into_response()
}

fn html(status: StatusCode, page: String) -> Response {
    (status, [(header::CONTENT_TYPE, "text/html; charset=utf-8")], page).into_response()
}

/// What every answer says to browsers.
pub(super) async fn harden(request: Request, next: Next) -> Response {
    let mut response = next.run(request).await;
    let headers = response.headers_mut();
    let fixed: [(HeaderName, &'static str); 4] = [
        (header::CONTENT_SECURITY_POLICY, CONTENT_SECURITY_POLICY),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "same-origin"),
        (header::X_FRAME_OPTIONS, "DENY"),
    ];
    for (name, value) in fixed {
        headers.insert(name, HeaderValue::from_static(value));
    }
    headers.entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    response
}
