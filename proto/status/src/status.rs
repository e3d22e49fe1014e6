//! The cluster as people and scripts see it: the JSON of `cluster status --json` and of the head's REST API.
//! More keys may come; these keep their names and meaning.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{NodeId, ReplicaId};

mod deployment;
mod ingress;

pub use deployment::{
    AutoscalingStatus, BoundsStatus, DeploymentStatus, ReplicaCounts, ReplicaState, ReplicaStatus,
};
pub use ingress::{AcceptedRisk, Entrance, IngressStatus, Scheme};

/// Everything that the head knows, as desired and as observed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ClusterStatus {
    /// Name of the head that commands.
    pub leader: String,
    /// Its term.
    pub epoch: u64,
    /// Number of the newest route table; an ingress answers by it once it has confirmed it.
    #[serde(default)]
    pub routes_version: u64,
    /// Nodes that are or were connected, by name.
    pub nodes: Vec<NodeStatus>,
    /// Ingresses that are connected, by name.
    pub ingresses: Vec<IngressStatus>,
    /// Pipelines that people asked for, by name.
    pub pipelines: Vec<PipelineStatus>,
}

/// A machine that runs a worker.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct NodeStatus {
    /// Name given by `--node-name`.
    pub name: String,
    /// Id kept in its data directory.
    pub id: NodeId,
    /// Whether it can be given work.
    pub state: NodeState,
    /// HOST:PORT for replica traffic.
    pub address: String,
    /// Process id of its worker.
    pub pid: u32,
    /// Thousandths of cores it has.
    pub cpu_milli: u64,
    /// Thousandths of cores that are not booked.
    pub free_cpu_milli: u64,
    /// Memory it has.
    pub memory_bytes: u64,
    /// Memory that is not booked.
    pub free_memory_bytes: u64,
    /// Labels given by `--labels`.
    pub labels: BTreeMap<String, String>,
    /// Its devices.
    pub gpus: Vec<GpuStatus>,
    /// Milliseconds since it last said that it lives.
    #[serde(default)]
    pub last_seen_ms_ago: u64,
}

/// What a node may be given.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum NodeState {
    /// Connected and free to take replicas.
    Ready,
    /// Connected; keeps what it has, gets nothing new. Also one that was drained, once nothing runs there.
    Cordoned,
    /// Being emptied: people drain it, or its worker stops.
    Draining,
    /// It ended as it was asked to.
    Left,
    /// It is not heard: its stream broke, or it is silent.
    Unreachable,
}

/// One device of a node.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct GpuStatus {
    /// Index on its node.
    pub index: u32,
    /// Model name as the driver gives it.
    pub model: String,
    /// Device memory.
    pub memory_bytes: u64,
    /// Part of the device that is not booked, 0 to 1.
    pub free_share: f64,
    /// Part of the device that is booked, 0 to 1.
    #[serde(default)]
    pub booked_share: f64,
    /// Who holds which part.
    pub holders: Vec<GpuHolder>,
}

/// A replica's part of a device.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct GpuHolder {
    /// Who; the first one, where several of a deployment are shown together.
    pub replica: ReplicaId,
    /// `pipeline/deployment`; empty for a deployment that is gone.
    #[serde(default)]
    pub deployment: String,
    /// Part of the device, 0 to 1.
    pub share: f64,
    /// How many replicas hold it together.
    #[serde(default)]
    pub replicas: u32,
}

/// A pipeline.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct PipelineStatus {
    /// Its name.
    pub name: String,
    /// Its HTTP route, if it has one.
    pub route: Option<String>,
    /// The revision that is to serve: the newest one that people asked for, unless it was rolled back.
    pub revision: u64,
    /// The revision that was deployed last.
    #[serde(default)]
    pub newest_revision: u64,
    /// The revision that requests run on, if any can.
    pub serving_revision: Option<u64>,
    /// Whether it serves.
    pub state: PipelineState,
    /// Why the revision that is to serve does not fit the models that have been loaded for it: what is wrong with its file, a
    /// line each.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mismatch: Option<String>,
    /// Its requests of the last minute.
    #[serde(default)]
    pub traffic: TrafficStatus,
    /// When its revision was deployed, in milliseconds since the Unix epoch.
    #[serde(default)]
    pub deployed_at_ms: u64,
    /// How a revision takes over, while one does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rollout: Option<RolloutStatus>,
    /// Revisions that do not serve although they were deployed, and why; the newest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub verdicts: Vec<VerdictStatus>,
    /// Its deployments, by name.
    pub deployments: Vec<DeploymentStatus>,
}

/// The requests of the last minute, or of as long as they have been counted.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
pub struct TrafficStatus {
    /// Requests a second.
    pub requests_per_second: f64,
    /// The part of them that failed by a fault of the server, 0 to 1.
    pub failed_ratio: f64,
    /// What half of those with an answer took at most, in milliseconds; at most a quarter too high. Absent without any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub p50_ms: Option<f64>,
    /// The same of 95%.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub p95_ms: Option<f64>,
    /// The same of 99%.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub p99_ms: Option<f64>,
}

/// How a revision takes over from another.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct RolloutStatus {
    /// The revision that takes over.
    pub revision: u64,
    /// The one that serves until then, and again should the new one fail.
    pub baseline: u64,
    /// How far it is.
    pub phase: RolloutPhase,
    /// How traffic comes to it.
    pub mode: RolloutMode,
    /// Part of the requests that it answers, 0 to 1.
    pub traffic_ratio: f64,
    /// Time in this phase, or with this part of the requests.
    pub phase_ms: u64,
    /// Its next step, where it takes over by steps.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_step: Option<NextStepStatus>,
    /// What its latest requests say of it so far, in words.
    #[serde(default)]
    pub judgement: String,
    /// What came of requests on the new revision since its trial began.
    pub new: OutcomeCounts,
    /// The same on the baseline.
    pub old: OutcomeCounts,
    /// The copies that it gets.
    #[serde(flatten)]
    pub shadow: ShadowStatus,
}

/// The next step of a rollout.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct NextStepStatus {
    /// Part of the requests that it gives, 0 to 1.
    pub traffic_ratio: f64,
    /// Milliseconds until then.
    pub in_ms: u64,
}

/// Copies of requests.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
pub struct ShadowStatus {
    /// Part of the requests that are copied, 0 to 1.
    pub shadow_ratio: f64,
    /// Copies whose answers were compared.
    pub compared: u64,
    /// Copies whose answers differed.
    pub different: u64,
    /// Copies that failed although the request did not.
    pub shadow_failed: u64,
}

/// Requests and calls, by how they ended.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
pub struct OutcomeCounts {
    /// Requests with an answer.
    pub requests_answered: u64,
    /// Requests that failed by a fault of the server.
    pub requests_failed: u64,
    /// Calls to replicas with an answer.
    pub calls_answered: u64,
    /// Calls to replicas that failed; a retry may have hidden them from the client.
    pub calls_failed: u64,
    /// The requests of the last minute.
    #[serde(default)]
    pub traffic: TrafficStatus,
}

/// How far a rollout is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum RolloutPhase {
    /// The first new replicas start.
    Starting,
    /// A part of the requests runs on them; the old replicas are whole.
    Trial,
    /// All requests run on the new revision; old replicas leave as new ones get ready.
    Moving,
    /// All old replicas are gone; errors still lead back.
    Watching,
}

/// How traffic comes to a new revision.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum RolloutMode {
    /// By itself, after a trial.
    Rolling,
    /// A fixed part, until it is promoted or aborted.
    Canary,
    /// Copies only, until it is promoted or aborted.
    Shadow,
    /// A part that grows by the steps of its file.
    Steps,
}

/// Why a revision does not serve.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct VerdictStatus {
    /// The revision.
    pub revision: u64,
    /// `rolled_back` by the head, or `aborted` by people.
    pub outcome: String,
    /// Why.
    pub reason: String,
    /// Milliseconds since the Unix epoch.
    pub at_ms: u64,
}

/// Whether a pipeline serves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum PipelineState {
    /// Not every deployment has a ready replica yet.
    Starting,
    /// Every deployment of the newest revision has all its replicas ready.
    Ready,
    /// It serves, but replicas are missing or an older revision serves.
    Degraded,
    /// A deployment cannot start.
    Failed,
}
