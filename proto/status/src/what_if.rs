//! What the last hour would have come to with other bounds.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Which deployment, and what is other than it is; what is left out is as it is.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct WhatIfRequest {
    /// `pipeline/deployment`.
    pub deployment: String,
    /// Fewest replicas.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min_replicas: Option<u32>,
    /// Most replicas.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_replicas: Option<u32>,
    /// Ongoing requests per replica that the autoscaler aims at.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target_ongoing_requests: Option<f64>,
    /// How far back, in seconds; an hour by default, which is what is recorded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since_s: Option<u64>,
}

/// What was, and what would have been.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct WhatIf {
    /// `pipeline/deployment`.
    pub deployment: String,
    /// What was.
    pub actual: Replicas,
    /// What would have been.
    pub simulated: WouldBe,
}

/// What a number of replicas cost and was worth.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Replicas {
    /// Time that replicas were there, summed, in seconds.
    pub replica_seconds: f64,
    /// Most ready replicas at a time.
    pub max_ready: u32,
    /// The part of the calls that came while others waited, 0 to 1.
    pub waited_ratio: f64,
}

/// What would have been, second by second.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct WouldBe {
    /// In sum.
    #[serde(flatten)]
    pub replicas: Replicas,
    /// When the first value was, in milliseconds since the Unix epoch.
    pub start_unix_ms: u64,
    /// Milliseconds per value.
    pub step_ms: u64,
    /// Ready replicas.
    pub ready: Vec<f32>,
    /// Calls that waited.
    pub queued: Vec<f32>,
}
