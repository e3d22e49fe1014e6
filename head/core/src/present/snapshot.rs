//! The cluster at one instant. Taken by the reconciler in a moment, read by everybody else as long as they like: status,
//! metrics, series, plans are functions of it, and none of them makes the reconciler wait.

use std::sync::Arc;
use std::time::Duration;

use millstream_status::defrag::DefragPlan;
use millstream_status::status::{ClusterStatus, TrafficStatus};

use super::numbers::{Numbers, numbers};
use super::rollout::cluster_traffic;
use super::{defrag, status};
use crate::Timing;
use crate::desired::Desired;
use crate::model::State;

/// A point in the history of what is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Version {
    /// The term.
    pub epoch: u64,
    /// A number within it, which grows.
    pub number: u64,
}

/// See the module.
#[derive(Debug, Clone, PartialEq)]
pub struct Snapshot {
    pub(crate) state: State,
    pub(crate) desired: Arc<Desired>,
    pub(crate) timing: Timing,
    /// When it was taken.
    pub taken_at: Duration,
    /// The reconciler's epoch and version then: two of one version differ in ages alone.
    pub version: Version,
}

impl Snapshot {
    /// What runs, and what it may be moved to.
    #[must_use]
    pub fn state(&self) -> &State {
        &self.state
    }

    /// The whole status; `leader` is the name of the head. O(replicas).
    #[must_use]
    pub fn status(&self, leader: &str) -> ClusterStatus {
        status::status(leader, &self.desired, &self.state, &self.timing, self.taken_at)
    }

    /// The name of the node that has this name or this id.
    #[must_use]
    pub fn node_name(&self, node: &str) -> Option<&str> {
        let mut nodes = self.state.nodes.iter();
        let found = nodes.find(|(id, known)| id.as_str() == node || known.name == node);
        found.map(|(_, known)| known.name.as_str())
    }

    /// The last minute's requests of all pipelines together.
    #[must_use]
    pub fn traffic(&self) -> TrafficStatus {
        cluster_traffic(&self.state, self.taken_at)
    }

    /// The cluster in numbers. O(replicas).
    #[must_use]
    pub fn numbers(&self) -> Numbers {
        numbers(&self.desired, &self.state, &self.timing, self.taken_at)
    }

    /// The moves that would make whole GPUs free. Long on a large cluster.
    #[must_use]
    pub fn defrag_plan(&self) -> DefragPlan {
        defrag::plan(&self.desired, &self.state, &self.timing, self.taken_at)
    }
}
