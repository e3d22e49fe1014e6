//! Kept answers between ingress and replicas: what is never kept, and what a change of routes makes of those there are.

use crate::common::{
    FakeHead, FakeWorker, GENERATE, Reaction, Setup, Table, echo, eventually, number, table,
};
use millstream_ingress::HttpLimits;
use millstream_proto::v1;
use millstream_test_support::Echo;
use serde_json::json;

/// The table with another revision of its only pipeline, whose replicas are of these revisions, each serving its own if
/// that is routed.
fn of_revision(table: Table, version: u64, revision: u64, replicas: &[u64]) -> Table {
    let mut table = table.of_revision(revision);
    table.version = Some(number(version));
    let pipeline = &mut table.pipelines[0];
    for (replica, &started_for) in pipeline.deployments[0].replicas.iter_mut().zip(replicas) {
        replica.revision = started_for;
        replica.serves = if started_for == revision { vec![revision] } else { Vec::new() };
    }
    table
}

const CACHE: &str = "cache = \"10m\"";

async fn post(setup: &Setup) {
    let response = setup.post_echo().send().await.unwrap();
    assert_eq!(
        (response.status().as_u16(), response.text().await.unwrap()),
        (200, "{\"text\":\"hello\"}\n".to_owned())
    );
}

#[tokio::test]
async fn an_older_replica_that_helps_out_gives_answers_that_are_not_kept() {
    let worker = FakeWorker::start(|_| Reaction::Echo);
    let routes = table(1, echo().stage(CACHE), "model", &[("echo-1", worker.address)]);
    let setup = Setup::of(of_revision(routes.clone(), 1, 2, &[1]), HttpLimits::default()).await;
    for calls in 1..=3 {
        post(&setup).await;
        assert_eq!(worker.seen().started.len(), calls, "it is of revision 1, the request of 2");
    }
    setup.head.push(of_revision(routes.clone(), 2, 2, &[2])).await;
    for _ in 0..3 {
        post(&setup).await;
    }
    assert_eq!(worker.seen().started.len(), 4, "one of the right revision is called once");
    setup.head.push(of_revision(routes.clone(), 3, 2, &[2])).await;
    post(&setup).await;
    assert_eq!(worker.seen().started.len(), 4, "another table with the same revision changes nothing");
    setup.head.push(of_revision(routes, 4, 3, &[3])).await;
    post(&setup).await;
    post(&setup).await;
    assert_eq!(worker.seen().started.len(), 5, "the next revision begins with nothing");
}

#[tokio::test]
async fn answers_of_another_pipelines_deployment_go_with_its_revision() {
    let worker = FakeWorker::start(|_| Reaction::Echo);
    let caller = Echo::new("caller").route("/echo").uses("model/echo").stage(CACHE);
    let model = "name = \"model\"\n[deployments.echo]\nengine = \"echo\"\n";
    let both = |version, model: &str, revision| {
        let model = table(version, model, "echo", &[("echo-1", worker.address)]);
        of_revision(model, version, revision, &[revision]).and(table(version, &caller, "none", &[]))
    };
    let setup = Setup::of(both(1, model, 1), HttpLimits::default()).await;
    for (version, revision, calls) in [(2, 1, 1), (3, 2, 2), (4, 2, 2)] {
        setup.head.push(both(version, model, revision)).await;
        post(&setup).await;
        post(&setup).await;
        assert_eq!(worker.seen().started.len(), calls, "revision {revision}");
    }
    setup.head.push(both(5, &format!("{model}idempotent = false\n"), 3)).await;
    post(&setup).await;
    post(&setup).await;
    assert_eq!(worker.seen().started.len(), 4, "calls that are not idempotent are all made");
}

#[tokio::test]
async fn streams_and_copies_are_made_whatever_is_kept() {
    let worker = FakeWorker::start(|_| Reaction::Parts(vec!["The ", "end"]));
    let source = GENERATE.replace("[stages.answer]", &format!("[stages.answer]\n{CACHE}"));
    let setup =
        Setup::of(table(1, &source, "generator", &[("g", worker.address)]), HttpLimits::default()).await;
    let ask =
        |stream: bool| setup.client.post(setup.url("/gen")).json(&json!({"question": "?", "stream": stream}));
    for (stream, calls) in [(false, 1), (false, 1), (true, 2), (true, 3), (false, 3)] {
        let answer = ask(stream).send().await.unwrap().text().await.unwrap();
        assert!(answer.contains("The end"), "{answer}");
        assert_eq!(answer.contains("event: delta"), stream);
        assert_eq!(worker.seen().started.len(), calls);
    }
    let mut shadowed = table(2, &source, "generator", &[("g", worker.address)]);
    shadowed = shadowed.with_source("gen", 2, &source);
    let variant = v1::Variant { revision: 2, permille: 0, shadow_permille: 1000 };
    shadowed.pipelines[0].variants.push(variant);
    shadowed.pipelines[0].deployments[0].replicas[0].serves = vec![1, 2];
    setup.head.push(shadowed).await;
    for copies in 1..=2 {
        ask(false).send().await.unwrap().text().await.unwrap();
        eventually("the copy is made, the request is not", || worker.seen().started.len() == 3 + copies)
            .await;
    }
}

#[tokio::test]
async fn a_stages_timeout_ends_the_wait_for_anothers_answer_too() {
    let worker = FakeWorker::start(|_| Reaction::Hang);
    let source = echo().stage(CACHE).stage("timeout = \"300ms\"");
    let head = FakeHead::start(table(1, &source, "model", &[("echo-1", worker.address)]));
    let ingress = crate::common::ingress(&head, None, HttpLimits::default()).await;
    let setup = Setup { head, ingress, client: reqwest::Client::new() };
    let requests: Vec<_> = (0..3).map(|_| tokio::spawn(setup.post_echo().send())).collect();
    for request in requests {
        assert_eq!(request.await.unwrap().unwrap().status(), 504);
    }
    assert!(worker.seen().started.len() <= 3);
}
