//! Takes workers' streams: checks who registers and hands the stream to a session actor.

use std::sync::Arc;
use std::time::Duration;

use millstream_core::model::Registration;
use millstream_core::reconcile::JoinError;
use millstream_proto::v1::node_service_server::NodeService;
use millstream_proto::v1::{self, HeadMessage, NodeMessage};
use ractor::{Actor, ActorRef};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};

use crate::actors::messages::{NodeSessionMsg, ReconcilerMsg};
use crate::actors::node_session_actor::{MAX_WAITING_ORDERS, NodeSessionActor, NodeSessionArgs};
use crate::leadership::{Leadership, Restarting, Term, election};
use crate::members;
use crate::wire;

/// How long a worker may take to say who it is.
const REGISTER_TIMEOUT: Duration = Duration::from_secs(10);

/// Serves `millstream.v1.NodeService`.
pub(crate) struct NodeServer {
    pub(crate) leadership: Leadership,
}

#[tonic::async_trait]
impl NodeService for NodeServer {
    type SessionStream = ReceiverStream<Result<HeadMessage, Status>>;

    async fn session(
        &self,
        request: Request<Streaming<NodeMessage>>,
    ) -> Result<Response<Self::SessionStream>, Status> {
        let mut inbound = request.into_inner();
        let register = first(&mut inbound).await?;
        let term = self.leadership.term()?;
        check_cluster(&term, &register)?;
        check_epoch(&term, register.epoch)?;
        let listed = term.host.targets.list(&register.name, &register.admin);
        let registration = wire::registration(register)?;
        let (outbound, orders) = mpsc::channel(MAX_WAITING_ORDERS);
        let registered = v1::Registered {
            heartbeat_ms: wire::millis(term.host.timing.heartbeat),
            cluster_id: term.cluster_id.clone(),
        };
        let body = Some(v1::head_message::Body::Registered(registered));
        // The first message, whatever the reconciler orders at once.
        let _ = outbound.try_send(Ok(HeadMessage { epoch: term.epoch, body }));
        join(&term, registration, NodeSessionArgs { inbound, outbound, listed }).await?;
        Ok(Response::new(ReceiverStream::new(orders)))
    }
}

/// Starts the stream's session and lets the node in.
async fn join(term: &Term, registration: Registration, args: NodeSessionArgs) -> Result<(), Status> {
    let session = term.host.next_session();
    let actor = NodeSessionActor {
        context: Arc::clone(term),
        reconciler: term.reconciler.clone(),
        node: registration.id.clone(),
        session,
    };
    let (id, name) = (registration.id.clone(), registration.name.clone());
    let spawned = NodeSessionActor::spawn_linked(None, actor, args, term.reconciler.get_cell()).await;
    let (actor, _) = spawned.map_err(|_| Status::unavailable(Restarting.to_string()))?;
    let refuse = |actor: &ActorRef<NodeSessionMsg>, status| {
        actor.stop(None);
        Err(status)
    };
    let join = |reply| ReconcilerMsg::Join(Box::new(registration), session, actor.clone(), reply);
    match term.ask(join).await {
        Ok(Ok(())) => {
            // Before it gets its first order, which waits in the stream that is not answered yet.
            if let Err(error) = members::note(&term.store, &id, &name).await {
                // It joins all the same: a head that restarts then does not wait for it.
                tracing::warn!(node_id = %id, %error, "a node that joins could not be noted");
            }
            Ok(())
        }
        Ok(Err(error @ JoinError::NameTaken { .. })) => refuse(&actor, Status::aborted(error.to_string())),
        // The worker tries again by itself.
        Ok(Err(error @ JoinError::IdInUse { .. })) => refuse(&actor, Status::unavailable(error.to_string())),
        Err(restarting) => refuse(&actor, Status::unavailable(restarting.to_string())),
    }
}

/// Keeps a node of another cluster out.
fn check_cluster(term: &Term, register: &v1::Register) -> Result<(), Status> {
    if register.cluster_id.is_empty() || register.cluster_id == term.cluster_id {
        return Ok(());
    }
    Err(Status::invalid_argument(format!(
        "node `{}` belongs to another cluster; it can join this one with another --data-dir",
        register.name.escape_debug()
    )))
}

/// A worker that obeyed a later term than this one would refuse its orders: the next one is above it.
fn check_epoch(term: &Term, obeyed: u64) -> Result<(), Status> {
    if obeyed <= term.epoch {
        return Ok(());
    }
    election::check_jump(obeyed, term.epoch).map_err(|error| Status::invalid_argument(error.to_string()))?;
    term.give_way(obeyed);
    Err(Status::unavailable("this head's term ends for one that the worker can obey; dial again"))
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
