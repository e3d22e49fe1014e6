//! Replicas that take calls, by id: a snapshot that callers read without a lock and replica actors replace.

use std::collections::HashMap;

use arc_swap::ArcSwap;
use millstream_proto::ReplicaId;
use millstream_proto::call::{CallRequest, PendingCall, ReplicaClient};
use millstream_replica::Replica;
use millstream_values::{CallError, ErrorClass};

/// The ready replicas of this worker, and those that finish their calls. Callers of this process, and links of others, call it.
#[derive(Default)]
pub(crate) struct ReplicaTable {
    entries: ArcSwap<HashMap<ReplicaId, Replica>>,
}

impl ReplicaTable {
    /// Adds a replica; one of the same id is replaced.
    pub(crate) fn insert(&self, id: &ReplicaId, replica: &Replica) {
        self.entries.rcu(|entries| {
            let mut entries = HashMap::clone(entries);
            entries.insert(id.clone(), replica.clone());
            entries
        });
    }

    /// Takes out the replica, unless the id stands for a later start of it by now.
    pub(crate) fn remove(&self, id: &ReplicaId, replica: &Replica) {
        self.entries.rcu(|entries| {
            let mut entries = HashMap::clone(entries);
            if entries.get(id).is_some_and(|there| there.is_same(replica)) {
                entries.remove(id);
            }
            entries
        });
    }

    /// Ongoing calls of each replica.
    pub(crate) fn ongoing(&self) -> Vec<(ReplicaId, usize)> {
        self.entries.load().iter().map(|(id, replica)| (id.clone(), replica.ongoing())).collect()
    }
}

impl ReplicaClient for ReplicaTable {
    fn call(&self, replica: &ReplicaId, request: CallRequest) -> PendingCall {
        match self.entries.load().get(replica) {
            Some(replica) => replica.call(request),
            None => {
                let text = "the replica is not here";
                PendingCall::refused(CallError::not_started(ErrorClass::Unavailable, text))
            }
        }
    }
}
