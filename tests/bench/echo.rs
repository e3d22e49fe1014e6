//! What the framework costs: an echo pipeline beside a bare axum echo, on one machine in one run, and what an idle
//! cluster holds. `cargo build --profile dist -p millstream -p millstream-tests --bins && target/dist/bench-echo`
//!
//! It fails when a call costs more than [`MAX_RATIO`] times the bare server's: the one gate on speed, a ratio of one run.
//!
//! Both servers run in processes of their own (this program starts itself for the axum one) and answer the same 42
//! floats. One keep-alive connection each, closed loop, rounds in turn, so that a machine that drifts drifts for both.

use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use std::{env, fs};

use anyhow::{Context as _, Result, ensure};
use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::client::conn::http1::SendRequest;
use hyper_util::rt::TokioIo;
use millstream_tests::{Cluster, UpOptions, axum_echo};
use serde_json::{Value, json};
use tokio::net::TcpStream;

const ROUNDS: usize = 10;
const REQUESTS_PER_ROUND: usize = 2_000;
const WARM_UP: usize = 2_000;
/// Most that the median call may take, in times of the bare server's. Measured: 1.05 to 1.4 (docs/benchmarks.md).
const MAX_RATIO: f64 = 1.8;

fn main() -> Result<()> {
    if env::args().nth(1).as_deref() == Some("--axum") {
        let file = env::args().nth(2).context("no file to write the address to")?;
        return axum_echo::serve(Path::new(&file));
    }
    let start = Instant::now();
    let echo = millstream_tests::root().join("pipelines/examples/echo.toml");
    let mut cluster = Cluster::up(&UpOptions::new().file(echo))?;
    cluster.wait_ready();
    let ready = start.elapsed();
    let idle = cluster.leader.pss_mib();
    let (mut axum, axum_address) = start_axum()?;
    let ours_address: SocketAddr =
        cluster.leader.endpoints()["ingress"].as_str().context("no ingress address")?.parse()?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let (floor, ours) = runtime.block_on(measure(axum_address, ours_address))?;
    let loaded = cluster.leader.pss_mib();
    axum.kill()?;
    axum.wait()?;
    report(&floor, &ours, ready, idle, loaded);
    let ratio = quantile(&ours, 50) / quantile(&floor, 50);
    ensure!(ratio <= MAX_RATIO, "a call costs {ratio:.2} times the bare server's, more than {MAX_RATIO}");
    Ok(())
}

fn start_axum() -> Result<(Child, SocketAddr)> {
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("address");
    let child = Command::new(env::current_exe()?).arg("--axum").arg(&file).stdin(Stdio::null()).spawn()?;
    let address =
        millstream_tests::eventually("axum listens", || fs::read_to_string(&file).ok()?.parse().ok());
    Ok((child, address))
}

/// Latencies in seconds of both servers, measured in turn.
async fn measure(floor: SocketAddr, ours: SocketAddr) -> Result<(Vec<f64>, Vec<f64>)> {
    let features: Vec<f64> = (0..42).map(|index| f64::from(index) * 0.5).collect();
    let body = Bytes::from(json!({"features": features}).to_string());
    let mut connections = [connect(floor).await?, connect(ours).await?];
    let mut times = [Vec::new(), Vec::new()];
    for connection in &mut connections {
        for _ in 0..WARM_UP {
            call(connection, &body).await?;
        }
    }
    for _ in 0..ROUNDS {
        for (connection, times) in connections.iter_mut().zip(&mut times) {
            for _ in 0..REQUESTS_PER_ROUND {
                times.push(call(connection, &body).await?);
            }
        }
    }
    let [mut floor, mut ours] = times;
    floor.sort_by(f64::total_cmp);
    ours.sort_by(f64::total_cmp);
    Ok((floor, ours))
}

async fn connect(address: SocketAddr) -> Result<SendRequest<Full<Bytes>>> {
    let stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    let (sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    tokio::spawn(connection);
    Ok(sender)
}

async fn call(connection: &mut SendRequest<Full<Bytes>>, body: &Bytes) -> Result<f64> {
    let request = hyper::Request::post("/echo")
        .header("host", "localhost")
        .header("content-type", "application/json")
        .body(Full::new(body.clone()))?;
    connection.ready().await?;
    let start = Instant::now();
    let answer = connection.send_request(request).await?;
    let status = answer.status();
    let bytes = answer.into_body().collect().await?.to_bytes();
    let elapsed = start.elapsed().as_secs_f64();
    ensure!(status == 200, "{status}: {}", String::from_utf8_lossy(&bytes));
    Ok(elapsed)
}

fn quantile(sorted: &[f64], percent: usize) -> f64 {
    sorted[(sorted.len() - 1) * percent / 100] * 1e6
}

#[expect(clippy::print_stdout, reason = "a benchmark prints")]
fn report(floor: &[f64], ours: &[f64], ready: Duration, idle: f64, loaded: f64) {
    println!("echo of 42 floats, one connection, {} requests each", floor.len());
    println!("| server | p50 µs | p95 µs | p99 µs |\n| --- | --- | --- | --- |");
    for (name, times) in [("bare axum", floor), ("millstream", ours)] {
        println!(
            "| {name} | {:.1} | {:.1} | {:.1} |",
            quantile(times, 50),
            quantile(times, 95),
            quantile(times, 99)
        );
    }
    println!("p50 ratio: {:.2} (goal: at most 1.5)", quantile(ours, 50) / quantile(floor, 50));
    println!("`cluster up` to ready: {:.0} ms (goal: under 1 s)", ready.as_secs_f64() * 1e3);
    println!("memory (PSS): {idle:.1} MiB idle, {loaded:.1} MiB after the load (goal: under 50)");
    let result = json!({
        "p50_us": {"axum": quantile(floor, 50), "millstream": quantile(ours, 50)},
        "ratio": quantile(ours, 50) / quantile(floor, 50),
        "ready_ms": ready.as_secs_f64() * 1e3, "idle_mib": idle,
    });
    println!("{}", serde_json::to_string::<Value>(&result).unwrap_or_default());
}
