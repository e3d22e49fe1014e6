use std::sync::mpsc;
use std::time::Duration;

use millstream_engine::Call;
use millstream_pipelines::EngineKind;
use millstream_proto::call::{self, CallEvent, PendingCall};
use millstream_values::{CallError, ErrorClass, Started, Value};

use super::*;
use crate::test_engine::{Probe, StepFactory};
use crate::testing;

/// A running engine thread and what it tells.
struct Bench {
    probe: Probe,
    events: mpsc::Receiver<EngineEvent>,
}

impl Bench {
    fn spawn(spec: &millstream_pipelines::DeploymentSpec) -> Self {
        let probe = Probe::default();
        let (told, events) = mpsc::channel();
        let job = Job {
            order: Arc::new(Order::try_from(testing::start("a", spec)).unwrap()),
            engines: Arc::new(Engines::of(vec![Box::new(StepFactory(probe.clone()))])),
            model_dirs: Arc::new([]),
            num_threads: 1,
            slots: Slots::new(100),
            stop: CancellationToken::new(),
            tell: Arc::new(move |event| drop(told.send(event))),
        };
        spawn(job).unwrap();
        Self { probe, events }
    }

    fn next(&self) -> EngineEvent {
        self.events.recv_timeout(Duration::from_secs(10)).unwrap()
    }

    /// Waits through the loading for the way in.
    fn ready(&self) -> Arc<Handle> {
        loop {
            match self.next() {
                EngineEvent::Doing(_) => {}
                EngineEvent::Ready { handle, memory_bytes } => {
                    assert_eq!(memory_bytes, 7);
                    return handle;
                }
                EngineEvent::Ended(failure) => panic!("ended: {failure:?}"),
            }
        }
    }

    fn ended(&self) -> Option<String> {
        loop {
            if let EngineEvent::Ended(failure) = self.next() {
                return failure;
            }
        }
    }

    /// Shuts the gate and sends a call that then sits in the engine.
    fn occupy(&self, handle: &Handle, text: &str) -> PendingCall {
        self.probe.step_gate.shut();
        let num_batches = self.probe.batches.lock().unwrap().len();
        let pending = send(handle, text, None);
        while self.probe.batches.lock().unwrap().len() == num_batches {
            std::thread::yield_now();
        }
        pending
    }
}

fn stepping_spec() -> millstream_pipelines::DeploymentSpec {
    millstream_pipelines::DeploymentSpec {
        engine: EngineKind::Candle,
        echo: None,
        ..testing::echo_spec("model")
    }
}

fn send(handle: &Handle, text: &str, deadline: Option<std::time::Instant>) -> PendingCall {
    let Runner::Thread(queue) = &handle.runner else { panic!("expected a thread") };
    let (reply, pending) = call::channel(call::Parts::Unwanted);
    let inputs = Value::map([("text", Value::from(text))]);
    assert!(
        queue
            .send(InboxMessage::Call(Call { deadline, ..Call::new(inputs, reply, crate::clock::now()) }))
            .is_ok()
    );
    pending
}

fn failure(event: CallEvent) -> CallError {
    match event {
        CallEvent::Failed(error) => error,
        other => panic!("expected a failure, got {other:?}"),
    }
}

#[tokio::test]
async fn what_came_during_a_step_goes_into_the_next() {
    let bench = Bench::spawn(&stepping_spec());
    let handle = bench.ready();
    let mut calls = vec![bench.occupy(&handle, "first")];
    calls.extend((0..6).map(|_| send(&handle, "later", None)));
    bench.probe.step_gate.open();
    for call in &mut calls {
        assert!(matches!(call.next().await, CallEvent::Done(_)));
    }
    assert_eq!(*bench.probe.batches.lock().unwrap(), [1, 6]);
}

#[tokio::test]
async fn a_panic_ends_the_calls_inside_and_gives_back_the_queued() {
    let bench = Bench::spawn(&stepping_spec());
    let handle = bench.ready();
    let mut inside = bench.occupy(&handle, "boom");
    let mut queued = send(&handle, "later", None);
    bench.probe.step_gate.open();
    let error = failure(inside.next().await);
    assert_eq!((error.class, error.started), (ErrorClass::Unavailable, Started::Yes));
    let error = failure(queued.next().await);
    assert_eq!((error.class, error.started), (ErrorClass::Unavailable, Started::No));
    assert!(bench.ended().unwrap().contains("panicked"));
    assert!(handle.slots.take().is_err(), "nothing gets in any more");
}

#[tokio::test]
async fn what_expired_or_left_while_waiting_never_runs() {
    let bench = Bench::spawn(&stepping_spec());
    let handle = bench.ready();
    let mut inside = bench.occupy(&handle, "first");
    let mut late = send(&handle, "late", Some(crate::clock::now()));
    drop(send(&handle, "left", None));
    let mut last = send(&handle, "last", None);
    bench.probe.step_gate.open();
    let error = failure(late.next().await);
    assert_eq!((error.class, error.started), (ErrorClass::DeadlineExceeded, Started::No));
    assert!(matches!(inside.next().await, CallEvent::Done(_)));
    assert!(matches!(last.next().await, CallEvent::Done(_)));
    assert_eq!(*bench.probe.batches.lock().unwrap(), [1, 1]);
}

#[tokio::test]
async fn settings_reach_an_engine_that_idles_or_works() {
    let bench = Bench::spawn(&stepping_spec());
    let handle = bench.ready();
    let Runner::Thread(queue) = &handle.runner else { panic!("expected a thread") };
    let set = |max_size| InboxMessage::Batch(millstream_pipelines::Batch { max_size, ..Default::default() });
    assert!(queue.send(set(5)).is_ok());
    let mut inside = bench.occupy(&handle, "first");
    assert!(queue.send(set(6)).is_ok());
    let mut next = send(&handle, "next", None);
    bench.probe.step_gate.open();
    assert!(matches!(inside.next().await, CallEvent::Done(_)));
    assert!(matches!(next.next().await, CallEvent::Done(_)));
    assert_eq!(*bench.probe.settings.lock().unwrap(), [5, 6]);
}

#[tokio::test]
async fn a_stop_gives_up_what_waits_and_ends_without_a_failure() {
    let bench = Bench::spawn(&stepping_spec());
    let handle = bench.ready();
    let mut inside = bench.occupy(&handle, "first");
    let Runner::Thread(queue) = &handle.runner else { panic!("expected a thread") };
    assert!(queue.send(InboxMessage::Stop).is_ok());
    let mut queued = send(&handle, "later", None);
    bench.probe.step_gate.open();
    assert!(matches!(inside.next().await, CallEvent::Done(_)), "a step that runs is not torn");
    assert_eq!(failure(queued.next().await).started, Started::No);
    assert_eq!(bench.ended(), None);
}

#[test]
fn a_model_that_does_not_load_says_why() {
    let spec =
        millstream_pipelines::DeploymentSpec { engine: EngineKind::Candle, ..testing::echo_spec("model") };
    let bench = Bench::spawn(&spec);
    assert_eq!(bench.ended().unwrap(), "settings of echo make no sense here");
    let spec =
        millstream_pipelines::DeploymentSpec { engine: EngineKind::Onnx, ..testing::echo_spec("model") };
    let text = Bench::spawn(&spec).ended().unwrap();
    assert!(text.contains("`onnx`") && text.contains("not part of this build"), "{text}");
}
