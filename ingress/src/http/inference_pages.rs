//! The pages of the Open Inference Protocol that call nothing: health, metadata, the index of models. What they say is the protocol's.

use std::sync::Arc;

use http::request::Parts;
use http::{Method, Response};
use millstream_proto::ErrorClass;
use millstream_proto::endpoint::{Access, Endpoint};

use super::access::{key_of, may_call, table_of};
use super::state::Edge;
use crate::keys::Key;
use crate::model::Failure;
use crate::protocol::inference::metadata::{self, Entry};
use crate::protocol::inference::path::{self, Action, InferencePath, ModelPath};
use crate::protocol::problem::shown;
use crate::protocol::{Last, Problem};
use crate::routes::{Pipeline, RouteTable};

const GET: &str = "GET, HEAD";
const POST: &str = "POST";

/// What they answer.
pub(crate) const ENDPOINTS: [Endpoint; 6] = [
    Endpoint {
        methods: GET,
        path: "/v2/models/{model}",
        access: Access::ApiKey,
        help: "The inputs, outputs and revisions of a pipeline or a deployment.",
    },
    Endpoint {
        methods: GET,
        path: "/v2/models/{model}/ready",
        access: Access::ApiKey,
        help: "200 when every deployment that the model calls has a replica, or starts one at the first request; else 503.",
    },
    Endpoint {
        methods: GET,
        path: "/v2",
        access: Access::ApiKey,
        help: "The server's version, and which extensions of the protocol it has.",
    },
    Endpoint {
        methods: GET,
        path: "/v2/health/live",
        access: Access::Everybody,
        help: "200 as long as the process answers.",
    },
    Endpoint {
        methods: GET,
        path: "/v2/health/ready",
        access: Access::Everybody,
        help: "200 once the head has said what is served; 503 before, as `/-/readyz`.",
    },
    Endpoint {
        methods: POST,
        path: "/v2/repository/index",
        access: Access::ApiKey,
        help: "All models with their revisions, and whether they are ready. The body is not read.",
    },
];

/// What a path asks of these pages; `None` for other paths.
pub(crate) fn asked(path: &str) -> Option<InferencePath<'_>> {
    path::parse(path).filter(|asked| !matches!(asked, InferencePath::Model(it) if it.action == Action::Infer))
}

/// Answers a request for one of them.
///
/// # Errors
/// The problem to answer with.
pub(crate) fn answer(
    edge: &Edge,
    head: &Parts,
    asked: &InferencePath<'_>,
) -> Result<Response<Last>, Problem> {
    let is_index = *asked == InferencePath::Index;
    let is_method = if is_index {
        head.method == Method::POST
    } else {
        [Method::GET, Method::HEAD].contains(&head.method)
    };
    if !is_method {
        return Err(Problem::method_not_allowed(if is_index { POST } else { GET }));
    }
    if *asked == InferencePath::Live {
        return Ok(metadata::yes());
    }
    let table = table_of(edge)?;
    if *asked == InferencePath::Ready {
        if edge.guards.are_leaving() {
            return Err(Problem::shutting_down());
        }
        return Ok(metadata::yes());
    }
    let key = key_of(edge, &table.keys, &head.headers)?;
    match asked {
        InferencePath::Index => Ok(index(&table, key.as_ref())),
        InferencePath::Model(model) => of_model(&table, model, key.as_ref()),
        _ => Ok(metadata::server()),
    }
}

fn of_model(
    table: &RouteTable,
    model: &ModelPath<'_>,
    key: Option<&Arc<Key>>,
) -> Result<Response<Last>, Problem> {
    let version = model.revision()?;
    let route = table.named(&model.name).filter(|route| may_call(key, route));
    let route = route.ok_or_else(|| {
        let name = shown(&model.name);
        Problem::not_found(format!("there is no model `{name}`; `POST /v2/repository/index` lists all"))
    })?;
    let is_asked = |pipeline: &&Arc<Pipeline>| version.is_none_or(|version| pipeline.revision == version);
    let pipeline = route.variants.iter().find(is_asked).ok_or_else(|| {
        let there: Vec<_> =
            route.variants.iter().map(|pipeline| format!("`{}`", pipeline.revision)).collect();
        Problem::not_found(format!(
            "`{}` has no such version that takes requests; there is {}",
            shown(&model.name),
            there.join(", ")
        ))
    })?;
    if model.action == Action::Ready {
        return match why_not_ready(pipeline) {
            None => Ok(metadata::yes()),
            Some(reason) => Err(Failure::new(ErrorClass::Unavailable, reason).into()),
        };
    }
    let revisions = route.variants.iter().map(|pipeline| pipeline.revision);
    Ok(metadata::model(&model.name, revisions, &pipeline.plan))
}

fn why_not_ready(pipeline: &Pipeline) -> Option<String> {
    let missing = pipeline.missing();
    (!missing.is_empty()).then(|| format!("no replica is ready of {}", missing.join(", ")))
}

fn index(table: &RouteTable, key: Option<&Arc<Key>>) -> Response<Last> {
    let mut entries = Vec::new();
    for (name, route) in table.names().filter(|(_, route)| may_call(key, route)) {
        for pipeline in route.variants.iter() {
            let reason = why_not_ready(pipeline);
            let state = if reason.is_none() { "READY" } else { "UNAVAILABLE" };
            let version = pipeline.revision.to_string();
            entries.push(Entry { name, version, state, reason: reason.unwrap_or_default() });
        }
    }
    entries.sort_by(|a, b| a.name.cmp(b.name));
    metadata::index(&entries)
}
