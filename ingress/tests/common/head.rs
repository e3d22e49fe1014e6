//! A head with scripted tables and sources, on a real gRPC server.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::net::SocketAddr;
use std::ops::{Deref, DerefMut};
use std::sync::Arc;

use futures_util::StreamExt as _;
use futures_util::stream::{self, BoxStream};
use millstream_connect::{Authority, NotLeading, Secret, serve_grpc};
use millstream_listen::ConnectionLimits;
use millstream_proto::v1::route_service_server::{RouteService, RouteServiceServer};
use millstream_proto::v1::{self, ingress_message, route_message};
use millstream_test_support::{JOIN_TOKEN, LIMIT};
use parking_lot::Mutex;
use prost::Message as _;
use tokio::sync::watch;
use tokio_stream::wrappers::WatchStream;
use tonic::service::Routes;
use tonic::{Request, Response, Status, Streaming};

use super::eventually;

/// Sources by pipeline and revision.
type Sources = BTreeMap<(String, u64), String>;

/// A route table, and the sources that the head has of the revisions that it names.
#[derive(Debug, Clone, Default)]
pub(crate) struct Table {
    routes: v1::RouteTable,
    sources: Sources,
}

impl Deref for Table {
    type Target = v1::RouteTable;

    fn deref(&self) -> &v1::RouteTable {
        &self.routes
    }
}

impl DerefMut for Table {
    fn deref_mut(&mut self) -> &mut v1::RouteTable {
        &mut self.routes
    }
}

impl Table {
    /// A table without pipelines.
    pub(crate) fn empty(version: u64) -> Self {
        Self {
            routes: v1::RouteTable { version: Some(number(version)), ..Default::default() },
            sources: Sources::new(),
        }
    }

    /// The same text as another revision of the only pipeline.
    pub(crate) fn of_revision(mut self, revision: u64) -> Self {
        let pipeline = &mut self.routes.pipelines[0];
        pipeline.variants[0].revision = revision;
        let sources = std::mem::take(&mut self.sources);
        self.sources = sources.into_iter().map(|((name, _), source)| ((name, revision), source)).collect();
        self
    }

    /// The pipelines of another table as well.
    pub(crate) fn and(mut self, other: Self) -> Self {
        self.routes.pipelines.extend(other.routes.pipelines);
        self.sources.extend(other.sources);
        self
    }

    /// The source of a revision.
    pub(crate) fn with_source(mut self, pipeline: &str, revision: u64, source: impl Display) -> Self {
        self.sources.insert((pipeline.to_owned(), revision), source.to_string());
        self
    }

    /// The head has no sources: they have just been deleted.
    pub(crate) fn without_sources(mut self) -> Self {
        self.sources.clear();
        self
    }
}

/// A head: hands out one table and keeps what ingresses say.
pub(crate) struct FakeHead {
    pub(crate) address: SocketAddr,
    messages: watch::Sender<v1::RouteMessage>,
    sources: Arc<Mutex<Sources>>,
    heard: Arc<Mutex<Heard>>,
    runtime: Option<tokio::runtime::Runtime>,
}

#[derive(Default)]
struct Heard {
    hello: Option<v1::Hello>,
    acks: Vec<v1::TableVersion>,
    loads: Vec<v1::DeploymentLoad>,
    /// Revisions that were asked for, in order.
    fetches: Vec<(String, u64)>,
}

struct HeadService {
    /// The head that leads, where this one does not.
    leader: Option<String>,
    messages: watch::Receiver<v1::RouteMessage>,
    sources: Arc<Mutex<Sources>>,
    heard: Arc<Mutex<Heard>>,
}

#[tonic::async_trait]
impl RouteService for HeadService {
    type SessionStream = BoxStream<'static, Result<v1::RouteMessage, Status>>;

    async fn session(
        &self,
        request: Request<Streaming<v1::IngressMessage>>,
    ) -> Result<Response<Self::SessionStream>, Status> {
        if let Some(leader) = self.leader.clone() {
            return Err(NotLeading { leader: Some(leader) }.status("this head does not lead"));
        }
        let heard = self.heard.clone();
        let mut inbound = request.into_inner();
        tokio::spawn(async move {
            while let Ok(Some(message)) = inbound.message().await {
                let mut heard = heard.lock();
                match message.body.expect("messages have bodies") {
                    ingress_message::Body::Hello(hello) => heard.hello = Some(hello),
                    ingress_message::Body::Ack(ack) => heard.acks.extend(ack.version),
                    ingress_message::Body::Load(load) => heard.loads.extend(load.deployments),
                    ingress_message::Body::Trace(_) | ingress_message::Body::Usage(_) => {}
                }
            }
        });
        let welcome = v1::Welcome { cluster_id: "cluster-1".to_owned() };
        let welcome = stream::once(std::future::ready(message(route_message::Body::Welcome(welcome))));
        Ok(Response::new(welcome.chain(WatchStream::new(self.messages.clone())).map(Ok).boxed()))
    }

    async fn get_source(
        &self,
        request: Request<v1::GetSourceRequest>,
    ) -> Result<Response<v1::GetSourceResponse>, Status> {
        let v1::GetSourceRequest { pipeline, revision } = request.into_inner();
        let file_name = format!("{pipeline}.toml");
        let id = (pipeline, revision);
        let source = self.sources.lock().get(&id).cloned();
        self.heard.lock().fetches.push(id);
        let source = source.ok_or_else(|| Status::not_found("no such revision"))?;
        Ok(Response::new(v1::GetSourceResponse { file_name, source }))
    }
}

impl FakeHead {
    pub(crate) fn start(table: Table) -> Self {
        Self::start_at("127.0.0.1:0".parse().unwrap(), table)
    }

    pub(crate) fn start_at(address: SocketAddr, table: Table) -> Self {
        Self::start_as(None, address, table)
    }

    /// One that does not lead.
    pub(crate) fn follower_of(leader: &Self) -> Self {
        let any = "127.0.0.1:0".parse().unwrap();
        Self::start_as(Some(leader.address.to_string()), any, Table::empty(9))
    }

    fn start_as(leader: Option<String>, address: SocketAddr, table: Table) -> Self {
        // A head that was there before may not have let go of its address yet.
        let bind = || std::net::TcpListener::bind(address).ok();
        let listener = millstream_test_support::eventually("the address is free", bind);
        listener.set_nonblocking(true).unwrap();
        let address = listener.local_addr().unwrap();
        let (messages, receiver) = watch::channel(message(encoded(&table)));
        let sources = Arc::new(Mutex::new(table.sources));
        let heard = Arc::new(Mutex::new(Heard::default()));
        let service =
            HeadService { leader, messages: receiver, sources: sources.clone(), heard: heard.clone() };
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        runtime.spawn(async move {
            let listener = tokio::net::TcpListener::from_std(listener).unwrap();
            let secrets = vec![Secret::new(Authority::Member, JOIN_TOKEN)];
            let routes = Routes::new(RouteServiceServer::new(service));
            let _server = serve_grpc(listener, ConnectionLimits::members(), secrets, routes);
            std::future::pending::<()>().await;
        });
        Self { address, messages, sources, heard, runtime: Some(runtime) }
    }

    pub(crate) fn hello(&self) -> Option<v1::Hello> {
        self.heard.lock().hello.clone()
    }

    pub(crate) fn acked(&self, version: u64) -> bool {
        self.heard.lock().acks.contains(&number(version))
    }

    /// How often a revision was asked for.
    pub(crate) fn num_fetches(&self, pipeline: &str, revision: u64) -> usize {
        let fetches = &self.heard.lock().fetches;
        fetches.iter().filter(|(name, number)| (name.as_str(), *number) == (pipeline, revision)).count()
    }

    /// Whether a report said so of a deployment.
    pub(crate) fn heard_load(&self, deployment: &str, ongoing: u64, queued: u64) -> bool {
        let loads = &self.heard.lock().loads;
        loads
            .iter()
            .any(|load| (&*load.deployment, load.ongoing, load.queued) == (deployment, ongoing, queued))
    }

    /// Pushes a table and waits until the ingress has confirmed it.
    pub(crate) async fn push(&self, table: Table) {
        let version = table.version.unwrap().number;
        self.publish(table);
        eventually("the table is confirmed", || self.acked(version)).await;
    }

    /// Pushes a table.
    pub(crate) fn publish(&self, table: Table) {
        let message = message(encoded(&table));
        *self.sources.lock() = table.sources;
        self.messages.send_replace(message);
    }

    /// From now on it has this source.
    pub(crate) fn has_source(&self, pipeline: &str, revision: u64, source: impl Display) {
        self.sources.lock().insert((pipeline.to_owned(), revision), source.to_string());
    }

    pub(crate) fn ask_to_leave(&self, drain_ms: u64) {
        self.messages.send_replace(message(route_message::Body::Leave(v1::Leave { drain_ms })));
    }
}

/// It ends like a process: at once, with all its connections. Its port is free afterwards.
impl Drop for FakeHead {
    fn drop(&mut self) {
        let Some(runtime) = self.runtime.take() else { return };
        // On a thread of its own: this one runs async code and may not wait for a runtime.
        let ended = std::thread::spawn(move || runtime.shutdown_timeout(LIMIT));
        ended.join().expect("a runtime ends without a panic");
    }
}

fn encoded(table: &Table) -> route_message::Body {
    route_message::Body::Table(table.encode_to_vec().into())
}

fn message(body: route_message::Body) -> v1::RouteMessage {
    v1::RouteMessage { epoch: 1, body: Some(body) }
}

/// The version of a table of the head's only term.
pub(crate) fn number(number: u64) -> v1::TableVersion {
    v1::TableVersion { epoch: 1, number }
}

/// A table of one pipeline whose only deployment has these replicas: (id, worker's address).
pub(crate) fn table(
    version: u64,
    source: impl Display,
    deployment: &str,
    replicas: &[(&str, SocketAddr)],
) -> Table {
    let source = source.to_string();
    let name = source.lines().find_map(|line| line.strip_prefix("name")).expect("pipelines have a name");
    let name = name.trim_matches(|c: char| !c.is_ascii_alphanumeric()).to_owned();
    let replicas = replicas.iter().map(|(id, address)| v1::ReplicaRoute {
        replica_id: (*id).to_owned(),
        node_id: format!("node-of-{address}"),
        address: address.to_string(),
        revision: 1,
        serves: vec![1],
        answers: Vec::new(),
    });
    let (deployment, replicas) = (deployment.to_owned(), replicas.collect());
    let route = v1::DeploymentRoute { deployment, replicas, ..Default::default() };
    let pipeline = v1::PipelineRoute {
        variants: vec![v1::Variant { revision: 1, permille: 1000, shadow_permille: 0 }],
        name: name.clone(),
        deployments: vec![route],
    };
    let routes =
        v1::RouteTable { version: Some(number(version)), pipelines: vec![pipeline], ..Default::default() };
    Table { routes, sources: Sources::new() }.with_source(&name, 1, source)
}
