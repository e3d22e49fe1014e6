//! What a head knows of itself, for whoever looks for an error: nothing of requests, no secrets and no hashes of any.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A head that leads, from inside.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Inspection {
    /// Version of its program.
    pub version: String,
    /// Id of the cluster.
    pub cluster: String,
    /// Name of the head.
    pub leader: String,
    /// When it looked, in milliseconds since the Unix epoch by its own clock.
    pub at_ms: u64,
    /// When its process started: what it remembers is younger.
    pub started_at_ms: u64,
    /// Whether it still waits for the nodes that the head before knew; until then it places nothing.
    pub settling: bool,
    /// Whether half of the nodes look dead at once; until that is over it replaces none.
    pub alarm: bool,
    /// Its nodes with the versions of their workers, by name.
    pub workers: Vec<WorkerVersion>,
    /// Which replicas the requests of each pipeline go to, by name.
    pub routes: Vec<RouteView>,
}

/// A worker and its version.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct WorkerVersion {
    /// Name of its node.
    pub node: String,
    /// Version of its program.
    pub version: String,
}

/// A pipeline's part of the route table.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RouteView {
    /// The pipeline.
    pub pipeline: String,
    /// The revisions that requests run on, the one that serves first.
    pub variants: Vec<VariantView>,
    /// The ready replicas of each deployment, by name.
    pub deployments: Vec<DeploymentRouteView>,
}

/// A revision that requests run on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct VariantView {
    /// Its number.
    pub revision: u64,
    /// Thousandths of the requests that it answers.
    pub permille: u16,
    /// Thousandths of the requests that it gets copies of.
    pub shadow_permille: u16,
}

/// A deployment's ready replicas.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct DeploymentRouteView {
    /// Its name in the pipeline.
    pub deployment: String,
    /// Ids of its replicas.
    pub replicas: Vec<String>,
}
