//! Calls over a link, from one end to the other.
#![allow(clippy::disallowed_methods, reason = "tests take real time")]
#![allow(clippy::unwrap_used, reason = "a test from end to end")]

use std::sync::Arc;
use std::time::Duration;

use millstream_calls::call::{
    self, CallContext, CallEvent, CallRequest, PendingCall, ReplicaClient, Reply, ResponseMode,
};
use millstream_calls::{ReplicaId, RequestId};
use millstream_link::{Broken, Caller, MAX_MESSAGE_BYTES, serve};
use millstream_values::{CallError, ErrorClass, MAX_DEPTH, Started, Value};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream, duplex};
use tokio::net::UnixStream;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

const LIMIT: Duration = Duration::from_secs(20);

/// A worker whose replicas do as their names say: `echo` answers its inputs, `grow` a list of them that is too large to travel,
/// others hand their calls to the test.
struct Replicas {
    held: mpsc::UnboundedSender<(CallRequest, Reply)>,
}

impl ReplicaClient for Replicas {
    fn call(&self, replica: &ReplicaId, request: CallRequest) -> PendingCall {
        let (reply, pending) = call::channel(request.parts());
        match replica.as_str() {
            "echo" => reply.finish(Ok(request.inputs)),
            "grow" => reply.finish(Ok(Value::list(vec![request.inputs; 70]))),
            _ => drop(self.held.send((request, reply))),
        }
        pending
    }
}

/// Both ends of a link.
struct Pair {
    caller: Caller,
    held: mpsc::UnboundedReceiver<(CallRequest, Reply)>,
    closing: CancellationToken,
    caller_ends: JoinHandle<Broken>,
    host_ends: JoinHandle<Result<(), Broken>>,
}

impl Pair {
    fn new() -> Self {
        let (here, there) = UnixStream::pair().unwrap();
        let (held, received) = mpsc::unbounded_channel();
        let (caller, closing) = (Caller::default(), CancellationToken::new());
        let host_ends = tokio::spawn(serve(there, Arc::new(Replicas { held }), closing.clone()));
        let running = caller.clone();
        let caller_ends = tokio::spawn(async move { running.run(here).await.unwrap_err() });
        Self { caller, held: received, closing, caller_ends, host_ends }
    }

    fn call(&self, replica: &str, inputs: Value) -> PendingCall {
        self.caller.call(&ReplicaId::new(replica), request(inputs, ResponseMode::Whole))
    }

    async fn echo(&self, inputs: Value) -> CallEvent {
        next(&mut self.call("echo", inputs)).await
    }

    async fn held(&mut self) -> (CallRequest, Reply) {
        tokio::time::timeout(LIMIT, self.held.recv()).await.unwrap().unwrap()
    }

    /// A small call goes through.
    async fn assert_lives(&self) {
        assert_eq!(self.echo(inputs("still here")).await, CallEvent::Done(inputs("still here")));
    }
}

fn request(inputs: Value, answer: ResponseMode) -> CallRequest {
    CallRequest { context: CallContext::new(RequestId::new("r")), inputs, answer, timed: false }
}

fn inputs(text: &str) -> Value {
    Value::map([("text", Value::from(text))])
}

async fn next(pending: &mut PendingCall) -> CallEvent {
    tokio::time::timeout(LIMIT, pending.next()).await.expect("an answer in time")
}

async fn error(pending: &mut PendingCall) -> CallError {
    match next(pending).await {
        CallEvent::Failed(error) => error,
        other => panic!("{other:?}"),
    }
}

fn nested(depth: usize) -> Value {
    (0..depth).fold(Value::Int(1), |value, _| Value::map([("a", value)]))
}

#[tokio::test]
async fn values_as_deep_as_the_product_allows_travel_and_deeper_ones_fail_alone() {
    let pair = Pair::new();
    for depth in [1, 33, 49, MAX_DEPTH] {
        let inputs = Value::map([("json", nested(depth))]);
        assert_eq!(pair.echo(inputs.clone()).await, CallEvent::Done(inputs), "{depth}");
    }
    let refused = error(&mut pair.call("echo", Value::map([("json", nested(MAX_DEPTH + 1))]))).await;
    assert_eq!((refused.class, refused.started), (ErrorClass::TooLarge, Started::No));
    assert!(refused.message.contains("64 deep"), "{refused}");
    pair.assert_lives().await;
}

#[tokio::test]
async fn large_payloads_travel_and_too_large_ones_fail_alone_in_both_directions() {
    let pair = Pair::new();
    let bytes = |mib: usize| Value::map([("x", Value::Bytes(vec![7; mib << 20].into()))]);
    let (one, other) = tokio::join!(pair.echo(bytes(60)), pair.echo(bytes(61)));
    assert!(one == CallEvent::Done(bytes(60)) && other == CallEvent::Done(bytes(61)));
    let refused = error(&mut pair.call("echo", bytes(MAX_MESSAGE_BYTES >> 20))).await;
    assert_eq!((refused.class, refused.started), (ErrorClass::TooLarge, Started::No));
    let refused = error(&mut pair.call("grow", bytes(1))).await;
    assert_eq!((refused.class, refused.started), (ErrorClass::TooLarge, Started::Yes));
    assert!(refused.message.contains("the answer cannot be sent"), "{refused}");
    pair.assert_lives().await;
}

#[tokio::test]
async fn what_a_call_says_of_itself_arrives_with_the_time_that_is_left() {
    let mut pair = Pair::new();
    let deadline = std::time::Instant::now() + Duration::from_secs(5);
    let context = CallContext {
        deadline: Some(deadline),
        attempt: 2,
        tenant: Some("a".into()),
        ..CallContext::new(RequestId::new("r"))
    };
    let asked = CallRequest { context: context.clone(), ..request(inputs("x"), ResponseMode::Whole) };
    let mut pending = pair.caller.call(&ReplicaId::new("held"), asked.clone());
    let (seen, reply) = pair.held().await;
    let arrived = seen.context.deadline.expect("a deadline");
    assert!(arrived > deadline - Duration::from_secs(1) && arrived < deadline + Duration::from_secs(1));
    let context = CallContext { deadline: seen.context.deadline, ..context };
    assert_eq!(seen, CallRequest { context, ..asked });
    reply.finish(Err(CallError::started(ErrorClass::Invalid, "no such text")));
    assert_eq!(error(&mut pending).await, CallError::started(ErrorClass::Invalid, "no such text"));
}

#[tokio::test]
async fn a_caller_that_leaves_cancels_its_call_also_in_the_middle_of_its_inputs() {
    let mut pair = Pair::new();
    let pending = pair.call("held", inputs("x"));
    let (_, reply) = pair.held().await;
    drop(pending);
    tokio::time::timeout(LIMIT, async {
        while !reply.is_cancelled() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    })
    .await
    .expect("the replica hears of it");
    for _ in 0..20 {
        let large = Value::Bytes(vec![7; 60 << 20].into());
        drop(pair.call("held", Value::map([("x", large)])));
    }
    pair.assert_lives().await;
    assert!(pair.held.try_recv().is_err(), "none of them began");
}

#[tokio::test]
async fn a_slow_reader_stops_its_replica_and_no_other_call() {
    let mut pair = Pair::new();
    let mut pending = pair.caller.call(&ReplicaId::new("held"), request(inputs("x"), ResponseMode::Stream));
    let (_, reply) = pair.held().await;
    let part = || Value::map([("text", Value::from("x".repeat(1000)))]);
    let mut num_parts = 0;
    // A replica that keeps to what it is told makes no more than what the queues between the two may hold.
    tokio::time::timeout(LIMIT, async {
        let mut behind_for = 0;
        while behind_for < 50 {
            if reply.is_behind() {
                behind_for += 1;
                tokio::time::sleep(Duration::from_millis(1)).await;
            } else {
                behind_for = 0;
                reply.delta(part());
                num_parts += 1;
            }
        }
    })
    .await
    .expect("it is stopped");
    assert!((100..500).contains(&num_parts), "{num_parts} parts of 1 KB");
    pair.assert_lives().await;
    reply.finish(Ok(Value::None));
    for _ in 0..num_parts {
        assert_eq!(next(&mut pending).await, CallEvent::Delta(part()));
    }
    assert_eq!(next(&mut pending).await, CallEvent::Done(Value::None));
}

#[tokio::test]
async fn calls_that_have_left_are_told_from_those_that_have_not_when_a_link_breaks() {
    let caller = Caller::default();
    let mut early = caller.call(&ReplicaId::new("held"), request(inputs("x"), ResponseMode::Whole));
    caller.refuse("nobody listens there");
    let refused = error(&mut early).await;
    assert_eq!((refused.class, refused.started), (ErrorClass::Unavailable, Started::No));
    let mut closed = caller.call(&ReplicaId::new("held"), request(inputs("x"), ResponseMode::Whole));
    assert_eq!(error(&mut closed).await.started, Started::No);

    let mut pair = Pair::new();
    let mut pending = pair.call("held", inputs("x"));
    pair.held().await;
    pair.host_ends.abort();
    let broken = error(&mut pending).await;
    assert_eq!((broken.class, broken.started), (ErrorClass::Unavailable, Started::Yes));
    pair.caller_ends.await.unwrap();
}

#[tokio::test]
async fn a_host_that_closes_ends_its_calls_first() {
    let mut pair = Pair::new();
    let mut pending = pair.call("held", inputs("x"));
    let (request, reply) = pair.held().await;
    pair.closing.cancel();
    pair.assert_lives().await;
    reply.finish(Ok(request.inputs));
    assert_eq!(next(&mut pending).await, CallEvent::Done(inputs("x")));
    pair.host_ends.await.unwrap().unwrap();
    assert!(matches!(pair.caller_ends.await.unwrap(), Broken::Closed));
}

/// The other end of a link, by hand.
struct Raw(DuplexStream);

impl Raw {
    async fn greet(mut stream: DuplexStream) -> Self {
        let mut greeting = [0; 16];
        greeting[..4].copy_from_slice(b"MSLK");
        greeting[4] = 1;
        stream.write_all(&greeting).await.unwrap();
        stream.read_exact(&mut greeting).await.unwrap();
        Self(stream)
    }

    async fn send(&mut self, kind: u8, call: u64, payload: &[u8]) {
        let mut frame = vec![kind, 0, 0, 0];
        frame.extend(u32::try_from(payload.len()).unwrap().to_le_bytes());
        frame.extend(call.to_le_bytes());
        frame.extend(payload);
        self.0.write_all(&frame).await.unwrap();
    }

    /// The next frame's kind, call and payload.
    async fn receive(&mut self) -> (u8, u64, Vec<u8>) {
        let mut header = [0; 16];
        self.0.read_exact(&mut header).await.unwrap();
        let length = u32::from_le_bytes(header[4..8].try_into().unwrap());
        let mut payload = vec![0; length as usize];
        self.0.read_exact(&mut payload).await.unwrap();
        (header[0], u64::from_le_bytes(header[8..].try_into().unwrap()), payload)
    }
}

/// A start of a call to `echo`, with these inputs as bytes.
fn start(inputs: &[u8]) -> Vec<u8> {
    [&[1, 4][..], b"echo", &[2, 1, b'r', 0], inputs].concat()
}

#[tokio::test]
async fn a_start_that_cannot_be_read_fails_alone() {
    let (here, there) = duplex(1 << 20);
    let held = mpsc::unbounded_channel().0;
    let served = tokio::spawn(serve(there, Arc::new(Replicas { held }), CancellationToken::new()));
    let mut raw = Raw::greet(here).await;
    // Text that is not UTF-8; 66 lists around a none; a list that says it has 2^20 items; nothing at all.
    let deep = [[8, 1].repeat(66), vec![0]].concat();
    for bad in [&[5, 1, 0xff][..], &deep, &[8, 0x80, 0x80, 0x40], &[]] {
        raw.send(1, 7, &start(bad)).await;
        let (kind, call, payload) = raw.receive().await;
        assert_eq!((kind, call), (5, 7), "it failed");
        assert!(String::from_utf8_lossy(&payload).contains("the call cannot be read"), "{payload:?}");
    }
    // A piece of nothing, a cancel and a limit of unknown calls, and a frame of a later version change nothing.
    raw.send(6, 8, b"piece").await;
    raw.send(7, 8, &[]).await;
    raw.send(8, 8, &[0; 8]).await;
    raw.send(200, 8, b"later").await;
    raw.send(1, 9, &start(&[5, 1, b'x'])).await;
    assert_eq!(raw.receive().await, (4, 9, vec![5, 1, b'x']));
    raw.send(1, 10, &[&[1, 4][..], b"held", &[2, 1, b'r', 0, 0]].concat()).await;
    // What is not a frame at all ends the link: nobody knows where the next one begins.
    raw.send(99, 0, &[]).await;
    assert!(matches!(served.await.unwrap(), Err(Broken::Protocol(_))));
}

#[tokio::test]
async fn an_answer_that_cannot_be_read_fails_alone() {
    let (here, there) = duplex(1 << 20);
    let caller = Caller::default();
    let running = caller.clone();
    let ended = tokio::spawn(async move { running.run(here).await.unwrap_err() });
    let mut raw = Raw::greet(there).await;
    let mut first = caller.call(&ReplicaId::new("a"), request(inputs("x"), ResponseMode::Whole));
    let mut second = caller.call(&ReplicaId::new("b"), request(inputs("x"), ResponseMode::Whole));
    let (_, first_id, _) = raw.receive().await;
    let (_, second_id, _) = raw.receive().await;
    raw.send(4, first_id, &[5, 1, 0xff]).await;
    let failed = error(&mut first).await;
    assert_eq!((failed.class, failed.started), (ErrorClass::Internal, Started::Yes));
    raw.send(4, 999, &[0]).await;
    raw.send(4, second_id, &[0]).await;
    assert_eq!(next(&mut second).await, CallEvent::Done(Value::None));
    drop(raw);
    assert!(matches!(ended.await.unwrap(), Broken::Closed));
}

#[tokio::test]
async fn parts_beyond_the_credit_fail_their_call_alone() {
    let (here, there) = duplex(1 << 20);
    let caller = Caller::default();
    let running = caller.clone();
    tokio::spawn(async move { running.run(here).await.unwrap_err() });
    let mut raw = Raw::greet(there).await;
    let mut greedy = caller.call(&ReplicaId::new("a"), request(inputs("x"), ResponseMode::Stream));
    let (_, id, _) = raw.receive().await;
    let part = [&[6, 0xe0, 0x5d][..], &[0; 12_000]].concat();
    for _ in 0..6 {
        raw.send(2, id, &part).await;
    }
    // Whatever comes before the error is read only now, so that nothing was given credit for.
    raw.send(9, 0, &[]).await;
    assert_eq!(raw.receive().await.0, 10, "all has been taken in");
    let error = loop {
        match next(&mut greedy).await {
            CallEvent::Delta(_) => {}
            CallEvent::Failed(error) => break error,
            other => panic!("{other:?}"),
        }
    };
    assert!(error.message.contains("credit"), "{error}");
}

#[tokio::test]
async fn send_and_cancel_without_end_leaves_nothing_behind() {
    let pair = Pair::new();
    for number in 0..20_000 {
        drop(pair.call(if number % 2 == 0 { "echo" } else { "held" }, inputs("x")));
        if number % 100 == 0 {
            pair.assert_lives().await;
        }
    }
    pair.assert_lives().await;
}
