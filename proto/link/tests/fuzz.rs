//! What goes over a link, with bytes changed, lost, doubled and put in: every stream ends, each call with it, and nothing panics.
//! Runs for a second in the tests; `BOLERO_RANDOM_TEST_TIME_MS=60000 cargo test -p millstream-link --test fuzz` for a minute.
#![allow(clippy::disallowed_methods, reason = "tests take real time")]
#![allow(clippy::unwrap_used, reason = "a test from end to end")]

use std::sync::{Arc, Mutex};
use std::time::Duration;

use bolero::TypeGenerator;
use millstream_calls::call::{
    self, CallContext, CallEvent, CallRequest, PendingCall, ReplicaClient, ResponseMode,
};
use millstream_calls::{ReplicaId, RequestId};
use millstream_link::{Caller, serve};
use millstream_values::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream, ReadHalf, WriteHalf, duplex, split};
use tokio::runtime::Runtime;
use tokio_util::sync::CancellationToken;

const LIMIT: Duration = Duration::from_secs(20);

/// A change of what travels.
#[derive(Debug, Clone, TypeGenerator)]
enum Edit {
    Set { at: u16, to: u8 },
    Flip { at: u16, bit: u8 },
    Lose { at: u16, count: u8 },
    Insert { at: u16, bytes: Vec<u8> },
    Double { at: u16, count: u8 },
    End { at: u16 },
}

fn edited(bytes: &[u8], edits: &[Edit]) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    for edit in edits {
        let place = |at: u16| usize::from(at) % (bytes.len() + 1);
        let range = |at: u16, count: u8| place(at)..(place(at) + usize::from(count)).min(bytes.len());
        match edit {
            Edit::Set { at, to } => {
                let place = place(*at);
                bytes.get_mut(place).into_iter().for_each(|byte| *byte = *to);
            }
            Edit::Flip { at, bit } => {
                let place = place(*at);
                bytes.get_mut(place).into_iter().for_each(|byte| *byte ^= 1 << (bit % 8));
            }
            Edit::Lose { at, count } => drop(bytes.drain(range(*at, *count))),
            Edit::Insert { at, bytes: more } => {
                let place = place(*at);
                bytes.splice(place..place, more.iter().copied()).for_each(drop);
            }
            Edit::Double { at, count } => {
                let range = range(*at, *count);
                let (end, again) = (range.end, bytes[range].to_vec());
                bytes.splice(end..end, again).for_each(drop);
            }
            Edit::End { at } => bytes.truncate(place(*at)),
        }
    }
    bytes
}

/// Answers inputs, after a part.
struct Echo;

impl ReplicaClient for Echo {
    fn call(&self, _: &ReplicaId, request: CallRequest) -> PendingCall {
        let (reply, pending) = call::channel(request.parts());
        reply.delta(Value::map([("text", Value::from("part"))]));
        reply.finish(Ok(request.inputs));
        pending
    }
}

fn calls(caller: &Caller) -> Vec<PendingCall> {
    let large = Value::map([("text", Value::from("x".repeat(100_000)))]);
    let nested = (0..40).fold(Value::Int(1), |value, _| Value::list([value, Value::None]));
    let small = Value::map([("a", Value::Float(0.5)), ("b", nested)]);
    let request = |inputs, answer| CallRequest {
        context: CallContext::new(RequestId::new("r")),
        inputs,
        answer,
        timed: false,
    };
    [(small, ResponseMode::Stream), (large, ResponseMode::Whole)]
        .into_iter()
        .map(|(inputs, answer)| caller.call(&ReplicaId::new("echo"), request(inputs, answer)))
        .collect()
}

type Record = Arc<Mutex<Vec<u8>>>;

/// Passes bytes on and keeps them.
async fn tee(mut from: ReadHalf<DuplexStream>, mut to: WriteHalf<DuplexStream>, record: Record) {
    let mut buffer = vec![0; 64 << 10];
    while let Ok(count @ 1..) = from.read(&mut buffer).await {
        record.lock().unwrap().extend_from_slice(&buffer[..count]);
        if to.write_all(&buffer[..count]).await.is_err() {
            return;
        }
    }
}

/// What the caller's and the host's end write when nothing goes wrong.
async fn recorded() -> (Vec<u8>, Vec<u8>) {
    let ((caller_side, caller_far), (host_side, host_far)) = (duplex(1 << 20), duplex(1 << 20));
    let caller = Caller::default();
    let running = caller.clone();
    let (asked, answered) = (Record::default(), Record::default());
    let ((from_caller, to_caller), (from_host, to_host)) = (split(caller_far), split(host_far));
    let tasks = [
        tokio::spawn(async move { drop(running.run(caller_side).await) }),
        tokio::spawn(async move { drop(serve(host_side, Arc::new(Echo), CancellationToken::new()).await) }),
        tokio::spawn(tee(from_caller, to_host, asked.clone())),
        tokio::spawn(tee(from_host, to_caller, answered.clone())),
    ];
    for mut pending in calls(&caller) {
        while !matches!(pending.next().await, CallEvent::Done(_)) {}
    }
    tasks.iter().for_each(tokio::task::JoinHandle::abort);
    let take = |record: Record| std::mem::take(&mut *record.lock().unwrap());
    (take(asked), take(answered))
}

fn runtime() -> Runtime {
    // Liveness takes seconds; the clock moves as soon as nobody has anything to do.
    tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap()
}

#[test]
fn a_host_survives_whatever_comes() {
    let (asked, _) = runtime().block_on(recorded());
    bolero::check!().with_type::<Vec<Edit>>().for_each(|edits| {
        runtime().block_on(async {
            let (far, host_side) = duplex(64 << 10);
            let host = tokio::spawn(serve(host_side, Arc::new(Echo), CancellationToken::new()));
            let (mut answers, mut asks) = split(far);
            tokio::spawn(async move { tokio::io::copy(&mut answers, &mut tokio::io::sink()).await });
            // It may hang up before it has read all.
            let _ = asks.write_all(&edited(&asked, edits)).await;
            let _ = asks.shutdown().await;
            let ended = tokio::time::timeout(LIMIT, host).await;
            assert!(ended.expect("it ends").is_ok(), "without a panic");
        });
    });
}

#[test]
fn a_caller_survives_whatever_comes_and_each_call_ends() {
    let (_, answered) = runtime().block_on(recorded());
    bolero::check!().with_type::<Vec<Edit>>().for_each(|edits| {
        runtime().block_on(async {
            let (far, caller_side) = duplex(64 << 10);
            let caller = Caller::default();
            let running = caller.clone();
            let runs = tokio::spawn(async move { running.run(caller_side).await });
            let pending = calls(&caller);
            let (mut asks, mut answers) = split(far);
            tokio::spawn(async move { tokio::io::copy(&mut asks, &mut tokio::io::sink()).await });
            let _ = answers.write_all(&edited(&answered, edits)).await;
            let _ = answers.shutdown().await;
            let ended = tokio::time::timeout(LIMIT, runs).await;
            assert!(ended.expect("it ends").is_ok(), "without a panic");
            for mut call in pending {
                let end = async {
                    while !matches!(call.next().await, CallEvent::Done(_) | CallEvent::Failed(_)) {}
                };
                tokio::time::timeout(LIMIT, end).await.expect("each call ends");
            }
        });
    });
}
