use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

use millstream_calls::RequestId;
use millstream_calls::call::{CallEvent, CallRequest, PendingCall, ResponseMode};
use millstream_engine::{
    Call, ConcurrentEngine, Engine, EngineFuture, LoadError, LoadedModel, Progress, Reply, Stepped,
    SteppingEngine, Uncounted,
};
use millstream_pipelines::Batch;
use millstream_values::{CallError, ErrorClass, Started, Value};

use crate::testing::{Probe, StepEngine};
use crate::{Event, Host, Load, Settings};

/// A running replica and what it tells.
struct Bench {
    host: Host,
    probe: Probe,
    events: mpsc::Receiver<Event>,
}

fn settings() -> Settings {
    Settings { name: "a".into(), max_ongoing: 100, batch: Batch::default(), step_timeout: None }
}

impl Bench {
    /// A replica that is ready.
    fn start(settings: &Settings) -> Self {
        let probe = Probe::default();
        let engine = StepEngine(probe.clone());
        let bench = Self::load(settings, probe, Box::new(|_| Ok(Engine::stepping(engine))));
        bench.wait_for(&Event::Ready(LoadedModel { memory_bytes: 7, signature: None }));
        bench
    }

    fn load(settings: &Settings, probe: Probe, load: Load) -> Self {
        let (sender, events) = mpsc::channel();
        let tell = move |event| drop(sender.send(event));
        let host = Host::start(settings, load, Arc::new(Uncounted), tell).unwrap();
        Self { host, probe, events }
    }

    fn wait_for(&self, expected: &Event) {
        while self.next() != *expected {}
    }

    fn next(&self) -> Event {
        self.events.recv_timeout(Duration::from_secs(10)).unwrap()
    }

    fn ended(&self) -> Option<String> {
        loop {
            if let Event::Ended(failure) = self.next() {
                return failure;
            }
        }
    }

    fn send(&self, text: &str) -> PendingCall {
        self.host.replica().call(request(text))
    }

    /// Shuts the gate and sends a call that then sits in the engine.
    fn occupy(&self, text: &str) -> PendingCall {
        self.probe.step_gate.shut();
        let num_batches = self.probe.batches.lock().unwrap().len();
        let pending = self.send(text);
        while self.probe.batches.lock().unwrap().len() == num_batches {
            std::thread::yield_now();
        }
        pending
    }

    fn batches(&self) -> Vec<usize> {
        self.probe.batches.lock().unwrap().clone()
    }
}

fn request(text: &str) -> CallRequest {
    CallRequest::new(RequestId::new("r"), Value::map([("text", Value::from(text))]))
}

fn failure(event: CallEvent) -> CallError {
    match event {
        CallEvent::Failed(error) => error,
        other => panic!("expected a failure, got {other:?}"),
    }
}

#[tokio::test]
async fn what_came_during_a_step_goes_into_the_next() {
    let bench = Bench::start(&settings());
    let mut calls = vec![bench.occupy("first")];
    calls.extend((0..6).map(|_| bench.send("later")));
    bench.probe.step_gate.open();
    for call in &mut calls {
        assert!(matches!(call.next().await, CallEvent::Done(_)));
    }
    assert_eq!(bench.batches(), [1, 6]);
}

#[tokio::test]
async fn an_engine_gets_no_more_calls_than_it_has_room_for() {
    let bench = Bench::start(&settings());
    *bench.probe.room.lock().unwrap() = 8;
    let mut calls = vec![bench.occupy("first")];
    calls.extend((0..64).map(|_| bench.send("later")));
    bench.probe.step_gate.open();
    for call in &mut calls {
        assert!(matches!(call.next().await, CallEvent::Done(_)));
    }
    assert_eq!(bench.batches(), [1, 8, 8, 8, 8, 8, 8, 8, 8]);
}

#[tokio::test]
async fn a_panic_ends_the_calls_inside_and_gives_back_the_queued() {
    let bench = Bench::start(&settings());
    let mut inside = bench.occupy("boom");
    let mut queued = bench.send("later");
    bench.probe.step_gate.open();
    let error = failure(inside.next().await);
    assert_eq!((error.class, error.started), (ErrorClass::Unavailable, Started::Crashed));
    let error = failure(queued.next().await);
    assert_eq!((error.class, error.started), (ErrorClass::Unavailable, Started::No));
    assert!(bench.ended().unwrap().contains("panicked"));
    assert_eq!(failure(bench.send("nothing gets in any more").next().await).started, Started::No);
}

#[tokio::test]
async fn a_call_that_may_crash_its_replica_runs_alone() {
    let bench = Bench::start(&settings());
    let mut calls = vec![bench.occupy("first"), bench.send("with the next")];
    let mut lone = request("lone");
    lone.context.alone = true;
    calls.push(bench.host.replica().call(lone));
    calls.extend([bench.send("after"), bench.send("after")]);
    bench.probe.step_gate.open();
    for call in &mut calls {
        assert!(matches!(call.next().await, CallEvent::Done(_)));
    }
    assert_eq!(bench.batches(), [1, 1, 1, 2]);
}

#[tokio::test]
async fn what_expired_or_left_while_waiting_never_runs() {
    let bench = Bench::start(&settings());
    let mut inside = bench.occupy("first");
    let soon = Instant::now() + Duration::from_millis(30);
    let mut late = bench.host.replica().call(request("late").until(Some(soon)));
    drop(bench.send("left"));
    let mut last = bench.send("last");
    while Instant::now() < soon {
        std::thread::yield_now();
    }
    bench.probe.step_gate.open();
    let error = failure(late.next().await);
    assert_eq!((error.class, error.started), (ErrorClass::DeadlineExceeded, Started::No));
    assert!(matches!(inside.next().await, CallEvent::Done(_)));
    assert!(matches!(last.next().await, CallEvent::Done(_)));
    assert_eq!(bench.batches(), [1, 1]);
}

#[tokio::test]
async fn callers_that_leave_take_their_inputs_with_them_while_the_engine_is_busy() {
    let bench = Bench::start(&Settings { max_ongoing: 4, ..settings() });
    let inside = bench.occupy("first");
    for _ in 0..1000 {
        let inputs = Value::map([("text", Value::from("x".repeat(1000)))]);
        let Some(Value::Text(text)) = inputs.get("text").cloned() else { panic!("a text") };
        drop(bench.host.replica().call(CallRequest::new(RequestId::new("r"), inputs)));
        assert_eq!(std::sync::Arc::strong_count(&text), 1, "nobody holds it any more");
    }
    assert_eq!(bench.host.replica().ongoing(), 1);
    bench.probe.step_gate.open();
    drop(inside);
}

/// Keeps its calls and sleeps, as a generator does whose callers all read slowly.
struct SleepingEngine {
    held: Vec<Call>,
    num_held: mpsc::Sender<usize>,
}

impl SteppingEngine for SleepingEngine {
    fn warm_up(&mut self) -> Result<(), LoadError> {
        Ok(())
    }

    fn step(&mut self, calls: Vec<Call>) -> Stepped {
        self.held.extend(calls);
        self.held.retain(|call| !call.reply.is_cancelled());
        let _ = self.num_held.send(self.held.len());
        let until = millstream_clock::now() + Duration::from_secs(60);
        Stepped { progress: Progress::Waiting { until }, num_inputs: 0 }
    }

    fn set_batch(&mut self, _: &Batch) {}

    fn memory_bytes(&self) -> u64 {
        0
    }
}

#[tokio::test]
async fn a_caller_that_leaves_wakes_the_engine_that_has_its_call() {
    let (num_held, steps) = mpsc::channel();
    let engine = SleepingEngine { held: Vec::new(), num_held };
    let load: Load = Box::new(|_| Ok(Engine::stepping(engine)));
    let bench = Bench::load(&settings(), Probe::default(), load);
    bench.wait_for(&Event::Ready(LoadedModel::default()));
    let pending = bench.send("a");
    let next = || steps.recv_timeout(Duration::from_secs(10)).unwrap();
    while next() == 0 {}
    drop(pending);
    assert_eq!(next(), 0);
}

#[tokio::test]
async fn settings_reach_an_engine_that_idles_or_works() {
    let bench = Bench::start(&settings());
    let set = |max_size| {
        bench.host.apply(&Settings { batch: Batch { max_size, ..Batch::default() }, ..settings() });
    };
    set(5);
    let mut inside = bench.occupy("first");
    set(6);
    let mut next = bench.send("next");
    bench.probe.step_gate.open();
    assert!(matches!(inside.next().await, CallEvent::Done(_)));
    assert!(matches!(next.next().await, CallEvent::Done(_)));
    let settings = bench.probe.settings.lock().unwrap().clone();
    assert_eq!(settings[settings.len() - 2..], [5, 6]);
}

#[tokio::test]
async fn a_stop_gives_up_what_waits_and_ends_without_a_failure() {
    let bench = Bench::start(&settings());
    let mut inside = bench.occupy("first");
    let mut queued = bench.send("later");
    bench.host.stop();
    bench.probe.step_gate.open();
    assert!(matches!(inside.next().await, CallEvent::Done(_)), "a step that runs is not torn");
    assert_eq!(failure(queued.next().await).started, Started::No);
    assert_eq!(bench.ended(), None);
}

#[tokio::test]
async fn a_step_that_does_not_come_back_ends_the_replica_and_its_calls_go_elsewhere() {
    let bench = Bench::start(&Settings { step_timeout: Some(Duration::from_millis(200)), ..settings() });
    bench.probe.step_gate.shut();
    // A short deadline of a caller ends no replica.
    let soon = Instant::now() + Duration::from_millis(20);
    let mut hasty = bench.host.replica().call(request("hasty").until(Some(soon)));
    assert!(tokio::time::timeout(Duration::from_millis(100), hasty.next()).await.is_err());
    assert!(bench.events.try_recv().is_err());
    let mut streaming = request("streaming");
    streaming.answer = ResponseMode::Stream;
    let mut inside = bench.host.replica().call(streaming);
    let error = failure(hasty.next().await);
    assert_eq!((error.class, error.started), (ErrorClass::Unavailable, Started::Yes));
    assert_eq!(failure(inside.next().await).started, Started::No, "it was still in the queue");
    let reason = bench.ended().unwrap();
    assert!(reason.contains("200ms") && reason.contains("`step_timeout`"), "{reason}");
    // When it comes back after all, nobody is there any more.
    bench.probe.step_gate.open();
    assert_eq!(bench.ended(), None);
}

#[tokio::test]
async fn a_model_that_does_not_load_says_why() {
    let broken = || Err(LoadError::Model("no weights".into()));
    let bench = Bench::load(&settings(), Probe::default(), Box::new(move |_| broken()));
    assert_eq!(failure(bench.send("too early").next().await).started, Started::No);
    assert_eq!(bench.ended().unwrap(), "no weights");
}

/// Answers `boom` by a panic, anything else never.
struct Waits;

impl ConcurrentEngine for Waits {
    fn call(&self, request: CallRequest, reply: Reply) -> EngineFuture<'static, ()> {
        Box::pin(async move {
            let _reply = reply;
            tokio::task::yield_now().await;
            assert_ne!(request.inputs.get("text").and_then(Value::as_text), Some("boom"));
            std::future::pending::<()>().await;
        })
    }
}

#[tokio::test]
async fn of_a_concurrent_engine_only_the_call_that_panics_is_suspect() {
    let load: Load = Box::new(|_| Ok(Engine::Concurrent(std::sync::Arc::new(Waits))));
    let bench = Bench::load(&settings(), Probe::default(), load);
    bench.wait_for(&Event::Ready(LoadedModel::default()));
    let mut neighbour = bench.send("waits");
    let mut poison = bench.send("boom");
    assert_eq!(failure(poison.next().await).started, Started::Crashed);
    assert_eq!(failure(neighbour.next().await).started, Started::Yes);
    assert!(bench.ended().unwrap().contains("panicked"));
}

/// Notes what it is told; unwell from the start, if it is so.
struct Noted {
    is_well: bool,
    sender: mpsc::Sender<&'static str>,
}

impl ConcurrentEngine for Noted {
    fn call(&self, request: CallRequest, reply: Reply) -> EngineFuture<'static, ()> {
        Box::pin(async move { reply.finish(Ok(request.inputs)) })
    }

    fn drain(&self) {
        self.sender.send("drain").unwrap();
    }

    fn health(&self) -> EngineFuture<'_, Result<(), String>> {
        self.sender.send("health").unwrap();
        let health = if self.is_well { Ok(()) } else { Err("the server is gone".to_owned()) };
        Box::pin(std::future::ready(health))
    }

    fn end(&self) -> EngineFuture<'_, ()> {
        self.sender.send("end").unwrap();
        Box::pin(std::future::ready(()))
    }
}

fn noted(is_well: bool) -> (Bench, mpsc::Receiver<&'static str>) {
    let (sender, notes) = mpsc::channel();
    let load: Load =
        Box::new(move |_| Ok(Engine::Concurrent(std::sync::Arc::new(Noted { is_well, sender }))));
    let bench = Bench::load(&settings(), Probe::default(), load);
    bench.wait_for(&Event::Ready(LoadedModel::default()));
    (bench, notes)
}

#[tokio::test]
async fn a_concurrent_engine_is_told_to_drain_and_to_end() {
    let (bench, notes) = noted(true);
    bench.host.close();
    let runs = tokio::task::spawn_blocking(move || {
        bench.host.stop();
        (bench.ended(), notes.iter().take(2).collect::<Vec<_>>())
    });
    assert_eq!(runs.await.unwrap(), (None, vec!["drain", "end"]));
}

#[tokio::test(start_paused = true)]
async fn a_concurrent_engine_that_is_unwell_ends_its_replica() {
    let (bench, notes) = noted(false);
    // Time passes on this thread while nothing else is to do; when the engine begins to be asked is up to another one.
    let ended = loop {
        tokio::time::sleep(Duration::from_secs(1)).await;
        if let Ok(event) = bench.events.try_recv() {
            break event;
        }
    };
    assert_eq!(ended, Event::Ended(Some("the server is gone".to_owned())));
    drop(bench);
    assert_eq!(notes.iter().collect::<Vec<_>>(), ["health", "health", "health", "end"]);
}
