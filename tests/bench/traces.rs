//! What traces cost: the throughput and the CPU time of an echo without traces, with them, and with 1% of them on their way to a
//! collector, on one machine in one run. The callers share the machine's cores with the server. CPU time is that of the server's
//! process, the kernel's for it included; it varies less than throughput, and what it grows by bounds what throughput falls by.
//!
//! ```text
//! cargo build --release -p millstream -p millstream-tests --bins && target/release/bench-traces
//! ```
//!
//! Each round starts every cluster anew: where a process happens to lie in memory makes as much of a difference as traces do. Within a
//! round they take turns, so that a machine that drifts drifts for all. Two of them have no traces: what differs between those two is
//! noise.

use std::env;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::Result;
use axum::routing::post;
use bytes::Bytes;
use http_body_util::Full;
use hyper::client::conn::http1::SendRequest;
use millstream_tests::echo_client::{self, call, connect};
use millstream_tests::{Cluster, UpOptions, cpu_s_of};
use serde_json::{Map, Value, json};
use tokio::net::TcpListener;
use tokio::runtime::{Builder, Runtime};

/// Rounds, unless the first argument says otherwise.
const ROUNDS: usize = 12;
const TURNS: usize = 4;
const CALLS_PER_TURN: usize = 12_000;
const NUM_CALLERS: usize = 40;
/// After the last turn, for batches of traces to leave.
const PAUSE: Duration = Duration::from_secs(1);

/// A cluster under test.
struct Server {
    cluster: Cluster,
    connections: Vec<SendRequest<Full<Bytes>>>,
    /// How long its turns have taken.
    busy: Duration,
}

/// What a call costs, in microseconds.
#[derive(Clone, Copy)]
struct Cost {
    /// The time of a turn over its calls, 1 / throughput.
    time: f64,
    /// CPU time of the server.
    cpu: f64,
}

fn main() -> Result<()> {
    let rounds = env::args().nth(1).map_or(Ok(ROUNDS), |rounds| rounds.parse())?;
    let runtime = Builder::new_current_thread().enable_all().build()?;
    let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0"))?;
    let endpoint = format!("http://{}", listener.local_addr()?);
    let bytes = Arc::new(AtomicU64::new(0));
    runtime.spawn(collect(listener, bytes.clone()));
    let export = ["--otlp-protocol", "http/protobuf", "--trace-sample", "1%", "--otlp-endpoint", &endpoint];
    let settings: [(&str, &[&str]); 4] = [
        ("no traces", &["--no-traces"]),
        ("no traces, again", &["--no-traces"]),
        ("traces", &[]),
        ("traces, 1% exported", &export),
    ];
    let flags = settings.map(|(_, flags)| flags);
    let costs = (0..rounds).map(|_| measure(&runtime, &flags)).collect::<Result<Vec<_>>>()?;
    report(&settings.map(|(name, _)| name), &costs, bytes.load(Ordering::Relaxed));
    Ok(())
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

/// One round: what a call costs, to clusters that are started with these flags.
fn measure(runtime: &Runtime, flags: &[&[&str]]) -> Result<Vec<Cost>> {
    let mut servers = Vec::new();
    for flags in flags {
        servers.push(bring_up(runtime, flags)?);
    }
    let before = servers.iter().map(cpu_s).collect::<Result<Vec<_>>>()?;
    for round in 0..TURNS {
        // Neither always first, nor always after the same one.
        let step = if round % 2 == 0 { 1 } else { servers.len() - 1 };
        for place in 0..servers.len() {
            let at = (round + place * step) % servers.len();
            let start = Instant::now();
            runtime.block_on(turn(&mut servers[at]))?;
            servers[at].busy += start.elapsed();
        }
    }
    runtime.block_on(async { tokio::time::sleep(PAUSE).await });
    let cost = |(server, before): (&Server, f64)| {
        #[expect(clippy::cast_precision_loss, reason = "fewer than 2^53 calls")]
        let us_of_call = |seconds: f64| seconds * 1e6 / (TURNS * CALLS_PER_TURN) as f64;
        anyhow::Ok(Cost {
            time: us_of_call(server.busy.as_secs_f64()),
            cpu: us_of_call(cpu_s(server)? - before),
        })
    };
    servers.iter().zip(before).map(cost).collect()
}

/// Not within the runtime: a cluster has a client that blocks.
fn bring_up(runtime: &Runtime, flags: &[&str]) -> Result<Server> {
    let echo = millstream_tests::root().join("pipelines/examples/echo.toml");
    let mut cluster = Cluster::up(&UpOptions::new().file(echo).args(flags))?;
    cluster.wait_ready();
    let address = cluster.ingress()?;
    let connections = (0..NUM_CALLERS).map(|_| connect(address));
    let connections = runtime.block_on(futures_util::future::try_join_all(connections))?;
    let mut server = Server { cluster, connections, busy: Duration::ZERO };
    runtime.block_on(turn(&mut server))?;
    Ok(server)
}

/// The CPU time of the server's process so far, its own and the kernel's for it, in seconds.
fn cpu_s(server: &Server) -> Result<f64> {
    cpu_s_of(server.cluster.leader.pid_number())
}

async fn turn(server: &mut Server) -> Result<()> {
    let body = echo_client::body();
    let callers = server.connections.iter_mut().map(async |connection| {
        for _ in 0..CALLS_PER_TURN / NUM_CALLERS {
            call(connection, &body).await?;
        }
        anyhow::Ok(())
    });
    futures_util::future::try_join_all(callers).await.map(drop)
}

#[expect(clippy::print_stdout, reason = "a benchmark prints")]
fn report(names: &[&str], rounds: &[Vec<Cost>], bytes: u64) {
    let calls = TURNS * CALLS_PER_TURN;
    println!(
        "echo of 42 floats, {NUM_CALLERS} callers, {} rounds of {calls} calls, {bytes} bytes at the collector",
        rounds.len()
    );
    println!("goal: at least 0.97 of the throughput with 1% exported");
    println!(
        "| server | calls/s | of none | standard error | CPU of a call, µs | of none | standard error |"
    );
    println!("| --- | ---: | ---: | ---: | ---: | ---: | ---: |");
    let mut result = Map::new();
    for (index, name) in names.iter().enumerate() {
        let (rate, rate_ratio, rate_error) = beside_none(rounds, index, |cost| 1e6 / cost.time);
        let (cpu, cpu_ratio, cpu_error) = beside_none(rounds, index, |cost| cost.cpu);
        println!(
            "| {name} | {rate:.0} | {rate_ratio:.3} | {rate_error:.3} | {cpu:.2} | {cpu_ratio:.3} | {cpu_error:.3} |"
        );
        let throughput = json!({"calls_per_s": rate, "ratio": rate_ratio, "error": rate_error});
        let cpu = json!({"us": cpu, "ratio": cpu_ratio, "error": cpu_error});
        result.insert((*name).into(), json!({"throughput": throughput, "cpu": cpu}));
    }
    println!("{}", Value::Object(result));
}

/// A figure of one of the servers: its mean, the mean of its ratios to those of the same round that have no traces, and their standard
/// error.
fn beside_none(rounds: &[Vec<Cost>], index: usize, figure: impl Fn(Cost) -> f64) -> (f64, f64, f64) {
    let (value, _) = mean(rounds.iter().map(|round| figure(round[index])));
    let ratio = |round: &Vec<Cost>| figure(round[index]) * 2.0 / (figure(round[0]) + figure(round[1]));
    let (ratio, error) = mean(rounds.iter().map(ratio));
    (value, ratio, error)
}

/// The mean of what the rounds have measured, and its standard error.
#[expect(clippy::cast_precision_loss, reason = "few rounds")]
fn mean(rounds: impl ExactSizeIterator<Item = f64>) -> (f64, f64) {
    let rounds = rounds.collect::<Vec<_>>();
    let count = rounds.len() as f64;
    let mean = rounds.iter().sum::<f64>() / count;
    let variance = rounds.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / (count - 1.0).max(1.0);
    (mean, (variance / count).sqrt())
}
