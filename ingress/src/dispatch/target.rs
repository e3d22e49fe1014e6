//! A replica as a deployment's router knows it.

use std::sync::Arc;

use millstream_proto::ReplicaId;
use millstream_proto::call::ReplicaClient;
use smallvec::SmallVec;

use super::pool::Key;
use super::router::Locality;

/// A replica as the routes name it, and how to reach it.
pub(crate) struct Target {
    /// Its key in the pool.
    pub key: Key,
    /// Its id.
    pub id: ReplicaId,
    /// HOST:PORT of its node's replica service.
    pub address: Arc<str>,
    /// How near it is.
    pub locality: Locality,
    /// The revision that it was started for.
    pub revision: u64,
    /// Sends calls to it.
    pub client: Arc<dyn ReplicaClient>,
}

/// A replica of a new route table.
pub(crate) struct NewTarget {
    /// Its id.
    pub id: ReplicaId,
    /// HOST:PORT of its node's replica service.
    pub address: Arc<str>,
    /// How near it is.
    pub locality: Locality,
    /// The revision that it was started for.
    pub revision: u64,
    /// The routed revisions that it serves; empty for one that helps out.
    pub serves: SmallVec<[u64; 2]>,
    /// The revisions whose requests it can answer; empty where all replicas can answer all.
    pub answers: SmallVec<[u64; 2]>,
    /// Sends calls to it.
    pub client: Arc<dyn ReplicaClient>,
}
