//! One worker's stream: decodes what it says, encodes what it is told. Linked to the reconciler, which hears of its end
//! and takes it for the node's leaving. Never restarted: the worker dials again.

use std::sync::Arc;
use std::time::Duration;

use millstream_core::model::{Observation, SessionId};
use millstream_proto::{NodeId, ReplicaId, v1};
use ractor::{Actor, ActorProcessingErr, ActorRef};
use tokio::sync::mpsc;
use tokio_util::task::AbortOnDropHandle;
use tonic::{Status, Streaming};

use super::messages::{NodeSessionMsg, ReconcilerMsg};
use crate::clock::Clock;
use crate::leadership::context::TermContext;
use crate::targets::Listed;
use crate::wire;

/// Orders that may wait on the way to a worker; further ones wait in the session's mailbox.
pub(crate) const MAX_WAITING_ORDERS: usize = 1024;
/// A worker that reads no order for so long loses its stream, and with it what waits.
const READ_TIMEOUT: Duration = Duration::from_secs(10);

/// A session's fixed parts.
pub(crate) struct NodeSessionActor {
    pub(crate) context: Arc<TermContext>,
    /// Its reconciler.
    pub(crate) reconciler: ActorRef<ReconcilerMsg>,
    /// Its node.
    pub(crate) node: NodeId,
    /// Its id.
    pub(crate) session: SessionId,
}

/// The stream's two ends.
pub(crate) struct NodeSessionArgs {
    /// What the worker says.
    pub(crate) inbound: Streaming<v1::NodeMessage>,
    /// What it is told.
    pub(crate) outbound: mpsc::Sender<Result<v1::HeadMessage, Status>>,
    /// Its place among those whose metrics are collected.
    pub(crate) listed: Option<Listed>,
}

/// What a session holds; dropping it ends both directions.
pub(crate) struct NodeSessionState {
    outbound: mpsc::Sender<Result<v1::HeadMessage, Status>>,
    _reader: AbortOnDropHandle<()>,
    _listed: Option<Listed>,
}

impl Actor for NodeSessionActor {
    type Msg = NodeSessionMsg;
    type State = NodeSessionState;
    type Arguments = NodeSessionArgs;

    async fn pre_start(
        &self,
        myself: ActorRef<NodeSessionMsg>,
        args: NodeSessionArgs,
    ) -> Result<NodeSessionState, ActorProcessingErr> {
        let NodeSessionArgs { inbound, outbound, listed } = args;
        let reader = tokio::spawn(read(inbound, myself, outbound.clone(), self.context.host.clock));
        Ok(NodeSessionState { outbound, _reader: AbortOnDropHandle::new(reader), _listed: listed })
    }

    async fn handle(
        &self,
        myself: ActorRef<NodeSessionMsg>,
        message: NodeSessionMsg,
        state: &mut NodeSessionState,
    ) -> Result<(), ActorProcessingErr> {
        use v1::head_message::Body;
        let body = match message {
            NodeSessionMsg::Start(order) => Body::Start(wire::start(&order)),
            NodeSessionMsg::Stop(replica, drain) => {
                Body::Stop(v1::StopReplica { replica_id: replica.to_string(), drain_ms: wire::millis(drain) })
            }
            NodeSessionMsg::Shutdown(drain) => Body::Shutdown(v1::Shutdown { drain_ms: wire::millis(drain) }),
            NodeSessionMsg::Said(message, at) => {
                if let Some(observation) = self.observation(*message) {
                    let _ = self.reconciler.cast(ReconcilerMsg::Observe(observation, at));
                }
                return Ok(());
            }
            NodeSessionMsg::Ended => {
                myself.stop(Some("the worker's stream ended".into()));
                return Ok(());
            }
        };
        let message = v1::HeadMessage { epoch: self.context.epoch, body: Some(body) };
        if state.outbound.send_timeout(Ok(message), READ_TIMEOUT).await.is_err() {
            myself.stop(Some("the worker does not read its orders".into()));
        }
        Ok(())
    }
}

impl NodeSessionActor {
    /// What a message means; one that makes no sense is dropped.
    fn observation(&self, message: v1::NodeMessage) -> Option<Observation> {
        use v1::node_message::Body;
        let (node, session) = (self.node.clone(), self.session);
        match message.body {
            Some(Body::Heartbeat(heartbeat)) => {
                let ongoing =
                    heartbeat.ongoing.into_iter().map(|(id, ongoing)| (ReplicaId::from(id), ongoing));
                Some(Observation::Heartbeat(node, session, ongoing.collect()))
            }
            Some(Body::Replica(report)) => match wire::report(report) {
                Ok(report) => Some(Observation::ReplicaChanged(node, session, report)),
                Err(error) => {
                    tracing::warn!(node_id = %node, %error, "a worker sent a report that makes no sense");
                    None
                }
            },
            Some(Body::Register(_)) => {
                tracing::warn!(node_id = %node, "a worker registered twice on one stream");
                None
            }
            // A newer worker may say things that this head does not know.
            None => None,
        }
    }
}

/// Passes on what the worker says until its stream ends, in either direction; that is the end of the session.
async fn read(
    mut inbound: Streaming<v1::NodeMessage>,
    session: ActorRef<NodeSessionMsg>,
    outbound: mpsc::Sender<Result<v1::HeadMessage, Status>>,
    clock: Clock,
) {
    loop {
        let message = tokio::select! {
            // What was said before the end is heard first.
            biased;
            message = inbound.message() => message,
            () = outbound.closed() => break,
        };
        let Ok(Some(message)) = message else { break };
        if session.cast(NodeSessionMsg::Said(Box::new(message), clock.now())).is_err() {
            break;
        }
    }
    let _ = session.cast(NodeSessionMsg::Ended);
}
