//! What a call costs around an engine: echo calls in this process, and over a link.
//! `cargo run --release -p millstream-worker --no-default-features --example echo_cost`
#![allow(clippy::disallowed_methods, reason = "a measurement reads the clock")]
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a measurement for people")]

use std::time::{Duration, Instant};

use millstream_proto::v1;

#[path = "../tests/support/mod.rs"]
#[allow(dead_code, unused_imports, reason = "shared with the tests")]
mod support;
use support::{Head, Remote, call, start_echo};

const NUM_CALLS: u32 = 200_000;

#[tokio::main]
async fn main() {
    let data_dir = tempfile::tempdir().unwrap();
    let mut head = Head::start().await;
    let worker = head.worker(data_dir.path()).await;
    let mut session = head.session(1).await;
    session.send(1, start_echo("echo", Duration::ZERO)).await;
    session.state("echo", v1::ReplicaState::Ready).await;
    let client = worker.client();

    let mut local = Vec::new();
    for _ in 0..NUM_CALLS {
        let start = Instant::now();
        call(&*client, "echo", "hello").await;
        local.push(start.elapsed());
    }
    print("in the process, making the request included", &mut local);

    let nearby = Remote::connect_nearby(&worker, data_dir.path()).await;
    let remotes = [("a Unix socket", nearby), ("TCP on loopback", Remote::connect(&worker).await)];
    for (what, remote) in remotes {
        let mut times = Vec::new();
        for _ in 0..NUM_CALLS / 10 {
            let start = Instant::now();
            remote.start("echo", "hello").next().await;
            times.push(start.elapsed());
        }
        print(&format!("over {what}, one at a time"), &mut times);
    }
}

fn print(what: &str, times: &mut [Duration]) {
    times.sort_unstable();
    let at = |part: usize| times[times.len() * part / 100].as_secs_f64() * 1e6;
    println!("{what}: p50 {:.2} µs, p99 {:.2} µs", at(50), at(99));
}
