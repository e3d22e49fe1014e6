//! A whole worker against a head of this folder, over real gRPC on loopback: registration, orders, calls over links
//! and in the process, epochs, and a head that goes and returns.
#![allow(clippy::disallowed_methods, reason = "a test takes real time")]
#![allow(clippy::unwrap_used, reason = "a test from end to end")]

use std::sync::atomic::Ordering;
use std::time::Duration;

use millstream_connect::NotLeading;
use millstream_proto::call::CallEvent;
use millstream_proto::v1::{self, head_message};
use millstream_test_support::{LIMIT, until};
use millstream_values::{ErrorClass, MAX_DEPTH, Started, Value};
use millstream_worker::{Config, Worker};
use tonic::Status;

mod support;
use support::{Head, Remote, call, inputs, start_echo, stop};

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
    for remote in [Remote::connect(&worker).await, Remote::connect_nearby(&worker, dir.path()).await] {
        let held = remote.start("slow", "held");
        until("the slow call runs", async || (session.heartbeat().await.ongoing["slow"] == 1).then_some(()))
            .await;
        let answer = remote.call("fast", inputs("hello")).await;
        assert_eq!(answer, CallEvent::Done(inputs("hello")), "nobody waits for the slow call");
        let CallEvent::Failed(failure) = remote.call("nobody", inputs("hello")).await else {
            panic!("expected a failure")
        };
        assert_eq!((failure.class, failure.started), (ErrorClass::Unavailable, Started::No));
        drop(held);
        until("the cancelled call ends", async || {
            (session.heartbeat().await.ongoing["slow"] == 0).then_some(())
        })
        .await;
        let _held = remote.start("slow", "held");
        until("the next call runs", async || (session.heartbeat().await.ongoing["slow"] == 1).then_some(()))
            .await;
        drop(remote);
        until("a broken link ends its calls", async || {
            (session.heartbeat().await.ongoing["slow"] == 0).then_some(())
        })
        .await;
    }
}

#[tokio::test]
async fn what_one_caller_sends_never_hurts_another_call() {
    let dir = tempfile::tempdir().unwrap();
    let mut head = Head::start().await;
    let worker = head.worker(dir.path()).await;
    let mut session = head.session(1).await;
    session.send(1, start_echo("fast", Duration::ZERO)).await;
    session.send(1, start_echo("slow", Duration::from_millis(300))).await;
    session.state("fast", v1::ReplicaState::Ready).await;
    session.state("slow", v1::ReplicaState::Ready).await;
    let remote = Remote::connect(&worker).await;
    let neighbours: Vec<_> = (0..5).map(|_| remote.start("slow", "held")).collect();
    // As deep as values may be, and deeper; as large as calls may be, and larger.
    let nested = |depth: usize| (0..depth).fold(Value::Int(1), |value, _| Value::map([("a", value)]));
    for depth in [33, 50, MAX_DEPTH] {
        let inputs = Value::map([("json", nested(depth))]);
        assert_eq!(remote.call("fast", inputs.clone()).await, CallEvent::Done(inputs), "{depth}");
    }
    let sized = |mib: usize| Value::map([("x", Value::Bytes(vec![7; mib << 20].into()))]);
    assert!(remote.call("fast", sized(60)).await == CallEvent::Done(sized(60)));
    for refused in [Value::map([("json", nested(MAX_DEPTH + 2))]), sized(70)] {
        let CallEvent::Failed(failure) = remote.call("fast", refused).await else {
            panic!("expected a failure")
        };
        assert_eq!((failure.class, failure.started), (ErrorClass::TooLarge, Started::No));
    }
    for mut neighbour in neighbours {
        assert_eq!(neighbour.next().await, CallEvent::Done(inputs("held")));
    }
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
    let stale = head.session(4).await;
    assert_eq!(stale.register.epoch, 5);
    stale.send(4, start_echo("old", Duration::ZERO)).await;
    let mut session = head.session(6).await;
    assert!(session.register.replicas.is_empty(), "a head of an older epoch is left and not obeyed");
    session.send(6, start_echo("new", Duration::ZERO)).await;
    assert_eq!(session.report().await.replica_id, "new");
}

#[tokio::test]
async fn without_a_head_the_last_orders_are_run_and_a_later_head_hears_of_them() {
    let dir = tempfile::tempdir().unwrap();
    let mut head = Head::start().await;
    let worker = head.worker(dir.path()).await;
    let mut session = head.session(5).await;
    for id in ["stays", "goes"] {
        session.send(5, start_echo(id, Duration::ZERO)).await;
        session.state(id, v1::ReplicaState::Ready).await;
    }
    session.send(5, stop("goes")).await;
    session.state("goes", v1::ReplicaState::Stopped).await;
    // It is written a moment after it was said.
    let kept = dir.path().join("orders.kept");
    until("the orders are kept", async || {
        let text = String::from_utf8_lossy(&std::fs::read(&kept).ok()?).into_owned();
        (text.contains("stays") && !text.contains("goes")).then_some(())
    })
    .await;
    drop((worker, session));

    // One that is there is heard first: nothing runs that it does not order.
    let copy = std::fs::read(&kept).unwrap();
    let worker = head.worker(dir.path()).await;
    let session = head.session(6).await;
    assert_eq!((session.register.epoch, session.register.replicas.len()), (5, 0));
    until("the void orders are forgotten", async || (std::fs::read(&kept).ok()? != copy).then_some(())).await;
    drop((worker, session));

    std::fs::write(&kept, copy).unwrap();
    *head.refuses.lock().unwrap() = Some(Status::unavailable("no head is here"));
    let worker = head.worker(dir.path()).await;
    let client = worker.client();
    until("the replica runs again", async || {
        (call(&*client, "stays", "hello").await == CallEvent::Done(inputs("hello"))).then_some(())
    })
    .await;
    let CallEvent::Failed(failure) = call(&*client, "goes", "hello").await else {
        panic!("expected a failure")
    };
    assert_eq!(failure.started, Started::No);
    *head.refuses.lock().unwrap() = None;
    let session = head.session(7).await;
    let found: Vec<_> = session.register.replicas.iter().map(|it| (&*it.replica_id, it.state())).collect();
    assert_eq!(found, [("stays", v1::ReplicaState::Ready)], "a head adopts it");
    assert_eq!(session.register.epoch, 6);
}

#[tokio::test]
async fn a_refused_registration_is_tried_again() {
    let dir = tempfile::tempdir().unwrap();
    let mut head = Head::start().await;
    *head.refuses.lock().unwrap() = Some(Status::aborted("another live node has this name"));
    let worker = head.worker(dir.path()).await;
    until("it has tried twice", async || (head.num_refused.load(Ordering::SeqCst) >= 2).then_some(())).await;
    assert!(head.sessions.try_recv().is_err(), "it is not registered");
    *head.refuses.lock().unwrap() = None;
    assert_eq!(head.session(1).await.register.node_id, worker.node_id().as_str());
}

#[tokio::test]
async fn the_head_that_leads_is_found_and_an_impostor_told_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let (follower, mut leader) = (Head::start().await, Head::start().await);
    let mut impostor = Head::start_with("a-token-of-somebody-else").await;
    let answer = NotLeading { leader: Some(leader.address.to_string()) };
    *follower.refuses.lock().unwrap() = Some(answer.status("this head does not lead"));
    let heads = format!("{},{}", impostor.address, follower.address);
    let worker =
        Worker::start(Config { heads: heads.parse().unwrap(), ..leader.config(dir.path()) }).await.unwrap();
    let session = leader.session(1).await;
    assert_eq!(session.register.cluster_id, "", "it belongs to no cluster yet");
    assert_eq!(follower.num_refused.load(Ordering::SeqCst), 1);
    assert!(impostor.sessions.try_recv().is_err(), "nothing was said to it");
    worker.registered().await;
    assert_eq!(std::fs::read_to_string(dir.path().join("cluster_id")).unwrap(), "cluster-1");
    drop(session);
    let again = leader.session(1).await;
    assert_eq!(again.register.cluster_id, "cluster-1");
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
    tokio::time::timeout(LIMIT, draining).await.unwrap().unwrap();
}
