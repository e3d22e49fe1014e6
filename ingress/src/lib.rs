//! The HTTP edge: takes requests, validates them, executes plans by calling replicas, answers.
//!
//! It learns routes from the head and serves on from the last ones when the head is away. It decides admission and
//! replica choice; how many replicas there are is the head's business, how a model runs the worker's.
#![forbid(unsafe_code)]

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use millstream_proto::call::ReplicaClient;
use millstream_proto::{IngressId, NodeId};

/// What an ingress is started with.
pub struct Config {
    /// Name of the node, for people.
    pub name: String,
    /// Id of this process; new at each start.
    pub id: IngressId,
    /// Address of the HTTP listener; port 0 picks a free one.
    pub listen: SocketAddr,
    /// HOST:PORT of the head's control address.
    pub head: String,
    /// The worker of this process, whose replicas are called without a network.
    pub local: Option<LocalWorker>,
}

/// A worker in the same process.
#[derive(Clone)]
pub struct LocalWorker {
    /// Its node id, as it stands in route tables.
    pub node_id: NodeId,
    /// Its replicas.
    pub client: Arc<dyn ReplicaClient>,
}

/// Why an ingress did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The HTTP address could not be bound.
    #[error("cannot listen on `{address}` for HTTP: {source}; choose another address with --ingress")]
    Bind {
        /// The address.
        address: SocketAddr,
        /// What the system said.
        source: std::io::Error,
    },
}

/// A running ingress.
pub struct Ingress {
    address: SocketAddr,
}

impl Ingress {
    /// Binds the listener, dials the head in the background and serves. Returns once the listener is bound.
    ///
    /// # Errors
    /// [`StartError::Bind`] when the address is taken or not ours.
    pub async fn start(config: Config) -> Result<Self, StartError> {
        let _ = config;
        unimplemented!()
    }

    /// The address it listens on.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Waits until the head asks this ingress to leave (`cluster down`); gives the time to drain in.
    pub async fn asked_to_leave(&self) -> Duration {
        unimplemented!()
    }

    /// Stops accepting, finishes what is under way for at most `timeout`, then stops.
    pub async fn drain(self, timeout: Duration) {
        let _ = timeout;
        unimplemented!()
    }
}
