//! Ingresses that start without a head: served is what the last one said, until the next one says it.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use millstream_ingress::{Config, Folders, Ingress};
use serde_json::{Value, json};

use crate::common::{FakeHead, FakeWorker, Reaction, Table, config_at, echo, eventually, no_folders, table};

/// One that keeps its routes in that folder.
async fn start(head: SocketAddr, data_dir: &Path) -> Ingress {
    let folders = Folders { routes: Some(data_dir.to_owned()), ..no_folders() };
    Ingress::start(Config { folders, ..config_at(head) }).await.unwrap()
}

async fn get(ingress: &Ingress, path: &str) -> (u16, Value) {
    let answer = reqwest::get(format!("http://{}{path}", ingress.address())).await.unwrap();
    (answer.status().as_u16(), answer.json().await.unwrap())
}

async fn post(ingress: &Ingress) -> u16 {
    let client = reqwest::Client::new();
    let request = client.post(format!("http://{}/echo", ingress.address())).json(&json!({"text": "x"}));
    request.send().await.unwrap().status().as_u16()
}

async fn until_ready(ingress: &Ingress) {
    millstream_test_support::until("it is ready", async || {
        (get(ingress, "/-/readyz").await.0 == 200).then_some(())
    })
    .await;
}

#[tokio::test]
async fn the_last_routes_are_served_until_a_head_sends_others() {
    let worker = FakeWorker::start(|_| Reaction::Echo);
    let folder = tempfile::tempdir().unwrap();
    let head = FakeHead::start(table(1, echo(), "model", &[("echo-1", worker.address)]));
    let address = head.address;
    let ingress = start(head.address, folder.path()).await;
    eventually("the table is confirmed", || head.acked(1)).await;
    assert_eq!(get(&ingress, "/-/routes").await.1.get("kept_s"), None);
    let file = folder.path().join("routes.kept");
    eventually("the routes are kept", || file.exists()).await;
    drop((ingress, head));

    let ingress = start(address, folder.path()).await;
    assert_eq!(post(&ingress).await, 503, "a head may still answer");
    until_ready(&ingress).await;
    assert_eq!(post(&ingress).await, 200);
    let (_, routes) = get(&ingress, "/-/routes").await;
    assert!(routes["kept_s"].as_u64().is_some_and(|age_s| age_s < 60), "{routes}");
    assert_eq!(routes["pipelines"][0]["deployments"][0]["replicas"], 1);

    let head = FakeHead::start_at(address, Table::empty(2));
    eventually("the head's table is confirmed", || head.acked(2)).await;
    assert_eq!(
        head.hello().unwrap().cluster_id,
        fs::read_to_string(folder.path().join("cluster_id")).unwrap()
    );
    assert_eq!(get(&ingress, "/-/routes").await.1.get("kept_s"), None);
    assert_eq!(post(&ingress).await, 404);
}

#[tokio::test]
async fn routes_of_another_cluster_and_damaged_ones_are_not_served() {
    let worker = FakeWorker::start(|_| Reaction::Echo);
    let folder = tempfile::tempdir().unwrap();
    let head = FakeHead::start(table(1, echo(), "model", &[("echo-1", worker.address)]));
    let ingress = start(head.address, folder.path()).await;
    let file = folder.path().join("routes.kept");
    eventually("the routes are kept", || file.exists()).await;
    drop(ingress);
    let (good, mut damaged) = (fs::read(&file).unwrap(), fs::read(&file).unwrap());
    *damaged.last_mut().unwrap() ^= 1;
    let address = head.address;
    drop(head);
    for (routes, cluster_id) in
        [(&good, "another"), (&damaged, "cluster-1"), (&good[..9].to_vec(), "cluster-1")]
    {
        fs::write(&file, routes).unwrap();
        fs::write(folder.path().join("cluster_id"), cluster_id).unwrap();
        let ingress = start(address, folder.path()).await;
        // Nothing is to be seen but that it does not happen.
        tokio::time::sleep(Duration::from_millis(1500)).await;
        assert_eq!(get(&ingress, "/-/readyz").await.0, 503, "{cluster_id}");
    }
}
