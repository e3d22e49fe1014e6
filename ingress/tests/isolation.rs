//! One request never hurts a stranger: replicas that hang, clients that do not read, requests that make many calls.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use http_body_util::{BodyExt as _, Full};
use hyper_util::rt::{TokioExecutor, TokioIo};
use millstream_ingress::HttpLimits;
use serde_json::{Value as Json, json};

use crate::common::{FakeWorker, GENERATE, Reaction, Setup, echo, echo_with, eventually, problem, table};

/// Two replicas, the first of which never answers once it is told to hang.
async fn one_may_hang(source: &str, hangs: bool) -> (Arc<AtomicBool>, FakeWorker, Setup) {
    let hung = Arc::new(AtomicBool::new(hangs));
    let is_hung = hung.clone();
    let worker = FakeWorker::start(move |start| match &*start.replica_id {
        "hung" if is_hung.load(Ordering::Relaxed) => Reaction::Hang,
        _ => Reaction::Echo,
    });
    let replicas = [("hung", worker.address), ("good", worker.address)];
    let setup = Setup::of(table(1, source, "model", &replicas), HttpLimits::default()).await;
    (hung, worker, setup)
}

fn calls_of(worker: &FakeWorker, id: &str) -> usize {
    worker.seen().started.iter().filter(|started| *started == id).count()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_that_hangs_costs_no_request_and_is_ejected() {
    let source = echo_with("max_ongoing_requests = 100").to_string();
    let (hung, worker, setup) = one_may_hang(&source, false).await;
    for _ in 0..100 {
        assert_eq!(setup.post_echo().send().await.unwrap().status(), 200);
    }
    hung.store(true, Ordering::Relaxed);
    let before = calls_of(&worker, "hung");
    let requests: Vec<_> = (0..40).map(|_| tokio::spawn(setup.post_echo().send())).collect();
    for request in requests {
        assert_eq!(request.await.unwrap().unwrap().status(), 200, "sent elsewhere after a second");
    }
    assert!(calls_of(&worker, "hung") - before >= 3, "it had its share");
    let before = calls_of(&worker, "hung");
    for _ in 0..20 {
        assert_eq!(setup.post_echo().send().await.unwrap().status(), 200);
    }
    assert!(calls_of(&worker, "hung") - before <= 1, "out of rotation, but for a probe");
}

#[tokio::test(flavor = "multi_thread")]
async fn half_of_the_time_is_kept_for_another_replica_while_nothing_is_known() {
    let stage = echo_with("max_ongoing_requests = 100").stage("timeout = \"1500ms\"").to_string();
    for (source, timeout) in [(stage, "60s"), (echo().to_string(), "1500ms")] {
        let (_, worker, setup) = one_may_hang(&source, true).await;
        // Which replica is asked first is drawn: it is the one that hangs for half of the requests.
        let mut num_sent = 0;
        while calls_of(&worker, "hung") == 0 {
            assert!(num_sent < 60, "it is never asked: {source}");
            num_sent += 1;
            let request = setup.post_echo().header("x-request-timeout", timeout);
            assert_eq!(request.send().await.unwrap().status(), 200, "{source}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hung_replica_that_hedges_overtake_is_ejected() {
    let source = echo_with("max_ongoing_requests = 100").stage("hedge = \"20ms\"").to_string();
    let (_, worker, setup) = one_may_hang(&source, true).await;
    for _ in 0..40 {
        assert_eq!(setup.post_echo().send().await.unwrap().status(), 200);
    }
    let calls = calls_of(&worker, "hung");
    assert!((3..=4).contains(&calls), "three calls that were overtaken, and perhaps a probe: {calls}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_may_run_once_only_stays_where_it_is() {
    let source = echo_with("max_ongoing_requests = 100\nidempotent = false").to_string();
    let (_, worker, setup) = one_may_hang(&source, true).await;
    let mut late = 0;
    for _ in 0..8 {
        let answer = setup.post_echo().header("x-request-timeout", "200ms").send().await.unwrap();
        late += usize::from(answer.status() == 504);
    }
    assert_eq!(worker.seen().started.len(), 8, "no call is sent twice");
    assert_eq!(late, calls_of(&worker, "hung"));
}

/// A call for each element of a list.
const EACH: &str = r#"
name  = "each"
route = "/each"

[request]
texts = "text[]"

[deployments.model]
engine = "echo"
max_ongoing_requests = 4
max_queued_requests = 2

[stages.out]
use = "model"
for_each = "t in request.texts"
inputs = { text = "t" }

[response]
texts = "out|map(attribute='text')|list"
"#;

fn texts(count: usize) -> Json {
    (0..count).map(|at| Json::from(format!("t{at}"))).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_elements_go_through_one_replica() {
    let worker = FakeWorker::start(|_| Reaction::EchoAfter(Duration::from_millis(1)));
    let setup = Setup::of(table(1, EACH, "model", &[("a", worker.address)]), HttpLimits::default()).await;
    let request = setup.client.post(setup.url("/each")).json(&json!({"texts": texts(1000)}));
    let response = request.send().await.unwrap();
    assert_eq!(response.status(), 200);
    assert_eq!(response.json::<Json>().await.unwrap(), json!({"texts": texts(1000)}));
    assert_eq!((worker.seen().started.len(), worker.seen().most_at_once), (1000, 4));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_has_begun_is_not_turned_away_by_those_that_come() {
    let worker = FakeWorker::start(|_| Reaction::EchoAfter(Duration::from_millis(5)));
    let source = EACH.replace("for_each", "max_parallel = 16\nfor_each");
    let setup = Setup::of(table(1, &source, "model", &[("a", worker.address)]), HttpLimits::default()).await;
    let ask = |count| setup.client.post(setup.url("/each")).json(&json!({"texts": texts(count)})).send();
    let begun = tokio::spawn(ask(1000));
    eventually("it has begun", || worker.seen().started.len() > 8).await;
    let mut refused = 0;
    for _ in 0..20 {
        let answer = ask(1).await.unwrap();
        refused += usize::from(answer.status() == 503);
    }
    assert_eq!(refused, 20, "the queue is full");
    assert_eq!(begun.await.unwrap().unwrap().status(), 200);
}

#[tokio::test]
async fn the_client_that_does_not_read_holds_no_place_of_a_replica() {
    let worker = FakeWorker::start(|_| Reaction::Parts(vec!["a part "; 500]));
    let source = GENERATE.replace("[stages", "max_ongoing_requests = 1\n\n[stages");
    let replicas = [("gen-1", worker.address)];
    let setup = Setup::of(table(1, &source, "generator", &replicas), HttpLimits::default()).await;
    let stream = tokio::net::TcpStream::connect(setup.ingress.address()).await.unwrap();
    let (mut sender, connection) = hyper::client::conn::http2::Builder::new(TokioExecutor::new())
        .initial_stream_window_size(1)
        .handshake(TokioIo::new(stream))
        .await
        .unwrap();
    tokio::spawn(connection);
    let request = hyper::Request::post(setup.url("/gen")).header("content-type", "application/json");
    let body = Full::new(bytes::Bytes::from_static(br#"{"question": "?", "stream": true}"#));
    let unread = sender.send_request(request.body(body).unwrap()).await.unwrap();
    assert_eq!(unread.status(), 200);
    let begun = Instant::now();
    let other = setup.client.post(setup.url("/gen")).json(&json!({"question": "?"})).send().await.unwrap();
    assert_eq!(other.status(), 200);
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
    // Nothing is lost for it.
    let events = unread.into_body().collect().await.unwrap().to_bytes();
    let events = String::from_utf8_lossy(&events);
    assert!(
        events.ends_with(&format!("event: done\ndata: {{\"answer\":\"{}\"}}\n\n", "a part ".repeat(500)))
    );
}

#[tokio::test]
async fn a_stage_that_asks_for_retries_gets_them_from_the_only_replica() {
    let calls = std::sync::atomic::AtomicU32::new(0);
    let worker = FakeWorker::start(move |_| match calls.fetch_add(1, Ordering::Relaxed) % 3 {
        0 | 1 => Reaction::Fail(millstream_proto::ErrorClass::Internal),
        _ => Reaction::Echo,
    });
    for (stage, expected) in [("retries = 2", 200), ("timeout = \"9s\"", 500), ("retries = 1", 200)] {
        let source = echo().stage(stage);
        let setup =
            Setup::of(table(1, &source, "model", &[("a", worker.address)]), HttpLimits::default()).await;
        let answer = setup.post_echo().send().await.unwrap();
        let status = answer.status().as_u16();
        assert_eq!(status, expected, "{stage}");
        if status != 200 {
            problem(answer).await;
        }
    }
    assert_eq!(worker.seen().started.len(), 3 + 1 + 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_crashes_replicas_is_tried_once_more_alone_and_then_refused() {
    let crashes = |start: &crate::common::Started| {
        start.request.inputs.get("text").and_then(millstream_proto::Value::as_text) == Some("boom")
    };
    let first = AtomicBool::new(true);
    // The first time all that runs beside it goes down as well.
    let worker = FakeWorker::start(move |start| match &*start.replica_id {
        _ if crashes(start) => Reaction::Crash,
        _ if first.swap(false, Ordering::Relaxed) => Reaction::Crash,
        _ => Reaction::Echo,
    });
    let replicas: Vec<_> = ["a", "b", "c", "d"].iter().map(|id| (*id, worker.address)).collect();
    let setup = Setup::echo(&replicas).await;
    let ask = |text| setup.client.post(setup.url("/echo")).json(&json!({"text": text})).send();
    assert_eq!(ask("mate").await.unwrap().status(), 200, "a mate is answered by another replica");
    assert_eq!(worker.seen().contexts.iter().map(|context| context.alone).collect::<Vec<_>>(), [false, true]);
    let (status, document) = problem(ask("boom").await.unwrap()).await;
    assert_eq!(status, 422, "{document}");
    assert!(document["detail"].as_str().unwrap().contains("crashed twice"), "{document}");
    assert_eq!(worker.seen().started.len(), 4, "two replicas, and no third one");
    assert!(worker.seen().contexts[3].alone);
    assert_eq!(ask("boom").await.unwrap().status(), 422);
    assert_eq!(worker.seen().started.len(), 4, "refused at once");
    assert_eq!(ask("mate").await.unwrap().status(), 200);
    assert!(!worker.seen().contexts[4].alone, "acquitted");
}

#[tokio::test(flavor = "multi_thread")]
async fn bodies_under_way_have_a_bound_together_and_none_is_read_in_vain() {
    let worker = FakeWorker::start(|_| Reaction::Hang);
    let mut limits = HttpLimits::default();
    limits.request.max_bytes_under_way = 1 << 20;
    let source = echo_with("max_ongoing_requests = 2\nmax_queued_requests = 1");
    let setup = Setup::of(table(1, &source, "model", &[("a", worker.address)]), limits).await;
    let large = json!({"text": "a".repeat(600_000)});
    let post = |body: &Json| setup.client.post(setup.url("/echo")).json(body).send();
    let held = tokio::spawn(post(&large));
    eventually("it is under way", || worker.seen().started.len() == 1).await;
    let (status, document) = problem(post(&large).await.unwrap()).await;
    assert_eq!((status, &document["type"]), (503, &json!("urn:millstream:problem:overloaded")));
    assert!(document["detail"].as_str().unwrap().contains("memory"), "{document}");
    // A small one has room.
    let small = tokio::spawn(post(&json!({"text": "small"})));
    eventually("both are under way", || worker.seen().started.len() == 2).await;
    let waits = tokio::spawn(post(&json!({"text": "waits"})));
    eventually("one waits", || setup.head.heard_load("model", 2, 1)).await;
    // The queue is full: the answer comes though the body does not.
    let mut stream = tokio::net::TcpStream::connect(setup.ingress.address()).await.unwrap();
    let head = "POST /echo HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ncontent-length: 1000000\r\n\r\n";
    tokio::io::AsyncWriteExt::write_all(&mut stream, head.as_bytes()).await.unwrap();
    let mut answer = [0; 12];
    tokio::io::AsyncReadExt::read_exact(&mut stream, &mut answer).await.unwrap();
    assert_eq!(&answer, b"HTTP/1.1 503");
    // Whoever leaves gives back what it took.
    held.abort();
    eventually("there is room again", || worker.seen().num_cancelled == 1).await;
    let again = tokio::spawn(post(&large));
    eventually("it is under way again", || worker.seen().started.len() == 3).await;
    [small, waits, again].iter().for_each(tokio::task::JoinHandle::abort);
}
