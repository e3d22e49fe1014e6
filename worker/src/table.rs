//! Replicas that take calls, by id: a snapshot that callers read without a lock and replica actors replace.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::mpsc::Sender;

use arc_swap::ArcSwap;
use millstream_engine::{Call, ConcurrentEngine};
use millstream_pipelines::Batch;
use millstream_proto::ReplicaId;
use tokio_util::sync::CancellationToken;

use crate::slots::Slots;

/// The ready replicas of this worker, and those that finish their calls.
#[derive(Default)]
pub(crate) struct ReplicaTable {
    entries: ArcSwap<HashMap<ReplicaId, Arc<Handle>>>,
}

impl ReplicaTable {
    /// Runs `visit` on the replica's handle, if it is there.
    pub(crate) fn with<T>(&self, id: &ReplicaId, visit: impl FnOnce(&Arc<Handle>) -> T) -> Option<T> {
        self.entries.load().get(id).map(visit)
    }

    /// Adds a replica; one of the same id is replaced.
    pub(crate) fn insert(&self, id: &ReplicaId, handle: &Arc<Handle>) {
        self.entries.rcu(|entries| {
            let mut entries = HashMap::clone(entries);
            entries.insert(id.clone(), handle.clone());
            entries
        });
    }

    /// Takes out the replica, unless the id has a newer handle by now.
    pub(crate) fn remove(&self, id: &ReplicaId, handle: &Arc<Handle>) {
        self.entries.rcu(|entries| {
            let mut entries = HashMap::clone(entries);
            if entries.get(id).is_some_and(|there| Arc::ptr_eq(there, handle)) {
                entries.remove(id);
            }
            entries
        });
    }

    /// Ongoing calls of each replica.
    pub(crate) fn ongoing(&self) -> Vec<(ReplicaId, usize)> {
        self.entries.load().iter().map(|(id, handle)| (id.clone(), handle.slots.ongoing())).collect()
    }
}

/// The way into one running replica.
pub(crate) struct Handle {
    /// Admission.
    pub(crate) slots: Arc<Slots>,
    /// What runs the calls.
    pub(crate) runner: Runner,
}

/// What runs a replica's calls.
pub(crate) enum Runner {
    /// A thread that is fed through a queue. `slots` bounds the calls that somebody waits for; a cancelled call gives its slot
    /// back at once but stays in the queue until the engine's step ends.
    Thread(Sender<InboxMessage>),
    /// The async runtime.
    Tasks(Tasks),
}

/// What goes into an engine thread's queue.
pub(crate) enum InboxMessage {
    /// Work.
    Call(Call),
    /// New batch settings.
    Batch(Batch),
    /// End: what is under way is given up.
    Stop,
}

/// A concurrent engine and what ends it.
pub(crate) struct Tasks {
    /// Runs the calls.
    pub(crate) engine: Arc<dyn ConcurrentEngine>,
    /// Cancelled when the replica ends: drops every call's future.
    pub(crate) stop: CancellationToken,
    /// Told when the engine panicked, with the panic's text.
    pub(crate) crashed: Arc<dyn Fn(String) + Send + Sync>,
}
