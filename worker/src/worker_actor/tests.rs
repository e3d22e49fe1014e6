//! A worker's actors with real engines, without a head.

use millstream_pipelines::{DeploymentSpec, Echo, EngineKind};
use millstream_proto::RequestId;
use millstream_proto::call::{CallEvent, CallRequest, PendingCall, ReplicaClient};
use millstream_proto::{NodeId, v1};
use millstream_replica::testing::{Probe, StepFactory};
use millstream_test_support::{LIMIT, until};
use millstream_values::{CallError, ErrorClass, Started, Value};

use millstream_engine::ModelStore;

use super::*;
use crate::echo::EchoFactory;
use crate::engines::Engines;
use crate::table::ReplicaTable;
use crate::testing;

struct Bench {
    worker: ActorRef<WorkerMsg>,
    table: Arc<ReplicaTable>,
    probe: Probe,
}

impl Bench {
    async fn new() -> Self {
        let (table, probe) = (Arc::new(ReplicaTable::default()), Probe::default());
        let engines = Engines::of(vec![Box::new(EchoFactory), Box::new(StepFactory(probe.clone()))]);
        let node = Arc::new(Node {
            id: NodeId::new(uuid::Uuid::new_v4().to_string()),
            table: table.clone(),
            engines: Arc::new(engines),
            models: ModelStore::default(),
            model_dirs: Arc::new([]),
            num_cores: 2,
        });
        let args = WorkerArgs { node, link: None };
        let (worker, _) = WorkerActor::spawn(None, WorkerActor, args).await.unwrap();
        Self { worker, table, probe }
    }

    fn order(&self, id: &str, spec: &DeploymentSpec) {
        let order = Order::try_from(testing::start(id, spec)).unwrap();
        self.worker.cast(WorkerMsg::Event(Event::Start(Arc::new(order)))).unwrap();
    }

    async fn start(&self, id: &str, spec: &DeploymentSpec) {
        self.order(id, spec);
        self.state(id, v1::ReplicaState::Ready).await;
    }

    fn stop(&self, id: &str, drain: Duration) {
        self.worker.cast(WorkerMsg::Event(Event::Stop { id: id.into(), drain })).unwrap();
    }

    async fn reports(&self) -> Vec<v1::ReplicaReport> {
        self.worker.call(WorkerMsg::Inspect, None).await.unwrap().unwrap()
    }

    /// Waits until the replica is in that state.
    async fn state(&self, id: &str, state: v1::ReplicaState) -> v1::ReplicaReport {
        let look =
            async || self.reports().await.into_iter().find(|it| it.replica_id == id && it.state() == state);
        until(&format!("{id} is {state:?}"), look).await
    }

    async fn gone(&self, id: &str) {
        let look = async || self.reports().await.iter().all(|it| it.replica_id != id).then_some(());
        until(&format!("{id} is gone"), look).await;
    }

    fn call(&self, id: &str, text: &str) -> PendingCall {
        self.table.call(&id.into(), request(text))
    }

    async fn answer(&self, id: &str, text: &str) -> CallEvent {
        self.call(id, text).next().await
    }
}

fn request(text: &str) -> CallRequest {
    CallRequest::new(RequestId::random(), Value::map([("text", Value::from(text))]))
}

fn done(text: &str) -> CallEvent {
    CallEvent::Done(Value::map([("text", Value::from(text))]))
}

fn slow_spec(delay: Duration) -> DeploymentSpec {
    let echo = Echo { delay, fail_ratio: 0.0, crash_on: Some("boom".into()) };
    DeploymentSpec { engine_settings: Some(echo.into()), ..testing::echo_spec("slow") }
}

fn stepping_spec() -> DeploymentSpec {
    DeploymentSpec { engine: EngineKind::Auto, engine_settings: None, ..testing::echo_spec("model") }
}

fn failure(event: CallEvent) -> CallError {
    match event {
        CallEvent::Failed(error) => error,
        other => panic!("expected a failure, got {other:?}"),
    }
}

const MINUTE: Duration = Duration::from_secs(60);

#[tokio::test]
async fn echo_and_computing_replicas_answer() {
    let bench = Bench::new().await;
    bench.start("a", &testing::echo_spec("echo")).await;
    bench.start("b", &stepping_spec()).await;
    assert_eq!(bench.answer("a", "hello").await, done("hello"));
    assert_eq!(bench.answer("b", "hello").await, done("hello"));
    assert_eq!(bench.state("b", v1::ReplicaState::Ready).await.memory_bytes, 7);
    let error = failure(bench.answer("c", "hello").await);
    assert_eq!((error.class, error.started), (ErrorClass::Unavailable, Started::No));
    assert!(bench.table.ongoing().iter().all(|(_, ongoing)| *ongoing == 0));
}

#[tokio::test]
async fn a_caller_that_leaves_ends_the_work() {
    let bench = Bench::new().await;
    bench.start("a", &slow_spec(MINUTE)).await;
    let pending = bench.call("a", "hello");
    assert_eq!(bench.table.ongoing(), [("a".into(), 1)]);
    drop(pending);
    let look = async || (bench.table.ongoing() == [("a".into(), 0)]).then_some(());
    until("the call is over in the replica", look).await;
}

#[tokio::test]
async fn a_full_replica_refuses() {
    let bench = Bench::new().await;
    bench.start("a", &slow_spec(MINUTE)).await;
    let _held: Vec<_> = (0..8).map(|_| bench.call("a", "hello")).collect();
    let error = failure(bench.answer("a", "hello").await);
    assert_eq!((error.class, error.started), (ErrorClass::Overloaded, Started::No));
}

#[tokio::test]
async fn a_passed_deadline_costs_no_work() {
    let bench = Bench::new().await;
    bench.start("a", &testing::echo_spec("echo")).await;
    let request = request("hello").until(Some(millstream_clock::now()));
    let error = failure(bench.table.call(&"a".into(), request).next().await);
    assert_eq!((error.class, error.started), (ErrorClass::DeadlineExceeded, Started::No));
}

#[tokio::test]
async fn draining_refuses_new_calls_and_finishes_the_ongoing() {
    let bench = Bench::new().await;
    bench.start("a", &slow_spec(Duration::from_millis(200))).await;
    let mut pending = bench.call("a", "hello");
    bench.stop("a", MINUTE);
    bench.state("a", v1::ReplicaState::Draining).await;
    until("new calls are refused", async || {
        matches!(bench.answer("a", "late").await, CallEvent::Failed(error) if error.started == Started::No)
            .then_some(())
    })
    .await;
    assert_eq!(pending.next().await, done("hello"));
    bench.gone("a").await;
}

#[tokio::test]
async fn draining_is_bounded() {
    let bench = Bench::new().await;
    bench.start("a", &slow_spec(MINUTE)).await;
    let mut pending = bench.call("a", "hello");
    bench.stop("a", Duration::from_millis(20));
    let error = failure(pending.next().await);
    assert_eq!((error.class, error.started), (ErrorClass::Unavailable, Started::Yes));
    bench.gone("a").await;
}

#[tokio::test]
async fn a_computing_replica_drains_too() {
    let bench = Bench::new().await;
    bench.start("a", &stepping_spec()).await;
    bench.probe.step_gate.shut();
    let mut pending = bench.call("a", "hello");
    bench.stop("a", MINUTE);
    bench.state("a", v1::ReplicaState::Draining).await;
    bench.probe.step_gate.open();
    assert_eq!(pending.next().await, done("hello"));
    bench.gone("a").await;
}

#[tokio::test]
async fn a_crash_fails_one_replica_which_comes_back() {
    let bench = Bench::new().await;
    bench.start("a", &slow_spec(MINUTE)).await;
    bench.start("b", &slow_spec(Duration::from_millis(300))).await;
    let (mut mate, mut neighbour) = (bench.call("a", "hello"), bench.call("b", "hello"));
    for (event, started) in
        [(bench.answer("a", "boom").await, Started::Crashed), (mate.next().await, Started::Yes)]
    {
        let error = failure(event);
        assert_eq!((error.class, error.started), (ErrorClass::Unavailable, started));
    }
    let report = bench.state("a", v1::ReplicaState::Failed).await;
    assert!(report.error.contains("panicked"), "{}", report.error);
    assert_eq!(neighbour.next().await, done("hello"));
    let report = bench.state("a", v1::ReplicaState::Ready).await;
    assert_eq!((report.restarts, report.error.as_str()), (1, ""));
    let mut pending = bench.call("a", "hello");
    assert!(tokio::time::timeout(Duration::from_millis(20), pending.next()).await.is_err(), "it works again");
}

#[tokio::test]
async fn a_panic_on_an_engine_thread_fails_one_replica_which_comes_back() {
    let bench = Bench::new().await;
    bench.start("a", &stepping_spec()).await;
    let error = failure(bench.answer("a", "boom").await);
    assert_eq!((error.class, error.started), (ErrorClass::Unavailable, Started::Crashed));
    bench.state("a", v1::ReplicaState::Failed).await;
    bench.state("a", v1::ReplicaState::Ready).await;
    assert_eq!(bench.answer("a", "hello").await, done("hello"));
}

#[tokio::test]
async fn start_timeout_is_honoured_and_a_stop_does_not_wait_for_the_load() {
    let bench = Bench::new().await;
    bench.probe.load_gate.shut();
    let mut spec = stepping_spec();
    bench.order("b", &spec);
    until("b loads", async || {
        (bench.state("b", v1::ReplicaState::Starting).await.doing == "waiting at the gate").then_some(())
    })
    .await;
    bench.stop("b", MINUTE);
    bench.gone("b").await;

    spec.limits.start_timeout = Duration::from_millis(20);
    bench.order("a", &spec);
    let report = bench.state("a", v1::ReplicaState::Failed).await;
    assert!(report.error.contains("`start_timeout`"), "{}", report.error);
    bench.probe.load_gate.open();
    bench.state("a", v1::ReplicaState::Ready).await;
}

#[tokio::test]
async fn leaving_waits_for_every_replica() {
    let bench = Bench::new().await;
    bench.start("a", &slow_spec(Duration::from_millis(100))).await;
    bench.start("b", &stepping_spec()).await;
    let mut pending = bench.call("a", "hello");
    bench.worker.call(|done| WorkerMsg::Leave { drain: MINUTE, done }, None).await.unwrap().unwrap();
    assert_eq!(pending.next().await, done("hello"));
    assert!(bench.reports().await.is_empty());
    assert!(bench.table.ongoing().is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn under_load_a_crash_and_a_drain_leave_no_call_without_an_answer() {
    let bench = Arc::new(Bench::new().await);
    bench.start("a", &slow_spec(Duration::from_micros(50))).await;
    bench.start("b", &stepping_spec()).await;
    let load = (0..8).map(|number: usize| {
        let (bench, id) = (bench.clone(), if number.is_multiple_of(2) { "a" } else { "b" });
        tokio::spawn(async move {
            let mut num_done = 0;
            for i in 0..400 {
                // One call in the middle crashes the replica, some callers leave before their answer.
                let text = if number < 2 && i == 200 { "boom" } else { "hello" };
                let mut pending = bench.call(id, text);
                if i % 10 == number {
                    continue;
                }
                let event = tokio::time::timeout(LIMIT, pending.next()).await;
                let done = matches!(event.expect("a call without an answer"), CallEvent::Done(_));
                num_done += usize::from(done);
                if !done {
                    // Pacing: a caller that failed does not come back at once.
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
            }
            num_done
        })
    });
    let load: Vec<_> = load.collect();
    for task in load {
        assert!(task.await.unwrap() > 100, "both replicas worked before the crash and came back after it");
    }
    bench.stop("a", MINUTE);
    bench.stop("b", MINUTE);
    bench.gone("a").await;
    bench.gone("b").await;
    assert!(bench.table.ongoing().is_empty());
}
