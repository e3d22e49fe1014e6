//! Closing the gap between what people asked for and what runs, as plain functions of values.
//!
//! [`Reconciler`] is the machine: it takes [`Event`]s, and gives [`Effect`]s and the time of its next look. Inside, `observe`
//! folds what workers and ingresses say into the [`State`]; `step` compares that with what is desired and gives
//! [`Command`]s; `book` notes them as under way; [`routes`] makes the table that ingresses get.

mod book;
pub(crate) mod deployment;
mod linger;
pub mod observe;
mod reconciler;
pub mod routes;
pub mod scale;
mod scope;
mod state;
mod step;
mod table_version;
mod takeover;
mod timer;
pub(crate) mod view;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use millstream_pipelines::{DeploymentSpec, FullName, Name};
use millstream_status::{IngressId, NodeId, ReplicaId};
use serde::Serialize;

use crate::rollout;
use crate::scheduler::Share;
pub use reconciler::{Effect, Event, NotRemovable, Reconciler, Start};
pub use scale::{Census, Scale};
pub use state::{
    AbsentMember, Booking, Conclusion, Device, Ended, Ingress, Leaving, Load, Node, Pending, Replica,
    Resources, Serving, SessionId, State, Unplaced,
};
pub use table_version::TableVersion;

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
    GiveUp {
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
            Self::GiveUp { .. } => "give_up",
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
    /// Nobody asks for its deployment any more.
    Unwanted,
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Surplus => "more replicas than wanted",
            Self::Replaced => "a newer revision serves",
            Self::Unwanted => "nobody asks for its deployment",
        })
    }
}

#[cfg(test)]
mod tests;
