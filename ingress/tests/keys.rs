//! API keys where a stream is under way and where tables change: scripted replicas, and a head that hands out tables.

use crate::common::{FakeWorker, GENERATE, Reaction, Setup, Table, echo, eventually, problem, table};
use millstream_ingress::HttpLimits;
use millstream_proto::v1;
use serde_json::json;
use sha2::{Digest as _, Sha256};

/// The table with a key whose secret is `mk_a` and which has one request at a time.
fn with_key(mut table: Table, priority: v1::Priority) -> Table {
    table.keys = vec![v1::ApiKey {
        name: "a".into(),
        sha256: Sha256::digest("mk_a").to_vec().into(),
        tenant: 1,
        concurrency: 1,
        priority: priority.into(),
        ..Default::default()
    }];
    table
}

#[tokio::test]
async fn a_stream_holds_its_place_until_its_client_leaves_also_across_tables() {
    let worker = FakeWorker::start(|_| Reaction::PartsThenHang(vec!["The "]));
    let table = |version| {
        with_key(table(version, GENERATE, "generator", &[("gen-1", worker.address)]), v1::Priority::Normal)
    };
    let setup = Setup::of(table(1), HttpLimits::default()).await;
    let body = json!({"question": "?", "stream": true});
    let ask = || setup.client.post(setup.url("/gen")).bearer_auth("mk_a").json(&body).send();
    let mut stream = ask().await.unwrap();
    assert!(stream.chunk().await.unwrap().unwrap().starts_with(b"event: delta"));
    setup.head.push(table(2)).await;
    let refused = ask().await.unwrap();
    assert_eq!(refused.headers()["retry-after"], "1");
    let (status, document) = problem(refused).await;
    assert_eq!((status, &document["type"]), (429, &json!("urn:millstream:problem:rate-limited")));
    assert_eq!(worker.seen().started.len(), 1, "it costs no replica anything");
    drop(stream);
    eventually("the replica is told", || worker.seen().num_cancelled == 1).await;
    assert_eq!(ask().await.unwrap().status(), 200);
}

#[tokio::test]
async fn a_client_that_leaves_gives_its_place_back() {
    let worker = FakeWorker::start(|start| match start.request_id.as_str() {
        "first" => Reaction::Hang,
        _ => Reaction::Echo,
    });
    let table = with_key(table(1, echo(), "model", &[("echo-1", worker.address)]), v1::Priority::Normal);
    let setup = Setup::of(table, HttpLimits::default()).await;
    let ask = |id: &str| setup.post_echo().header("x-api-key", "mk_a").header("x-request-id", id).send();
    let first = tokio::spawn(ask("first"));
    eventually("the replica has the call", || worker.seen().started.len() == 1).await;
    assert_eq!(ask("second").await.unwrap().status(), 429);
    first.abort();
    eventually("the replica is told", || worker.seen().num_cancelled == 1).await;
    assert_eq!(ask("third").await.unwrap().status(), 200);
}

#[tokio::test]
async fn an_unknown_key_is_401_also_where_a_route_is_unknown() {
    let worker = FakeWorker::start(|_| Reaction::Echo);
    let table = with_key(table(1, echo(), "model", &[("echo-1", worker.address)]), v1::Priority::Low);
    let setup = Setup::of(table, HttpLimits::default()).await;
    for path in ["/echo", "/nowhere", "/-/routes"] {
        let refused = setup.client.post(setup.url(path)).header("x-api-key", "mk_b").send().await.unwrap();
        let expected = if path == "/-/routes" { 405 } else { 401 };
        assert_eq!(refused.status(), expected, "{path}");
    }
    let refused = setup.client.get(setup.url("/-/routes")).bearer_auth("mk_b").send().await.unwrap();
    assert_eq!(refused.headers()["www-authenticate"], "Bearer");
    let (status, document) = problem(refused).await;
    assert_eq!((status, &document["detail"]), (401, &json!("there is no such API key")));
    assert_eq!(setup.post_echo().header("x-api-key", "mk_a").send().await.unwrap().status(), 200);
    assert_eq!(setup.post_echo().send().await.unwrap().status(), 200);
    assert_eq!(
        setup.post_echo().bearer_auth("sk-whatever").send().await.unwrap().status(),
        200,
        "not of ours"
    );
    assert_eq!(worker.seen().started.len(), 3);
}
