//! Takes ingresses' streams: whole route tables out, always the newest; confirmations and loads in. Gives them the
//! sources of the revisions that the newest table names.

use std::sync::Arc;
use std::time::Duration;

use futures_util::stream::{self, BoxStream, StreamExt};
use millstream_core::model::{Observation, SessionId, TableVersion};
use millstream_proto::IngressId;
use millstream_proto::v1::route_message::Body;
use millstream_proto::v1::route_service_server::RouteService;
use millstream_proto::v1::{self, GetSourceRequest, GetSourceResponse, IngressMessage, RouteMessage};
use tokio::sync::watch;
use tonic::{Request, Response, Status, Streaming};

use crate::actors::messages::ReconcilerMsg;
use crate::leadership::{Leadership, Restarting, Term};
use crate::route_feed::RouteFeed;
use crate::wire;

/// How long an ingress may take to say who it is.
const HELLO_TIMEOUT: Duration = Duration::from_secs(10);

/// Serves `millstream.v1.RouteService`.
pub(crate) struct RouteServer {
    pub(crate) leadership: Leadership,
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
        let entrance = wire::entrance(&hello)?;
        let id = IngressId::new(wire::name("ingress_id", hello.ingress_id)?);
        let name = wire::name("name", hello.name)?;
        let term = self.leadership.term()?;
        if !hello.cluster_id.is_empty() && hello.cluster_id != term.cluster_id {
            return Err(Status::invalid_argument("this ingress serves another cluster; start it again"));
        }
        let feed = term.feed.subscribe();
        let session = term.host.next_session();
        let listed = term.host.targets.list(&name, &hello.admin);
        let joined = Observation::IngressJoined { id: id.clone(), session, name, entrance, pid: hello.pid };
        // One that the term does not know would not be waited for.
        let joined = ReconcilerMsg::Observe(joined, term.host.clock.now());
        term.reconciler.cast(joined).map_err(|_| Status::unavailable(Restarting.to_string()))?;
        tracing::info!(ingress_id = %id, "ingress joined");
        let stored = Arc::new(watch::Sender::new(0));
        let outbound = tables(feed, stored.subscribe(), Arc::clone(&term));
        tokio::spawn(async move {
            read(inbound, term, Ingress { id, session, stored }).await;
            drop(listed);
        });
        Ok(Response::new(outbound))
    }

    /// Answers from the newest table, not from the catalog: what an ingress was told to serve is there as long as it is
    /// to be served, and no change that is being stored is waited for.
    async fn get_source(
        &self,
        request: Request<GetSourceRequest>,
    ) -> Result<Response<GetSourceResponse>, Status> {
        let GetSourceRequest { pipeline, revision } = request.into_inner();
        let table = self.leadership.term()?.feed.borrow().table.clone();
        let stored =
            table.as_ref().and_then(|table| table.revision(&pipeline, revision)).ok_or_else(|| {
                Status::not_found(format!(
                    "no request is to run on revision {revision} of `{}`; wait for a newer route table",
                    pipeline.escape_debug()
                ))
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

/// The other end of a session.
struct Ingress {
    id: IngressId,
    session: SessionId,
    /// Gets the number of its last batch of usage that is stored.
    stored: Arc<watch::Sender<u64>>,
}

/// What a stream has sent so far.
struct Sent {
    feed: watch::Receiver<RouteFeed>,
    /// The last batch of usage that is stored.
    stored: watch::Receiver<u64>,
    /// The last one that the ingress was told of.
    told: u64,
    term: Arc<Term>,
    welcome: bool,
    version: TableVersion,
    leave: bool,
}

/// The welcome, the newest table at each change, then the request to leave. Ends with the term: the next one's reconciler
/// must see its ingresses join.
fn tables(
    feed: watch::Receiver<RouteFeed>,
    stored: watch::Receiver<u64>,
    term: Arc<Term>,
) -> BoxStream<'static, Result<RouteMessage, Status>> {
    let sent =
        Sent { feed, stored, told: 0, term, welcome: false, version: TableVersion::default(), leave: false };
    stream::unfold(sent, async |mut sent| {
        loop {
            if let Some(body) = next(&mut sent) {
                return Some((Ok(RouteMessage { epoch: sent.term.epoch, body: Some(body) }), sent));
            }
            tokio::select! {
                changed = sent.feed.changed() => changed.ok()?,
                changed = sent.stored.changed() => changed.ok()?,
                () = sent.term.over.cancelled() => return None,
            }
        }
    })
    .boxed()
}

/// What to send now, if there is something new.
fn next(sent: &mut Sent) -> Option<Body> {
    if !std::mem::replace(&mut sent.welcome, true) {
        return Some(Body::Welcome(v1::Welcome { cluster_id: sent.term.cluster_id.clone() }));
    }
    let sequence = *sent.stored.borrow_and_update();
    if sequence != std::mem::replace(&mut sent.told, sequence) {
        return Some(Body::UsageStored(v1::UsageStored { sequence }));
    }
    // Let go of at once: whoever encodes a table must not hold the reconciler up.
    let RouteFeed { table, leave } = sent.feed.borrow_and_update().clone();
    match (table, leave) {
        (Some(table), _) if table.version() > sent.version => {
            sent.version = table.version();
            Some(Body::Table(table.encoded()))
        }
        (_, Some(drain)) if !sent.leave => {
            sent.leave = true;
            Some(Body::Leave(v1::Leave { drain_ms: wire::millis(drain) }))
        }
        _ => None,
    }
}

/// Passes on what the ingress says until its stream or the term ends.
async fn read(mut inbound: Streaming<IngressMessage>, term: Arc<Term>, ingress: Ingress) {
    use v1::ingress_message::Body;
    let Ingress { id, session, stored } = ingress;
    let observe = |event| term.reconciler.cast(ReconcilerMsg::Observe(event, term.host.clock.now())).is_ok();
    loop {
        let message = tokio::select! {
            message = inbound.message() => message,
            () = term.over.cancelled() => return,
        };
        let Ok(Some(message)) = message else { break };
        let event = match message.body {
            Some(Body::Ack(ack)) => Observation::Acked(id.clone(), session, wire::version(ack)),
            Some(Body::Trace(trace)) => {
                match serde_json::from_str(&trace.json) {
                    Ok(trace) => term.host.traces.lock().push(trace),
                    Err(error) => tracing::debug!(%error, ingress_id = %id, "a trace is not understood"),
                }
                continue;
            }
            Some(Body::Usage(batch)) => {
                term.usage.take(&id, batch, &stored);
                continue;
            }
            Some(Body::Load(load)) => {
                for (deployment, requests) in wire::shed(&load) {
                    term.events.note_shed(deployment, requests);
                }
                let now = term.host.clock.now();
                for (pipeline, stage, tally) in wire::stages(&load) {
                    term.host.stages.lock().count(&pipeline, stage, &tally, now);
                }
                let counted = wire::counted(&load);
                if !counted.is_empty() && !observe(Observation::Counted(id.clone(), session, counted)) {
                    break;
                }
                Observation::Loaded(id.clone(), session, wire::loads(load))
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
