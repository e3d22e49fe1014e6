//! From a request's head to the code that answers it.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use futures_util::FutureExt as _;
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Method, Request, Response, Uri};
use hyper::body::Incoming;
use millstream_proto::endpoint::{Access, Endpoint};
use millstream_proto::{ErrorClass, RequestId, v1};
use serde::Serialize;

use super::answer::{self, EdgeBody};
use super::headers;
use super::in_flight::InFlight;
use super::own_site;
use super::pipeline_call;
use super::problem::Problem;
use super::read_body::discard_body;
use super::request_end::RequestEnd;
use super::state::Edge;
use crate::model::Failure;
use crate::keys::{Key, Keys};
use crate::limits::RequestLimits;
use crate::routes::{Route, RouteTable};

/// What a request to a pipeline is.
const PIPELINE: Endpoint = Endpoint {
    methods: "POST",
    path: "{route}",
    access: Access::ApiKey,
    help: "Runs the pipeline with this route on the JSON body.",
};

/// A page of the ingress's own.
#[derive(Clone, Copy)]
enum OwnPage {
    Health,
    Routes,
}

const OWN_PAGES: [(OwnPage, Endpoint); 2] = [
    (
        OwnPage::Health,
        Endpoint {
            methods: "GET, HEAD",
            path: "/-/healthz",
            access: Access::Everybody,
            help: "`{\"status\":\"ok\"}` as long as the process answers.",
        },
    ),
    (
        OwnPage::Routes,
        Endpoint {
            methods: "GET, HEAD",
            path: "/-/routes",
            access: Access::ApiKey,
            help: "The pipelines that this ingress routes to, with their revisions, deployments and numbers of replicas.",
        },
    ),
];

/// What an ingress answers.
#[must_use]
pub fn endpoints() -> Vec<Endpoint> {
    [PIPELINE].into_iter().chain(OWN_PAGES.map(|(_, endpoint)| endpoint)).collect()
}

/// Answers a request. Dropping the future (the client has left) stops the work on every hop.
pub(crate) async fn answer(
    edge: &Arc<Edge>,
    request: Request<Incoming>,
    in_flight: InFlight,
) -> Response<EdgeBody> {
    let (head, body) = request.into_parts();
    let mut body = Some(body);
    let request_id = headers::request_id(&head.headers);
    let mut end = RequestEnd::new(request_id.clone(), edge.clone());
    let work = AssertUnwindSafe(respond(edge, &head, &mut body, &end, in_flight));
    let result = work.catch_unwind().await.unwrap_or_else(|_| Err(panicked(&request_id)));
    let mut response = result.unwrap_or_else(|problem| problem.into_response(&request_id, head.version));
    if let Some(unread) = body {
        discard_body(unread);
    }
    end.answered(response.status());
    if let EdgeBody::Events(events) = response.body_mut() {
        events.ends_with(end);
    }
    if let Ok(value) = HeaderValue::from_str(request_id.as_str()) {
        response.headers_mut().insert(headers::REQUEST_ID, value);
    }
    response
}

/// One request's panic is no other request's: what it shares with them are snapshots, counters and guards that give
/// back what they took.
fn panicked(request_id: &RequestId) -> Problem {
    tracing::error!(%request_id, "the code that answers a request panicked");
    Problem::from(Failure {
        class: ErrorClass::Internal,
        message: "the request ended by a fault of the server".to_owned(),
        retry_after_s: None,
    })
}

async fn respond(
    edge: &Edge,
    head: &Parts,
    body: &mut Option<Incoming>,
    end: &RequestEnd,
    in_flight: InFlight,
) -> Result<Response<EdgeBody>, Problem> {
    check_head(&head.uri, &head.headers, &edge.limits.request)?;
    if edge.own_site_only {
        own_site::check(head)?;
    }
    let path = head.uri.path();
    if path.starts_with("/-/") {
        end.is_own_page();
        return own_page(edge, path, head);
    }
    let (route, key) = {
        let table = edge.routes.current();
        let table = table.as_ref().ok_or_else(Problem::starting)?;
        let route = table.by_path.get(path).cloned();
        if let Some(route) = &route {
            end.is_for(route.variants[0].clone());
        }
        // Whoever has no key learns nothing, not even which routes there are.
        let key = key_of(edge, &table.keys, &head.headers)?;
        (route.ok_or_else(|| no_route(path))?, key)
    };
    if head.method != Method::POST {
        return Err(Problem::method_not_allowed(PIPELINE.methods));
    }
    if let Some(key) = &key {
        end.holds(key.admit()?);
    }
    pipeline_call::call(edge, (&route, key.as_deref()), (head, body), end, in_flight).await
}

/// Whose request it is; `None`: nobody's, where that is allowed.
///
/// # Errors
/// 401.
fn key_of(edge: &Edge, keys: &Keys, headers: &HeaderMap) -> Result<Option<Arc<Key>>, Problem> {
    match headers::secret(headers) {
        Some(secret) => match keys.find(secret) {
            Some(key) => Ok(Some(key.clone())),
            None => Err(Problem::unauthorized("there is no such API key")),
        },
        None if edge.require_key => Err(Problem::unauthorized(
            "an API key is needed; send it as `authorization: Bearer …` or as `x-api-key`",
        )),
        None => Ok(None),
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

fn no_route(path: &str) -> Problem {
    let shown: String = path.chars().take(100).collect();
    Problem::not_found(format!("no pipeline has the route `{shown}`; `GET /-/routes` lists those there are"))
}

fn own_page(edge: &Edge, path: &str, head: &Parts) -> Result<Response<EdgeBody>, Problem> {
    let (page, endpoint) =
        OWN_PAGES.iter().find(|(_, endpoint)| endpoint.path == path).ok_or_else(|| no_route(path))?;
    if !matches!(head.method, Method::GET | Method::HEAD) {
        return Err(Problem::method_not_allowed(endpoint.methods));
    }
    match page {
        OwnPage::Health => Ok(answer::json(&Health { status: "ok" })),
        OwnPage::Routes => routes_page(edge, head),
    }
}

fn routes_page(edge: &Edge, head: &Parts) -> Result<Response<EdgeBody>, Problem> {
    let table = edge.routes.current();
    match table.as_ref() {
        Some(table) => drop(key_of(edge, &table.keys, &head.headers)?),
        None if edge.require_key => return Err(Problem::starting()),
        None => {}
    }
    Ok(answer::json(&table.as_ref().map_or_else(RoutesPage::default, |table| RoutesPage::of(table))))
}

#[derive(Serialize)]
struct Health {
    status: &'static str,
}

/// `GET /-/routes`.
#[derive(Serialize, Default)]
struct RoutesPage {
    /// The term of the head that made the table; 0 while none was received.
    epoch: u64,
    /// The table's number within that term.
    version: u64,
    pipelines: Vec<PipelinePage>,
}

#[derive(Serialize)]
struct PipelinePage {
    name: String,
    route: Option<String>,
    /// The revision that serves.
    revision: u64,
    variants: Vec<VariantPage>,
    deployments: Vec<DeploymentPage>,
}

#[derive(Serialize)]
struct VariantPage {
    revision: u64,
    traffic_ratio: f64,
    shadow_ratio: f64,
}

#[derive(Serialize)]
struct DeploymentPage {
    full_name: String,
    ongoing: u64,
    queued: u64,
    /// How many replicas calls go to. Who and where they are is the cluster's business.
    replicas: usize,
}

impl RoutesPage {
    fn of(table: &RouteTable) -> Self {
        let pipelines = table.by_name.values().map(|route| PipelinePage::of(route));
        let v1::TableVersion { epoch, number } = table.version;
        Self { epoch, version: number, pipelines: pipelines.collect() }
    }
}

impl PipelinePage {
    fn of(route: &Route) -> Self {
        let serving = &route.variants[0];
        let variants = route.parts.iter().enumerate().map(|(index, part)| VariantPage {
            revision: part.revision,
            traffic_ratio: f64::from(part.permille) / 1000.0,
            shadow_ratio: match route.shadow {
                Some((shadow, permille)) if shadow == index => f64::from(permille) / 1000.0,
                _ => 0.0,
            },
        });
        Self {
            name: serving.plan.name().to_string(),
            route: serving.plan.route().map(str::to_owned),
            revision: serving.revision,
            variants: variants.collect(),
            deployments: serving.targets.iter().map(|deployment| DeploymentPage::of(deployment)).collect(),
        }
    }
}

impl DeploymentPage {
    fn of(deployment: &crate::dispatch::Deployment) -> Self {
        let load = deployment.load();
        Self {
            full_name: deployment.name().to_string(),
            ongoing: load.ongoing,
            queued: load.queued,
            replicas: deployment.num_replicas(),
        }
    }
}
