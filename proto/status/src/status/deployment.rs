//! Deployments and their replicas in the status.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::ReplicaId;

/// A deployment of a pipeline.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct DeploymentStatus {
    /// Its name in the pipeline.
    pub name: String,
    /// `pipeline/deployment`.
    pub full_name: String,
    /// Replicas wanted, as decided.
    pub target_replicas: u32,
    /// What the target comes from.
    #[serde(flatten)]
    pub autoscaling: AutoscalingStatus,
    /// Replicas ready, of the newest revision.
    pub ready_replicas: u32,
    /// Requests at its replicas.
    pub ongoing: u64,
    /// Requests waiting at ingresses.
    pub queued: u64,
    /// Its replicas of every revision. Empty in a summary.
    pub replicas: Vec<ReplicaStatus>,
    /// How many they are, by state.
    #[serde(default)]
    pub replica_counts: ReplicaCounts,
    /// Why wanted replicas have no place, a reason per node; empty when all have one.
    pub pending: Vec<String>,
    /// Between which numbers it scales.
    #[serde(flatten)]
    pub bounds: BoundsStatus,
    /// The model, as the file names it; absent for engines without one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
}

/// What the number of replicas comes from.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
pub struct AutoscalingStatus {
    /// Replicas that the requests of this moment ask for, within the bounds; the target follows with its delays.
    #[serde(default)]
    pub desired_replicas: u32,
    /// Ongoing requests per replica that the autoscaler aims at.
    #[serde(default)]
    pub target_ongoing_requests: f64,
}

/// Replicas by state.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub struct ReplicaCounts {
    /// Loading or warming up.
    pub starting: u32,
    /// Taking calls.
    pub ready: u32,
    /// Finishing what they have.
    pub draining: u32,
    /// Gone, as asked.
    pub stopped: u32,
    /// Gone or unable to start.
    pub failed: u32,
}

impl ReplicaCounts {
    /// Of these replicas.
    #[must_use]
    pub fn of(replicas: &[ReplicaStatus]) -> Self {
        let mut counts = Self::default();
        for replica in replicas {
            *match replica.state {
                ReplicaState::Starting => &mut counts.starting,
                ReplicaState::Ready => &mut counts.ready,
                ReplicaState::Draining => &mut counts.draining,
                ReplicaState::Stopped => &mut counts.stopped,
                ReplicaState::Failed => &mut counts.failed,
            } += 1;
        }
        counts
    }
}

/// Bounds on a number of replicas.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub struct BoundsStatus {
    /// Fewest replicas.
    #[serde(default)]
    pub min_replicas: u32,
    /// Most replicas.
    #[serde(default)]
    pub max_replicas: u32,
    /// Whether people have set these bounds in place of the file's.
    #[serde(default)]
    pub bounds_by_hand: bool,
}

/// One running copy of a deployment.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
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
    /// Why it ended the last time, whatever it does now.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub last_error: String,
    /// Milliseconds since it was first heard of.
    #[serde(default)]
    pub age_ms: u64,
}

/// Where a replica is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
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
