//! A head and workers as an ingress sees them: real gRPC servers whose answers are scripted. Nothing of the ingress is
//! replaced.

mod head;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use millstream_connect::{Authority, Secret, serve};
use millstream_ingress::{Config, Folders, HttpLimits, Ingress, LocalWorker, TraceConfig, Visitors};
use millstream_listen::ConnectionLimits;
use millstream_proto::call::{self, CallContext, CallRequest, PendingCall, ReplicaClient, Reply};
use millstream_proto::{CallError, ErrorClass, IngressId, ReplicaId, Started as HasStarted, Value};
use millstream_test_support::{Echo, JOIN_TOKEN, until};
use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;

pub(crate) use self::head::{FakeHead, Table, number, table};

/// A pipeline with one stage that echoes, whose replicas take four calls at a time.
pub(crate) fn echo() -> Echo {
    echo_with("max_ongoing_requests = 4")
}

/// The same with these settings of its deployment `model`.
pub(crate) fn echo_with(deployment: &str) -> Echo {
    Echo::new("echo").field("count = { type = \"int\", default = 1, max = 9 }").deployment(deployment)
}

/// A pipeline whose answer streams.
pub(crate) const GENERATE: &str = r#"
name  = "gen"
route = "/gen"

[request]
question = "text"

[deployments.generator]
task = "generate"
engine = "generator"
model = "file:model"

[stages.answer]
use = "generator"
prompt = "Q: {{ request.question }}"

[response]
answer = "answer.text"
"#;

/// Waits until a condition holds.
pub(crate) async fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    until(what, async || holds().then_some(())).await;
}

/// What a scripted replica does with a call.
#[derive(Debug, Clone)]
pub(crate) enum Reaction {
    /// Answers its inputs.
    Echo,
    /// Refuses before it has started.
    Refuse(ErrorClass),
    /// Fails after it has started.
    Fail(ErrorClass),
    /// Sends these parts as text and then the whole text.
    Parts(Vec<&'static str>),
    /// Sends these parts and then nothing more.
    PartsThenHang(Vec<&'static str>),
    /// Sends these parts and then fails.
    PartsThenFail(Vec<&'static str>),
    /// Crashes its replica.
    Crash,
    /// Never answers.
    Hang,
    /// Answers its inputs after a while.
    EchoAfter(Duration),
}

type Script = Arc<dyn Fn(&Started) -> Reaction + Send + Sync>;

/// A call as a worker sees it.
pub(crate) struct Started {
    pub(crate) replica_id: String,
    pub(crate) request_id: String,
    pub(crate) request: CallRequest,
}

/// A worker on a runtime of its own, so that it can die like a process.
pub(crate) struct FakeWorker {
    pub(crate) address: SocketAddr,
    seen: Arc<Mutex<Seen>>,
    runtime: Option<tokio::runtime::Runtime>,
}

/// What a worker has seen.
#[derive(Default, Clone)]
pub(crate) struct Seen {
    /// Ids of the replicas called, in order.
    pub(crate) started: Vec<String>,
    /// Request ids of the calls, in order.
    pub(crate) request_ids: Vec<String>,
    /// Time left to the calls.
    pub(crate) deadlines_ms: Vec<Option<u64>>,
    /// What came with the calls.
    pub(crate) contexts: Vec<CallContext>,
    /// Calls that are never answered.
    held: Vec<Arc<Reply>>,
    /// Calls cancelled.
    pub(crate) num_cancelled: usize,
    /// Streams opened.
    pub(crate) num_streams: usize,
    /// Streams closed.
    pub(crate) num_closed: usize,
    /// Calls that are answered after a while: under way, and the most of them at one time.
    num_delayed: usize,
    pub(crate) most_at_once: usize,
}

struct Replicas {
    script: Script,
    seen: Arc<Mutex<Seen>>,
}

impl ReplicaClient for Replicas {
    fn call(&self, replica: &ReplicaId, request: CallRequest) -> PendingCall {
        let CallContext { request_id, deadline, .. } = &request.context;
        let left = deadline.map(|at| at.saturating_duration_since(std::time::Instant::now()));
        let started =
            Started { replica_id: replica.to_string(), request_id: request_id.to_string(), request };
        {
            let mut seen = self.seen.lock();
            seen.started.push(started.replica_id.clone());
            seen.request_ids.push(started.request_id.clone());
            seen.deadlines_ms.push(left.map(|left| u64::try_from(left.as_millis()).unwrap()));
            seen.contexts.push(started.request.context.clone());
        }
        let (reply, pending) = call::channel(started.request.parts());
        // A caller that leaves drops its end before there is an answer.
        let answered = Arc::new(AtomicBool::new(false));
        let (at_end, seen) = (answered.clone(), self.seen.clone());
        let reply = reply.on_end(move || at_end.store(true, Ordering::Relaxed));
        react((self.script)(&started), started, reply, &self.seen);
        pending.on_drop(move || seen.lock().num_cancelled += usize::from(!answered.load(Ordering::Relaxed)))
    }
}

fn react(reaction: Reaction, started: Started, reply: Reply, seen: &Arc<Mutex<Seen>>) {
    let parts_of = |reply: &Reply, parts: &[&'static str]| {
        for part in parts {
            reply.delta(text_value(part));
        }
    };
    let inputs = started.request.inputs;
    match reaction {
        Reaction::Echo => reply.finish(Ok(inputs)),
        Reaction::Refuse(class) => {
            reply.finish(Err(CallError::not_started(class, "refused by the script")));
        }
        Reaction::Crash => reply.finish(Err(CallError {
            class: ErrorClass::Unavailable,
            message: "crashed by the script".to_owned(),
            started: HasStarted::Crashed,
        })),
        Reaction::Fail(class) => reply.finish(Err(CallError::started(class, "failed by the script"))),
        Reaction::Parts(parts) => {
            parts_of(&reply, &parts);
            reply.finish(Ok(text_value(&parts.concat())));
        }
        Reaction::PartsThenHang(parts) => {
            parts_of(&reply, &parts);
            seen.lock().held.push(Arc::new(reply));
        }
        Reaction::PartsThenFail(parts) => {
            parts_of(&reply, &parts);
            reply.finish(Err(CallError::started(ErrorClass::Unavailable, "failed by the script")));
        }
        Reaction::Hang => seen.lock().held.push(Arc::new(reply)),
        Reaction::EchoAfter(delay) => {
            let seen = seen.clone();
            {
                let mut seen = seen.lock();
                seen.num_delayed += 1;
                seen.most_at_once = seen.most_at_once.max(seen.num_delayed);
            }
            tokio::spawn(async move {
                // The call takes that long; nothing waits for something here.
                tokio::time::sleep(delay).await;
                seen.lock().num_delayed -= 1;
                reply.finish(Ok(inputs));
            });
        }
    }
}

/// `{text, tokens, finish_reason}`, as generators answer.
fn text_value(text: &str) -> Value {
    Value::map([
        ("text", Value::from(text)),
        ("tokens", Value::Int(1)),
        ("finish_reason", Value::from("stop")),
    ])
}

impl FakeWorker {
    pub(crate) fn start(script: impl Fn(&Started) -> Reaction + Send + Sync + 'static) -> Self {
        Self::start_at("127.0.0.1:0".parse().unwrap(), script)
    }

    pub(crate) fn start_at(
        address: SocketAddr,
        script: impl Fn(&Started) -> Reaction + Send + Sync + 'static,
    ) -> Self {
        let seen = Arc::new(Mutex::new(Seen::default()));
        let replicas = Arc::new(Replicas { script: Arc::new(script), seen: seen.clone() });
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let listener = std::net::TcpListener::bind(address).unwrap();
        listener.set_nonblocking(true).unwrap();
        let address = listener.local_addr().unwrap();
        runtime.spawn(async move {
            let listener = tokio::net::TcpListener::from_std(listener).unwrap();
            let secrets = vec![Secret::new(Authority::Member, JOIN_TOKEN)];
            let _server = serve(listener, ConnectionLimits::members(), secrets, move |connection, _| {
                let (replicas, seen) = (replicas.clone(), replicas.seen.clone());
                async move {
                    seen.lock().num_streams += 1;
                    let _busy = connection.busy();
                    let _ = millstream_link::serve(connection, replicas, CancellationToken::new()).await;
                    seen.lock().num_closed += 1;
                }
            });
            std::future::pending::<()>().await;
        });
        Self { address, seen, runtime: Some(runtime) }
    }

    pub(crate) fn seen(&self) -> Seen {
        self.seen.lock().clone()
    }

    /// Ends it at once, with all its connections.
    pub(crate) fn kill(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

impl Drop for FakeWorker {
    fn drop(&mut self) {
        self.kill();
    }
}

/// A worker of the ingress's own process that answers inputs at once.
pub(crate) struct LocalEcho;

impl ReplicaClient for LocalEcho {
    fn call(&self, _: &ReplicaId, request: CallRequest) -> PendingCall {
        let (reply, pending) = call::channel(request.parts());
        reply.finish(Ok(request.inputs));
        pending
    }
}

/// An ingress that has confirmed the head's table of version 1.
pub(crate) async fn ingress(head: &FakeHead, local: Option<LocalWorker>, limits: HttpLimits) -> Ingress {
    started(head, config(head, local, limits)).await
}

fn config(head: &FakeHead, local: Option<LocalWorker>, limits: HttpLimits) -> Config {
    Config { local, limits, ..config_at(head.address) }
}

/// Settings of an ingress of the head at that address.
pub(crate) fn config_at(head: SocketAddr) -> Config {
    Config {
        name: "test".to_owned(),
        id: IngressId::new("ingress-1"),
        listen: SocketAddr::from(([127, 0, 0, 1], 0)).into(),
        admin: None,
        heads: head.to_string().parse().unwrap(),
        join_token: JOIN_TOKEN.to_owned(),
        local: None,
        limits: HttpLimits::default(),
        visitors: Visitors::default(),
        traces: TraceConfig::default(),
        folders: no_folders(),
    }
}

/// An ingress that keeps nothing.
pub(crate) fn no_folders() -> Folders {
    Folders { captures: "captures".into(), sockets: None, routes: None }
}

async fn started(head: &FakeHead, config: Config) -> Ingress {
    let ingress = Ingress::start(config).await.unwrap();
    eventually("the table is confirmed", || head.acked(1)).await;
    ingress
}

/// The usual set: one pipeline, one deployment, the replicas given, an ingress in front.
pub(crate) struct Setup {
    pub(crate) head: FakeHead,
    pub(crate) ingress: Ingress,
    pub(crate) client: reqwest::Client,
}

impl Setup {
    pub(crate) async fn echo(replicas: &[(&str, SocketAddr)]) -> Self {
        Self::of(table(1, echo(), "model", replicas), HttpLimits::default()).await
    }

    /// The same with traces of that kind.
    pub(crate) async fn echo_traced(replicas: &[(&str, SocketAddr)], traces: TraceConfig) -> Self {
        let head = FakeHead::start(table(1, echo(), "model", replicas));
        let config = Config { traces, ..config(&head, None, HttpLimits::default()) };
        let ingress = started(&head, config).await;
        Self { head, ingress, client: reqwest::Client::new() }
    }

    pub(crate) async fn of(table: Table, limits: HttpLimits) -> Self {
        let head = FakeHead::start(table);
        let ingress = ingress(&head, None, limits).await;
        Self { head, ingress, client: reqwest::Client::new() }
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.ingress.address())
    }

    /// `POST /echo` with a good body.
    pub(crate) fn post_echo(&self) -> reqwest::RequestBuilder {
        self.client.post(self.url("/echo")).json(&serde_json::json!({"text": "hello"}))
    }
}

/// Status and problem document of a response.
pub(crate) async fn problem(response: reqwest::Response) -> (u16, serde_json::Value) {
    let status = response.status().as_u16();
    assert_eq!(response.headers()["content-type"], "application/problem+json");
    let id = response.headers()["x-request-id"].to_str().unwrap().to_owned();
    let document: serde_json::Value = response.json().await.unwrap();
    assert_eq!((&document["status"], &document["request_id"]), (&status.into(), &id.as_str().into()));
    (status, document)
}
