//! A replica as a deployment's router knows it.

use std::sync::Arc;

use millstream_proto::ReplicaId;
use millstream_proto::call::ReplicaClient;
use smallvec::SmallVec;

use super::pool::{Key, StartFailure};
use super::router::Locality;
use super::settings::DeploymentSettings;
use crate::model::TrafficShare;

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

/// A deployment's part of a new route table.
pub(crate) struct NewRoute<'a> {
    /// Its settings, where the table says them.
    pub settings: Option<DeploymentSettings>,
    /// Its replicas.
    pub replicas: Vec<NewTarget>,
    /// Why there are none and waiting for one is in vain.
    pub start_failure: Option<StartFailure>,
    /// The parts of the requests that its revisions answer.
    pub shares: &'a [TrafficShare],
    /// How many ingresses there are.
    pub num_ingresses: u32,
}

impl NewRoute<'_> {
    /// Of a deployment that the table does not name.
    pub(crate) fn none(num_ingresses: u32) -> Self {
        Self { settings: None, replicas: Vec::new(), start_failure: None, shares: &[], num_ingresses }
    }
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
