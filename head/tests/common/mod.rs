//! Real gRPC clients on loopback that play a worker, an ingress and the command.

use std::fmt::Display;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use millstream_connect::{Authority, Secret, connect};
use millstream_head::{Config, Head, StartError, Timing};
use millstream_proto::status::ClusterStatus;
use millstream_proto::v1::control_service_client::ControlServiceClient;
use millstream_proto::v1::head_message::Body as Order;
use millstream_proto::v1::node_message::Body as Said;
use millstream_proto::v1::node_service_client::NodeServiceClient;
use millstream_proto::v1::route_service_client::RouteServiceClient;
use millstream_proto::v1::{self, ReplicaState};
use millstream_test_support::{Echo, LIMIT};
use prost::Message as _;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::metadata::MetadataValue;
use tonic::transport::{Channel, Endpoint};
use tonic::{Request, Status, Streaming};

pub(crate) const TOKEN: &str = "a-secret";
pub(crate) const JOIN_TOKEN: &str = "another-secret";

/// Intervals a tenth of the real ones.
pub(crate) fn fast() -> Timing {
    Timing {
        heartbeat: Duration::from_millis(100),
        replace_after: Duration::from_millis(1500),
        settle: Duration::from_millis(1000),
        ack_timeout: Duration::from_millis(1500),
        status_interval: Duration::from_millis(10),
        ..Timing::default()
    }
}

pub(crate) async fn try_start(dir: &Path, timing: Timing) -> Result<Head, StartError> {
    let any: SocketAddr = "127.0.0.1:0".parse().unwrap();
    let config = Config {
        name: "head-1".into(),
        control: any,
        dashboard: any,
        data_dir: dir.to_owned(),
        metrics: None,
        admin_token: TOKEN.into(),
        join_token: JOIN_TOKEN.into(),
    };
    Head::start_with(config, timing).await
}

pub(crate) async fn start(dir: &Path) -> Head {
    try_start(dir, fast()).await.unwrap()
}

fn endpoint(head: &Head) -> Endpoint {
    // Small windows: whoever does not read holds the head up soon.
    let window = Some(64 << 10);
    let head = Endpoint::new(format!("http://{}", head.control_address())).unwrap();
    head.initial_stream_window_size(window).initial_connection_window_size(window)
}

/// A connection of a stranger.
pub(crate) async fn channel(head: &Head) -> Channel {
    endpoint(head).connect().await.unwrap()
}

/// A connection of a process of the cluster.
pub(crate) async fn member_channel(head: &Head) -> Channel {
    connect(&endpoint(head), &Secret::new(Authority::Member, JOIN_TOKEN)).await.unwrap()
}

/// The command.
pub(crate) struct Control(ControlServiceClient<Channel>);

fn with_token<T>(message: T) -> Request<T> {
    let mut request = Request::new(message);
    let token = MetadataValue::try_from(format!("Bearer {TOKEN}")).unwrap();
    request.metadata_mut().insert("authorization", token);
    request
}

impl Control {
    pub(crate) async fn of(head: &Head) -> Self {
        Self(ControlServiceClient::new(channel(head).await))
    }

    pub(crate) async fn deploy(&mut self, source: impl Display) -> Result<v1::DeployedPipeline, Status> {
        Ok(self.deploy_all(&[source.to_string()]).await?.remove(0))
    }

    pub(crate) async fn deploy_all(
        &mut self,
        sources: &[String],
    ) -> Result<Vec<v1::DeployedPipeline>, Status> {
        let files = sources.iter().map(|source| v1::PipelineFile {
            file_name: "p.toml".into(),
            source: source.clone(),
            source_dir: "/pipelines".into(),
        });
        let request = v1::DeployRequest { beside: None, files: files.collect() };
        Ok(self.0.deploy(with_token(request)).await?.into_inner().pipelines)
    }

    pub(crate) async fn delete(&mut self, name: &str) -> Result<(), Status> {
        self.0.delete(with_token(v1::DeleteRequest { name: name.into() })).await.map(drop)
    }

    pub(crate) async fn status(&mut self) -> ClusterStatus {
        let answer = self.0.status(with_token(v1::StatusRequest {})).await.unwrap().into_inner();
        serde_json::from_str(&answer.json).unwrap()
    }

    pub(crate) async fn watch(&mut self) -> Streaming<v1::StatusResponse> {
        self.0.watch_status(with_token(v1::StatusRequest {})).await.unwrap().into_inner()
    }

    pub(crate) async fn list(&mut self) -> Vec<v1::StoredPipeline> {
        self.0.list_pipelines(with_token(v1::ListPipelinesRequest {})).await.unwrap().into_inner().pipelines
    }

    pub(crate) async fn shut_down(&mut self, drain_ms: u64) {
        self.0.shutdown(with_token(v1::ShutdownRequest { drain_ms })).await.unwrap();
    }
}

/// A worker that says what the test tells it to; heartbeats go out by themselves.
pub(crate) struct Worker {
    said: mpsc::Sender<v1::NodeMessage>,
    orders: Streaming<v1::HeadMessage>,
    pub(crate) epoch: u64,
    pub(crate) cluster_id: String,
    beating: tokio::task::JoinHandle<()>,
}

pub(crate) fn register(name: &str) -> v1::Register {
    v1::Register {
        node_id: format!("{name}-id"),
        name: name.into(),
        address: format!("127.0.0.1:1{}", name.len()),
        resources: Some(v1::Resources { cpu_milli: 2000, memory_bytes: 8 << 30, gpus: vec![] }),
        pid: 42,
        version: "0.1.0".into(),
        ..v1::Register::default()
    }
}

impl Worker {
    pub(crate) async fn join(head: &Head, register: v1::Register) -> Result<Self, Status> {
        let mut client = NodeServiceClient::new(member_channel(head).await);
        let (said, messages) = mpsc::channel(64);
        said.send(v1::NodeMessage { body: Some(Said::Register(register)) }).await.unwrap();
        let mut orders = client.session(ReceiverStream::new(messages)).await?.into_inner();
        let first = orders.message().await?.unwrap();
        let Some(Order::Registered(registered)) = first.body else {
            panic!("expected `registered`: {first:?}")
        };
        assert_eq!(registered.heartbeat_ms, 100);
        let beats = said.clone();
        let beating = tokio::spawn(async move {
            let beat = v1::NodeMessage { body: Some(Said::Heartbeat(v1::Heartbeat::default())) };
            while beats.send(beat.clone()).await.is_ok() {
                // The pace of the beats.
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        });
        Ok(Self { said, orders, epoch: first.epoch, cluster_id: registered.cluster_id, beating })
    }

    /// The next order, its epoch checked.
    pub(crate) async fn order(&mut self) -> Order {
        let message =
            tokio::time::timeout(LIMIT, self.orders.message()).await.expect("an order came in time");
        let message = message.unwrap().expect("the head goes on");
        assert_eq!(message.epoch, self.epoch, "every order carries the term");
        message.body.unwrap()
    }

    pub(crate) async fn start_order(&mut self) -> v1::StartReplica {
        let Order::Start(start) = self.order().await else { panic!("expected an order to start") };
        start
    }

    pub(crate) async fn stop_order(&mut self) -> v1::StopReplica {
        let Order::Stop(stop) = self.order().await else { panic!("expected an order to stop") };
        stop
    }

    /// Nothing else is ordered: deploys a pipeline and takes its start for the next order. Orders come in the order in
    /// which they were decided, so what was decided before would come before it.
    pub(crate) async fn expect_no_order(&mut self, control: &mut Control, barrier: &str) {
        control.deploy(echo(barrier, 1, "0ms")).await.unwrap();
        let start = self.serve_next().await;
        assert_eq!(start.pipeline, barrier, "unexpected order {start:?}");
    }

    pub(crate) async fn report(&self, start: &v1::StartReplica, state: ReplicaState) {
        self.said.send(v1::NodeMessage { body: Some(Said::Replica(report(start, state))) }).await.unwrap();
    }

    pub(crate) async fn say(&self, report: v1::ReplicaReport) {
        self.said.send(v1::NodeMessage { body: Some(Said::Replica(report)) }).await.unwrap();
    }

    /// Starts what is ordered next and says that it is ready.
    pub(crate) async fn serve_next(&mut self) -> v1::StartReplica {
        let start = self.start_order().await;
        self.report(&start, ReplicaState::Starting).await;
        self.report(&start, ReplicaState::Ready).await;
        start
    }

    /// Says last words and ends the stream in the same breath.
    pub(crate) async fn leave_with(self, last: v1::ReplicaReport) {
        self.beating.abort();
        self.say(last).await;
    }

    /// Ends as a killed process does.
    pub(crate) fn kill(self) {
        self.beating.abort();
    }
}

pub(crate) fn report(start: &v1::StartReplica, state: ReplicaState) -> v1::ReplicaReport {
    v1::ReplicaReport {
        replica_id: start.replica_id.clone(),
        pipeline: start.pipeline.clone(),
        deployment: start.deployment.clone(),
        revision: start.revision,
        state: state.into(),
        pid: 42,
        gpus: start.gpus.clone(),
        ..v1::ReplicaReport::default()
    }
}

/// An ingress that confirms each table when it is told to.
pub(crate) struct Ingress {
    client: RouteServiceClient<Channel>,
    said: mpsc::Sender<v1::IngressMessage>,
    messages: Streaming<v1::RouteMessage>,
    pub(crate) epoch: u64,
    pub(crate) cluster_id: String,
}

impl Ingress {
    pub(crate) async fn join(head: &Head, name: &str) -> Self {
        Self::join_cluster(head, name, "").await.unwrap()
    }

    /// Joins as an ingress that serves that cluster.
    pub(crate) async fn join_cluster(head: &Head, name: &str, cluster_id: &str) -> Result<Self, Status> {
        let mut client = RouteServiceClient::new(member_channel(head).await);
        let (said, messages) = mpsc::channel(64);
        let hello = v1::Hello {
            ingress_id: name.into(),
            name: name.into(),
            address: "127.0.0.1:8000".into(),
            pid: 7,
            cluster_id: cluster_id.into(),
            ..Default::default()
        };
        said.send(v1::IngressMessage { body: Some(v1::ingress_message::Body::Hello(hello)) }).await.unwrap();
        let messages = client.session(ReceiverStream::new(messages)).await?.into_inner();
        let mut ingress = Self { client, said, messages, epoch: 0, cluster_id: String::new() };
        let v1::route_message::Body::Welcome(welcome) = ingress.message().await else {
            panic!("expected a welcome")
        };
        ingress.cluster_id = welcome.cluster_id;
        Ok(ingress)
    }

    pub(crate) async fn message(&mut self) -> v1::route_message::Body {
        let message =
            tokio::time::timeout(LIMIT, self.messages.message()).await.expect("a message came in time");
        let message = message.unwrap().expect("the head goes on");
        self.epoch = message.epoch;
        message.body.unwrap()
    }

    pub(crate) async fn table(&mut self) -> v1::RouteTable {
        let v1::route_message::Body::Table(table) = self.message().await else { panic!("expected a table") };
        v1::RouteTable::decode(table).unwrap()
    }

    pub(crate) async fn source(
        &mut self,
        pipeline: &str,
        revision: u64,
    ) -> Result<v1::GetSourceResponse, Status> {
        let request = v1::GetSourceRequest { pipeline: pipeline.into(), revision };
        self.client.get_source(request).await.map(tonic::Response::into_inner)
    }

    /// The first table, counted from now, in which the replicas of a deployment are these.
    pub(crate) async fn until_routed(&mut self, pipeline: &str, replicas: &[&str]) -> v1::RouteTable {
        loop {
            let table = self.table().await;
            if routed(&table, pipeline) == replicas {
                return table;
            }
        }
    }

    pub(crate) async fn ack(&self, version: Option<v1::TableVersion>) {
        let body = Some(v1::ingress_message::Body::Ack(v1::Ack { version }));
        self.said.send(v1::IngressMessage { body }).await.unwrap();
    }

    pub(crate) async fn load(&self, pipeline: &str, deployment: &str, ongoing: u64, queued: u64) {
        let load = v1::DeploymentLoad {
            pipeline: pipeline.into(),
            deployment: deployment.into(),
            ongoing,
            queued,
            ..Default::default()
        };
        let body = Some(v1::ingress_message::Body::Load(v1::LoadReport {
            deployments: vec![load],
            pipelines: vec![],
        }));
        self.said.send(v1::IngressMessage { body }).await.unwrap();
    }

    /// Whether the head ends the stream.
    pub(crate) async fn ends(&mut self) -> bool {
        let ended = async { while let Ok(Some(_)) = self.messages.message().await {} };
        tokio::time::timeout(LIMIT, ended).await.is_ok()
    }
}

/// All replicas of a pipeline in a table.
pub(crate) fn routed<'a>(table: &'a v1::RouteTable, pipeline: &str) -> Vec<&'a str> {
    let routes = table.pipelines.iter().filter(|route| route.name == pipeline);
    let deployments = routes.flat_map(|route| &route.deployments);
    deployments.flat_map(|route| &route.replicas).map(|replica| replica.replica_id.as_str()).collect()
}

/// An echo pipeline; `delay` makes texts differ so that replicas are replaced.
pub(crate) fn echo(name: &str, replicas: u32, delay: &str) -> Echo {
    Echo::new(name).deployment(&format!("delay = \"{delay}\"")).replicas(replicas)
}
