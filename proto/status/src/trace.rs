//! Where the time of one request went, as people see it: the JSON of `cluster trace --json` and of `/api/requests`. Never what
//! was asked or answered.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A request whose trace was kept, without its spans.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct TracedRequest {
    /// The request's id, as in the header `x-request-id`.
    pub request_id: String,
    /// The trace's id, as in the header `traceparent`.
    pub trace_id: String,
    /// The pipeline; empty for a request that no pipeline takes.
    pub pipeline: String,
    /// The revision that it ran on; 0 if it ran on none.
    pub revision: u64,
    /// When it came, in milliseconds since the Unix epoch.
    pub at_ms: f64,
    /// How long it took.
    pub duration_ms: f64,
    /// The HTTP status of its answer; 499 for a client that left.
    pub status: u16,
    /// Name of the ingress that took it.
    pub ingress: String,
    /// Why its trace was kept.
    pub kept: TraceKept,
}

/// Why a trace was kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum TraceKept {
    /// The request failed by a fault of the server.
    Failed,
    /// It took longer than nearly all others of its pipeline.
    Slow,
    /// It is one of those that are kept whatever becomes of them.
    Sample,
}

/// A request with all that was done for it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct RequestTrace {
    /// Which request.
    #[serde(flatten)]
    pub request: TracedRequest,
    /// The id of the span that the client has sent, if it has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parent_id: Option<String>,
    /// What was done, in the order in which it began; the request itself first.
    pub spans: Vec<TraceSpan>,
}

/// Something that was done.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct TraceSpan {
    /// Its id.
    pub span_id: String,
    /// The span that it is a part of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parent_id: Option<String>,
    /// What it is, for people.
    pub name: String,
    /// What kind of work it is.
    pub kind: SpanKind,
    /// Microseconds from the request's beginning to its own.
    pub start_us: u64,
    /// Microseconds that it took.
    pub duration_us: u64,
    /// What else is known of it.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub attributes: BTreeMap<String, serde_json::Value>,
    /// Calls of other requests that it was shared with, at most 16: the run of a batch.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub links: Vec<SpanLink>,
    /// Class of the error that it ended with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// A span of another trace.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SpanLink {
    /// The trace.
    pub trace_id: String,
    /// The span.
    pub span_id: String,
}

/// What kind of work a span is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum SpanKind {
    /// The whole request.
    Request,
    /// A stage: all that one call of it took.
    Stage,
    /// Waiting at the ingress for a place in a replica.
    Queue,
    /// A call to one replica.
    Try,
    /// Waiting in the replica for company or for its turn.
    Batch,
    /// The model's run.
    Run,
}
