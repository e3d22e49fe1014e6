//! The cluster as people and scripts see it: the JSON of `cluster status --json` and of the head's REST API.
//! More keys may come; these keep their names and meaning.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{NodeId, ReplicaId};

/// Everything that the head knows, as desired and as observed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ClusterStatus {
    /// Name of the head that commands.
    pub leader: String,
    /// Its term.
    pub epoch: u64,
    /// Nodes that are or were connected, by name.
    pub nodes: Vec<NodeStatus>,
    /// Ingresses that are connected, by name.
    pub ingresses: Vec<IngressStatus>,
    /// Pipelines that people asked for, by name.
    pub pipelines: Vec<PipelineStatus>,
}

/// A machine that runs a worker.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
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
}

/// What a node may be given.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum NodeState {
    /// Connected and free to take replicas.
    Ready,
    /// Connected; keeps what it has, gets nothing new.
    Cordoned,
    /// Being emptied.
    Draining,
    /// Silent for longer than `node_timeout`.
    Lost,
}

/// One device of a node.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct GpuStatus {
    /// Index on its node.
    pub index: u32,
    /// Model name as the driver gives it.
    pub model: String,
    /// Device memory.
    pub memory_bytes: u64,
    /// Part of the device that is not booked, 0 to 1.
    pub free_share: f64,
    /// Who holds which part.
    pub holders: Vec<GpuHolder>,
}

/// A replica's part of a device.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct GpuHolder {
    /// Who.
    pub replica: ReplicaId,
    /// Part of the device, 0 to 1.
    pub share: f64,
}

/// A process that takes HTTP requests.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct IngressStatus {
    /// Name of its node.
    pub name: String,
    /// HOST:PORT it listens on.
    pub address: String,
    /// Version of the route table that it has confirmed.
    pub routes_version: u64,
}

/// A pipeline.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PipelineStatus {
    /// Its name.
    pub name: String,
    /// Its HTTP route, if it has one.
    pub route: Option<String>,
    /// The newest revision that people asked for.
    pub revision: u64,
    /// The revision that requests run on, if any can.
    pub serving_revision: Option<u64>,
    /// Whether it serves.
    pub state: PipelineState,
    /// Its deployments, by name.
    pub deployments: Vec<DeploymentStatus>,
}

/// Whether a pipeline serves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
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

/// A deployment of a pipeline.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DeploymentStatus {
    /// Its name in the pipeline.
    pub name: String,
    /// `pipeline/deployment`.
    pub full_name: String,
    /// Replicas wanted.
    pub target_replicas: u32,
    /// Replicas ready, of the newest revision.
    pub ready_replicas: u32,
    /// Requests at its replicas.
    pub ongoing: u64,
    /// Requests waiting at ingresses.
    pub queued: u64,
    /// Its replicas of every revision.
    pub replicas: Vec<ReplicaStatus>,
    /// Why wanted replicas have no place, a reason per node; empty when all have one.
    pub pending: Vec<String>,
    /// Fewest replicas.
    #[serde(default)]
    pub min_replicas: u32,
    /// Most replicas.
    #[serde(default)]
    pub max_replicas: u32,
    /// Replicas that the requests ask for at the moment; becomes the target when it stays so.
    #[serde(default)]
    pub desired_replicas: u32,
}

/// One running copy of a deployment.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ReplicaStatus {
    /// Its id.
    pub id: ReplicaId,
    /// Name of its node.
    pub node: String,
    /// Where it is in its life.
    pub state: ReplicaState,
    /// Process it runs in.
    pub pid: u32,
    /// Revision it serves.
    pub revision: u64,
    /// Requests that it is working on.
    pub ongoing: u64,
    /// What it is doing while it starts, for people.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub doing: String,
    /// Why it failed, for operators.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub error: String,
    /// How often it was started again.
    pub restarts: u32,
}

/// Where a replica is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ReplicaState {
    /// Loading or warming up.
    Starting,
    /// Takes calls.
    Ready,
    /// Finishes what it has, takes nothing new.
    Draining,
    /// Gone, as asked.
    Stopped,
    /// Gone or unable to start; see the error.
    Failed,
}
