//! The dashboard's address: status, history and metrics for programs, a sign of life. Pages of other sites are kept out.

pub(crate) mod own_site;
mod series;

use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use axum::extract::{Query, Request, State};
use axum::http::{StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse as _, Response};
use axum::routing::{MethodRouter, get};
use millstream_proto::endpoint::{Access, Endpoint};
use serde::Serialize;

use self::own_site::{json_page, own_host_only, own_origin_only, problem, problem_with, text};
use super::auth::{AdminToken, TOKEN_HINT};
use crate::control::Error;
use crate::host::Host;
use crate::leadership::Leadership;
use crate::metrics::MetricsPage;

/// The content type of Prometheus's text form.
const METRICS_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// What the routes answer from.
pub(crate) struct Site {
    pub(crate) host: Arc<Host>,
    pub(crate) leadership: Leadership,
    pub(crate) admin_token: AdminToken,
    /// What `/metrics` answers.
    pub(crate) metrics_page: Option<MetricsPage>,
}

/// What there is, who may ask for it, and what answers it.
fn routes() -> [(Endpoint, MethodRouter<Arc<Site>>); 4] {
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

/// The routes, for a listener bound to `bound`. Each is open to those alone whom its [`Access`] names.
pub(crate) fn router(site: Arc<Site>, bound: SocketAddr) -> Router {
    let add = |router: Router<_>, (endpoint, handler): (Endpoint, _)| router.route(endpoint.path, handler);
    // Prometheus and probes call by whatever name they were given.
    let (open, guarded): (Vec<_>, Vec<_>) =
        routes().into_iter().partition(|(endpoint, _)| endpoint.access == Access::Everybody);
    let guarded = guarded.into_iter().fold(Router::new(), add);
    let guarded = guarded.route_layer(middleware::from_fn_with_state(Arc::clone(&site), admin_only));
    let router = open
        .into_iter()
        .fold(own_host_only(guarded, bound), add)
        .fallback(async || {
            let detail = "there is nothing at this address; try `/api/status`, `/api/series` or `/metrics`";
            problem(StatusCode::NOT_FOUND, detail)
        })
        .with_state(site);
    own_origin_only(router)
}

/// Refuses whoever has not the admin token.
async fn admin_only(State(site): State<Arc<Site>>, request: Request, next: Next) -> Response {
    if site.admin_token.admits(text(request.headers(), header::AUTHORIZATION)) {
        return next.run(request).await;
    }
    problem(StatusCode::UNAUTHORIZED, TOKEN_HINT)
}

/// An error as a problem document.
fn failed(error: &Error) -> Response {
    let status =
        StatusCode::from_u16(error.class().http_status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    problem(status, &error.to_string())
}

/// A page of JSON.
fn page(document: &impl Serialize) -> Response {
    json_page(StatusCode::OK, "application/json", document)
}

async fn status(State(site): State<Arc<Site>>) -> Response {
    let shown = async { Ok::<_, Error>(site.leadership.term()?.snapshot().await?) };
    match shown.await {
        Ok(shown) => page(&shown.status()),
        Err(error) => failed(&error),
    }
}

async fn history(
    State(site): State<Arc<Site>>,
    parameters: Result<Query<Vec<(String, String)>>, axum::extract::rejection::QueryRejection>,
) -> Response {
    let Ok(Query(parameters)) = parameters else {
        return problem(StatusCode::BAD_REQUEST, "the query is not `name=value&name=value` in UTF-8");
    };
    let history = &site.host.history;
    match series::Query::parse(&parameters) {
        Ok(query) => page(&series::answer(&history.rings.lock(), &query, history.started_unix_ms)),
        Err(faults) => {
            problem_with(StatusCode::BAD_REQUEST, "parameters are at fault; see `errors`", &faults)
        }
    }
}

async fn metrics(State(site): State<Arc<Site>>) -> Response {
    match &site.metrics_page {
        Some(page) => ([(header::CONTENT_TYPE, METRICS_TYPE)], page()).into_response(),
        None => problem(StatusCode::NOT_FOUND, "this process records no metrics"),
    }
}
