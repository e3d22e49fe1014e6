//! The dashboard's address: status, history and metrics for programs, a sign of life. Pages of other sites are kept out.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::extract::{Query, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};

use super::auth::TOKEN_HINT;
use super::own_site::{own_site_only, problem, problem_with, text};
use super::series;
use crate::shared::Shared;

/// The content type of Prometheus's text form.
const METRICS_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// The routes, for a listener bound to `bound`.
pub(crate) fn router(shared: Arc<Shared>, bound: SocketAddr) -> Router {
    let router = Router::new()
        .route("/api/status", get(status))
        .route("/api/series", get(history))
        .route("/metrics", get(metrics))
        .route("/healthz", get(async || "ok"))
        .fallback(async || {
            let detail = "there is nothing at this address; try `/api/status`, `/api/series` or `/metrics`";
            problem(StatusCode::NOT_FOUND, detail)
        })
        .with_state(shared);
    own_site_only(router, bound)
}

async fn status(State(shared): State<Arc<Shared>>, headers: HeaderMap) -> Response {
    if !shared.admin_token.admits(text(&headers, header::AUTHORIZATION)) {
        return problem(StatusCode::UNAUTHORIZED, TOKEN_HINT);
    }
    match shared.status().await {
        Ok(status) => Json(status).into_response(),
        Err(error) => problem(StatusCode::SERVICE_UNAVAILABLE, &error.to_string()),
    }
}

async fn history(
    State(shared): State<Arc<Shared>>,
    headers: HeaderMap,
    parameters: Result<Query<Vec<(String, String)>>, axum::extract::rejection::QueryRejection>,
) -> Response {
    if !shared.admin_token.admits(text(&headers, header::AUTHORIZATION)) {
        return problem(StatusCode::UNAUTHORIZED, TOKEN_HINT);
    }
    let Ok(Query(parameters)) = parameters else {
        return problem(StatusCode::BAD_REQUEST, "the query is not `name=value&name=value` in UTF-8");
    };
    match series::Query::parse(&parameters) {
        Ok(query) => {
            let answer = series::answer(&shared.history.lock(), &query, shared.started_unix_ms);
            Json(answer).into_response()
        }
        Err(faults) => {
            problem_with(StatusCode::BAD_REQUEST, "parameters are at fault; see `errors`", &faults)
        }
    }
}

/// Needs no token: there are names and numbers in it, nothing of requests.
async fn metrics(State(shared): State<Arc<Shared>>) -> Response {
    match &shared.metrics_page {
        Some(page) => ([(header::CONTENT_TYPE, METRICS_TYPE)], page()).into_response(),
        None => problem(StatusCode::NOT_FOUND, "this process records no metrics"),
    }
}
