//! Between ingress, replicas and head: queues, retries, ejection, workers that die, routes that change.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use crate::common::{
    FakeHead, FakeWorker, GENERATE, LocalEcho, Reaction, Setup, Table, echo, echo_with, eventually, ingress,
    problem, table,
};
use millstream_ingress::{HttpLimits, LocalWorker};
use millstream_proto::ErrorClass;
use millstream_test_support::until;
use serde_json::json;

#[tokio::test]
async fn a_full_queue_is_503_with_retry_after_and_the_head_hears_of_the_load() {
    let worker = FakeWorker::start(|_| Reaction::Hang);
    let source = echo_with("max_ongoing_requests = 1\nmax_queued_requests = 2");
    let setup =
        Setup::of(table(1, &source, "model", &[("echo-1", worker.address)]), HttpLimits::default()).await;
    let held: Vec<_> = (0..3).map(|_| tokio::spawn(setup.post_echo().send())).collect();
    eventually("one is sent, two wait", || setup.head.heard_load("model", 1, 2)).await;
    let response = setup.post_echo().send().await.unwrap();
    let wait: u64 = response.headers()["retry-after"].to_str().unwrap().parse().unwrap();
    assert!((1..=60).contains(&wait));
    let (status, document) = problem(response).await;
    assert_eq!((status, &document["type"]), (503, &json!("urn:millstream:problem:overloaded")));
    held.iter().for_each(tokio::task::JoinHandle::abort);
    eventually("the head hears of the end", || setup.head.heard_load("model", 0, 0)).await;
}

#[tokio::test]
async fn a_replica_never_gets_more_than_it_takes_and_the_queue_is_served() {
    let worker = FakeWorker::start(|_| Reaction::EchoAfter(Duration::from_millis(30)));
    let setup = Setup::echo(&[("echo-1", worker.address)]).await;
    let begun = Instant::now();
    let requests: Vec<_> = (0..12).map(|_| tokio::spawn(setup.post_echo().send())).collect();
    for request in requests {
        assert_eq!(request.await.unwrap().unwrap().status(), 200);
    }
    assert!(begun.elapsed() >= Duration::from_millis(90), "4 at a time, 12 of them: {:?}", begun.elapsed());
}

#[tokio::test]
async fn without_a_replica_a_request_waits_for_the_first_one() {
    let setup = Setup::echo(&[]).await;
    let request = tokio::spawn(setup.post_echo().send());
    eventually("the head hears of the queue", || setup.head.heard_load("model", 0, 1)).await;
    let worker = FakeWorker::start(|_| Reaction::Echo);
    setup.head.push(table(2, echo(), "model", &[("echo-1", worker.address)])).await;
    assert_eq!(request.await.unwrap().unwrap().status(), 200);
}

#[tokio::test]
async fn without_a_replica_the_deadline_says_what_was_waited_for() {
    let setup = Setup::echo(&[]).await;
    let (status, document) =
        problem(setup.post_echo().header("x-request-timeout", "0.1").send().await.unwrap()).await;
    assert_eq!(status, 504);
    assert!(document["detail"].as_str().unwrap().contains("a free replica of `echo/model`"), "{document}");
}

/// Two replicas, the first of which reacts in a way of its own.
async fn one_bad_of_two(reaction: Reaction) -> (FakeWorker, Setup) {
    let worker = FakeWorker::start(
        move |start| if start.replica_id == "bad" { reaction.clone() } else { Reaction::Echo },
    );
    let setup = Setup::echo(&[("bad", worker.address), ("good", worker.address)]).await;
    (worker, setup)
}

#[tokio::test]
async fn what_fails_on_one_replica_is_sent_to_another() {
    use ErrorClass::{Internal, NotFound, Overloaded, Unavailable};
    let reactions = [
        Reaction::Refuse(Overloaded),
        Reaction::Refuse(Unavailable),
        Reaction::Refuse(NotFound),
        Reaction::Fail(Unavailable),
        Reaction::Fail(Internal),
    ];
    for reaction in reactions {
        let (worker, setup) = one_bad_of_two(reaction.clone()).await;
        for _ in 0..20 {
            assert_eq!(setup.post_echo().send().await.unwrap().status(), 200, "{reaction:?}");
        }
        assert!(worker.seen().started.iter().any(|id| id == "bad"), "{reaction:?}");
    }
}

#[tokio::test]
async fn the_first_transport_error_ejects_a_replica_and_a_probe_brings_it_back() {
    let (worker, setup) = one_bad_of_two(Reaction::Fail(ErrorClass::Unavailable)).await;
    let calls_of_bad = || worker.seen().started.iter().filter(|id| *id == "bad").count();
    // Requests until the replica has had so many calls.
    let ask_until = async |calls: usize| {
        let mut num_requests = 0;
        until("the bad replica is called", async || {
            num_requests += 1;
            assert_eq!(setup.post_echo().send().await.unwrap().status(), 200);
            (calls_of_bad() == calls).then_some(())
        })
        .await;
        num_requests
    };
    ask_until(1).await;
    // In rotation it would be called for one of two. Out of it, requests pass by until the probe, which fails and goes
    // elsewhere.
    let passed = ask_until(2).await;
    assert!(passed > 20, "out of rotation after the first error, not tried again after {passed} requests");
}

#[tokio::test]
async fn what_may_run_once_only_is_not_sent_again() {
    let source = echo().deployment("idempotent = false");
    let worker = FakeWorker::start(|_| Reaction::Fail(ErrorClass::Internal));
    let replicas = [("a", worker.address), ("b", worker.address)];
    let setup = Setup::of(table(1, &source, "model", &replicas), HttpLimits::default()).await;
    assert_eq!(problem(setup.post_echo().send().await.unwrap()).await.0, 500);
    assert_eq!(worker.seen().started.len(), 1);
}

#[tokio::test]
async fn a_call_is_tried_on_three_replicas_at_most_and_never_twice_on_one() {
    let worker = FakeWorker::start(|_| Reaction::Fail(ErrorClass::Internal));
    let ids = ["a", "b", "c", "d", "e"];
    let replicas: Vec<_> = ids.iter().map(|id| (*id, worker.address)).collect();
    let setup = Setup::echo(&replicas).await;
    assert_eq!(problem(setup.post_echo().send().await.unwrap()).await.0, 500);
    let mut started = worker.seen().started;
    assert_eq!(started.len(), 3);
    started.sort();
    started.dedup();
    assert_eq!(started.len(), 3, "each on another replica");
}

#[tokio::test]
async fn the_requests_own_fault_is_reported_at_once() {
    let worker = FakeWorker::start(|_| Reaction::Fail(ErrorClass::Invalid));
    let setup = Setup::echo(&[("a", worker.address), ("b", worker.address)]).await;
    let (status, document) = problem(setup.post_echo().send().await.unwrap()).await;
    assert_eq!(status, 422);
    assert!(document["detail"].as_str().unwrap().contains("failed by the script"), "{document}");
    assert_eq!(worker.seen().started.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_dies_costs_no_request() {
    let mut dying = FakeWorker::start(|_| Reaction::Hang);
    let living = FakeWorker::start(|_| Reaction::EchoAfter(Duration::from_millis(10)));
    let source = echo_with("max_ongoing_requests = 20");
    let replicas = [("dying", dying.address), ("living", living.address)];
    let setup = Setup::of(table(1, &source, "model", &replicas[..1]), HttpLimits::default()).await;
    // More than the retry budget lets come back at the same time.
    let under_way: Vec<_> = (0..20).map(|_| tokio::spawn(setup.post_echo().send())).collect();
    eventually("all are sent", || dying.seen().started.len() == 20).await;
    setup.head.push(table(2, &source, "model", &replicas)).await;
    dying.kill();
    for request in under_way {
        assert_eq!(request.await.unwrap().unwrap().status(), 200);
    }
    for _ in 0..20 {
        let answer = setup.post_echo().header("x-request-timeout", "2s").send().await.unwrap();
        assert_eq!(answer.status(), 200, "nobody waits for the dead");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_comes_back_is_dialled_again() {
    let mut worker = FakeWorker::start(|_| Reaction::Echo);
    let setup = Setup::echo(&[("echo-1", worker.address)]).await;
    assert_eq!(setup.post_echo().send().await.unwrap().status(), 200);
    let address = worker.address;
    worker.kill();
    // The broken connection is noticed; this one may have been on it.
    let _ = setup.post_echo().header("x-request-timeout", "100ms").send().await.unwrap();
    let waiting = tokio::spawn(setup.post_echo().header("x-request-timeout", "9s").send());
    until("the port is free", async || std::net::TcpListener::bind(address).ok().map(drop)).await;
    let back = FakeWorker::start_at(address, |_| Reaction::Echo);
    assert_eq!(waiting.await.unwrap().unwrap().status(), 200);
    assert_eq!(back.seen().num_streams, 1);
}

#[tokio::test]
async fn all_calls_share_one_stream_and_a_worker_without_routes_is_hung_up_on() {
    let worker = FakeWorker::start(|_| Reaction::EchoAfter(Duration::from_millis(300)));
    let other = FakeWorker::start(|_| Reaction::Echo);
    let setup = Setup::echo(&[("a", worker.address), ("b", worker.address)]).await;
    let under_way: Vec<_> = (0..4).map(|_| tokio::spawn(setup.post_echo().send())).collect();
    eventually("all are sent", || worker.seen().started.len() == 4).await;
    assert_eq!(worker.seen().num_streams, 1);
    setup.head.push(table(2, echo(), "model", &[("c", other.address)])).await;
    for _ in 0..8 {
        assert_eq!(setup.post_echo().send().await.unwrap().status(), 200);
    }
    assert_eq!(worker.seen().started.len(), 4, "nothing is sent to a replica that has left the routes");
    for request in under_way {
        assert_eq!(request.await.unwrap().unwrap().status(), 200, "what was under way ends well");
    }
    eventually("the stream is closed once idle", || worker.seen().num_closed == 1).await;
}

#[tokio::test]
async fn routes_survive_the_head_and_a_bad_plan_keeps_the_one_before() {
    let worker = FakeWorker::start(|_| Reaction::Echo);
    let setup = Setup::echo(&[("echo-1", worker.address)]).await;
    let hello = setup.head.hello().unwrap();
    assert_eq!((&*hello.ingress_id, &*hello.address), ("ingress-1", &*setup.ingress.address().to_string()));
    let bad = table(2, "name = \"echo\"\nnonsense = true\n", "model", &[("echo-1", worker.address)]);
    let bad = bad.of_revision(2);
    setup.head.push(bad).await;
    assert_eq!(setup.post_echo().send().await.unwrap().status(), 200);
    let Setup { head, ingress, client } = setup;
    drop(head);
    let url = format!("http://{}/echo", ingress.address());
    for _ in 0..5 {
        let response = client.post(&url).json(&json!({"text": "hello"})).send().await.unwrap();
        assert_eq!(response.status(), 200);
    }
}

#[tokio::test]
async fn a_new_revision_takes_over_and_a_deleted_pipeline_is_404() {
    let worker = FakeWorker::start(|_| Reaction::Echo);
    let setup = Setup::echo(&[("echo-1", worker.address)]).await;
    let source = echo().answer("said = \"out.text\"");
    let next = table(2, &source, "model", &[("echo-1", worker.address)]).of_revision(2);
    setup.head.push(next).await;
    let response = setup.post_echo().send().await.unwrap();
    assert_eq!(
        response.json::<serde_json::Value>().await.unwrap(),
        json!({"text": "hello", "said": "hello"})
    );
    setup.head.push(Table::empty(3)).await;
    assert_eq!(problem(setup.post_echo().send().await.unwrap()).await.0, 404);
}

#[tokio::test]
async fn a_deployment_of_another_pipeline_is_called_by_its_full_name() {
    let worker = FakeWorker::start(|_| Reaction::Parts(vec!["from the other"]));
    let user = GENERATE
        .replace("name  = \"gen\"", "name  = \"user\"")
        .replace("/gen", "/user")
        .replace("use = \"generator\"", "use = \"gen/generator\"");
    let (before, rest) = user.split_once("[deployments.generator]").unwrap();
    let user = format!("{before}{}", &rest[rest.find("[stages.answer]").unwrap()..]);
    let generator = table(1, GENERATE, "generator", &[("gen-1", worker.address)]);
    let mut both = generator.and(table(1, &user, "none", &[]));
    both.pipelines[1].deployments.clear();
    let setup = Setup::of(both, HttpLimits::default()).await;
    let response =
        setup.client.post(setup.url("/user")).json(&json!({"question": "?"})).send().await.unwrap();
    assert_eq!(response.json::<serde_json::Value>().await.unwrap(), json!({"answer": "from the other"}));
    assert_eq!(worker.seen().started, ["gen-1"]);
}

/// Two stages that need nothing of each other, and one that needs both.
const DIAMOND: &str = r#"
name  = "diamond"
route = "/diamond"

[request]
text = "text"

[deployments.echo]
engine = "echo"
max_ongoing_requests = 4

[stages.left]
use = "echo"
inputs = { text = "request.text", side = "'left'" }

[stages.right]
use = "echo"
inputs = { text = "request.text", side = "'right'" }

[stages.both]
use = "echo"
inputs = { sides = "[left.side, right.side]" }

[response]
sides = "both.sides"
"#;

#[tokio::test]
async fn stages_that_do_not_wait_for_each_other_run_at_the_same_time() {
    let worker = FakeWorker::start(|_| Reaction::EchoAfter(Duration::from_millis(200)));
    let setup = Setup::of(table(1, DIAMOND, "echo", &[("a", worker.address)]), HttpLimits::default()).await;
    let request = setup.client.post(setup.url("/diamond")).json(&json!({"text": "x"}));
    let response = request.send().await.unwrap();
    assert_eq!(response.json::<serde_json::Value>().await.unwrap(), json!({"sides": ["left", "right"]}));
    assert_eq!((worker.seen().started.len(), worker.seen().most_at_once), (3, 2));
}

#[tokio::test]
async fn a_stage_that_fails_ends_the_request_and_its_siblings() {
    let calls = AtomicU32::new(0);
    let worker = FakeWorker::start(move |_| match calls.fetch_add(1, Ordering::Relaxed) {
        0 => Reaction::Hang,
        _ => Reaction::Fail(ErrorClass::Invalid),
    });
    let setup = Setup::of(table(1, DIAMOND, "echo", &[("a", worker.address)]), HttpLimits::default()).await;
    let request = setup.client.post(setup.url("/diamond")).json(&json!({"text": "x"}));
    assert_eq!(problem(request.send().await.unwrap()).await.0, 422);
    eventually("the sibling is cancelled", || worker.seen().num_cancelled == 1).await;
}

#[tokio::test]
async fn a_stage_has_a_timeout_of_its_own() {
    let worker = FakeWorker::start(|_| Reaction::Hang);
    let source = echo().stage("timeout = \"100ms\"");
    let setup = Setup::of(table(1, &source, "model", &[("a", worker.address)]), HttpLimits::default()).await;
    let (status, document) = problem(setup.post_echo().send().await.unwrap()).await;
    assert_eq!(status, 504);
    assert!(document["detail"].as_str().unwrap().contains("its timeout of `100ms`"), "{document}");
    eventually("the replica is told", || worker.seen().num_cancelled == 1).await;
}

#[tokio::test]
async fn replicas_of_the_same_process_are_called_without_a_network_and_first() {
    let other = FakeWorker::start(|_| Reaction::Echo);
    // Nobody listens there.
    let nowhere = "127.0.0.1:9".parse().unwrap();
    let head = FakeHead::start(table(1, echo(), "model", &[("near", nowhere), ("far", other.address)]));
    let node_id = format!("node-of-{nowhere}").into();
    let local = LocalWorker { node_id, client: Arc::new(LocalEcho) };
    let ingress = ingress(&head, Some(local), HttpLimits::default()).await;
    let url = format!("http://{}/echo", ingress.address());
    let client = reqwest::Client::new();
    for _ in 0..20 {
        let response = client.post(&url).json(&json!({"text": "hello"})).send().await.unwrap();
        assert_eq!(response.json::<serde_json::Value>().await.unwrap(), json!({"text": "hello"}));
    }
    assert_eq!(other.seen().started.len(), 0);
}

// An ingress has several threads: one that reads 70 MiB for seconds, as a test build does, does not make its links fall silent.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_that_no_worker_takes_is_413_and_leaves_the_others_alone() {
    let worker = FakeWorker::start(|_| Reaction::Echo);
    let mut limits = HttpLimits::default();
    limits.request.max_body_bytes = 80 << 20;
    let setup = Setup::of(table(1, echo(), "model", &[("a", worker.address)]), limits).await;
    let large = setup.client.post(setup.url("/echo")).json(&json!({"text": "a".repeat(70 << 20)}));
    assert_eq!(problem(large.send().await.unwrap()).await.0, 413);
    assert_eq!(setup.post_echo().send().await.unwrap().status(), 200);
    assert_eq!((worker.seen().started.len(), worker.seen().num_streams), (1, 1));
}
