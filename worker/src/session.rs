//! One connection to the head, from dialling to its end: moves messages, sends heartbeats, decides nothing.

use std::collections::{BTreeMap, HashMap};
use std::future::pending;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use millstream_connect::{NotLeading, Secret, advertised, chain, connect, refusal};
use millstream_proto::NodeId;
use millstream_proto::v1::node_service_client::NodeServiceClient;
use millstream_proto::v1::{self, head_message, node_message};
use tokio::sync::mpsc;
use tokio::time::{Interval, MissedTickBehavior};
use tokio_stream::StreamExt;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Streaming};

use crate::table::ReplicaTable;

/// How long dialling may take.
const DIAL_TIMEOUT: Duration = Duration::from_secs(3);
/// How long the head may take to answer a registration.
const REGISTER_TIMEOUT: Duration = Duration::from_secs(10);
const NO_ANSWER: &str = "the head does not answer the registration";
const NOT_READ: &str = "the head does not read what it is told";
/// A connection on which nothing comes back for so long is dead.
const KEEP_ALIVE: Duration = Duration::from_secs(3);
/// How long a worker that leaves waits for the head to have read its last words.
const FAREWELL: Duration = Duration::from_millis(500);
/// Bounds on the heartbeat that a head may ask for.
const MIN_HEARTBEAT_MS: u64 = 10;
const MAX_HEARTBEAT_MS: u64 = 60_000;

/// Who the node is and what it has; the same for the life of the process.
pub(crate) struct NodeFacts {
    /// The node's id.
    pub(crate) id: NodeId,
    /// Its name, for people.
    pub(crate) name: String,
    /// Where its replica traffic goes.
    pub(crate) listen: SocketAddr,
    /// Where its process has its metrics.
    pub(crate) admin: Option<SocketAddr>,
    /// Its labels.
    pub(crate) labels: BTreeMap<String, String>,
    /// What it has.
    pub(crate) resources: v1::Resources,
    /// The cluster's join token.
    pub(crate) secret: Secret,
}

impl NodeFacts {
    /// The first message of a session.
    pub(crate) fn register(
        &self,
        replicas: Vec<v1::ReplicaReport>,
        epoch: u64,
        cluster_id: Option<&str>,
    ) -> v1::Register {
        v1::Register {
            node_id: self.id.to_string(),
            name: self.name.clone(),
            address: self.listen.to_string(),
            labels: self.labels.clone().into_iter().collect(),
            resources: Some(self.resources.clone()),
            replicas,
            pid: std::process::id(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            epoch,
            cluster_id: cluster_id.unwrap_or_default().to_owned(),
            admin: String::new(),
        }
    }
}

/// What one connection needs.
pub(crate) struct Session {
    /// HOST:PORT of the head to register with.
    pub(crate) head: String,
    /// Who registers.
    pub(crate) facts: Arc<NodeFacts>,
    /// The first message.
    pub(crate) register: v1::Register,
    /// For heartbeats.
    pub(crate) outbound: mpsc::Sender<v1::NodeMessage>,
    /// What is to be sent.
    pub(crate) unsent: mpsc::Receiver<v1::NodeMessage>,
    /// Ongoing calls, for heartbeats.
    pub(crate) table: Arc<ReplicaTable>,
    /// Cancelled when the worker leaves.
    pub(crate) leave: CancellationToken,
    /// Cancelled when more was to be sent than may wait.
    pub(crate) unheard: CancellationToken,
    /// Where the head's messages go.
    pub(crate) on_message: Box<dyn Fn(v1::HeadMessage) + Send>,
}

/// Why a session is over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum End {
    /// The head does not want this node: its name is taken, or the registration is not valid.
    Rejected(String),
    /// The head was not reached, or the connection broke.
    Broken(String),
    /// The head does not lead.
    NotLeading(NotLeading),
    /// The worker left.
    Left,
}

impl End {
    /// Tells people of it: the node of that name and this head.
    pub(crate) fn tell(&self, head: &str, node: &str) {
        match self {
            Self::Rejected(error) => {
                tracing::error!(
                    head,
                    node,
                    error,
                    "the head does not take this node; tried again until it does"
                );
            }
            Self::Broken(error) => {
                tracing::warn!(
                    head,
                    node,
                    error,
                    "no connection to the head; replicas run on, dialled until it is back"
                );
            }
            Self::NotLeading(answer) => {
                tracing::info!(head, leader = answer.leader, "the head does not lead");
            }
            Self::Left => {}
        }
    }
}

/// Dials, registers and moves messages until the session is over.
pub(crate) async fn run(mut session: Session) -> End {
    let (leave, unheard) = (session.leave.clone(), session.unheard.clone());
    let opened = tokio::select! {
        opened = open(&mut session) => opened,
        () = leave.cancelled() => return End::Left,
        () = unheard.cancelled() => return End::Broken(NOT_READ.to_owned()),
    };
    match opened {
        Ok(inbound) => relay(session, inbound).await,
        Err(end) => end,
    }
}

async fn open(session: &mut Session) -> Result<Streaming<v1::HeadMessage>, End> {
    let channel = dial(&session.head, &session.facts.secret).await?;
    let mut register = session.register.clone();
    register.address = advertised(session.facts.listen, &session.head).to_string();
    let admin = session.facts.admin.map(|admin| advertised(admin, &session.head).to_string());
    register.admin = admin.unwrap_or_default();
    let first = v1::NodeMessage { body: Some(node_message::Body::Register(register)) };
    let (_, empty) = mpsc::channel(1);
    let unsent = std::mem::replace(&mut session.unsent, empty);
    let outbound = tokio_stream::once(first).chain(ReceiverStream::new(unsent));
    let mut client = NodeServiceClient::new(channel);
    match tokio::time::timeout(REGISTER_TIMEOUT, client.session(outbound)).await {
        Ok(Ok(response)) => Ok(response.into_inner()),
        Ok(Err(status)) => Err(end_of(&status)),
        Err(_) => Err(End::Broken(NO_ANSWER.to_owned())),
    }
}

async fn dial(head: &str, secret: &Secret) -> Result<Channel, End> {
    let broken = |error: &tonic::transport::Error| End::Broken(chain(error));
    let endpoint = Endpoint::from_shared(format!("http://{head}"))
        .map_err(|error| broken(&error))?
        .connect_timeout(DIAL_TIMEOUT)
        .tcp_nodelay(true)
        .http2_keep_alive_interval(KEEP_ALIVE)
        .keep_alive_timeout(KEEP_ALIVE)
        .keep_alive_while_idle(true);
    connect(&endpoint, secret).await.map_err(|error| match refusal(&error) {
        Some(refusal) => End::Rejected(refusal.to_string()),
        None => broken(&error),
    })
}

async fn relay(session: Session, mut inbound: Streaming<v1::HeadMessage>) -> End {
    let Session { outbound, table, leave, unheard, on_message, .. } = session;
    let mut heartbeat: Option<Interval> = None;
    let unregistered = tokio::time::sleep(REGISTER_TIMEOUT);
    tokio::pin!(unregistered);
    loop {
        tokio::select! {
            message = inbound.message() => match message {
                Ok(Some(message)) => {
                    if let Some(head_message::Body::Registered(registered)) = &message.body {
                        heartbeat = Some(every(registered.heartbeat_ms));
                    }
                    on_message(message);
                }
                Ok(None) => return End::Broken("the head closed the session".to_owned()),
                Err(status) => return end_of(&status),
            },
            () = &mut unregistered, if heartbeat.is_none() => return End::Broken(NO_ANSWER.to_owned()),
            () = tick(&mut heartbeat) => {
                if outbound.try_send(beat(&table)).is_err() {
                    return End::Broken(NOT_READ.to_owned());
                }
            }
            () = unheard.cancelled() => return End::Broken(NOT_READ.to_owned()),
            () = leave.cancelled() => {
                // The link's actor holds the other sender and drops it with its session.
                drop(outbound);
                let farewell = async { while let Ok(Some(_)) = inbound.message().await {} };
                let _ = tokio::time::timeout(FAREWELL, farewell).await;
                return End::Left;
            }
        }
    }
}

fn every(heartbeat_ms: u64) -> Interval {
    let period = Duration::from_millis(heartbeat_ms.clamp(MIN_HEARTBEAT_MS, MAX_HEARTBEAT_MS));
    let mut interval = tokio::time::interval(period);
    interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
    interval
}

async fn tick(heartbeat: &mut Option<Interval>) {
    match heartbeat {
        Some(interval) => drop(interval.tick().await),
        None => pending().await,
    }
}

fn beat(table: &ReplicaTable) -> v1::NodeMessage {
    let ongoing: HashMap<String, u64> =
        table.ongoing().into_iter().map(|(id, count)| (id.to_string(), count as u64)).collect();
    v1::NodeMessage { body: Some(node_message::Body::Heartbeat(v1::Heartbeat { ongoing })) }
}

fn end_of(status: &tonic::Status) -> End {
    if let Some(answer) = NotLeading::of(status) {
        return End::NotLeading(answer);
    }
    match status.code() {
        Code::Aborted | Code::InvalidArgument | Code::Unauthenticated | Code::PermissionDenied => {
            End::Rejected(status.message().to_owned())
        }
        code => End::Broken(format!("{code:?}: {}", status.message())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusals_are_told_from_breaks() {
        assert_eq!(end_of(&tonic::Status::aborted("name taken")), End::Rejected("name taken".into()));
        assert!(matches!(end_of(&tonic::Status::unavailable("gone")), End::Broken(_)));
        let answer = NotLeading { leader: Some("a:1".into()) };
        assert_eq!(end_of(&answer.status("not here")), End::NotLeading(answer));
    }
}
