//! A head and a calling ingress, as the worker sees them: real gRPC on loopback, saying what a test wants.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use millstream_connect::{Authority, Secret, dial, handshake, serve_grpc};
use millstream_link::{Caller, Duplex, socket_name};
use millstream_listen::{ConnectionLimits, Server};
use millstream_pipelines::Echo;
use millstream_proto::RequestId;
use millstream_proto::call::{CallEvent, CallRequest, PendingCall, ReplicaClient};
use millstream_proto::v1::node_service_server::{NodeService, NodeServiceServer};
use millstream_proto::v1::{self, head_message, node_message};
use millstream_test_support::{JOIN_TOKEN, LIMIT};
use millstream_values::Value;
use millstream_worker::{Config, DeclaredGpu, HeadPlace, Listen, Worker};
use tokio::net::{TcpListener, UnixStream};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::task::AbortOnDropHandle;
use tonic::service::Routes;
use tonic::{Request, Response, Status, Streaming};

#[path = "../../src/testing.rs"]
pub(crate) mod testing;
use testing::{echo_spec, start};

fn secret() -> Secret {
    Secret::new(Authority::Member, JOIN_TOKEN)
}

/// One worker's stream, as a head sees it.
pub(crate) struct Session {
    pub(crate) register: v1::Register,
    pub(crate) inbound: Streaming<v1::NodeMessage>,
    outbound: mpsc::Sender<Result<v1::HeadMessage, Status>>,
    /// The last report of each replica.
    latest: BTreeMap<String, v1::ReplicaReport>,
}

impl Session {
    pub(crate) async fn send(&self, epoch: u64, body: head_message::Body) {
        self.outbound.send(Ok(v1::HeadMessage { epoch, body: Some(body) })).await.unwrap();
    }

    /// The next message, heartbeats left out.
    pub(crate) async fn report(&mut self) -> v1::ReplicaReport {
        loop {
            match self.inbound.message().await.unwrap().unwrap().body.unwrap() {
                node_message::Body::Replica(report) => {
                    self.latest.insert(report.replica_id.clone(), report.clone());
                    return report;
                }
                node_message::Body::Heartbeat(_) => {}
                node_message::Body::Register(_) => panic!("registered twice on one stream"),
            }
        }
    }

    /// Reads reports until the replica's latest one has that state.
    pub(crate) async fn state(&mut self, replica: &str, state: v1::ReplicaState) -> v1::ReplicaReport {
        let wait = async {
            loop {
                match self.latest.get(replica) {
                    Some(report) if report.state() == state => return report.clone(),
                    _ => self.report().await,
                };
            }
        };
        let found = tokio::time::timeout(LIMIT, wait).await;
        found.unwrap_or_else(|_| panic!("{replica} was not reported {state:?}"))
    }

    pub(crate) async fn heartbeat(&mut self) -> v1::Heartbeat {
        loop {
            if let node_message::Body::Heartbeat(beat) =
                self.inbound.message().await.unwrap().unwrap().body.unwrap()
            {
                return beat;
            }
        }
    }
}

struct HeadService {
    sessions: mpsc::Sender<Session>,
    refuses: Arc<Mutex<Option<Status>>>,
    num_refused: Arc<AtomicUsize>,
}

#[tonic::async_trait]
impl NodeService for HeadService {
    type SessionStream = ReceiverStream<Result<v1::HeadMessage, Status>>;

    async fn session(
        &self,
        request: Request<Streaming<v1::NodeMessage>>,
    ) -> Result<Response<Self::SessionStream>, Status> {
        let mut inbound = request.into_inner();
        let first = inbound.message().await?.and_then(|message| message.body);
        let Some(node_message::Body::Register(register)) = first else {
            return Err(Status::invalid_argument("the first message must be `register`"));
        };
        if let Some(refusal) = self.refuses.lock().unwrap().clone() {
            self.num_refused.fetch_add(1, Ordering::SeqCst);
            return Err(refusal);
        }
        let (outbound, unsent) = mpsc::channel(16);
        let session = Session { register, inbound, outbound, latest: BTreeMap::new() };
        self.sessions.send(session).await.map_err(|_| Status::unavailable("ends"))?;
        Ok(Response::new(ReceiverStream::new(unsent)))
    }
}

/// A head: takes sessions and says what the test wants.
pub(crate) struct Head {
    pub(crate) address: SocketAddr,
    pub(crate) sessions: mpsc::Receiver<Session>,
    /// What registrations are refused with.
    pub(crate) refuses: Arc<Mutex<Option<Status>>>,
    pub(crate) num_refused: Arc<AtomicUsize>,
    _server: Server,
}

impl Head {
    pub(crate) async fn start() -> Self {
        Self::start_with(JOIN_TOKEN).await
    }

    /// One that knows another token.
    pub(crate) async fn start_with(join_token: &str) -> Self {
        let secret = Secret::new(Authority::Member, join_token);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (sender, sessions) = mpsc::channel(4);
        let refuses = Arc::new(Mutex::new(None));
        let num_refused = Arc::new(AtomicUsize::new(0));
        let service = NodeServiceServer::new(HeadService {
            sessions: sender,
            refuses: refuses.clone(),
            num_refused: num_refused.clone(),
        });
        let (limits, routes) = (ConnectionLimits::members(), Routes::new(service));
        let server = serve_grpc(listener, limits, vec![secret], routes);
        Self { address, sessions, refuses, num_refused, _server: server }
    }

    /// The next session, answered as registered.
    pub(crate) async fn session(&mut self, epoch: u64) -> Session {
        let next = tokio::time::timeout(LIMIT, self.sessions.recv()).await;
        let session = next.expect("no worker registered").unwrap();
        session
            .send(
                epoch,
                head_message::Body::Registered(v1::Registered {
                    heartbeat_ms: 20,
                    cluster_id: "cluster-1".into(),
                }),
            )
            .await;
        session
    }

    /// Settings of a worker that joins this head.
    pub(crate) fn config(&self, data_dir: &Path) -> Config {
        Config {
            node_name: "node-1".into(),
            heads: self.address.to_string().parse().unwrap(),
            join_token: JOIN_TOKEN.into(),
            head: HeadPlace::Elsewhere,
            listen: Listen { calls: "127.0.0.1:0".parse().unwrap(), admin: None },
            data_dir: data_dir.to_owned(),
            labels: BTreeMap::from([("zone".into(), "a".into())]),
            gpus: Some(vec![DeclaredGpu { model: "declared".into(), memory_bytes: 1 << 30 }]),
            model_dirs: vec![],
            onnxruntime: None,
            environment: BTreeMap::new(),
            socket_dir: Some(data_dir.to_owned()),
        }
    }

    pub(crate) async fn worker(&self, data_dir: &Path) -> Worker {
        Worker::start(self.config(data_dir)).await.unwrap()
    }
}

pub(crate) fn start_echo(id: &str, delay: Duration) -> head_message::Body {
    let mut spec = echo_spec("embedder");
    spec.engine_settings = Some(Echo { delay, fail_ratio: 0.0, crash_on: None }.into());
    head_message::Body::Start(start(id, &spec))
}

pub(crate) fn stop(id: &str) -> head_message::Body {
    head_message::Body::Stop(v1::StopReplica { replica_id: id.into(), drain_ms: 5_000 })
}

pub(crate) fn inputs(text: &str) -> Value {
    Value::map([("text", Value::from(text))])
}

pub(crate) async fn call(client: &dyn ReplicaClient, replica: &str, text: &str) -> CallEvent {
    let deadline = Instant::now() + Duration::from_secs(10);
    let request = CallRequest::new(RequestId::random(), inputs(text)).until(Some(deadline));
    client.call(&replica.into(), request).next().await
}

/// A link to a worker, as an ingress of another process opens it.
pub(crate) struct Remote {
    caller: Caller,
    _run: AbortOnDropHandle<()>,
}

impl Remote {
    /// Over TCP.
    pub(crate) async fn connect(worker: &Worker) -> Self {
        Self::over(dial(&worker.address().to_string(), &secret()).await.unwrap())
    }

    /// Over the Unix socket in that folder.
    pub(crate) async fn connect_nearby(worker: &Worker, socket_dir: &Path) -> Self {
        let path = socket_dir.join(socket_name(worker.node_id()));
        let mut stream = UnixStream::connect(path).await.unwrap();
        handshake::call(&mut stream, &secret()).await.unwrap();
        Self::over(stream)
    }

    fn over(stream: impl Duplex) -> Self {
        let caller = Caller::default();
        let running = caller.clone();
        let run = tokio::spawn(async move { drop(running.run(stream).await) });
        Self { caller, _run: AbortOnDropHandle::new(run) }
    }

    pub(crate) fn start(&self, replica: &str, text: &str) -> PendingCall {
        self.caller.call(&replica.into(), CallRequest::new(RequestId::random(), inputs(text)))
    }

    pub(crate) async fn call(&self, replica: &str, inputs: Value) -> CallEvent {
        let mut pending = self.caller.call(&replica.into(), CallRequest::new(RequestId::random(), inputs));
        tokio::time::timeout(LIMIT, pending.next()).await.expect("an answer in time")
    }
}
