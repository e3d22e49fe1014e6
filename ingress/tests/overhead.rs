//! What the edge costs: the same small POST to a bare axum server that parses and writes JSON, and to an ingress whose
//! only stage is answered in this process at once. Prints both; run it with
//! `cargo test --release -p millstream-ingress --test integration -- overhead --ignored --nocapture`.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::common::{FakeHead, LocalEcho, echo, ingress, table};
use millstream_ingress::{HttpLimits, LocalWorker};

const ROUNDS: usize = 5;
const REQUESTS_PER_ROUND: usize = 2000;

#[derive(serde::Serialize, serde::Deserialize)]
struct Body {
    text: String,
}

async fn bare() -> SocketAddr {
    let echo = axum::routing::post(|axum::Json(body): axum::Json<Body>| async { axum::Json(body) });
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let app = axum::Router::new().route("/echo", echo);
    tokio::spawn(async move {
        use axum::serve::ListenerExt as _;
        axum::serve(listener.tap_io(|io| io.set_nodelay(true).unwrap()), app).await.unwrap();
    });
    address
}

/// Latencies of requests on one kept connection, after a warm-up, ascending.
fn latencies(address: SocketAddr) -> Vec<Duration> {
    let body = r#"{"text":"the quick brown fox jumps over the lazy dog"}"#;
    let request = format!(
        "POST /echo HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    );
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_nodelay(true).unwrap();
    let mut buffer = [0; 4096];
    let mut latencies: Vec<_> = (0..REQUESTS_PER_ROUND + 500)
        .map(|_| {
            let begun = Instant::now();
            stream.write_all(request.as_bytes()).unwrap();
            let read = stream.read(&mut buffer).unwrap();
            assert!(buffer[..read].starts_with(b"HTTP/1.1 200") && buffer[..read].ends_with(body.as_bytes()));
            begun.elapsed()
        })
        .skip(500)
        .collect();
    latencies.sort();
    latencies
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "a measurement, for release builds"]
async fn echo_beside_a_bare_server() {
    let bare = bare().await;
    let worker: SocketAddr = "127.0.0.1:9".parse().unwrap();
    let head = FakeHead::start(table(1, echo(), "model", &[("echo-1", worker)]));
    let node_id = format!("node-of-{worker}").into();
    let local = LocalWorker { node_id, client: Arc::new(LocalEcho) };
    let ingress = ingress(&head, Some(local), HttpLimits::default()).await;
    let ours = ingress.address();
    for round in 0..ROUNDS {
        let [bare, ours] =
            [bare, ours].map(|address| std::thread::spawn(move || latencies(address)).join().unwrap());
        let (bare_p50, ours_p50) = (bare[bare.len() / 2], ours[ours.len() / 2]);
        let ratio = ours_p50.as_secs_f64() / bare_p50.as_secs_f64();
        println!("round {round}: bare axum p50 {bare_p50:?}, ingress p50 {ours_p50:?}, ratio {ratio:.2}");
    }
}
