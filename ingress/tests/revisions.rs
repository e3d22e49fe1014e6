//! Revisions by number: each source is asked for once, and a table is in force when all its revisions are here.

use std::time::Instant;

use crate::common::{FakeHead, FakeWorker, Reaction, Setup, Table, echo, eventually, ingress, table};
use millstream_ingress::HttpLimits;
use serde_json::json;

/// What the pipeline answers, by the version of its text.
async fn post(setup: &Setup) -> String {
    let response = setup.post_echo().send().await.unwrap();
    assert_eq!(response.status(), 200);
    response.text().await.unwrap()
}

#[tokio::test]
async fn a_source_is_asked_for_once_and_forgotten_when_no_table_names_it() {
    let worker = FakeWorker::start(|_| Reaction::Echo);
    let of = |version| table(version, echo(), "model", &[("echo-1", worker.address)]);
    let setup = Setup::of(of(1), HttpLimits::default()).await;
    setup.head.push(of(2).without_sources()).await;
    setup.head.push(of(3).of_revision(2)).await;
    assert_eq!((setup.head.num_fetches("echo", 1), setup.head.num_fetches("echo", 2)), (1, 1));
    setup.head.push(Table::empty(4)).await;
    setup.head.push(of(5)).await;
    assert_eq!((setup.head.num_fetches("echo", 1), setup.head.num_fetches("echo", 2)), (2, 1));
    post(&setup).await;
}

#[tokio::test]
async fn sources_outlive_a_session() {
    let worker = FakeWorker::start(|_| Reaction::Echo);
    let of = |version| table(version, echo(), "model", &[("echo-1", worker.address)]);
    let Setup { head, ingress, client } = Setup::of(of(1), HttpLimits::default()).await;
    let address = head.address;
    drop(head);
    let head = FakeHead::start_at(address, of(2).without_sources());
    eventually("the table of the next head is confirmed", || head.acked(2)).await;
    assert_eq!(head.num_fetches("echo", 1), 0);
    post(&Setup { head, ingress, client }).await;
}

#[tokio::test]
async fn a_table_whose_source_is_not_to_be_had_is_not_put_in_force() {
    let worker = FakeWorker::start(|_| Reaction::Echo);
    let other = FakeWorker::start(|_| Reaction::Echo);
    let setup = Setup::echo(&[("echo-1", worker.address)]).await;
    let next = |version, revision| {
        let source = echo().answer("said = \"out.text\"");
        table(version, source, "model", &[("echo-2", other.address)]).of_revision(revision)
    };
    let published = Instant::now();
    setup.head.publish(next(2, 2).without_sources());
    eventually("it is tried again", || setup.head.num_fetches("echo", 2) == 4).await;
    // Half of 50, 100 and 200 ms, at least.
    assert!(published.elapsed().as_millis() >= 175, "tries come ever more rarely");
    assert!(!setup.head.acked(2));
    assert_eq!(post(&setup).await, "{\"text\":\"hello\"}\n");
    assert!(other.seen().started.is_empty(), "no part of it is in force");

    setup.head.push(next(3, 3)).await;
    assert!(!setup.head.acked(2), "it was never whole");
    let said = serde_json::from_str::<serde_json::Value>(&post(&setup).await).unwrap();
    assert_eq!(said, json!({"text": "hello", "said": "hello"}));
    assert_eq!((worker.seen().started.len(), other.seen().started.len()), (1, 1));
}

#[tokio::test]
async fn a_source_that_comes_late_completes_the_table() {
    let worker = FakeWorker::start(|_| Reaction::Echo);
    let of = |version| table(version, echo(), "model", &[("echo-1", worker.address)]).of_revision(version);
    let setup = Setup::of(of(1), HttpLimits::default()).await;
    setup.head.publish(of(2).without_sources());
    eventually("it is asked for", || setup.head.num_fetches("echo", 2) == 1).await;
    setup.head.has_source("echo", 2, echo());
    eventually("the table is confirmed", || setup.head.acked(2)).await;
}

#[tokio::test]
async fn a_head_that_dies_before_it_gave_a_source_leaves_the_last_table_in_force() {
    let worker = FakeWorker::start(|_| Reaction::Echo);
    let of = |version| table(version, echo(), "model", &[("echo-1", worker.address)]).of_revision(version);
    let Setup { head, ingress, client } = Setup::of(of(1), HttpLimits::default()).await;
    head.publish(of(2).without_sources());
    eventually("it is asked for", || head.num_fetches("echo", 2) == 1).await;
    let address = head.address;
    drop(head);
    let url = format!("http://{}/echo", ingress.address());
    let answer = client.post(url).json(&json!({"text": "hello"})).send().await.unwrap();
    assert_eq!((answer.headers()["x-revision"].to_str().unwrap(), answer.status().as_u16()), ("1", 200));
    let head = FakeHead::start_at(address, of(2));
    eventually("the table is confirmed", || head.acked(2)).await;
    assert_eq!(post(&Setup { head, ingress, client }).await, "{\"text\":\"hello\"}\n");
}

#[tokio::test]
async fn a_first_table_waits_for_all_its_sources() {
    let worker = FakeWorker::start(|_| Reaction::Echo);
    let one = |name: &str| {
        let source = millstream_test_support::Echo::new(name);
        table(1, &source, "model", &[("echo-1", worker.address)])
    };
    let names: Vec<_> = (0..20).map(|n| format!("p{n:02}")).collect();
    let all = names.iter().map(|name| one(name)).reduce(Table::and).unwrap();
    let head = FakeHead::start(all);
    let _ingress = ingress(&head, None, HttpLimits::default()).await;
    for name in names {
        assert_eq!(head.num_fetches(&name, 1), 1, "{name}");
    }
}
