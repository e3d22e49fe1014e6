//! The node agent: registers what the machine has, runs replicas as supervised actors and hands calls to them.
//!
//! It decides nothing about placement or routes: the head commands, ingresses call. It keeps its replicas running
//! when the head is away.
#![forbid(unsafe_code)]

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use millstream_proto::NodeId;
use millstream_proto::call::ReplicaClient;

/// What a worker is started with.
pub struct Config {
    /// Name of the node, for people; unique in the cluster.
    pub node_name: String,
    /// HOST:PORT of the head's control address.
    pub head: String,
    /// Address for replica traffic; port 0 picks a free one.
    pub listen: SocketAddr,
    /// Folder that is this worker's own: node id, last orders, models.
    pub data_dir: PathBuf,
    /// Labels that demands may ask for.
    pub labels: BTreeMap<String, String>,
    /// Declared devices; `None` finds real ones through NVML.
    pub gpus: Option<Vec<DeclaredGpu>>,
    /// Folders that hold models by name, searched in order.
    pub model_dirs: Vec<PathBuf>,
    /// Where ONNX Runtime's library is; `None` searches the usual places.
    pub onnxruntime: Option<PathBuf>,
}

/// A device that the node says it has (`cluster up --gpus 4 …`), present or not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeclaredGpu {
    /// Model name that demands may ask for.
    pub model: String,
    /// Device memory.
    pub memory_bytes: u64,
}

/// Why a worker did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The address could not be bound.
    #[error("cannot listen on `{address}` for replica traffic: {source}; choose another address with --worker")]
    Bind {
        /// The address.
        address: SocketAddr,
        /// What the system said.
        source: std::io::Error,
    },
    /// The data directory cannot be used.
    #[error("cannot use `{}` as the worker's data directory: {source}", .path.display())]
    DataDir {
        /// The folder.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
}

/// A running worker.
pub struct Worker {
    address: SocketAddr,
    node_id: NodeId,
}

impl Worker {
    /// Binds the listener, dials the head in the background and waits for commands. Returns once it is bound.
    ///
    /// # Errors
    /// [`StartError`] when the address or the data directory cannot be used.
    pub async fn start(config: Config) -> Result<Self, StartError> {
        let _ = config;
        unimplemented!()
    }

    /// The address for replica traffic.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The node's id, made at the first start and kept in the data directory.
    #[must_use]
    pub fn node_id(&self) -> &NodeId {
        &self.node_id
    }

    /// Calls this worker's replicas without a network.
    #[must_use]
    pub fn client(&self) -> Arc<dyn ReplicaClient> {
        unimplemented!()
    }

    /// Waits until the head asks this worker to stop (`cluster down`); gives the time to drain in.
    pub async fn asked_to_stop(&self) -> Duration {
        unimplemented!()
    }

    /// Lets every replica finish its calls for at most `timeout`, then stops them and leaves the head.
    pub async fn drain(self, timeout: Duration) {
        let _ = timeout;
        unimplemented!()
    }
}
