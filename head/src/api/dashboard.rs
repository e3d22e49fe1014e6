//! The dashboard's address: status, history and metrics for programs, a sign of life. Pages of other sites are kept out.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::extract::{Query, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodRouter, get};
use axum::{Json, Router};
use millstream_proto::endpoint::{Access, Endpoint};

use super::auth::TOKEN_HINT;
use super::own_site::{own_host_only, own_origin_only, problem, problem_with, text};
use super::series;
use crate::shared::Shared;

/// The content type of Prometheus's text form.
const METRICS_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// What there is, and what answers it.
fn routes() -> [(Endpoint, MethodRouter<Arc<Shared>>); 4] {
    let page = |path, access, help, handler| (Endpoint { methods: "GET, HEAD", path, access, help }, handler);
    [
        page(
            "/api/status",
            Access::AdminToken,
            "Nodes, pipelines, deployments and replicas: the same JSON as `cluster status --json`.",
            get(status),
        ),
        page("/api/series", Access::AdminToken, "The last hour of the cluster's numbers.", get(history)),
        page(
            "/metrics",
            Access::Everybody,
            "The metrics of this process in Prometheus's text form.",
            get(metrics),
        ),
        page("/healthz", Access::Everybody, "`ok` as long as the process answers.", get(async || "ok")),
    ]
}

/// What the dashboard's address answers.
#[must_use]
pub fn dashboard_endpoints() -> Vec<Endpoint> {
    routes().into_iter().map(|(endpoint, _)| endpoint).collect()
}

/// The routes, for a listener bound to `bound`.
pub(crate) fn router(shared: Arc<Shared>, bound: SocketAddr) -> Router {
    let add = |router: Router<_>, (endpoint, handler): (Endpoint, _)| router.route(endpoint.path, handler);
    let (open, guarded): (Vec<_>, Vec<_>) =
        routes().into_iter().partition(|(endpoint, _)| endpoint.access == Access::Everybody);
    // Prometheus and probes call by whatever name they were given.
    let guarded = own_host_only(guarded.into_iter().fold(Router::new(), add), bound);
    let router = open
        .into_iter()
        .fold(guarded, add)
        .fallback(async || {
            let detail = "there is nothing at this address; try `/api/status`, `/api/series` or `/metrics`";
            problem(StatusCode::NOT_FOUND, detail)
        })
        .with_state(shared);
    own_origin_only(router)
}

async fn status(State(shared): State<Arc<Shared>>, headers: HeaderMap) -> Response {
    if !shared.admin_token.admits(text(&headers, header::AUTHORIZATION)) {
        return problem(StatusCode::UNAUTHORIZED, TOKEN_HINT);
    }
    match shared.snapshot().await {
        Ok(shown) => Json(shown.status()).into_response(),
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
            let answer = series::answer(&shared.history.rings.lock(), &query, shared.history.started_unix_ms);
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
