//! What can be read.

use std::sync::{Arc, LazyLock};

use axum::extract::{Path, Query, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use millstream_pipelines::{Faults, Name, OnError, Plan};
use millstream_proto::status::ReplicaState;
use millstream_proto::trace::TraceKept;
use millstream_proto::what_if::WhatIfRequest;
use serde::Deserialize;

use super::documents::{
    EventView, Events, Graph, GraphStage, GraphStageKind, Me, PipelineEntry, PipelineSource, ReplicaPage,
    ReplicaView, RevisionEntry, TracedRequests,
};
use super::input::{Body, Parameters};
use super::refused::Refused;
use crate::control::{self, Error, cluster, deploy};
use crate::server::http::own_site::{json_page, problem_with};
use crate::server::http::{Site, openapi_document, page, series as recorded};
use crate::traces::TraceFilter;

type Answer = Result<Response, Refused>;

/// Who asks.
pub(crate) async fn me(State(site): State<Arc<Site>>, headers: HeaderMap) -> Answer {
    let role = site.role(&headers).ok_or_else(|| Refused::new(StatusCode::UNAUTHORIZED, "nobody"))?;
    let cluster = site.leadership.term()?.cluster_id.clone();
    Ok(page(&Me { role, cluster, version: env!("CARGO_PKG_VERSION") }))
}

/// The whole status.
pub(crate) async fn status(State(site): State<Arc<Site>>) -> Answer {
    Ok(ready_json(&site.leadership.term()?.snapshot().await?.json()))
}

/// The status without single replicas.
pub(crate) async fn summary(State(site): State<Arc<Site>>) -> Answer {
    Ok(ready_json(&site.leadership.term()?.snapshot().await?.summary_json()))
}

/// The head from inside.
pub(crate) async fn head(State(site): State<Arc<Site>>) -> Answer {
    Ok(page(&control::inspect::inspect(&*site.leadership.term()?).await?))
}

/// The heads.
pub(crate) async fn heads(State(site): State<Arc<Site>>) -> Answer {
    Ok(page(&cluster::heads(&site.roll).await?))
}

fn ready_json(json: &str) -> Response {
    ([(header::CONTENT_TYPE, "application/json")], format!("{json}\n")).into_response()
}

/// Which replicas.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ReplicaQuery {
    deployment: Option<String>,
    node: Option<String>,
    state: Option<ReplicaState>,
    #[serde(default)]
    offset: usize,
    limit: Option<usize>,
}

/// Replicas, a page at a time.
pub(crate) async fn replicas(
    State(site): State<Arc<Site>>,
    Parameters(query): Parameters<ReplicaQuery>,
) -> Answer {
    let shown = site.leadership.term()?.snapshot().await?;
    let deployments = shown.status().pipelines.iter().flat_map(|pipeline| &pipeline.deployments);
    let deployments = deployments
        .filter(|deployment| query.deployment.as_ref().is_none_or(|wanted| *wanted == deployment.full_name));
    let wanted = deployments.flat_map(|deployment| {
        let of_deployment = deployment.replicas.iter().filter(|replica| {
            query.node.as_ref().is_none_or(|node| *node == replica.node)
                && query.state.is_none_or(|state| state == replica.state)
        });
        of_deployment.map(|replica| (&deployment.full_name, replica))
    });
    let limit = query.limit.unwrap_or(100).min(1000);
    let listed = wanted.clone().skip(query.offset).take(limit);
    let replicas = listed.map(|(deployment, replica)| ReplicaView {
        deployment: deployment.clone(),
        replica: replica.clone(),
    });
    Ok(page(&ReplicaPage { total: wanted.count(), replicas: replicas.collect() }))
}

/// Which decisions.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct EventQuery {
    #[serde(default)]
    target: String,
    #[serde(default)]
    since_ms: u64,
    limit: Option<usize>,
}

/// What was decided.
pub(crate) async fn events(
    State(site): State<Arc<Site>>,
    Parameters(query): Parameters<EventQuery>,
) -> Answer {
    let mut events = cluster::explain(&*site.leadership.term()?, &query.target, query.since_ms);
    let limit = query.limit.unwrap_or(500).min(5000);
    events.drain(..events.len().saturating_sub(limit));
    Ok(page(&Events { events: events.into_iter().map(EventView::from).collect() }))
}

/// The last hour in numbers.
pub(crate) async fn series(
    State(site): State<Arc<Site>>,
    parameters: Result<Query<Vec<(String, String)>>, axum::extract::rejection::QueryRejection>,
) -> Answer {
    let Ok(Query(parameters)) = parameters else {
        let detail = "the query is not `name=value&name=value` in UTF-8";
        return Err(Refused::new(StatusCode::BAD_REQUEST, detail));
    };
    let history = &site.host.history;
    Ok(match recorded::Query::parse(&parameters) {
        Ok(query) => page(&recorded::answer(&history.rings.lock(), &query, history.started_unix_ms)),
        Err(faults) => problem_with(StatusCode::BAD_REQUEST, "parameters are at fault; see `errors`", faults),
    })
}

fn entry(name: &Name, revision: &millstream_core::desired::StoredRevision) -> PipelineEntry {
    PipelineEntry {
        name: name.to_string(),
        revision: revision.number,
        file_name: revision.file_name.clone(),
        deployed_at_ms: revision.created_at_ms,
    }
}

/// The pipelines.
pub(crate) async fn pipelines(State(site): State<Arc<Site>>) -> Answer {
    let desired = site.leadership.term()?.catalog.desired();
    let entries: Vec<_> = deploy::list(&desired).map(|(name, stored)| entry(name, stored)).collect();
    Ok(page(&entries))
}

/// Which revision.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RevisionQuery {
    revision: Option<u64>,
}

/// A pipeline's file.
pub(crate) async fn pipeline(
    State(site): State<Arc<Site>>,
    Path(name): Path<String>,
    Parameters(query): Parameters<RevisionQuery>,
) -> Answer {
    let desired = site.leadership.term()?.catalog.desired();
    let name = parse_name(&name)?;
    let stored = deploy::get(&desired, &name, query.revision)?;
    Ok(page(&PipelineSource { entry: entry(&name, stored), source: stored.source.clone() }))
}

/// The kept revisions.
pub(crate) async fn revisions(State(site): State<Arc<Site>>, Path(name): Path<String>) -> Answer {
    let desired = site.leadership.term()?.catalog.desired();
    let name = parse_name(&name)?;
    let verdicts = desired.pipelines.get(&name).map(|pipeline| &pipeline.verdicts);
    let entries = deploy::history(&desired, &name)?.map(|stored| {
        let verdict = verdicts.and_then(|verdicts| verdicts.get(&stored.number));
        let verdict = verdict.map(|verdict| verdict.status(stored.number));
        RevisionEntry {
            revision: stored.number,
            file_name: stored.file_name.clone(),
            deployed_at_ms: stored.created_at_ms,
            // There is nobody else yet who may.
            by: "admin",
            lines: stored.source.lines().count(),
            verdict,
        }
    });
    Ok(page(&entries.collect::<Vec<_>>()))
}

/// A pipeline's DAG.
pub(crate) async fn graph(
    State(site): State<Arc<Site>>,
    Path(name): Path<String>,
    Parameters(query): Parameters<RevisionQuery>,
) -> Answer {
    let desired = site.leadership.term()?.catalog.desired();
    let name = parse_name(&name)?;
    let stored = deploy::get(&desired, &name, query.revision)?;
    let (file_name, source, revision) = (stored.file_name.clone(), stored.source.clone(), stored.number);
    // It may be long, as for a deploy.
    let drawn = tokio::task::spawn_blocking(move || {
        let plan = Plan::compile(&file_name, &source)?;
        Ok(graph_of(&plan, revision))
    });
    let drawn = drawn.await.map_err(|_| Error::Internal("compiling this file made the compiler fail"))?;
    Ok(page(&drawn.map_err(|faults: Faults| Refused::files(&[faults]))?))
}

fn graph_of(plan: &Plan, revision: u64) -> Graph {
    let names: Vec<_> = plan.stages().map(|(name, _)| name.to_owned()).collect();
    let named = |stages: &[usize]| stages.iter().map(|&stage| names[stage].clone()).collect();
    let stages = plan.stages().enumerate().map(|(index, (name, on_error))| {
        let outline = plan.outline(index);
        GraphStage {
            name: name.to_owned(),
            kind: if outline.target.is_some() { GraphStageKind::Call } else { GraphStageKind::Operator },
            deployment: outline.target.map(|target| plan.targets()[target].to_string()),
            operator: outline.operator,
            after: named(&outline.after),
            when: outline.is_conditional,
            for_each: outline.is_for_each,
            on_error: match on_error {
                OnError::Fail => None,
                OnError::Skip => Some("skip".to_owned()),
                OnError::Use(stage) => Some(format!("use:{}", names[stage])),
            },
        }
    });
    Graph {
        pipeline: plan.name().to_string(),
        revision,
        stages: stages.collect(),
        response_after: named(plan.response_stages()),
    }
}

/// How a pipeline's stages do.
pub(crate) async fn stages(State(site): State<Arc<Site>>, Path(name): Path<String>) -> Answer {
    Ok(page(&control::inspect::stages(&*site.leadership.term()?, &parse_name(&name)?)?))
}

/// Which requests.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RequestQuery {
    pipeline: Option<String>,
    status: Option<TraceKept>,
    limit: Option<usize>,
}

/// Requests whose traces were kept.
pub(crate) async fn requests(
    State(site): State<Arc<Site>>,
    Parameters(query): Parameters<RequestQuery>,
) -> Answer {
    let filter = TraceFilter { pipeline: query.pipeline, kept: query.status };
    let requests = control::traces::list(&site.host, &filter, query.limit.unwrap_or(100));
    Ok(page(&TracedRequests { requests }))
}

/// The trace of a request.
pub(crate) async fn request(State(site): State<Arc<Site>>, Path(id): Path<String>) -> Answer {
    Ok(page(&*control::traces::find(&site.host, &id)?))
}

/// What the last hour would have come to with other bounds.
pub(crate) async fn simulate(State(site): State<Arc<Site>>, Body(request): Body<WhatIfRequest>) -> Answer {
    let term = site.leadership.term()?;
    let replayed = tokio::task::spawn_blocking(move || control::what_if::what_if(&term, &request));
    let replayed = replayed.await.map_err(|_| Error::Internal("the replay failed"))?;
    Ok(page(&replayed?))
}

/// The API keys.
pub(crate) async fn keys(State(site): State<Arc<Site>>) -> Answer {
    Ok(page(&control::keys::list(&site.leadership.term()?.catalog.desired())))
}

/// What keys have used since when, and by what.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct UsageQuery {
    since_ms: Option<u64>,
    by: Option<String>,
}

/// What keys have used.
pub(crate) async fn usage(
    State(site): State<Arc<Site>>,
    Parameters(query): Parameters<UsageQuery>,
) -> Answer {
    let term = site.leadership.term()?;
    // Hundreds of thousands of rows, where there are many keys.
    let read = move || control::usage::report(&term, query.since_ms, query.by.as_deref());
    let report = tokio::task::spawn_blocking(read).await;
    Ok(page(&report.map_err(|_| Error::Internal("summing up usage failed"))??))
}

/// The tokens.
pub(crate) async fn tokens(State(site): State<Arc<Site>>) -> Answer {
    Ok(page(&control::tokens::list(&site.leadership.term()?.catalog.desired())))
}

/// Moves that would make whole GPUs free.
pub(crate) async fn defrag(State(site): State<Arc<Site>>) -> Answer {
    let term = site.leadership.term()?;
    Ok(page(&cluster::plan_defrag(&term).await?))
}

/// This API.
pub(crate) async fn openapi() -> Response {
    static DOCUMENT: LazyLock<serde_json::Value> = LazyLock::new(openapi_document);
    json_page(StatusCode::OK, "application/json", &*DOCUMENT)
}

/// A pipeline's name.
pub(super) fn parse_name(text: &str) -> Result<Name, Refused> {
    text.parse().map_err(|error| Error::Invalid(format!("{error}")).into())
}

/// Where processes have their metrics.
pub(crate) async fn targets(State(site): State<Arc<Site>>) -> Answer {
    Ok(page(&site.leadership.term()?.host.targets.groups()))
}
