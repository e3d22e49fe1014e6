//! What an HTTP client sees: statuses, ids, limits, streams. Replicas are scripted behind real gRPC servers.

use std::io::{Read as _, Write as _};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use crate::common::{FakeHead, FakeWorker, GENERATE, Reaction, Setup, echo, eventually, problem, table};
use millstream_ingress::{ConnectionLimits, HttpLimits, RequestLimits, TraceConfig, Visitors, reference};
use millstream_test_support::{JOIN_TOKEN, LIMIT};
use serde_json::json;

async fn echo_setup() -> (FakeWorker, Setup) {
    let worker = FakeWorker::start(|_| Reaction::Echo);
    let setup = Setup::echo(&[("echo-1", worker.address)]).await;
    (worker, setup)
}

#[tokio::test]
async fn a_good_request_is_answered_and_carries_its_id_to_the_replica() {
    let (worker, setup) = echo_setup().await;
    let response = setup.post_echo().header("x-request-id", "my-id-1").send().await.unwrap();
    assert_eq!(response.status(), 200);
    assert_eq!(response.headers()["x-request-id"], "my-id-1");
    assert_eq!(response.headers()["content-type"], "application/json");
    assert_eq!(response.json::<serde_json::Value>().await.unwrap(), json!({"text": "hello"}));
    assert_eq!(worker.seen().request_ids, ["my-id-1"]);
    let made = setup.post_echo().header("x-request-id", "no good").send().await.unwrap();
    assert_eq!(made.headers()["x-request-id"].len(), 32);
    let left = worker.seen().deadlines_ms[0].expect("calls carry their deadline");
    assert!((50_000..=60_000).contains(&left), "{left}");
}

#[tokio::test]
async fn a_clients_trace_goes_on_in_calls_with_traces_and_without() {
    for is_on in [true, false] {
        let worker = FakeWorker::start(|_| Reaction::Echo);
        let traces = TraceConfig { is_on, ..TraceConfig::default() };
        let setup = Setup::echo_traced(&[("echo-1", worker.address)], traces).await;
        let parent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00";
        let asked = setup.post_echo().header("traceparent", parent).header("tracestate", "a=1");
        assert_eq!(asked.send().await.unwrap().status(), 200);
        let trace = worker.seen().contexts[0].trace.clone().expect("a call of a trace has its context");
        assert_eq!((trace.trace_id[0], trace.state.as_deref()), (0x4b, Some("a=1")));
        assert_eq!(trace.to_string() == parent, !is_on, "with traces the call has a span of its own");
    }
}

#[tokio::test]
async fn bad_requests_have_their_own_status_and_a_problem_document() {
    let (_worker, setup) = echo_setup().await;
    let client = &setup.client;
    let echo = || client.post(setup.url("/echo")).header("content-type", "application/json");
    let (status, document) = problem(echo().body(r#"{"text": 7, "count": 10}"#).send().await.unwrap()).await;
    assert_eq!(status, 422);
    let paths: Vec<_> = document["errors"].as_array().unwrap().iter().map(|error| &error["path"]).collect();
    assert_eq!(paths, ["/text", "/count"]);
    let table = [
        (echo().body("{"), 400),
        (echo().body(r#"{"text": "a", "text": "b"}"#), 400),
        (echo().body("{}").header("x-request-timeout", "soon"), 400),
        (client.post(setup.url("/nothing")).body("{}"), 404),
        (client.get(setup.url("/-/nothing")), 404),
        (client.get(setup.url("/echo")), 405),
        (client.post(setup.url("/-/healthz")), 405),
        (echo().body("a".repeat((4 << 20) + 1)), 413),
        (client.post(setup.url(&format!("/{}", "a".repeat(9000)))), 414),
        (client.post(setup.url("/echo")).header("content-type", "text/plain").body("{}"), 415),
        (client.post(setup.url("/echo")).body("{}"), 415),
        (echo().header("content-encoding", "gzip").body("{}"), 415),
        (echo().header("host", "rebound.example").body("{}"), 403),
        (echo().header("origin", "https://evil.example").body("{}"), 403),
        (client.get(setup.url("/-/routes")).header("sec-fetch-site", "cross-site"), 403),
        (echo().header("x-long", "a".repeat(40_000)).body("{}"), 431),
    ];
    for (request, expected) in table {
        let shown = format!("{request:?}").chars().take(120).collect::<String>();
        assert_eq!(problem(request.send().await.unwrap()).await.0, expected, "{shown}");
    }
    let slash = client.post(setup.url("/echo/")).json(&json!({"text": "hello"})).send().await.unwrap();
    assert_eq!(slash.status(), 200, "no route ends with a slash");
    let allow = client.get(setup.url("/echo")).send().await.unwrap();
    assert_eq!(allow.headers()["allow"], "POST");
}

#[tokio::test]
async fn own_pages_tell_liveness_and_routes() {
    let (worker, setup) = echo_setup().await;
    let health = setup.client.get(setup.url("/-/healthz")).send().await.unwrap();
    assert_eq!(health.status(), 200);
    let routes = setup.client.get(setup.url("/-/routes")).send().await.unwrap();
    let routes: serde_json::Value = routes.json().await.unwrap();
    assert_eq!(routes["epoch"], json!(1));
    assert_eq!((&routes["version"], &routes["pipelines"][0]["route"]), (&json!(1), &json!("/echo")));
    assert_eq!(routes["pipelines"][0]["deployments"][0]["replicas"], json!(1));
    let text = routes.to_string();
    assert!(!text.contains("echo-1") && !text.contains(&worker.address.to_string()), "{text}");
}

#[tokio::test]
async fn the_reference_lists_what_is_answered() {
    let (_worker, setup) = echo_setup().await;
    let known = reference::response_headers();
    let is_known = |name: &str| {
        let of_http = ["content-length", "date", "transfer-encoding"].contains(&name);
        of_http || known.iter().any(|header| header.name == name)
    };
    for endpoint in reference::endpoints() {
        let path = endpoint.path.replace("{route}", "/echo").replace("{pipeline}", "echo");
        let path = path.replace("{model}", "echo%2Fmodel").replace("{file}", "docs.js").replace("//", "/");
        let path = path.replace("{response_id}", "resp_none");
        // The body is none of other APIs'.
        let is_ours = ["/echo", "/invocations", "/v2/repository/index"].contains(&&*path);
        let good = match endpoint.methods {
            _ if path.contains("resp_none") => 404,
            "POST" if !is_ours => 400,
            _ => 200,
        };
        for method in ["GET", "HEAD", "POST", "DELETE"] {
            let request = setup.client.request(method.parse().unwrap(), setup.url(&path));
            let request = request.header("content-type", "application/json");
            let response = request.body(r#"{"text": "hello"}"#).send().await.unwrap();
            let is_listed = endpoint.methods.split(", ").any(|listed| listed == method);
            assert_eq!(response.status(), if is_listed { good } else { 405 }, "{method} {path}");
            for name in response.headers().keys() {
                assert!(is_known(name.as_str()), "{method} {path}: {name}");
            }
        }
    }
    let unknown = problem(setup.client.get(setup.url("/-/metrics")).send().await.unwrap()).await;
    assert_eq!(unknown.0, 404);
}

#[tokio::test]
async fn a_request_that_takes_too_long_is_504_and_its_call_is_cancelled() {
    let worker = FakeWorker::start(|_| Reaction::Hang);
    let setup = Setup::echo(&[("echo-1", worker.address)]).await;
    let begun = Instant::now();
    let response = setup.post_echo().header("x-request-timeout", "200ms").send().await.unwrap();
    let (status, document) = problem(response).await;
    assert_eq!((status, &document["type"]), (504, &json!("urn:millstream:problem:deadline-exceeded")));
    assert!(begun.elapsed() >= Duration::from_millis(190));
    eventually("the replica is told", || worker.seen().num_cancelled == 1).await;
    assert!(worker.seen().deadlines_ms[0].unwrap() <= 200);
}

#[tokio::test]
async fn before_the_first_table_requests_are_told_to_come_back() {
    let worker = FakeWorker::start(|_| Reaction::Echo);
    let head = FakeHead::start(table(1, echo(), "model", &[("echo-1", worker.address)]));
    let address = head.address;
    drop(head);
    let config = millstream_ingress::Config {
        name: "test".to_owned(),
        id: "ingress-1".into(),
        listen: SocketAddr::from(([127, 0, 0, 1], 0)).into(),
        admin: None,
        heads: address.to_string().parse().unwrap(),
        join_token: JOIN_TOKEN.to_owned(),
        local: None,
        limits: HttpLimits::default(),
        visitors: Visitors::default(),
        traces: millstream_ingress::TraceConfig::default(),
        capture_dir: "captures".into(),
        socket_dir: None,
    };
    let ingress = millstream_ingress::Ingress::start(config).await.unwrap();
    let url = format!("http://{}/echo", ingress.address());
    let response = reqwest::Client::new().post(url).body("{}").send().await.unwrap();
    assert_eq!(response.headers()["retry-after"], "1");
    assert_eq!(problem(response).await.0, 503);
}

#[tokio::test]
async fn routes_come_from_the_head_that_leads() {
    let worker = FakeWorker::start(|_| Reaction::Echo);
    let leader = FakeHead::start(table(1, echo(), "model", &[("echo-1", worker.address)]));
    let follower = FakeHead::follower_of(&leader);
    let config = millstream_ingress::Config {
        name: "test".to_owned(),
        id: "ingress-1".into(),
        listen: SocketAddr::from(([127, 0, 0, 1], 0)).into(),
        admin: None,
        heads: format!("127.0.0.1:1,{}", follower.address).parse().unwrap(),
        join_token: JOIN_TOKEN.to_owned(),
        local: None,
        limits: HttpLimits::default(),
        visitors: Visitors::default(),
        traces: millstream_ingress::TraceConfig::default(),
        capture_dir: "captures".into(),
        socket_dir: None,
    };
    let _ingress = millstream_ingress::Ingress::start(config).await.unwrap();
    eventually("the leader's table is confirmed", || leader.acked(1)).await;
    assert!(follower.hello().is_none());
}

fn limits(change: impl FnOnce(&mut ConnectionLimits, &mut RequestLimits)) -> HttpLimits {
    let mut limits = HttpLimits::default();
    change(&mut limits.connection, &mut limits.request);
    limits
}

/// Writes to a raw connection and reads until the server ends it.
fn raw(address: std::net::SocketAddr, bytes: &[u8]) -> String {
    let mut stream = std::net::TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(LIMIT)).unwrap();
    let _ = stream.write_all(bytes);
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    String::from_utf8_lossy(&answer).into_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn slow_clients_are_let_go() {
    let worker = FakeWorker::start(|_| Reaction::Echo);
    let limits = limits(|connection, request| {
        connection.first_byte = Duration::from_millis(100);
        connection.headers = Duration::from_millis(200);
        connection.idle = Duration::from_millis(400);
        request.body_time = Duration::from_millis(200);
    });
    let setup = Setup::of(table(1, echo(), "model", &[("echo-1", worker.address)]), limits).await;
    let address = setup.ingress.address();
    let cases: [(&'static str, &'static [u8], &'static str, u64); 4] = [
        ("silent", b"", "", 100),
        ("half a head", b"POST /echo HTTP/1.1\r\nhos", "", 200),
        (
            "half a body",
            b"POST /echo HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ncontent-length: 30\r\n\r\n{\"te",
            "HTTP/1.1 408",
            200,
        ),
        ("idle after an answer", b"GET /-/healthz HTTP/1.1\r\nhost: localhost\r\n\r\n", "HTTP/1.1 200", 400),
    ];
    for (name, bytes, expected, at_least_ms) in cases {
        let begun = Instant::now();
        let answer = tokio::task::spawn_blocking(move || raw(address, bytes)).await.unwrap();
        assert!(answer.starts_with(expected), "{name}: {answer}");
        assert!(expected.is_empty() == answer.is_empty(), "{name}: {answer}");
        let took = begun.elapsed();
        assert!(took >= Duration::from_millis(at_least_ms) && took < LIMIT, "{name}: {took:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_sent_at_once_on_one_connection_are_answered_in_order() {
    let (_worker, setup) = echo_setup().await;
    let address = setup.ingress.address();
    let mut sent = String::new();
    for (text, connection) in [("first", "keep-alive"), ("second", "keep-alive"), ("third", "close")] {
        let body = json!({ "text": text }).to_string();
        let length = body.len();
        sent += &format!(
            "POST /echo HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\nconnection: {connection}\r\ncontent-length: {length}\r\n\r\n{body}"
        );
    }
    let answers = move || raw(address, sent.as_bytes());
    let answers = tokio::task::spawn_blocking(answers).await.unwrap();
    assert_eq!(answers.matches("HTTP/1.1 200").count(), 3, "{answers}");
    let places = ["first", "second", "third"].map(|text| answers.find(text).unwrap());
    assert!(places.is_sorted(), "{answers}");
}

#[tokio::test(flavor = "multi_thread")]
async fn beyond_the_limit_who_has_a_request_stays_and_who_has_none_gives_way() {
    let worker = FakeWorker::start(|_| Reaction::EchoAfter(Duration::from_millis(300)));
    let limits = limits(|connection, _| connection.max_connections = 1);
    let setup = Setup::of(table(1, echo(), "model", &[("echo-1", worker.address)]), limits).await;
    let address = setup.ingress.address();
    let connect = || std::net::TcpStream::connect(address).unwrap();
    let ask = |stream: &mut std::net::TcpStream| {
        let body = r#"{"text": "hello"}"#;
        let length = body.len();
        let head = "POST /echo HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json";
        write!(stream, "{head}\r\ncontent-length: {length}\r\n\r\n{body}").unwrap();
    };
    let has_answer = |stream: &mut std::net::TcpStream| {
        stream.set_nonblocking(true).unwrap();
        let mut answer = [0; 4096];
        let has = stream.read(&mut answer).is_ok_and(|read| answer[..read].starts_with(b"HTTP/1.1 200"));
        stream.set_nonblocking(false).unwrap();
        has
    };
    let (mut first, mut second) = (connect(), connect());
    ask(&mut first);
    eventually("the replica has the call", || worker.seen().started.len() == 1).await;
    ask(&mut second);
    eventually("the first connection is served", || has_answer(&mut first)).await;
    eventually("the second connection is served", || has_answer(&mut second)).await;
    assert_eq!(worker.seen().most_at_once, 1, "the second one waited for the first one's request");
    assert_eq!(first.read(&mut [0; 10]).unwrap_or(0), 0, "the first one gave way");
}

async fn stream_setup(reaction: Reaction, limits: HttpLimits) -> (FakeWorker, Setup) {
    let worker = FakeWorker::start(move |_| reaction.clone());
    let setup = Setup::of(table(1, GENERATE, "generator", &[("gen-1", worker.address)]), limits).await;
    (worker, setup)
}

#[tokio::test]
async fn a_stream_gives_parts_and_then_the_whole() {
    let (_worker, setup) = stream_setup(Reaction::Parts(vec!["The ", "end"]), HttpLimits::default()).await;
    let expected = "event: delta\ndata: {\"field\":\"answer\",\"text\":\"The \"}\n\n\
                    event: delta\ndata: {\"field\":\"answer\",\"text\":\"end\"}\n\n\
                    event: done\ndata: {\"answer\":\"The end\"}\n\n";
    let ask = setup.client.post(setup.url("/gen"));
    let by_header =
        ask.try_clone().unwrap().header("accept", "text/event-stream").json(&json!({"question": "?"}));
    let by_body = ask.json(&json!({"question": "?", "stream": true}));
    for request in [by_header, by_body] {
        let response = request.send().await.unwrap();
        assert_eq!(
            (response.status().as_u16(), &response.headers()["content-type"]),
            (200, &"text/event-stream".parse().unwrap())
        );
        assert_eq!(response.text().await.unwrap(), expected);
    }
    let whole = setup.client.post(setup.url("/gen")).json(&json!({"question": "?"})).send().await.unwrap();
    assert_eq!(whole.json::<serde_json::Value>().await.unwrap(), json!({"answer": "The end"}));
}

#[tokio::test]
async fn a_stream_that_fails_early_has_a_status_and_late_an_error_event() {
    let (_worker, setup) = stream_setup(Reaction::PartsThenFail(vec!["The "]), HttpLimits::default()).await;
    let ask = setup.client.post(setup.url("/gen")).json(&json!({"question": "?", "stream": true}));
    let text = ask.send().await.unwrap().text().await.unwrap();
    let (delta, error) = text.split_once("event: error\ndata: ").unwrap();
    assert!(delta.starts_with("event: delta"));
    let document: serde_json::Value = serde_json::from_str(error.trim()).unwrap();
    assert_eq!((&document["status"], document["request_id"].as_str().unwrap().len()), (&json!(503), 32));
    let (_worker, setup) =
        stream_setup(Reaction::Fail(millstream_proto::ErrorClass::Internal), HttpLimits::default()).await;
    let ask = setup.client.post(setup.url("/gen")).json(&json!({"question": "?", "stream": true}));
    assert_eq!(problem(ask.send().await.unwrap()).await.0, 500);
}

#[tokio::test]
async fn a_silent_stream_is_kept_alive_and_its_deadline_holds() {
    let limits = limits(|_, request| request.stream_keep_alive = Duration::from_millis(50));
    let (worker, setup) = stream_setup(Reaction::PartsThenHang(vec![]), limits).await;
    let ask = setup.client.post(setup.url("/gen")).header("x-request-timeout", "400ms");
    let response = ask.json(&json!({"question": "?", "stream": true})).send().await.unwrap();
    assert_eq!(response.status(), 200);
    let text = response.text().await.unwrap();
    assert!(text.matches(": keep-alive\n\n").count() >= 3, "{text}");
    assert!(text.contains("event: error\ndata: ") && text.contains("\"status\":504"), "{text}");
    eventually("the replica is told", || worker.seen().num_cancelled == 1).await;
}

#[tokio::test]
async fn a_client_that_leaves_a_stream_stops_the_replica() {
    let (worker, setup) = stream_setup(Reaction::PartsThenHang(vec!["The "]), HttpLimits::default()).await;
    let ask = setup.client.post(setup.url("/gen")).json(&json!({"question": "?", "stream": true}));
    let mut response = ask.send().await.unwrap();
    assert!(response.chunk().await.unwrap().unwrap().starts_with(b"event: delta"));
    assert_eq!(worker.seen().num_cancelled, 0);
    drop(response);
    eventually("the replica is told", || worker.seen().num_cancelled == 1).await;
}

#[tokio::test]
async fn a_client_that_leaves_stops_the_replica() {
    let worker = FakeWorker::start(|_| Reaction::Hang);
    let setup = Setup::echo(&[("echo-1", worker.address)]).await;
    let request = tokio::spawn(setup.post_echo().send());
    eventually("the replica has the call", || worker.seen().started.len() == 1).await;
    request.abort();
    eventually("the replica is told", || worker.seen().num_cancelled == 1).await;
}

#[tokio::test]
async fn over_http2_requests_share_a_connection_and_a_reset_stops_the_replica() {
    use http_body_util::{BodyExt as _, Full};
    use hyper_util::rt::{TokioExecutor, TokioIo};
    let worker =
        FakeWorker::start(|start| if start.request_id == "slow" { Reaction::Hang } else { Reaction::Echo });
    let setup = Setup::echo(&[("echo-1", worker.address)]).await;
    let stream = tokio::net::TcpStream::connect(setup.ingress.address()).await.unwrap();
    let (sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    let send = |id: &str| {
        let request = hyper::Request::post(setup.url("/echo")).header("x-request-id", id);
        let request = request.header("content-type", "application/json");
        let body = Full::new(bytes::Bytes::from_static(br#"{"text": "hello"}"#));
        sender.clone().send_request(request.body(body).unwrap())
    };
    let slow = tokio::spawn(send("slow"));
    eventually("the replica has the call", || worker.seen().started.len() == 1).await;
    let quick = send("quick").await.unwrap();
    assert_eq!((quick.status().as_u16(), &quick.headers()["x-request-id"]), (200, &"quick".parse().unwrap()));
    assert_eq!(quick.into_body().collect().await.unwrap().to_bytes(), "{\"text\":\"hello\"}\n");
    slow.abort();
    eventually("the replica is told", || worker.seen().num_cancelled == 1).await;
}

#[tokio::test]
async fn a_drain_finishes_what_is_under_way_and_refuses_what_is_new() {
    let worker = FakeWorker::start(|_| Reaction::EchoAfter(Duration::from_millis(300)));
    let Setup { head, ingress, client } = Setup::echo(&[("echo-1", worker.address)]).await;
    let url = format!("http://{}/echo", ingress.address());
    let under_way = tokio::spawn(client.post(&url).json(&json!({"text": "hello"})).send());
    eventually("the replica has the call", || worker.seen().started.len() == 1).await;
    head.ask_to_leave(60_000);
    let limit = ingress.asked_to_leave().await;
    assert_eq!(limit, Duration::from_secs(60));
    let begun = Instant::now();
    ingress.drain(limit).await;
    assert!(begun.elapsed() < LIMIT, "it ends with the last request: {:?}", begun.elapsed());
    let response = under_way.await.unwrap().unwrap();
    assert_eq!(
        (response.status().as_u16(), &response.headers()["connection"]),
        (200, &"close".parse().unwrap())
    );
    assert!(reqwest::Client::new().post(&url).send().await.unwrap_err().is_connect());
}

#[tokio::test]
async fn who_comes_while_the_last_requests_run_is_told_why_and_where_not_to_stay() {
    let worker = FakeWorker::start(|_| Reaction::EchoAfter(Duration::from_millis(1500)));
    let Setup { head: _head, ingress, client } = Setup::echo(&[("echo-1", worker.address)]).await;
    let url = format!("http://{}", ingress.address());
    let body = json!({"text": "hello"});
    let under_way = tokio::spawn(client.post(format!("{url}/echo")).json(&body).send());
    eventually("the replica has the call", || worker.seen().started.len() == 1).await;
    let drain = tokio::spawn(ingress.drain(Duration::from_secs(60)));
    let ready =
        || async { reqwest::get(format!("{url}/-/readyz")).await.map(|answer| answer.status().as_u16()) };
    while ready().await.unwrap() == 200 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert_eq!(ready().await.unwrap(), 503, "load balancers see it");
    for path in ["/echo", "/v1/chat/completions"] {
        let refused = reqwest::Client::new().post(format!("{url}{path}")).json(&body).send().await.unwrap();
        let header = |name: &str| refused.headers()[name].to_str().unwrap().to_owned();
        assert_eq!(
            (refused.status().as_u16(), header("x-millstream-refused"), header("connection")),
            (503, "shutting-down".to_owned(), "close".to_owned()),
            "{path}"
        );
        assert_eq!(header("retry-after"), "1");
        assert!(refused.text().await.unwrap().contains("this ingress is shutting down"));
    }
    assert_eq!(under_way.await.unwrap().unwrap().status(), 200);
    drain.await.unwrap();
    assert!(reqwest::get(format!("{url}/-/readyz")).await.unwrap_err().is_connect());
}

#[tokio::test]
async fn a_drain_is_bounded() {
    let worker = FakeWorker::start(|_| Reaction::Hang);
    let Setup { head: _head, ingress, client } = Setup::echo(&[("echo-1", worker.address)]).await;
    let url = format!("http://{}/echo", ingress.address());
    let under_way = tokio::spawn(client.post(&url).json(&json!({"text": "hello"})).send());
    eventually("the replica has the call", || worker.seen().started.len() == 1).await;
    let begun = Instant::now();
    ingress.drain(Duration::from_millis(200)).await;
    assert!(begun.elapsed() < LIMIT, "{:?}", begun.elapsed());
    assert!(under_way.await.unwrap().is_err());
    eventually("the replica is told", || worker.seen().num_cancelled == 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_sends_what_is_not_wanted_gets_to_read_why() {
    let (_worker, setup) = echo_setup().await;
    for round in 0..50 {
        let request = setup.client.post(setup.url("/echo")).header("content-type", "application/json");
        let request = request.body("a".repeat(12_000_000));
        let response = request.send().await.unwrap_or_else(|error| panic!("round {round}: {error:?}"));
        assert_eq!(response.status(), 413, "round {round}");
        let request = setup.client.post(setup.url("/nothing")).body("a".repeat(3_000_000));
        let response = request.send().await.unwrap_or_else(|error| panic!("round {round}: {error:?}"));
        assert_eq!(response.status(), 404, "round {round}");
    }
}

#[tokio::test]
async fn a_drain_over_http2_ends_what_is_under_way() {
    use http_body_util::{BodyExt as _, Full};
    use hyper_util::rt::{TokioExecutor, TokioIo};
    let worker = FakeWorker::start(|_| Reaction::EchoAfter(Duration::from_millis(300)));
    let setup = Setup::echo(&[("echo-1", worker.address)]).await;
    let url = setup.url("/echo");
    let stream = tokio::net::TcpStream::connect(setup.ingress.address()).await.unwrap();
    let (sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    let send = || {
        let body = Full::new(bytes::Bytes::from_static(br#"{"text": "hello"}"#));
        let request = hyper::Request::post(&url).header("content-type", "application/json");
        sender.clone().send_request(request.body(body).unwrap())
    };
    let under_way = tokio::spawn(send());
    eventually("the replica has the call", || worker.seen().started.len() == 1).await;
    setup.ingress.drain(Duration::from_secs(5)).await;
    let response = under_way.await.unwrap().unwrap();
    assert_eq!(response.status(), 200);
    assert_eq!(response.into_body().collect().await.unwrap().to_bytes(), "{\"text\":\"hello\"}\n");
    assert!(send().await.is_err(), "the connection takes nothing new");
}
