//! What the actors tell and ask one another. They know these, and not each other.

use std::time::Duration;

use millstream_core::model::{Observation, Order, Registration, SessionId};
use millstream_core::reconcile::{JoinError, NotRemovable, Reconciler};
use millstream_pipelines::Name;
use millstream_proto::{NodeId, ReplicaId, v1};
use ractor::{ActorRef, RpcReplyPort};

use crate::store;

/// What the reconciler is told and asked.
pub(crate) enum ReconcilerMsg {
    /// From the node service, once a stream: a worker wants in. Answered with a refusal when its name is taken.
    Join(Box<Registration>, SessionId, ActorRef<NodeSessionMsg>, RpcReplyPort<Result<(), JoinError>>),
    /// From node and ingress sessions, with the time at which it arrived. Repeating it is harmless.
    Observe(Observation, Duration),
    /// From the term: what people ask for has changed. May be repeated.
    DesiredChanged,
    /// From itself: the store has been told how a pipeline's rollout ended, or did not take it.
    Concluded(Name),
    /// From whoever shows the cluster: take a snapshot. May be repeated.
    Snapshot,
    /// From the control service: tell every ingress and worker to drain and end. May be repeated.
    Shutdown(Duration, RpcReplyPort<()>),
    /// From the head, before its process ends: decide nothing any more. May be repeated.
    Rest(RpcReplyPort<()>),
    /// From itself: the store has forgotten a node, or has not.
    Forgotten(NodeId, Result<(), store::Error>),
    /// From the control service: a node is gone for good. Answered with its id, or why not.
    RemoveNode(String, RpcReplyPort<Result<NodeId, NotRemovable>>),
    /// From itself: the time has come that the reconciler asked for, and when that was noticed.
    Wake(Duration),
    /// For a dry run, a plan or a test: the reconciler as it is now.
    Inspect(RpcReplyPort<Box<Reconciler>>),
}

/// What a session is told.
pub(crate) enum NodeSessionMsg {
    /// From the reconciler: start a replica, or tell it new settings. Harmless when repeated.
    Start(Box<Order>),
    /// From the reconciler: drain and stop a replica. Harmless when repeated.
    Stop(ReplicaId, Duration),
    /// From the reconciler: drain everything and end the process. Harmless when repeated.
    Shutdown(Duration),
    /// From its own reader: the worker said something, and when it arrived.
    Said(Box<v1::NodeMessage>, Duration),
    /// From its own reader: the worker's stream ended. A message, so that what was said before is heard first.
    Ended,
}
