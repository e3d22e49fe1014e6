//! The pages of the ingress's own, under `/-/`: whether it lives, and what it routes to.

use http::request::Parts;
use http::{Method, Response};
use millstream_proto::endpoint::{Access, Endpoint};
use millstream_proto::v1;
use serde::Serialize;

use super::access::{key_of, table_of};
use super::state::Edge;
use crate::protocol::{Last, Problem, json};
use crate::routes::{Route, RouteTable};

/// A page of the ingress's own.
#[derive(Clone, Copy)]
enum Page {
    Health,
    Routes,
}

const PAGES: [(Page, Endpoint); 2] = [
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
        Page::Routes,
        Endpoint {
            methods: "GET, HEAD",
            path: "/-/routes",
            access: Access::ApiKey,
            help: "The pipelines that this ingress routes to, with their revisions, deployments and numbers of replicas.",
        },
    ),
];

/// What they answer.
pub(crate) fn endpoints() -> impl Iterator<Item = Endpoint> {
    PAGES.into_iter().map(|(_, endpoint)| endpoint)
}

/// Whether a path is one of them.
pub(crate) fn takes(path: &str) -> bool {
    path.starts_with("/-/")
}

/// Answers a request for one of them.
///
/// # Errors
/// The problem to answer with.
pub(crate) fn answer(edge: &Edge, head: &Parts) -> Result<Response<Last>, Problem> {
    let path = head.uri.path();
    let (page, endpoint) =
        PAGES.iter().find(|(_, endpoint)| endpoint.path == path).ok_or_else(|| no_page(path))?;
    if !matches!(head.method, Method::GET | Method::HEAD) {
        return Err(Problem::method_not_allowed(endpoint.methods));
    }
    match page {
        Page::Health => Ok(json(&Health { status: "ok" })),
        Page::Routes => routes_page(edge, head),
    }
}

fn no_page(path: &str) -> Problem {
    let shown: String = path.chars().take(100).collect();
    Problem::not_found(format!(
        "there is no page `{shown}`; those of the ingress are `/-/healthz` and `/-/routes`"
    ))
}

fn routes_page(edge: &Edge, head: &Parts) -> Result<Response<Last>, Problem> {
    let table = table_of(edge)?;
    key_of(edge, &table.keys, &head.headers)?;
    Ok(json(&RoutesPage::of(&table)))
}

#[derive(Serialize)]
struct Health {
    status: &'static str,
}

/// `GET /-/routes`.
#[derive(Serialize)]
struct RoutesPage {
    /// The term of the head that made the table.
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
