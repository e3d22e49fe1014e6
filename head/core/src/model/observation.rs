//! What workers and ingresses say, as values.

use std::collections::BTreeMap;
use std::sync::Arc;

use millstream_pipelines::types::ModelSignature;
use millstream_pipelines::{FullName, Name};
use millstream_status::status::{Entrance, ReplicaState};
use millstream_status::{IngressId, NodeId, ReplicaId};
use serde::Serialize;

use super::state::{Load, Replica, Resources, SessionId};
use super::table_version::TableVersion;
use crate::rollout::Tally;
use crate::scheduler::Share;

/// What a worker says when its stream begins.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Registration {
    /// The node's id.
    pub id: NodeId,
    /// Its name.
    pub name: String,
    /// HOST:PORT for replica traffic.
    pub address: String,
    /// Its process.
    pub pid: u32,
    /// Its version.
    pub version: String,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// What it has.
    pub resources: Resources,
    /// What runs on it.
    pub replicas: Vec<Report>,
}

/// A replica as its worker sees it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Report {
    /// The replica.
    pub id: ReplicaId,
    /// Its deployment.
    pub deployment: FullName,
    /// The revision it was started for.
    pub revision: u64,
    /// Where it is in its life.
    pub state: ReplicaState,
    /// What it is doing while it starts.
    pub doing: String,
    /// Why it failed.
    pub error: String,
    /// Process it runs in.
    pub pid: u32,
    /// How often it was started again.
    pub restarts: u32,
    /// Whether its model cannot be loaded as long as its files are what they are.
    pub is_unloadable: bool,
    /// Its parts of devices.
    pub gpus: Vec<Share>,
    /// What its model takes and returns, once that is loaded.
    pub signature: Option<Arc<ModelSignature>>,
}

impl Report {
    /// What a worker says of a replica that is as it is known.
    #[must_use]
    pub fn of(id: &ReplicaId, replica: &Replica) -> Self {
        Self {
            id: id.clone(),
            deployment: replica.deployment.clone(),
            revision: replica.revision,
            state: replica.state,
            doing: replica.doing.clone(),
            error: replica.error.clone(),
            pid: replica.pid,
            restarts: replica.starts.restarts,
            is_unloadable: replica.starts.is_unloadable,
            gpus: replica.gpus.clone(),
            signature: replica.signature.clone(),
        }
    }
}

/// Something that a worker or an ingress said, or that befell its stream.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub enum Observation {
    /// A worker's stream began, and the head let it in.
    NodeJoined(SessionId, Registration),
    /// A node lives; ongoing requests by replica.
    Heartbeat(NodeId, SessionId, BTreeMap<ReplicaId, u64>),
    /// A replica's state or progress changed.
    ReplicaChanged(NodeId, SessionId, Report),
    /// A worker's stream ended.
    NodeLeft(NodeId, SessionId),
    /// An ingress's stream began.
    IngressJoined {
        /// The ingress.
        id: IngressId,
        /// Its stream.
        session: SessionId,
        /// Name of its node.
        name: String,
        /// Where it takes requests.
        entrance: Entrance,
        /// Its process.
        pid: u32,
    },
    /// A route table is in force at an ingress.
    Acked(IngressId, SessionId, TableVersion),
    /// Requests at an ingress.
    Loaded(IngressId, SessionId, BTreeMap<FullName, Load>),
    /// How requests and calls ended at an ingress since it last said so.
    Counted(IngressId, SessionId, Counted),
    /// An ingress's stream ended.
    IngressLeft(IngressId, SessionId),
}

/// How requests and calls ended, by pipeline and revision.
pub type Counted = BTreeMap<(Name, u64), Tally>;
