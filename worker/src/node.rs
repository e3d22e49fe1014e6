//! What all replicas of a node share.

use std::path::PathBuf;
use std::sync::Arc;

use millstream_proto::NodeId;

use millstream_engine::ModelStore;

use crate::engines::Engines;
use crate::table::ReplicaTable;

/// What the replicas of this node share.
pub(crate) struct Node {
    /// The node.
    pub(crate) id: NodeId,
    /// Where calls find replicas.
    pub(crate) table: Arc<ReplicaTable>,
    /// What runs models.
    pub(crate) engines: Arc<Engines>,
    /// Models that replicas share.
    pub(crate) models: ModelStore,
    /// Folders that hold models by name.
    pub(crate) model_dirs: Arc<[PathBuf]>,
    /// Cores of the machine.
    pub(crate) num_cores: usize,
}
