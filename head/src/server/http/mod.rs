//! The dashboard's address: the dashboard for people, the REST API that it uses, metrics, a sign of life. Pages of other
//! sites are kept out.

mod access;
mod api;
mod operation;
pub(crate) mod own_site;
mod pages;
mod series;

use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::middleware;
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;
use millstream_proto::endpoint::Endpoint;
use serde::Serialize;

use self::api::documents::Problem;
use self::operation::Operation;
use self::own_site::{json_page, own_host_only, own_origin_only, problem};
use super::auth::AdminToken;
use crate::host::Host;
use crate::leadership::{Leadership, Roll};
use crate::metrics::MetricsPage;

/// What the routes answer from.
pub(crate) struct Site {
    pub(crate) host: Arc<Host>,
    pub(crate) leadership: Leadership,
    pub(crate) roll: Arc<Roll>,
    pub(crate) admin_token: AdminToken,
    /// What `/metrics` answers.
    pub(crate) metrics_page: Option<MetricsPage>,
    /// Whether other machines reach the address.
    pub(crate) is_public: bool,
}

/// What programs ask for without a token.
fn open() -> Vec<Operation> {
    vec![
        Operation::page(
            "GET, HEAD",
            "/metrics",
            "The metrics of this process in Prometheus's text form. On an address that other machines reach, with a token.",
            get(metrics),
        ),
        Operation::page("GET, HEAD", "/healthz", "`ok` as long as the process answers.", get(async || "ok")),
    ]
}

/// What the dashboard's address answers.
#[must_use]
pub fn dashboard_endpoints() -> Vec<Endpoint> {
    let all = [open(), pages::operations(), api::reading(), api::changing()];
    all.into_iter().flatten().map(|operation| operation.endpoint).collect()
}

/// The REST API as an OpenAPI 3.1 document.
#[must_use]
pub fn openapi_document() -> serde_json::Value {
    let mut operations = api::reading();
    operations.extend(api::changing());
    operation::openapi(&operations, |schemas| schemas.subschema_for::<Problem>())
}

/// The routes, for a listener bound to `bound`. Each is open to those alone whom its declaration names.
pub(crate) fn router(site: Arc<Site>, bound: SocketAddr) -> Router {
    let mut guarded = pages::operations();
    guarded.extend(api::reading());
    guarded.extend(api::changing());
    // Prometheus and probes call by whatever name they were given.
    let router = own_host_only(operation::router(guarded, &site), bound)
        .merge(operation::router(open(), &site))
        .fallback(async || {
            problem(StatusCode::NOT_FOUND, "there is nothing at this address; try `/` or `/api/status`")
        })
        .with_state(site);
    own_origin_only(router).layer(middleware::from_fn(pages::harden))
}

/// A page of JSON.
fn page(document: &impl Serialize) -> Response {
    json_page(StatusCode::OK, "application/json", document)
}

async fn metrics(State(site): State<Arc<Site>>, headers: HeaderMap) -> Response {
    if site.is_public && site.role(&headers).is_none() {
        let detail = "other machines reach this address, so the metrics need a token as `authorization: Bearer TOKEN`; \
                      `cluster token create --role viewer` makes one";
        return problem(StatusCode::UNAUTHORIZED, detail);
    }
    match &site.metrics_page {
        Some(page) => {
            let accept = headers.get(header::ACCEPT).and_then(|accept| accept.to_str().ok());
            page(accept.unwrap_or_default()).into_response()
        }
        None => problem(StatusCode::NOT_FOUND, "this process records no metrics"),
    }
}
