//! What the command and programs may ask, and what they are refused.

use std::net::SocketAddr;

use crate::common::{Control, TOKEN, Worker, echo, fast, register, start, try_start};
use millstream_proto::status::ClusterStatus;
use millstream_test_support::{Echo, until};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tonic::Code;

#[tokio::test]
async fn bad_texts_and_conflicts_are_refused_with_their_class() {
    let dir = tempfile::tempdir().unwrap();
    let head = start(dir.path()).await;
    let mut control = Control::of(&head).await;
    let bad = control.deploy("name = 3\n[deployments.x]\nengine = \"none\"\n").await.unwrap_err();
    assert_eq!(bad.code(), Code::InvalidArgument);
    assert!(bad.message().contains("p.toml:1:8"), "{bad}");
    control.deploy(echo("a", 1, "0ms")).await.unwrap();
    let taken = control.deploy(echo("b", 1, "0ms").route("/a")).await.unwrap_err();
    assert_eq!(taken.code(), Code::InvalidArgument);
    let using = |deployment| Echo::new("user").uses(deployment);
    let missing = control.deploy(using("a/none")).await.unwrap_err();
    assert!(missing.message().contains("`a/none` does not exist"), "{missing}");
    control.deploy(using("a/model")).await.unwrap();
    let both = [echo("c", 1, "0ms").to_string(), echo("d", 1, "0ms").route("/a").to_string()];
    let refused = control.deploy_all(&both).await.unwrap_err();
    assert_eq!(refused.code(), Code::InvalidArgument);
    let twice = control.deploy_all(&[both[0].clone(), both[0].clone()]).await.unwrap_err();
    assert!(twice.message().contains("two of the files are of pipeline `c`"), "{twice}");
    assert_eq!(control.list().await.len(), 2, "all or none");
    let in_use = control.delete("a").await.unwrap_err();
    assert_eq!(in_use.code(), Code::Aborted);
    assert_eq!(control.delete("none").await.unwrap_err().code(), Code::NotFound);
    control.delete("user").await.unwrap();
    control.delete("a").await.unwrap();
    assert!(control.list().await.is_empty());
    head.stop().await;
}

#[tokio::test]
async fn a_status_watch_sees_changes() {
    let dir = tempfile::tempdir().unwrap();
    let head = start(dir.path()).await;
    let mut control = Control::of(&head).await;
    let mut watch = control.watch().await;
    let mut next = async || -> ClusterStatus {
        let message = watch.message().await.unwrap().unwrap();
        serde_json::from_str(&message.json).unwrap()
    };
    assert!(next().await.nodes.is_empty());
    let _worker = Worker::join(&head, register("node-1")).await.unwrap();
    until("the node is seen", async || next().await.nodes.first().cloned()).await;
    control.deploy(echo("p", 1, "0ms")).await.unwrap();
    until("the replica is seen", async || {
        next().await.pipelines.first()?.deployments[0].replicas.first().cloned()
    })
    .await;
    head.stop().await;
}

#[tokio::test]
async fn a_second_head_on_the_same_directory_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let head = start(dir.path()).await;
    let Err(error) = try_start(dir.path(), fast()).await else { panic!("two heads on one store") };
    assert!(error.to_string().contains("is open already"), "{error}");
    head.stop().await;
    start(dir.path()).await.stop().await;
}

#[tokio::test]
async fn a_damaged_store_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    start(dir.path()).await.stop().await;
    let path = dir.path().join("head.redb");
    let bytes = std::fs::read(&path).unwrap();
    std::fs::write(&path, &bytes[..bytes.len() / 3]).unwrap();
    let Err(error) = try_start(dir.path(), fast()).await else { panic!("a damaged store was opened") };
    assert!(error.to_string().contains("head.redb") && error.to_string().contains("backup"), "{error}");
    assert_eq!(std::fs::read(&path).unwrap(), &bytes[..bytes.len() / 3]);
}

async fn get(address: SocketAddr, path: &str, headers: &str) -> String {
    let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nconnection: close\r\n{headers}\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer
}

#[tokio::test]
async fn the_dashboard_address_serves_its_own_pages_only() {
    let dir = tempfile::tempdir().unwrap();
    let head = start(dir.path()).await;
    let at = head.dashboard_address();
    let host = format!("host: {at}\r\n");
    let token = format!("authorization: Bearer {TOKEN}\r\n");
    let healthy = get(at, "/healthz", &host).await;
    assert!(healthy.starts_with("HTTP/1.1 200"), "{healthy}");
    let status = get(at, "/api/status", &format!("{host}{token}")).await;
    assert!(status.starts_with("HTTP/1.1 200"), "{status}");
    let body = status.split("\r\n\r\n").nth(1).unwrap();
    assert_eq!(serde_json::from_str::<ClusterStatus>(body).unwrap().leader, "head-1");
    for (path, headers, expected) in [
        ("/api/status", host.clone(), "401"),
        ("/api/status", format!("{host}authorization: Bearer wrong\r\n"), "401"),
        ("/api/status", format!("host: evil.example\r\n{token}"), "403"),
        ("/api/status", format!("{host}{token}origin: http://evil.example\r\n"), "403"),
        ("/api/series", format!("host: evil.example\r\n{token}"), "403"),
        // Prometheus and probes go by the name that they were given.
        ("/healthz", "host: head.example:8265\r\n".to_owned(), "200"),
        ("/healthz", "host: head.example\r\norigin: http://evil.example\r\n".to_owned(), "403"),
        // The head of a test records no metrics.
        ("/metrics", "host: head.example:8265\r\n".to_owned(), "404"),
        ("/metrics", format!("{host}origin: http://evil.example\r\n"), "403"),
        ("/none", host.clone(), "404"),
    ] {
        let answer = get(at, path, &headers).await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {expected}")), "{path} {headers}: {answer}");
    }
    let own = get(at, "/api/status", &format!("{host}{token}origin: http://{at}\r\n")).await;
    assert!(own.starts_with("HTTP/1.1 200"), "{own}");
    head.stop().await;
}
