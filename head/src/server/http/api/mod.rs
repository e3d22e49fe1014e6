//! The REST API: everything that the `cluster` command can do. The dashboard uses nothing else.

pub(super) mod change;
pub(super) mod documents;
mod input;
pub(super) mod live;
pub(super) mod read;
mod refused;

use axum::routing::{delete, get, patch, post, put};
use millstream_proto::defrag::DefragPlan;
use millstream_proto::deploy_plan::DeployPlan;
use millstream_proto::head::HeadStatus;
use millstream_proto::inspection::Inspection;
use millstream_proto::key::{KeyRequest, KeyStatus};
use millstream_proto::series::Series;
use millstream_proto::stage::StageTraffic;
use millstream_proto::status::ClusterStatus;
use millstream_proto::summary::ClusterSummary;
use millstream_proto::token::TokenStatus;
use millstream_proto::trace::RequestTrace;
use millstream_proto::usage::UsageReport;
use millstream_proto::what_if::{WhatIf, WhatIfRequest};

use self::documents::{
    BoundsBody, BoundsView, DeployBody, DeployedView, Done, Events, Graph, KeyBody, Me, NodeView, PartBody,
    PipelineEntry, PipelineSource, ReplicaPage, RevisionEntry, RolledView, ShutdownBody, TokenBody,
    TracedRequests, UndoBody,
};
use super::operation::Operation;
use super::series;
use crate::targets::TargetGroup;

/// What whoever has a token can read.
pub(super) fn reading() -> Vec<Operation> {
    [reading_cluster(), reading_pipelines(), reading_requests()].into_iter().flatten().collect()
}

/// The cluster as a whole.
fn reading_cluster() -> Vec<Operation> {
    vec![
        Operation::read::<Me>("/api/me", get(read::me)).help("getMe", "Who asks, and of which cluster."),
        Operation::read::<ClusterStatus>("/api/status", get(read::status)).help(
            "getStatus",
            "Nodes, pipelines, deployments and replicas: the same JSON as `cluster status --json`.",
        ),
        Operation::read::<ClusterSummary>("/api/summary", get(read::summary))
            .help("getSummary", "The same without the single replicas, and whether all is well."),
        Operation::read::<Inspection>("/api/head", get(read::head))
            .help("getHead", "The head from inside: versions, alarm, routes."),
        Operation::read::<Vec<HeadStatus>>("/api/heads", get(read::heads))
            .help("getHeads", "The heads of the cluster, and which of them leads; any of them answers."),
        Operation::events::<ClusterSummary>("/api/live", get(live::live)).help(
            "getLive",
            "Server-sent events: `summary` at once and at each change, at most once a second; `decision` for each \
             decision.",
        ),
        Operation::read::<ReplicaPage>("/api/replicas", get(read::replicas))
            .help("getReplicas", "The replicas, a page at a time.")
            .query(&[
                ("deployment", "Only those of this deployment: PIPELINE/DEPLOYMENT."),
                ("node", "Only those on this node."),
                ("state", "Only those in this state."),
                ("offset", "How many to leave out; 0 by default."),
                ("limit", "How many to list; 100 by default, at most 1000."),
            ]),
        Operation::read::<Events>("/api/events", get(read::events))
            .help("getEvents", "What was decided, and why: the same as `cluster explain --json`.")
            .query(&[
                ("target", "Only what is about PIPELINE or PIPELINE/DEPLOYMENT."),
                ("since_ms", "Only what came since then, in milliseconds since the Unix epoch."),
                ("limit", "How many of the newest; 500 by default, at most 5000."),
            ]),
        Operation::read::<Series>("/api/series", get(read::series))
            .help("getSeries", "The last hour of the cluster's numbers.")
            .query(series::PARAMETERS_HELP),
    ]
}

/// What is deployed.
fn reading_pipelines() -> Vec<Operation> {
    vec![
        Operation::read::<Vec<PipelineEntry>>("/api/pipelines", get(read::pipelines))
            .help("getPipelines", "The pipelines that are deployed."),
        Operation::read::<PipelineSource>("/api/pipelines/{name}", get(read::pipeline))
            .help("getPipeline", "A pipeline's file as it was deployed.")
            .query(&[("revision", "Of this revision; the one that is to serve by default.")]),
        Operation::read::<Vec<RevisionEntry>>("/api/pipelines/{name}/revisions", get(read::revisions))
            .help("getRevisions", "The revisions that are kept, the oldest first."),
        Operation::read::<Graph>("/api/pipelines/{name}/graph", get(read::graph))
            .help("getGraph", "A pipeline's stages, and which waits for which."),
        Operation::read::<Vec<StageTraffic>>("/api/pipelines/{name}/stages", get(read::stages))
            .help("getStages", "The calls of a pipeline's stages in the last minute."),
    ]
}

/// Requests, keys, and what could be otherwise.
fn reading_requests() -> Vec<Operation> {
    vec![
        Operation::read::<TracedRequests>("/api/requests", get(read::requests))
            .help(
                "getRequests",
                "Requests that failed or were slow, and some others, of which there is a trace.",
            )
            .query(&[
                ("pipeline", "Only of this pipeline."),
                ("status", "Only `failed`, `slow` or `sample`."),
                ("limit", "How many of the newest; 100 by default, at most 1000."),
            ]),
        Operation::read::<RequestTrace>("/api/requests/{id}", get(read::request))
            .help("getRequest", "Where the time of a request went, by the request's id or the trace's."),
        Operation::ask::<WhatIf>("/api/simulate", post(read::simulate))
            .help(
                "simulate",
                "What the last hour of a deployment would have come to with other bounds; changes nothing.",
            )
            .takes::<WhatIfRequest>(),
        Operation::read::<Vec<KeyStatus>>("/api/keys", get(read::keys)).help("getKeys", "The API keys."),
        Operation::read::<UsageReport>("/api/usage", get(read::usage))
            .help("getUsage", "What API keys have used, by the hour: the same as `cluster usage --json`.")
            .query(&[
                ("since_ms", "Only what was used since the hour of then, in milliseconds since the Unix epoch; the last 24 hours by default."),
                ("by", "What to tell apart: `hour`, `key`, `model`, with commas between; `key,model` by default."),
            ]),
        Operation::read::<Vec<TokenStatus>>("/api/tokens", get(read::tokens))
            .help("getTokens", "The tokens for the dashboard."),
        Operation::read::<DefragPlan>("/api/defrag", get(read::defrag))
            .help("getDefrag", "Which moves of replicas would make whole GPUs free."),
        Operation::read::<Vec<TargetGroup>>("/-/targets", get(read::targets)).help(
            "getTargets",
            "The admin addresses of all processes, for Prometheus's `http_sd_configs`. One that is gone stays for ten minutes.",
        ),
        Operation::read::<serde_json::Value>("/api/openapi.json", get(read::openapi))
            .help("getOpenapi", "This API as an OpenAPI 3.1 document."),
    ]
}

/// What whoever has the admin token can change.
pub(super) fn changing() -> Vec<Operation> {
    [changing_pipelines(), changing_cluster()].into_iter().flatten().collect()
}

/// What is deployed.
fn changing_pipelines() -> Vec<Operation> {
    vec![
        Operation::change::<Vec<DeployPlan>>("POST", "/api/plan", post(change::plan))
            .help("planDeploy", "What a deploy would do, without doing it.")
            .takes::<DeployBody>(),
        Operation::change::<Vec<DeployedView>>("POST", "/api/deploy", post(change::deploy))
            .help("deploy", "Checks and stores pipelines, all or none.")
            .takes::<DeployBody>(),
        Operation::change::<Done>("DELETE", "/api/pipelines/{name}", delete(change::delete_pipeline))
            .help("deletePipeline", "Removes a pipeline; an undo within an hour brings it back."),
        Operation::change::<RolledView>(
            "POST",
            "/api/pipelines/{name}/rollout/promote",
            post(change::promote),
        )
        .help("promoteRollout", "Lets a canary or a shadow take over."),
        Operation::change::<RolledView>("POST", "/api/pipelines/{name}/rollout/abort", post(change::abort))
            .help("abortRollout", "Takes back the revision that takes over."),
        Operation::change::<RolledView>("POST", "/api/pipelines/{name}/rollout/undo", post(change::undo))
            .help("undoRollout", "Goes back to an earlier revision.")
            .takes::<UndoBody>(),
        Operation::change::<RolledView>("PUT", "/api/pipelines/{name}/rollout", put(change::set_part))
            .help("setRollout", "Gives a canary another part of the requests.")
            .takes::<PartBody>(),
        Operation::change::<BoundsView>(
            "PUT",
            "/api/pipelines/{name}/deployments/{deployment}/bounds",
            put(change::set_bounds),
        )
        .help("setBounds", "Sets how many replicas there may be, in place of the file.")
        .takes::<BoundsBody>(),
        Operation::change::<BoundsView>(
            "DELETE",
            "/api/pipelines/{name}/deployments/{deployment}/bounds",
            delete(change::reset_bounds),
        )
        .help("resetBounds", "Back to what the file says."),
    ]
}

/// Keys, tokens, nodes, and the end.
fn changing_cluster() -> Vec<Operation> {
    vec![
        Operation::change::<KeyStatus>("POST", "/api/keys", post(change::create_key))
            .help("createKey", "Makes an API key.")
            .takes::<KeyBody>(),
        Operation::change::<KeyStatus>("PATCH", "/api/keys/{name}", patch(change::set_key))
            .help("setKey", "Changes an API key's limits in place.")
            .takes::<KeyRequest>(),
        Operation::change::<Done>("DELETE", "/api/keys/{name}", delete(change::delete_key))
            .help("deleteKey", "Deletes an API key."),
        Operation::change::<TokenStatus>("POST", "/api/tokens", post(change::create_token))
            .help("createToken", "Makes a token for the dashboard.")
            .takes::<TokenBody>(),
        Operation::change::<Done>("DELETE", "/api/tokens/{name}", delete(change::delete_token))
            .help("deleteToken", "Deletes a token for the dashboard."),
        Operation::change::<Done>("DELETE", "/api/nodes/{name}", delete(change::remove_node))
            .help("removeNode", "Gives up a node that is gone for good."),
        Operation::file("/api/state", "application/jsonl", get(change::export_state)).help(
            "exportState",
            "All that people asked for, as the file that `cluster state import` takes; it has the hashes of API keys.",
        ),
        Operation::change::<Done>("POST", "/api/heads/step-down", post(change::step_down))
            .help("stepDown", "Lets another head lead; refused where there is no other."),
        Operation::change::<NodeView>("POST", "/api/nodes/{name}/cordon", post(change::cordon_node))
            .help("cordonNode", "Nothing new is placed on the node; what runs there stays. Ends a drain."),
        Operation::change::<NodeView>("POST", "/api/nodes/{name}/drain", post(change::drain_node)).help(
            "drainNode",
            "Replaces what runs on the node on other nodes, each replica before it stops. Answers at once; in `/api/status` the \
             node is `draining` until nothing runs there, then `cordoned`.",
        ),
        Operation::change::<NodeView>("POST", "/api/nodes/{name}/uncordon", post(change::uncordon_node))
            .help("uncordonNode", "The node takes replicas again. Ends a drain."),
        Operation::change::<Done>("POST", "/api/shutdown", post(change::shut_down))
            .help("shutdown", "Drains and ends every process of the cluster.")
            .takes::<ShutdownBody>(),
    ]
}
