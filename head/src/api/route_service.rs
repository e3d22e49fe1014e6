//! Takes ingresses' streams: whole route tables out, always the newest; confirmations and loads in. Gives them the
//! sources of the revisions that the newest table names.

use std::sync::Arc;
use std::time::Duration;

use futures_util::stream::{self, BoxStream, StreamExt};
use millstream_core::model::{Observation, SessionId, TableVersion};
use millstream_proto::IngressId;
use millstream_proto::v1::route_service_server::RouteService;
use millstream_proto::v1::{self, GetSourceRequest, GetSourceResponse, IngressMessage, RouteMessage};
use tokio::sync::watch;
use tonic::{Request, Response, Status, Streaming};

use super::decode;
use crate::actors::reconciler_actor::ReconcilerMsg;
use crate::shared::{Feed, Shared};

/// How long an ingress may take to say who it is.
const HELLO_TIMEOUT: Duration = Duration::from_secs(10);

/// Serves `millstream.v1.RouteService`.
pub(crate) struct RouteServer {
    pub(crate) shared: Arc<Shared>,
}

#[tonic::async_trait]
impl RouteService for RouteServer {
    type SessionStream = BoxStream<'static, Result<RouteMessage, Status>>;

    async fn session(
        &self,
        request: Request<Streaming<IngressMessage>>,
    ) -> Result<Response<Self::SessionStream>, Status> {
        let mut inbound = request.into_inner();
        let hello = first(&mut inbound).await?;
        if hello.ingress_id.is_empty() {
            return Err(Status::invalid_argument("field `ingress_id` is empty; fill it in"));
        }
        let shared = Arc::clone(&self.shared);
        let reconciler = shared.reconciler().map_err(|error| Status::unavailable(error.to_string()))?;
        let feed = shared.feed.subscribe();
        let session = shared.next_session();
        let id = IngressId::new(hello.ingress_id);
        tracing::info!(ingress_id = %id, name = hello.name, "ingress joined");
        let joined = Observation::IngressJoined {
            id: id.clone(),
            session,
            name: hello.name,
            address: hello.address,
            pid: hello.pid,
        };
        let _ = reconciler.cast(ReconcilerMsg::Observe(joined, shared.clock.now()));
        let term = feed.borrow().epoch;
        let outbound = tables(feed, shared.clone());
        tokio::spawn(read(inbound, shared, id, session, term));
        Ok(Response::new(outbound))
    }

    /// Answers from the newest table, not from the catalog: what an ingress was told to serve is there as long as it is
    /// to be served, and no change that is being stored is waited for.
    async fn get_source(
        &self,
        request: Request<GetSourceRequest>,
    ) -> Result<Response<GetSourceResponse>, Status> {
        let GetSourceRequest { pipeline, revision } = request.into_inner();
        let table = self.shared.feed.borrow().table.clone();
        let stored = table.as_ref().and_then(|table| table.revision(&pipeline, revision)).ok_or_else(|| {
            Status::not_found(format!("no request is to run on revision {revision} of `{pipeline}`; wait for a newer route table"))
        })?;
        let (file_name, source) = (stored.file_name.clone(), stored.source.clone());
        Ok(Response::new(GetSourceResponse { file_name, source }))
    }
}

async fn first(inbound: &mut Streaming<IngressMessage>) -> Result<v1::Hello, Status> {
    let message = tokio::time::timeout(HELLO_TIMEOUT, inbound.message())
        .await
        .map_err(|_| Status::deadline_exceeded("no `hello` came in time"))??;
    match message.and_then(|message| message.body) {
        Some(v1::ingress_message::Body::Hello(hello)) => Ok(hello),
        _ => Err(Status::invalid_argument("the first message must be `hello`")),
    }
}

/// What a stream has sent so far.
struct Sent {
    feed: watch::Receiver<Feed>,
    shared: Arc<Shared>,
    term: u64,
    version: TableVersion,
    leave: bool,
}

/// The newest table at each change, then the request to leave. Ends with the term: a reconciler that was restarted
/// must see its ingresses join.
fn tables(
    feed: watch::Receiver<Feed>,
    shared: Arc<Shared>,
) -> BoxStream<'static, Result<RouteMessage, Status>> {
    let term = feed.borrow().epoch;
    let sent = Sent { feed, shared, term, version: TableVersion::default(), leave: false };
    stream::unfold(sent, async |mut sent| {
        loop {
            let message = next(&mut sent)?;
            if let Some(message) = message {
                return Some((Ok(message), sent));
            }
            tokio::select! {
                changed = sent.feed.changed() => changed.ok()?,
                () = sent.shared.closing.cancelled() => return None,
            }
        }
    })
    .boxed()
}

/// What to send now: `None` when the stream is to end, `Some(None)` when there is nothing new.
fn next(sent: &mut Sent) -> Option<Option<RouteMessage>> {
    use v1::route_message::Body;
    // Let go of at once: whoever encodes a table must not hold the reconciler up.
    let Feed { epoch, table, leave } = sent.feed.borrow_and_update().clone();
    if epoch != sent.term {
        return None;
    }
    let message = |body| Some(Some(RouteMessage { epoch, body: Some(body) }));
    match (table, leave) {
        (Some(table), _) if table.version() > sent.version => {
            sent.version = table.version();
            message(Body::Table(table.encoded()))
        }
        (_, Some(drain)) if !sent.leave => {
            sent.leave = true;
            message(Body::Leave(v1::Leave { drain_ms: decode::millis(drain) }))
        }
        _ => Some(None),
    }
}

/// Passes on what the ingress says until its stream or the term ends.
async fn read(
    mut inbound: Streaming<IngressMessage>,
    shared: Arc<Shared>,
    id: IngressId,
    session: SessionId,
    term: u64,
) {
    use v1::ingress_message::Body;
    let observe = |event| match shared.reconciler() {
        Ok(reconciler) if shared.feed.borrow().epoch == term => {
            reconciler.cast(ReconcilerMsg::Observe(event, shared.clock.now())).is_ok()
        }
        _ => false,
    };
    loop {
        let message = tokio::select! {
            message = inbound.message() => message,
            () = shared.closing.cancelled() => break,
        };
        let Ok(Some(message)) = message else { break };
        let event = match message.body {
            Some(Body::Ack(ack)) => Observation::Acked(id.clone(), session, decode::version(ack)),
            Some(Body::Load(load)) => {
                for (deployment, requests) in decode::shed(&load) {
                    shared.events.note_shed(deployment, requests);
                }
                let counted = decode::counted(&load);
                if !counted.is_empty() && !observe(Observation::Counted(id.clone(), session, counted)) {
                    break;
                }
                Observation::Loaded(id.clone(), session, decode::loads(load))
            }
            // A newer ingress may say things that this head does not know.
            Some(Body::Hello(_)) | None => continue,
        };
        if !observe(event) {
            break;
        }
    }
    tracing::info!(ingress_id = %id, "ingress left");
    observe(Observation::IngressLeft(id, session));
}
