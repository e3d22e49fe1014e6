//! What a deploy would do: the JSON of `cluster deploy --dry-run --json`. More keys may come; these keep their names and
//! meaning.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What deploying a text would do.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct DeployPlan {
    /// The pipeline.
    pub pipeline: String,
    /// The revision that it would become, or is.
    pub revision: u64,
    /// Whether anything would change.
    pub changed: bool,
    /// What its callers lose by it (a route, fields of the request or the response), a sentence each.
    #[serde(default)]
    pub breaking: Vec<String>,
    /// What of its requests would be captured, in words; absent when nothing is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub captures: Option<String>,
    /// Its deployments, by name.
    pub deployments: Vec<DeploymentPlan>,
    /// Whether there is more than was looked at: the cluster is too large for the whole plan.
    #[serde(default)]
    pub is_cut_off: bool,
}

/// What becomes of one deployment.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct DeploymentPlan {
    /// `pipeline/deployment`.
    pub full_name: String,
    /// What becomes of it.
    pub change: DeploymentChange,
    /// Replicas that start, and where.
    pub starts: Vec<PlannedReplica>,
    /// Replicas that leave.
    pub stops: Vec<PlannedReplica>,
    /// Replicas that go on with new settings.
    pub updates: Vec<PlannedReplica>,
    /// Why replicas fit nowhere, by node; empty when all have a place.
    pub pending: Vec<String>,
}

/// What becomes of a deployment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum DeploymentChange {
    /// It is not there yet.
    New,
    /// It needs new replicas.
    Replaced,
    /// Its replicas go on, with other settings.
    InPlace,
    /// Nothing.
    Unchanged,
    /// It goes.
    Removed,
}

/// A replica and its place.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct PlannedReplica {
    /// Its id; one that starts may get another.
    pub replica: String,
    /// Name of its node.
    pub node: String,
    /// Shares of devices: index and thousandths.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub gpus: Vec<(u32, u32)>,
}
