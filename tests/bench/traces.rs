//! What traces cost: the CPU time of an echo without traces, with them, and with 1% of them on their way to a collector, on one
//! machine in one run. CPU time, in the process and in the kernel for it, varies less than throughput, and bounds it.
//!
//! ```text
//! cargo build --release -p millstream -p millstream-tests --bins && target/release/bench-traces
//! ```
//!
//! The clusters run in processes of their own and take turns, in another order each round, so that a machine that drifts drifts for
//! all. Two of them have no traces: what differs between those two is noise.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use std::{env, fs};

use anyhow::{Context as _, Result};
use axum::routing::post;
use bytes::Bytes;
use http_body_util::Full;
use hyper::client::conn::http1::SendRequest;
use millstream_tests::echo_client::{self, call, connect};
use millstream_tests::{Cluster, UpOptions};
use serde_json::{Map, Value, json};
use tokio::net::TcpListener;

/// Rounds, unless the first argument says otherwise.
const ROUNDS: usize = 40;
const CALLS_PER_TURN: usize = 20_000;
const NUM_CALLERS: usize = 40;
/// After a turn, for batches of traces to leave.
const PAUSE: Duration = Duration::from_millis(700);
/// What `/proc` counts in: hundredths of a second, whatever the kernel's own tick is.
const US_PER_TICK: f64 = 1e4;

/// A cluster under test.
struct Server {
    name: &'static str,
    cluster: Cluster,
    connections: Vec<SendRequest<Full<Bytes>>>,
    /// CPU time of each turn, in ticks.
    turns: Vec<u64>,
}

fn main() -> Result<()> {
    let rounds = env::args().nth(1).map_or(Ok(ROUNDS), |rounds| rounds.parse())?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0"))?;
    let endpoint = format!("http://{}", listener.local_addr()?);
    let bytes = Arc::new(AtomicU64::new(0));
    runtime.spawn(collect(listener, bytes.clone()));
    let export = ["--otlp-protocol", "http/protobuf", "--trace-sample", "1%", "--otlp-endpoint", &endpoint];
    let mut servers = Vec::new();
    for (name, flags) in [
        ("no traces", &["--no-traces"][..]),
        ("no traces, again", &["--no-traces"]),
        ("traces", &[]),
        ("traces, 1% exported", &export),
    ] {
        servers.push(bring_up(name, flags)?);
    }
    runtime.block_on(measure(&mut servers, rounds))?;
    report(&servers, rounds, bytes.load(Ordering::Relaxed));
    Ok(())
}

fn bring_up(name: &'static str, flags: &[&str]) -> Result<Server> {
    let echo = millstream_tests::root().join("pipelines/examples/echo.toml");
    let mut cluster = Cluster::up(&UpOptions::new().file(echo).args(flags))?;
    cluster.wait_ready();
    Ok(Server { name, cluster, connections: Vec::new(), turns: Vec::new() })
}

/// A collector that only counts the bytes that come, until the program ends.
async fn collect(listener: TcpListener, bytes: Arc<AtomicU64>) -> std::io::Result<()> {
    let take = move |body: Bytes| {
        bytes.fetch_add(body.len() as u64, Ordering::Relaxed);
        // An answer of the protocol that has nothing to say is empty.
        std::future::ready([("content-type", "application/x-protobuf")])
    };
    axum::serve(listener, axum::Router::new().route("/v1/traces", post(take))).await
}

async fn measure(servers: &mut [Server], rounds: usize) -> Result<()> {
    for server in &mut *servers {
        let address: SocketAddr =
            server.cluster.leader.endpoints()["ingress"].as_str().context("no ingress address")?.parse()?;
        for _ in 0..NUM_CALLERS {
            server.connections.push(connect(address).await?);
        }
        turn(server).await?;
        server.turns.clear();
    }
    for round in 0..rounds {
        // Neither always first, nor always after the same one.
        let step = if round % 2 == 0 { 1 } else { servers.len() - 1 };
        for place in 0..servers.len() {
            let at = (round + place * step) % servers.len();
            turn(&mut servers[at]).await?;
        }
    }
    Ok(())
}

async fn turn(server: &mut Server) -> Result<()> {
    let body = echo_client::body();
    let before = cpu_ticks(server)?;
    let callers = server.connections.iter_mut().map(async |connection| {
        for _ in 0..CALLS_PER_TURN / NUM_CALLERS {
            call(connection, &body).await?;
        }
        anyhow::Ok(())
    });
    futures_util::future::try_join_all(callers).await?;
    tokio::time::sleep(PAUSE).await;
    server.turns.push(cpu_ticks(server)? - before);
    Ok(())
}

/// The CPU time of the server's process so far, its own and the kernel's for it.
fn cpu_ticks(server: &Server) -> Result<u64> {
    let pid = server.cluster.leader.pid().as_raw_nonzero();
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    // The 14th and 15th field; the second may have spaces in it.
    let fields = stat.rsplit(')').next().unwrap_or_default().split_whitespace();
    fields.skip(11).take(2).map(|ticks| ticks.parse::<u64>().context("ticks")).sum()
}

#[expect(clippy::print_stdout, reason = "a benchmark prints")]
#[expect(clippy::cast_precision_loss, reason = "fewer than 2^53 ticks and calls")]
fn report(servers: &[Server], rounds: usize, bytes: u64) {
    let calls = rounds * CALLS_PER_TURN;
    let us = |server: &Server| server.turns.iter().sum::<u64>() as f64 * US_PER_TICK / calls as f64;
    let floor = (us(&servers[0]) + us(&servers[1])) / 2.0;
    println!("echo of 42 floats, {NUM_CALLERS} callers, {calls} calls each, {bytes} bytes at the collector");
    println!(
        "goal: at most 1.03 with 1% exported\n| server | CPU of a call, µs | of none |\n| --- | --- | --- |"
    );
    let mut result = Map::new();
    for server in servers {
        println!("| {} | {:.2} | {:.3} |", server.name, us(server), us(server) / floor);
        result.insert(server.name.into(), json!({"us": us(server), "ratio": us(server) / floor}));
    }
    println!("{}", Value::Object(result));
}
