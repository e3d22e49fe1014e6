//! What the control plane decides to do, as values.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use millstream_pipelines::{Autoscaling, DeploymentSpec, FullName, Name};
use millstream_status::{IngressId, NodeId, ReplicaId};
use serde::Serialize;

use crate::autoscaler::{Inputs, Rule};
use crate::rollout;
use crate::scheduler::Share;

/// One thing to do, with all that is needed to do it. Doing it twice is harmless.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub enum Command {
    /// The workers had time to report what runs: from now on act.
    Settle,
    /// Route a pipeline's requests to this revision.
    Serve {
        /// The pipeline.
        pipeline: Name,
        /// The revision.
        revision: u64,
        /// Whether every deployment has had a ready replica.
        complete: bool,
    },
    /// A new revision takes over, or goes back, by one step.
    Rollout(rollout::Change),
    /// A pipeline is gone: what was known of its rollouts and targets is forgotten.
    ForgetPipeline {
        /// The pipeline.
        pipeline: Name,
    },
    /// Start a replica.
    Start(Order),
    /// Tell a running replica of settings that apply in place.
    Update(Order),
    /// Take a replica out of the routes; it stops once no ingress sends to it any more.
    Retire {
        /// Its node.
        node: NodeId,
        /// The replica.
        replica: ReplicaId,
        /// Why.
        reason: Reason,
    },
    /// Let a replica finish its calls, then stop it.
    Stop {
        /// Its node.
        node: NodeId,
        /// The replica.
        replica: ReplicaId,
        /// How long it may finish calls.
        drain: Duration,
        /// Why.
        reason: Reason,
    },
    /// Count a dead node's replicas as gone; they are replaced elsewhere.
    ReplaceNode {
        /// The node.
        node: NodeId,
    },
    /// A node that is gone for good is no longer shown, nor waited for by a head that restarts. Given again until the store
    /// has it.
    ForgetNode {
        /// The node.
        node: NodeId,
    },
    /// An ingress that is gone no longer has to confirm route tables.
    ForgetIngress {
        /// The ingress.
        ingress: IngressId,
    },
    /// Half of the nodes look dead at once (or no longer do): replicas are not replaced while that is so.
    Alarm {
        /// Whether it is so.
        raised: bool,
    },
    /// A deployment is to have another number of replicas.
    Scale(Box<Scale>),
}

impl Command {
    /// Its kind, as it stands in labels.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Settle => "settle",
            Self::Serve { .. } => "serve",
            Self::Rollout(_) => "rollout",
            Self::Scale(_) => "scale",
            Self::ForgetPipeline { .. } => "forget_pipeline",
            Self::Start(_) => "start",
            Self::Update(_) => "update",
            Self::Retire { .. } => "retire",
            Self::Stop { .. } => "stop",
            Self::ReplaceNode { .. } => "replace_node",
            Self::ForgetNode { .. } => "forget_node",
            Self::ForgetIngress { .. } => "forget_ingress",
            Self::Alarm { .. } => "alarm",
        }
    }
}

/// A replica to start, or to tell of new settings.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Order {
    /// Its node.
    pub node: NodeId,
    /// Its id.
    pub replica: ReplicaId,
    /// Its deployment.
    pub deployment: FullName,
    /// The revision it is started for.
    pub revision: u64,
    /// Its settings.
    pub spec: Arc<DeploymentSpec>,
    /// Folder that relative `file:` models are found in.
    pub source_dir: String,
    /// Its parts of devices.
    pub gpus: Vec<Share>,
}

/// Why a replica leaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub enum Reason {
    /// There are more than wanted.
    Surplus,
    /// A newer revision serves.
    Replaced,
    /// Its revision was rolled back, or aborted.
    TakenBack,
    /// Nobody asks for its deployment any more.
    Unwanted,
    /// Its node is drained, and it is not needed there any more.
    Drained,
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Surplus => "more replicas than wanted",
            Self::Replaced => "a newer revision serves",
            Self::TakenBack => "its revision was taken back",
            Self::Unwanted => "nobody asks for its deployment",
            Self::Drained => "its node is drained",
        })
    }
}

/// A change of how many replicas a deployment is to have, with all that led to it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Scale {
    /// The deployment.
    pub deployment: FullName,
    /// Replicas it was to have.
    pub from: u32,
    /// Replicas it is to have.
    pub to: u32,
    /// Why.
    pub rule: Rule,
    /// What the decision was made of.
    pub inputs: Inputs,
    /// The settings that it was made by.
    pub settings: Autoscaling,
}
