//! The pages of the Open Inference Protocol that call nothing: health, metadata, configuration, statistics, the index of models. What
//! they say is the protocol's; over gRPC they are methods with small messages.

use std::sync::Arc;

use http::request::Parts;
use http::{HeaderMap, Method, Response};
use hyper::body::Incoming;
use millstream_pipelines::Batch;
use millstream_proto::ErrorClass;
use millstream_proto::endpoint::{Access, Endpoint};
use millstream_proto::inference::repository_index_response::ModelIndex;
use millstream_proto::inference::{
    InferStatistics, ModelStatistics, ModelStatisticsResponse, RepositoryIndexResponse, StatisticDuration,
};

use super::access::{key_of, may_call, table_of};
use super::read_body::{Bounds, RequestBody, read_body};
use super::state::Edge;
use crate::keys::Key;
use crate::metrics::Tallied;
use crate::model::Failure;
use crate::protocol::inference::metadata;
use crate::protocol::inference::page::{Page, Readiness};
use crate::protocol::inference::path::{self, Action, InferencePath, ModelPath};
use crate::protocol::inference::question::Question;
use crate::protocol::problem::shown;
use crate::protocol::{Last, Problem, grpc};
use crate::routes::{Pipeline, Route, RouteTable};

const GET: &str = "GET, HEAD";
const POST: &str = "POST";
/// Most bytes of a message that asks for a page: it names a model.
const MAX_QUESTION_BYTES: usize = 16 << 10;

/// What they answer.
pub(crate) const ENDPOINTS: [Endpoint; 9] = [
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
        path: "/v2/models/{model}/config",
        access: Access::ApiKey,
        help: "The model's inputs, outputs and batching in the form of Triton's configurations.",
    },
    Endpoint {
        methods: GET,
        path: "/v2/models/{model}/stats",
        access: Access::ApiKey,
        help: "What this ingress has counted of the model since it started: answers, failures, waiting and computing.",
    },
    Endpoint {
        methods: GET,
        path: "/v2/models/stats",
        access: Access::ApiKey,
        help: "The same of all models.",
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
    page(edge, &head.headers, asked).map(|page| page.to_json())
}

/// Answers a call of one of their methods.
///
/// # Errors
/// The problem to answer with.
pub(crate) async fn call(
    edge: &Edge,
    head: &Parts,
    method: &str,
    body: Option<Incoming>,
) -> Result<Response<Last>, Problem> {
    let Some(question) = Question::of(method) else {
        let method = shown(method);
        return Ok(grpc::unimplemented(&format!(
            "`{method}` is not offered; models come and go with `cluster deploy`, and tensors are sent with their requests"
        )));
    };
    if !question.is_open() {
        key_of(edge, &table_of(edge)?.keys, &head.headers)?;
    }
    let body = body.ok_or_else(|| Problem::malformed("the call has no message"))?;
    let bounds = Bounds {
        length_of: grpc::length_of,
        max_bytes: MAX_QUESTION_BYTES,
        time: edge.limits.request.body_time,
    };
    let body = read_body(RequestBody::Incoming(body), bounds, |_| Ok(())).await?;
    let message = grpc::only_message(body)?;
    let asked = question.read(&message)?;
    let answer = page(edge, &head.headers, &asked.path);
    let page = match (answer, &asked.path) {
        (Ok(Page::Index(mut index)), _) if asked.only_ready => {
            index.models.retain(|model| model.state == READY);
            Page::Index(index)
        }
        (Ok(page), _) => page,
        // Clients ask whether something is so, and want an answer.
        (Err(_), InferencePath::Ready) => Page::Ready(Readiness::NotReady),
        (Err(_), InferencePath::Model(model)) if model.action == Action::Ready => {
            Page::ModelReady(Readiness::NotReady)
        }
        (Err(problem), _) => return Err(problem),
    };
    Ok(page.to_message())
}

fn page(edge: &Edge, headers: &HeaderMap, asked: &InferencePath<'_>) -> Result<Page, Problem> {
    if *asked == InferencePath::Live {
        return Ok(Page::Live);
    }
    let table = table_of(edge)?;
    if *asked == InferencePath::Ready {
        if edge.guards.are_leaving() {
            return Err(Problem::shutting_down());
        }
        return Ok(Page::Ready(Readiness::Ready));
    }
    let key = key_of(edge, &table.keys, headers)?;
    let key = key.as_ref();
    match asked {
        InferencePath::Index => Ok(Page::Index(index(&table, key))),
        InferencePath::Statistics => Ok(Page::Statistics(all_statistics(&table, key))),
        InferencePath::Model(model) => of_model(&table, model, key),
        _ => Ok(Page::Server(metadata::server())),
    }
}

fn of_model(table: &RouteTable, model: &ModelPath<'_>, key: Option<&Arc<Key>>) -> Result<Page, Problem> {
    let version = model.revision()?;
    let name = &*model.name;
    let route = table.named(name).filter(|route| may_call(key, route)).ok_or_else(|| {
        let name = shown(name);
        Problem::not_found(format!("there is no model `{name}`; `POST /v2/repository/index` lists all"))
    })?;
    let pipeline = revision_of(route, name, version)?;
    match model.action {
        Action::Ready => match why_not_ready(pipeline) {
            None => Ok(Page::ModelReady(Readiness::Ready)),
            Some(reason) => Err(Failure::new(ErrorClass::Unavailable, reason).into()),
        },
        Action::Config => {
            let batch = batch_of(table, pipeline);
            Ok(Page::Config(metadata::config(name, &pipeline.plan, batch.as_ref())))
        }
        Action::Statistics => {
            let counted = |pipeline: &Arc<Pipeline>| statistics(name, pipeline);
            let model_stats = match version {
                Some(_) => vec![counted(pipeline)],
                None => route.variants.iter().map(counted).collect(),
            };
            Ok(Page::Statistics(ModelStatisticsResponse { model_stats }))
        }
        Action::Metadata | Action::Infer => {
            let revisions = route.variants.iter().map(|pipeline| pipeline.revision);
            Ok(Page::Model(metadata::model(name, revisions, &pipeline.plan)))
        }
    }
}

fn revision_of<'r>(route: &'r Route, name: &str, version: Option<u64>) -> Result<&'r Arc<Pipeline>, Problem> {
    let is_asked = |pipeline: &&Arc<Pipeline>| version.is_none_or(|version| pipeline.revision == version);
    route.variants.iter().find(is_asked).ok_or_else(|| {
        let there: Vec<_> =
            route.variants.iter().map(|pipeline| format!("`{}`", pipeline.revision)).collect();
        Problem::not_found(format!(
            "`{}` has no such version that takes requests; there is {}",
            shown(name),
            there.join(", ")
        ))
    })
}

/// How the calls of a deployment run together, as its pipeline's file says; `None` for a pipeline.
fn batch_of(table: &RouteTable, pipeline: &Pipeline) -> Option<Batch> {
    pipeline.plan.task()?;
    let target = pipeline.plan.targets().first()?;
    let route = table.by_name.get(&target.pipeline)?;
    let file = route.variants.iter().find(|variant| variant.revision == pipeline.revision)?;
    let spec = file.plan.deployments().get(&target.deployment)?;
    Some(spec.batch.clone()).filter(|batch| batch.max_size > 1)
}

fn why_not_ready(pipeline: &Pipeline) -> Option<String> {
    let missing = pipeline.missing();
    (!missing.is_empty()).then(|| format!("no replica is ready of {}", missing.join(", ")))
}

/// The state of a model that takes requests.
const READY: &str = "READY";

fn index(table: &RouteTable, key: Option<&Arc<Key>>) -> RepositoryIndexResponse {
    let mut models = Vec::new();
    for (name, route) in table.names().filter(|(_, route)| may_call(key, route)) {
        for pipeline in route.variants.iter() {
            let reason = why_not_ready(pipeline);
            let state = if reason.is_none() { READY } else { "UNAVAILABLE" };
            models.push(ModelIndex {
                name: name.to_string(),
                version: pipeline.revision.to_string(),
                state: state.to_owned(),
                reason: reason.unwrap_or_default(),
            });
        }
    }
    models.sort_by(|a, b| a.name.cmp(&b.name));
    RepositoryIndexResponse { models }
}

fn all_statistics(table: &RouteTable, key: Option<&Arc<Key>>) -> ModelStatisticsResponse {
    let mut model_stats = Vec::new();
    for (name, route) in table.names().filter(|(_, route)| may_call(key, route)) {
        model_stats.extend(route.variants.iter().map(|pipeline| statistics(name, pipeline)));
    }
    model_stats.sort_by(|a, b| a.name.cmp(&b.name));
    ModelStatisticsResponse { model_stats }
}

/// Of a deployment, all of its calls, those of pipelines too; of a pipeline, its requests.
fn statistics(name: &str, pipeline: &Pipeline) -> ModelStatistics {
    let duration = |Tallied { count, nanos }: Tallied| Some(StatisticDuration { count, ns: nanos });
    let (answered, failed, waited) = match &pipeline.targets[..] {
        [deployment] if pipeline.plan.task().is_some() => deployment.meter().tallied(),
        _ => {
            let (answered, failed) = pipeline.counts.tallied();
            (answered, failed, Tallied::default())
        }
    };
    let none = StatisticDuration::default();
    let success = Tallied { nanos: answered.nanos.saturating_add(waited.nanos), ..answered };
    ModelStatistics {
        name: name.to_owned(),
        version: pipeline.revision.to_string(),
        inference_count: answered.count,
        execution_count: answered.count,
        inference_stats: Some(InferStatistics {
            success: duration(success),
            fail: duration(failed),
            queue: duration(waited),
            compute_input: Some(none),
            compute_infer: duration(answered),
            compute_output: Some(none),
            cache_hit: Some(none),
            cache_miss: Some(none),
        }),
        ..Default::default()
    }
}
