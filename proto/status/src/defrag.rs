//! Moves of replicas that would make whole GPUs free, as people and scripts see them: one JSON document.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::ReplicaId;

/// What `cluster defrag --dry-run` tells.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
pub struct DefragPlan {
    /// The moves, to be made in this order.
    pub moves: Vec<ReplicaMove>,
    /// The devices that become free.
    pub freed: Vec<DeviceRef>,
}

/// A replica's way from one device to another.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ReplicaMove {
    /// The replica.
    pub replica: ReplicaId,
    /// Full name of its deployment.
    pub deployment: String,
    /// The part of a device that it holds, 0 to 1.
    pub share: f64,
    /// Where it is.
    pub from: DeviceRef,
    /// Where it would go.
    pub to: DeviceRef,
}

/// A device of a node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct DeviceRef {
    /// Name of the node.
    pub node: String,
    /// Index of the device there.
    pub index: u32,
}
