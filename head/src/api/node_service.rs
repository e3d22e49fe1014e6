//! Takes workers' streams: checks who registers and hands the stream to a session actor.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use millstream_core::reconcile::JoinError;
use millstream_proto::v1::node_service_server::NodeService;
use millstream_proto::v1::{self, HeadMessage, NodeMessage};
use ractor::Actor;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};

use super::decode;
use crate::actors::node_session_actor::{MAX_WAITING_ORDERS, NodeSessionActor, NodeSessionArgs};
use crate::actors::reconciler_actor::ReconcilerMsg;
use crate::leader;
use crate::members;
use crate::shared::{Restarting, Shared};

/// How long a worker may take to say who it is.
const REGISTER_TIMEOUT: Duration = Duration::from_secs(10);

/// Serves `millstream.v1.NodeService`.
pub(crate) struct NodeServer {
    pub(crate) shared: Arc<Shared>,
}

#[tonic::async_trait]
impl NodeService for NodeServer {
    type SessionStream = ReceiverStream<Result<HeadMessage, Status>>;

    async fn session(
        &self,
        request: Request<Streaming<NodeMessage>>,
    ) -> Result<Response<Self::SessionStream>, Status> {
        let shared = &self.shared;
        let mut inbound = request.into_inner();
        let register = first(&mut inbound).await?;
        let obeyed = register.epoch;
        let registration = decode::registration(register)?;
        self.lead_above(obeyed).await?;
        let reconciler = shared.reconciler().map_err(unavailable)?;
        let (outbound, orders) = mpsc::channel(MAX_WAITING_ORDERS);
        let registered = v1::Registered {
            heartbeat_ms: decode::millis(shared.timing.heartbeat),
            cluster_id: String::new(),
        };
        let body = Some(v1::head_message::Body::Registered(registered));
        // The first message, whatever the reconciler orders at once.
        let _ = outbound.try_send(Ok(HeadMessage { epoch: shared.epoch(), body }));
        let session = shared.next_session();
        let actor = NodeSessionActor {
            shared: Arc::clone(shared),
            reconciler: reconciler.clone(),
            node: registration.id.clone(),
            session,
        };
        let (id, name) = (registration.id.clone(), registration.name.clone());
        let args = NodeSessionArgs { inbound, outbound };
        let (actor, _) = NodeSessionActor::spawn_linked(None, actor, args, reconciler.get_cell())
            .await
            .map_err(|_| unavailable(Restarting))?;
        let join = |reply| ReconcilerMsg::Join(Box::new(registration), session, actor.clone(), reply);
        match shared.ask(join).await {
            Ok(Ok(())) => {
                // Before it gets its first order, which waits in the stream that is not answered yet.
                if let Err(error) = members::note(&shared.store, &id, &name).await {
                    // It joins all the same: a head that restarts then does not wait for it.
                    tracing::warn!(node_id = %id, %error, "a node that joins could not be noted");
                }
                Ok(Response::new(ReceiverStream::new(orders)))
            }
            Ok(Err(refused)) => {
                actor.stop(None);
                Err(match refused {
                    JoinError::NameTaken { .. } => Status::aborted(refused.to_string()),
                    // The worker tries again by itself.
                    JoinError::IdInUse { .. } => Status::unavailable(refused.to_string()),
                })
            }
            Err(restarting) => {
                actor.stop(None);
                Err(unavailable(restarting))
            }
        }
    }
}

impl NodeServer {
    /// A worker that obeyed a later term than ours (of a store that was put back or made anew since) would refuse our
    /// commands: continue in a term above it.
    async fn lead_above(&self, obeyed: u64) -> Result<(), Status> {
        let shared = &self.shared;
        if obeyed <= shared.epoch() {
            return Ok(());
        }
        let term = leader::begin_term(&shared.store, obeyed).await.map_err(unavailable)?;
        tracing::warn!(
            obeyed,
            epoch = term.epoch,
            "a worker obeyed a later term than this head's; going above it"
        );
        shared.epoch.fetch_max(term.epoch, Ordering::AcqRel);
        let _ = shared.reconciler().map_err(unavailable)?.cast(ReconcilerMsg::RaiseEpoch(term.epoch));
        Ok(())
    }
}

async fn first(inbound: &mut Streaming<NodeMessage>) -> Result<v1::Register, Status> {
    let message = tokio::time::timeout(REGISTER_TIMEOUT, inbound.message())
        .await
        .map_err(|_| Status::deadline_exceeded("no `register` came in time"))??;
    match message.and_then(|message| message.body) {
        Some(v1::node_message::Body::Register(register)) => Ok(register),
        _ => Err(Status::invalid_argument("the first message must be `register`")),
    }
}

fn unavailable(error: impl std::fmt::Display) -> Status {
    Status::unavailable(error.to_string())
}
