//! How calls reach replicas: a channel send in this process, else frames on one long stream per worker.

pub(crate) mod remote;

use std::collections::{HashMap, HashSet};
use std::net::SocketAddr;
use std::sync::Arc;

use millstream_connect::Secret;
use millstream_proto::NodeId;
use millstream_proto::call::ReplicaClient;
use parking_lot::Mutex;

use self::remote::RemoteWorker;
use crate::LocalWorker;
use crate::dispatch::Locality;

/// The workers that this ingress talks to.
pub(crate) struct Transports {
    local: Option<LocalWorker>,
    /// The cluster's join token.
    secret: Secret,
    remotes: Mutex<HashMap<Arc<str>, Arc<RemoteWorker>>>,
}

impl Transports {
    /// No remote worker yet.
    pub(crate) fn new(local: Option<LocalWorker>, secret: Secret) -> Self {
        Self { local, secret, remotes: Mutex::new(HashMap::new()) }
    }

    /// The client for the replicas of a node, and how near it is. The stream to a remote worker is opened at once, so
    /// that the first call does not wait for it.
    pub(crate) fn client(&self, node_id: &NodeId, address: &Arc<str>) -> (Arc<dyn ReplicaClient>, Locality) {
        if let Some(local) = self.local.as_ref().filter(|local| local.node_id == *node_id) {
            return (local.client.clone(), Locality::SameProcess);
        }
        let mut remotes = self.remotes.lock();
        let open = || Arc::new(RemoteWorker::open(address.clone(), self.secret.clone()));
        let remote = remotes.entry(address.clone()).or_insert_with(open);
        (remote.clone(), locality_of(address))
    }

    /// Forgets workers whose address no route names; their streams close when their last call has ended.
    pub(crate) fn retain(&self, addresses: &HashSet<Arc<str>>) {
        let mut remotes = self.remotes.lock();
        let gone: Vec<_> = remotes.keys().filter(|address| !addresses.contains(*address)).cloned().collect();
        let dropped: Vec<_> = gone.iter().filter_map(|address| remotes.remove(address)).collect();
        drop(remotes);
        drop(dropped);
    }
}

fn locality_of(address: &str) -> Locality {
    match address.parse::<SocketAddr>() {
        Ok(address) if address.ip().is_loopback() => Locality::SameMachine,
        _ if address.starts_with("localhost:") => Locality::SameMachine,
        _ => Locality::Remote,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loopback_addresses_are_on_this_machine() {
        for near in ["127.0.0.1:7000", "[::1]:7000", "localhost:7000"] {
            assert_eq!(locality_of(near), Locality::SameMachine, "{near}");
        }
        for far in ["10.0.0.2:7000", "worker-1:7000", "[2001:db8::1]:7000"] {
            assert_eq!(locality_of(far), Locality::Remote, "{far}");
        }
    }
}
