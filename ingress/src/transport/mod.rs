//! How calls reach replicas: a channel send in this process, else one link for each worker.

pub(crate) mod remote;

use std::collections::{HashMap, HashSet};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use millstream_connect::Secret;
use millstream_link::socket_name;
use millstream_proto::NodeId;
use millstream_proto::call::ReplicaClient;
use parking_lot::Mutex;

use self::remote::{RemoteWorker, Site};
use crate::dispatch::Locality;

/// A worker in the same process.
#[derive(Clone)]
pub struct LocalWorker {
    /// Its node id, as it stands in route tables.
    pub node_id: NodeId,
    /// Its replicas.
    pub client: Arc<dyn ReplicaClient>,
}

/// The workers that this ingress talks to.
pub(crate) struct Transports {
    local: Option<LocalWorker>,
    /// The cluster's join token.
    secret: Secret,
    /// Where workers of this machine and user have Unix sockets for calls.
    socket_dir: Option<PathBuf>,
    remotes: Mutex<HashMap<Arc<str>, Arc<RemoteWorker>>>,
}

impl Transports {
    /// No remote worker yet.
    pub(crate) fn new(local: Option<LocalWorker>, secret: Secret, socket_dir: Option<PathBuf>) -> Self {
        Self { local, secret, socket_dir, remotes: Mutex::new(HashMap::new()) }
    }

    /// The client for the replicas of a node, and how near it is. The link to a remote worker is opened at once, so
    /// that the first call does not wait for it.
    pub(crate) fn client(&self, node_id: &NodeId, address: &Arc<str>) -> (Arc<dyn ReplicaClient>, Locality) {
        if let Some(local) = self.local.as_ref().filter(|local| local.node_id == *node_id) {
            return (local.client.clone(), Locality::SameProcess);
        }
        let mut remotes = self.remotes.lock();
        let open = || {
            let socket = self.socket_dir.as_ref().map(|folder| folder.join(socket_name(node_id)));
            let site = Site { address: address.clone(), socket, secret: self.secret.clone() };
            Arc::new(RemoteWorker::open(site))
        };
        let remote = remotes.entry(address.clone()).or_insert_with(open);
        (remote.clone(), locality_of(address))
    }

    /// Forgets workers whose address no route names; their links end when their last call has ended.
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
