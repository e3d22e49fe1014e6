//! What the head knows of the cluster. Learned from workers and ingresses, never stored.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Deref;
use std::sync::Arc;
use std::time::Duration;

use millstream_pipelines::types::ModelSignature;
use millstream_pipelines::{FullName, Name};
use millstream_status::status::{Entrance, ReplicaState};
use millstream_status::{IngressId, NodeId, ReplicaId};
use serde::Serialize;

use super::checked::Checked;
use super::command::Reason;
use super::table::RouteTable;
use super::table_version::TableVersion;
use super::traffic::Traffic;
pub use crate::autoscaler::Load;
use crate::autoscaler::Scaler;
use crate::desired::Pipeline;
use crate::rollout::Rollout;
use crate::scheduler::{MissingResource, Share};

/// One stream of a worker or an ingress; events of older streams are ignored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct SessionId(pub u64);

/// Everything observed, and the book-keeping of commands under way.
#[derive(Debug, Clone, PartialEq, Default, Serialize)]
pub struct State {
    /// The leader's term.
    pub epoch: u64,
    /// Number of the last replica that this head made.
    pub last_replica: u64,
    /// Nodes that are or were connected.
    pub nodes: BTreeMap<NodeId, NodeEntry>,
    /// Ingresses that are connected, or were a moment ago.
    pub ingresses: BTreeMap<IngressId, Arc<Ingress>>,
    /// What each pipeline's requests run on.
    pub serving: BTreeMap<Name, Serving>,
    /// Takeovers of one revision by another that are under way.
    pub rollouts: BTreeMap<Name, Rollout>,
    /// When revisions that requests were sent to left the routes: requests may still be under way on them.
    pub draining: BTreeMap<Name, BTreeMap<u64, Duration>>,
    /// What the store has been told about rollouts; in force at once, and told again until the store has it.
    pub conclusions: BTreeMap<Name, Conclusion>,
    /// Wanted revisions that do not serve yet, checked against the models that have been loaded for them.
    pub checked: BTreeMap<Name, BTreeMap<u64, Checked>>,
    /// How many replicas the autoscaler has decided on, by deployment; one that is not here has its minimum.
    pub targets: BTreeMap<FullName, u32>,
    /// Requests and wishes of deployments that have requests, or more replicas than their minimum.
    pub scalers: BTreeMap<FullName, Scaler<IngressId>>,
    /// Replicas of deployments that may scale, as the last pass saw them.
    pub counts: BTreeMap<FullName, ReplicaCounts>,
    /// How many requests and calls have ended, by pipeline, since this head began to count.
    pub ended: BTreeMap<Name, Ended>,
    /// The newest route table; that of version 0 before the first one.
    pub routes: RouteTable,
    /// Whether workers had time to report after the head's start, and whom it waits for.
    pub settling: Settling,
    /// Nodes that the store knows as members and that are not here: they are taken out of it, in time.
    pub absent_members: BTreeMap<NodeId, AbsentMember>,
    /// Whether the cluster is being shut down: nothing is decided any more.
    pub stopping: bool,
    /// Whether half of the nodes look dead at once.
    pub alarm: bool,
    /// Why wanted replicas have no place.
    pub pending: Pending,
    /// How many wanted replicas have no place, by what is missing.
    pub unplaced: Unplaced,
}

/// Why wanted replicas have no place, by deployment, for people.
pub type Pending = BTreeMap<FullName, Vec<String>>;

/// Replicas without a place, counted by deployment and by what is missing.
pub type Unplaced = BTreeMap<FullName, BTreeMap<MissingResource, u32>>;

/// Requests and calls that ended, with an answer or by a fault of ours.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct Ended {
    /// Requests.
    pub requests: u64,
    /// Those of the last minute.
    pub traffic: Arc<Traffic>,
    /// Calls, by deployment.
    pub calls: BTreeMap<Name, u64>,
}

/// What a pipeline's requests run on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Serving {
    /// The revision.
    pub revision: u64,
    /// Whether every deployment has had a ready replica of it.
    pub complete: bool,
}

/// How a rollout has ended, as decided here; the store is told.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Conclusion {
    /// The revision that was to take over.
    pub revision: u64,
    /// The one to go back to, and why; `None` when it has taken over.
    pub back: Option<(u64, String)>,
    /// When the store was told last.
    pub since: Duration,
}

impl Conclusion {
    /// Whether the store has not taken it yet, and can. It may have taken before that the revision has taken over; that
    /// this is no longer watched is told once the rollout is over.
    pub(crate) fn is_open(&self, pipeline: &Pipeline, under_way: Option<&Rollout>) -> bool {
        pipeline.wanted == self.revision
            && match &self.back {
                Some((to, _)) => pipeline.revisions.contains_key(to),
                None => pipeline.rollout.is_some() || pipeline.watched.is_some() && under_way.is_none(),
            }
    }
}

/// A head that has just come to lead waits for workers to say what runs; before, nothing is decided.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct Settling {
    /// Whether the wait is over.
    pub is_over: bool,
    /// When it is over at the latest.
    pub until: Duration,
    /// The nodes that the head before knew; empty when that is not known. Once all are back nothing is waited for.
    pub awaited: BTreeSet<NodeId>,
}

/// A member that is not here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct AbsentMember {
    /// When it is given up.
    pub forget_at: Duration,
    /// When the store was asked to forget it last.
    pub asked_at: Option<Duration>,
}

/// A node, and beside it what its heartbeats say: they come all the time, and must not copy a node that a snapshot holds.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct NodeEntry {
    /// When it last said that it lives.
    pub last_seen: Duration,
    /// Requests that its replicas are working on, as it last said.
    pub ongoing: Arc<BTreeMap<ReplicaId, u64>>,
    node: Arc<Node>,
}

impl NodeEntry {
    /// A node that was heard just now.
    #[must_use]
    pub fn new(node: Node, now: Duration) -> Self {
        Self { last_seen: now, ongoing: Arc::default(), node: Arc::new(node) }
    }

    /// The node, to change it.
    pub fn edit(&mut self) -> &mut Node {
        Arc::make_mut(&mut self.node)
    }
}

impl Deref for NodeEntry {
    type Target = Node;

    fn deref(&self) -> &Node {
        &self.node
    }
}

/// A node and what runs on it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Node {
    /// Its name.
    pub name: String,
    /// HOST:PORT for replica traffic.
    pub address: String,
    /// Process id of its worker.
    pub pid: u32,
    /// Version of its worker.
    pub version: String,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// What it has.
    pub resources: Resources,
    /// Its stream; `None` when it broke.
    pub session: Option<SessionId>,
    /// Whether it empties itself (its worker was asked to end): it gets nothing new until it joins again.
    pub draining: bool,
    /// Its replicas.
    pub replicas: BTreeMap<ReplicaId, Replica>,
}

/// What a node has.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct Resources {
    /// Thousandths of cores.
    pub cpu_milli: u64,
    /// Bytes of memory.
    pub memory_bytes: u64,
    /// Devices.
    pub gpus: Vec<Device>,
}

/// A device.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Device {
    /// Index on its node.
    pub index: u32,
    /// Model name.
    pub model: String,
    /// Bytes of its memory.
    pub memory_bytes: u64,
}

/// A replica on a node.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Replica {
    /// Its deployment.
    pub deployment: FullName,
    /// The revision it was started for.
    pub revision: u64,
    /// The revision whose in-place settings it was told last.
    pub settings_of: u64,
    /// Where it is in its life, as its worker says.
    pub state: ReplicaState,
    /// What it is doing while it starts.
    pub doing: String,
    /// Why it failed.
    pub error: String,
    /// Process it runs in.
    pub pid: u32,
    /// How its starts went.
    pub starts: Starts,
    /// Its parts of devices.
    pub gpus: Vec<Share>,
    /// What its model takes and returns, once that is loaded.
    pub signature: Option<Arc<ModelSignature>>,
    /// What it holds of its node beside devices' shares.
    pub booking: Booking,
    /// Whether and how far it is on its way out.
    pub leaving: Option<Leaving>,
}

/// How the starts of a replica went.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct Starts {
    /// When this head heard of the replica first.
    pub since: Duration,
    /// Why it ended the last time.
    pub last_error: String,
    /// How often it was started again, as its worker says.
    pub restarts: u32,
    /// Starts in a row that failed, as far as this head has seen.
    pub failed_in_a_row: u32,
    /// Whether its model cannot be loaded as long as its files are what they are.
    pub is_unloadable: bool,
}

/// What a replica holds of its node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct Booking {
    /// Thousandths of cores.
    pub cpu_milli: u64,
    /// Bytes of memory.
    pub memory_bytes: u64,
    /// Bytes of memory on each of its devices.
    pub gpu_memory_bytes: u64,
}

/// How far a replica is on its way out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub enum Leaving {
    /// Out of the routes; waits until ingresses confirm.
    Retiring {
        /// Since when.
        since: Duration,
        /// First route table without it; `None` until that is made.
        gone_from: Option<TableVersion>,
        /// Why.
        reason: Reason,
    },
    /// Told to stop.
    Stopping {
        /// Since when.
        since: Duration,
        /// Why.
        reason: Reason,
    },
}

/// An ingress.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Ingress {
    /// Name of its node.
    pub name: String,
    /// Where it takes requests.
    #[serde(flatten)]
    pub entrance: Entrance,
    /// Its process.
    pub pid: u32,
    /// Its stream; `None` when it broke.
    pub session: Option<SessionId>,
    /// When its stream began, or broke.
    pub since: Duration,
    /// Version of the route table in force there.
    pub acked: TableVersion,
    /// Its last load report.
    pub loads: BTreeMap<FullName, Load>,
}

/// Replicas of a deployment, as the last pass saw them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct ReplicaCounts {
    /// Those that requests run on.
    pub ready: u32,
    /// Those on their way.
    pub starting: u32,
}
