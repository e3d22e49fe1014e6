//! The pages of the ingress's own: what is here, under `/-/` whether it lives, whether it is ready and what it routes to, descriptions
//! of pipelines, and what public APIs ask about models without calling one.

use std::sync::Arc;

use http::request::Parts;
use http::{Method, Response};
use millstream_pipelines::Name;
use millstream_proto::endpoint::{Access, Endpoint};
use millstream_proto::{ErrorClass, v1};
use serde::Serialize;

use super::access::{key_of, may_call, table_of};
use super::inference_pages;
use super::openapi::{self, KeyUse, SUFFIX};
use super::response_pages;
use super::site;
use super::state::Edge;
use crate::keys::Key;
use crate::model::Failure;
use crate::protocol::openai::{MODEL, MODELS, Models};
use crate::protocol::problem::shown;
use crate::protocol::sagemaker::PING;
use crate::protocol::{Last, Problem, json};
use crate::routes::{Route, RouteTable};

/// A page of the ingress's own.
#[derive(Clone, Copy)]
enum Page {
    Start,
    Health,
    Ready,
    PipelineReady,
    Routes,
    Models,
    Model,
    OpenApi,
    PipelineOpenApi,
    Ping,
    Docs,
    PipelineDocs,
    File,
}

/// What comes before a pipeline's name in the path that says whether it is ready.
const READY_PREFIX: &str = "/-/readyz/";

const PAGES: [(Page, Endpoint); 13] = [
    (
        Page::Start,
        Endpoint {
            methods: "GET, HEAD",
            path: "/",
            access: Access::Everybody,
            help: "What is here: version, links and pipelines, as JSON or, for browsers, as a page. Where keys are required, pipelines are listed only for requests with an API key.",
        },
    ),
    (
        Page::Health,
        Endpoint {
            methods: "GET, HEAD",
            path: "/-/healthz",
            access: Access::Everybody,
            help: "`{\"status\":\"ok\"}` as long as the process answers.",
        },
    ),
    (
        Page::Ready,
        Endpoint {
            methods: "GET, HEAD",
            path: "/-/readyz",
            access: Access::Everybody,
            help: "`{\"status\":\"ready\"}` once the head has said what is served, or a second without a head has passed and the last routes were read from disk; 503 before, and while the process shuts down. For load balancers: which pipelines are ready is not asked here.",
        },
    ),
    (
        Page::PipelineReady,
        Endpoint {
            methods: "GET, HEAD",
            path: "/-/readyz/{pipeline}",
            access: Access::ApiKey,
            help: "`{\"status\":\"ready\"}` when every deployment that the pipeline calls has a replica, or starts one at the first request; else 503 that names those that have none.",
        },
    ),
    (
        Page::Routes,
        Endpoint {
            methods: "GET, HEAD",
            path: "/-/routes",
            access: Access::ApiKey,
            help: "The pipelines that this ingress routes to, with their revisions, deployments and numbers of replicas. `kept_s`, where it is there: no head has answered since the process was started, and the routes are those that it kept so many seconds ago.",
        },
    ),
    (Page::Models, MODELS),
    (Page::Model, MODEL),
    (
        Page::OpenApi,
        Endpoint {
            methods: "GET, HEAD",
            path: "/openapi.json",
            access: Access::ApiKey,
            help: "The routes of all pipelines as an OpenAPI 3.1 document.",
        },
    ),
    (
        Page::PipelineOpenApi,
        Endpoint {
            methods: "GET, HEAD",
            path: "{route}/openapi.json",
            access: Access::ApiKey,
            help: "That of one pipeline.",
        },
    ),
    (Page::Ping, PING),
    (
        Page::Docs,
        Endpoint {
            methods: "GET, HEAD",
            path: "/docs",
            access: Access::Everybody,
            help: "A page that shows `/openapi.json` and lets people try calls. It asks for an API key where one is needed.",
        },
    ),
    (
        Page::PipelineDocs,
        Endpoint {
            methods: "GET, HEAD",
            path: "{route}/docs",
            access: Access::Everybody,
            help: "The same for one pipeline.",
        },
    ),
    (
        Page::File,
        Endpoint {
            methods: "GET, HEAD",
            path: "/-/site/{file}",
            access: Access::Everybody,
            help: "Scripts and styles of these pages.",
        },
    ),
];

/// What they answer.
pub(crate) fn endpoints() -> impl Iterator<Item = Endpoint> {
    PAGES
        .into_iter()
        .map(|(_, endpoint)| endpoint)
        .chain(inference_pages::ENDPOINTS)
        .chain(response_pages::ENDPOINTS)
}

/// Whether a path is one of them.
pub(crate) fn takes(path: &str) -> bool {
    path.starts_with("/-/")
        || ["/", MODELS.path, PING.path].contains(&path)
        || Models::named(path).is_some()
        || path.ends_with(SUFFIX)
        || path.ends_with(site::DOCS)
        || inference_pages::asked(path).is_some()
        || response_pages::asked(path).is_some()
}

/// Answers a request for one of them.
///
/// # Errors
/// The problem to answer with.
pub(crate) fn answer(edge: &Edge, head: &Parts) -> Result<Response<Last>, Problem> {
    let path = head.uri.path();
    if let Some(asked) = inference_pages::asked(path) {
        return inference_pages::answer(edge, head, &asked);
    }
    if let Some(asked) = response_pages::asked(path) {
        return response_pages::answer(edge, head, asked);
    }
    let name = path.strip_prefix(READY_PREFIX).filter(|name| !name.is_empty());
    let is_asked = |page: &Page, endpoint: &Endpoint| match page {
        Page::PipelineReady => name.is_some(),
        Page::Model => Models::named(path).is_some(),
        Page::PipelineOpenApi => path.ends_with(SUFFIX) && path != SUFFIX,
        Page::PipelineDocs => path.ends_with(site::DOCS) && path != site::DOCS,
        Page::File => path.starts_with(site::FILES),
        _ => endpoint.path == path,
    };
    let (page, endpoint) =
        PAGES.iter().find(|(page, endpoint)| is_asked(page, endpoint)).ok_or_else(|| no_page(path))?;
    if !matches!(head.method, Method::GET | Method::HEAD) {
        return Err(Problem::method_not_allowed(endpoint.methods));
    }
    match page {
        Page::Health => Ok(json(&Status { status: "ok" })),
        Page::Ready if edge.guards.are_leaving() => Err(Problem::shutting_down()),
        Page::Ready => table_of(edge).map(|_| json(&Status { status: "ready" })),
        Page::PipelineReady => pipeline_ready(edge, head, name.unwrap_or_default()),
        Page::Ping => ping(edge),
        Page::Routes => routes_page(edge, head),
        Page::Models | Page::Model => models_page(edge, head),
        Page::OpenApi | Page::PipelineOpenApi => openapi_page(edge, head),
        Page::Start => Ok(start_page(edge, head)),
        Page::Docs | Page::PipelineDocs => Ok(site::docs()),
        Page::File => site::file(head),
    }
}

fn no_page(path: &str) -> Problem {
    let paths: Vec<_> = PAGES.iter().map(|(_, endpoint)| format!("`{}`", endpoint.path)).collect();
    Problem::not_found(format!(
        "there is no page `{}`; those of the ingress are {}",
        shown(path),
        paths.join(", ")
    ))
}

fn pipeline_ready(edge: &Edge, head: &Parts, name: &str) -> Result<Response<Last>, Problem> {
    let table = table_of(edge)?;
    let key = key_of(edge, &table.keys, &head.headers)?;
    let route = name.parse().ok().and_then(|name: Name| table.by_name.get(&name));
    let route = route.filter(|route| may_call(key.as_ref(), route));
    let route = route.ok_or_else(|| Problem::not_found(format!("there is no pipeline `{}`", shown(name))))?;
    let missing = route.variants[0].missing();
    if missing.is_empty() {
        return Ok(json(&Status { status: "ready" }));
    }
    let message = format!("no replica is ready of {}", missing.join(", "));
    Err(Failure::new(ErrorClass::Unavailable, message).into())
}

/// Everybody may ask, so that it names nothing.
fn ping(edge: &Edge) -> Result<Response<Last>, Problem> {
    let is_ready = table_of(edge)?.only_route().is_none_or(|route| route.variants[0].missing().is_empty());
    if is_ready {
        return Ok(json(&Status { status: "ready" }));
    }
    let message = "a deployment that the pipeline calls has no replica";
    Err(Failure::new(ErrorClass::Unavailable, message).into())
}

fn routes_page(edge: &Edge, head: &Parts) -> Result<Response<Last>, Problem> {
    let table = table_of(edge)?;
    let key = key_of(edge, &table.keys, &head.headers)?;
    Ok(json(&RoutesPage::of(&table, key.as_ref())))
}

/// Whoever has no key where one is needed gets all but the pipelines.
/// Everybody may ask; a request without a good key learns of no pipeline where keys are required.
fn start_page(edge: &Edge, head: &Parts) -> Response<Last> {
    let table = edge.routes.current().clone();
    let known = table.as_ref().and_then(|table| key_of(edge, &table.keys, &head.headers).ok());
    let table = table.zip(known);
    let routes = table.as_ref().map(|(table, key)| {
        table.by_name.values().filter(|route| may_call(key.as_ref(), route)).map(|route| &**route).collect()
    });
    site::start(head, routes)
}

fn openapi_page(edge: &Edge, head: &Parts) -> Result<Response<Last>, Problem> {
    let table = table_of(edge)?;
    let key = key_of(edge, &table.keys, &head.headers)?;
    let is_for_it = |route: &&Arc<Route>| may_call(key.as_ref(), route);
    let plan = |route: &Arc<Route>| route.variants[0].plan.clone();
    let path = head.uri.path();
    let plans: Vec<_> =
        match path.strip_suffix(SUFFIX).filter(|route| !route.is_empty()) {
            None => table.by_name.values().filter(is_for_it).map(plan).collect(),
            Some(route) => {
                let found = table.by_path.get(route).filter(is_for_it).map(plan);
                vec![found.ok_or_else(|| {
                    Problem::not_found(format!("no pipeline has the route `{}`", shown(route)))
                })?]
            }
        };
    let keys = if edge.entry.require_key { KeyUse::Required } else { KeyUse::Optional };
    Ok(json(&openapi::document(plans.iter().map(|plan| &**plan), keys)))
}

fn models_page(edge: &Edge, head: &Parts) -> Result<Response<Last>, Problem> {
    let table = table_of(edge)?;
    let key = key_of(edge, &table.keys, &head.headers)?;
    let task = |route: &Route| {
        if !may_call(key.as_ref(), route) {
            return None;
        }
        let plan = &route.variants[0].plan;
        plan.task().map(|task| task.as_str()).or_else(|| plan.chat().map(|_| "chat"))
    };
    match Models::named(head.uri.path()) {
        None => {
            let models = table.names().filter_map(|(name, route)| Some((name, task(route)?)));
            Ok(Models::list(models))
        }
        Some(asked) => {
            // Clients write the slash of a full name as `%2F`, or as it is.
            let name = asked.replace("%2F", "/").replace("%2f", "/");
            let found = table.named(&name).and_then(|route| task(route));
            let task = found.ok_or_else(|| {
                Problem::not_found(format!(
                    "there is no model `{}`; `GET /v1/models` lists all",
                    shown(&name)
                ))
            })?;
            Ok(Models::one(&name, task))
        }
    }
}

#[derive(Serialize)]
struct Status {
    status: &'static str,
}

/// `GET /-/routes`.
#[derive(Serialize)]
struct RoutesPage {
    /// The term of the head that made the table.
    epoch: u64,
    /// The table's number within that term.
    version: u64,
    /// How long ago the table was kept, where no head has answered since this process was started.
    #[serde(skip_serializing_if = "Option::is_none")]
    kept_s: Option<u64>,
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
    fn of(table: &RouteTable, key: Option<&Arc<Key>>) -> Self {
        let shown = table.by_name.values().filter(|route| may_call(key, route));
        let pipelines = shown.map(|route| PipelinePage::of(route));
        let v1::TableVersion { epoch, number } = table.version;
        let kept_s = table.kept_unix_ms.map(|kept| millstream_clock::unix_ms().saturating_sub(kept) / 1000);
        Self { epoch, version: number, kept_s, pipelines: pipelines.collect() }
    }
}

impl PipelinePage {
    fn of(route: &Route) -> Self {
        let serving = &route.variants[0];
        let variants = route.shares.iter().enumerate().map(|(index, share)| VariantPage {
            revision: share.revision,
            traffic_ratio: f64::from(share.permille) / 1000.0,
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
