//! A whole worker against a head of this file, over real gRPC on loopback: registration, orders, calls through the
//! ReplicaService and in the process, epochs, and a head that goes and returns.
#![allow(clippy::unwrap_used, reason = "a test from end to end")]

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use millstream_pipelines::Echo;
use millstream_proto::RequestId;
use millstream_proto::call::{Answer, CallEvent, CallRequest, ReplicaClient};
use millstream_proto::v1::node_service_server::{NodeService, NodeServiceServer};
use millstream_proto::v1::replica_service_client::ReplicaServiceClient;
use millstream_proto::v1::{self, head_message, node_message, reply_frame};
use millstream_values::{ErrorClass, Started, Value};
use millstream_worker::{Config, DeclaredGpu, Worker};
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio_stream::wrappers::{ReceiverStream, TcpListenerStream};
use tonic::{Request, Response, Status, Streaming};

#[path = "../src/testing.rs"]
mod testing;
use testing::{echo_spec, start, until};

/// One worker's stream, as a head sees it.
struct Session {
    register: v1::Register,
    inbound: Streaming<v1::NodeMessage>,
    outbound: mpsc::Sender<Result<v1::HeadMessage, Status>>,
}

impl Session {
    async fn send(&self, epoch: u64, body: head_message::Body) {
        self.outbound.send(Ok(v1::HeadMessage { epoch, body: Some(body) })).await.unwrap();
    }

    /// The next message, heartbeats left out.
    async fn report(&mut self) -> v1::ReplicaReport {
        loop {
            match self.inbound.message().await.unwrap().unwrap().body.unwrap() {
                node_message::Body::Replica(report) => return report,
                node_message::Body::Heartbeat(_) => {}
                node_message::Body::Register(_) => panic!("registered twice on one stream"),
            }
        }
    }

    async fn state(&mut self, replica: &str, state: v1::ReplicaState) -> v1::ReplicaReport {
        let wait = async {
            loop {
                let report = self.report().await;
                if report.replica_id == replica && report.state() == state {
                    return report;
                }
            }
        };
        let found = tokio::time::timeout(Duration::from_secs(10), wait).await;
        found.unwrap_or_else(|_| panic!("{replica} was not reported {state:?}"))
    }

    async fn heartbeat(&mut self) -> v1::Heartbeat {
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
    rejects: Arc<AtomicBool>,
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
        if self.rejects.load(Ordering::SeqCst) {
            return Err(Status::aborted("another live node has this name"));
        }
        let (outbound, unsent) = mpsc::channel(16);
        self.sessions
            .send(Session { register, inbound, outbound })
            .await
            .map_err(|_| Status::unavailable("ends"))?;
        Ok(Response::new(ReceiverStream::new(unsent)))
    }
}

/// A head: takes sessions and says what the test wants.
struct Head {
    address: SocketAddr,
    sessions: mpsc::Receiver<Session>,
    rejects: Arc<AtomicBool>,
}

impl Head {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (sender, sessions) = mpsc::channel(4);
        let rejects = Arc::new(AtomicBool::new(false));
        let service = NodeServiceServer::new(HeadService { sessions: sender, rejects: rejects.clone() });
        tokio::spawn(
            tonic::transport::Server::builder()
                .add_service(service)
                .serve_with_incoming(TcpListenerStream::new(listener)),
        );
        Self { address, sessions, rejects }
    }

    /// The next session, answered as registered.
    async fn session(&mut self, epoch: u64) -> Session {
        let next = tokio::time::timeout(Duration::from_secs(10), self.sessions.recv()).await;
        let session = next.expect("no worker registered").unwrap();
        session.send(epoch, head_message::Body::Registered(v1::Registered { heartbeat_ms: 20 })).await;
        session
    }

    async fn worker(&self, data_dir: &Path) -> Worker {
        let config = Config {
            node_name: "node-1".into(),
            head: self.address.to_string(),
            listen: "127.0.0.1:0".parse().unwrap(),
            data_dir: data_dir.to_owned(),
            labels: BTreeMap::from([("zone".into(), "a".into())]),
            gpus: Some(vec![DeclaredGpu { model: "declared".into(), memory_bytes: 1 << 30 }]),
            model_dirs: vec![],
            onnxruntime: None,
        };
        Worker::start(config).await.unwrap()
    }
}

fn start_echo(id: &str, delay: Duration) -> head_message::Body {
    let mut spec = echo_spec("embedder");
    spec.echo = Some(Echo { delay, fail_ratio: 0.0, crash_on: None });
    head_message::Body::Start(start(id, &spec))
}

fn stop(id: &str) -> head_message::Body {
    head_message::Body::Stop(v1::StopReplica { replica_id: id.into(), drain_ms: 5_000 })
}

fn inputs(text: &str) -> Value {
    Value::map([("text", Value::from(text))])
}

async fn call(client: &dyn ReplicaClient, replica: &str, text: &str) -> CallEvent {
    let request = CallRequest {
        request_id: RequestId::random(),
        inputs: inputs(text),
        deadline: Some(Instant::now() + Duration::from_secs(10)),
        answer: Answer::Whole,
    };
    client.call(&replica.into(), request).next().await
}

/// A stream of calls, as an ingress of another process opens it.
struct Caller {
    frames: mpsc::Sender<v1::CallFrame>,
    replies: Streaming<v1::ReplyFrame>,
}

impl Caller {
    async fn connect(worker: &Worker) -> Self {
        let mut client = ReplicaServiceClient::connect(format!("http://{}", worker.address())).await.unwrap();
        let (frames, unsent) = mpsc::channel(16);
        let replies = client.calls(ReceiverStream::new(unsent)).await.unwrap().into_inner();
        Self { frames, replies }
    }

    async fn start(&self, call_id: u64, replica: &str, text: &str) {
        let value = v1::Value::from(&inputs(text));
        let Some(v1::value::Kind::Map(inputs)) = value.kind else { panic!("expected a map") };
        let start = v1::Start {
            replica_id: replica.into(),
            request_id: "r".into(),
            inputs: Some(inputs),
            deadline_ms: Some(60_000),
            stream: false,
        };
        let body = Some(v1::call_frame::Body::Start(start));
        self.frames.send(v1::CallFrame { call_id, body }).await.unwrap();
    }

    async fn cancel(&self, call_id: u64) {
        let body = Some(v1::call_frame::Body::Cancel(v1::Cancel {}));
        self.frames.send(v1::CallFrame { call_id, body }).await.unwrap();
    }

    async fn next(&mut self) -> (u64, reply_frame::Body) {
        let frame = tokio::time::timeout(Duration::from_secs(10), self.replies.message()).await.unwrap();
        let frame = frame.unwrap().unwrap();
        (frame.call_id, frame.body.unwrap())
    }
}

#[tokio::test]
async fn a_worker_registers_runs_what_it_is_told_and_reports() {
    let dir = tempfile::tempdir().unwrap();
    let mut head = Head::start().await;
    let worker = head.worker(dir.path()).await;
    let mut session = head.session(1).await;
    let register = session.register.clone();
    assert_eq!(register.node_id, worker.node_id().as_str());
    assert_eq!((&*register.name, &*register.address), ("node-1", &*worker.address().to_string()));
    assert_eq!((register.epoch, register.replicas.len()), (0, 0));
    assert_eq!(register.labels["zone"], "a");
    assert_eq!(register.resources.unwrap().gpus[0].model, "declared");

    session.send(1, start_echo("e-1", Duration::ZERO)).await;
    let report = session.state("e-1", v1::ReplicaState::Ready).await;
    assert_eq!((&*report.pipeline, &*report.deployment, report.revision), ("rag", "embedder", 3));
    assert_eq!(report.gpus, [v1::GpuShare { index: 0, milli: 250 }]);
    assert_eq!(session.heartbeat().await.ongoing["e-1"], 0);
    session.send(1, start_echo("e-1", Duration::ZERO)).await;
    assert_eq!(
        session.report().await.state(),
        v1::ReplicaState::Ready,
        "a start twice is answered by a report"
    );

    assert_eq!(call(&*worker.client(), "e-1", "hello").await, CallEvent::Done(inputs("hello")));
    session.send(1, stop("e-1")).await;
    session.state("e-1", v1::ReplicaState::Stopped).await;
    session.send(1, stop("e-1")).await;
    assert_eq!(
        session.report().await.state(),
        v1::ReplicaState::Stopped,
        "unknown replicas count as stopped"
    );
}

#[tokio::test]
async fn calls_are_multiplexed_cancelled_and_refused_over_the_network() {
    let dir = tempfile::tempdir().unwrap();
    let mut head = Head::start().await;
    let worker = head.worker(dir.path()).await;
    let mut session = head.session(1).await;
    session.send(1, start_echo("fast", Duration::ZERO)).await;
    session.send(1, start_echo("slow", Duration::from_secs(60))).await;
    session.state("fast", v1::ReplicaState::Ready).await;
    session.state("slow", v1::ReplicaState::Ready).await;

    let mut caller = Caller::connect(&worker).await;
    caller.start(1, "slow", "held").await;
    until("the slow call runs", async || (session.heartbeat().await.ongoing["slow"] == 1).then_some(()))
        .await;
    caller.start(2, "fast", "hello").await;
    let (call_id, reply_frame::Body::Done(value)) = caller.next().await else { panic!("expected an answer") };
    assert_eq!(
        (call_id, Value::try_from(value).unwrap()),
        (2, inputs("hello")),
        "nobody waits for the slow call"
    );

    caller.start(3, "nobody", "hello").await;
    let (3, reply_frame::Body::Failed(failure)) = caller.next().await else { panic!("expected a failure") };
    assert_eq!((failure.class(), failure.started), (v1::ErrorClass::Unavailable, false));

    caller.cancel(1).await;
    caller.cancel(99).await;
    until("the cancelled call ends", async || (session.heartbeat().await.ongoing["slow"] == 0).then_some(()))
        .await;
    // An id is free again when its call is over.
    caller.start(1, "slow", "held").await;
    until("the next call runs", async || (session.heartbeat().await.ongoing["slow"] == 1).then_some(()))
        .await;
    drop(caller);
    until("a broken stream ends its calls", async || {
        (session.heartbeat().await.ongoing["slow"] == 0).then_some(())
    })
    .await;
}

#[tokio::test]
async fn bad_frames_end_the_call_or_the_stream_and_never_the_worker() {
    let dir = tempfile::tempdir().unwrap();
    let mut head = Head::start().await;
    let worker = head.worker(dir.path()).await;
    let mut session = head.session(1).await;
    session.send(1, start_echo("slow", Duration::from_secs(60))).await;
    session.state("slow", v1::ReplicaState::Ready).await;

    let mut caller = Caller::connect(&worker).await;
    let body =
        Some(v1::call_frame::Body::Start(v1::Start { replica_id: "slow".into(), ..v1::Start::default() }));
    caller.frames.send(v1::CallFrame { call_id: 1, body }).await.unwrap();
    let (1, reply_frame::Body::Failed(failure)) = caller.next().await else { panic!("expected a failure") };
    assert_eq!(failure.class(), v1::ErrorClass::Malformed);
    caller.start(2, "slow", "held").await;
    caller.start(2, "slow", "held").await;
    assert_eq!(caller.replies.message().await.unwrap_err().code(), tonic::Code::InvalidArgument);
    until("the stream's calls end", async || (session.heartbeat().await.ongoing["slow"] == 0).then_some(()))
        .await;
}

#[tokio::test]
async fn replicas_outlive_the_session_and_are_registered_again() {
    let dir = tempfile::tempdir().unwrap();
    let mut head = Head::start().await;
    let worker = head.worker(dir.path()).await;
    let mut session = head.session(1).await;
    session.send(1, start_echo("e-1", Duration::ZERO)).await;
    session.state("e-1", v1::ReplicaState::Ready).await;
    drop(session);
    assert_eq!(call(&*worker.client(), "e-1", "hello").await, CallEvent::Done(inputs("hello")));
    let mut session = head.session(1).await;
    assert_eq!(session.register.replicas.len(), 1);
    assert_eq!(session.register.replicas[0].state(), v1::ReplicaState::Ready);
    session.send(1, stop("e-1")).await;
    session.state("e-1", v1::ReplicaState::Stopped).await;
}

#[tokio::test]
async fn orders_of_an_older_epoch_are_refused_even_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let mut head = Head::start().await;
    let worker = head.worker(dir.path()).await;
    let mut session = head.session(5).await;
    session.send(4, start_echo("old", Duration::ZERO)).await;
    session.send(5, start_echo("new", Duration::ZERO)).await;
    assert_eq!(session.report().await.replica_id, "new", "nothing was done for the older epoch");
    let node_id = worker.node_id().clone();
    drop((worker, session));

    let worker = head.worker(dir.path()).await;
    assert_eq!(*worker.node_id(), node_id);
    let mut session = head.session(4).await;
    assert_eq!(session.register.epoch, 5);
    session.send(4, start_echo("old", Duration::ZERO)).await;
    session.send(6, start_echo("new", Duration::ZERO)).await;
    assert_eq!(session.report().await.replica_id, "new");
}

#[tokio::test]
async fn a_refused_registration_is_tried_again() {
    let dir = tempfile::tempdir().unwrap();
    let mut head = Head::start().await;
    head.rejects.store(true, Ordering::SeqCst);
    let worker = head.worker(dir.path()).await;
    let early = tokio::time::timeout(Duration::from_millis(200), head.sessions.recv()).await;
    assert!(early.is_err());
    head.rejects.store(false, Ordering::SeqCst);
    assert_eq!(head.session(1).await.register.node_id, worker.node_id().as_str());
}

#[tokio::test]
async fn asked_to_stop_it_drains_and_says_goodbye() {
    let dir = tempfile::tempdir().unwrap();
    let mut head = Head::start().await;
    let worker = head.worker(dir.path()).await;
    let mut session = head.session(1).await;
    session.send(1, start_echo("e-1", Duration::from_millis(300))).await;
    session.state("e-1", v1::ReplicaState::Ready).await;
    let client = worker.client();
    let ongoing = tokio::spawn({
        let client = client.clone();
        async move { call(&*client, "e-1", "hello").await }
    });
    until("the call runs", async || (session.heartbeat().await.ongoing["e-1"] == 1).then_some(())).await;
    session.send(1, head_message::Body::Shutdown(v1::Shutdown { drain_ms: 9_000 })).await;
    assert_eq!(worker.asked_to_stop().await, Duration::from_secs(9));

    let draining = tokio::spawn(worker.drain(Duration::from_secs(9)));
    session.state("e-1", v1::ReplicaState::Draining).await;
    let CallEvent::Failed(refused) = call(&*client, "e-1", "late").await else {
        panic!("expected a refusal")
    };
    assert_eq!((refused.class, refused.started), (ErrorClass::Unavailable, Started::No));
    assert_eq!(ongoing.await.unwrap(), CallEvent::Done(inputs("hello")));
    session.state("e-1", v1::ReplicaState::Stopped).await;
    assert!(session.inbound.message().await.unwrap().is_none(), "the stream ends in order");
    drop(session);
    tokio::time::timeout(Duration::from_secs(10), draining).await.unwrap().unwrap();
}
