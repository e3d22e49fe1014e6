//! The JSON documents of the REST API that are nowhere else: what it takes, and lists with what surrounds them.

use std::sync::Arc;

use millstream_proto::event::Event;
use millstream_proto::status::{ReplicaStatus, VerdictStatus};
use millstream_proto::token::Role;
use millstream_proto::trace::TracedRequest;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// An error (RFC 9457).
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct Problem {
    /// `urn:millstream:problem:` and its kind.
    pub(crate) r#type: String,
    /// The status in words.
    pub(crate) title: String,
    /// The HTTP status.
    pub(crate) status: u16,
    /// What is wrong, and the fix.
    pub(crate) detail: String,
    /// Every fault by itself, where there are several.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) errors: Vec<ProblemFault>,
}

/// One fault of a request.
#[derive(Debug, Default, Serialize, JsonSchema)]
pub(crate) struct ProblemFault {
    /// The parameter or the file that it is in.
    pub(crate) path: String,
    /// What is wrong.
    pub(crate) message: String,
    /// Line in the file, from 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) line: Option<usize>,
    /// Column in the line, in characters from 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) column: Option<usize>,
    /// What to do.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) help: Option<String>,
}

/// Who asks.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct Me {
    /// What the token allows.
    pub(crate) role: Role,
    /// Id of the cluster.
    pub(crate) cluster: String,
    /// Version of the head.
    pub(crate) version: &'static str,
}

/// A decision, with the words for it.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct EventView {
    /// The decision.
    #[serde(flatten)]
    pub(crate) event: Arc<Event>,
    /// Whom it is about: `rag/embedder`, `rag` or `cluster`.
    pub(crate) subject: String,
    /// It in a sentence.
    pub(crate) text: String,
    /// What it was made of, where that is more than the sentence says.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) inputs_text: Option<String>,
}

impl From<Arc<Event>> for EventView {
    fn from(event: Arc<Event>) -> Self {
        let sentence = event.decision.to_string();
        let (text, inputs) = match sentence.split_once('\n') {
            Some((text, inputs)) => (text.to_owned(), Some(inputs.to_owned())),
            None => (sentence, None),
        };
        Self { subject: event.subject(), text, inputs_text: inputs, event }
    }
}

/// Decisions, the oldest first.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct Events {
    /// The newest of those that were asked for.
    pub(crate) events: Vec<EventView>,
}

/// Some of the replicas that were asked for.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct ReplicaPage {
    /// How many there are in all.
    pub(crate) total: usize,
    /// These.
    pub(crate) replicas: Vec<ReplicaView>,
}

/// A replica and whose it is.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct ReplicaView {
    /// `pipeline/deployment`.
    pub(crate) deployment: String,
    /// The replica.
    #[serde(flatten)]
    pub(crate) replica: ReplicaStatus,
}

/// Requests whose traces were kept, the newest first.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct TracedRequests {
    /// Without their spans.
    pub(crate) requests: Vec<TracedRequest>,
}

/// A pipeline in a list.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct PipelineEntry {
    /// Its name.
    pub(crate) name: String,
    /// The revision that is to serve.
    pub(crate) revision: u64,
    /// Its file's name.
    pub(crate) file_name: String,
    /// Milliseconds since the Unix epoch.
    pub(crate) deployed_at_ms: u64,
}

/// A pipeline as it was deployed.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct PipelineSource {
    /// Which, and when.
    #[serde(flatten)]
    pub(crate) entry: PipelineEntry,
    /// The file's text.
    pub(crate) source: String,
}

/// A revision that is kept.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct RevisionEntry {
    /// Its number.
    pub(crate) revision: u64,
    /// Its file's name.
    pub(crate) file_name: String,
    /// Milliseconds since the Unix epoch.
    pub(crate) deployed_at_ms: u64,
    /// Who deployed it.
    pub(crate) by: &'static str,
    /// Lines of its file.
    pub(crate) lines: usize,
    /// Why it does not serve, if it was taken back.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) verdict: Option<VerdictStatus>,
}

/// The DAG of a pipeline.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct Graph {
    /// Whose.
    pub(crate) pipeline: String,
    /// Of which revision.
    pub(crate) revision: u64,
    /// Its stages, in the file's order.
    pub(crate) stages: Vec<GraphStage>,
    /// The stages that the response is made of.
    pub(crate) response_after: Vec<String>,
}

/// A stage of a pipeline.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct GraphStage {
    /// Its name.
    pub(crate) name: String,
    /// Whether it calls a deployment or computes at the ingress.
    pub(crate) kind: GraphStageKind,
    /// The deployment that it calls: `pipeline/deployment`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) deployment: Option<String>,
    /// What it computes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) operator: Option<&'static str>,
    /// The stages that it waits for.
    pub(crate) after: Vec<String>,
    /// Whether it runs only under a condition.
    pub(crate) when: bool,
    /// Whether it runs once for each element of a list.
    pub(crate) for_each: bool,
    /// What becomes of a failure that does not fail the request: `skip`, or `use:STAGE`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) on_error: Option<String>,
}

/// How a stage works.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum GraphStageKind {
    /// It calls a deployment.
    Call,
    /// It computes at the ingress.
    Operator,
}

/// Files to deploy.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct DeployBody {
    /// In an order in which each may call the deployments of those before it.
    pub(crate) files: Vec<DeployFile>,
    /// The part of the requests that the new revisions get until they are promoted, 0.1 to 100.
    #[serde(default)]
    pub(crate) canary_percent: Option<f64>,
    /// The part of the requests that they get copies of until they are promoted, 0.1 to 100.
    #[serde(default)]
    pub(crate) shadow_percent: Option<f64>,
}

/// A pipeline's file.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct DeployFile {
    /// Its name, for messages.
    pub(crate) file_name: String,
    /// Its text.
    pub(crate) source: String,
    /// The folder on the nodes in which relative `file:` models are.
    #[serde(default)]
    pub(crate) source_dir: String,
}

/// What a deploy came to.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct DeployedView {
    /// The pipeline.
    pub(crate) name: String,
    /// The revision that is wanted.
    pub(crate) revision: u64,
    /// False when this very text was deployed already.
    pub(crate) changed: bool,
}

/// Which revision to go back to.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct UndoBody {
    /// Its number; absent: the one before.
    pub(crate) to_revision: Option<u64>,
}

/// The part of the requests that a canary is to get.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct PartBody {
    /// 0.1 to 100.
    pub(crate) percent: f64,
}

/// What a change of a rollout came to.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct RolledView {
    /// The revision that is wanted now.
    pub(crate) revision: u64,
    /// Of an undo: the revision whose text it has.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) text_of: Option<u64>,
    /// Of an undo: why that one did not serve, where it was taken back before.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) warning: Option<String>,
}

/// Bounds on a deployment's replicas; one that is absent stays as it is.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct BoundsBody {
    /// Fewest.
    #[serde(default)]
    pub(crate) min_replicas: Option<u32>,
    /// Most.
    #[serde(default)]
    pub(crate) max_replicas: Option<u32>,
}

/// The bounds in force.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct BoundsView {
    /// Fewest.
    pub(crate) min_replicas: u32,
    /// Most.
    pub(crate) max_replicas: u32,
    /// False when they were so before.
    pub(crate) changed: bool,
}

/// What became of a node.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct NodeView {
    /// Its name.
    pub(crate) node: String,
    /// False when it was so before.
    pub(crate) changed: bool,
}

/// A key to make. Whoever asks makes the secret; the head never sees it.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct KeyBody {
    /// Its name.
    pub(crate) name: String,
    /// SHA-256 of the secret, in hexadecimal.
    pub(crate) sha256: String,
    /// Its limits.
    #[serde(default)]
    pub(crate) settings: millstream_proto::key::KeyRequest,
}

/// A token to make. Whoever asks makes it; the head never sees it.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct TokenBody {
    /// Its name.
    pub(crate) name: String,
    /// SHA-256 of the token, in hexadecimal.
    pub(crate) sha256: String,
    /// What whoever has it may do.
    pub(crate) role: Role,
    /// How long it counts, in milliseconds; absent: until it is deleted.
    #[serde(default)]
    pub(crate) ttl_ms: Option<u64>,
}

/// How long the processes may finish what they have.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct ShutdownBody {
    /// Milliseconds.
    pub(crate) drain_ms: u64,
}

/// That something is done.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct Done {
    /// What it was done to.
    pub(crate) done: String,
}
